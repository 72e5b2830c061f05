//! Speed of whole training steps: `cargo run --release -p cairn-engine --example step [threads] [fuse|nofuse [NAME [ISA [ROWS]]]]`.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, unreachable_pub, missing_docs)]

#[path = "../tests/suite/cases.rs"]
mod cases;
#[path = "../tests/suite/programs.rs"]
mod programs;

use std::time::Instant;

use cairn_engine::backend::{Executor, Feed, Kind, Options};
use cairn_engine::cpu::{Cpu, available};
use cairn_engine::graph::{NodeId, Program};
use cairn_engine::random::init;
use cairn_protocol::Seed;

use programs::{Gpt, batch, gpt};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let threads = arguments.get(1).map_or(1, |text| text.parse().unwrap());
    let fuse = arguments.get(2).is_none_or(|text| text != "nofuse");
    let only = arguments.get(3);
    let isa = arguments.get(4);
    let micro_batch = arguments.get(5).map(|rows| rows.parse().unwrap());
    let gpt_of = |vocab, batch, context, width, depth| Gpt {
        vocab,
        batch,
        context,
        width,
        heads: 4,
        key_heads: 4,
        depth,
        window: 0,
        steps: 16,
    };
    for (name, sizes) in [
        ("gpt 4 x 128, 32 x 128", gpt_of(256, 32, 128, 128, 4)),
        ("gpt 4 x 256, 32 x 128", gpt_of(256, 32, 128, 256, 4)),
        ("gpt 2 x 64, 16 x 64", gpt_of(256, 16, 64, 64, 2)),
        ("names 1 x 16, 32 x 16", gpt_of(27, 32, 16, 16, 1)),
        ("names 1 x 16, 1 x 16", gpt_of(27, 1, 16, 16, 1)),
    ] {
        if only.is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let program = gpt(&sizes);
        let nodes = program.phases[0].graph.len();
        for level in available().into_iter().rev().filter(|level| isa.is_none_or(|isa| *isa == format!("{level:?}"))) {
            let (best, median, bytes) =
                measure(&program, Options { kind: Kind::Cpu, threads, isa: Some(level), fuse, micro_batch });
            println!(
                "{name:24} {nodes} nodes, {threads} threads, {level:?}: best {:.3} ms, median {:.3} ms, {:.1} MB",
                best * 1e3,
                median * 1e3,
                bytes as f64 / 1e6
            );
        }
    }
}

fn measure(program: &Program, options: Options) -> (f64, f64, usize) {
    let phase = &program.phases[0];
    let wanted: Vec<NodeId> = [&[phase.loss][..], &phase.params_out, &phase.states_out].concat();
    let mut cpu = Cpu::new(&phase.graph, &wanted, &options).unwrap();
    let seed = Seed([5; 32]);
    let mut params: Vec<Vec<f32>> = program.params.iter().map(|param| init(param, &seed)).collect();
    let mut states: Vec<Vec<f32>> =
        program.states.iter().map(|state| vec![0.0; state.shape.elements() as usize]).collect();
    let [inputs, targets] = batch(program.params[0].shape.0[0], phase.batch, phase.context);
    let mut out: Vec<Vec<f32>> = wanted.iter().map(|_| vec![]).collect();
    let (mut times, start) = (vec![], Instant::now());
    for step in 0.. {
        let tables: Vec<f32> = program.tables.iter().map(|table| table[step.min(15)]).collect();
        let feed = Feed {
            inputs: [&inputs, &targets],
            params: &params,
            states: &states,
            tables: &tables,
            seed: &seed,
            step: step as u64,
        };
        let before = Instant::now();
        cpu.run(&feed, &mut out).unwrap();
        times.push(before.elapsed().as_secs_f64());
        for (i, values) in params.iter_mut().chain(&mut states).enumerate() {
            std::mem::swap(values, &mut out[1 + i]);
        }
        if start.elapsed().as_secs_f64() > 1.5 && step > 4 {
            break;
        }
    }
    times.sort_by(f64::total_cmp);
    (times[0], times[times.len() / 2], cpu.bytes())
}
