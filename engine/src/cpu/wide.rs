//! Sixteen floats in registers: what loops need that a compiler does not make vector code of by itself.
//!
//! No closure goes through the standard library here: it would be compiled for the portable instructions, and every
//! operation in it become a call.
//!
//! *Invariant:* every operation gives in each lane what the scalar function of its name gives; a test compares all
//! implementations bit by bit.

use std::marker::PhantomData;

use super::isa::{Kernel, Level};
use super::lanes::{LANES, copy_short, padded};
use super::reduce::{BLOCK, Sums};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::backend::Isa;
use crate::number::{HUGE_BITS, MAGNITUDE, OPERAND_HUGE_BITS, OPERAND_TINY_BITS, SIGN, TINY_BITS};

/// Ones, then zeros: a window starts where the last ones are wanted.
pub(super) static ONES: [f32; 2 * LANES] = {
    let mut ones = [0.0; 2 * LANES];
    let mut lane = 0;
    while lane < LANES {
        ones[lane] = 1.0;
        lane += 1;
    }
    ones
};

/// `each!(W, to, [x in a, y in b] => value)`: each element of `to` from those of one or two rows as long, in groups.
macro_rules! each {
    ($W:ident, $to:expr, [$x:ident in $a:expr] => $value:expr) => {
        $crate::cpu::wide::each!($W, $to, [$x in $a, _y in $a] => $value)
    };
    ($W:ident, $to:expr, [$x:ident in $a:expr, $y:ident in $b:expr] => $value:expr) => {{
        let to: &mut [f32] = $to;
        let (a, b) = (&$a[..to.len()], &$b[..to.len()]);
        for ((to, a), b) in to.chunks_mut(LANES).zip(a.chunks(LANES)).zip(b.chunks(LANES)) {
            let ($x, $y) = ($W::load_some(a), $W::load_some(b));
            let value: $W = $value;
            value.store_some(to);
        }
    }};
}

/// `sum!(W, [x in a, y in b] => value)`: sum over one or two rows by the row rule, without `canon`.
macro_rules! sum {
    ($W:ident, [$x:ident in $a:expr] => $value:expr) => {
        $crate::cpu::wide::sum!($W, [$x in $a, _y in $a] => $value)
    };
    ($W:ident, [$x:ident in $a:expr, $y:ident in $b:expr] => $value:expr) => {{
        let (a, b): (&[f32], &[f32]) = ($a, &$b[..$a.len()]);
        let mut blocks = $crate::cpu::wide::Blocks::new(a.len());
        for (a, b) in a.chunks($crate::cpu::reduce::BLOCK).zip(b.chunks($crate::cpu::reduce::BLOCK)) {
            let mut sums = $W::splat(0.0);
            for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
                let ($x, $y) = ($W::load_some(a), $W::load_some(b));
                let value: $W = $value;
                sums = sums.add($crate::cpu::wide::kept(value, a.len()));
            }
            blocks.push($crate::cpu::reduce::tree(sums.lanes()));
        }
        blocks.end()
    }};
}

pub(super) use {each, sum};

/// The first `len` lanes; zeros in the others, which a sum does not notice.
#[inline(always)]
pub(super) fn kept<W: Wide>(value: W, len: usize) -> W {
    if len == LANES {
        return value;
    }
    // SAFETY: the window lies in the table: no group is longer.
    value.mul(unsafe { W::load(ONES.as_ptr().add(LANES - len)) })
}

/// Sums of the blocks of a row: mostly there is one.
pub(super) struct Blocks {
    one: f32,
    many: Option<Sums>,
}

impl Blocks {
    /// Of a row of this length.
    #[inline(always)]
    pub(super) fn new(len: usize) -> Self {
        Self { one: 0.0, many: if len > BLOCK { Some(Sums::default()) } else { None } }
    }

    /// Takes a block's sum.
    #[inline(always)]
    pub(super) fn push(&mut self, sum: f32) {
        match &mut self.many {
            None => self.one = sum,
            Some(sums) => sums.push(1, sum),
        }
    }

    /// The sum of the row.
    #[inline(always)]
    pub(super) fn end(self) -> f32 {
        match self.many {
            None => self.one,
            Some(sums) => sums.end(),
        }
    }
}

/// Sixteen floats of one instruction set.
pub(super) trait Wide: Copy {
    /// From memory.
    ///
    /// # Safety
    /// Sixteen floats may be read; the processor has the instruction set.
    unsafe fn load(from: *const f32) -> Self;
    /// To memory.
    ///
    /// # Safety
    /// Sixteen floats may be written; the processor has the instruction set.
    unsafe fn store(self, to: *mut f32);
    /// The same float in each lane.
    fn splat(x: f32) -> Self;
    /// a + b.
    fn add(self, b: Self) -> Self;
    /// a - b.
    fn sub(self, b: Self) -> Self;
    /// a · b.
    fn mul(self, b: Self) -> Self;
    /// self + a · b, where the products are exact: fused or not.
    fn add_product(self, a: Self, b: Self) -> Self;
    /// The larger of two canonical numbers.
    fn max(self, b: Self) -> Self;
    /// [`crate::number::canon`].
    fn canon(self) -> Self;
    /// [`crate::number::round12`].
    fn round12(self) -> Self;

    /// The lanes as an array.
    #[inline(always)]
    fn lanes(self) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        // SAFETY: whole groups; a value exists on a `Level` of its instruction set only.
        unsafe { self.store(lanes.as_mut_ptr()) };
        lanes
    }

    /// From an array.
    #[inline(always)]
    fn of(lanes: [f32; LANES]) -> Self {
        // SAFETY: as for `lanes`.
        unsafe { Self::load(lanes.as_ptr()) }
    }

    /// From fewer elements, the rest of the lanes being `padding`.
    #[inline(always)]
    fn load_short(from: &[f32], padding: f32) -> Self {
        Self::of(padded(from, padding))
    }

    /// Its first lanes to memory.
    #[inline(always)]
    fn store_short(self, to: &mut [f32]) {
        copy_short(to, &self.lanes(), to.len());
    }

    /// From a group or fewer elements, the rest of the lanes being 0.
    #[inline(always)]
    fn load_some(from: &[f32]) -> Self {
        match from.first_chunk::<LANES>() {
            // SAFETY: a whole group.
            Some(from) => unsafe { Self::load(from.as_ptr()) },
            None => Self::load_short(from, 0.0),
        }
    }

    /// To a group or fewer elements.
    #[inline(always)]
    fn store_some(self, to: &mut [f32]) {
        match to.first_chunk_mut::<LANES>() {
            // SAFETY: a whole group.
            Some(to) => unsafe { self.store(to.as_mut_ptr()) },
            None => self.store_short(to),
        }
    }

    /// e^x.
    #[inline(always)]
    fn exp(self) -> Self {
        // A loop of so many operations becomes vector code.
        let mut lanes = self.lanes();
        for x in &mut lanes {
            *x = crate::math::exp(*x);
        }
        Self::of(lanes)
    }
}

/// A loop over groups that is compiled once per instruction set, as a [`Kernel`]; the same holds for its `run`.
pub(super) trait WideKernel {
    /// The loop.
    fn run<W: Wide>(self);
}

struct On<K, W>(K, PhantomData<W>);

impl<K: WideKernel, W: Wide> Kernel for On<K, W> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.0.run::<W>();
    }
}

/// Runs a loop on the registers of a level.
#[inline(always)]
pub(super) fn run<K: WideKernel>(level: Level, kernel: K) {
    match level.isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => level.run(On(kernel, PhantomData::<Avx512>)),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => level.run(On(kernel, PhantomData::<Avx2>)),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => level.run(On(kernel, PhantomData::<Neon>)),
        _ => level.run(On(kernel, PhantomData::<Portable>)),
    }
}

/// Plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn with(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self.0;
        for (x, y) in out.iter_mut().zip(b.0) {
            *x = f(*x, y);
        }
        Self(out)
    }
}

impl Wide for Portable {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: owed by the caller.
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: owed by the caller.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; LANES])
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.with(b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.with(b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.with(b, |a, b| a * b)
    }

    #[inline(always)]
    fn add_product(self, a: Self, b: Self) -> Self {
        self.add(a.mul(b))
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.with(b, |a, b| if b > a { b } else { a })
    }

    #[inline(always)]
    fn canon(self) -> Self {
        self.with(self, |x, _| crate::number::canon(x))
    }

    #[inline(always)]
    fn round12(self) -> Self {
        self.with(self, |x, _| crate::number::round12(x))
    }
}

/// Implements [`Wide`] for an array of native registers, given the indices of the array, how many floats a register has,
/// and its instructions. No closures: an instruction must be inlined into the loop that has its instruction set enabled.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! native {
    ($name:ident, $doc:literal, [$($i:literal)+] of $floats:literal, $register:ty, load $load:ident, store $store:ident,
     splat $splat:ident, add $add:ident, sub $sub:ident, mul $mul:ident, add_product $fma:path, max $max:ident,
     clamp $clamp:path, round $round:path) => {
        #[doc = $doc]
        #[derive(Clone, Copy)]
        pub(in super::super) struct $name([$register; LANES / $floats]);

        impl Wide for $name {
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: owed by the caller.
                unsafe { Self([$($load(from.add($i * $floats))),+]) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: owed by the caller.
                unsafe { $($store(to.add($i * $floats), self.0[$i]);)+ }
            }

            #[inline(always)]
            fn splat(x: f32) -> Self {
                // SAFETY: loops with this type run on a `Level` of its instruction set only; so all below.
                Self([unsafe { $splat(x) }; LANES / $floats])
            }

            #[inline(always)]
            fn add(self, b: Self) -> Self {
                // SAFETY: see `splat`.
                unsafe { Self([$($add(self.0[$i], b.0[$i])),+]) }
            }

            #[inline(always)]
            fn sub(self, b: Self) -> Self {
                // SAFETY: see `splat`.
                unsafe { Self([$($sub(self.0[$i], b.0[$i])),+]) }
            }

            #[inline(always)]
            fn mul(self, b: Self) -> Self {
                // SAFETY: see `splat`.
                unsafe { Self([$($mul(self.0[$i], b.0[$i])),+]) }
            }

            #[inline(always)]
            fn add_product(self, a: Self, b: Self) -> Self {
                // SAFETY: see `splat`.
                unsafe { Self([$($fma(self.0[$i], a.0[$i], b.0[$i])),+]) }
            }

            #[inline(always)]
            fn max(self, b: Self) -> Self {
                // SAFETY: see `splat`.
                unsafe { Self([$($max(self.0[$i], b.0[$i])),+]) }
            }

            #[inline(always)]
            fn canon(self) -> Self {
                // SAFETY: see `splat`.
                unsafe { Self([$($clamp(self.0[$i], TINY_BITS, HUGE_BITS)),+]) }
            }

            #[inline(always)]
            fn round12(self) -> Self {
                // SAFETY: see `splat`.
                unsafe { Self([$($clamp($round(self.0[$i]), OPERAND_TINY_BITS, OPERAND_HUGE_BITS)),+]) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::*;

    const LAST_KEPT: i32 = 0xffff_f000u32.cast_signed();

    /// Magnitudes below `low` become +0, those above `high` become `high`.
    #[inline(always)]
    unsafe fn clamp512(x: __m512, low: u32, high: u32) -> __m512 {
        // SAFETY: owed by the caller: AVX-512F and DQ.
        unsafe {
            let bits = _mm512_castps_si512(x);
            // Twice the bits: the magnitude without the sign.
            let twice = _mm512_add_epi32(bits, bits);
            let kept = _mm512_cmpge_epu32_mask(twice, _mm512_set1_epi32((low << 1).cast_signed()));
            // The smaller magnitude, with the sign of x.
            _mm512_maskz_range_ps::<0b0010>(kept, x, _mm512_set1_ps(f32::from_bits(high)))
        }
    }

    /// To 12 significant bits, ties to even.
    #[inline(always)]
    unsafe fn round512(x: __m512) -> __m512 {
        // SAFETY: owed by the caller: AVX-512F.
        unsafe {
            let bits = _mm512_castps_si512(x);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<12>(bits), _mm512_set1_epi32(1));
            let up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7ff)));
            _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(LAST_KEPT)))
        }
    }

    /// As [`clamp512`]; magnitudes are positive as signed integers too.
    #[inline(always)]
    unsafe fn clamp256(x: __m256, low: u32, high: u32) -> __m256 {
        // SAFETY: owed by the caller: AVX2.
        unsafe {
            let bits = _mm256_castps_si256(x);
            let magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(MAGNITUDE.cast_signed()));
            let sign = _mm256_and_si256(bits, _mm256_set1_epi32(SIGN.cast_signed()));
            let most = _mm256_min_epi32(magnitude, _mm256_set1_epi32(high.cast_signed()));
            let lost = _mm256_cmpgt_epi32(_mm256_set1_epi32(low.cast_signed()), magnitude);
            _mm256_castsi256_ps(_mm256_andnot_si256(lost, _mm256_or_si256(most, sign)))
        }
    }

    #[inline(always)]
    unsafe fn round256(x: __m256) -> __m256 {
        // SAFETY: owed by the caller: AVX2.
        unsafe {
            let bits = _mm256_castps_si256(x);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<12>(bits), _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7ff)));
            _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32(LAST_KEPT)))
        }
    }

    /// total + a · b.
    #[inline(always)]
    unsafe fn fma512(total: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: owed by the caller: AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, total) }
    }

    /// total + a · b.
    #[inline(always)]
    unsafe fn fma256(total: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: owed by the caller: FMA.
        unsafe { _mm256_fmadd_ps(a, b, total) }
    }

    native!(Avx512, "One AVX-512 register.", [0] of 16, __m512, load _mm512_loadu_ps, store _mm512_storeu_ps,
        splat _mm512_set1_ps, add _mm512_add_ps, sub _mm512_sub_ps, mul _mm512_mul_ps,
        add_product fma512, max _mm512_max_ps, clamp clamp512, round round512);

    native!(Avx2, "Two AVX2 registers.", [0 1] of 8, __m256, load _mm256_loadu_ps, store _mm256_storeu_ps,
        splat _mm256_set1_ps, add _mm256_add_ps, sub _mm256_sub_ps, mul _mm256_mul_ps,
        add_product fma256, max _mm256_max_ps, clamp clamp256, round round256);
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::*;

    /// Magnitudes below `low` become +0, those above `high` become `high`.
    #[inline(always)]
    unsafe fn clamp(x: float32x4_t, low: u32, high: u32) -> float32x4_t {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let bits = vreinterpretq_u32_f32(x);
            let magnitude = vandq_u32(bits, vdupq_n_u32(MAGNITUDE));
            let sign = vandq_u32(bits, vdupq_n_u32(SIGN));
            let most = vminq_u32(magnitude, vdupq_n_u32(high));
            let kept = vcgeq_u32(magnitude, vdupq_n_u32(low));
            vreinterpretq_f32_u32(vandq_u32(kept, vorrq_u32(most, sign)))
        }
    }

    /// To 12 significant bits, ties to even.
    #[inline(always)]
    unsafe fn round(x: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let bits = vreinterpretq_u32_f32(x);
            let odd = vandq_u32(vshrq_n_u32::<12>(bits), vdupq_n_u32(1));
            let up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7ff)));
            vreinterpretq_f32_u32(vandq_u32(up, vdupq_n_u32(0xffff_f000)))
        }
    }

    native!(Neon, "Four NEON registers.", [0 1 2 3] of 4, float32x4_t, load vld1q_f32, store vst1q_f32, splat vdupq_n_f32,
        add vaddq_f32, sub vsubq_f32, mul vmulq_f32, add_product vfmaq_f32, max vmaxq_f32,
        clamp clamp, round round);
}

#[cfg(target_arch = "aarch64")]
pub(super) use arm::Neon;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Isa;
    use crate::cpu::isa::{Kernel, Level, available};
    use crate::number::{canon, round12};

    /// Results of every operation on pairs of numbers, through one implementation.
    struct All<'a, W>(&'a [f32], &'a [f32], std::marker::PhantomData<W>);

    impl<W: Wide> Kernel for All<'_, W> {
        type Output = Vec<[f32; LANES]>;

        #[inline(always)]
        fn run(self) -> Self::Output {
            let mut all = vec![];
            for (a, b) in self.0.chunks_exact(LANES).zip(self.1.chunks_exact(LANES)) {
                // SAFETY: whole groups; the test runs this on its level.
                let (a, b) = unsafe { (W::load(a.as_ptr()), W::load(b.as_ptr())) };
                let (ra, rb) = (a.canon().round12(), b.canon().round12());
                let results = [
                    a.canon(),
                    ra,
                    a.canon().add(b.canon()),
                    a.canon().sub(b.canon()),
                    a.canon().mul(b.canon()),
                    W::splat(0.75).add_product(ra, rb),
                    a.canon().max(b.canon()),
                ];
                for result in results {
                    let mut out = [0.0; LANES];
                    // SAFETY: as above.
                    unsafe { result.store(out.as_mut_ptr()) };
                    all.push(out);
                }
            }
            all
        }
    }

    #[test]
    fn every_instruction_set_does_what_the_scalar_functions_do() {
        let pattern = |i: u32| {
            let top = (i.wrapping_mul(2_654_435_761) >> 23) & 0x1ff;
            let fraction = match i % 5 {
                0 => 0x7ff,
                1 => 0x800,
                2 => 0x1800,
                _ => i.wrapping_mul(0x9e37_79b9),
            };
            let x = f32::from_bits((top << 23) | (fraction & 0x7f_ffff));
            if x.is_nan() { 1.5 } else { x }
        };
        let a: Vec<f32> = (0..64_000).map(pattern).collect();
        let b: Vec<f32> = (0..64_000).map(|i| pattern(i * 7 + 3)).collect();
        let want: Vec<[f32; 7]> = a
            .iter()
            .zip(&b)
            .map(|(&a, &b)| {
                let (a, b) = (canon(a), canon(b));
                let (ra, rb) = (round12(a), round12(b));
                [a, ra, a + b, a - b, a * b, 0.75 + ra * rb, if b > a { b } else { a }]
            })
            .collect();
        for isa in available() {
            let Ok(level) = Level::new(Some(isa)) else { unreachable!() };
            let got = match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => level.run(All(&a, &b, std::marker::PhantomData::<Avx512>)),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => level.run(All(&a, &b, std::marker::PhantomData::<Avx2>)),
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => level.run(All(&a, &b, std::marker::PhantomData::<Neon>)),
                _ => level.run(All(&a, &b, std::marker::PhantomData::<Portable>)),
            };
            for (i, want) in want.iter().enumerate() {
                for (operation, want) in want.iter().enumerate() {
                    let got = got[i / LANES * 7 + operation][i % LANES];
                    assert_eq!(got.to_bits(), want.to_bits(), "{isa:?}, operation {operation}, pair {i}");
                }
            }
        }
    }
}
