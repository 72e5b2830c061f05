//! The GPU backend slice by slice, and steps that read what they replace.

use cairn_engine::backend::{Batch, Executor, Options, Resident, Tensor};
use cairn_engine::gpu::Gpu;
use cairn_engine::graph::{Binary, Graph, Shape};
use cairn_engine::reference::Reference;
use cairn_protocol::Seed;

use super::{choices, options};
use crate::cpu_exact::{difference, hostile};
use crate::cpu_slices::{model, models, tangled};

#[test]
fn random_models_have_the_bits_of_the_reference_in_slices() {
    let mut cut = 0;
    for seed in 0..models() {
        let (graph, wanted, point) = model(seed);
        let want = point.run(&mut Reference::new(&graph, &wanted), wanted.len()).unwrap();
        for &choice in choices() {
            for micro_batch in [Some(1), Some(2), None] {
                let options = Options { fuse: seed % 4 != 3, micro_batch, ..options(choice) };
                let mut gpu = Gpu::new(&graph, &wanted, &options, choice).unwrap();
                cut += u32::from(gpu.slices() > 1);
                for run in ["first", "second"] {
                    let got = point.run(&mut gpu, wanted.len()).unwrap();
                    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                        let found = difference(got, want);
                        assert!(found.is_none(), "model {seed}, {options:?}, {run} run, output {i}: {found:?}");
                    }
                }
            }
        }
    }
    assert!(cut > 10, "only {cut} runs were cut into slices");
}

#[test]
fn a_step_reads_old_values_only() {
    let (g, wanted) = tangled();
    let tensors = |name: &str, lengths: &[usize]| -> Vec<Vec<f32>> {
        lengths.iter().enumerate().map(|(i, &len)| hostile(&format!("{name} {i}"), len)).collect()
    };
    let run = |executor: &mut dyn Executor| {
        let nothing = Tensor::I32(vec![]);
        let batch = Batch { inputs: [&nothing, &nothing], tables: &[], seed: &Seed([7; 32]), step: 0 };
        let (mut params, mut states) = (tensors("p", &[1200, 1200, 1200, 1200, 1, 30]), tensors("s", &[1200; 2]));
        let losses = [0; 3].map(|_| executor.step(&batch, &mut params, &mut states).unwrap().to_bits());
        let bits = |x: Vec<f32>| x.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
        (losses, params.into_iter().chain(states).map(bits).collect::<Vec<_>>())
    };
    let want = run(&mut Reference::new(&g, &wanted));
    for &choice in choices() {
        for fuse in [true, false] {
            let mut gpu = Gpu::new(&g, &wanted, &Options { fuse, ..options(choice) }, choice).unwrap();
            assert!(run(&mut gpu) == want, "{choice:?}, {fuse}");
        }
    }
}

/// A scalar program: both parameters and the loss become what each of them is.
#[test]
fn one_value_may_be_wanted_more_than_once() {
    let mut g = Graph::default();
    let [a, b] = [0, 1].map(|i| g.param(i, Shape::default()).unwrap());
    let s = g.state(0, Shape::default()).unwrap();
    let sum = g.binary(Binary::Add, a, b).unwrap();
    let other = g.binary(Binary::Mul, sum, s).unwrap();
    for wanted in [[other, sum, sum, sum], [sum, sum, sum, other], [a, b, b, b], [sum, other, a, other]] {
        let run = |executor: &mut dyn Executor| {
            let nothing = Tensor::I32(vec![]);
            let batch = Batch { inputs: [&nothing, &nothing], tables: &[], seed: &Seed([7; 32]), step: 0 };
            let (mut params, mut states) = (vec![vec![1.5], vec![-0.25]], vec![vec![3.0]]);
            let losses = [0; 3].map(|_| executor.step(&batch, &mut params, &mut states).unwrap());
            (losses, params, states)
        };
        let want = run(&mut Reference::new(&g, &wanted));
        for &choice in choices() {
            assert_eq!(run(&mut Gpu::new(&g, &wanted, &options(choice), choice).unwrap()), want, "{wanted:?}");
        }
    }
}

/// Steps that follow a copy of the state are not undone by reading it; a state that is loaded is the one that counts.
#[test]
fn a_state_may_be_read_after_more_steps() {
    let mut g = Graph::default();
    let a = g.param(0, Shape(vec![3])).unwrap();
    let next = g.binary(Binary::Add, a, a).unwrap();
    let loss = g.sum(a, &[0]).unwrap();
    let wanted = [g.reshape(loss, Shape::default()).unwrap(), next];
    let nothing = Tensor::I32(vec![]);
    let batch = Batch { inputs: [&nothing, &nothing], tables: &[], seed: &Seed([7; 32]), step: 0 };
    for &choice in choices() {
        let mut gpu = Gpu::new(&g, &wanted, &options(choice), choice).unwrap();
        let mut params = vec![vec![1.0; 3]];
        gpu.load(&params, &[]).unwrap();
        gpu.start(std::slice::from_ref(&batch)).unwrap();
        gpu.snapshot().unwrap();
        gpu.start(std::slice::from_ref(&batch)).unwrap();
        let losses: Vec<f32> = [0; 2].map(|_| gpu.finish().unwrap()[0].loss).to_vec();
        assert_eq!(losses, [3.0, 6.0]);
        gpu.fetch(&mut params, &mut []).unwrap();
        assert_eq!(params, [[2.0; 3]]);
        // From the copy on, not from where the device is by now.
        assert_eq!(gpu.step(&batch, &mut params, &mut []).unwrap(), 6.0);
        assert_eq!(params, [[4.0; 3]]);
        gpu.load(&[vec![1.0; 3]], &[]).unwrap();
        gpu.start(&[batch, batch, batch]).unwrap();
        gpu.load(&params, &[]).unwrap();
        gpu.start(std::slice::from_ref(&batch)).unwrap();
        assert_eq!(gpu.finish().unwrap().len(), 1, "a state that is loaded ends what was under way");
    }
}
