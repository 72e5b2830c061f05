//! Copies operands into the order in which a tile reads them, rounding each element to 12 significant bits.

use crate::number::round12;

use super::super::memory::Shared;
use super::kernel::Tile;
use super::{CHUNK, Matrix, STRIDE, TILE_ROWS};

/// Packs `rows` rows of `depth` elements: as rows [`STRIDE`] apart when they are contiguous in memory, else as
/// columns `T::ROWS` apart. `below` rows follow these in memory.
///
/// # Safety
/// The elements may be read, those of the rows below too; `strip` has room for a strip.
#[inline(always)]
pub(super) unsafe fn rows<T: Tile>(a: Matrix, rows: usize, below: usize, depth: usize, strip: Shared) {
    const { assert!(CHUNK * T::ROWS + T::LOAD <= TILE_ROWS * STRIDE) };
    if a.column == 1 {
        for i in 0..rows {
            // SAFETY: owed by the caller.
            let (from, to) = unsafe { (a.start.read(i * a.row, depth), strip.write(i * STRIDE, depth)) };
            round(to, from);
        }
    } else if rows + below >= T::LOAD {
        // Whole registers: what is too much of one column is written over by the next.
        for k in 0..depth {
            // SAFETY: owed by the caller; `T::LOAD` rows are there, and the strip has room for them.
            let (from, to) = unsafe { (a.start.read(k * a.column, T::LOAD), strip.write(k * T::ROWS, T::LOAD)) };
            for (to, &x) in to.iter_mut().zip(&from[..T::LOAD]) {
                *to = round12(x);
            }
        }
    } else {
        for k in 0..depth {
            // SAFETY: owed by the caller; CHUNK · T::ROWS elements fit a strip.
            let (from, to) = unsafe { (a.start.read(k * a.column, rows), strip.write(k * T::ROWS, rows)) };
            round(to, from);
        }
    }
}

/// Packs `depth` rows of `width` elements into panels of `T::COLUMNS` columns, each `depth` rows long; the columns
/// that the last one lacks are zeros.
///
/// # Safety
/// The elements may be read; `block` has room for the panels.
#[inline(always)]
pub(super) unsafe fn columns<T: Tile>(b: Matrix, depth: usize, width: usize, block: Shared) {
    debug_assert!(depth <= CHUNK);
    for j in (0..width).step_by(T::COLUMNS) {
        let columns = T::COLUMNS.min(width - j);
        // SAFETY: owed by the caller.
        unsafe {
            let panel = block.write(j * depth, depth * T::COLUMNS);
            let b = b.from(0, j);
            if b.column == 1 {
                contiguous::<T>(b, columns, panel);
            } else {
                if columns < T::COLUMNS {
                    panel.fill(0.0);
                }
                transposed::<T>(b, depth, columns, panel);
                for x in panel.iter_mut() {
                    *x = round12(*x);
                }
            }
        }
    }
}

/// A panel from rows that are contiguous in memory.
#[inline(always)]
unsafe fn contiguous<T: Tile>(b: Matrix, columns: usize, panel: &mut [f32]) {
    for (k, to) in panel.chunks_exact_mut(T::COLUMNS).enumerate() {
        // SAFETY: owed by the caller of `columns`.
        let from = unsafe { b.start.read(k * b.row, columns) };
        if columns == T::COLUMNS {
            round(to, &from[..T::COLUMNS]);
        } else {
            round(&mut to[..columns], from);
            to[columns..].fill(0.0);
        }
    }
}

/// A panel from columns that are contiguous in memory, not rounded yet.
#[inline(always)]
unsafe fn transposed<T: Tile>(b: Matrix, depth: usize, columns: usize, panel: &mut [f32]) {
    let (whole_columns, whole_depth) = (columns / 4 * 4, depth / 4 * 4);
    for j in (0..whole_columns).step_by(4) {
        for k in (0..whole_depth).step_by(4) {
            let to = &mut panel[k * T::COLUMNS + j..][..3 * T::COLUMNS + 4];
            // SAFETY: four columns from j and four rows from k lie in the matrix, and in the panel.
            unsafe {
                let from = [0, 1, 2, 3].map(|c| b.start.at((j + c) * b.column + k).cast_const());
                transpose4(from, to.as_mut_ptr(), T::COLUMNS);
            }
        }
    }
    for j in 0..columns {
        let rest = if j < whole_columns { whole_depth } else { 0 };
        // SAFETY: owed by the caller of `columns`.
        let from = unsafe { b.start.read(j * b.column, depth) };
        for k in rest..depth {
            panel[k * T::COLUMNS + j] = from[k];
        }
    }
}

/// Writes four columns of four as four rows, `stride` apart.
///
/// # Safety
/// Four elements may be read at each of `from`, and written at `to + 0..4 * stride`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(in super::super) unsafe fn transpose4(from: [*const f32; 4], to: *mut f32, stride: usize) {
    use std::arch::x86_64::{
        _mm_loadu_ps, _mm_movehl_ps, _mm_movelh_ps, _mm_storeu_ps, _mm_unpackhi_ps, _mm_unpacklo_ps,
    };
    // SAFETY: SSE is part of x86-64; the caller owes the rest.
    unsafe {
        let [a, b, c, d] = from.map(|column| _mm_loadu_ps(column));
        let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
        let (ab_high, cd_high) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
        _mm_storeu_ps(to, _mm_movelh_ps(ab, cd));
        _mm_storeu_ps(to.add(stride), _mm_movehl_ps(cd, ab));
        _mm_storeu_ps(to.add(2 * stride), _mm_movelh_ps(ab_high, cd_high));
        _mm_storeu_ps(to.add(3 * stride), _mm_movehl_ps(cd_high, ab_high));
    }
}

/// Writes four columns of four as four rows, `stride` apart.
///
/// # Safety
/// Four elements may be read at each of `from`, and written at `to + 0..4 * stride`.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(in super::super) unsafe fn transpose4(from: [*const f32; 4], to: *mut f32, stride: usize) {
    for (j, column) in from.iter().enumerate() {
        for k in 0..4 {
            // SAFETY: owed by the caller.
            unsafe { *to.add(k * stride + j) = *column.add(k) };
        }
    }
}

#[inline(always)]
fn round(to: &mut [f32], from: &[f32]) {
    for (to, &x) in to.iter_mut().zip(from) {
        *to = round12(x);
    }
}
