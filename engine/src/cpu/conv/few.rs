//! The gradient of a kernel whose groups have few outputs: sixteen outputs side by side, each with the channel that it
//! sees, so that the lanes of a register are sums of their own.

use crate::number::canon;
use crate::reference::conv::Sizes;

use super::super::gemm::{CHUNK, Run, transpose4};
use super::super::isa::Kernel;
use super::super::lanes::LANES;
use super::super::memory::{Place, Shared};
use super::super::step::{Context, Pieces, Sharing};
use super::super::wide::Wide;
use super::slab::{Axis, Chunks, Fill, Slab, Source, round};
use super::{Lanes, Room, run_on, shifts};

/// Most outputs of a group for which this is faster than a product.
pub(super) const OUTPUTS: usize = 4;
/// Kernel elements whose sums stay in registers.
const TAPS: usize = 5;

/// A gradient of a kernel.
#[derive(Debug)]
pub(in super::super) struct Few {
    sizes: Sizes,
    x: Place,
    dy: Place,
    to: Place,
    /// Of one channel.
    slab: Slab,
    offsets: Vec<usize>,
    chunks: Chunks,
}

impl Few {
    pub(super) fn new(sizes: &Sizes, x: Place, dy: Place, to: Place) -> Self {
        let Sizes { options, images, kernel, output, .. } = *sizes;
        let chunks = Chunks::new(images, output);
        let axis = |axis: usize| {
            let [stride, padding, dilation] =
                [options.stride, options.padding, options.dilation].map(|pair| pair[axis] as usize);
            Axis::new(chunks.seen[axis], stride, &shifts(kernel[axis], dilation, |at| Some(at - padding as i64)))
        };
        let slab = Slab { rows: axis(0), columns: axis(1), channels: 1 };
        let offsets = (0..kernel[0] * kernel[1]).map(|tap| slab.offset(tap / kernel[1], tap % kernel[1])).collect();
        Self { sizes: *sizes, x, dy, to, slab, offsets, chunks }
    }

    /// How blocks of outputs are shared out.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        let Sizes { images, outputs, output, .. } = self.sizes;
        let terms = self.sizes.of_group()[0] * (self.offsets.len() + 4);
        Pieces::new(outputs.div_ceil(LANES), 1, images * output[0] * output[1] * terms, sharing)
    }

    /// Elements of one lane's slab.
    fn plane(&self) -> usize {
        (self.chunks.parts * self.slab.plane()).next_multiple_of(4)
    }

    /// The scratch that a worker needs: what one lane after another sees, transposed, and the gradient of the outputs;
    /// then the sums.
    pub(super) fn room(&self) -> Room {
        let terms = self.sizes.of_group()[0] * self.offsets.len();
        Room {
            product: LANES * self.plane().max(CHUNK) + self.slab.len(0),
            slab: LANES * self.plane(),
            left: LANES * CHUNK,
            rest: LANES * terms,
        }
    }

    /// A block of outputs.
    ///
    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn unit(&self, context: &Context<'_>, scratch: Shared, unit: usize) {
        let Sizes { images, outputs, output, channels, input, .. } = self.sizes;
        let [of_group, outputs_of_group] = self.sizes.of_group();
        let (first, pixels) = (unit * LANES, images * output[0] * output[1]);
        let count = LANES.min(outputs - first);
        let taps = self.offsets.len();
        // SAFETY: owed by the caller; `room` has told the scratch.
        unsafe {
            let [seen, gradient, sums] = self.room().divide(scratch);
            sums.write(0, of_group * taps * LANES).fill(0.0);
            let source = Source { start: context.at(self.x), channels, rows: input[0], columns: input[1] };
            for p in (0..pixels).step_by(CHUNK) {
                let depth = CHUNK.min(pixels - p);
                self.gradient(context, first..first + count, p..p + depth, scratch);
                context.level.run(Transpose { from: scratch, len: depth, row: CHUNK, to: gradient });
                let mut runs = [Run::default(); CHUNK];
                let (window, runs_count) = self.chunks.window(&self.slab, p..p + depth, &mut runs);
                for channel in 0..of_group {
                    for lane in 0..count {
                        let channel = (first + lane) / outputs_of_group * of_group + channel;
                        let to = Shared::new(scratch.at(lane * self.plane()));
                        let channels = channel..channel + 1;
                        run_on(context.level, Fill { slab: &self.slab, source, window, channels, to });
                    }
                    let len = window.parts * self.slab.plane();
                    context.level.run(Transpose { from: scratch, len, row: self.plane(), to: seen });
                    let sums = Shared::new(sums.at(channel * taps * LANES));
                    let runs = &runs[..runs_count];
                    run_on(context.level, Sums { seen, gradient, offsets: &self.offsets, runs, sums });
                }
            }
            let to = context.at(self.to).write(first * of_group * taps, count * of_group * taps);
            for (i, to) in to.iter_mut().enumerate() {
                let (lane, term) = (i / (of_group * taps), i % (of_group * taps));
                *to = canon(*sums.at(term * LANES + lane));
            }
        }
    }

    /// The gradient of each lane's output at the pixels of a chunk, rounded.
    unsafe fn gradient(
        &self,
        context: &Context<'_>,
        outputs: std::ops::Range<usize>,
        pixels: std::ops::Range<usize>,
        to: Shared,
    ) {
        let Sizes { outputs: all, output, .. } = self.sizes;
        let of_image = output[0] * output[1];
        for (lane, output) in outputs.enumerate() {
            let mut at = pixels.start;
            while at < pixels.end {
                let len = (of_image - at % of_image).min(pixels.end - at);
                // SAFETY: owed by the caller.
                unsafe {
                    let from = context.at(self.dy).read((at / of_image * all + output) * of_image + at % of_image, len);
                    let to = to.write(lane * CHUNK + at - pixels.start, len);
                    run_on(context.level, Round { from, to });
                }
                at += len;
            }
        }
    }
}

struct Round<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
}

impl Lanes for Round<'_> {
    #[inline(always)]
    fn run<W: Wide>(self) {
        round::<W>(self.to, self.from);
    }
}

/// Transposes [`LANES`] lines, `row` apart, of which the first `len` elements count.
struct Transpose {
    from: Shared,
    len: usize,
    row: usize,
    to: Shared,
}

impl Kernel for Transpose {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for at in (0..self.len).step_by(4) {
            for lane in (0..LANES).step_by(4) {
                // SAFETY: rows are a multiple of four long, and there is as much room for the result. Lanes that are no
                // output's hold old numbers, whose sums nobody reads.
                unsafe {
                    let four = [0, 1, 2, 3].map(|i| self.from.at((lane + i) * self.row + at).cast_const());
                    transpose4(four, self.to.at(at * LANES + lane), LANES);
                }
            }
        }
    }
}

/// Adds a chunk of pixels to the sums of one channel.
struct Sums<'a> {
    seen: Shared,
    gradient: Shared,
    offsets: &'a [usize],
    runs: &'a [Run],
    sums: Shared,
}

impl Lanes for Sums<'_> {
    #[inline(always)]
    fn run<W: Wide>(self) {
        for first in (0..self.offsets.len()).step_by(TAPS) {
            match self.offsets.len() - first {
                1 => self.taps::<W, 1>(first),
                2 => self.taps::<W, 2>(first),
                3 => self.taps::<W, 3>(first),
                4 => self.taps::<W, 4>(first),
                _ => self.taps::<W, TAPS>(first),
            }
        }
    }
}

impl Sums<'_> {
    #[inline(always)]
    fn taps<W: Wide, const N: usize>(&self, first: usize) {
        let mut sums = [W::splat(0.0); N];
        let mut pixel = 0;
        for run in self.runs {
            for place in run.from..run.from + run.len {
                // SAFETY: pixels and what they meet have their room.
                unsafe {
                    let gradient = W::load(self.gradient.at(pixel * LANES));
                    for (i, sum) in sums.iter_mut().enumerate() {
                        let seen = W::load(self.seen.at((self.offsets[first + i] + place) * LANES));
                        *sum = sum.add_product(seen, gradient);
                    }
                }
                pixel += 1;
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe {
                let total = self.sums.at((first + i) * LANES);
                W::load(total).add(sum).store(total);
            }
        }
    }
}
