//! Randomness: keyed by the run's seed, the step and a stream's name, and for training only.

use cairn_engine::graph::{Binary, Random};

use crate::diagnostic::Kind;
use crate::fault::{Outcome, fail, fail_hint};
use crate::machine::{Arguments, Machine};
use crate::value::Value;

/// Longest name of a stream, in bytes.
const NAME_BYTES_MAX: usize = 64;

impl Machine<'_> {
    /// The stream of this name, or the next one without a name.
    fn stream(&mut self, what: &str, name: Option<Value>) -> Outcome<String> {
        if !self.tracer.in_model || !self.tracer.training {
            return fail_hint(
                Kind::Program,
                format!("{what}() outside of training"),
                "evaluation is not random: guard it with `if is_training():`",
            );
        }
        let stream = match name {
            None | Some(Value::None) => {
                self.tracer.unnamed_streams += 1;
                format!("#{}", self.tracer.unnamed_streams - 1)
            }
            Some(name) => {
                let name = self.text_argument(&format!("{what}: name"), name)?;
                if name.is_empty() || name.len() > NAME_BYTES_MAX || name.starts_with('#') {
                    return fail(
                        Kind::Value,
                        format!("a stream's name has 1 to {NAME_BYTES_MAX} bytes and does not begin with #"),
                    );
                }
                name.as_ref().to_owned()
            }
        };
        if !self.tracer.streams.insert(stream.clone()) {
            let message = format!("{what}: the stream '{stream}' is used twice, and would give the same numbers");
            return fail_hint(Kind::Value, message, "give each use a name of its own, or none");
        }
        Ok(stream)
    }
}

/// `uniform(shape, name=…)` on [0, 1), `normal(shape, name=…)`: fresh each step.
pub(super) fn random(m: &mut Machine<'_>, a: Arguments, name: &str, kind: Random) -> Outcome<Value> {
    let [shape, stream] = a.bind(m, name, ["shape|size", "name"], 1)?;
    let shape = m.shape_argument(name, shape.unwrap_or(Value::None))?;
    let stream = m.stream(name, stream)?;
    m.build(0, |graph| graph.random(kind, &stream, shape))
}

/// `dropout(x, p)`: while training each element is 0 with probability p, else x / (1 − p).
pub(super) fn dropout(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, p, name, training] = a.bind(m, "dropout", ["x|input", "p|rate", "name", "training"], 1)?;
    let x = m.float_operand("dropout", x.unwrap_or(Value::None))?;
    let p = m.real("dropout: p", p.unwrap_or(Value::Float(0.5)))?;
    if !(0.0..1.0).contains(&p) {
        return fail(Kind::Value, "dropout: p is at least 0 and below 1");
    }
    let active = match training {
        Some(training) => m.truth(training)?,
        None => true,
    };
    if p == 0.0 || !active || !m.tracer.training {
        return Ok(m.tensor_of(x));
    }
    let shape = cairn_engine::graph::Shape(m.shape_of(x)?);
    let stream = m.stream("dropout", name)?;
    let uniform = m.build(0, |graph| graph.random(Random::Uniform, &stream, shape))?;
    let keep = m.pair(Binary::Le, Value::Float(p), uniform)?;
    let kept = m.mul(m.tensor_of(x), keep)?;
    m.mul(kept, Value::Float(1.0 / (1.0 - p)))
}
