//! Elementwise operations: single `f32` operations, each rounded once, in the order written.
//!
//! [`unary`] and [`binary`] are the meaning of [`Unary`] and [`Binary`] on one element; vector backends inline them.

use super::{Here, shape};
use crate::backend::Tensor;
use crate::graph::{Binary, Unary};
use crate::math;
use crate::number::{MAGNITUDE, SIGN, canon};

/// One element of a [`Unary`] node. `ToFloat` takes integers, see [`to_float`], `ToInt` gives them, see [`to_int`]; here
/// they are the identity.
#[inline(always)]
pub fn unary(op: Unary, x: f32) -> f32 {
    canon(match op {
        Unary::Neg => -x,
        Unary::Exp => math::exp(x),
        Unary::Log => math::log(x),
        Unary::Sqrt => math::sqrt(x),
        Unary::Rsqrt => math::rsqrt(x),
        Unary::Recip => math::recip(x),
        Unary::Tanh => math::tanh(x),
        Unary::Sigmoid => math::sigmoid(x),
        Unary::Erf => math::erf(x),
        Unary::Sin => math::sin(x),
        Unary::Cos => math::cos(x),
        Unary::Relu => {
            if x > 0.0 {
                x
            } else {
                0.0
            }
        }
        Unary::Abs => f32::from_bits(x.to_bits() & MAGNITUDE),
        Unary::Sign => sign(x),
        Unary::Floor => floor(x),
        Unary::Round => round(x),
        Unary::RoundBf16 => round_bf16(x),
        Unary::ToFloat | Unary::ToInt => x,
    })
}

/// One element of a [`Binary`] node on floats.
#[inline(always)]
pub fn binary(op: Binary, a: f32, b: f32) -> f32 {
    canon(match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => math::div(a, b),
        Binary::Max => maximum(a, b),
        Binary::Min => minimum(a, b),
        Binary::Lt => mask(a < b),
        Binary::Le => mask(a <= b),
        Binary::Eq => mask(a == b),
    })
}

/// One element of a comparison of integers; other operations do not take integers.
#[inline(always)]
pub fn compare(op: Binary, a: i32, b: i32) -> f32 {
    mask(match op {
        Binary::Lt => a < b,
        Binary::Le => a <= b,
        _ => a == b,
    })
}

/// An integer as a float, exactly; it is clamped to ±(2^24 - 1) first.
#[inline(always)]
pub fn to_float(x: i32) -> f32 {
    const MOST: i32 = (1 << 24) - 1;
    let x = if x > MOST { MOST } else { x };
    let x = if x < -MOST { -MOST } else { x };
    x as f32
}

/// The nearest integer, ties to even, clamped to ±2^24. Below 2^23 the magnitude plus 2^23 is rounded and shows its
/// integer in its bits; above, there are few exponents. (Conversions that saturate do not become vector code.)
#[inline(always)]
pub fn to_int(x: f32) -> i32 {
    const WHOLE: f32 = 8_388_608.0; // 2^23
    const FRACTION: u32 = 0x7f_ffff;
    let a = minimum(f32::from_bits(x.to_bits() & MAGNITUDE), 2.0 * WHOLE);
    let small = (a + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits());
    let large = (FRACTION + 1 + (a.to_bits() & FRACTION)) << (a.to_bits() >> 23 & 1);
    let integer = (if a < WHOLE { small } else { large }).cast_signed();
    if x < 0.0 { -integer } else { integer }
}

/// 1 where `holds`, else 0.
#[inline(always)]
pub fn mask(holds: bool) -> f32 {
    if holds { 1.0 } else { 0.0 }
}

/// The larger; on canonical numbers equal values are equal bits.
#[inline(always)]
pub fn maximum(a: f32, b: f32) -> f32 {
    if a < b { b } else { a }
}

/// The smaller.
#[inline(always)]
pub fn minimum(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

#[inline(always)]
fn sign(x: f32) -> f32 {
    mask(x > 0.0) - mask(x < 0.0)
}

/// Nearest integer, ties to even: the magnitude plus 2^23 has no room for a fraction. From 2^23 on all are integers.
#[inline(always)]
fn round(x: f32) -> f32 {
    const WHOLE: f32 = 8_388_608.0; // 2^23
    let a = f32::from_bits(x.to_bits() & MAGNITUDE);
    let rounded = (a + WHOLE) - WHOLE;
    let rounded = if a < WHOLE { rounded } else { a };
    f32::from_bits(rounded.to_bits() | (x.to_bits() & SIGN))
}

#[inline(always)]
fn floor(x: f32) -> f32 {
    let nearest = round(x);
    if nearest > x { nearest - 1.0 } else { nearest }
}

/// To 8 significant bits, ties to even.
#[inline(always)]
fn round_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}

impl Here<'_> {
    pub(super) fn unary(&self, op: Unary) -> Tensor {
        match op {
            Unary::ToFloat => Tensor::F32(self.ints(0).iter().map(|&x| to_float(x)).collect()),
            Unary::ToInt => Tensor::I32(self.floats(0).iter().map(|&x| to_int(x)).collect()),
            _ => Tensor::F32(self.floats(0).iter().map(|&x| unary(op, x)).collect()),
        }
    }

    pub(super) fn binary(&self, op: Binary) -> Vec<f32> {
        let [left, right] = [0, 1].map(|i| shape::broadcast_offsets(self.dims(i), self.out()));
        let pairs = left.iter().zip(&right);
        match (self.operands[0], self.operands[1]) {
            (Tensor::I32(a), Tensor::I32(b)) => pairs.map(|(&i, &j)| compare(op, a[i], b[j])).collect(),
            _ => {
                let (a, b) = (self.floats(0), self.floats(1));
                pairs.map(|(&i, &j)| binary(op, a[i], b[j])).collect()
            }
        }
    }

    pub(super) fn where_(&self) -> Tensor {
        match (self.operands[1], self.operands[2]) {
            (Tensor::I32(a), Tensor::I32(b)) => Tensor::I32(self.chosen(a, b)),
            _ => Tensor::F32(self.chosen(self.floats(1), self.floats(2))),
        }
    }

    fn chosen<T: Copy>(&self, a: &[T], b: &[T]) -> Vec<T> {
        let [condition, left, right] = [0, 1, 2].map(|i| shape::broadcast_offsets(self.dims(i), self.out()));
        let c = self.floats(0);
        let pick = |i: usize| if c[condition[i]] != 0.0 { a[left[i]] } else { b[right[i]] };
        (0..self.count()).map(pick).collect()
    }
}
