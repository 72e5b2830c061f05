//! The part of a tensor that a block of pixels sees, with its padding, rounded and laid out so that each element of the
//! kernel reads a contiguous line: what is strided in the tensor stands together here.

use std::ops::Range;

use crate::number::round12;

use super::super::gemm::{CHUNK, OVERREAD, Run};
use super::super::lanes::LANES;
use super::super::memory::Shared;
use super::super::wide::Wide;
use super::Lanes;

/// How pixels and kernel elements ("taps") along one axis reach a tensor: pixel i and tap t meet i·step + shift of t.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    /// Distance in the tensor from one pixel to the next.
    step: usize,
    /// Where pixel 0 of each tap stands; worthless for a tap without a shift.
    pub(super) starts: Vec<usize>,
    /// What the line holds.
    stretches: Vec<Stretch>,
    /// Elements of a line.
    pub(super) len: usize,
}

/// Elements of a line that stand `step` apart in the tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    /// First element in the line.
    start: usize,
    len: usize,
    /// Place in the tensor of the first element, for pixel 0.
    place: i64,
}

impl Axis {
    /// For this many pixels; a tap without a shift meets nothing.
    pub(super) fn new(pixels: usize, step: usize, shifts: &[Option<i64>]) -> Self {
        // Taps that see the same places of the tensor share a stretch.
        let mut taps: Vec<(i64, i64, usize)> = (0..)
            .zip(shifts)
            .filter_map(|(tap, shift)| shift.map(|shift| (shift.rem_euclid(step as i64), shift, tap)))
            .collect();
        taps.sort_unstable();
        let mut axis = Self { step, starts: vec![0; shifts.len()], stretches: vec![], len: 0 };
        for (_, shift, tap) in taps {
            let shared = axis.stretches.last_mut().and_then(|last| {
                let ahead = (shift - last.place).div_euclid(step as i64) as usize;
                ((shift - last.place) % step as i64 == 0 && ahead <= last.len).then_some((last, ahead))
            });
            match shared {
                Some((last, ahead)) => {
                    axis.starts[tap] = last.start + ahead;
                    last.len = last.len.max(ahead + pixels);
                    axis.len = last.start + last.len;
                }
                None => {
                    axis.starts[tap] = axis.len;
                    axis.stretches.push(Stretch { start: axis.len, len: pixels, place: shift });
                    axis.len += pixels;
                }
            }
        }
        axis
    }
}

/// How chunks of all output pixels, in row-major order of images, rows and columns, fall into parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    /// Pixel rows and columns of a part: of an image, or, where rows are long, of a row.
    of_part: [usize; 2],
    /// Parts of an image.
    of_image: usize,
    /// Most parts of a chunk.
    pub(super) parts: usize,
    /// Most rows and columns of a part that a chunk sees.
    pub(super) seen: [usize; 2],
}

impl Chunks {
    pub(super) fn new(images: usize, output: [usize; 2]) -> Self {
        let [rows, columns] = output;
        let (of_part, seen) = if columns >= CHUNK {
            ([1, columns], [1, CHUNK])
        } else {
            (output, [rows.min((CHUNK - 1).div_ceil(columns) + 1), columns])
        };
        let pixels = of_part[0] * of_part[1];
        let (of_image, all) = (rows * columns / pixels, images * rows * columns / pixels);
        Self { of_part, of_image, parts: ((CHUNK - 1).div_ceil(pixels) + 1).min(all), seen }
    }

    /// The window of a chunk, and where its pixels stand in a slab. Gives the number of runs.
    pub(super) fn window(&self, slab: &Slab, pixels: Range<usize>, runs: &mut [Run]) -> (Window, usize) {
        let [rows, columns] = self.of_part;
        let part = pixels.start / (rows * columns);
        let before = part * rows * columns;
        let range = pixels.start - before..pixels.end - before;
        let origin = if rows == 1 { [0, range.start] } else { [range.start / columns, 0] };
        let parts = (range.end - 1) / (rows * columns) + 1;
        let count = slab.runs(range, self.of_part, origin, runs);
        (Window { part, parts, of_image: self.of_image, origin }, count)
    }
}

/// Layout of a slab: for each part and channel, lines of both axes.
#[derive(Clone, Debug)]
pub(super) struct Slab {
    pub(super) rows: Axis,
    pub(super) columns: Axis,
    /// Most channels at once.
    pub(super) channels: usize,
}

/// A tensor [.., channels, rows, columns].
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) start: Shared,
    pub(super) channels: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// The pixels that a slab is filled for: some parts that follow each other, each a whole image or a row of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// First part, and number of parts.
    pub(super) part: usize,
    pub(super) parts: usize,
    /// Parts of an image: 1, or its rows.
    pub(super) of_image: usize,
    /// First pixel row and column in the first part; the others start at 0.
    pub(super) origin: [usize; 2],
}

impl Slab {
    /// Elements of one image's channel.
    pub(super) fn plane(&self) -> usize {
        self.rows.len * self.columns.len
    }

    /// Elements of a slab of this many parts, and what may be read behind it.
    pub(super) fn len(&self, parts: usize) -> usize {
        parts * self.channels * self.plane() + OVERREAD
    }

    /// Offset of a tap in a channel.
    pub(super) fn offset(&self, row: usize, column: usize) -> usize {
        self.rows.starts[row] * self.columns.len + self.columns.starts[column]
    }

    /// Offset of what has an offset in a channel, in the slab's `channel`-th one.
    #[inline(always)]
    pub(super) fn offset_of(&self, channel: usize, offset: usize) -> usize {
        channel * self.plane() + offset
    }

    /// Where the pixels of a range stand, in row-major order of parts of `height` x `width` pixels, of which the first
    /// one starts at `origin`. Gives the number of runs.
    pub(super) fn runs(
        &self,
        range: Range<usize>,
        [height, width]: [usize; 2],
        origin: [usize; 2],
        runs: &mut [Run],
    ) -> usize {
        let (mut count, mut at) = (0usize, range.start);
        let (mut part, mut row, mut column) = (at / width / height, at / width % height, at % width);
        while at < range.end {
            let len = (width - column).min(range.end - at);
            let origin = if part == 0 { origin } else { [0, 0] };
            let line = (row - origin[0]) * self.columns.len;
            let from = part * self.channels * self.plane() + line + column - origin[1];
            match count.checked_sub(1).map(|last| &mut runs[last]) {
                Some(last) if last.from + last.len == from => last.len += len,
                _ => {
                    runs[count] = Run { from, len };
                    count += 1;
                }
            }
            (at, column, row) = (at + len, 0, row + 1);
            if row == height {
                (part, row) = (part + 1, 0);
            }
        }
        count
    }
}

/// Fills a slab with some channels.
pub(super) struct Fill<'a> {
    pub(super) slab: &'a Slab,
    pub(super) source: Source,
    pub(super) window: Window,
    pub(super) channels: Range<usize>,
    pub(super) to: Shared,
}

impl Lanes for Fill<'_> {
    #[inline(always)]
    fn run<W: Wide>(self) {
        let Self { slab, source, window, channels, to } = self;
        let (rows, line) = (&slab.rows, slab.columns.len);
        for part in 0..window.parts {
            let (image, row) = ((window.part + part) / window.of_image, (window.part + part) % window.of_image);
            let [mut origin, column] = if part == 0 { window.origin } else { [0, 0] };
            origin += row;
            for (at, channel) in channels.clone().enumerate() {
                let first = (image * source.channels + channel) * source.rows;
                // SAFETY: the slab has its room in the scratch, and a line that is read is a row of the tensor.
                unsafe {
                    let plane = to.write((part * slab.channels + at) * slab.plane(), slab.plane());
                    plane.fill(0.0);
                    for stretch in &rows.stretches {
                        let place = stretch.place + (origin * rows.step) as i64;
                        for i in stretch.inside(place, rows.step, source.rows) {
                            let row = (place + (i * rows.step) as i64) as usize;
                            let from = source.start.read((first + row) * source.columns, source.columns);
                            slab.columns.fill::<W>(&mut plane[(stretch.start + i) * line..][..line], from, column);
                        }
                    }
                }
            }
        }
    }
}

impl Stretch {
    /// Which of its elements lie in a tensor of this length, when the first one lies at `place`.
    #[inline(always)]
    fn inside(&self, place: i64, step: usize, len: usize) -> Range<usize> {
        let most = self.len as i64;
        let reached = |end: i64| {
            let distance = (end - place).max(0);
            if step == 1 { distance } else { (distance + step as i64 - 1) / step as i64 }.min(most)
        };
        reached(0) as usize..reached(len as i64) as usize
    }
}

impl Axis {
    /// Fills a line of zeros with those elements that one of the tensor has, for pixels from `first`.
    #[inline(always)]
    fn fill<W: Wide>(&self, to: &mut [f32], from: &[f32], first: usize) {
        for stretch in &self.stretches {
            let place = stretch.place + (first * self.step) as i64;
            let inside = stretch.inside(place, self.step, from.len());
            if inside.is_empty() {
                continue;
            }
            let from = &from[(place + (inside.start * self.step) as i64) as usize..];
            let to = &mut to[stretch.start..][inside];
            if self.step == 1 {
                round::<W>(to, &from[..to.len()]);
            } else {
                for (to, &x) in to.iter_mut().zip(from.iter().step_by(self.step)) {
                    *to = round12(x);
                }
            }
        }
    }
}

/// Rounds a line. What is left of whole registers is done in parts of constant length, since lines are short.
#[inline(always)]
pub(super) fn round<W: Wide>(to: &mut [f32], from: &[f32]) {
    let ((groups, to), (from_groups, from)) = (to.as_chunks_mut::<LANES>(), from.as_chunks::<LANES>());
    for (to, from) in groups.iter_mut().zip(from_groups) {
        // SAFETY: a group is as long as a register.
        unsafe { W::load(from.as_ptr()).round12().store(to.as_mut_ptr()) };
    }
    let (to, from) = rounded::<8>(to, from);
    let (to, from) = rounded::<4>(to, from);
    rounded::<1>(to, from);
}

/// Rounds whole groups, and gives the rest.
#[inline(always)]
fn rounded<'a, const N: usize>(to: &'a mut [f32], from: &'a [f32]) -> (&'a mut [f32], &'a [f32]) {
    let ((groups, to), (from_groups, from)) = (to.as_chunks_mut::<N>(), from.as_chunks::<N>());
    for (to, from) in groups.iter_mut().zip(from_groups) {
        let mut group = *from;
        for x in &mut group {
            *x = round12(*x);
        }
        *to = group;
    }
    (to, from)
}

#[cfg(test)]
mod tests {
    use super::super::super::wide::Portable;
    use super::*;

    #[test]
    fn taps_that_see_the_same_places_share_them() {
        let shifts = |step: i64, n: i64| (0..n).map(|t| Some(t * step - 1)).collect::<Vec<_>>();
        let plain = Axis::new(10, 1, &shifts(1, 3));
        assert_eq!((&plain.starts[..], plain.len), (&[0, 1, 2][..], 12));
        let strided = Axis::new(10, 2, &shifts(1, 3));
        assert_eq!((&strided.starts[..], strided.len), (&[10, 0, 11][..], 21));
        let far = Axis::new(10, 1, &shifts(1000, 3));
        assert_eq!((&far.starts[..], far.len), (&[0, 10, 20][..], 30));
        let backwards = Axis::new(4, 1, &[Some(1), None, Some(-1)]);
        assert_eq!((backwards.starts[0], backwards.starts[2], backwards.len), (2, 0, 6));
    }

    #[test]
    fn a_line_has_zeros_where_the_tensor_ends() {
        let from: Vec<f32> = (1..6u8).map(f32::from).collect();
        let line = |pixels, step, shifts: &[Option<i64>], first| {
            let axis = Axis::new(pixels, step, shifts);
            let mut to = vec![0.0; axis.len];
            axis.fill::<Portable>(&mut to, &from, first);
            to
        };
        assert_eq!(line(7, 1, &[Some(-1)], 0), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0]);
        assert_eq!(line(3, 2, &[Some(-1), Some(0)], 0), [1.0, 3.0, 5.0, 0.0, 2.0, 4.0]);
        assert_eq!(line(2, 2, &[Some(-1), Some(0)], 2), [5.0, 0.0, 4.0, 0.0]);
        assert_eq!(line(3, 1, &[Some(-9)], 0), [0.0; 3]);
        assert_eq!(line(3, 1, &[Some(9)], 0), [0.0; 3]);
    }

    #[test]
    fn pixels_stand_in_runs() {
        let axis = |pixels| Axis::new(pixels, 1, &[Some(0), Some(1)]);
        let slab = Slab { rows: axis(3), columns: axis(4), channels: 2 };
        let mut runs = [Run::default(); 16];
        let image = 2 * 4 * 5;
        let count = slab.runs(6..14, [3, 4], [1, 0], &mut runs);
        let from = [(2, 2), (5, 4), (image, 2)].map(|(from, len)| Run { from, len });
        assert_eq!(runs[..count], from);
        let narrow = Slab { columns: Axis::new(4, 1, &[Some(0)]), ..slab };
        assert_eq!(narrow.runs(0..12, [3, 4], [0, 0], &mut runs), 1);
    }
}
