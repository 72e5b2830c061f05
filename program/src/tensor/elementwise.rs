//! Operators and elementwise functions.

use cairn_engine::graph::{Binary, DType, Shape, Unary};

use crate::ast::{BinaryOp, CompareOp};
use crate::diagnostic::Kind;
use crate::fault::{Outcome, fail, fail_hint};
use crate::machine::number::Number;
use crate::machine::{Arguments, Machine};
use crate::value::Value;

/// Largest whole exponent that is written as products.
const PRODUCTS_MAX: i64 = 16;

impl Machine<'_> {
    /// An operator with at least one tensor.
    pub(crate) fn binary_tensors(&mut self, op: BinaryOp, a: Value, b: Value) -> Outcome<Value> {
        match op {
            BinaryOp::Add => self.arithmetic(op, Binary::Add, a, b),
            BinaryOp::Sub => self.arithmetic(op, Binary::Sub, a, b),
            BinaryOp::Mul => self.arithmetic(op, Binary::Mul, a, b),
            BinaryOp::Div => self.arithmetic(op, Binary::Div, a, b),
            BinaryOp::MatMul => self.product(a, b),
            BinaryOp::Pow => self.power(a, b),
            BinaryOp::FloorDiv | BinaryOp::Mod if self.are_integers([a, b])? => {
                let floor = self.whole_quotient(a, b)?;
                if op == BinaryOp::FloorDiv {
                    return self.unary(Unary::ToInt, floor);
                }
                let whole = self.pair(Binary::Mul, floor, b)?;
                let rest = self.pair(Binary::Sub, a, whole)?;
                self.unary(Unary::ToInt, rest)
            }
            BinaryOp::FloorDiv => {
                let quotient = self.arithmetic(op, Binary::Div, a, b)?;
                self.unary(Unary::Floor, quotient)
            }
            BinaryOp::Mod => {
                let quotient = self.arithmetic(op, Binary::Div, a, b)?;
                let floor = self.unary(Unary::Floor, quotient)?;
                let whole = self.mul(floor, b)?;
                self.sub(a, whole)
            }
        }
    }

    fn arithmetic(&mut self, op: BinaryOp, binary: Binary, a: Value, b: Value) -> Outcome<Value> {
        for value in [a, b] {
            if let (Value::Tensor(..), None) | (_, Some(_)) = (value, self.number(value)) {
                continue;
            }
            let message = format!("`{}` does not go with {} and {}", op.symbol(), self.article(a), self.article(b));
            return fail(Kind::Type, message);
        }
        let result = self.pair(binary, a, b)?;
        if op != BinaryOp::Div && self.are_integers([a, b])? { self.unary(Unary::ToInt, result) } else { Ok(result) }
    }

    /// Whether operands are integers, as tensors or numbers, at least one of them a tensor.
    pub(crate) fn are_integers(&self, operands: impl IntoIterator<Item = Value>) -> Outcome<bool> {
        let mut any = false;
        for operand in operands {
            match (operand, self.number(operand)) {
                (Value::Tensor(..), _) if self.dtype_of(self.node("operand", operand)?)? == DType::I32 => any = true,
                (_, Some(Number::Int(_))) => {}
                _ => return Ok(false),
            }
        }
        Ok(any)
    }

    /// ⌊a / b⌋ of integers: half an element above a, where no rounding crosses a whole number.
    fn whole_quotient(&mut self, a: Value, b: Value) -> Outcome<Value> {
        let Some(divisor) = self.number(b).map(Number::float).filter(|&divisor| divisor > 0.0) else {
            return fail_hint(
                Kind::Type,
                "integer tensors are divided by whole numbers above 0",
                "convert first: floor(to_float(a) / to_float(b))",
            );
        };
        let above = self.pair(Binary::Add, a, Value::Float(0.5))?;
        let quotient = self.pair(Binary::Div, above, Value::Float(divisor))?;
        self.unary(Unary::Floor, quotient)
    }

    pub(crate) fn negate_tensor(&mut self, a: Value) -> Outcome<Value> {
        let negative = self.unary(Unary::Neg, a)?;
        if self.are_integers([a])? { self.unary(Unary::ToInt, negative) } else { Ok(negative) }
    }

    fn product(&mut self, a: Value, b: Value) -> Outcome<Value> {
        let (a, b) = (self.float_operand("@", a)?, self.float_operand("@", b)?);
        let (left, right) = (self.shape_of(a)?, self.shape_of(b)?);
        // Vectors become matrices and back, as in NumPy.
        match (left.len(), right.len()) {
            (0, _) | (_, 0) => {
                fail_hint(Kind::Shape, "`@` needs at least one axis on both sides", "use `*` for numbers")
            }
            (1, 1) => {
                let product = self.pair(Binary::Mul, self.tensor_of(a), self.tensor_of(b))?;
                self.total(product)
            }
            (1, _) => {
                let row = self.build(1, |graph| graph.reshape(a, Shape([&[1], &left[..]].concat())))?;
                let row = self.node("@", row)?;
                let product = self.build(2, |graph| graph.matmul(row, b))?;
                self.without_axis(product, right.len() - 2)
            }
            (_, 1) => {
                let column = self.build(1, |graph| graph.reshape(b, Shape([&right[..], &[1]].concat())))?;
                let column = self.node("@", column)?;
                let product = self.build(2, |graph| graph.matmul(a, column))?;
                self.without_axis(product, left.len() - 1)
            }
            _ => self.build(2, |graph| graph.matmul(a, b)),
        }
    }

    /// A tensor without an axis of length 1.
    pub(crate) fn without_axis(&mut self, value: Value, axis: usize) -> Outcome<Value> {
        let id = self.node("reshape", value)?;
        let mut shape = self.shape_of(id)?;
        if axis < shape.len() {
            shape.remove(axis);
        }
        self.build(1, |graph| graph.reshape(id, Shape(shape)))
    }

    /// `a ** b`: small whole powers are products, `** 0.5` is a square root, everything else exp(b · log a).
    fn power(&mut self, a: Value, b: Value) -> Outcome<Value> {
        let Some(exponent) = self.number(b) else {
            let logarithm = match self.number(a) {
                Some(base) if base.float() > 0.0 => Value::Float(libm::log(base.float())),
                Some(_) => return fail(Kind::Value, "a power of a number needs a base above 0"),
                None => self.unary(Unary::Log, a)?,
            };
            let scaled = self.mul(b, logarithm)?;
            return self.unary(Unary::Exp, scaled);
        };
        let exponent = exponent.float();
        if exponent == 0.5 {
            return self.unary(Unary::Sqrt, a);
        }
        if exponent == -0.5 {
            return self.unary(Unary::Rsqrt, a);
        }
        let whole = libm::trunc(exponent) == exponent && exponent.abs() <= PRODUCTS_MAX as f64;
        if !whole {
            let logarithm = self.unary(Unary::Log, a)?;
            let scaled = self.mul(logarithm, Value::Float(exponent))?;
            return self.unary(Unary::Exp, scaled);
        }
        let base = self.float_operand("**", a)?;
        let base = self.tensor_of(base);
        let mut power = base;
        for _ in 1..exponent.abs() as i64 {
            power = self.pair(Binary::Mul, power, base)?;
        }
        if exponent == 0.0 {
            let id = self.node("**", base)?;
            let shape = self.shape_of(id)?;
            return self.build(0, |graph| graph.full(super::bits(1.0), Shape(shape)));
        }
        if exponent < 0.0 { self.unary(Unary::Recip, power) } else { Ok(power) }
    }

    /// A comparison with at least one tensor: a mask of 0 and 1.
    pub(crate) fn compare_tensors(&mut self, op: CompareOp, a: Value, b: Value) -> Outcome<Value> {
        let what = op.symbol();
        let none = |value| value == Value::None;
        if none(a) || none(b) {
            return match op {
                CompareOp::Eq => Ok(Value::Bool(false)),
                CompareOp::NotEq => Ok(Value::Bool(true)),
                _ => fail(Kind::Type, format!("`{what}` does not go with None")),
            };
        }
        let whole = |m: &Self, value: Value| -> Outcome<Option<i64>> {
            Ok(match m.number(value) {
                Some(Number::Int(int)) => Some(int),
                _ => None,
            })
        };
        // Integers are compared as integers.
        let integer_tensor = |m: &Self, value: Value| -> Outcome<bool> {
            Ok(match value {
                Value::Tensor(..) => m.dtype_of(m.node(what, value)?)? == DType::I32,
                _ => false,
            })
        };
        let (left_int, right_int) = (integer_tensor(self, a)?, integer_tensor(self, b)?);
        let (left, right) = match (whole(self, a)?, whole(self, b)?) {
            (None, Some(int)) if left_int => (self.node(what, a)?, self.integer_scalar(int)?),
            (Some(int), None) if right_int => (self.integer_scalar(int)?, self.node(what, b)?),
            _ if left_int && right_int => (self.node(what, a)?, self.node(what, b)?),
            _ => (self.float_operand(what, a)?, self.float_operand(what, b)?),
        };
        match op {
            CompareOp::Lt => self.build(2, |graph| graph.binary(Binary::Lt, left, right)),
            CompareOp::LtE => self.build(2, |graph| graph.binary(Binary::Le, left, right)),
            CompareOp::Gt => self.build(2, |graph| graph.binary(Binary::Lt, right, left)),
            CompareOp::GtE => self.build(2, |graph| graph.binary(Binary::Le, right, left)),
            CompareOp::Eq => self.build(2, |graph| graph.binary(Binary::Eq, left, right)),
            CompareOp::NotEq => {
                let equal = self.build(2, |graph| graph.binary(Binary::Eq, left, right))?;
                self.sub(Value::Float(1.0), equal)
            }
            _ => fail(Kind::Type, format!("`{what}` does not go with tensors")),
        }
    }

    /// The node of an integer operand that may be a number.
    fn integer_operand(&mut self, what: &str, value: Value) -> Outcome<u32> {
        match self.number(value) {
            Some(Number::Int(int)) => self.integer_scalar(int),
            _ => self.node(what, value),
        }
    }

    /// An integer that every element of an I32 tensor can be compared with.
    pub(crate) fn integer_scalar(&mut self, int: i64) -> Outcome<u32> {
        let Ok(int) = i32::try_from(int) else {
            return fail(Kind::Overflow, "integers in tensors have 32 bits");
        };
        let value = self.build(0, |graph| graph.full_int(int, Shape(vec![])))?;
        self.node("int", value)
    }
}

pub(super) fn unary(m: &mut Machine<'_>, a: Arguments, name: &str, op: Unary) -> Outcome<Value> {
    let x = a.one(m, name, "x|input")?;
    if let (Some(_), false) = (m.number(x), m.tracer.is_tracing()) {
        return fail_hint(
            Kind::Type,
            format!("`{name}` from `cairn` is for tensors"),
            format!("use math.{name}(…) for numbers, if there is one"),
        );
    }
    m.unary(op, x)
}

pub(super) fn pairwise(m: &mut Machine<'_>, a: Arguments, name: &str, op: Binary) -> Outcome<Value> {
    let [x, y] = a.two(m, name, ["a|x|input", "b|y|other"])?;
    larger(m, op, x, y)
}

/// `maximum` or `minimum`; of integers it is an integer.
fn larger(m: &mut Machine<'_>, op: Binary, x: Value, y: Value) -> Outcome<Value> {
    let result = m.pair(op, x, y)?;
    if m.are_integers([x, y])? { m.unary(Unary::ToInt, result) } else { Ok(result) }
}

pub(super) fn comparison(m: &mut Machine<'_>, a: Arguments, name: &str, op: CompareOp) -> Outcome<Value> {
    let [x, y] = a.two(m, name, ["a|x|input", "b|y|other"])?;
    m.compare_tensors(op, x, y)
}

pub(super) fn matmul(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, y] = a.two(m, "matmul", ["a|input", "b|other"])?;
    m.binary_tensors(BinaryOp::MatMul, x, y)
}

pub(super) fn pow(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, y] = a.two(m, "pow", ["x", "exponent"])?;
    m.binary(BinaryOp::Pow, x, y)
}

pub(super) fn square(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let x = a.one(m, "square", "x")?;
    m.pair(Binary::Mul, x, x)
}

pub(super) fn where_(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [mask, x, y] = a.bind(m, "where", ["condition|mask", "a|x|input", "b|y|other"], 3)?;
    choose(m, "where", [mask, x, y].map(|value| value.unwrap_or(Value::None)))
}

/// The second where the first is not 0, else the third; integers where both are.
pub(super) fn choose(m: &mut Machine<'_>, what: &str, [mask, x, y]: [Value; 3]) -> Outcome<Value> {
    let mask = m.float_operand(&format!("{what}: mask"), mask)?;
    let (x, y) = if m.are_integers([x, y])? {
        (m.integer_operand(what, x)?, m.integer_operand(what, y)?)
    } else {
        (m.float_operand(what, x)?, m.float_operand(what, y)?)
    };
    m.build(3, |graph| graph.where_(mask, x, y))
}

pub(super) fn clip(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, low, high] = a.bind(m, "clip", ["x|input", "min|a_min", "max|a_max"], 1)?;
    let mut x = x.unwrap_or(Value::None);
    let bounds = [(low, Binary::Max), (high, Binary::Min)];
    if bounds.iter().all(|(bound, _)| matches!(bound, None | Some(Value::None))) {
        return fail(Kind::Type, "clip() needs min, max or both");
    }
    for (bound, op) in bounds {
        if let Some(bound) = bound.filter(|bound| *bound != Value::None) {
            x = larger(m, op, x, bound)?;
        }
    }
    Ok(x)
}

pub(super) fn stop_gradient(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let x = a.one(m, "stop_gradient", "x|input")?;
    let x = m.float_operand("stop_gradient", x)?;
    m.build(1, |graph| graph.stop_gradient(x))
}

pub(super) fn to_float(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let x = a.one(m, "to_float", "x|input")?;
    let x = m.float_operand("to_float", x)?;
    Ok(m.tensor_of(x))
}

/// `round_to(x, "bf16")`.
pub(super) fn round_to(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, format] = a.two(m, "round_to", ["x|input", "format"])?;
    match &*m.text_argument("round_to: format", format)? {
        "bf16" | "bfloat16" => m.unary(Unary::RoundBf16, x),
        other => fail_hint(Kind::Value, format!("round_to: there is no format \"{other}\""), "there is \"bf16\""),
    }
}

/// x · sigmoid(x).
pub(super) fn silu(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let x = a.one(m, "silu", "x|input")?;
    let gate = m.unary(Unary::Sigmoid, x)?;
    m.pair(Binary::Mul, x, gate)
}

/// max(x, 0) + log(1 + exp(−|x|)).
pub(super) fn softplus(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let x = a.one(m, "softplus", "x|input")?;
    let size = m.unary(Unary::Abs, x)?;
    let size = m.unary(Unary::Neg, size)?;
    let small = m.unary(Unary::Exp, size)?;
    let small = m.add(small, Value::Float(1.0))?;
    let small = m.unary(Unary::Log, small)?;
    let large = m.unary(Unary::Relu, x)?;
    m.add(large, small)
}

/// 0.5·x·(1 + erf(x/√2)); `approximate="tanh"`: 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
pub(super) fn gelu(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, approximate] = a.bind(m, "gelu", ["x|input", "approximate"], 1)?;
    let x = x.unwrap_or(Value::None);
    let approximate = match approximate {
        None | Some(Value::None) | Some(Value::Bool(false)) => "none".into(),
        Some(Value::Bool(true)) => "tanh".into(),
        Some(text) => m.text_argument("gelu: approximate", text)?,
    };
    let gate = match &*approximate {
        "none" => {
            let scaled = m.mul(x, Value::Float(std::f64::consts::FRAC_1_SQRT_2))?;
            m.unary(Unary::Erf, scaled)?
        }
        "tanh" => {
            let cube = m.binary(BinaryOp::Pow, x, Value::Int(3))?;
            let cube = m.mul(cube, Value::Float(0.044715))?;
            let inner = m.add(x, cube)?;
            let inner = m.mul(inner, Value::Float(libm::sqrt(2.0 / std::f64::consts::PI)))?;
            m.unary(Unary::Tanh, inner)?
        }
        other => {
            return fail_hint(
                Kind::Value,
                format!("gelu: there is no approximation \"{other}\""),
                "there are \"none\" and \"tanh\"",
            );
        }
    };
    let gate = m.add(gate, Value::Float(1.0))?;
    let half = m.mul(x, Value::Float(0.5))?;
    m.mul(half, gate)
}
