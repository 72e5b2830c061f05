//! The innermost loops: one tile of the result over one chunk of k, all sums in registers.
//!
//! *Invariant:* each sum starts at +0 and takes k in ascending order.

use super::STRIDE;

/// A tile's shape and loop on one instruction set.
pub(super) trait Tile: Copy {
    /// Rows of a full tile.
    const ROWS: usize;
    /// Columns of a tile, and of a packed panel.
    const COLUMNS: usize;
    /// `ROWS` in whole registers.
    const LOAD: usize;

    /// Writes the sums of `rows` rows of `COLUMNS`; those past `columns` are worthless.
    ///
    /// # Safety
    /// `a` is a packed strip (by rows or by columns), `b` a packed panel, both `depth` deep; `sums` has
    /// room for a full tile; the processor has the instruction set.
    #[allow(clippy::too_many_arguments)]
    unsafe fn compute(
        self,
        rows: usize,
        columns: usize,
        by_rows: bool,
        depth: usize,
        a: *const f32,
        b: *const f32,
        sums: *mut f32,
    );
}

/// Offset of element (i, k) of a packed strip.
#[inline(always)]
const fn offset<const BY_ROWS: bool>(i: usize, k: usize, rows: usize) -> usize {
    if BY_ROWS { i * STRIDE + k } else { k * rows + i }
}

/// Calls `$f::<rows, vectors, by_rows>` with constants for the run-time values.
macro_rules! by_constants {
    ($f:ident, $rows:expr, $wide:expr, $by_rows:expr, [$($n:literal)+], $args:tt) => {
        match ($rows, $wide, $by_rows) {
            $(
                ($n, true, true) => by_constants!(@call $f, $n, 2, true, $args),
                ($n, true, false) => by_constants!(@call $f, $n, 2, false, $args),
                ($n, false, true) => by_constants!(@call $f, $n, 1, true, $args),
                ($n, false, false) => by_constants!(@call $f, $n, 1, false, $args),
            )+
            _ => unreachable!("a tile has no more rows"),
        }
    };
    (@call $f:ident, $n:literal, $vectors:literal, $by_rows:literal, ($($args:expr),*)) => {
        $f::<$n, $vectors, $by_rows>($($args),*)
    };
}

/// 12 x 32 in 24 of 32 registers.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx512;

#[cfg(target_arch = "x86_64")]
impl Tile for Avx512 {
    const ROWS: usize = 12;
    const COLUMNS: usize = 32;
    const LOAD: usize = 16;

    #[inline(always)]
    unsafe fn compute(
        self,
        rows: usize,
        columns: usize,
        by_rows: bool,
        depth: usize,
        a: *const f32,
        b: *const f32,
        sums: *mut f32,
    ) {
        // SAFETY: owed by the caller.
        unsafe { by_constants!(avx512, rows, columns > 16, by_rows, [1 2 3 4 5 6 7 8 9 10 11 12], (depth, a, b, sums)) }
    }
}

/// # Safety
/// As for [`Tile::compute`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const ROWS: usize, const VECTORS: usize, const BY_ROWS: bool>(
    depth: usize,
    a: *const f32,
    b: *const f32,
    sums: *mut f32,
) {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps};
    const { assert!(ROWS <= Avx512::ROWS && 16 * VECTORS <= Avx512::COLUMNS) };
    let mut total = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    for k in 0..depth {
        // SAFETY: k < depth, within the strip and the panel.
        unsafe {
            let mut row = [_mm512_setzero_ps(); VECTORS];
            for (v, row) in row.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(b.add(k * Avx512::COLUMNS + 16 * v));
            }
            for (i, total) in total.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(offset::<BY_ROWS>(i, k, Avx512::ROWS)));
                for (total, &row) in total.iter_mut().zip(&row) {
                    *total = _mm512_fmadd_ps(x, row, *total);
                }
            }
        }
    }
    for (i, total) in total.iter().enumerate() {
        for (v, &total) in total.iter().enumerate() {
            // SAFETY: ROWS · COLUMNS elements fit the sums.
            unsafe { _mm512_storeu_ps(sums.add(i * Avx512::COLUMNS + 16 * v), total) };
        }
    }
}

/// 6 x 16 in 12 of 16 registers.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Tile for Avx2 {
    const ROWS: usize = 6;
    const COLUMNS: usize = 16;
    const LOAD: usize = 8;

    #[inline(always)]
    unsafe fn compute(
        self,
        rows: usize,
        columns: usize,
        by_rows: bool,
        depth: usize,
        a: *const f32,
        b: *const f32,
        sums: *mut f32,
    ) {
        // SAFETY: owed by the caller.
        unsafe { by_constants!(avx2, rows, columns > 8, by_rows, [1 2 3 4 5 6], (depth, a, b, sums)) }
    }
}

/// # Safety
/// As for [`Tile::compute`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const ROWS: usize, const VECTORS: usize, const BY_ROWS: bool>(
    depth: usize,
    a: *const f32,
    b: *const f32,
    sums: *mut f32,
) {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps};
    const { assert!(ROWS <= Avx2::ROWS && 8 * VECTORS <= Avx2::COLUMNS) };
    let mut total = [[_mm256_setzero_ps(); VECTORS]; ROWS];
    for k in 0..depth {
        // SAFETY: k < depth, within the strip and the panel.
        unsafe {
            let mut row = [_mm256_setzero_ps(); VECTORS];
            for (v, row) in row.iter_mut().enumerate() {
                *row = _mm256_loadu_ps(b.add(k * Avx2::COLUMNS + 8 * v));
            }
            for (i, total) in total.iter_mut().enumerate() {
                let x = _mm256_set1_ps(*a.add(offset::<BY_ROWS>(i, k, Avx2::ROWS)));
                for (total, &row) in total.iter_mut().zip(&row) {
                    *total = _mm256_fmadd_ps(x, row, *total);
                }
            }
        }
    }
    for (i, total) in total.iter().enumerate() {
        for (v, &total) in total.iter().enumerate() {
            // SAFETY: ROWS · COLUMNS elements fit the sums.
            unsafe { _mm256_storeu_ps(sums.add(i * Avx2::COLUMNS + 8 * v), total) };
        }
    }
}

/// 6 x 16 in 24 of 32 registers.
#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy)]
pub(super) struct Neon;

#[cfg(target_arch = "aarch64")]
impl Tile for Neon {
    const ROWS: usize = 6;
    const COLUMNS: usize = 16;
    const LOAD: usize = 8;

    #[inline(always)]
    unsafe fn compute(
        self,
        rows: usize,
        columns: usize,
        by_rows: bool,
        depth: usize,
        a: *const f32,
        b: *const f32,
        sums: *mut f32,
    ) {
        // SAFETY: owed by the caller.
        unsafe { by_constants!(neon, rows, columns > 8, by_rows, [1 2 3 4 5 6], (depth, a, b, sums)) }
    }
}

/// `VECTORS` count pairs of registers: 8 columns.
///
/// # Safety
/// As for [`Tile::compute`].
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn neon<const ROWS: usize, const VECTORS: usize, const BY_ROWS: bool>(
    depth: usize,
    a: *const f32,
    b: *const f32,
    sums: *mut f32,
) {
    use std::arch::aarch64::{vdupq_n_f32, vfmaq_n_f32, vld1q_f32, vst1q_f32};
    const { assert!(ROWS <= Neon::ROWS && 8 * VECTORS <= Neon::COLUMNS) };
    let mut total = [[[vdupq_n_f32(0.0); 2]; VECTORS]; ROWS];
    for k in 0..depth {
        // SAFETY: k < depth, within the strip and the panel.
        unsafe {
            let mut row = [[vdupq_n_f32(0.0); 2]; VECTORS];
            for (v, row) in row.as_flattened_mut().iter_mut().enumerate() {
                *row = vld1q_f32(b.add(k * Neon::COLUMNS + 4 * v));
            }
            for (i, total) in total.iter_mut().enumerate() {
                let x = *a.add(offset::<BY_ROWS>(i, k, Neon::ROWS));
                for (total, &row) in total.as_flattened_mut().iter_mut().zip(row.as_flattened()) {
                    *total = vfmaq_n_f32(*total, row, x);
                }
            }
        }
    }
    for (i, total) in total.iter().enumerate() {
        for (v, &total) in total.as_flattened().iter().enumerate() {
            // SAFETY: ROWS · COLUMNS elements fit the sums.
            unsafe { vst1q_f32(sums.add(i * Neon::COLUMNS + 4 * v), total) };
        }
    }
}

/// 4 x 8 in plain Rust, a multiplication and an addition.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Tile for Portable {
    const ROWS: usize = 4;
    const COLUMNS: usize = 8;
    const LOAD: usize = 4;

    #[inline(always)]
    unsafe fn compute(
        self,
        rows: usize,
        columns: usize,
        by_rows: bool,
        depth: usize,
        a: *const f32,
        b: *const f32,
        sums: *mut f32,
    ) {
        // SAFETY: owed by the caller.
        unsafe { by_constants!(portable, rows, columns > 4, by_rows, [1 2 3 4], (depth, a, b, sums)) }
    }
}

/// # Safety
/// As for [`Tile::compute`].
unsafe fn portable<const ROWS: usize, const VECTORS: usize, const BY_ROWS: bool>(
    depth: usize,
    a: *const f32,
    b: *const f32,
    sums: *mut f32,
) {
    let mut total = [[[0.0f32; 4]; VECTORS]; ROWS];
    for k in 0..depth {
        // SAFETY: k < depth, within the strip and the panel.
        let row = unsafe { &*b.add(k * Portable::COLUMNS).cast::<[[f32; 4]; VECTORS]>() };
        for (i, total) in total.iter_mut().enumerate() {
            // SAFETY: as above.
            let x = unsafe { *a.add(offset::<BY_ROWS>(i, k, Portable::ROWS)) };
            for (total, row) in total.iter_mut().zip(row) {
                for (total, &y) in total.iter_mut().zip(row) {
                    *total += x * y;
                }
            }
        }
    }
    for (i, total) in total.iter().enumerate() {
        for (v, total) in total.iter().enumerate() {
            // SAFETY: ROWS · COLUMNS elements fit the sums.
            unsafe { sums.add(i * Portable::COLUMNS + 4 * v).cast::<[f32; 4]>().write(*total) };
        }
    }
}
