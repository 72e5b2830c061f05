//! The cpu backend slice by slice: the same bits for every micro-batch, and less memory.

use cairn_engine::backend::Options;
use cairn_engine::cpu::{Cpu, available};
use cairn_engine::graph::Program;
use cairn_engine::reference::Reference;

use crate::cpu_exact::options;
use crate::cpu_fuzz::{start, train};
use crate::programs::{Gpt, Mlp, gpt, mlp};

/// Rows of a slice that tests try; none is the planner's choice.
const MICRO_BATCHES: [Option<u32>; 5] = [None, Some(1), Some(2), Some(4), Some(u32::MAX)];

/// Every instruction set, number of threads, fusion or not, and micro-batch, each value of each with each of the others'
/// somewhere.
fn slicings() -> impl Iterator<Item = Options> {
    MICRO_BATCHES.into_iter().enumerate().flat_map(|(i, micro_batch)| {
        let all: Vec<Options> = options().collect();
        let last = all.len() - 1;
        [i % all.len(), last - i % 4].map(|at| Options { micro_batch, ..all[at] })
    })
}

/// Programs with a batch of 4 whose rows are chunks, so that it can be cut.
fn programs() -> [(&'static str, Program); 3] {
    let sizes = Gpt { batch: 4, context: 256, width: 8, heads: 2, key_heads: 1, ..Gpt::TINY };
    [
        ("gpt", gpt(&sizes)),
        ("windowed gpt of two blocks", gpt(&Gpt { window: 9, depth: 2, key_heads: 2, ..sizes })),
        ("mlp", mlp(&Mlp { batch: 4, context: 256, ..Mlp::TINY })),
    ]
}

#[test]
fn training_steps_have_the_same_bits_in_slices() {
    for (name, program) in &programs() {
        let (_, wanted) = start(program);
        let graph = &program.phases[0].graph;
        let want = train(program, &mut Reference::new(graph, &wanted), 2);
        for options in slicings() {
            let mut cpu = Cpu::sharing(graph, &wanted, &options, 1000).unwrap();
            assert!(train(program, &mut cpu, 2) == want, "{name} under {options:?}");
        }
    }
}

#[test]
fn a_smaller_micro_batch_takes_less_memory() {
    for (name, program) in &programs() {
        let (_, wanted) = start(program);
        let isa = available().last().copied();
        let bytes = [Some(1), Some(2), Some(4)].map(|micro_batch| {
            let options = Options { isa, micro_batch, ..options().next().unwrap() };
            Cpu::new(&program.phases[0].graph, &wanted, &options).unwrap().bytes()
        });
        assert!(bytes[0] * 10 < bytes[1] * 9 && bytes[1] * 10 < bytes[2] * 9, "{name}: {bytes:?}");
    }
}
