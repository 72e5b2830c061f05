//! Elements chosen by integers: embeddings, taken elements and their gradients.
//!
//! *Invariant:* what is added to one element is added in ascending position, whoever does it.

use std::ops::Range;

use crate::number::canon;

use super::isa::Kernel;
use super::memory::{Place, Shared};
use super::step::{Context, Pieces};

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
}

impl Indexed {
    /// How positions (for an embedding's gradient: stripes of columns) are shared out.
    pub(super) fn pieces(&self, threads: usize) -> Pieces {
        match self.kind {
            Kind::Embedding => Pieces::new(self.count, 1, self.width, threads),
            Kind::EmbeddingGrad => {
                let cost = (self.count + self.rows) * STRIPE.min(self.width);
                Pieces::new(self.width.div_ceil(STRIPE), 1, cost, threads)
            }
            Kind::Take => Pieces::new(self.count, 1, 4, threads),
            Kind::TakeGrad => Pieces::new(self.count, 1, self.rows, threads),
        }
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, units: Range<usize>) {
        let at = |place| context.at(place);
        context.level.run(Units { indexed: self, values: at(self.values), ids: at(self.ids), to: at(self.to), units });
    }
}

struct Units<'a> {
    indexed: &'a Indexed,
    values: Shared,
    ids: Shared,
    to: Shared,
    units: Range<usize>,
}

impl Kernel for Units<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let &Indexed { kind, count, rows, width, .. } = self.indexed;
        // An index that names nothing is none.
        let named = |id: i32| usize::try_from(id).ok().filter(|&id| id < rows);
        let Self { values, to, units, .. } = self;
        // SAFETY: `Indexed::run` was promised the tensors; a unit's results are its own.
        unsafe {
            let ids = self.ids.read_int(0, count);
            match kind {
                Kind::Embedding => units.for_each(|i| {
                    let to = to.write(i * width, width);
                    match named(ids[i]) {
                        Some(row) => to.copy_from_slice(values.read(row * width, width)),
                        None => to.fill(0.0),
                    }
                }),
                Kind::Take => units.for_each(|i| {
                    to.write(i, 1)[0] = named(ids[i]).map_or(0.0, |at| *values.at(i * rows + at));
                }),
                Kind::TakeGrad => units.for_each(|i| {
                    let to = to.write(i * rows, rows);
                    to.fill(0.0);
                    if let Some(at) = named(ids[i]) {
                        to[at] = *values.at(i);
                    }
                }),
                Kind::EmbeddingGrad => units.for_each(|stripe| {
                    let first = stripe * STRIPE;
                    let columns = STRIPE.min(width - first);
                    (0..rows).for_each(|row| to.write(row * width + first, columns).fill(0.0));
                    for (i, &id) in ids.iter().enumerate() {
                        if let Some(row) = named(id) {
                            let dy = values.read(i * width + first, columns);
                            let to = to.write(row * width + first, columns);
                            to.iter_mut().zip(dy).for_each(|(to, &dy)| *to += dy);
                        }
                    }
                    for row in 0..rows {
                        to.write(row * width + first, columns).iter_mut().for_each(|to| *to = canon(*to));
                    }
                }),
            }
        }
    }
}
