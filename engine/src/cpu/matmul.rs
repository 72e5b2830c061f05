//! A matrix-product node: one product, or one for each element of a leading axis.

use std::ops::Range;

use super::gemm::{self, Matrix, Packed, Product, Right};
use super::isa::Level;
use super::memory::{Place, Shared};
use super::step::{Context, Pieces, Sharing, Slice};

/// Products with fewer rows or columns are narrow.
const NARROW: usize = 192;
/// Multiplications with additions that take as long as a simple operation.
const FLOPS: usize = 4;

/// c [batch, m, n] = a [batch, m, k] · b [batch, k, n], either operand stored transposed.
#[derive(Debug)]
pub(super) struct MatMul {
    /// Number of products.
    pub(super) batch: usize,
    /// Rows of the result.
    pub(super) m: usize,
    /// Columns of the result.
    pub(super) n: usize,
    /// Length of the contraction.
    pub(super) k: usize,
    /// Left operand, and whether it is stored transposed.
    pub(super) a: (Place, bool),
    /// Right operand, and whether it is stored transposed.
    pub(super) b: (Place, bool),
    /// Result.
    pub(super) c: Place,
    /// Whether the contraction runs over all slices of the batch, each of which has whole chunks.
    pub(super) over_slices: bool,
    /// Where the right operand was packed before, if it was.
    pub(super) packed: Option<Place>,
    /// Rows and columns of the parts in which a product is split: the units of [`Pieces`].
    pub(super) part: (usize, usize),
}

impl MatMul {
    /// Settles how products are split. One thread takes each product whole; more share its rows or, when there are
    /// more of those, its columns. Each part packs the other operand again, so narrow products have fewer parts.
    pub(super) fn split(&mut self, sharing: Sharing, level: Level) {
        let Self { batch, m, n, k, .. } = *self;
        let pieces = sharing.pieces(batch * m * n * k / FLOPS);
        let pieces = if m.min(n) < NARROW { pieces.div_ceil(2) } else { pieces }.div_ceil(batch);
        let (rows, columns) = gemm::tile(level);
        self.part = match (pieces, m >= n) {
            (1, _) => (m, n),
            (_, true) => (m.div_ceil(pieces).next_multiple_of(rows), n),
            (_, false) => (m, n.div_ceil(pieces).next_multiple_of(columns)),
        };
    }

    fn parts(&self) -> (usize, usize) {
        (self.m.div_ceil(self.part.0), self.n.div_ceil(self.part.1))
    }

    /// How the parts are shared out.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        let (down, across) = self.parts();
        Pieces::new(
            self.batch * down * across,
            1,
            self.part.0.min(self.m) * self.part.1.min(self.n) * self.k / FLOPS,
            sharing,
        )
    }

    /// Elements of scratch that a worker needs.
    pub(super) fn scratch(&self) -> usize {
        if self.packed.is_some() { gemm::STRIP } else { gemm::scratch(self.part.1.min(self.n), self.k) }
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, scratch: Shared, parts: Range<usize>) {
        let Self { m, n, k, .. } = *self;
        let (down, across) = self.parts();
        let matrix = |(place, transposed): (Place, bool), rows: usize, columns: usize, index: usize| {
            // SAFETY: the operand has `batch` matrices of rows x columns.
            let start = Shared::new(unsafe { context.at(place).at(index * rows * columns) });
            Matrix::new(start, if transposed { rows } else { columns }, transposed)
        };
        let slice = if self.over_slices { context.slice } else { Slice::WHOLE };
        for part in parts {
            let (index, i, j) = (part / (down * across), part / across % down, part % across);
            let (i, j) = (i * self.part.0, j * self.part.1);
            // SAFETY: (i, j) is the first element of a part; the caller owes the rest.
            unsafe {
                Product {
                    m: self.part.0.min(m - i),
                    n: self.part.1.min(n - j),
                    k,
                    a: matrix(self.a, m, k, index).from(i, 0),
                    b: match self.packed {
                        Some(place) => Right::Packed(Packed::at(context.at(place), k, n).from(0, j)),
                        None => Right::Matrix(matrix(self.b, k, n, index).from(0, j)),
                    },
                    c: Shared::new(context.at(self.c).at(index * m * n + i * n + j)),
                    c_row: n,
                    continues: !slice.is_first(),
                    ends: slice.is_last(),
                }
                .compute(context.level, scratch);
            }
        }
    }
}

/// A right operand that is packed, and rounded, once for all slices of the batch.
#[derive(Debug)]
pub(super) struct Pack {
    /// Length of the contraction.
    pub(super) k: usize,
    /// Columns.
    pub(super) n: usize,
    /// The operand [k, n], and whether it is stored transposed.
    pub(super) b: (Place, bool),
    /// Where it goes: [`Packed::len`] elements.
    pub(super) to: Place,
}

impl Pack {
    /// A unit is a chunk of k.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        Pieces::new(self.k.div_ceil(gemm::CHUNK), 1, gemm::CHUNK.min(self.k) * self.n, sharing)
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, chunks: Range<usize>) {
        let (place, transposed) = self.b;
        let b = Matrix::new(context.at(place), if transposed { self.k } else { self.n }, transposed);
        // SAFETY: the operand and the room are as the planner settled; chunks go to stretches of their own.
        unsafe { Packed::pack(context.level, b, self.k, self.n, context.at(self.to), chunks) };
    }
}
