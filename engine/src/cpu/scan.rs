//! Running sums along an axis.
//!
//! Lines are summed side by side, one in each lane: those of the last axis are transposed, tile by tile, before and after.
//!
//! *Invariant:* a line is summed in its own order, in blocks from +0, the blocks before it as one carry.

use std::ops::Range;

use crate::number::canon;

use super::gemm::transpose4;
use super::isa::Kernel;
use super::lanes::LANES;
use super::memory::{Place, Shared};
use super::step::{Context, Pieces, Sharing};

/// Elements of a block.
const BLOCK: usize = 256;
/// Lines that are summed side by side.
const STRIPE: usize = 64;

/// Running sums of x [outer, len, inner] along the middle axis.
#[derive(Debug)]
pub(super) struct Scan {
    /// Lengths before, of, and after the axis.
    pub(super) axes: [usize; 3],
    /// Whether sums start at the end of the axis.
    pub(super) reverse: bool,
    /// Operand.
    pub(super) from: Place,
    /// Result.
    pub(super) to: Place,
}

impl Scan {
    /// Whether lines are contiguous: a unit is then as many as there are lanes, else a stripe of those side by side.
    fn by_rows(&self) -> bool {
        self.axes[2] == 1
    }

    fn stripes(&self) -> usize {
        self.axes[2].div_ceil(STRIPE)
    }

    /// How lines are shared out.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        let [outer, len, inner] = self.axes;
        match self.by_rows() {
            true => Pieces::new(outer.div_ceil(LANES), 1, 4 * len * LANES.min(outer), sharing),
            false => Pieces::new(outer * self.stripes(), 1, 4 * len * inner.min(STRIPE), sharing),
        }
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, units: Range<usize>) {
        let (from, to) = (context.at(self.from), context.at(self.to));
        context.level.run(Units { scan: self, from, to, units });
    }
}

struct Units<'a> {
    scan: &'a Scan,
    from: Shared,
    to: Shared,
    units: Range<usize>,
}

impl Kernel for Units<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let stripes = self.scan.stripes();
        for unit in self.units.clone() {
            // SAFETY: `Scan::run` was promised the tensors; a unit's lines are its own.
            unsafe {
                match self.scan.by_rows() {
                    true => self.rows(unit * LANES),
                    false => self.stripe(unit / stripes, unit % stripes * STRIPE),
                }
            }
        }
    }
}

/// Sums of some lines so far.
struct Sums<const N: usize> {
    carry: [f32; N],
    sum: [f32; N],
}

impl<const N: usize> Sums<N> {
    #[inline(always)]
    fn new() -> Self {
        Self { carry: [0.0; N], sum: [0.0; N] }
    }

    /// Before the i-th element: a block may end here.
    #[inline(always)]
    fn enter(&mut self, i: usize) {
        if i.is_multiple_of(BLOCK) {
            for (carry, sum) in self.carry.iter_mut().zip(&mut self.sum) {
                *carry += *sum;
                *sum = 0.0;
            }
        }
    }

    /// Adds an element to each line.
    #[inline(always)]
    fn add(&mut self, from: &[f32], to: &mut [f32]) {
        for (((to, &x), sum), &carry) in to.iter_mut().zip(from).zip(&mut self.sum).zip(&self.carry) {
            *sum += x;
            *to = canon(carry + *sum);
        }
    }
}

impl Units<'_> {
    /// Up to [`STRIPE`] lines side by side.
    #[inline(always)]
    unsafe fn stripe(&self, outer: usize, first: usize) {
        let Scan { axes: [_, len, inner], reverse, .. } = *self.scan;
        let width = STRIPE.min(inner - first);
        let mut sums = Sums::<STRIPE>::new();
        for i in 0..len {
            let row = if reverse { len - 1 - i } else { i };
            let at = (outer * len + row) * inner + first;
            sums.enter(i);
            // SAFETY: owed by the caller.
            unsafe { sums.add(self.from.read(at, width), self.to.write(at, width)) };
        }
    }

    /// Up to [`LANES`] contiguous lines.
    #[inline(always)]
    unsafe fn rows(&self, first: usize) {
        let Scan { axes: [outer, len, _], reverse, .. } = *self.scan;
        let count = LANES.min(outer - first);
        let mut sums = Sums::<LANES>::new();
        for i in (0..len).step_by(LANES) {
            let width = LANES.min(len - i);
            let at = first * len + if reverse { len - i - width } else { i };
            let mut tile = [[0.0f32; LANES]; LANES];
            // SAFETY: owed by the caller: `width` elements of `count` lines.
            unsafe {
                if (count, width) == (LANES, LANES) {
                    transpose(self.from.at(at), len, tile.as_mut_ptr().cast(), LANES);
                } else {
                    for (lane, j) in (0..count).flat_map(|lane| (0..width).map(move |j| (lane, j))) {
                        tile[j][lane] = *self.from.at(at + lane * len + j);
                    }
                }
                for j in 0..width {
                    let column = &mut tile[if reverse { width - 1 - j } else { j }];
                    let from = *column;
                    sums.enter(i + j);
                    sums.add(&from, column);
                }
                if (count, width) == (LANES, LANES) {
                    transpose(tile.as_ptr().cast(), LANES, self.to.at(at), len);
                } else {
                    for (lane, j) in (0..count).flat_map(|lane| (0..width).map(move |j| (lane, j))) {
                        *self.to.at(at + lane * len + j) = tile[j][lane];
                    }
                }
            }
        }
    }
}

/// Transposes a tile of [`LANES`] rows and columns.
///
/// # Safety
/// Its elements may be read, and those of the result written.
#[inline(always)]
unsafe fn transpose(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
    for i in (0..LANES).step_by(4) {
        for j in (0..LANES).step_by(4) {
            // SAFETY: owed by the caller.
            unsafe {
                let four = [0, 1, 2, 3].map(|row| from.add((i + row) * from_row + j));
                transpose4(four, to.add(j * to_row + i), to_row);
            }
        }
    }
}
