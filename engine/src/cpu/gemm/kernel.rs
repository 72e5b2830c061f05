//! The innermost loops: one tile of the result over one chunk of k, all sums in registers, from which they go to the
//! result.
//!
//! *Invariant:* each sum starts at +0 and takes k in ascending order; then it is added to the total of the chunks
//! before.

use super::STRIDE;
use crate::number::{canon, round12};

/// A tile's shape and loop on one instruction set.
pub(super) trait Tile: Copy {
    /// Rows of a full tile.
    const ROWS: usize;
    /// Columns of a tile, and of a packed panel.
    const COLUMNS: usize;
    /// `ROWS` in whole registers.
    const LOAD: usize;

    /// The sums of `rows` rows of `columns` elements, written to the result or added to it.
    ///
    /// # Safety
    /// `a` is a packed strip (by rows or by columns), `b` a packed panel, both `depth` deep; the result holds the tile,
    /// for nobody else; the processor has the instruction set.
    #[allow(clippy::too_many_arguments)]
    unsafe fn compute(
        self,
        rows: usize,
        columns: usize,
        by_rows: bool,
        depth: usize,
        a: *const f32,
        b: *const f32,
        result: &Result,
    );

    /// [`round12`] of `LOAD` elements.
    ///
    /// # Safety
    /// They may be read and written; the processor has the instruction set.
    unsafe fn round(from: *const f32, to: *mut f32);

    /// [`round12`] of fewer.
    ///
    /// # Safety
    /// As for `round`.
    #[inline(always)]
    unsafe fn round_some(from: *const f32, to: *mut f32, len: usize) {
        for i in 0..len {
            // SAFETY: owed by the caller.
            unsafe { *to.add(i) = round12(*from.add(i)) };
        }
    }
}

/// Where a tile's sums go.
pub(super) struct Result {
    /// First element.
    pub(super) start: *mut f32,
    /// Distance of rows.
    pub(super) row: usize,
    /// Whether these are the first sums, which are not added to anything.
    pub(super) first: bool,
    /// Whether these are the last sums: `canon`.
    pub(super) last: bool,
}

impl Result {
    /// Writes sums that are not whole registers, from rows of `width`.
    ///
    /// # Safety
    /// The result holds that many elements in each row.
    unsafe fn write(&self, sums: &[f32], width: usize, columns: usize) {
        for (i, sums) in sums.chunks_exact(width).enumerate() {
            // SAFETY: owed by the caller.
            let c = unsafe { std::slice::from_raw_parts_mut(self.start.add(i * self.row), columns) };
            for (c, &sum) in c.iter_mut().zip(sums) {
                let total = if self.first { sum } else { *c + sum };
                *c = if self.last { canon(total) } else { total };
            }
        }
    }
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
        result: &Result,
    ) {
        let wide = columns > 16;
        // SAFETY: owed by the caller.
        unsafe {
            by_constants!(avx512, rows, wide, by_rows, [1 2 3 4 5 6 7 8 9 10 11 12], (depth, a, b, columns, result));
        }
    }

    #[inline(always)]
    unsafe fn round(from: *const f32, to: *mut f32) {
        // SAFETY: owed by the caller.
        unsafe { avx512_round(from, to, 0xffff) };
    }

    #[inline(always)]
    unsafe fn round_some(from: *const f32, to: *mut f32, len: usize) {
        // SAFETY: owed by the caller.
        unsafe { avx512_round(from, to, (1 << len) - 1) };
    }
}

/// Rounds the elements of a mask.
///
/// # Safety
/// They may be read and written.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn avx512_round(from: *const f32, to: *mut f32, mask: u16) {
    use crate::number::{OPERAND_HUGE_BITS, OPERAND_TINY_BITS};
    use std::arch::x86_64::{
        _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmpge_epu32_mask,
        _mm512_loadu_ps, _mm512_mask_add_epi32, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_maskz_range_ps,
        _mm512_set1_epi32, _mm512_set1_ps, _mm512_storeu_ps, _mm512_test_epi32_mask,
    };
    let all = |bits: u32| _mm512_set1_epi32(bits.cast_signed());
    // SAFETY: owed by the caller.
    let bits = unsafe { if mask == 0xffff { _mm512_loadu_ps(from) } else { _mm512_maskz_loadu_ps(mask, from) } };
    let bits = _mm512_castps_si512(bits);
    // To nearest, ties to even.
    let odd = _mm512_test_epi32_mask(bits, all(0x1000));
    let bits = _mm512_add_epi32(bits, all(0x7ff));
    let bits = _mm512_and_si512(_mm512_mask_add_epi32(bits, odd, bits, all(1)), all(0xffff_f000));
    // Twice the bits: the magnitude without the sign.
    let lasting = _mm512_cmpge_epu32_mask(_mm512_add_epi32(bits, bits), all(OPERAND_TINY_BITS << 1));
    // The smaller magnitude, with the sign of the number.
    let huge = _mm512_set1_ps(f32::from_bits(OPERAND_HUGE_BITS));
    let rounded = _mm512_maskz_range_ps::<0b0010>(lasting, _mm512_castsi512_ps(bits), huge);
    // SAFETY: as above.
    unsafe { if mask == 0xffff { _mm512_storeu_ps(to, rounded) } else { _mm512_mask_storeu_ps(to, mask, rounded) } };
}

/// # Safety
/// As for [`Tile::compute`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn avx512<const ROWS: usize, const VECTORS: usize, const BY_ROWS: bool>(
    depth: usize,
    a: *const f32,
    b: *const f32,
    columns: usize,
    result: &Result,
) {
    use std::arch::x86_64::{
        _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
        _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };
    const { assert!(ROWS <= Avx512::ROWS && 16 * VECTORS <= Avx512::COLUMNS) };
    // An address that the next loop forms is within the result, and a prefetch reads nothing anyway.
    for i in 0..ROWS {
        for v in 0..VECTORS {
            _mm_prefetch::<_MM_HINT_T0>(result.start.wrapping_add(i * result.row + 16 * v).cast());
        }
    }
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
    if columns != 16 * VECTORS {
        let mut masks = [0xffffu16; VECTORS];
        masks[VECTORS - 1] = 0xffff >> (16 * VECTORS - columns);
        for (i, total) in total.iter().enumerate() {
            for (v, &total) in total.iter().enumerate() {
                // SAFETY: the mask leaves out what is not in the result.
                unsafe {
                    let to = result.start.add(i * result.row + 16 * v);
                    let before = _mm512_maskz_loadu_ps(if result.first { 0 } else { masks[v] }, to);
                    let total = if result.first { total } else { _mm512_add_ps(before, total) };
                    _mm512_mask_storeu_ps(to, masks[v], if result.last { avx512_canon(total) } else { total });
                }
            }
        }
        return;
    }
    for (i, total) in total.iter().enumerate() {
        for (v, &total) in total.iter().enumerate() {
            // SAFETY: the result holds whole registers.
            unsafe {
                let to = result.start.add(i * result.row + 16 * v);
                let total = if result.first { total } else { _mm512_add_ps(_mm512_loadu_ps(to), total) };
                _mm512_storeu_ps(to, if result.last { avx512_canon(total) } else { total });
            }
        }
    }
}

/// [`canon`] of each element.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn avx512_canon(x: std::arch::x86_64::__m512) -> std::arch::x86_64::__m512 {
    use crate::number::{HUGE, TINY_BITS};
    use std::arch::x86_64::{
        _mm512_add_epi32, _mm512_castps_si512, _mm512_cmpge_epu32_mask, _mm512_maskz_range_ps, _mm512_set1_epi32,
        _mm512_set1_ps,
    };
    let bits = _mm512_castps_si512(x);
    // Twice the bits: the magnitude without the sign.
    let lasting =
        _mm512_cmpge_epu32_mask(_mm512_add_epi32(bits, bits), _mm512_set1_epi32((TINY_BITS << 1).cast_signed()));
    // The smaller magnitude, with the sign of x.
    _mm512_maskz_range_ps::<0b0010>(lasting, x, _mm512_set1_ps(HUGE))
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
        result: &Result,
    ) {
        // SAFETY: owed by the caller.
        unsafe { by_constants!(avx2, rows, columns > 8, by_rows, [1 2 3 4 5 6], (depth, a, b, columns, result)) }
    }

    #[inline(always)]
    unsafe fn round(from: *const f32, to: *mut f32) {
        // SAFETY: owed by the caller.
        unsafe { avx2_round(from, to) };
    }
}

/// Rounds 8 elements.
///
/// # Safety
/// They may be read and written.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn avx2_round(from: *const f32, to: *mut f32) {
    use crate::number::{OPERAND_HUGE_BITS, OPERAND_TINY_BITS};
    use std::arch::x86_64::{
        _mm256_add_epi32, _mm256_and_si256, _mm256_castps_si256, _mm256_castsi256_ps, _mm256_loadu_ps,
        _mm256_set1_epi32, _mm256_srli_epi32, _mm256_storeu_ps,
    };
    let all = |bits: u32| _mm256_set1_epi32(bits.cast_signed());
    // SAFETY: owed by the caller.
    let bits = _mm256_castps_si256(unsafe { _mm256_loadu_ps(from) });
    // To nearest, ties to even.
    let odd = _mm256_and_si256(_mm256_srli_epi32::<12>(bits), all(1));
    let bits = _mm256_and_si256(_mm256_add_epi32(bits, _mm256_add_epi32(odd, all(0x7ff))), all(0xffff_f000));
    let rounded = avx2_clamp(_mm256_castsi256_ps(bits), OPERAND_TINY_BITS, OPERAND_HUGE_BITS);
    // SAFETY: as above.
    unsafe { _mm256_storeu_ps(to, rounded) };
}

/// # Safety
/// As for [`Tile::compute`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const ROWS: usize, const VECTORS: usize, const BY_ROWS: bool>(
    depth: usize,
    a: *const f32,
    b: *const f32,
    columns: usize,
    result: &Result,
) {
    use crate::number::{HUGE_BITS, TINY_BITS};
    use std::arch::x86_64::{
        _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps,
        _mm256_storeu_ps,
    };
    const { assert!(ROWS <= Avx2::ROWS && 8 * VECTORS <= Avx2::COLUMNS) };
    // An address that the loop below forms is within the result, and a prefetch reads nothing anyway.
    for i in 0..ROWS {
        _mm_prefetch::<_MM_HINT_T0>(result.start.wrapping_add(i * result.row).cast());
    }
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
    if columns != 8 * VECTORS {
        let mut sums = [0.0f32; Avx2::ROWS * Avx2::COLUMNS];
        for (i, total) in total.iter().flatten().enumerate() {
            // SAFETY: ROWS · VECTORS registers fit.
            unsafe { _mm256_storeu_ps(sums.as_mut_ptr().add(8 * i), *total) };
        }
        // SAFETY: owed by the caller.
        return unsafe { result.write(&sums[..ROWS * VECTORS * 8], VECTORS * 8, columns) };
    }
    for (i, total) in total.iter_mut().enumerate() {
        for (v, total) in total.iter_mut().enumerate() {
            // SAFETY: the result holds whole registers.
            unsafe {
                let to = result.start.add(i * result.row + 8 * v);
                if !result.first {
                    *total = _mm256_add_ps(_mm256_loadu_ps(to), *total);
                }
                _mm256_storeu_ps(to, if result.last { avx2_clamp(*total, TINY_BITS, HUGE_BITS) } else { *total });
            }
        }
    }
}

/// Magnitudes below `low` become +0, those above `high` become `high`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn avx2_clamp(x: std::arch::x86_64::__m256, low: u32, high: u32) -> std::arch::x86_64::__m256 {
    use crate::number::{MAGNITUDE, SIGN};
    use std::arch::x86_64::{
        _mm256_and_si256, _mm256_castps_si256, _mm256_castsi256_ps, _mm256_cmpgt_epi32, _mm256_min_epi32,
        _mm256_or_si256, _mm256_set1_epi32,
    };
    let all = |bits: u32| _mm256_set1_epi32(bits.cast_signed());
    let bits = _mm256_castps_si256(x);
    let magnitude = _mm256_min_epi32(_mm256_and_si256(bits, all(MAGNITUDE)), all(high));
    let lasting = _mm256_cmpgt_epi32(magnitude, all(low - 1));
    let signed = _mm256_or_si256(magnitude, _mm256_and_si256(bits, all(SIGN)));
    _mm256_castsi256_ps(_mm256_and_si256(signed, lasting))
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
        result: &Result,
    ) {
        // SAFETY: owed by the caller.
        unsafe { by_constants!(neon, rows, columns > 8, by_rows, [1 2 3 4 5 6], (depth, a, b, columns, result)) }
    }

    #[inline(always)]
    unsafe fn round(from: *const f32, to: *mut f32) {
        for i in 0..Self::LOAD {
            // SAFETY: owed by the caller.
            unsafe { *to.add(i) = round12(*from.add(i)) };
        }
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
    columns: usize,
    result: &Result,
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
    let mut sums = [0.0f32; Neon::ROWS * Neon::COLUMNS];
    for (i, &total) in total.as_flattened().as_flattened().iter().enumerate() {
        // SAFETY: ROWS · VECTORS pairs of registers fit.
        unsafe { vst1q_f32(sums.as_mut_ptr().add(4 * i), total) };
    }
    // SAFETY: owed by the caller.
    unsafe { result.write(&sums[..ROWS * VECTORS * 8], VECTORS * 8, columns) };
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
        result: &Result,
    ) {
        // SAFETY: owed by the caller.
        unsafe { by_constants!(portable, rows, columns > 4, by_rows, [1 2 3 4], (depth, a, b, columns, result)) }
    }

    #[inline(always)]
    unsafe fn round(from: *const f32, to: *mut f32) {
        for i in 0..Self::LOAD {
            // SAFETY: owed by the caller.
            unsafe { *to.add(i) = round12(*from.add(i)) };
        }
    }
}

/// # Safety
/// As for [`Tile::compute`].
unsafe fn portable<const ROWS: usize, const VECTORS: usize, const BY_ROWS: bool>(
    depth: usize,
    a: *const f32,
    b: *const f32,
    columns: usize,
    result: &Result,
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
    // SAFETY: owed by the caller.
    unsafe { result.write(total.as_flattened().as_flattened(), 4 * VECTORS, columns) };
}
