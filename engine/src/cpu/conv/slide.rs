//! Convolutions, and gradients of their inputs, which are convolutions of dy by the kernel turned over, one for each
//! phase of the stride: of the result's pixels that are `stride` apart, all meet the same elements of the kernel.

use crate::reference::conv::Sizes;

use super::super::gemm::{self, CHUNK, Matrix, Packed, Product, Right, Run, STRIP, unfolded};
use super::super::memory::{Place, Shared};
use super::super::step::{Context, Pieces, Sharing};
use super::direct::{self, Direct};
use super::slab::{Axis, Fill, Slab, Source, Window};
use super::{FLOPS, Room, run_on, shifts};

/// Pixels of a block.
const BLOCK: usize = gemm::COLUMNS;
/// Fewer pixels are not worth a block of their own.
const BLOCK_LEAST: usize = 64;
/// Pixels of a block, and groups of a unit, where terms are added one by one: what stays in the first-level cache, and
/// what makes up for starting.
const LINES: usize = 2048;
const GROUPS: usize = 16;

/// result[n, m, pixel] = Σ over (s, tap) of weights[m, s, tap] · source[n, s, where tap meets pixel], for each group.
#[derive(Debug)]
pub(in super::super) struct Slide {
    from: Place,
    /// Channels, rows and columns of the source, and of the result.
    source: [usize; 3],
    result: [usize; 3],
    weights: Place,
    to: Place,
    groups: usize,
    /// Elements of the kernel of one channel.
    taps: usize,
    /// Whether the weights are stored [s, m, tap]; otherwise they are [m, s, tap].
    swapped: bool,
    phases: Vec<Phase>,
    /// Whether the terms are added one by one, for so many groups by one unit of work.
    direct: bool,
    at_once: usize,
}

/// Pixels of the result that meet the source alike.
#[derive(Debug)]
struct Phase {
    slab: Slab,
    /// Offset of each tap in a channel of the slab; none for those that never meet the source.
    offsets: Vec<Option<usize>>,
    /// The phase's first pixel in the result, and from one to the next.
    first: [usize; 2],
    step: [usize; 2],
    /// Images, rows and columns of pixels, and of a block of them.
    pixels: [usize; 3],
    block: [usize; 3],
    /// Whether the unfolded source is the source itself.
    plain: bool,
}

/// A block of pixels.
#[derive(Clone, Copy)]
struct Block {
    first: [usize; 3],
    size: [usize; 3],
}

impl Slide {
    pub(super) fn forward(sizes: &Sizes, x: Place, w: Place, to: Place, sharing: Sharing) -> Self {
        let Sizes { options, images, channels, outputs, input, kernel, output } = *sizes;
        let axis = |axis: usize| {
            let [stride, padding, dilation] =
                [options.stride, options.padding, options.dilation].map(|pair| pair[axis] as usize);
            (stride, shifts(kernel[axis], dilation, |at| Some(at - padding as i64)))
        };
        let mut slide = Self {
            from: x,
            source: [channels, input[0], input[1]],
            result: [outputs, output[0], output[1]],
            weights: w,
            to,
            groups: options.groups as usize,
            taps: kernel[0] * kernel[1],
            swapped: false,
            phases: vec![],
            direct: false,
            at_once: 1,
        };
        slide.choose();
        let pixels = [images, output[0], output[1]];
        slide.phase(pixels, [0, 0], [1, 1], [axis(0), axis(1)], sharing);
        slide
    }

    pub(super) fn input_grad(sizes: &Sizes, w: Place, dy: Place, to: Place, sharing: Sharing) -> Self {
        let Sizes { options, images, channels, outputs, input, kernel, output } = *sizes;
        let stride = options.stride.map(|stride| stride as usize);
        // Input pixel h meets output pixel (h + padding - tap · dilation) / stride, where that is whole.
        let axis = |axis: usize, first: usize| {
            let [stride, padding, dilation] =
                [options.stride, options.padding, options.dilation].map(|pair| i64::from(pair[axis]));
            let shift = |at: i64| {
                let steps = first as i64 + padding - at;
                (steps.rem_euclid(stride) == 0).then(|| steps.div_euclid(stride))
            };
            (1, shifts(kernel[axis], dilation as usize, shift))
        };
        let mut slide = Self {
            from: dy,
            source: [outputs, output[0], output[1]],
            result: [channels, input[0], input[1]],
            weights: w,
            to,
            groups: options.groups as usize,
            taps: kernel[0] * kernel[1],
            swapped: true,
            phases: vec![],
            direct: false,
            at_once: 1,
        };
        slide.choose();
        for row in 0..stride[0].min(input[0]) {
            for column in 0..stride[1].min(input[1]) {
                let pixels = [images, (input[0] - row).div_ceil(stride[0]), (input[1] - column).div_ceil(stride[1])];
                slide.phase(pixels, [row, column], stride, [axis(0, row), axis(1, column)], sharing);
            }
        }
        slide
    }

    /// Chooses between a product and adding term by term.
    fn choose(&mut self) {
        let [channels, results] = self.of_group();
        self.direct = results <= direct::RESULTS && channels * self.taps <= CHUNK;
        if self.direct {
            self.at_once = GROUPS.min(self.groups);
        }
    }

    fn phase(
        &mut self,
        pixels: [usize; 3],
        first: [usize; 2],
        step: [usize; 2],
        [(row_step, rows), (column_step, columns)]: [(usize, Vec<Option<i64>>); 2],
        sharing: Sharing,
    ) {
        let [channels, results] = self.of_group();
        let cost = pixels.iter().product::<usize>() * results * channels * self.taps / FLOPS;
        let plain = step == [1, 1]
            && row_step * column_step == 1
            && self.source[1..] == self.result[1..]
            && (&rows[..], &columns[..]) == (&[Some(0)], &[Some(0)]);
        let pieces = sharing.pieces(cost * self.groups).div_ceil(self.groups);
        let block = if self.direct {
            // Of one image, and of whole rows: padding between rows is computed as well.
            let [_, rows, columns] = pixels;
            let lines = rows.min((LINES / columns).max(1));
            [1, rows.div_ceil(rows.div_ceil(lines)), columns.min(LINES)]
        } else if plain && pixels[1] * pixels[2] >= BLOCK_LEAST {
            // An image stands in memory as the product reads it.
            let [images, rows, columns] = pixels;
            block([1, rows, columns], pieces.div_ceil(images))
        } else {
            block(pixels, pieces)
        };
        let slab = Slab {
            rows: Axis::new(block[1], row_step, &rows),
            columns: Axis::new(block[2], column_step, &columns),
            channels: channels.min((CHUNK - 1).div_ceil(self.taps) + 1),
        };
        let taps = (0..rows.len()).flat_map(|row| (0..columns.len()).map(move |column| (row, column)));
        let met = |&(row, column): &(usize, usize)| rows[row].is_some() && columns[column].is_some();
        let offsets = taps.map(|tap| met(&tap).then(|| slab.offset(tap.0, tap.1))).collect();
        self.phases.push(Phase { slab, offsets, first, step, pixels, block, plain });
    }

    /// Channels of the source, and of the result, in a group.
    fn of_group(&self) -> [usize; 2] {
        [self.source[0] / self.groups, self.result[0] / self.groups]
    }

    /// How blocks, for each group, are shared out.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        let [channels, results] = self.of_group();
        let blocks: usize = self.phases.iter().map(Phase::blocks).sum();
        let block = self.phases.iter().map(|phase| phase.block.iter().product()).max().unwrap_or(0);
        let cost = block * results * channels * self.taps * self.at_once / FLOPS;
        Pieces::new(blocks * self.groups.div_ceil(self.at_once), 1, cost, sharing)
    }

    /// The scratch that a worker needs.
    pub(super) fn room(&self) -> Room {
        let [channels, results] = self.of_group();
        let mut room = Room::default();
        for phase in &self.phases {
            let columns: usize = phase.block.iter().product();
            room.slab = room.slab.max(phase.slab.len(phase.block[0]));
            if self.direct {
                room.slab += direct::STRIPE;
                room.rest = room.rest.max(phase.lines(phase.block) + direct::STRIPE);
                continue;
            }
            room.product = room.product.max(STRIP + unfolded(channels * self.taps, columns));
            room.rest = room.rest.max(results * columns);
        }
        room.left = if self.swapped { results * CHUNK } else { 0 };
        room
    }

    /// One block of one group.
    ///
    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn unit(&self, context: &Context<'_>, scratch: Shared, unit: usize) {
        let groups = self.groups.div_ceil(self.at_once);
        let (first, mut unit) = (unit % groups * self.at_once, unit / groups);
        for phase in &self.phases {
            if let Some(block) = phase.nth(unit) {
                let mut here = Here { slide: self, phase, block, group: first, context, scratch };
                // SAFETY: owed by the caller.
                return unsafe {
                    if self.direct {
                        here.direct(first..(first + self.at_once).min(self.groups));
                    } else {
                        here.product();
                    }
                };
            }
            unit -= phase.blocks();
        }
    }
}

/// How many images, rows and columns of pixels a block has, so that there are at least `pieces` and none is too large.
fn block([images, rows, columns]: [usize; 3], pieces: usize) -> [usize; 3] {
    let most = (images * rows * columns / pieces.max(1)).clamp(BLOCK_LEAST, BLOCK);
    // Of equal size, as nearly as can be.
    let evenly = |total: usize, most: usize| total.div_ceil(total.div_ceil(most.max(1)));
    if columns >= most {
        [1, 1, evenly(columns, most)]
    } else if rows * columns >= most {
        [1, evenly(rows, most / columns), columns]
    } else {
        [evenly(images, most / (rows * columns)), rows, columns]
    }
}

impl Phase {
    fn counts(&self) -> [usize; 3] {
        [0, 1, 2].map(|axis| self.pixels[axis].div_ceil(self.block[axis]))
    }

    fn blocks(&self) -> usize {
        self.counts().iter().product()
    }

    /// Places from a block's first pixel to its last one, what lies between its lines included.
    fn lines(&self, [_, rows, columns]: [usize; 3]) -> usize {
        (rows - 1) * self.slab.columns.len + columns
    }

    /// A block by its number.
    fn nth(&self, number: usize) -> Option<Block> {
        let [images, rows, columns] = self.counts();
        let at = [number / columns / rows, number / columns % rows, number % columns];
        let first = [0, 1, 2].map(|axis| at[axis] * self.block[axis]);
        let size = [0, 1, 2].map(|axis| self.block[axis].min(self.pixels[axis].saturating_sub(first[axis])));
        (at[0] < images).then_some(Block { first, size })
    }
}

/// A block being computed.
struct Here<'a> {
    slide: &'a Slide,
    phase: &'a Phase,
    block: Block,
    group: usize,
    context: &'a Context<'a>,
    scratch: Shared,
}

/// The terms of a chunk that are not zero everywhere.
struct Terms {
    count: usize,
    /// Offset in the slab, and in the weights of one result channel.
    offsets: [usize; CHUNK],
    weights: [usize; CHUNK],
}

impl Here<'_> {
    /// Adds term by term, for some groups.
    unsafe fn direct(&mut self, groups: std::ops::Range<usize>) {
        let Self { slide, phase, block, context, .. } = *self;
        let [_, results] = slide.of_group();
        let (terms, seen) = self.terms(0);
        let line = phase.slab.columns.len;
        // SAFETY: owed by the caller; `room` has told the scratch.
        unsafe {
            let [slab, _, rest] = slide.room().divide(self.scratch);
            for group in groups {
                self.group = group;
                if terms.count == 0 {
                    (0..results).for_each(|m| self.give(m, None));
                    continue;
                }
                self.fill(slab, seen.clone());
                for m in 0..results {
                    let (offsets, places) = (&terms.offsets[..terms.count], &terms.weights[..terms.count]);
                    let weights = self.weights_of(m);
                    let pixels = 0..phase.lines(block.size);
                    run_on(context.level, Direct { slab, offsets, weights, places, pixels, to: rest });
                    self.give(m, Some((rest, line)));
                }
            }
        }
    }

    /// One product for each chunk.
    unsafe fn product(&self) {
        let Self { slide, phase, block, group, context, scratch } = self;
        let [channels, results] = slide.of_group();
        let Some(last_tap) = phase.offsets.iter().rposition(Option::is_some) else {
            // SAFETY: owed by the caller.
            return (0..results).for_each(|m| unsafe { self.give(m, None) });
        };
        let columns = block.size.iter().product::<usize>();
        // Contiguous in the result, or moved there afterwards.
        let direct =
            phase.step == [1, 1] && block.size[0] == 1 && (block.size[1] == 1 || block.size[2] == slide.result[2]);
        // SAFETY: owed by the caller; the block lies in the result, and `room` has told the scratch.
        unsafe {
            let [slab, left, rest] = slide.room().divide(*scratch);
            let (c, c_row) =
                if direct { (self.result(0, [0, 0, 0]), slide.result[1] * slide.result[2]) } else { (rest, columns) };
            let product =
                |k, a, b, continues, ends| Product { m: results, n: columns, k, a, b, c, c_row, continues, ends };
            if phase.plain && direct {
                let from = [block.first[0], group * channels, block.first[1], block.first[2]];
                let start = Shared::new(context.at(slide.from).at(flat(slide.source, from)));
                let b = Right::Matrix(Matrix { start, row: slide.source[1] * slide.source[2], column: 1 });
                return product(channels, self.weights(0), b, false, true).compute(context.level, *scratch);
            }
            let mut runs = [Run::default(); BLOCK];
            let count = phase.slab.runs(0..columns, [block.size[1], block.size[2]], [0, 0], &mut runs);
            let last = ((channels - 1) * slide.taps + last_tap) / CHUNK * CHUNK;
            let mut continues = false;
            for p in (0..=last).step_by(CHUNK) {
                let (terms, seen) = self.terms(p);
                if terms.count == 0 {
                    continue;
                }
                self.fill(slab, seen);
                let (level, to) = (context.level, Shared::new(scratch.at(STRIP)));
                let b = Packed::unfold(level, slab, &terms.offsets[..terms.count], &runs[..count], to);
                let a = if slide.swapped { self.gather(&terms, left) } else { self.weights(p) };
                product(terms.count, a, Right::Packed(b), continues, p == last).compute(level, *scratch);
                continues = true;
            }
            if !direct {
                (0..results).for_each(|m| self.give(m, Some((Shared::new(rest.at(m * columns)), block.size[2]))));
            }
        }
    }

    /// The terms of the chunk from `p`, and the channels of the source that they see.
    fn terms(&self, p: usize) -> (Terms, std::ops::Range<usize>) {
        let Self { slide, phase, .. } = self;
        let [channels, results] = slide.of_group();
        let end = (p + CHUNK).min(channels * slide.taps);
        let first = p / slide.taps;
        let mut terms = Terms { count: 0, offsets: [0; CHUNK], weights: [0; CHUNK] };
        let (mut channel, mut tap) = (first, p % slide.taps);
        for _ in p..end {
            if let Some(offset) = phase.offsets[tap] {
                terms.offsets[terms.count] = phase.slab.offset_of(channel - first, offset);
                terms.weights[terms.count] = channel * if slide.swapped { results } else { 1 } * slide.taps + tap;
                terms.count += 1;
            }
            tap += 1;
            if tap == slide.taps {
                (channel, tap) = (channel + 1, 0);
            }
        }
        (terms, first..(end - 1) / slide.taps + 1)
    }

    /// The weights from `p` on: one row for each result channel of the group. For a chunk, unless they are swapped.
    unsafe fn weights(&self, p: usize) -> Matrix {
        let Self { slide, group, context, .. } = self;
        let [channels, results] = slide.of_group();
        let start = context.at(slide.weights);
        let group = group * channels * results * slide.taps;
        // SAFETY: owed by the caller.
        let start = Shared::new(unsafe { start.at(group + p) });
        if slide.swapped {
            // All of them, of a kernel of one element.
            Matrix { start, row: 1, column: results }
        } else {
            Matrix { start, row: channels * slide.taps, column: 1 }
        }
    }

    /// The weights of one result channel of the group.
    unsafe fn weights_of(&self, m: usize) -> Shared {
        let Self { slide, .. } = self;
        let line = if slide.swapped { slide.taps } else { slide.of_group()[0] * slide.taps };
        // SAFETY: owed by the caller.
        unsafe { Shared::new(self.weights(0).start.at(m * line)) }
    }

    /// Swapped weights of some terms, one row for each result channel.
    unsafe fn gather(&self, terms: &Terms, to: Shared) -> Matrix {
        let Self { slide, .. } = self;
        let [_, results] = slide.of_group();
        for m in 0..results {
            // SAFETY: owed by the caller; the scratch has room for a chunk of each result channel.
            unsafe {
                let (from, to) = (self.weights_of(m), to.write(m * CHUNK, terms.count));
                for (to, &at) in to.iter_mut().zip(&terms.weights) {
                    *to = *from.at(at);
                }
            }
        }
        Matrix { start: to, row: CHUNK, column: 1 }
    }

    unsafe fn fill(&self, to: Shared, seen: std::ops::Range<usize>) {
        let Self { slide, phase, block, group, context, .. } = self;
        let [channels, rows, columns] = slide.source;
        let first = group * slide.of_group()[0];
        let [image, row, column] = block.first;
        run_on(
            context.level,
            Fill {
                slab: &phase.slab,
                source: Source { start: context.at(slide.from), channels, rows, columns },
                window: Window { part: image, parts: block.size[0], of_image: 1, origin: [row, column] },
                channels: first + seen.start..first + seen.end,
                to,
            },
        );
    }

    /// Address of a pixel of the block in result channel `m` of the group.
    unsafe fn result(&self, m: usize, [image, row, column]: [usize; 3]) -> Shared {
        let Self { slide, phase, block, group, context, .. } = self;
        let row = phase.first[0] + (block.first[1] + row) * phase.step[0];
        let column = phase.first[1] + (block.first[2] + column) * phase.step[1];
        let at = [block.first[0] + image, group * slide.of_group()[1] + m, row, column];
        // SAFETY: owed by the caller.
        Shared::new(unsafe { context.at(slide.to).at(flat(slide.result, at)) })
    }

    /// Moves the block's results of channel `m`, in lines so far apart, to their place; zeros where there are none.
    unsafe fn give(&self, m: usize, from: Option<(Shared, usize)>) {
        let [images, rows, columns] = self.block.size;
        let step = self.phase.step[1];
        for (image, row) in (0..images).flat_map(|image| (0..rows).map(move |row| (image, row))) {
            // SAFETY: owed by the caller.
            unsafe {
                let to = self.result(m, [image, row, 0]);
                let Some((from, line)) = from else {
                    (0..columns).for_each(|j| *to.at(j * step) = 0.0);
                    continue;
                };
                let from = from.read((image * rows + row) * line, columns);
                if step == 1 {
                    to.write(0, columns).copy_from_slice(from);
                } else {
                    from.iter().enumerate().for_each(|(j, &x)| *to.at(j * step) = x);
                }
            }
        }
    }
}

/// Offset of (image, channel, row, column) in a tensor of these channels, rows and columns.
fn flat([channels, rows, columns]: [usize; 3], [image, channel, row, column]: [usize; 4]) -> usize {
    ((image * channels + channel) * rows + row) * columns + column
}
