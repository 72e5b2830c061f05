//! Sums and maxima over axes.
//!
//! *Invariant:* a sum whose axes include the last one follows the row rule, any other one the column rule; how the
//! elements stand in memory decides only how they are reached.

use std::ops::Range;

use crate::number::canon;

use super::isa::Kernel;
use super::lanes::{LANES, padded};
use super::memory::{Place, Shared};
use super::step::{Context, Pieces, Sharing, Slice};

/// Elements of a block of a row sum.
pub(super) const BLOCK: usize = 4096;
/// Elements of a chunk of a column sum.
const CHUNK: usize = 256;
/// Columns that are summed side by side.
const STRIPE: usize = 64;

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Sum, by the row rule.
    RowSum,
    /// Sum, by the column rule.
    ColumnSum,
    /// Maximum.
    Max,
    /// Index of the first maximum, an integer.
    ArgMax,
}

/// Length and distance of axes, outermost first.
type Axes = Vec<(usize, usize)>;

/// A reduction over axes.
#[derive(Debug)]
pub(super) struct Reduce {
    kind: Kind,
    from: Place,
    to: Place,
    /// Axes that stay, and axes that go.
    kept: Axes,
    gone: Axes,
    /// For a sum by the column rule that runs over all slices of the batch: where the sum of a chunk that a slice leaves
    /// unfinished waits for the next one. None for a sum within a slice.
    unfinished: Option<Place>,
}

impl Reduce {
    /// Sum over axes, ascending.
    pub(super) fn sum(shape: &[usize], axes: &[u8], from: Place, to: Place) -> Self {
        let by_rows = axes.iter().any(|&axis| usize::from(axis) + 1 == shape.len());
        Self::new(if by_rows { Kind::RowSum } else { Kind::ColumnSum }, shape, axes, from, to)
    }

    /// Maximum over axes, ascending.
    pub(super) fn max(shape: &[usize], axes: &[u8], from: Place, to: Place) -> Self {
        Self::new(Kind::Max, shape, axes, from, to)
    }

    /// Index of the first maximum of the last axis.
    pub(super) fn argmax(shape: &[usize], from: Place, to: Place) -> Self {
        Self::new(Kind::ArgMax, shape, &[(shape.len() - 1) as u8], from, to)
    }

    fn new(kind: Kind, shape: &[usize], axes: &[u8], from: Place, to: Place) -> Self {
        let (mut kept, mut gone) = (Axes::new(), Axes::new());
        let mut distance: usize = shape.iter().product();
        for (axis, &len) in shape.iter().enumerate() {
            distance /= len;
            if len == 1 {
                continue;
            }
            let axes = if axes.contains(&(axis as u8)) { &mut gone } else { &mut kept };
            match axes.last_mut() {
                Some(outer) if outer.1 == len * distance => *outer = (outer.0 * len, distance),
                _ => axes.push((len, distance)),
            }
        }
        if gone.is_empty() {
            gone.push((1, 1));
        }
        Self { kind, from, to, kept, gone, unfinished: None }
    }

    /// The same sum, of which each slice of the batch does a part.
    pub(super) fn over_slices(self, unfinished: Place) -> Self {
        Self { unfinished: Some(unfinished), ..self }
    }

    /// Elements that one result is made of.
    fn len(&self) -> usize {
        self.gone.iter().map(|&(len, _)| len).product()
    }

    /// Whether those elements stand one after the other.
    fn contiguous(&self) -> bool {
        matches!(self.gone[..], [(_, 1)])
    }

    /// Length of the last axis that stays, when its elements stand one after the other.
    fn columns(&self) -> Option<usize> {
        match (self.kind, self.kept.last()) {
            (Kind::ColumnSum | Kind::Max, Some(&(len, 1))) => Some(len),
            _ => None,
        }
    }

    /// How the results, or stripes of them, are shared out.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        let results: usize = self.kept.iter().map(|&(len, _)| len).product();
        match self.columns() {
            Some(columns) => {
                Pieces::new(results / columns * columns.div_ceil(STRIPE), 1, self.len() * STRIPE.min(columns), sharing)
            }
            None => Pieces::new(results, 1, self.len(), sharing),
        }
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, units: Range<usize>) {
        let (from, to) = (context.at(self.from), context.at(self.to));
        let slice = if self.unfinished.is_some() { context.slice } else { Slice::WHOLE };
        let unfinished = self.unfinished.map(|place| context.at(place));
        context.level.run(Units { reduce: self, from, to, units, slice, unfinished });
    }
}

/// Distance of the element with this flat index along axes.
#[inline(always)]
fn offset(axes: &[(usize, usize)], mut index: usize) -> usize {
    if let [(_, distance)] = axes {
        return index * distance;
    }
    let mut offset = 0;
    for &(len, distance) in axes.iter().rev() {
        offset += index % len * distance;
        index /= len;
    }
    offset
}

struct Units<'a> {
    reduce: &'a Reduce,
    from: Shared,
    to: Shared,
    units: Range<usize>,
    slice: Slice,
    unfinished: Option<Shared>,
}

impl Kernel for Units<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let reduce = self.reduce;
        let columns = reduce.columns();
        for unit in self.units.clone() {
            // SAFETY: `Reduce::run` was promised the tensors; a unit's results are its own.
            unsafe {
                match columns {
                    Some(columns) => self.stripe(unit, columns),
                    None => self.result(unit),
                }
            }
        }
    }
}

impl Units<'_> {
    /// One result.
    #[inline(always)]
    unsafe fn result(&self, unit: usize) {
        let reduce = self.reduce;
        let (len, start) = (reduce.len(), offset(&reduce.kept, unit));
        // SAFETY: owed by the caller.
        unsafe {
            let element = |i: usize| *self.from.at(start + offset(&reduce.gone, i));
            match reduce.kind {
                Kind::RowSum if reduce.contiguous() => {
                    self.to.write(unit, 1)[0] = canon(row_sum(self.from.read(start, len)));
                }
                Kind::RowSum => {
                    let mut sums = Sums::default();
                    for i in 0..len {
                        sums.push(0, element(i));
                    }
                    self.to.write(unit, 1)[0] = canon(sums.end());
                }
                Kind::ColumnSum => self.columns::<1>(unit, 1, start),
                Kind::Max if reduce.contiguous() => self.to.write(unit, 1)[0] = row_max(self.from.read(start, len)),
                Kind::Max => {
                    self.to.write(unit, 1)[0] = (1..len).map(element).fold(element(0), larger);
                }
                Kind::ArgMax => {
                    let row = self.from.read(start, len);
                    let max = row_max(row);
                    let first = row.iter().position(|&x| x == max).unwrap_or(0);
                    self.to.write_int(unit, 1)[0] = first as i32;
                }
            }
        }
    }

    /// Results side by side: up to [`STRIPE`] columns.
    #[inline(always)]
    unsafe fn stripe(&self, unit: usize, columns: usize) {
        let reduce = self.reduce;
        let stripes = columns.div_ceil(STRIPE);
        let first = unit % stripes * STRIPE;
        let width = STRIPE.min(columns - first);
        let outer = &reduce.kept[..reduce.kept.len() - 1];
        let start = offset(outer, unit / stripes) + first;
        let len = reduce.len();
        // SAFETY: owed by the caller.
        unsafe {
            let at = unit / stripes * columns + first;
            if reduce.kind == Kind::ColumnSum {
                return self.columns::<STRIPE>(at, width, start);
            }
            let row = |i: usize| self.from.read(start + offset(&reduce.gone, i), width);
            let to = self.to.write(at, width);
            to.copy_from_slice(row(0));
            for i in 1..len {
                for (max, &x) in to.iter_mut().zip(row(i)) {
                    *max = larger(*max, x);
                }
            }
        }
    }

    /// Sums by the column rule of up to `W` columns side by side: results from `at`, operand from `start`.
    #[inline(always)]
    unsafe fn columns<const W: usize>(&self, at: usize, width: usize, start: usize) {
        let (len, slice) = (self.reduce.len(), self.slice);
        let before = slice.index * len;
        let (mut total, mut sum) = ([0.0f32; W], [0.0f32; W]);
        // SAFETY: owed by the caller.
        unsafe {
            let row = |i: usize| self.from.read(start + offset(&self.reduce.gone, i), width);
            let to = self.to.write(at, width);
            let unfinished = self.unfinished.map(|sums| sums.write(at, width));
            if !slice.is_first() {
                total[..width].copy_from_slice(to);
                if let Some(unfinished) = &unfinished {
                    sum[..width].copy_from_slice(unfinished);
                }
            }
            let mut i = 0;
            while i < len {
                let end = len.min((before + i) / CHUNK * CHUNK + CHUNK - before);
                for i in i..end {
                    if width == W {
                        for (sum, &x) in sum.iter_mut().zip(&row(i)[..W]) {
                            *sum += x;
                        }
                    } else {
                        for (sum, &x) in sum.iter_mut().zip(row(i)) {
                            *sum += x;
                        }
                    }
                }
                i = end;
                if (before + end).is_multiple_of(CHUNK) || (end == len && slice.is_last()) {
                    for (total, sum) in total.iter_mut().zip(&mut sum) {
                        *total += std::mem::take(sum);
                    }
                }
            }
            if slice.is_last() {
                for (to, &total) in to.iter_mut().zip(&total) {
                    *to = canon(total);
                }
            } else {
                to.copy_from_slice(&total[..width]);
                if let Some(unfinished) = unfinished {
                    unfinished.copy_from_slice(&sum[..width]);
                }
            }
        }
    }
}

/// The larger of two canonical numbers.
#[inline(always)]
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Maximum of a row: exact, so in any order.
#[inline(always)]
pub(super) fn row_max(row: &[f32]) -> f32 {
    let (groups, rest) = row.as_chunks::<LANES>();
    let mut lanes = padded(rest, f32::NEG_INFINITY);
    for group in groups {
        for (max, &x) in lanes.iter_mut().zip(group) {
            *max = larger(*max, x);
        }
    }
    lanes_max(lanes)
}

/// Maximum of lanes.
#[inline(always)]
pub(super) fn lanes_max(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        let (low, high) = lanes.split_at_mut(half);
        for (low, &mut high) in low.iter_mut().zip(high) {
            *low = larger(*low, high);
        }
    }
    lanes[0]
}

/// Lanes to one number: lane i takes lane i + 8, then + 4, + 2, + 1.
#[inline(always)]
pub(super) fn tree(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        let (low, high) = lanes.split_at_mut(half);
        for (low, &mut high) in low.iter_mut().zip(high) {
            *low += high;
        }
    }
    lanes[0]
}

/// Sum of a row by the row rule, without `canon`.
#[inline(always)]
pub(super) fn row_sum(row: &[f32]) -> f32 {
    row_sum_of(row, row, |x, _| x)
}

/// Sum over a row of `f` of two rows' elements, by the row rule, without `canon`.
#[inline(always)]
pub(super) fn row_sum_of(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    if a.len() <= BLOCK {
        return block_sum(a, b, &f);
    }
    let mut sums = Sums::default();
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        sums.push(1, block_sum(a, b, &f));
    }
    sums.end()
}

#[inline(always)]
fn block_sum(a: &[f32], b: &[f32], f: &impl Fn(f32, f32) -> f32) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f(a, b);
        }
    }
    if !a_rest.is_empty() {
        let (a, b) = (padded(a_rest, 0.0), padded(b_rest, 0.0));
        let mut group = [0.0f32; LANES];
        for ((x, &a), &b) in group.iter_mut().zip(&a).zip(&b) {
            *x = f(a, b);
        }
        // Padding adds +0, as the rule says, whatever `f` makes of it.
        group[a_rest.len()..].fill(0.0);
        for (lane, &x) in lanes.iter_mut().zip(&group) {
            *lane += x;
        }
    }
    tree(lanes)
}

/// Sum of a row whose first `zeros` elements, a multiple of [`LANES`], are zeros; `rest` follows. Without `canon`.
#[inline(always)]
pub(super) fn row_sum_after(zeros: usize, rest: &[f32]) -> f32 {
    if zeros + rest.len() <= BLOCK {
        return row_sum(rest);
    }
    let mut sums = Sums::default();
    for _ in 0..zeros / BLOCK {
        sums.push(1, 0.0);
    }
    let (first, rest) = rest.split_at(rest.len().min(BLOCK - zeros % BLOCK));
    sums.push(1, row_sum(first));
    for block in rest.chunks(BLOCK) {
        sums.push(1, row_sum(block));
    }
    sums.end()
}

/// The row rule as a stream: level 0 takes elements, each next level the sums of full blocks of the one below.
#[derive(Default)]
pub(super) struct Sums {
    lanes: [[f32; LANES]; LEVELS],
    filled: [usize; LEVELS],
}

/// Levels that 2^31 elements fill.
const LEVELS: usize = 3;

impl Sums {
    #[inline(always)]
    pub(super) fn push(&mut self, level: usize, x: f32) {
        let mut x = x;
        for level in level..LEVELS {
            let at = self.filled[level];
            self.lanes[level][at % LANES] += x;
            self.filled[level] += 1;
            if at + 1 < BLOCK {
                return;
            }
            x = tree(std::mem::take(&mut self.lanes[level]));
            self.filled[level] = 0;
        }
    }

    #[inline(always)]
    pub(super) fn end(mut self) -> f32 {
        for level in 0..LEVELS - 1 {
            if self.filled[level] > 0 {
                let rest = tree(self.lanes[level]);
                self.push(level + 1, rest);
            }
        }
        tree(self.lanes[LEVELS - 1])
    }
}
