//! Matrix products against the most that the processor can do.

use cairn_protocol::Seed;

use super::builder::floats;
use super::{Spread, options, seconds_of};
use crate::backend::{BackendError, Executor, Feed, Isa, Kind, Options, Tensor};
use crate::cpu::{Cpu, fma_peak};
use crate::gpu::{Choice, Gpu};
use crate::graph::{Graph, GraphError, NodeId, Shape};

/// `batch` products of [m, k] by [k, n].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Products at once; 0 for one of matrices.
    pub batch: u32,
    /// Rows of the result.
    pub m: u32,
    /// Columns of the result.
    pub n: u32,
    /// Length of the sums.
    pub k: u32,
    /// Whether the left operand is stored transposed.
    pub ta: bool,
    /// Whether the right operand is stored transposed.
    pub tb: bool,
}

/// Share of the peak that a product reaches, and its speed in operations a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Operations a second of the product.
    pub speed: Spread,
    /// Share of the peak that was measured in turns with it.
    pub share: Spread,
}

const fn product(batch: u32, [m, n, k]: [u32; 3], ta: bool, tb: bool) -> Product {
    Product { batch, m, n, k, ta, tb }
}

/// Products of large matrices: forward, by an input, by a weight.
const LARGE: [Product; 7] = [
    product(0, [4096, 512, 128], false, false),
    product(0, [4096, 128, 512], false, false),
    product(0, [4096, 1024, 256], false, false),
    product(0, [4096, 512, 128], false, true),
    product(0, [128, 512, 4096], true, false),
    product(0, [256, 1024, 4096], true, false),
    product(0, [1024, 1024, 1024], false, false),
];

/// The products of attention by 128 heads: scores, values, and their gradients.
const ATTENTION: [Product; 4] = [
    product(128, [128, 128, 32], false, true),
    product(128, [128, 32, 128], false, false),
    product(128, [128, 32, 128], true, false),
    product(128, [128, 128, 64], false, true),
];

/// The products of a tiny model.
const SMALL: [Product; 3] = [
    product(0, [1024, 16, 16], false, false),
    product(0, [1024, 64, 16], false, false),
    product(0, [16, 64, 1024], true, false),
];

impl Product {
    /// Products of large matrices.
    pub fn large() -> &'static [Self] {
        &LARGE
    }

    /// Products of the sizes of attention.
    pub fn attention() -> &'static [Self] {
        &ATTENTION
    }

    /// Products of the sizes of a tiny model.
    pub fn small() -> &'static [Self] {
        &SMALL
    }

    /// Multiplications and additions.
    pub fn operations(&self) -> f64 {
        2.0 * f64::from(self.batch.max(1)) * f64::from(self.m) * f64::from(self.n) * f64::from(self.k)
    }

    fn graph(&self) -> Result<(Graph, NodeId), GraphError> {
        let mut g = Graph::default();
        let shape = |rows: u32, columns: u32, transposed: bool| {
            let matrix = if transposed { [columns, rows] } else { [rows, columns] };
            let batch = (self.batch > 0).then_some(self.batch);
            Shape(batch.into_iter().chain(matrix).collect())
        };
        let a = g.param(0, shape(self.m, self.k, self.ta))?;
        let b = g.param(1, shape(self.k, self.n, self.tb))?;
        let c = g.contraction((a, self.ta), (b, self.tb))?;
        Ok((g, c))
    }
}

/// Measures products on one thread, in turns with the peak: `pairs` pairs of about `seconds` each.
///
/// # Errors
/// The processor lacks the instruction set, or memory is missing.
pub fn shares(product: &Product, isa: Isa, pairs: usize, seconds: f64) -> Result<Share, BackendError> {
    let (graph, c) = product.graph().map_err(|error| BackendError::Feed(error.to_string()))?;
    let mut cpu = Cpu::new(&graph, &[c], &Options { isa: Some(isa), ..options(1) })?;
    let (batch, seed, nothing) = (product.batch.max(1), Seed([0; 32]), Tensor::F32(vec![]));
    let params = [floats(1, batch * product.m * product.k), floats(2, batch * product.k * product.n)];
    let feed = Feed { inputs: [&nothing, &nothing], params: &params, states: &[], tables: &[], seed: &seed, step: 0 };
    let mut out = [vec![]];
    let mut measured = Vec::with_capacity(pairs);
    for _ in 0..pairs {
        let peak = fma_peak(isa, 0.25 * seconds)?;
        let speed = product.operations() / seconds_of(seconds, || cpu.run(&feed, &mut out))?;
        measured.push((speed, speed / peak));
    }
    Ok(Share {
        speed: Spread::of(measured.iter().map(|(speed, _)| *speed)),
        share: Spread::of(measured.iter().map(|(_, share)| *share)),
    })
}

/// Operations a second of a product on a GPU, set off so often that it fills about `seconds`.
///
/// # Errors
/// The device fails.
pub fn gpu_speed(product: &Product, choice: Choice, seconds: f64) -> Result<f64, BackendError> {
    let (graph, c) = product.graph().map_err(|error| BackendError::Feed(error.to_string()))?;
    let mut gpu = Gpu::new(&graph, &[c], &Options { kind: Kind::Gpu(choice), ..options(1) }, choice)?;
    let (batch, seed, nothing) = (product.batch.max(1), Seed([0; 32]), Tensor::F32(vec![]));
    let params = [floats(1, batch * product.m * product.k), floats(2, batch * product.k * product.n)];
    let feed = Feed { inputs: [&nothing, &nothing], params: &params, states: &[], tables: &[], seed: &seed, step: 0 };
    gpu.seconds_of_runs(&feed, 1)?;
    let one = gpu.seconds_of_runs(&feed, 1)?;
    let times = ((seconds / one.max(1e-6)).ceil() as usize).clamp(1, 1000);
    Ok(product.operations() / gpu.seconds_of_runs(&feed, times)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_product_can_be_measured() {
        for product in [&LARGE[3], &LARGE[4], &ATTENTION[0], &ATTENTION[2], &SMALL[2]] {
            let (graph, c) = product.graph().unwrap();
            let batch = (product.batch > 0).then_some(product.batch);
            let shape: Vec<u32> = batch.into_iter().chain([product.m, product.n]).collect();
            assert_eq!(graph.shape(c).unwrap().0, shape, "{product:?}");
            assert_eq!(product.operations(), crate::price::graph(&graph) as f64, "{product:?}");
        }
        let found = shares(&SMALL[2], Isa::Scalar, 1, 0.005).unwrap();
        assert!(found.speed.median > 0.0 && found.share.median > 0.0);
    }
}
