//! Arithmetic of ints and floats with Python's meaning.
//!
//! *Invariant:* the same bits everywhere: IEEE `+ - * /`, and the `libm` crate for everything else.

use std::cmp::Ordering;

use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, fail};

/// An int or a float (a bool is an int).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    pub(crate) fn float(self) -> f64 {
        match self {
            Number::Int(int) => int as f64,
            Number::Float(float) => float,
        }
    }
}

#[cold]
fn overflow() -> Box<Fault> {
    Fault::new(Kind::Overflow, "integers have 64 bits here, and this one needs more")
        .hint("use floats: write 2.0 instead of 2")
}

#[cold]
fn zero() -> Box<Fault> {
    Fault::new(Kind::ZeroDivision, "division by zero")
}

fn integers(a: Number, b: Number, int: fn(i64, i64) -> Option<i64>, float: fn(f64, f64) -> f64) -> Outcome<Number> {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => int(a, b).map(Number::Int).ok_or_else(overflow),
        _ => Ok(Number::Float(float(a.float(), b.float()))),
    }
}

pub(crate) fn add(a: Number, b: Number) -> Outcome<Number> {
    integers(a, b, i64::checked_add, |a, b| a + b)
}

pub(crate) fn sub(a: Number, b: Number) -> Outcome<Number> {
    integers(a, b, i64::checked_sub, |a, b| a - b)
}

pub(crate) fn mul(a: Number, b: Number) -> Outcome<Number> {
    integers(a, b, i64::checked_mul, |a, b| a * b)
}

/// True division: of ints too, a float that is rounded once.
pub(crate) fn div(a: Number, b: Number) -> Outcome<Number> {
    const EXACT: u64 = 1 << 53;
    Ok(Number::Float(match (a, b) {
        (_, Number::Int(0)) => return Err(zero()),
        (Number::Int(a), Number::Int(b)) if a.unsigned_abs() > EXACT || b.unsigned_abs() > EXACT => ratio(a, b),
        (a, b) if b.float() == 0.0 => return Err(if a.float().is_nan() { overflow() } else { zero() }),
        (a, b) => a.float() / b.float(),
    }))
}

/// The float nearest to a / b, from 64 bits and more of the quotient and whether anything is left.
fn ratio(a: i64, b: i64) -> f64 {
    let (numerator, denominator) = (u128::from(a.unsigned_abs()), u128::from(b.unsigned_abs()));
    if numerator == 0 {
        return 0.0;
    }
    let shift = numerator.leading_zeros();
    let scaled = numerator << shift;
    let quotient = (scaled / denominator) | u128::from(scaled % denominator != 0);
    let size = libm::ldexp(quotient as f64, -(shift as i32));
    if (a < 0) == (b < 0) { size } else { -size }
}

pub(crate) fn floor_div(a: Number, b: Number) -> Outcome<Number> {
    match (a, b) {
        (_, Number::Int(0)) => Err(zero()),
        (Number::Int(a), Number::Int(b)) => {
            let quotient = a.checked_div(b).ok_or_else(overflow)?;
            let inexact = a.wrapping_rem(b) != 0 && (a < 0) != (b < 0);
            Ok(Number::Int(quotient - i64::from(inexact)))
        }
        _ => Ok(Number::Float(divmod(a.float(), b.float())?.0)),
    }
}

pub(crate) fn modulo(a: Number, b: Number) -> Outcome<Number> {
    match (a, b) {
        (_, Number::Int(0)) => Err(zero()),
        (Number::Int(a), Number::Int(b)) => {
            let rest = a.wrapping_rem(b);
            Ok(Number::Int(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }))
        }
        _ => Ok(Number::Float(divmod(a.float(), b.float())?.1)),
    }
}

/// Python's float division with remainder: the remainder has the sign of the divisor.
fn divmod(a: f64, b: f64) -> Outcome<(f64, f64)> {
    if b == 0.0 {
        return Err(zero());
    }
    let mut rest = libm::fmod(a, b);
    let mut quotient = (a - rest) / b;
    if rest != 0.0 {
        if (b < 0.0) != (rest < 0.0) {
            rest += b;
            quotient -= 1.0;
        }
    } else {
        rest = libm::copysign(0.0, b);
    }
    if quotient == 0.0 {
        return Ok((libm::copysign(0.0, a / b), rest));
    }
    let floor = libm::floor(quotient);
    Ok((if quotient - floor > 0.5 { floor + 1.0 } else { floor }, rest))
}

pub(crate) fn pow(a: Number, b: Number) -> Outcome<Number> {
    if let (Number::Int(base), Number::Int(exponent @ 0..)) = (a, b) {
        return power(base, exponent).map(Number::Int).ok_or_else(overflow);
    }
    let (base, exponent) = (a.float(), b.float());
    if base == 0.0 && exponent < 0.0 {
        return Err(Fault::new(Kind::ZeroDivision, "0 to a negative power"));
    }
    if base < 0.0 && base.is_finite() && exponent.is_finite() && libm::floor(exponent) != exponent {
        return fail(Kind::Value, "a negative number to a fractional power is complex");
    }
    let power = libm::pow(base, exponent);
    if power.is_infinite() && base.is_finite() && exponent.is_finite() {
        return fail(Kind::Overflow, "the power is beyond the range of 64-bit floats");
    }
    Ok(Number::Float(power))
}

/// Squarings; bases that stay small may have any exponent.
fn power(base: i64, exponent: i64) -> Option<i64> {
    match base {
        0 | 1 => return Some(if exponent == 0 { 1 } else { base }),
        -1 => return Some(if exponent % 2 == 0 { 1 } else { -1 }),
        _ => {}
    }
    base.checked_pow(u32::try_from(exponent).ok()?)
}

pub(crate) fn negate(a: Number) -> Outcome<Number> {
    Ok(match a {
        Number::Int(int) => Number::Int(int.checked_neg().ok_or_else(overflow)?),
        Number::Float(float) => Number::Float(-float),
    })
}

pub(crate) fn abs(a: Number) -> Outcome<Number> {
    Ok(match a {
        Number::Int(int) => Number::Int(int.checked_abs().ok_or_else(overflow)?),
        Number::Float(float) => Number::Float(libm::fabs(float)),
    })
}

/// Exact comparison; none where one is not a number.
pub(crate) fn compare(a: Number, b: Number) -> Option<Ordering> {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
        (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
        (Number::Int(a), Number::Float(b)) => int_with_float(a, b),
        (Number::Float(a), Number::Int(b)) => int_with_float(b, a).map(Ordering::reverse),
    }
}

fn int_with_float(int: i64, float: f64) -> Option<Ordering> {
    const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return None;
    }
    if float >= TOO_LARGE {
        return Some(Ordering::Less);
    }
    if float < -TOO_LARGE {
        return Some(Ordering::Greater);
    }
    // The whole part is in range, so that the conversion is exact.
    let whole = libm::trunc(float);
    let fraction = if float > whole {
        Ordering::Less
    } else if float < whole {
        Ordering::Greater
    } else {
        Ordering::Equal
    };
    Some(int.cmp(&(whole as i64)).then(fraction))
}

/// A float without its fraction, as an int.
pub(crate) fn whole(float: f64) -> Outcome<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return fail(Kind::Value, "not a number has no integer");
    }
    let whole = libm::trunc(float);
    if (-LIMIT..LIMIT).contains(&whole) { Ok(whole as i64) } else { Err(overflow()) }
}

/// Nearest integer, ties to even.
pub(crate) fn round(float: f64) -> Outcome<i64> {
    whole(libm::rint(float))
}
