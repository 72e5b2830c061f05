//! Contractions as kernels: which tile, how many dispatches, and the sum of what they leave.
//!
//! A product has batches of `rows` by `columns` results, each a sum over k. Its sum is taken in chunks of 256: a kernel
//! ([`super::tile`]) does all chunks of a tile one after another or, where that would leave most of a device idle, one
//! chunk for each workgroup, and a second kernel adds the chunks' sums. Of very many chunks, successive kernels do some each.
//!
//! *Invariant:* a result is the chunks' sums added in order to a total from +0, whoever computed them.

use crate::reference::reduce::CHUNK;

use super::super::kernel::{Kernel, View, Word};
use super::super::plan::Building;
use super::LANES;
use super::operand::Operand;
use super::tile::{Part, Tile};

/// Most elements of all chunks' sums of a product: 64 MiB.
const SUMS_MAX: usize = 1 << 24;
/// Most chunks whose sums a second kernel adds, eight in a turn of its loop.
const SUMMED_MAX: usize = 1 << 18;

/// Where a product's results stand: that of a row and column at `row * step`, and behind it the column's place.
#[derive(Clone, Debug)]
pub(super) struct Output {
    /// All of them.
    pub(super) view: View,
    /// From a row to the next.
    pub(super) step: usize,
    /// From a batch's first to the next one's.
    pub(super) batch: usize,
    /// If columns are pixels of images: pixels of an image, and elements from an image to the next.
    pub(super) images: Option<[usize; 2]>,
}

/// A contraction of `rows` lines of `a` with `columns` lines of `b`, for each of the batches.
#[derive(Clone, Debug)]
pub(super) struct Product {
    /// Its name, for people.
    pub(super) label: &'static str,
    /// Independent products.
    pub(super) batches: usize,
    /// Length of the sums.
    pub(super) k: usize,
    /// Lines are rows of the result.
    pub(super) a: Operand,
    /// Lines are columns of the result.
    pub(super) b: Operand,
    /// The result.
    pub(super) output: Output,
    /// Whether it goes on with what the last slice of the batch left.
    pub(super) is_sum: bool,
}

impl Product {
    /// Rows of the result.
    pub(super) fn rows(&self) -> usize {
        self.a.lines
    }

    /// Columns of the result.
    pub(super) fn columns(&self) -> usize {
        self.b.lines
    }

    /// Chunks of a sum.
    pub(super) fn chunks(&self) -> usize {
        self.k.div_ceil(CHUNK)
    }

    /// Rough number of operations.
    pub(super) fn work(&self) -> u64 {
        [self.rows(), self.columns(), self.k]
            .iter()
            .fold(2 * self.batches as u64, |all, &n| all.saturating_mul(n as u64))
    }

    /// Words that are 1 where the total starts from +0, and where `canon` ends it.
    fn ends(&self) -> [Word; 2] {
        if self.is_sum { [Word::IsFirst, Word::IsLast] } else { [Word::Plain(1); 2] }
    }

    /// Adds the kernels.
    pub(super) fn lower(&self, building: &mut Building<'_, '_>) {
        let len = self.output.view.len();
        let sums = len.saturating_mul(self.chunks());
        let binds = building.limits.binding / 4;
        let may_split = self.chunks() > 1 && self.chunks() <= SUMMED_MAX && sums <= SUMS_MAX && sums as u64 <= binds;
        let (tile, split) = choose(self, may_split);
        let [begin, finish] = self.ends();
        if split {
            let sums = building.scratch(sums);
            let output = Output { view: sums.clone(), ..self.output.clone() };
            building.push(tile.kernel(self, building.form, &output, Part::Chunk { apart: len }, Word::Plain(0)));
            building.push(add(&sums, &self.output.view, self.chunks(), begin, finish));
        } else if self.chunks() == 1 && !self.is_sum {
            building.push(tile.kernel(self, building.form, &self.output, Part::Chunk { apart: 0 }, finish));
        } else {
            for from in (0..self.chunks()).step_by(tile.chunks_max()) {
                let until = self.chunks().min(from + tile.chunks_max());
                let begin = if from == 0 { begin } else { Word::Plain(0) };
                let finish = if until == self.chunks() { finish } else { Word::Plain(0) };
                let part = Part::Whole { begin, from, until };
                building.push(tile.kernel(self, building.form, &self.output, part, finish));
            }
        }
    }
}

/// Adds the chunks' sums, in order.
fn add(sums: &View, to: &View, chunks: usize, begin: Word, finish: Word) -> Kernel {
    let mut kernel = Kernel::new("sums of chunks", [LANES, 1, 1]);
    kernel.each(to.len());
    kernel.work = sums.len() as u64;
    let (sums, target) = (kernel.read(sums), kernel.write(to));
    let (len, chunks) = (kernel.arg(to.len()), kernel.arg(chunks));
    let (begin, finish) = (kernel.word(begin), kernel.word(finish));
    let (here, next) = (target.at("i"), |offset: u32| sums.at(format!("(c + {offset}u) * {len} + i")));
    // Eight loads under way at a time: there may be few invocations, and many chunks.
    let loads: String = (0..8).map(|j| format!("let x{j} = {};\n", next(j))).collect();
    let adds: String = (0..8).map(|j| format!("total = plus(total, x{j});\n")).collect();
    kernel.code(&format!(
        "var total = 0.0;\nif ({begin} == 0u) {{ total = {here}; }}\nvar c = 0u;\n\
         for (; c + 8u <= {chunks}; c += 8u) {{\n{loads}{adds}}}\n\
         for (; c < {chunks}; c += 1u) {{ total = plus(total, {}); }}\n\
         if ({finish} == 1u) {{ total = canon(total); }}\n{here} = total;",
        next(0)
    ));
    kernel
}

/// The cheapest tile, and whether to do each chunk by itself, by a rough model of a large device.
fn choose(product: &Product, may_split: bool) -> (Tile, bool) {
    #[cfg(test)]
    if let Some((tile, split)) = tests::FORCED.get() {
        return (tile, split && may_split);
    }
    let mut best = (Tile::ALL[0], false);
    let mut least = f64::INFINITY;
    for tile in Tile::ALL {
        for split in [false, true] {
            let price = if split && !may_split { f64::INFINITY } else { price(product, tile, split) };
            if price < least {
                (best, least) = ((tile, split), price);
            }
        }
    }
    best
}

/// Clocks that a product takes on a device of 128 processors, each of 128 multiplications and additions a clock.
fn price(product: &Product, tile: Tile, split: bool) -> f64 {
    const PROCESSORS: u64 = 128;
    /// Clocks from one dispatch to the next, and of a turn of the second kernel's loop.
    const DISPATCH: f64 = 5_000.0;
    const TURN: f64 = 100.0;
    /// Bytes to and from memory in a clock.
    const BANDWIDTH: f64 = 1_200.0;
    let chunks = product.chunks();
    let parts = if split { chunks } else { 1 };
    let steps = if split { CHUNK } else { product.k } as f64;
    let groups = tile.groups(product) * parts as u64;
    // Alone on its processor, an invocation waits for itself; else, the processor does one after another.
    let alone = 1.3 * f64::from(tile.own());
    let shared = f64::from(tile.own() * tile.lanes().max(32)) / 128.0 / tile.efficiency();
    let product_clocks = steps * alone.max(shared * groups.div_ceil(PROCESSORS) as f64);
    if !split {
        return product_clocks;
    }
    let sums = (product.output.view.len() * chunks) as f64;
    product_clocks + DISPATCH + TURN * chunks as f64 + 8.0 * sums / BANDWIDTH
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use crate::backend::{Executor, Feed, Kind, Options, Tensor};
    use crate::gpu::{Choice, Form, Gpu, adapters};
    use crate::graph::{Conv2d, Graph, NodeId, Shape};
    use crate::number::canon;
    use crate::reference::Reference;
    use cairn_protocol::Seed;

    use super::Tile;

    thread_local! {
        /// A tile, and whether to split, for this thread's products.
        pub(super) static FORCED: Cell<Option<(Tile, bool)>> = const { Cell::new(None) };
    }

    /// Operands of a batch of m by k and k by n in this orientation, and their product.
    fn product(g: &mut Graph, i: u32, [batch, m, n, k]: [u32; 4], (ta, tb): (bool, bool)) -> NodeId {
        let stored = |rows, columns, swapped| {
            Shape(if swapped { vec![batch, columns, rows] } else { vec![batch, rows, columns] })
        };
        let (a, b) = (g.param(2 * i, stored(m, k, ta)).unwrap(), g.param(2 * i + 1, stored(k, n, tb)).unwrap());
        g.contraction((a, ta), (b, tb)).unwrap()
    }

    fn bits(executor: &mut dyn Executor, params: &[Vec<f32>], count: usize) -> Vec<Vec<u32>> {
        let nothing = Tensor::I32(vec![]);
        let inputs = [&nothing, &nothing];
        let feed = Feed { inputs, params, states: &[], tables: &[], seed: &Seed([7; 32]), step: 0 };
        let mut out = vec![vec![]; count];
        executor.run(&feed, &mut out).unwrap();
        out.iter().map(|x| x.iter().map(|x| x.to_bits()).collect()).collect()
    }

    /// Asserts the bits of `wanted` of every other tile, from `of` on.
    fn check(g: &Graph, wanted: &[NodeId], params: &[Vec<f32>], split: bool, of: usize) {
        let want = bits(&mut Reference::new(g, wanted), params, wanted.len());
        for (i, tile) in Tile::ALL.into_iter().enumerate().skip(of % 2).step_by(2) {
            let form = [Form::Plain, Form::Fma, Form::Barrier][(of + i) / 2 % 3];
            for adapter in 0..adapters().len() as u8 {
                let choice = Choice { adapter, form };
                let options = Options { kind: Kind::Gpu(choice), threads: 1, isa: None, fuse: true, micro_batch: None };
                FORCED.set(Some((tile, split)));
                let gpu = Gpu::new(g, wanted, &options, choice);
                FORCED.set(None);
                let got = bits(&mut gpu.unwrap(), params, wanted.len());
                for (&id, (got, want)) in wanted.iter().zip(got.iter().zip(&want)) {
                    let node = &g.nodes()[id as usize];
                    assert!(got == want, "{:?} {}, {tile:?}, split {split}, {choice:?}", node.op, node.shape);
                }
            }
        }
    }

    /// Whatever the model says, each tile must be right: of one chunk and of some, split or not, ragged and in fours.
    #[test]
    fn every_tile_gives_the_bits_of_the_reference() {
        let cases = [([2, 133, 70, 19], false), ([1, 20, 136, 516], false), ([2, 37, 130, 515], true)];
        let orientations = [[(false, false), (true, true)], [(false, true), (true, false)]];
        for (at, (shape, split)) in cases.into_iter().enumerate() {
            let [batch, m, n, k] = shape.map(|n| n as usize);
            let lengths = [batch * m * k, batch * k * n].repeat(2);
            let params: Vec<Vec<f32>> = lengths.into_iter().zip(0..).map(|(len, of)| numbers(len, of)).collect();
            for (of, orientations) in orientations.into_iter().enumerate() {
                let mut g = Graph::default();
                let wanted: Vec<NodeId> = (0..).zip(orientations).map(|(i, o)| product(&mut g, i, shape, o)).collect();
                check(&g, &wanted, &params, split, at + of);
            }
        }
    }

    /// Images that are no multiple of anything, and such whose runs are whole fours; sums of more than a chunk.
    #[test]
    fn every_tile_gives_the_bits_of_convolutions() {
        let lopsided = Conv2d { stride: [2, 1], padding: [1, 0], dilation: [1, 2], groups: 2 };
        let plain = Conv2d { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 };
        let cases = [(lopsided, [11, 62, 9, 10], [66, 31, 3, 3]), (plain, [17, 3, 5, 5], [66, 3, 2, 2])];
        for (options, x_shape, w_shape) in cases {
            let mut g = Graph::default();
            let param = |g: &mut Graph, i, shape: &[u32]| g.param(i, Shape(shape.to_vec())).unwrap();
            let (x, w) = (param(&mut g, 0, &x_shape), param(&mut g, 1, &w_shape));
            let y = g.conv2d(x, w, options).unwrap();
            let y_shape = g.shape(y).unwrap().0.clone();
            let dy = param(&mut g, 2, &y_shape);
            let dx = g.conv2d_input_grad(w, dy, options, [x_shape[2], x_shape[3]]).unwrap();
            let dw = g.conv2d_weight_grad(x, dy, options, [w_shape[2], w_shape[3]]).unwrap();
            let len = |shape: &[u32]| shape.iter().product::<u32>() as usize;
            let lengths = [len(&x_shape), len(&w_shape), len(&y_shape)];
            let params: Vec<Vec<f32>> = lengths.into_iter().zip(0..).map(|(len, of)| numbers(len, of)).collect();
            for of in 0..2 {
                check(&g, &[y, dx, dw], &params, of == usize::from(options.groups == 2), of);
            }
        }
    }

    /// Sums that no device may do in one loop.
    #[test]
    fn very_long_sums_go_on_from_kernel_to_kernel() {
        for tile in Tile::ALL.into_iter().filter(|tile| tile.chunks_max() < 2_000) {
            let k = 256 * tile.chunks_max() as u32 + 261;
            let mut g = Graph::default();
            let wanted = [product(&mut g, 0, [1, 3, 5, k], (false, true))];
            let params = [numbers(3 * k as usize, 0), numbers(5 * k as usize, 1)];
            let want = bits(&mut Reference::new(&g, &wanted), &params, 1);
            for adapter in 0..adapters().len() as u8 {
                let choice = Choice { adapter, form: Form::Plain };
                let options = Options { kind: Kind::Gpu(choice), threads: 1, isa: None, fuse: true, micro_batch: None };
                FORCED.set(Some((tile, false)));
                let gpu = Gpu::new(&g, &wanted, &options, choice);
                FORCED.set(None);
                let mut gpu = gpu.unwrap();
                assert_eq!(gpu.dispatches(), 2);
                assert!(bits(&mut gpu, &params, 1) == want, "{tile:?}");
            }
        }
    }

    /// Canonical numbers of both signs and many magnitudes.
    fn numbers(len: usize, of: u32) -> Vec<f32> {
        let word = |i: usize| (8 * i as u32 + of).wrapping_mul(0x9e37_79b9) >> 3;
        (0..len).map(|i| canon(f32::from_bits(((word(i) & 1) << 31) | ((word(i) >> 1) + 0x3600_0000)))).collect()
    }
}
