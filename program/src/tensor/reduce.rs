//! Reductions: over all axes, one (`dim=`, `axis=`) or several.

use cairn_engine::graph::{Binary, NodeId, Shape, Unary};

use crate::diagnostic::Kind;
use crate::fault::{Outcome, fail_hint};
use crate::machine::{Arguments, Machine};
use crate::value::Value;

const NAMES: [&str; 3] = ["x|input", "dim|axis", "keepdim|keepdims"];

/// What to reduce, over which axes, and whether they stay as axes of length 1.
struct Reduction {
    x: NodeId,
    axes: Vec<u8>,
    keep: bool,
}

impl Machine<'_> {
    fn reduction(&mut self, name: &str, [x, dim, keep]: [Option<Value>; 3]) -> Outcome<Reduction> {
        let x = self.float_operand(name, x.unwrap_or(Value::None))?;
        let rank = self.shape_of(x)?.len();
        let axes = match dim {
            None | Some(Value::None) => (0..rank as u8).collect(),
            Some(list @ (Value::List(_) | Value::Tuple(_))) => {
                let values = self.collect(list)?;
                values.into_iter().map(|value| self.axis(name, value, rank)).collect::<Outcome<_>>()?
            }
            Some(axis) => vec![self.axis(name, axis, rank)?],
        };
        let keep = self.truth(keep.unwrap_or(Value::Bool(false)))?;
        Ok(Reduction { x, axes, keep })
    }

    /// A result with reduced axes of length 1, in its final shape.
    fn reduced(&mut self, kept: Value, axes: &[u8], keep: bool) -> Outcome<Value> {
        if keep {
            return Ok(kept);
        }
        let id = self.node("reduction", kept)?;
        let shape = self.shape_of(id)?;
        let rest = shape.iter().enumerate().filter(|(i, _)| !axes.iter().any(|&axis| usize::from(axis) == *i));
        let rest = Shape(rest.map(|(_, &n)| n).collect());
        self.build(1, |graph| graph.reshape(id, rest))
    }

    fn sum_kept(&mut self, x: NodeId, axes: &[u8]) -> Outcome<Value> {
        if axes.is_empty() {
            return Ok(self.tensor_of(x));
        }
        self.build(1, |graph| graph.sum(x, axes))
    }

    fn max_kept(&mut self, x: NodeId, axes: &[u8]) -> Outcome<Value> {
        if axes.is_empty() {
            return Ok(self.tensor_of(x));
        }
        self.build(1, |graph| graph.max(x, axes))
    }

    /// Product of the lengths of axes.
    fn count(&self, x: NodeId, axes: &[u8]) -> Outcome<f64> {
        let shape = self.shape_of(x)?;
        Ok(axes.iter().filter_map(|&axis| shape.get(usize::from(axis))).map(|&n| f64::from(n)).product())
    }

    fn mean_kept(&mut self, x: NodeId, axes: &[u8]) -> Outcome<Value> {
        let sum = self.sum_kept(x, axes)?;
        let count = self.count(x, axes)?;
        self.mul(sum, Value::Float(1.0 / count))
    }

    /// The sum of all elements, a scalar.
    pub(crate) fn total(&mut self, x: Value) -> Outcome<Value> {
        sum(self, Arguments::of(&[x]))
    }
}

pub(super) fn sum(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let bound = a.bind(m, "sum", NAMES, 1)?;
    let Reduction { x, axes, keep } = m.reduction("sum", bound)?;
    let kept = m.sum_kept(x, &axes)?;
    m.reduced(kept, &axes, keep)
}

/// The sum times 1/n.
pub(super) fn mean(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let bound = a.bind(m, "mean", NAMES, 1)?;
    let Reduction { x, axes, keep } = m.reduction("mean", bound)?;
    let kept = m.mean_kept(x, &axes)?;
    m.reduced(kept, &axes, keep)
}

pub(super) fn max(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let bound = a.bind(m, "max", NAMES, 1)?;
    let Reduction { x, axes, keep } = m.reduction("max", bound)?;
    let kept = m.max_kept(x, &axes)?;
    m.reduced(kept, &axes, keep)
}

/// −max(−x).
pub(super) fn min(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let bound = a.bind(m, "min", NAMES, 1)?;
    let Reduction { x, axes, keep } = m.reduction("min", bound)?;
    let negative = m.unary(Unary::Neg, m.tensor_of(x))?;
    let negative = m.node("min", negative)?;
    let kept = m.max_kept(negative, &axes)?;
    let kept = m.unary(Unary::Neg, kept)?;
    m.reduced(kept, &axes, keep)
}

/// Two passes: the mean, then the sum of squared deviations times 1/(n − correction).
pub(super) fn var(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let names = ["x|input", "dim|axis", "keepdim|keepdims", "correction|ddof", "unbiased"];
    let [x, dim, keep, correction, unbiased] = a.bind(m, "var", names, 1)?;
    let correction = match (correction, unbiased) {
        (Some(correction), None) => m.real("var: correction", correction)?,
        (None, Some(unbiased)) => f64::from(u8::from(m.truth(unbiased)?)),
        _ => {
            return fail_hint(
                Kind::Type,
                "var() needs correction=0 or correction=1",
                "NumPy divides by n (correction=0), PyTorch by n - 1 (correction=1)",
            );
        }
    };
    let Reduction { x, axes, keep } = m.reduction("var", [x, dim, keep])?;
    let mean = m.mean_kept(x, &axes)?;
    let deviation = m.pair(Binary::Sub, m.tensor_of(x), mean)?;
    let square = m.pair(Binary::Mul, deviation, deviation)?;
    let square = m.node("var", square)?;
    let sum = m.sum_kept(square, &axes)?;
    let count = m.count(x, &axes)? - correction;
    if count <= 0.0 {
        return fail_hint(Kind::Shape, "var() of too few elements", "use correction=0");
    }
    let kept = m.mul(sum, Value::Float(1.0 / count))?;
    m.reduced(kept, &axes, keep)
}

/// m + log(Σ exp(x − m)), m the maximum, through which no gradient passes: it would cancel.
pub(super) fn logsumexp(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let bound = a.bind(m, "logsumexp", NAMES, 1)?;
    let Reduction { x, axes, keep } = m.reduction("logsumexp", bound)?;
    let most = m.max_kept(x, &axes)?;
    let most = m.node("logsumexp", most)?;
    let most = m.build(1, |graph| graph.stop_gradient(most))?;
    let shifted = m.pair(Binary::Sub, m.tensor_of(x), most)?;
    let powers = m.unary(Unary::Exp, shifted)?;
    let powers = m.node("logsumexp", powers)?;
    let sum = m.sum_kept(powers, &axes)?;
    let log = m.unary(Unary::Log, sum)?;
    let kept = m.pair(Binary::Add, most, log)?;
    m.reduced(kept, &axes, keep)
}
