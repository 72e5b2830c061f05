//! The gradient of a convolution's kernel: dw[o, c, tap] = Σ over all output pixels of dy[o, pixel] · x[c, where tap
//! meets pixel].
//!
//! It is computed transposed: the rows of the product are the kernel's elements, whose unfolded lines are contiguous,
//! its columns the outputs.

use std::ops::Range;

use crate::reference::conv::Sizes;

use super::super::gemm::{self, CHUNK, Matrix, OVERREAD, Product, Right, Run};
use super::super::isa::{Kernel, Level};
use super::super::memory::{Place, Shared};
use super::super::step::{Context, Pieces, Sharing};
use super::slab::{Axis, Chunks, Fill, Slab, Source};
use super::{FLOPS, Room, run_on, shifts};

/// Most rows of a product: more would not stay in the second-level cache.
const ROWS: usize = 256;

/// A gradient of a kernel.
#[derive(Debug)]
pub(in super::super) struct Weight {
    sizes: Sizes,
    x: Place,
    dy: Place,
    to: Place,
    slab: Slab,
    /// Offset of each tap in a channel of the slab.
    offsets: Vec<usize>,
    chunks: Chunks,
    /// Outputs of a product; its channels are those of the slab.
    outputs: usize,
}

impl Weight {
    pub(super) fn new(sizes: &Sizes, x: Place, dy: Place, to: Place, sharing: Sharing, level: Level) -> Self {
        let Sizes { options, images, kernel, output, .. } = *sizes;
        let [channels, outputs] = sizes.of_group();
        let (groups, taps) = (options.groups as usize, kernel[0] * kernel[1]);
        let work = groups * images * output[0] * output[1] * channels * outputs * taps / FLOPS;
        let pieces = sharing.pieces(work).div_ceil(groups);
        let block = channels.div_ceil(pieces).min((ROWS / taps).max(1));
        let columns = outputs.div_ceil(pieces.div_ceil(channels.div_ceil(block)));
        let columns = columns.next_multiple_of(gemm::tile(level).1).min(outputs);
        let chunks = Chunks::new(images, output);
        let axis = |axis: usize| {
            let [stride, padding, dilation] =
                [options.stride, options.padding, options.dilation].map(|pair| pair[axis] as usize);
            Axis::new(chunks.seen[axis], stride, &shifts(kernel[axis], dilation, |at| Some(at - padding as i64)))
        };
        let slab = Slab { rows: axis(0), columns: axis(1), channels: block };
        Self {
            sizes: *sizes,
            x,
            dy,
            to,
            offsets: (0..taps).map(|tap| slab.offset(tap / kernel[1], tap % kernel[1])).collect(),
            slab,
            chunks,
            outputs: columns,
        }
    }

    /// Blocks of channels and of outputs in a group.
    fn blocks(&self) -> [usize; 2] {
        let [channels, outputs] = self.sizes.of_group();
        [channels.div_ceil(self.slab.channels), outputs.div_ceil(self.outputs)]
    }

    fn taps(&self) -> usize {
        self.offsets.len()
    }

    /// How blocks of results are shared out.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        let Sizes { options, images, output, .. } = self.sizes;
        let [across, down] = self.blocks();
        let results = self.slab.channels * self.taps() * self.outputs;
        let cost = images * output[0] * output[1] * results / FLOPS;
        Pieces::new(options.groups as usize * across * down, 1, cost, sharing)
    }

    /// The scratch that a worker needs.
    pub(super) fn room(&self) -> Room {
        let rows = self.slab.channels * self.taps();
        Room {
            product: gemm::scratch(self.outputs, CHUNK),
            slab: self.slab.len(self.chunks.parts),
            left: rows * CHUNK + OVERREAD,
            rest: self.outputs * CHUNK + rows * self.outputs,
        }
    }

    /// One block of the result.
    ///
    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn unit(&self, context: &Context<'_>, scratch: Shared, unit: usize) {
        let Sizes { images, output, .. } = self.sizes;
        let [channels, outputs] = self.sizes.of_group();
        let [across, down] = self.blocks();
        let (group, channel, result) = (unit / across / down, unit / down % across, unit % down);
        let (channel, result) = (channel * self.slab.channels, result * self.outputs);
        let channels = channel..(channel + self.slab.channels).min(channels);
        let results = result..(result + self.outputs).min(outputs);
        let here = Here { weight: self, group, channels, results, context };
        let pixels = images * output[0] * output[1];
        // SAFETY: owed by the caller; `room` has told the scratch.
        unsafe {
            let [slab, left, rest] = self.room().divide(scratch);
            let c = Shared::new(rest.at(self.outputs * CHUNK));
            let (m, n) = (here.channels.len() * self.taps(), here.results.len());
            for p in (0..pixels).step_by(CHUNK) {
                let depth = CHUNK.min(pixels - p);
                here.unfold(p..p + depth, slab, left);
                Product {
                    m,
                    n,
                    k: depth,
                    a: Matrix { start: left, row: CHUNK, column: 1 },
                    b: Right::Matrix(here.gradient(p..p + depth, rest)),
                    c,
                    c_row: n,
                    continues: p > 0,
                    ends: p + depth == pixels,
                }
                .compute(context.level, scratch);
            }
            here.give(c);
        }
    }
}

/// A block of results being computed.
struct Here<'a> {
    weight: &'a Weight,
    group: usize,
    /// Channels and outputs within the group.
    channels: Range<usize>,
    results: Range<usize>,
    context: &'a Context<'a>,
}

impl Here<'_> {
    /// For each channel and tap, what the pixels meet.
    unsafe fn unfold(&self, pixels: Range<usize>, slab: Shared, to: Shared) {
        let Self { weight, group, channels, context, .. } = self;
        let Sizes { channels: all, input, .. } = weight.sizes;
        let mut runs = [Run::default(); CHUNK];
        let (window, count) = weight.chunks.window(&weight.slab, pixels, &mut runs);
        let first = group * weight.sizes.of_group()[0];
        run_on(
            context.level,
            Fill {
                slab: &weight.slab,
                source: Source { start: context.at(weight.x), channels: all, rows: input[0], columns: input[1] },
                window,
                channels: first + channels.start..first + channels.end,
                to: slab,
            },
        );
        context.level.run(Lines { here: self, slab, runs: &runs[..count], to });
    }

    /// The gradient of the outputs, pixels down: in place, or put together when more than one image has them.
    unsafe fn gradient(&self, pixels: Range<usize>, to: Shared) -> Matrix {
        let Self { weight, group, results, context, .. } = self;
        let Sizes { outputs: all, output, .. } = weight.sizes;
        let of_image = output[0] * output[1];
        let first = group * weight.sizes.of_group()[1] + results.start;
        // SAFETY: owed by the caller.
        let line = |image: usize, output: usize, at: usize| unsafe {
            context.at(weight.dy).at((image * all + first + output) * of_image + at)
        };
        let (image, within) = (pixels.start / of_image, pixels.start % of_image);
        if within + pixels.len() <= of_image {
            return Matrix { start: Shared::new(line(image, 0, within)), row: 1, column: of_image };
        }
        for output in 0..results.len() {
            let mut at = pixels.start;
            while at < pixels.end {
                let len = (of_image - at % of_image).min(pixels.end - at);
                // SAFETY: owed by the caller; there is room for a chunk of each output.
                unsafe {
                    let from = Shared::new(line(at / of_image, output, at % of_image));
                    to.write(output * CHUNK + at - pixels.start, len).copy_from_slice(from.read(0, len));
                }
                at += len;
            }
        }
        Matrix { start: to, row: 1, column: CHUNK }
    }

    /// Moves the results, which are transposed, to their place.
    unsafe fn give(&self, from: Shared) {
        let Self { weight, group, channels, results, context, .. } = self;
        let [of_group, outputs] = weight.sizes.of_group();
        let (taps, n) = (weight.taps(), results.len());
        for output in 0..n {
            let row = (group * outputs + results.start + output) * of_group * taps + channels.start * taps;
            // SAFETY: owed by the caller.
            unsafe {
                let to = context.at(weight.to).write(row, channels.len() * taps);
                for (i, to) in to.iter_mut().enumerate() {
                    *to = *from.at(i * n + output);
                }
            }
        }
    }
}

/// Copies the lines of the unfolded tensor.
struct Lines<'a> {
    here: &'a Here<'a>,
    slab: Shared,
    runs: &'a [Run],
    to: Shared,
}

/// What is copied at once; too much is written over by the next copy or line.
const COPY: usize = 16;

impl Kernel for Lines<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let weight = self.here.weight;
        const { assert!(COPY <= OVERREAD) };
        for line in 0..self.here.channels.len() * weight.taps() {
            let from = weight.slab.offset_of(line / weight.taps(), weight.offsets[line % weight.taps()]);
            let mut at = line * CHUNK;
            for run in self.runs {
                for i in (0..run.len).step_by(COPY) {
                    // SAFETY: the slab and the room for lines have `OVERREAD` elements more.
                    unsafe {
                        let (from, to) = (self.slab.at(from + run.from + i), self.to.at(at + i));
                        to.copy_from_nonoverlapping(from, COPY);
                    }
                }
                at += run.len;
            }
        }
    }
}
