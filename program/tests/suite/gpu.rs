//! Tracks and examples on the GPU: the bits of the CPU.

use std::path::Path;

use cairn_engine::backend::{Batch, Executor, Kind, Options, prepare};
use cairn_engine::data::STREAM;
use cairn_engine::gpu::{Choice, Form, adapters};
use cairn_engine::random::{Stream, init};
use cairn_program::{Limits, trace};
use cairn_protocol::Seed;

use crate::examples::{EXAMPLES, small};
use crate::roots::Track;

/// Steps that are compared.
const STEPS: u64 = 3;
/// Asks for every program; an ordinary run takes [`FEW`].
const ALL: &str = "CAIRN_TEST_ALL";
/// Names adapters by a part of their names.
const ADAPTER: &str = "CAIRN_TEST_GPU";
/// Programs of an ordinary run: rows and columns, recurrence, convolution.
const FEW: [&str; 3] = ["names", "gru", "cnn"];

fn gpus() -> Vec<Choice> {
    let wanted = std::env::var(ADAPTER).unwrap_or_default();
    let named = (0u8..).zip(adapters()).filter(|(_, adapter)| adapter.name.contains(&wanted));
    let all: Vec<Choice> = named.map(|(adapter, _)| Choice { adapter, form: Form::Barrier }).collect();
    assert!(!all.is_empty(), "no Vulkan device: `cargo xtask test` installs one");
    all
}

fn options(kind: Kind) -> Options {
    Options { kind, threads: 2, isa: None, fuse: true, micro_batch: None }
}

/// Three steps of a program from its own start, with its own batches: everything that comes out is equal.
fn agrees(name: &str, source: &str, track: &str) {
    let (data, context) = small(track);
    let program =
        trace(source, &context, &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error:?}")).program;
    let seed = Seed([3; 32]);
    for (phase, number) in program.phases.iter().zip(0..) {
        let wanted = phase.wanted();
        let run = |kind: Kind| {
            let mut executor: Box<dyn Executor> = prepare(&options(kind), &phase.graph, &wanted).unwrap();
            let mut params: Vec<Vec<f32>> = program.params.iter().map(|param| init(param, &seed)).collect();
            let mut states: Vec<Vec<f32>> =
                program.states.iter().map(|state| vec![0.0; state.shape.elements() as usize]).collect();
            let stream = Stream::new(&seed, STREAM, "");
            let losses: Vec<u32> = (0..STEPS)
                .map(|step| {
                    let [x, y] = data.batch(&stream, step as u32, phase.batch, phase.context).unwrap();
                    let tables: Vec<f32> = program.tables.iter().map(|table| table[step as usize]).collect();
                    let batch = Batch { inputs: [&x, &y], tables: &tables, seed: &seed, step };
                    executor.step(&batch, &mut params, &mut states).unwrap().to_bits()
                })
                .collect();
            let bits = |all: Vec<Vec<f32>>| -> Vec<Vec<u32>> {
                all.into_iter().map(|tensor| tensor.into_iter().map(f32::to_bits).collect()).collect()
            };
            (losses, bits(params), bits(states))
        };
        let want = run(Kind::Cpu);
        for choice in gpus() {
            let got = run(Kind::Gpu(choice));
            assert_eq!(got.0, want.0, "{name}, phase {number}: losses");
            let tensors = program.params.iter().map(|p| &p.name).chain(program.states.iter().map(|s| &s.name));
            let pairs = got.1.iter().chain(&got.2).zip(want.1.iter().chain(&want.2));
            for (tensor, (got, want)) in tensors.zip(pairs) {
                assert!(got == want, "{name}, phase {number}: `{tensor}` differs on {choice:?}");
            }
        }
    }
}

#[test]
fn tracks_and_examples_have_the_bits_of_the_cpu() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tracks");
    let all = std::env::var_os(ALL).is_some();
    let tracks = ["names", "shakespeare-small"].map(|name| (name, name, folder.join(name).join("train.py")));
    let examples = EXAMPLES.map(|(name, track)| (name, track, folder.join("examples").join(format!("{name}.py"))));
    for (name, track, path) in tracks.into_iter().chain(examples) {
        if all || FEW.contains(&name) {
            agrees(name, &std::fs::read_to_string(path).unwrap(), track);
        }
    }
}

#[test]
fn names_has_its_root() {
    let track = Track::open("names");
    for choice in gpus() {
        track.root_is_pinned(&options(Kind::Gpu(choice)));
    }
}
