//! Elements moved without change: permutations, slices, padding, joining.
//!
//! All of them are copies of a box of elements between two strided views.
//!
//! *Invariant:* values are only copied, so integers travel as well as floats.

use std::ops::Range;

use super::gemm::transpose4;
use super::memory::{Place, Shared};
use super::step::{Context, Pieces, Sharing};

/// Rows of a transposed tile: a cache line's elements.
const TILE: usize = 16;

/// An axis of a copied box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    /// Length.
    pub(super) len: usize,
    /// Distance in the source.
    pub(super) from: usize,
    /// Distance in the result.
    pub(super) to: usize,
}

/// A copy of a box; `zeros` elements of the result are cleared before.
#[derive(Debug)]
pub(super) struct Move {
    from: Place,
    to: Place,
    /// All axes but the inner ones.
    outer: Vec<Axis>,
    inner: Inner,
}

/// The innermost loops.
#[derive(Debug, PartialEq, Eq)]
enum Inner {
    /// An axis of runs that are contiguous on both sides.
    Runs { axis: Axis, len: usize },
    /// One axis is contiguous in the source, the other one in the result.
    Transpose { source: Axis, result: Axis },
    /// Anything else.
    Line(Axis),
    /// Clear this many elements of the result.
    Clear(usize),
}

impl Move {
    /// Copies the box with these axes, outermost first.
    pub(super) fn copy(from: Place, to: Place, axes: &[Axis]) -> Self {
        let mut merged: Vec<Axis> = Vec::new();
        for &axis in axes.iter().filter(|axis| axis.len != 1) {
            match merged.last_mut() {
                Some(outer) if outer.from == axis.len * axis.from && outer.to == axis.len * axis.to => {
                    *outer = Axis { len: outer.len * axis.len, ..axis };
                }
                _ => merged.push(axis),
            }
        }
        let last = merged.pop().unwrap_or(Axis { len: 1, from: 1, to: 1 });
        let contiguous = merged.iter().position(|axis| axis.from == 1);
        let inner = match contiguous {
            _ if last.from == 1 && last.to == 1 => {
                Inner::Runs { axis: merged.pop().unwrap_or(Axis { len: 1, from: 0, to: 0 }), len: last.len }
            }
            Some(at) if last.to == 1 => Inner::Transpose { source: merged.remove(at), result: last },
            _ => Inner::Line(last),
        };
        Self { from, to, outer: merged, inner }
    }

    /// Clears `len` elements.
    pub(super) fn clear(to: Place, len: usize) -> Self {
        Self { from: to, to, outer: vec![], inner: Inner::Clear(len) }
    }

    /// Number of units that are shared out, and elements of each.
    fn units(&self) -> (usize, usize) {
        let outer: usize = self.outer.iter().map(|axis| axis.len).product();
        match self.inner {
            Inner::Runs { axis, len } => (outer * axis.len, len),
            Inner::Line(Axis { len, .. }) => (outer, len),
            Inner::Transpose { source, result } => (outer * source.len.div_ceil(TILE), TILE * result.len),
            Inner::Clear(len) => (len, 1),
        }
    }

    /// How the units are shared out.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        let (units, cost) = self.units();
        Pieces::new(units, 1, 2 * cost, sharing)
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, units: Range<usize>) {
        let (from, to) = (context.at(self.from), context.at(self.to));
        // SAFETY: the planner made the box from shapes that lie in both tensors.
        unsafe {
            if let Inner::Clear(_) = self.inner {
                return to.write(units.start, units.len()).fill(0.0);
            }
            let tiles = match self.inner {
                Inner::Transpose { source, .. } => source.len.div_ceil(TILE),
                Inner::Runs { axis, len } => return self.runs(from, to, axis, len, units),
                _ => 1,
            };
            for unit in units {
                let (a, b) = self.offsets(unit / tiles);
                let (from, to) = (Shared::new(from.at(a)), Shared::new(to.at(b)));
                match self.inner {
                    Inner::Clear(_) | Inner::Runs { .. } => {}
                    Inner::Line(axis) => {
                        for i in 0..axis.len {
                            *to.at(i * axis.to) = *from.at(i * axis.from);
                        }
                    }
                    Inner::Transpose { source, result } => {
                        let first = unit % tiles * TILE;
                        let rows = TILE.min(source.len - first);
                        let (from, to) = (Shared::new(from.at(first)), Shared::new(to.at(first * source.to)));
                        transpose(from, result.from, to, source.to, rows, result.len);
                    }
                }
            }
        }
    }

    /// Copies runs `units` of all.
    ///
    /// # Safety
    /// As for `run`.
    unsafe fn runs(&self, from: Shared, to: Shared, axis: Axis, len: usize, units: Range<usize>) {
        let mut unit = units.start;
        while unit < units.end {
            let (first, (a, b)) = (unit % axis.len, self.offsets(unit / axis.len));
            let count = (axis.len - first).min(units.end - unit);
            for i in first..first + count {
                // SAFETY: owed by the caller.
                unsafe { copy(from.at(a + i * axis.from), to.at(b + i * axis.to), len) };
            }
            unit += count;
        }
    }

    /// Where a unit of the outer axes starts on both sides.
    fn offsets(&self, mut unit: usize) -> (usize, usize) {
        let (mut from, mut to) = (0, 0);
        for axis in self.outer.iter().rev() {
            from += unit % axis.len * axis.from;
            to += unit % axis.len * axis.to;
            unit /= axis.len;
        }
        (from, to)
    }
}

/// Copies `len` elements: short runs without a call.
///
/// # Safety
/// They may be read and written, and do not overlap.
#[inline(always)]
unsafe fn copy(from: *const f32, to: *mut f32, len: usize) {
    const SHORT: usize = 64;
    // SAFETY: owed by the caller; arrays of floats need no more alignment than a float.
    unsafe {
        if len > SHORT {
            return to.copy_from_nonoverlapping(from, len);
        }
        let (whole, mut done) = (len / 8 * 8, 0);
        while done < whole {
            *to.add(done).cast::<[f32; 8]>() = *from.add(done).cast::<[f32; 8]>();
            done += 8;
        }
        if len & 4 != 0 {
            *to.add(done).cast::<[f32; 4]>() = *from.add(done).cast::<[f32; 4]>();
            done += 4;
        }
        while done < len {
            *to.add(done) = *from.add(done);
            done += 1;
        }
    }
}

/// to[i * to_row + j] = from[j * from_column + i].
///
/// # Safety
/// All those elements lie in their tensors, which do not overlap.
unsafe fn transpose(from: Shared, from_column: usize, to: Shared, to_row: usize, rows: usize, columns: usize) {
    let (whole_rows, whole_columns) = (rows / 4 * 4, columns / 4 * 4);
    // SAFETY: owed by the caller.
    unsafe {
        for j in (0..whole_columns).step_by(4) {
            for i in (0..whole_rows).step_by(4) {
                let four = [0, 1, 2, 3].map(|c| from.at((j + c) * from_column + i).cast_const());
                transpose4(four, to.at(i * to_row + j), to_row);
            }
        }
        for j in 0..columns {
            let done = if j < whole_columns { whole_rows } else { 0 };
            for i in done..rows {
                *to.at(i * to_row + j) = *from.at(j * from_column + i);
            }
        }
    }
}
