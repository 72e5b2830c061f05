//! The GPU backend slice by slice, and steps that read what they replace.

use cairn_engine::backend::{Batch, Executor, Options, Tensor};
use cairn_engine::gpu::Gpu;
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
