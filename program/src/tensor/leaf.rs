//! Where tensors come from: parameters and constants.

use cairn_engine::graph::{Init, Param, Shape};

use super::{KnownParam, bits};
use crate::diagnostic::Kind;
use crate::fault::{Outcome, fail, fail_hint};
use crate::machine::{Arguments, Machine};
use crate::value::Value;

/// Longest name of a parameter, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Most parameters, as tensors.
const PARAMS_MAX: usize = 2048;
/// Standard deviation of a normal initialisation for which none is named.
const STD: f64 = 0.02;

/// `param(name, shape, init="normal", std=0.02, value=…, bound=…, tag="")`.
pub(super) fn param(m: &mut Machine<'_>, mut a: Arguments) -> Outcome<Value> {
    // Lengths given one by one: param("w", 3, 4).
    if a.positional.len() > 2 && matches!(a.positional.get(1), Some(Value::Int(_))) {
        let lengths = a.positional.split_off(1);
        let lengths = m.new_tuple(&lengths)?;
        a.positional.push(lengths);
    }
    let names = ["name", "shape", "init", "std", "value", "bound", "tag|group"];
    let [name, shape, init, std, value, bound, tag] = a.bind(m, "param", names, 2)?;
    if !m.tracer.in_model {
        return fail_hint(
            Kind::Program,
            "param() outside of model()",
            "call it inside of model() or a function that model() calls",
        );
    }
    let name = m.text_argument("param: name", name.unwrap_or(Value::None))?;
    check_name(&name)?;
    let shape = match shape.unwrap_or(Value::None) {
        length @ Value::Int(_) => {
            let length = m.integer("param", length)?;
            m.new_shape("param", &[length])?
        }
        shape => m.shape_argument("param: shape", shape)?,
    };
    let init = initial(m, init, std, value, bound)?;
    let tag = match tag {
        Some(Value::None) | None => String::new(),
        Some(tag) => m.text_argument("param: tag", tag)?.as_ref().to_owned(),
    };
    let param = Param { name: name.as_ref().to_owned(), shape, init, tag };
    let index = known(m, param)?;
    m.param_value(index)
}

fn check_name(name: &str) -> Outcome<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
        return fail_hint(
            Kind::Value,
            format!("a parameter's name has 1 to {NAME_BYTES_MAX} letters, digits, `.`, `_`, `-`"),
            "for instance f\"block{i}.attention.q\"",
        );
    }
    Ok(())
}

/// The index of a parameter: a new one, or the one of that name if it is the same.
fn known(m: &mut Machine<'_>, param: Param) -> Outcome<usize> {
    if let Some(&index) = m.tracer.by_name.get(&param.name) {
        let Some(known) = m.tracer.params.get(index as usize) else {
            return fail(Kind::Internal, "a parameter that is not there");
        };
        if known.param.shape != param.shape {
            let message = format!(
                "parameter '{}' has shape {} elsewhere and {} here",
                param.name, known.param.shape, param.shape
            );
            return fail_hint(
                Kind::Shape,
                message,
                "parameters of the same name are one: give different ones different names",
            );
        }
        if known.param != param {
            return fail(Kind::Value, format!("parameter '{}' has another init or tag elsewhere", param.name));
        }
        return Ok(index as usize);
    }
    if !m.tracer.training {
        return fail_hint(
            Kind::Program,
            format!("parameter '{}' is used in evaluation and never trained", param.name),
            "create all parameters in both cases of is_training()",
        );
    }
    if m.tracer.params.len() >= PARAMS_MAX {
        return fail(Kind::Limit, format!("more than {PARAMS_MAX} parameters"));
    }
    m.charge(64 + 2 * param.name.len() as u64)?;
    let index = m.tracer.params.len();
    m.tracer.by_name.insert(param.name.clone(), index as u32);
    m.tracer.params.push(KnownParam { param, at: m.tracer.at() });
    Ok(index)
}

fn initial(
    m: &Machine<'_>,
    init: Option<Value>,
    std: Option<Value>,
    value: Option<Value>,
    bound: Option<Value>,
) -> Outcome<Init> {
    let number = |what: &str, value: Option<Value>, default: f64| match value {
        None | Some(Value::None) => Ok(default),
        Some(value) => m.real(what, value),
    };
    let std_of = |default| {
        let std = number("param: std", std, default)?;
        if std < 0.0 { fail(Kind::Value, "param: std is negative") } else { Ok(bits(std)) }
    };
    match init {
        None | Some(Value::None) => Ok(Init::Normal(std_of(STD)?)),
        Some(Value::Int(_) | Value::Float(_)) => Ok(Init::Constant(bits(number("param: init", init, 0.0)?))),
        Some(init) => match &*m.text_argument("param: init", init)? {
            "normal" => Ok(Init::Normal(std_of(STD)?)),
            "zeros" => Ok(Init::Constant(bits(0.0))),
            "ones" => Ok(Init::Constant(bits(1.0))),
            "constant" if value.is_some() => Ok(Init::Constant(bits(number("param: value", value, 0.0)?))),
            "constant" => fail(Kind::Type, "param: init=\"constant\" needs value=…"),
            "uniform" if bound.is_some() => {
                let bound = number("param: bound", bound, 0.0)?;
                if bound < 0.0 { fail(Kind::Value, "param: bound is negative") } else { Ok(Init::Uniform(bits(bound))) }
            }
            "uniform" => fail(Kind::Type, "param: init=\"uniform\" needs bound=…: values are in [-bound, bound)"),
            other => fail_hint(
                Kind::Value,
                format!("param: there is no init \"{other}\""),
                "there are \"normal\" (std=), \"uniform\" (bound=), \"constant\" (value=), \"zeros\" and \"ones\"",
            ),
        },
    }
}

/// `full(shape, value)`; an int value gives integers only with `full_like` of integers.
pub(super) fn full(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [shape, value] = a.two(m, "full", ["shape|size", "value|fill_value"])?;
    let value = m.real("full: value", value)?;
    let shape = m.shape_argument("full: shape", shape)?;
    constant(m, value, shape)
}

fn constant(m: &mut Machine<'_>, value: f64, shape: Shape) -> Outcome<Value> {
    if value.is_nan() {
        return fail(Kind::Value, "not a number (inf - inf, …) cannot become a tensor");
    }
    m.build(0, |graph| graph.full(bits(value), shape))
}

/// `zeros(shape)`, `ones(shape)`, also `zeros(3, 4)`.
pub(super) fn filled(m: &mut Machine<'_>, a: Arguments, name: &str, value: f64) -> Outcome<Value> {
    let dims = match (&a.positional[..], &a.keywords[..]) {
        (dims @ [_, ..], []) => m.integers(name, dims)?,
        _ => {
            let shape = a.one(m, name, "shape|size")?;
            m.integers(name, &[shape])?
        }
    };
    let shape = m.new_shape(name, &dims)?;
    constant(m, value, shape)
}

pub(super) fn full_like(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [like, value] = a.two(m, "full_like", ["x", "value|fill_value"])?;
    let like = m.node("full_like", like)?;
    let (shape, value) = (m.shape_of(like)?, m.real("full_like: value", value)?);
    constant(m, value, Shape(shape))
}

pub(super) fn filled_like(m: &mut Machine<'_>, a: Arguments, name: &str, value: f64) -> Outcome<Value> {
    let like = a.one(m, name, "x")?;
    let like = m.node(name, like)?;
    let shape = m.shape_of(like)?;
    constant(m, value, Shape(shape))
}

/// `arange(n)`: integers 0 .. n.
pub(super) fn arange(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    if a.positional.len() > 1 {
        return fail_hint(
            Kind::Type,
            "arange() takes one int",
            "shift and scale it: to_float(arange(n)) * step + start",
        );
    }
    let n = a.one(m, "arange", "n|end|stop")?;
    let n = m.integer("arange", n)?;
    match u32::try_from(n) {
        Ok(n) if n > 0 => m.build(0, |graph| graph.arange(n)),
        _ => fail(Kind::Shape, format!("arange({n}) has no elements")),
    }
}

/// Whether the graph for training is traced, not that for evaluation.
pub(super) fn is_training(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [] = a.bind(m, "is_training", [], 0)?;
    if !m.tracer.is_tracing() {
        return fail_hint(
            Kind::Program,
            "is_training() outside of model()",
            "it is known only while model() is traced",
        );
    }
    Ok(Value::Bool(m.tracer.training))
}
