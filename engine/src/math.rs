//! Own elementary functions: a fixed number of add, subtract, multiply and integer steps, without branches.
//!
//! Every function is total on canonical numbers and gives a canonical number; where the true value is infinite or does
//! not exist the result is listed with the function. No step fuses a product with a sum, none reads the host's division,
//! square root, minimum or rounding, and no intermediate that matters is subnormal or overflows. The polynomials are
//! minimax fits; `docs/spec/arithmetic.md` lists their coefficients as bits.
//!
//! The trick that makes most of them nearly correctly rounded: an operand cut to 12 significant bits multiplies exactly,
//! so the residual of a 12-bit result is exact and corrects it with one rounding.
//!
//! *Invariant:* branch-free scalar code (`if` only chooses between two computed values), so loops become vector code.

use crate::number::{HUGE, HUGE_BITS, MAGNITUDE, SIGN, canon};

/// 1.5 · 2^23: added to a number below 2^22 in magnitude, it leaves the nearest integer in the low bits.
const SHIFTER: f32 = 12_582_912.0;
const SHIFTER_BITS: i32 = 0x4b40_0000;
/// Bits of 1.
const ONE_BITS: u32 = 0x3f80_0000;
const FRACTION: u32 = 0x007f_ffff;

/// log2(e).
const LOG2_E: f32 = f32::from_bits(0x3fb8_aa3b);
/// ln 2 = `LN2_HIGH` + `LN2_LOW`; the first has 9 bits, so its multiples by small integers are exact.
const LN2_HIGH: f32 = f32::from_bits(0x3f31_8000);
const LN2_LOW: f32 = f32::from_bits(0xb95e_8083);

/// (e^r - 1 - r) / r^2 on |r| <= ln(2)/2; relative error of e^r 2^-28.2.
const EXP: [f32; 5] = poly([0x3eff_fffe, 0x3e2a_aa46, 0x3d2a_ac2c, 0x3c09_1ed3, 0x3ab5_6096]);
/// (ln(1+f) - f + f^2/2) / f^3 for 1+f in [sqrt(1/2), sqrt(2)]; relative error of ln 2^-27.1.
const LOG: [f32; 8] =
    poly([0x3eaa_aaaa, 0xbe80_0114, 0x3e4c_d006, 0xbe2a_3914, 0x3e11_6ce7, 0xbe06_c30c, 0x3e02_af05, 0xbd9c_5bb1]);
/// (tanh(x)/x - 1) / x^2 in x^2, |x| <= 0.9; relative error of tanh 2^-27.7.
const TANH: [f32; 7] =
    poly([0xbeaa_aaa7, 0x3e08_879a, 0xbd5c_e4f8, 0x3cb1_77bc, 0xbc07_67fc, 0x3b29_41e3, 0xb9ee_ca8e]);
/// erf(x)/x - 1 in x^2, |x| <= 0.9; relative error of erf 2^-30.
const ERF_SMALL: [f32; 7] =
    poly([0x3e03_75d4, 0xbec0_93a2, 0x3de7_172a, 0xbcdc_0a92, 0x3baa_8522, 0xba56_51c7, 0x38b2_8858]);
/// -ln(1 - erf(x)) in x on [0.9, 4]; error of erf 2^-29.
const ERF_LARGE: [f32; 7] =
    poly([0x392e_8cca, 0x3f90_5ba8, 0x3f23_10e2, 0x3dd5_3963, 0xbcb6_ce01, 0x3b48_e57a, 0xb94f_d77b]);
/// Where `tanh` and `erf` change from one form to the other.
const SWITCH: f32 = f32::from_bits(0x3f66_6666);
/// (sin(r)/r - 1) / r^2 in r^2, |r| <= pi/4; relative error of sin 2^-27.9.
const SIN: [f32; 3] = poly([0xbe2a_aaa3, 0x3c08_83bb, 0xb94c_a97c]);
/// (cos(r) - 1 + r^2/2) / r^4 in r^2, |r| <= pi/4; error of cos 2^-33.
const COS: [f32; 3] = poly([0x3d2a_aaa5, 0xbab6_060d, 0x37cc_f080]);
/// 2/pi.
const TWO_OVER_PI: f32 = f32::from_bits(0x3f22_f983);
/// pi/2 in three parts of 14, 14 and 24 bits.
const HALF_PI: [f32; 3] = poly([0x3fc9_0c00, 0x38f6_a800, 0x3088_5a31]);
/// Beyond it angles are taken as 0.
const ANGLE_MAX: f32 = 1_048_576.0;

const fn poly<const N: usize>(bits: [u32; N]) -> [f32; N] {
    let mut out = [0.0; N];
    let mut i = 0;
    while i < N {
        out[i] = f32::from_bits(bits[i]);
        i += 1;
    }
    out
}

/// c[0] + c[1] x + c[2] x^2 + …, by Horner's rule: a product, then a sum, each rounded.
#[inline(always)]
fn horner<const N: usize>(c: &[f32; N], x: f32) -> f32 {
    let mut sum = c[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = sum * x + c[i];
    }
    sum
}

/// `x` cut (towards 0) to 12 significant bits; `x - high(x)` has at most 12 bits too.
#[inline(always)]
fn high(x: f32) -> f32 {
    f32::from_bits(x.to_bits() & 0xffff_f000)
}

/// |x|.
#[inline(always)]
fn magnitude(x: f32) -> f32 {
    f32::from_bits(x.to_bits() & MAGNITUDE)
}

/// `x` >= 0 with the sign of `of`.
#[inline(always)]
fn with_sign(x: f32, of: f32) -> f32 {
    f32::from_bits(x.to_bits() | (of.to_bits() & SIGN))
}

/// The fraction of `x` as a number in [1, 2), sign dropped.
#[inline(always)]
fn mantissa(x: f32) -> f32 {
    f32::from_bits((x.to_bits() & FRACTION) | ONE_BITS)
}

/// The biased exponent of `x`.
#[inline(always)]
fn exponent(x: f32) -> i32 {
    ((x.to_bits() & MAGNITUDE) >> 23) as i32
}

/// `x` · 2^n by its exponent field; the result is a normal number.
#[inline(always)]
fn scale(x: f32, n: i32) -> f32 {
    f32::from_bits((x.to_bits() as i32).wrapping_add(n << 23) as u32)
}

/// 1 / m for m in [1, 2): a line, two Newton steps, one exact residual.
#[inline(always)]
fn recip_mantissa(m: f32) -> f32 {
    const LINE: [f32; 2] = poly([0x3fb4_b4b5, 0xbef0_f0f1]); // 24/17 and -8/17
    let y = LINE[0] + LINE[1] * m;
    let y = y * (2.0 - m * y);
    let y = high(y * (2.0 - m * y));
    let m1 = high(m);
    let residual = (1.0 - m1 * y) - (m - m1) * y;
    y + y * (residual + residual * residual)
}

/// 1 / x. `recip(0)` = 2^60.
#[inline(always)]
pub fn recip(x: f32) -> f32 {
    let y = scale(recip_mantissa(mantissa(x)), 127 - exponent(x));
    canon(with_sign(y, x))
}

/// a / b. `a / 0` = ±2^60 with the sign of `a`; `0 / 0` = 0.
#[inline(always)]
pub fn div(a: f32, b: f32) -> f32 {
    let (m, n) = (mantissa(a), mantissa(b));
    let r = recip_mantissa(n);
    let q = high(m * r);
    let n1 = high(n);
    let residual = (m - n1 * q) - (n - n1) * q;
    let q = q + residual * r;
    // The exponent may leave the format's range; 0 and 254 are beyond what `canon` keeps.
    let e = exponent(q) + exponent(a) - exponent(b);
    let e = if e < 0 { 0 } else { e };
    let e = if e > 254 { 254 } else { e };
    let bits = (q.to_bits() & FRACTION) | ((e as u32) << 23);
    let bits = if b.to_bits() & MAGNITUDE == 0 { HUGE_BITS } else { bits };
    let bits = if a.to_bits() & MAGNITUDE == 0 { 0 } else { bits };
    canon(f32::from_bits(bits | ((a.to_bits() ^ b.to_bits()) & SIGN)))
}

/// x = m · 4^k with m in [1, 4).
#[inline(always)]
fn quarter(x: f32) -> (f32, i32) {
    let e = exponent(x) - 127;
    let k = e >> 1;
    let m = (x.to_bits() & FRACTION) | (((127 + e - 2 * k) as u32) << 23);
    (f32::from_bits(m), k)
}

/// 1 / sqrt(m) for m in [1, 4), relative error below 2^-17: two Newton steps from the halved exponent.
#[inline(always)]
fn rsqrt_estimate(m: f32) -> f32 {
    let half = 0.5 * m;
    let y = f32::from_bits(0x5f37_59df_u32.wrapping_sub(m.to_bits() >> 1));
    let y = y * (1.5 - (half * y) * y);
    y * (1.5 - (half * y) * y)
}

/// 1 / sqrt(x). `rsqrt(x)` = 2^60 for x <= 0.
#[inline(always)]
pub fn rsqrt(x: f32) -> f32 {
    let (m, k) = quarter(x);
    let y = high(rsqrt_estimate(m));
    let s = y * y;
    let (m1, s1) = (high(m), high(s));
    let (m2, s2) = (m - m1, s - s1);
    let residual = ((1.0 - m1 * s1) - (m1 * s2 + m2 * s1)) - m2 * s2;
    let y = y + y * (residual * (0.5 + 0.375 * residual));
    canon(if x > 0.0 { scale(y, -k) } else { HUGE })
}

/// Square root. `sqrt(x)` = 0 for x <= 0.
#[inline(always)]
pub fn sqrt(x: f32) -> f32 {
    let (m, k) = quarter(x);
    let y = rsqrt_estimate(m);
    let half = 0.5 * y;
    let s = high(m * y);
    let step = (m - s * s) * half;
    // `half` is 1 / (2 sqrt(m)), not 1 / (2 s): the second-order term is added.
    let s = s + (step + (step * step) * half);
    canon(if x > 0.0 { scale(s, k) } else { 0.0 })
}

/// e^x: 2^60 from 60 ln 2 on, 0 below -100 ln 2.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = if x > 43.0 { 43.0 } else { x };
    let x = if x < -71.0 { -71.0 } else { x };
    let t = x * LOG2_E + SHIFTER;
    let n = t - SHIFTER;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let y = 1.0 + (r + (r * r) * horner(&EXP, r));
    canon(scale(y, (t.to_bits() as i32).wrapping_sub(SHIFTER_BITS)))
}

/// Natural logarithm. `log(x)` = -2^60 for x <= 0.
#[inline(always)]
pub fn log(x: f32) -> f32 {
    const HALF_ROOT: u32 = 0x3f35_04f3; // sqrt(1/2)
    let offset = x.to_bits().wrapping_sub(HALF_ROOT);
    let e = ((offset as i32) >> 23) as f32;
    let f = f32::from_bits((offset & FRACTION).wrapping_add(HALF_ROOT)) - 1.0;
    let z = f * f;
    let low = ((f * z) * horner(&LOG, f) - 0.5 * z) + e * LN2_LOW;
    let whole = e * LN2_HIGH;
    let sum = whole + f;
    let lost = (whole - sum) + f;
    canon(if x > 0.0 { sum + (lost + low) } else { -HUGE })
}

/// Hyperbolic tangent: odd polynomial below 0.9, 1 - 2 / (e^2x + 1) from there on.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let a = magnitude(x);
    let small = if a > 1.0 { 1.0 } else { a };
    let z = small * small;
    let small = small + small * (z * horner(&TANH, z));
    let large = 1.0 - 2.0 * recip(exp(a + a) + 1.0);
    canon(with_sign(if a < SWITCH { small } else { large }, x))
}

/// 1 / (1 + e^-x), through t = e^-|x|: 1 / (1 + t) or t / (1 + t), corrected by what 1 + t lost in rounding.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let t = exp(-magnitude(x));
    let sum = 1.0 + t;
    let lost = (1.0 - sum) + t;
    let r = recip(sum);
    let r = r - (r * r) * lost;
    canon(if x < 0.0 { t * r } else { r })
}

/// Error function: odd polynomial below 0.9, 1 - e^-q(x) from there on, ±1 from 4 on.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let a = magnitude(x);
    let small = if a > 1.0 { 1.0 } else { a };
    let small = small + small * horner(&ERF_SMALL, small * small);
    let large = if a > 4.0 { 4.0 } else { a };
    let large = 1.0 - exp(-horner(&ERF_LARGE, large));
    canon(with_sign(if a < SWITCH { small } else { large }, x))
}

/// x = n · pi/2 + r with |r| <= pi/4 (a little more by rounding); the lowest two bits of n are the quadrant.
#[inline(always)]
fn quadrant(x: f32) -> (f32, u32) {
    let x = if magnitude(x) > ANGLE_MAX { 0.0 } else { x };
    let t = x * TWO_OVER_PI + SHIFTER;
    let n = t - SHIFTER;
    // n in two parts of 10 bits, so that their products with 14-bit parts of pi/2 are exact.
    let coarse = ((n * (1.0 / 1024.0) + SHIFTER) - SHIFTER) * 1024.0;
    let fine = n - coarse;
    let [a, b, c] = HALF_PI;
    let r = (((x - coarse * a) - fine * a) - coarse * b) - fine * b;
    (r - n * c, t.to_bits().wrapping_sub(SHIFTER_BITS as u32))
}

/// The sine of the angle whose quadrant and rest are given.
#[inline(always)]
fn sine(r: f32, quadrant: u32) -> f32 {
    let z = r * r;
    let s = r + r * (z * horner(&SIN, z));
    let c = (1.0 - 0.5 * z) + (z * z) * horner(&COS, z);
    let y = if quadrant & 1 == 0 { s } else { c };
    canon(f32::from_bits(y.to_bits() ^ ((quadrant & 2) << 30)))
}

/// Sine of radians; 0 for |x| > 2^20.
#[inline(always)]
pub fn sin(x: f32) -> f32 {
    let (r, quadrant) = quadrant(x);
    sine(r, quadrant)
}

/// Cosine of radians; 1 for |x| > 2^20.
#[inline(always)]
pub fn cos(x: f32) -> f32 {
    let (r, quadrant) = quadrant(x);
    sine(r, quadrant.wrapping_add(1))
}

#[cfg(test)]
mod tests;
