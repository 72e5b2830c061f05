//! Elementwise operations.

use super::{Here, Value};
use crate::graph::{Binary, Unary};

impl Here<'_> {
    pub(super) fn unary(&self, op: Unary) -> Value {
        if op == Unary::ToFloat {
            let limit = 1 << 24;
            return Value::F(self.ints(0).iter().map(|&x| f64::from(x.clamp(-limit, limit))).collect());
        }
        if op == Unary::ToInt {
            let limit = f64::from(1 << 24);
            return Value::I(self.floats(0).iter().map(|&x| libm::rint(x).clamp(-limit, limit) as i32).collect());
        }
        Value::F(self.floats(0).iter().map(|&x| unary(op, x)).collect())
    }

    pub(super) fn binary(&self, op: Binary) -> Value {
        let (left, right) = (self.broadcast_from(0), self.broadcast_from(1));
        let count = 0..self.count();
        if let (Value::I(a), Value::I(b)) = (self.operand(0), self.operand(1)) {
            let pairs = count.map(|i| (f64::from(a[left(i)]), f64::from(b[right(i)])));
            return Value::F(pairs.map(|(a, b)| binary(op, a, b)).collect());
        }
        let (a, b) = (self.floats(0), self.floats(1));
        Value::F(count.map(|i| binary(op, a[left(i)], b[right(i)])).collect())
    }

    pub(super) fn where_(&self) -> Value {
        let from = [0, 1, 2].map(|k| self.broadcast_from(k));
        let (c, count) = (self.floats(0), 0..self.count());
        let first = |&i: &usize| c[from[0](i)] != 0.0;
        match (self.operand(1), self.operand(2)) {
            (Value::I(a), Value::I(b)) => {
                Value::I(count.map(|i| if first(&i) { a[from[1](i)] } else { b[from[2](i)] }).collect())
            }
            _ => {
                let (a, b) = (self.floats(1), self.floats(2));
                Value::F(count.map(|i| if first(&i) { a[from[1](i)] } else { b[from[2](i)] }).collect())
            }
        }
    }
}

fn unary(op: Unary, x: f64) -> f64 {
    match op {
        Unary::Neg => -x,
        Unary::Exp => libm::exp(x),
        Unary::Log => libm::log(x),
        Unary::Sqrt => libm::sqrt(x),
        Unary::Rsqrt => 1.0 / libm::sqrt(x),
        Unary::Recip => 1.0 / x,
        Unary::Tanh => libm::tanh(x),
        Unary::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
        Unary::Erf => libm::erf(x),
        Unary::Sin => libm::sin(x),
        Unary::Cos => libm::cos(x),
        Unary::Relu => x.max(0.0),
        Unary::Abs => x.abs(),
        Unary::Sign if x == 0.0 => 0.0,
        Unary::Sign => x.signum(),
        Unary::Floor => libm::floor(x),
        Unary::Round => libm::rint(x),
        Unary::RoundBf16 => round_bf16(x),
        Unary::ToFloat | Unary::ToInt => x,
    }
}

/// To 8 significant bits, ties to even.
fn round_bf16(x: f64) -> f64 {
    let bits = x.to_bits();
    let dropped = 52 - 7;
    let odd = (bits >> dropped) & 1;
    f64::from_bits((bits + (1 << (dropped - 1)) - 1 + odd) >> dropped << dropped)
}

fn binary(op: Binary, a: f64, b: f64) -> f64 {
    let mask = |holds: bool| f64::from(u8::from(holds));
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Max => a.max(b),
        Binary::Min => a.min(b),
        Binary::Lt => mask(a < b),
        Binary::Le => mask(a <= b),
        Binary::Eq => mask(a == b),
    }
}
