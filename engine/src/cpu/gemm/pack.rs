//! Copies operands into the order in which a tile reads them, rounding each element to 12 significant bits.

use super::super::memory::Shared;
use super::kernel::Tile;
use super::{CHUNK, Matrix, STRIDE};

/// Columns of a, or rows of b, that are packed side by side.
const SWEEP: usize = 8;

/// Packs `rows` rows of `depth` elements that are contiguous in memory, as rows [`STRIDE`] apart.
///
/// # Safety
/// The elements may be read; `strip` has room for a strip.
#[inline(always)]
pub(super) unsafe fn rows<T: Tile>(a: Matrix, rows: usize, depth: usize, strip: Shared) {
    for i in 0..rows {
        // SAFETY: owed by the caller.
        unsafe { round::<T>(a.start.at(i * a.row), strip.at(i * STRIDE), depth) };
    }
}

/// Packs `rows` rows of `depth` elements whose columns are contiguous in memory, into strips of `T::ROWS`
/// rows: as columns `T::ROWS` apart. `below` rows follow these in memory.
///
/// # Safety
/// The elements may be read, those of the rows below too; `strips` has room for the strips.
#[inline(always)]
pub(super) unsafe fn strips<T: Tile>(a: Matrix, rows: usize, below: usize, depth: usize, strips: Shared) {
    const { assert!(CHUNK * T::ROWS + T::LOAD <= T::ROWS * STRIDE) };
    // A few columns at a time, so that each cache line is read once and yet a strip is written in long runs.
    for first in (0..depth).step_by(SWEEP) {
        let columns = first..depth.min(first + SWEEP);
        for i in (0..rows).step_by(T::ROWS) {
            let (height, after) = (T::ROWS.min(rows - i), rows + below - i);
            for k in columns.clone() {
                // SAFETY: owed by the caller; `T::LOAD` rows are there, and the strip has room for them.
                unsafe {
                    let (from, to) = (a.start.at(k * a.column + i), strips.at(i * STRIDE + k * T::ROWS));
                    if after >= T::LOAD {
                        // A whole register: what is too much of one column is written over by the next.
                        T::round(from, to);
                    } else {
                        T::round_some(from, to, height);
                    }
                }
            }
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
    if b.column != 1 {
        for j in (0..width).step_by(T::COLUMNS) {
            // SAFETY: owed by the caller.
            unsafe {
                let panel = block.write(j * depth, depth * T::COLUMNS);
                transposed::<T>(b.from(0, j), depth, T::COLUMNS.min(width - j), panel);
            }
        }
        return;
    }
    for first in (0..depth).step_by(SWEEP) {
        for j in (0..width).step_by(T::COLUMNS) {
            let columns = T::COLUMNS.min(width - j);
            for k in first..depth.min(first + SWEEP) {
                // SAFETY: owed by the caller.
                unsafe {
                    let (from, to) = (b.start.at(k * b.row + j), block.at(j * depth + k * T::COLUMNS));
                    if columns == T::COLUMNS {
                        (0..T::COLUMNS).step_by(T::LOAD).for_each(|v| T::round(from.add(v), to.add(v)));
                    } else {
                        round::<T>(from, to, columns);
                        std::slice::from_raw_parts_mut(to.add(columns), T::COLUMNS - columns).fill(0.0);
                    }
                }
            }
        }
    }
}

/// A panel from columns that are contiguous in memory.
#[inline(always)]
unsafe fn transposed<T: Tile>(b: Matrix, depth: usize, columns: usize, panel: &mut [f32]) {
    let (whole_columns, whole_depth) = (columns / 4 * 4, depth / 4 * 4);
    if columns < T::COLUMNS {
        panel.fill(0.0);
    }
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
    let all = panel.as_mut_ptr();
    // SAFETY: the panel's own elements.
    unsafe { round::<T>(all, all, panel.len()) };
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

/// Rounds elements to operands.
///
/// # Safety
/// They may be read and written.
#[inline(always)]
unsafe fn round<T: Tile>(from: *const f32, to: *mut f32, len: usize) {
    let whole = len / T::LOAD * T::LOAD;
    for i in (0..whole).step_by(T::LOAD) {
        // SAFETY: owed by the caller.
        unsafe { T::round(from.add(i), to.add(i)) };
    }
    if whole < len {
        // SAFETY: as above.
        unsafe { T::round_some(from.add(whole), to.add(whole), len - whole) };
    }
}
