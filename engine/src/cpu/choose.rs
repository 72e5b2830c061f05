//! Elements chosen by index along an axis, and the indices of the largest.
//!
//! *Invariant:* what is added to one element is added in ascending position, whoever does it.

use std::ops::Range;

use crate::number::canon;

use super::isa::Kernel;
use super::lanes::LANES;
use super::memory::{Place, Shared};
use super::step::{Context, Pieces, Sharing};

/// Columns that are added side by side.
const STRIPE: usize = 64;

/// Which operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// (x [outer, n, inner], ids [outer, len, inner]) -> [outer, len, inner].
    Gather,
    /// (src [outer, len, inner], ids [outer, len, inner]) -> [outer, n, inner].
    ScatterAdd,
}

/// Elements chosen along an axis.
#[derive(Debug)]
pub(super) struct Choose {
    /// Which operation.
    pub(super) kind: Kind,
    /// What is chosen from, or added.
    pub(super) values: Place,
    /// The indices.
    pub(super) ids: Place,
    /// outer, len, inner.
    pub(super) axes: [usize; 3],
    /// Number of elements an index may name.
    pub(super) n: usize,
    /// Result.
    pub(super) to: Place,
}

impl Choose {
    /// Stripes of a scattered result's columns.
    fn stripes(&self) -> usize {
        self.axes[2].div_ceil(STRIPE)
    }

    /// How rows of the result, or for sums stripes of columns, are shared out.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        let [outer, len, inner] = self.axes;
        match self.kind {
            Kind::Gather => Pieces::new(outer * len, 1, 4 * inner, sharing),
            Kind::ScatterAdd => {
                Pieces::new(outer * self.stripes(), 1, (4 * len + 2 * self.n) * inner.min(STRIPE), sharing)
            }
        }
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, units: Range<usize>) {
        let [values, ids, to] = [self.values, self.ids, self.to].map(|place| context.at(place));
        // SAFETY: owed by the caller; a unit's results are its own.
        unsafe {
            match self.kind {
                Kind::Gather => self.gather(values, ids, to, units),
                Kind::ScatterAdd => units.for_each(|unit| self.scatter(values, ids, to, unit)),
            }
        }
    }

    /// Rows of the result, counted over outer and len.
    unsafe fn gather(&self, values: Shared, ids: Shared, to: Shared, rows: Range<usize>) {
        let ([_, len, inner], n) = (self.axes, self.n);
        let mut row = rows.start;
        while row < rows.end {
            // Those of one part of the values.
            let count = (len - row % len).min(rows.end - row);
            let first = row / len * n * inner;
            // SAFETY: owed by the caller.
            unsafe {
                let values = values.read(first, n * inner);
                let (ids, to) = (ids.read_int(row * inner, count * inner), to.write(row * inner, count * inner));
                if inner == 1 {
                    for (&id, to) in ids.iter().zip(to) {
                        *to = index(id).and_then(|id| values.get(id)).copied().unwrap_or(0.0);
                    }
                } else {
                    for (ids, to) in ids.chunks_exact(inner).zip(to.chunks_exact_mut(inner)) {
                        for (j, (&id, to)) in ids.iter().zip(to).enumerate() {
                            let named = index(id).and_then(|id| values.get(id * inner + j));
                            *to = named.copied().unwrap_or(0.0);
                        }
                    }
                }
            }
            row += count;
        }
    }

    /// One stripe of columns of the result.
    unsafe fn scatter(&self, values: Shared, ids: Shared, to: Shared, unit: usize) {
        let ([_, len, inner], n) = (self.axes, self.n);
        let (outer, first) = (unit / self.stripes(), unit % self.stripes() * STRIPE);
        let width = STRIPE.min(inner - first);
        // SAFETY: owed by the caller.
        unsafe {
            if inner == 1 {
                let to = to.write(outer * n, n);
                to.fill(0.0);
                for (&id, &x) in ids.read_int(outer * len, len).iter().zip(values.read(outer * len, len)) {
                    if let Some(sum) = index(id).and_then(|id| to.get_mut(id)) {
                        *sum += x;
                    }
                }
                return to.iter_mut().for_each(|x| *x = canon(*x));
            }
            let row = |i: usize| to.write((outer * n + i) * inner + first, width);
            (0..n).for_each(|i| row(i).fill(0.0));
            for i in 0..len {
                let at = (outer * len + i) * inner + first;
                let pairs = ids.read_int(at, width).iter().zip(values.read(at, width));
                for (j, (&id, &x)) in pairs.enumerate() {
                    if let Some(id) = index(id).filter(|&id| id < n) {
                        // An index in range stays inside this unit's results.
                        *to.at((outer * n + id) * inner + first + j) += x;
                    }
                }
            }
            (0..n).for_each(|i| row(i).iter_mut().for_each(|x| *x = canon(*x)));
        }
    }
}

/// An id as an index, unless it is negative.
#[inline(always)]
fn index(id: i32) -> Option<usize> {
    usize::try_from(id).ok()
}

/// Indices of the `k` largest of each of `rows` rows of `n`.
#[derive(Debug)]
pub(super) struct TopK {
    /// Number of rows.
    pub(super) rows: usize,
    /// Elements of a row.
    pub(super) n: usize,
    /// Indices of a row.
    pub(super) k: usize,
    /// Operand.
    pub(super) from: Place,
    /// Result, integers.
    pub(super) to: Place,
}

impl TopK {
    /// How rows are shared out.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        let comparisons = (usize::BITS - self.k.leading_zeros()) as usize;
        Pieces::new(self.rows, 1, self.n * (4 + 4 * comparisons), sharing)
    }

    /// Elements of scratch that a worker needs: a key of 64 bits for each element of a row.
    pub(super) fn scratch(&self) -> usize {
        2 * self.n
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, scratch: Shared, rows: Range<usize>) {
        let (from, to) = (context.at(self.from), context.at(self.to));
        for row in rows {
            // SAFETY: the scratch is aligned for keys and has room for `n` of them; rows and results are this unit's.
            let (keys, x, to) = unsafe {
                let keys = std::slice::from_raw_parts_mut(scratch.at(0).cast::<u64>(), self.n);
                (keys, from.read(row * self.n, self.n), to.write_int(row * self.k, self.k))
            };
            let largest = &mut keys[..];
            let largest = if self.k <= FEW && self.k < self.n {
                context.level.run(Few { x, keys: &mut largest[..self.k] });
                &largest[..self.k]
            } else {
                keyed(x, largest);
                if self.k < self.n {
                    largest.select_nth_unstable(self.k);
                }
                largest[..self.k].sort_unstable();
                &largest[..self.k]
            };
            for (to, &key) in to.iter_mut().zip(largest) {
                // The low half of a key is an index of a row, below 2^31.
                *to = (key & 0x7fff_ffff) as i32;
            }
        }
    }
}

/// Most indices that are kept in order while a row is read.
const FEW: usize = 4;

/// A key for each element: the smaller, the earlier.
#[inline(always)]
fn keyed(x: &[f32], keys: &mut [u64]) {
    for (i, (key, &x)) in (0..).zip(keys.iter_mut().zip(x)) {
        *key = descending(x) << 32 | i;
    }
}

/// The smallest keys of a row, in order.
struct Few<'a> {
    x: &'a [f32],
    keys: &'a mut [u64],
}

impl Kernel for Few<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { x, keys } = self;
        let k = keys.len();
        keyed(&x[..k], keys);
        keys.sort_unstable();
        for first in (k..x.len()).step_by(LANES) {
            let group = &x[first..x.len().min(first + LANES)];
            // Equal to the last one is too late, so most groups are passed over.
            let last = x[(keys[k - 1] & 0x7fff_ffff) as usize];
            if group.iter().fold(false, |any, &x| any | (x > last)) {
                for (i, &x) in (first as u64..).zip(group) {
                    let key = descending(x) << 32 | i;
                    if key < keys[k - 1] {
                        let at = keys.partition_point(|&other| other < key);
                        keys.copy_within(at..k - 1, at + 1);
                        keys[at] = key;
                    }
                }
            }
        }
    }
}

/// A 32-bit number that is the smaller the larger x is.
fn descending(x: f32) -> u64 {
    let bits = x.to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 };
    u64::from(!ascending)
}
