//! Scalar operations.
#![allow(missing_docs)]
use crate::graph::{Binary, Unary};
use crate::math;
use crate::number::canon;
#[inline(always)]
pub(super) fn unary(op: Unary, x: f32) -> f32 {
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
        Unary::Abs => f32::from_bits(x.to_bits() & 0x7fff_ffff),
        _ => x,
    })
}
#[inline(always)]
pub(super) fn binary(op: Binary, a: f32, b: f32) -> f32 {
    let mask = |yes: bool| if yes { 1.0 } else { 0.0 };
    canon(match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => math::div(a, b),
        Binary::Max => {
            if b > a {
                b
            } else {
                a
            }
        }
        Binary::Min => {
            if b < a {
                b
            } else {
                a
            }
        }
        Binary::Lt => mask(a < b),
        Binary::Le => mask(a <= b),
        Binary::Eq => mask(a == b),
    })
}
#[inline(always)]
pub(super) fn to_float(x: i32) -> f32 {
    x.clamp(-16_777_215, 16_777_215) as f32
}
#[inline(always)]
pub(super) fn compare(op: Binary, a: i32, b: i32) -> f32 {
    let mask = |yes: bool| if yes { 1.0 } else { 0.0 };
    match op {
        Binary::Lt => mask(a < b),
        Binary::Le => mask(a <= b),
        _ => mask(a == b),
    }
}
