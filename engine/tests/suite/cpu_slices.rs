//! The cpu backend slice by slice: the same bits for every micro-batch, and less memory.

use cairn_engine::backend::{BackendError, Batch, Executor, Options, Tensor};
use cairn_engine::cpu::{Cpu, available};
use cairn_engine::graph::{Binary, Graph, NodeId, Program, Shape};
use cairn_engine::reference::Reference;
use cairn_protocol::Seed;

use crate::cpu_exact::{hostile, options};
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

/// Some training steps in place: losses, and the state after them.
fn train_in_place(program: &Program, executor: &mut dyn Executor, steps: u64) -> Vec<Vec<u32>> {
    let (mut point, _) = start(program);
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    let mut losses = vec![];
    for step in 0..steps {
        let tables: Vec<f32> = program.tables.iter().map(|table| table[step as usize]).collect();
        let [a, b] = &point.inputs;
        let batch = Batch { inputs: [a, b], tables: &tables, seed: &Seed([7; 32]), step };
        losses.push(executor.step(&batch, &mut point.params, &mut point.states).unwrap());
    }
    [bits(&losses)].into_iter().chain(point.params.iter().chain(&point.states).map(|values| bits(values))).collect()
}

#[test]
fn training_in_place_has_the_same_bits() {
    for (name, program) in &programs() {
        let (_, wanted) = start(program);
        let graph = &program.phases[0].graph;
        let want = train_in_place(program, &mut Reference::new(graph, &wanted), 2);
        for options in slicings() {
            let mut cpu = Cpu::sharing(graph, &wanted, &options, 1000).unwrap();
            assert!(train_in_place(program, &mut cpu, 2) == want, "{name} under {options:?}");
        }
    }
}

/// A step that reads what it replaces in every way: along with it, whole, as a number, afterwards, not at all.
fn tangled() -> (Graph, Vec<NodeId>) {
    let mut g = Graph::default();
    let shape = || Shape(vec![40, 30]);
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| g.param(i, shape()).unwrap());
    let (e, f) = (g.param(4, Shape::default()).unwrap(), g.param(5, Shape(vec![30])).unwrap());
    let [s, t] = [0, 1].map(|i| g.state(i, shape()).unwrap());
    let mut add = |x, y| g.binary(Binary::Add, x, y).unwrap();
    let s_new = add(s, a);
    let a_new = add(a, s_new);
    // Read again after its own result is there.
    let late = add(a, a_new);
    let a_new = add(a_new, late);
    let b_new = add(b, f);
    // The old value is wanted elsewhere, the other way round too.
    let (c_new, d_new) = (add(d, e), add(c, e));
    let e_new = add(e, e);
    let (t_new, again) = (b, add(t, b_new));
    let sum = g.sum(again, &[0]).unwrap();
    let f_new = g.reshape(sum, Shape(vec![30])).unwrap();
    let all = g.sum(late, &[0, 1]).unwrap();
    let loss = g.reshape(all, Shape::default()).unwrap();
    (g, vec![loss, a_new, b_new, c_new, d_new, e_new, f_new, s_new, t_new])
}

#[test]
fn a_step_in_place_reads_old_values_only() {
    let (g, wanted) = tangled();
    let tensors = |name: &str, lengths: &[usize]| -> Vec<Vec<f32>> {
        lengths.iter().enumerate().map(|(i, &len)| hostile(&format!("{name} {i}"), len)).collect()
    };
    let run = |executor: &mut dyn Executor| {
        let nothing = Tensor::I32(vec![]);
        let batch = Batch { inputs: [&nothing, &nothing], tables: &[], seed: &Seed([7; 32]), step: 0 };
        let (mut params, mut states) = (tensors("p", &[1200, 1200, 1200, 1200, 1, 30]), tensors("s", &[1200; 2]));
        let losses = [0, 1].map(|_| executor.step(&batch, &mut params, &mut states).unwrap().to_bits());
        (losses, [params, states].concat())
    };
    let want = run(&mut Reference::new(&g, &wanted));
    for options in slicings() {
        assert!(run(&mut Cpu::sharing(&g, &wanted, &options, 100).unwrap()) == want, "{options:?}");
    }
    // A graph whose results are not its parameters and states is no step.
    let mut cpu = Cpu::new(&g, &wanted[1..], &options().next().unwrap()).unwrap();
    let nothing = Tensor::I32(vec![]);
    let batch = Batch { inputs: [&nothing, &nothing], tables: &[], seed: &Seed([7; 32]), step: 0 };
    let (mut params, mut states) = (tensors("p", &[1200, 1200, 1200, 1200, 1, 30]), tensors("s", &[1200; 2]));
    assert!(matches!(cpu.step(&batch, &mut params, &mut states), Err(BackendError::Feed(_))));
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
