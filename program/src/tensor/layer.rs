//! Layers: what networks are made of.

use cairn_engine::graph::{Attention, Binary, DType, NodeId, RowOp, Unary};

use super::bits;
use crate::ast::{BinaryOp, CompareOp};
use crate::diagnostic::Kind;
use crate::fault::{Outcome, fail, fail_hint};
use crate::machine::{Arguments, Machine};
use crate::value::Value;

/// A composite along an axis: the last one, or one that is moved there and back.
fn along(m: &mut Machine<'_>, a: Arguments, name: &str, op: RowOp) -> Outcome<Value> {
    let [x, dim] = a.bind(m, name, ["x|input", "dim|axis"], 1)?;
    let x = m.float_operand(name, x.unwrap_or(Value::None))?;
    let rank = m.shape_of(x)?.len();
    let axis = m.axis(name, dim.unwrap_or(Value::Int(-1)), rank)?;
    if usize::from(axis) + 1 == rank {
        return m.build(1, |graph| graph.row(op, &[x]));
    }
    let mut perm: Vec<u8> = (0..rank as u8).collect();
    perm.swap(usize::from(axis), rank - 1);
    let swapped = m.build(1, |graph| graph.permute(x, &perm))?;
    let swapped = m.node(name, swapped)?;
    let result = m.build(1, |graph| graph.row(op, &[swapped]))?;
    let result = m.node(name, result)?;
    m.build(1, |graph| graph.permute(result, &perm))
}

pub(super) fn softmax(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    along(m, a, "softmax", RowOp::Softmax)
}

pub(super) fn log_softmax(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    along(m, a, "log_softmax", RowOp::LogSoftmax)
}

fn epsilon(m: &Machine<'_>, value: Option<Value>, default: f64) -> Outcome<u32> {
    let value = match value {
        None | Some(Value::None) => default,
        Some(value) => m.real("eps", value)?,
    };
    if value < 0.0 { fail(Kind::Value, "eps is negative") } else { Ok(bits(value)) }
}

/// x · rsqrt(mean(x²) + eps) along the last axis, times `weight` if there is one.
pub(super) fn rms_norm(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, gain, eps] = a.bind(m, "rms_norm", ["x|input", "weight|gain", "eps"], 1)?;
    let (x, eps) = (m.float_operand("rms_norm", x.unwrap_or(Value::None))?, epsilon(m, eps, 1e-6)?);
    let normal = m.build(1, |graph| graph.row(RowOp::RmsNorm(eps), &[x]))?;
    scaled(m, normal, gain, None)
}

/// (x − mean) · rsqrt(var + eps) along the last axis, times `weight`, plus `bias`.
pub(super) fn layer_norm(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, gain, bias, eps] = a.bind(m, "layer_norm", ["x|input", "weight|gain", "bias", "eps"], 1)?;
    let (x, eps) = (m.float_operand("layer_norm", x.unwrap_or(Value::None))?, epsilon(m, eps, 1e-5)?);
    let normal = m.build(1, |graph| graph.row(RowOp::LayerNorm(eps), &[x]))?;
    scaled(m, normal, gain, bias)
}

fn scaled(m: &mut Machine<'_>, mut x: Value, gain: Option<Value>, bias: Option<Value>) -> Outcome<Value> {
    for (operand, op) in [(gain, Binary::Mul), (bias, Binary::Add)] {
        match operand {
            None | Some(Value::None) => {}
            Some(Value::Tuple(_) | Value::List(_)) => {
                return fail_hint(
                    Kind::Type,
                    "the normalised axis is always the last: no shape is given",
                    "write rms_norm(x, weight) or layer_norm(x, weight, bias)",
                );
            }
            Some(operand) => x = m.pair(op, x, operand)?,
        }
    }
    Ok(x)
}

/// `linear(x, weight [d_in, d_out], bias)`: x @ weight + bias.
pub(super) fn linear(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, weight, bias] = a.bind(m, "linear", ["x|input", "weight", "bias"], 2)?;
    let product = m.binary_tensors(BinaryOp::MatMul, x.unwrap_or(Value::None), weight.unwrap_or(Value::None))?;
    scaled(m, product, None, bias)
}

/// Rotary positions of x [.., T, D] over T.
pub(super) fn rope(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, base] = a.bind(m, "rope", ["x|input", "base|theta"], 1)?;
    let x = m.float_operand("rope", x.unwrap_or(Value::None))?;
    let base = m.real("rope: base", base.unwrap_or(Value::Float(10_000.0)))?;
    if base <= 0.0 {
        return fail(Kind::Value, "rope: the base is above 0");
    }
    m.build(1, |graph| graph.rope(x, bits(base), false))
}

/// Rows of a table [V, C] at ids [..]; ids and table in either order.
pub(super) fn embedding(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [ids, table] = a.two(m, "embedding", ["ids|x|input", "table|weight"])?;
    let (ids, table) = (m.node("embedding", ids)?, m.node("embedding", table)?);
    let swapped = m.dtype_of(ids)? == DType::F32 && m.dtype_of(table)? == DType::I32;
    let (ids, table) = if swapped { (table, ids) } else { (ids, table) };
    m.build(2, |graph| graph.embedding(table, ids))
}

/// Scaled dot-product attention of q [B, H, T, D], k and v [B, Hk, S, D], Hk dividing H.
pub(super) fn attention(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let names = ["q|query", "k|key", "v|value", "causal|is_causal", "window", "scale", "soft_cap|softcap"];
    let [q, k, v, causal, window, scale, soft_cap] = a.bind(m, "attention", names, 3)?;
    let q = m.float_operand("attention: q", q.unwrap_or(Value::None))?;
    let k = m.float_operand("attention: k", k.unwrap_or(Value::None))?;
    let v = m.float_operand("attention: v", v.unwrap_or(Value::None))?;
    let given = |value: Option<Value>| value.filter(|value| *value != Value::None);
    let causal = m.truth(causal.unwrap_or(Value::Bool(false)))?;
    let window = match given(window) {
        None => 0,
        Some(window) => match u32::try_from(m.integer("attention: window", window)?) {
            Ok(window) if window > 0 => window,
            _ => return fail(Kind::Value, "attention: a window is at least 1 key wide"),
        },
    };
    let channels = f64::from(m.shape_of(q)?.last().copied().unwrap_or(1));
    let scale = match given(scale) {
        None => 1.0 / libm::sqrt(channels),
        Some(scale) => m.real("attention: scale", scale)?,
    };
    let soft_cap = match given(soft_cap) {
        None => 0,
        Some(cap) => match m.real("attention: soft_cap", cap)? {
            cap if cap > 0.0 => bits(cap),
            _ => return fail(Kind::Value, "attention: a soft cap is above 0"),
        },
    };
    let options = Attention { causal: causal || window > 0, window, scale: bits(scale), soft_cap };
    m.build(3, |graph| graph.attention(q, k, v, options))
}

/// `cross_entropy(logits [.., V], targets [..])`: the mean over targets that are not -1; `reduction="sum"` or `"none"`.
pub(super) fn cross_entropy(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [logits, targets, reduction, ignore] =
        a.bind(m, "cross_entropy", ["logits|x|input", "targets|y|target", "reduction", "ignore_index"], 2)?;
    if let Some(ignore) = ignore
        && m.integer("cross_entropy: ignore_index", ignore)? != -1
    {
        return fail_hint(Kind::Value, "cross_entropy: the target that is ignored is -1", "leave ignore_index out");
    }
    let reduction = match reduction {
        None => "mean".into(),
        Some(reduction) => m.text_argument("cross_entropy: reduction", reduction)?,
    };
    let logits = m.float_operand("cross_entropy: logits", logits.unwrap_or(Value::None))?;
    let targets = m.node("cross_entropy: targets", targets.unwrap_or(Value::None))?;
    let losses = m.build(2, |graph| graph.row(RowOp::CrossEntropy, &[logits, targets]))?;
    match &*reduction {
        "none" => Ok(losses),
        "sum" => m.total(losses),
        "mean" => m.mean_loss(losses, targets),
        other => fail_hint(
            Kind::Value,
            format!("cross_entropy: there is no reduction \"{other}\""),
            "there are \"mean\", \"sum\" and \"none\"",
        ),
    }
}

impl Machine<'_> {
    /// The sum of losses over the number of targets that are not padding (at least 1).
    fn mean_loss(&mut self, losses: Value, targets: NodeId) -> Outcome<Value> {
        let sum = self.total(losses)?;
        let mask = self.compare_tensors(CompareOp::GtE, self.tensor_of(targets), Value::Int(0))?;
        let count = self.total(mask)?;
        let count = self.pair(Binary::Max, count, Value::Float(1.0))?;
        let share = self.unary(Unary::Recip, count)?;
        self.mul(sum, share)
    }

    /// The track's metric as a training objective.
    pub(crate) fn default_loss(&mut self, logits: Value, targets: Value) -> Outcome<Value> {
        cross_entropy(self, Arguments::of(&[logits, targets]))
    }
}
