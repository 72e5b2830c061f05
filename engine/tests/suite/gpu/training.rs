//! Whole trainings on the GPU: the same trace, metric and news as everywhere.

use cairn_engine::backend::{Kind, Options};
use cairn_engine::data::Dataset;
use cairn_engine::gpu::Gpu;
use cairn_engine::graph::Program;
use cairn_engine::reference::Reference;
use cairn_engine::run::{Control, Finished, RunError, Watch, train};
use cairn_protocol::Hash32;

use super::{choices, options};
use crate::cpu_fuzz::{self, start};
use crate::programs::{Gpt, Mlp, gpt, mlp};
use crate::run_training::{Follow, OPTIONS, PHRASE, SEED, VOCAB, bigram, text};

fn run(program: &Program, segments: u16, options: &Options, watch: &mut dyn Watch) -> Result<Finished, RunError> {
    train(program, &text(), &SEED, segments, options, watch)
}

#[test]
fn training_steps_have_the_bits_of_the_reference() {
    let programs = [
        ("gpt", gpt(&Gpt { width: 24, context: 20, ..Gpt::TINY })),
        ("windowed gpt", gpt(&Gpt { window: 5, depth: 2, key_heads: 1, ..Gpt::TINY })),
        ("mlp", mlp(&Mlp { hidden: 70, batch: 9, ..Mlp::TINY })),
    ];
    for (name, program) in &programs {
        let (_, wanted) = start(program);
        let graph = &program.phases[0].graph;
        let want = cpu_fuzz::train(program, &mut Reference::new(graph, &wanted), 3);
        for &choice in choices() {
            let mut gpu = Gpu::new(graph, &wanted, &options(choice), choice).unwrap();
            assert!(cpu_fuzz::train(program, &mut gpu, 3) == want, "{name} on {choice:?}");
        }
    }
}

#[test]
fn a_training_has_one_trace_and_tells_the_same() {
    let sizes = Gpt { vocab: VOCAB, batch: 3, context: 12, steps: 18, ..Gpt::TINY };
    // Two phases of other shapes; hashes inside of segments, and of every step.
    let cases = [(bigram([30, 20], 2.0), 16, None), (bigram([12, 8], 2.0), 4, Some(3)), (gpt(&sizes), 18, Some(1))];
    for (program, segments, inside) in cases {
        let follow = || Follow { inside, ..Follow::default() };
        let mut told = follow();
        let want = run(&program, segments, &OPTIONS, &mut told).unwrap();
        for &choice in choices() {
            let mut watch = follow();
            assert_eq!(run(&program, segments, &options(choice), &mut watch).unwrap(), want, "{choice:?}");
            assert_eq!((&watch.losses, &watch.segments), (&told.losses, &told.segments));
            assert_eq!(watch.lengths, told.lengths);
        }
    }
}

#[test]
fn a_training_in_slices_has_one_trace() {
    let program = gpt(&Gpt { vocab: VOCAB, batch: 4, context: 256, steps: 4, ..Gpt::TINY });
    let data = Dataset::load("bytes", &PHRASE.repeat(100)).unwrap();
    let run = |options: &Options| train(&program, &data, &SEED, 4, options, &mut Follow::default()).unwrap();
    let want = run(&Options { kind: Kind::Cpu, fuse: true, ..OPTIONS });
    for &choice in choices() {
        for micro_batch in [None, Some(1), Some(2)] {
            assert_eq!(run(&Options { micro_batch, ..options(choice) }), want, "{micro_batch:?}");
        }
        let phase = &program.phases[0];
        let sliced = Options { micro_batch: Some(1), ..options(choice) };
        assert_eq!(Gpu::new(&phase.graph, &phase.wanted(), &sliced, choice).unwrap().slices(), 4);
    }
}

#[test]
fn a_diverging_run_names_step_and_tensor() {
    let mut late = bigram([10, 10], 1.0);
    late.tables[0][6] = 2.0f32.powi(40);
    for &choice in choices() {
        let mut watch = Follow::default();
        let diverged = run(&late, 16, &options(choice), &mut watch);
        assert_eq!(diverged, Err(RunError::Diverged { step: 7, tensor: "bigram".into() }));
        assert_eq!(watch.losses.len(), 6, "a diverged step is not reported as done");
    }
}

#[test]
fn whoever_watches_can_stop_a_run() {
    let program = bigram([10, 10], 1.0);
    for &choice in choices() {
        let mut watch = Follow { stop_after_step: Some(5), ..Follow::default() };
        assert_eq!(run(&program, 16, &options(choice), &mut watch), Err(RunError::Stopped));
        assert_eq!((watch.losses.len(), watch.segments.len()), (5, 3));
        let mut watch = Follow { stop_after_segment: Some(1), ..Follow::default() };
        assert_eq!(run(&program, 16, &options(choice), &mut watch), Err(RunError::Stopped));
        assert_eq!((watch.losses.len(), watch.segments.len()), (2, 2));
    }
}

/// Asks for every other segment to be computed twice.
#[derive(Default)]
struct Checks(Vec<u16>);

impl Watch for Checks {
    fn step(&mut self, _: u64, _: u64, _: f32) -> Control {
        Control::Continue
    }
    fn segment(&mut self, _: u16, _: Hash32, _: Option<Hash32>) -> Control {
        Control::Continue
    }
    fn check(&mut self, segment: u16) -> bool {
        segment.is_multiple_of(2)
    }
    fn checked(&mut self, segment: u16) {
        self.0.push(segment);
    }
}

#[test]
fn segments_are_computed_again_on_the_cpu() {
    // The border of the phases is inside a segment.
    let program = bigram([13, 7], 2.0);
    for &choice in choices() {
        let mut watch = Checks::default();
        run(&program, 4, &options(choice), &mut watch).unwrap();
        assert_eq!(watch.0, [0, 2]);
    }
}
