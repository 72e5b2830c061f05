//! `math`, in pure Rust so that every machine gets the same bits.

use super::{Entry, entry};
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, fail};
use crate::machine::number::{self, Number};
use crate::machine::{Arguments, Machine};
use crate::value::Value;

pub(super) const TABLE: &[Entry] = &[
    entry("acos", |m, a| function(m, a, "acos", libm::acos)),
    entry("asin", |m, a| function(m, a, "asin", libm::asin)),
    entry("atan", |m, a| function(m, a, "atan", libm::atan)),
    entry("atan2", |m, a| function2(m, a, "atan2", libm::atan2)),
    entry("ceil", |m, a| rounded(m, a, "ceil", libm::ceil)),
    entry("copysign", |m, a| function2(m, a, "copysign", libm::copysign)),
    entry("cos", |m, a| function(m, a, "cos", libm::cos)),
    entry("cosh", |m, a| function(m, a, "cosh", libm::cosh)),
    entry("erf", |m, a| function(m, a, "erf", libm::erf)),
    entry("exp", |m, a| function(m, a, "exp", libm::exp)),
    entry("expm1", |m, a| function(m, a, "expm1", libm::expm1)),
    entry("fabs", |m, a| function(m, a, "fabs", libm::fabs)),
    entry("floor", |m, a| rounded(m, a, "floor", libm::floor)),
    entry("fmod", |m, a| function2(m, a, "fmod", libm::fmod)),
    entry("gcd", gcd),
    entry("hypot", |m, a| function2(m, a, "hypot", libm::hypot)),
    entry("isfinite", |m, a| test(m, a, "isfinite", f64::is_finite)),
    entry("isinf", |m, a| test(m, a, "isinf", f64::is_infinite)),
    entry("isnan", |m, a| test(m, a, "isnan", f64::is_nan)),
    entry("isqrt", isqrt),
    entry("log", log),
    entry("log10", |m, a| logarithm(m, a, "log10", libm::log10)),
    entry("log1p", |m, a| function(m, a, "log1p", libm::log1p)),
    entry("log2", |m, a| logarithm(m, a, "log2", libm::log2)),
    entry("pow", |m, a| {
        let [x, y] = a.two(m, "pow", ["x", "y"])?;
        let (x, y) = (m.real("pow", x)?, m.real("pow", y)?);
        Ok(number::pow(Number::Float(x), Number::Float(y))?.into())
    }),
    entry("prod", prod),
    entry("sin", |m, a| function(m, a, "sin", libm::sin)),
    entry("sinh", |m, a| function(m, a, "sinh", libm::sinh)),
    entry("sqrt", |m, a| function(m, a, "sqrt", libm::sqrt)),
    entry("tan", |m, a| function(m, a, "tan", libm::tan)),
    entry("tanh", |m, a| function(m, a, "tanh", libm::tanh)),
    entry("trunc", |m, a| rounded(m, a, "trunc", libm::trunc)),
];

fn argument(m: &Machine<'_>, name: &str, value: Value) -> Outcome<f64> {
    if let Value::Tensor(..) = value {
        return Err(Fault::new(Kind::Type, format!("math.{name} takes a number, not a tensor"))
            .hint(format!("use x.{name}() or `{name}` from `cairn`, if there is one")));
    }
    m.real(&format!("math.{name}"), value)
}

/// What Python does with results that are no numbers.
fn checked(name: &str, result: f64, finite: bool) -> Outcome<Value> {
    if finite && result.is_nan() {
        return fail(Kind::Value, format!("math.{name} is not defined there"));
    }
    if finite && result.is_infinite() {
        return fail(Kind::Overflow, format!("math.{name} is beyond the range of 64-bit floats there"));
    }
    Ok(Value::Float(result))
}

fn function(m: &mut Machine<'_>, a: Arguments, name: &str, of: fn(f64) -> f64) -> Outcome<Value> {
    let value = a.one(m, name, "x")?;
    let x = argument(m, name, value)?;
    checked(name, of(x), x.is_finite())
}

fn function2(m: &mut Machine<'_>, a: Arguments, name: &str, of: fn(f64, f64) -> f64) -> Outcome<Value> {
    let [x, y] = a.two(m, name, ["x", "y"])?;
    let (x, y) = (argument(m, name, x)?, argument(m, name, y)?);
    checked(name, of(x, y), x.is_finite() && y.is_finite())
}

fn logarithm(m: &mut Machine<'_>, a: Arguments, name: &str, of: fn(f64) -> f64) -> Outcome<Value> {
    let value = a.one(m, name, "x")?;
    let x = argument(m, name, value)?;
    if x <= 0.0 {
        return fail(Kind::Value, format!("math.{name} needs a number above 0"));
    }
    checked(name, of(x), x.is_finite())
}

fn log(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, base] = a.bind(m, "log", ["x", "base"], 1)?;
    let Value::Float(x) = logarithm(m, Arguments::of(&[x.unwrap_or(Value::None)]), "log", libm::log)? else {
        return fail(Kind::Internal, "a logarithm that is no float");
    };
    match base {
        None => Ok(Value::Float(x)),
        Some(base) => {
            let base = logarithm(m, Arguments::of(&[base]), "log", libm::log)?;
            m.binary(crate::ast::BinaryOp::Div, Value::Float(x), base)
        }
    }
}

fn rounded(m: &mut Machine<'_>, a: Arguments, name: &str, of: fn(f64) -> f64) -> Outcome<Value> {
    let value = a.one(m, name, "x")?;
    match m.number(value) {
        Some(Number::Int(int)) => Ok(Value::Int(int)),
        _ => Ok(Value::Int(number::whole(of(argument(m, name, value)?))?)),
    }
}

fn test(m: &mut Machine<'_>, a: Arguments, name: &str, of: fn(f64) -> bool) -> Outcome<Value> {
    let value = a.one(m, name, "x")?;
    Ok(Value::Bool(of(argument(m, name, value)?)))
}

fn gcd(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let mut result = 0u64;
    for value in a.positional {
        let (mut x, mut y) = (result, m.integer("math.gcd", value)?.unsigned_abs());
        m.burn(64)?;
        while y != 0 {
            (x, y) = (y, x % y);
        }
        result = x;
    }
    i64::try_from(result).map(Value::Int).or_else(|_| fail(Kind::Overflow, "math.gcd is beyond 64 bits"))
}

fn isqrt(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let value = a.one(m, "isqrt", "n")?;
    let n = m.integer("math.isqrt", value)?;
    if n < 0 { fail(Kind::Value, "math.isqrt needs a number of at least 0") } else { Ok(Value::Int(n.isqrt())) }
}

fn prod(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [items, start] = a.bind(m, "prod", ["iterable", "start"], 1)?;
    let mut iterator = m.iterate(items.unwrap_or(Value::None))?;
    let mut product = start.unwrap_or(Value::Int(1));
    while let Some(value) = m.next_item(&mut iterator)? {
        product = m.binary(crate::ast::BinaryOp::Mul, product, value)?;
    }
    Ok(product)
}
