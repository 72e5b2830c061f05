//! Matrix products in the order of the specification: operands rounded to 12 significant bits, k in chunks of 256,
//! each chunk summed from +0 in ascending k, chunk sums added in order, `canon` at the end.
//!
//! Vectors run across columns, so the order along k is kept for free; every product is exact, so a fused
//! multiply-add gives the bits of a multiplication and an addition. Blocks follow Goto and van de Geijn, *Anatomy of
//! high-performance matrix multiplication* (2008): a block of b is packed once and stays in the second-level cache,
//! a strip of a is packed when it is needed and stays in the first.
//!
//! *Invariant:* work is split over rows and columns of the result, never along k.

mod kernel;
mod pack;
mod unfold;

use std::ops::Range;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::backend::Isa;

pub(super) use self::pack::transpose4;
pub(super) use self::unfold::{OVERREAD, Run, unfolded};

use self::kernel::Tile;
use super::isa::{Kernel, Level};
use super::memory::Shared;

/// Length of a chunk of k, fixed by the specification.
pub(super) const CHUNK: usize = 256;
/// Columns of a packed block of b.
pub(super) const COLUMNS: usize = 512;
/// Rows of a whose packed strips are kept together.
const ROWS: usize = 96;
/// Distance of the rows of a packed strip of a: more than a chunk, so that rows do not fall on one cache set.
const STRIDE: usize = CHUNK + 16;
/// Most columns of a tile over all instruction sets.
const TILE_COLUMNS: usize = 32;

/// A matrix in memory: element (i, j) stands at `i * row + j * column`; one of the two is 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix {
    /// First element.
    pub(super) start: Shared,
    /// Distance of rows.
    pub(super) row: usize,
    /// Distance of columns.
    pub(super) column: usize,
}

impl Matrix {
    /// A row-major matrix with rows of `width`, or its transpose.
    pub(super) fn new(start: Shared, width: usize, transposed: bool) -> Self {
        if transposed { Self { start, row: 1, column: width } } else { Self { start, row: width, column: 1 } }
    }

    /// The part of the matrix from element (i, j).
    ///
    /// # Safety
    /// (i, j) lies in the matrix.
    pub(super) unsafe fn from(self, i: usize, j: usize) -> Self {
        // SAFETY: owed by the caller.
        Self { start: Shared::new(unsafe { self.start.at(i * self.row + j * self.column) }), ..self }
    }
}

/// A whole right operand, packed before: it serves several products.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    start: Shared,
    /// Rows and columns of the operand.
    rows: usize,
    columns: usize,
    /// Where the product's part starts: a row (a multiple of [`CHUNK`], or the product stays within a chunk), and a
    /// column that is a multiple of [`TILE_COLUMNS`].
    row: usize,
    column: usize,
}

impl Packed {
    /// Elements that a packed operand takes.
    pub(super) fn len(rows: usize, columns: usize) -> usize {
        rows * columns.next_multiple_of(TILE_COLUMNS)
    }

    /// Packs `b` [rows, columns] at `to`.
    ///
    /// # Safety
    /// All of b may be read, and [`Packed::len`] elements of `to` written, for nobody else.
    pub(super) unsafe fn new(level: Level, b: Matrix, rows: usize, columns: usize, to: Shared) -> Self {
        // SAFETY: owed by the caller.
        unsafe { Self::pack(level, b, rows, columns, to, 0..rows.div_ceil(CHUNK)) };
        Self::at(to, rows, columns)
    }

    /// An operand [rows, columns] that was packed at `start`.
    pub(super) fn at(start: Shared, rows: usize, columns: usize) -> Self {
        Self { start, rows, columns, row: 0, column: 0 }
    }

    /// Packs some chunks of rows of `b` [rows, columns] into their part of the room at `to`.
    ///
    /// # Safety
    /// As for [`Packed::new`], for those chunks.
    pub(super) unsafe fn pack(level: Level, b: Matrix, rows: usize, columns: usize, to: Shared, chunks: Range<usize>) {
        let pack = PackChunks { b, rows, columns, to, chunks };
        match level.isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => level.run((pack, kernel::Avx512)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => level.run((pack, kernel::Avx2)),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => level.run((pack, kernel::Neon)),
            _ => level.run((pack, kernel::Portable)),
        }
    }

    /// The part from a row and a column.
    pub(super) fn from(self, row: usize, column: usize) -> Self {
        Self { row, column, ..self }
    }

    /// First panel of the chunk of row `row + p`, at column `column + j`, and how deep the chunk was packed.
    #[inline(always)]
    unsafe fn block<T: Tile>(&self, p: usize, j: usize) -> (Shared, usize) {
        let (row, column) = (self.row + p, self.column + j);
        let (chunk, within) = (row / CHUNK * CHUNK, row % CHUNK);
        let depth = CHUNK.min(self.rows - chunk);
        let width = self.columns.next_multiple_of(T::COLUMNS);
        // SAFETY: row and column lie in the operand, whose chunks follow each other.
        (Shared::new(unsafe { self.start.at(chunk * width + column * depth + within * T::COLUMNS) }), depth)
    }
}

struct PackChunks {
    b: Matrix,
    rows: usize,
    columns: usize,
    to: Shared,
    chunks: Range<usize>,
}

impl<T: Tile> Kernel for (PackChunks, T) {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let PackChunks { b, rows, columns, to, chunks } = self.0;
        for p in chunks.map(|chunk| chunk * CHUNK) {
            // SAFETY: `Packed::new` was promised the operand and the room.
            unsafe {
                let block = Shared::new(to.at(p * columns.next_multiple_of(T::COLUMNS)));
                pack::columns::<T>(b.from(p, 0), CHUNK.min(rows - p), columns, block);
            }
        }
    }
}

/// A right operand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Right {
    /// To be packed.
    Matrix(Matrix),
    /// Packed before.
    Packed(Packed),
}

/// c [m, n] = a [m, k] · b [k, n].
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    /// Rows of the result.
    pub(super) m: usize,
    /// Columns of the result.
    pub(super) n: usize,
    /// Length of the contraction.
    pub(super) k: usize,
    /// Left operand.
    pub(super) a: Matrix,
    /// Right operand.
    pub(super) b: Right,
    /// First element of the result.
    pub(super) c: Shared,
    /// Distance of the result's rows.
    pub(super) c_row: usize,
    /// Whether `c` holds the total of earlier chunks, to which these are added.
    pub(super) continues: bool,
    /// Whether no more chunks follow: `canon`.
    pub(super) ends: bool,
}

/// Room for the packed rows of any product, in elements.
pub(super) const STRIP: usize = ROWS * STRIDE;

/// Room for the packed operands of products of at most this size, in elements.
pub(super) fn scratch(n: usize, k: usize) -> usize {
    STRIP + k.min(CHUNK) * n.min(COLUMNS).next_multiple_of(TILE_COLUMNS)
}

/// How many rows and columns the tiles have at this level: the units in which work is split.
pub(super) fn tile(level: Level) -> (usize, usize) {
    match level.isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => (kernel::Avx512::ROWS, kernel::Avx512::COLUMNS),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => (kernel::Avx2::ROWS, kernel::Avx2::COLUMNS),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => (kernel::Neon::ROWS, kernel::Neon::COLUMNS),
        _ => (kernel::Portable::ROWS, kernel::Portable::COLUMNS),
    }
}

impl Product {
    /// Computes the product on this thread.
    ///
    /// # Safety
    /// All of a and b may be read and all of c written; c overlaps neither. `scratch` has the room that
    /// [`scratch`] tells ([`STRIP`] when b is packed), for nobody else.
    pub(super) unsafe fn compute(&self, level: Level, scratch: Shared) {
        let product = *self;
        match level.isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => level.run(Blocks { product, scratch, tile: kernel::Avx512 }),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => level.run(Blocks { product, scratch, tile: kernel::Avx2 }),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => level.run(Blocks { product, scratch, tile: kernel::Neon }),
            _ => level.run(Blocks { product, scratch, tile: kernel::Portable }),
        }
    }
}

/// The loops around the tile.
struct Blocks<T> {
    product: Product,
    scratch: Shared,
    tile: T,
}

impl<T: Tile> Kernel for Blocks<T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Product { n, k, .. } = self.product;
        for p in (0..k).step_by(CHUNK) {
            for j in (0..n).step_by(COLUMNS) {
                // SAFETY: all indices are below m, n and k, within which `compute` was promised the operands.
                unsafe { self.block(p, CHUNK.min(k - p), j, COLUMNS.min(n - j)) };
            }
        }
    }
}

impl<T: Tile> Blocks<T> {
    /// A chunk of some columns of b, against all of a.
    #[inline(always)]
    unsafe fn block(&self, p: usize, depth: usize, j: usize, width: usize) {
        let Product { m, a, b, .. } = self.product;
        // SAFETY: owed by the caller; the strips and the panels have their room in the scratch.
        unsafe {
            let strips = self.scratch;
            let panels = match b {
                Right::Packed(packed) => packed.block::<T>(p, j),
                Right::Matrix(b) => {
                    let panels = Shared::new(self.scratch.at(STRIP));
                    pack::columns::<T>(b.from(p, j), depth, width, panels);
                    (panels, depth)
                }
            };
            for i in (0..m).step_by(ROWS) {
                let height = ROWS.min(m - i);
                if a.column != 1 {
                    pack::strips::<T>(a.from(i, p), height, m - i - height, depth, strips);
                }
                for r in (0..height).step_by(T::ROWS) {
                    let rows = T::ROWS.min(height - r);
                    let strip = Shared::new(strips.at(r * STRIDE));
                    if a.column == 1 {
                        pack::rows::<T>(a.from(i + r, p), rows, depth, strip);
                    }
                    self.strip(i + r, rows, p, depth, j, width, strip, panels);
                }
            }
        }
    }

    /// All tiles of one packed strip of rows against one packed block of columns.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn strip(
        &self,
        i: usize,
        rows: usize,
        p: usize,
        depth: usize,
        j: usize,
        width: usize,
        strip: Shared,
        (block, block_depth): (Shared, usize),
    ) {
        let product = &self.product;
        let first = p == 0 && !product.continues;
        let last = p + depth == product.k && product.ends;
        let by_rows = product.a.column == 1;
        for panel in (0..width).step_by(T::COLUMNS) {
            let columns = T::COLUMNS.min(width - panel);
            // SAFETY: the panel starts inside the block, and rows and columns of the result are below m and n.
            unsafe {
                let start = product.c.at(i * product.c_row + j + panel);
                let result = kernel::Result { start, row: product.c_row, first, last };
                let packed = block.at(panel * block_depth);
                self.tile.compute(rows, columns, by_rows, depth, strip.at(0), packed, &result);
            }
        }
    }
}

#[cfg(test)]
mod tests;
