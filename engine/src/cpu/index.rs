//! Elements chosen by integers: embeddings, taken elements and their gradients.
//!
//! *Invariant:* what is added to one element is added in ascending position, whoever does it.

use std::ops::Range;

use crate::number::canon;

use super::isa::Kernel;
use super::memory::{Place, Shared};
use super::step::{Context, Pieces, Sharing, Slice};

/// Columns of an embedding's gradient that are added side by side.
const STRIPE: usize = 64;

/// Which operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// (table [rows, width], ids [count]) -> [count, width].
    Embedding,
    /// (dy [count, width], ids [count]) -> [rows, width].
    EmbeddingGrad,
    /// (x [count, rows], ids [count]) -> [count].
    Take,
    /// (dy [count], ids [count]) -> [count, rows].
    TakeGrad,
}

/// An operation with indices.
#[derive(Debug)]
pub(super) struct Indexed {
    /// Which one.
    pub(super) kind: Kind,
    /// The floats it reads.
    pub(super) values: Place,
    /// The indices.
    pub(super) ids: Place,
    /// Number of indices.
    pub(super) count: usize,
    /// Number of things an index may name.
    pub(super) rows: usize,
    /// Elements of each.
    pub(super) width: usize,
    /// Result.
    pub(super) to: Place,
    /// Whether an embedding's gradient runs over all slices of the batch.
    pub(super) over_slices: bool,
}

impl Indexed {
    /// How positions (for an embedding's gradient: stripes of columns) are shared out.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        match self.kind {
            Kind::Embedding => Pieces::new(self.count, 1, self.width, sharing),
            Kind::EmbeddingGrad => {
                let cost = (self.count + self.rows) * STRIPE.min(self.width);
                Pieces::new(self.width.div_ceil(STRIPE), 1, cost, sharing)
            }
            Kind::Take => Pieces::new(self.count, 1, 4, sharing),
            Kind::TakeGrad => Pieces::new(self.count, 1, self.rows, sharing),
        }
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, units: Range<usize>) {
        let at = |place| context.at(place);
        let slice = if self.over_slices { context.slice } else { Slice::WHOLE };
        let (values, ids, to) = (at(self.values), at(self.ids), at(self.to));
        context.level.run(Units { indexed: self, values, ids, to, units, slice });
    }
}

struct Units<'a> {
    indexed: &'a Indexed,
    values: Shared,
    ids: Shared,
    to: Shared,
    units: Range<usize>,
    slice: Slice,
}

impl Kernel for Units<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for unit in self.units.clone() {
            // SAFETY: `Indexed::run` was promised the tensors; a unit's results are its own.
            unsafe {
                match self.indexed.kind {
                    Kind::EmbeddingGrad => self.stripe(unit),
                    _ => self.position(unit),
                }
            }
        }
    }
}

impl Units<'_> {
    /// What the index at a position names, if it names anything.
    #[inline(always)]
    unsafe fn named(&self, i: usize) -> Option<usize> {
        // SAFETY: owed by the caller.
        let id = unsafe { self.ids.read_int(i, 1)[0] };
        usize::try_from(id).ok().filter(|&id| id < self.indexed.rows)
    }

    #[inline(always)]
    unsafe fn position(&self, i: usize) {
        let &Indexed { kind, rows, width, .. } = self.indexed;
        let Self { values, to, .. } = self;
        // SAFETY: owed by the caller.
        unsafe {
            let named = self.named(i);
            match kind {
                Kind::Embedding => {
                    let to = to.write(i * width, width);
                    match named {
                        Some(row) => to.copy_from_slice(values.read(row * width, width)),
                        None => to.fill(0.0),
                    }
                }
                Kind::Take => to.write(i, 1)[0] = named.map_or(0.0, |at| *values.at(i * rows + at)),
                Kind::TakeGrad => {
                    let to = to.write(i * rows, rows);
                    to.fill(0.0);
                    if let Some(at) = named {
                        to[at] = *values.at(i);
                    }
                }
                Kind::EmbeddingGrad => {}
            }
        }
    }

    /// Some columns of an embedding's gradient.
    #[inline(always)]
    unsafe fn stripe(&self, stripe: usize) {
        let &Indexed { count, rows, width, .. } = self.indexed;
        let first = stripe * STRIPE;
        let columns = STRIPE.min(width - first);
        // SAFETY: owed by the caller.
        unsafe {
            let to = |row: usize| self.to.write(row * width + first, columns);
            if self.slice.is_first() {
                (0..rows).for_each(|row| to(row).fill(0.0));
            }
            for i in 0..count {
                if let Some(row) = self.named(i) {
                    let dy = self.values.read(i * width + first, columns);
                    for (to, &dy) in to(row).iter_mut().zip(dy) {
                        *to += dy;
                    }
                }
            }
            if self.slice.is_last() {
                for row in 0..rows {
                    for to in to(row) {
                        *to = canon(*to);
                    }
                }
            }
        }
    }
}
