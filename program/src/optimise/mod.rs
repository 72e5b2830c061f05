//! Optimisers, groups and phases: what `optimizer()` and `PHASES` are made of, and how an update is built.
//!
//! Here are the objects; `update` builds what they do. Numbers may be schedules: functions of step and steps, which
//! become tables.

mod update;

use std::rc::Rc;

use cairn_engine::graph::{Binary, Unary};

use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, fail, fail_hint};
use crate::machine::{Arguments, Machine};
use crate::value::{Object, ObjectKind, Rule, Value};

pub(crate) use update::Subject;

/// Most states of one optimiser.
const STATES_MAX: usize = 8;

/// An object with fields in this order; absent arguments have their defaults.
fn object(m: &mut Machine<'_>, kind: ObjectKind, fields: Vec<(&str, Value)>) -> Outcome<Value> {
    let fields = fields.into_iter().map(|(name, value)| (Rc::from(name), value)).collect();
    let at = m.tracer.at();
    m.new_object(Object { kind, at, fields })
}

/// A hyperparameter: a number or a schedule, by default `default`.
fn hyper(m: &Machine<'_>, what: &str, value: Option<Value>, default: f64) -> Outcome<Value> {
    match value {
        None | Some(Value::None) => Ok(Value::Float(default)),
        Some(schedule @ (Value::Function(_) | Value::Builtin(_) | Value::Method(_))) => Ok(schedule),
        Some(value) => match m.number(value) {
            Some(number) => Ok(Value::Float(number.float())),
            None => fail_hint(
                Kind::Type,
                format!("{what}: a number or a schedule is needed, not {}", m.article(value)),
                "a schedule is a function of step and steps that gives a number",
            ),
        },
    }
}

/// The learning rate: the program's own `lr` where none is given.
fn rate(m: &Machine<'_>, what: &str, value: Option<Value>, default: f64) -> Outcome<Value> {
    match value {
        None | Some(Value::None) => match m.global("lr").or_else(|| m.global("LR")) {
            Some(lr) => hyper(m, what, Some(lr), default),
            None => Ok(Value::Float(default)),
        },
        value => hyper(m, what, value, default),
    }
}

fn betas(m: &mut Machine<'_>, what: &str, value: Option<Value>, default: [f64; 2]) -> Outcome<[Value; 2]> {
    let pair = match value {
        None | Some(Value::None) => return Ok(default.map(Value::Float)),
        Some(value) => m.collect(value)?,
    };
    let &[first, second] = &pair[..] else {
        return fail(Kind::Value, format!("{what}: betas are two numbers"));
    };
    let (first, second) = (m.real(what, first)?, m.real(what, second)?);
    for beta in [first, second] {
        if !(0.0..1.0).contains(&beta) {
            return fail(Kind::Value, format!("{what}: betas are at least 0 and below 1"));
        }
    }
    Ok([Value::Float(first), Value::Float(second)])
}

/// AdamW (Loshchilov & Hutter 2019).
pub(crate) fn adamw(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [lr, pair, eps, decay] = a.bind(m, "adamw", ["lr", "betas", "eps", "weight_decay"], 0)?;
    let lr = rate(m, "adamw: lr", lr, 1e-3)?;
    let [beta1, beta2] = betas(m, "adamw: betas", pair, [0.9, 0.999])?;
    let eps = hyper(m, "adamw: eps", eps, 1e-8)?;
    let decay = hyper(m, "adamw: weight_decay", decay, 0.01)?;
    let fields = vec![("lr", lr), ("beta1", beta1), ("beta2", beta2), ("eps", eps), ("weight_decay", decay)];
    object(m, ObjectKind::Optimiser(Rule::AdamW), fields)
}

/// SGD with momentum, as in PyTorch.
pub(crate) fn sgd(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [lr, momentum, decay, nesterov] = a.bind(m, "sgd", ["lr", "momentum", "weight_decay", "nesterov"], 0)?;
    let lr = rate(m, "sgd: lr", lr, 1e-2)?;
    let momentum = hyper(m, "sgd: momentum", momentum, 0.0)?;
    let decay = hyper(m, "sgd: weight_decay", decay, 0.0)?;
    let nesterov = Value::Bool(m.truth(nesterov.unwrap_or(Value::Bool(false)))?);
    let fields = vec![("lr", lr), ("momentum", momentum), ("weight_decay", decay), ("nesterov", nesterov)];
    object(m, ObjectKind::Optimiser(Rule::Sgd), fields)
}

/// Lion (Chen et al. 2023).
pub(crate) fn lion(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [lr, pair, decay] = a.bind(m, "lion", ["lr", "betas", "weight_decay"], 0)?;
    let lr = rate(m, "lion: lr", lr, 1e-4)?;
    let [beta1, beta2] = betas(m, "lion: betas", pair, [0.9, 0.99])?;
    let decay = hyper(m, "lion: weight_decay", decay, 0.0)?;
    let fields = vec![("lr", lr), ("beta1", beta1), ("beta2", beta2), ("weight_decay", decay)];
    object(m, ObjectKind::Optimiser(Rule::Lion), fields)
}

/// Muon (Jordan et al. 2024) for matrices; other parameters of its group get AdamW with the same rate and decay.
pub(crate) fn muon(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let names = ["lr", "momentum", "weight_decay", "nesterov", "ns_steps|steps"];
    let [lr, momentum, decay, nesterov, steps] = a.bind(m, "muon", names, 0)?;
    let lr = rate(m, "muon: lr", lr, 2e-2)?;
    let momentum = hyper(m, "muon: momentum", momentum, 0.95)?;
    let decay = hyper(m, "muon: weight_decay", decay, 0.0)?;
    let nesterov = Value::Bool(m.truth(nesterov.unwrap_or(Value::Bool(true)))?);
    let steps = m.integer("muon: ns_steps", steps.unwrap_or(Value::Int(5)))?;
    if !(1..=10).contains(&steps) {
        return fail(Kind::Value, "muon: ns_steps is 1 to 10");
    }
    let fields = vec![
        ("lr", lr),
        ("momentum", momentum),
        ("weight_decay", decay),
        ("nesterov", nesterov),
        ("ns_steps", Value::Int(steps)),
    ];
    object(m, ObjectKind::Optimiser(Rule::Muon), fields)
}

/// `optimiser(update, state=["m", "v"], **numbers)` with `update(p, g, s, t) -> (p, s)`.
pub(crate) fn optimiser(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let Some(&update) = a.positional.first().filter(|_| a.positional.len() == 1) else {
        return fail_hint(
            Kind::Type,
            "optimiser() takes the update function",
            "write optimiser(update, state=[\"m\"], lr=lr) with update(p, g, s, t) -> (p, s)",
        );
    };
    if !matches!(update, Value::Function(_)) {
        return fail(Kind::Type, format!("optimiser: the update is a function, not {}", m.article(update)));
    }
    let ast = m.ast;
    let mut fields: Vec<(&str, Value)> = vec![("update", update)];
    let mut states = Vec::new();
    for (name, value) in a.keywords {
        match ast.name(name) {
            "state" => states = m.collect(value)?,
            reserved @ ("step" | "update") => {
                return fail(Kind::Value, format!("optimiser: '{reserved}' cannot be the name of a number"));
            }
            name => {
                let value = hyper(m, &format!("optimiser: {name}"), Some(value), 0.0)?;
                fields.push((name, value));
            }
        }
    }
    if states.len() > STATES_MAX {
        return fail(Kind::Limit, format!("optimiser: more than {STATES_MAX} states"));
    }
    let mut names: Vec<Rc<str>> = Vec::new();
    for &state in &states {
        let name = m.text_argument("optimiser: state", state)?;
        let plain =
            !name.is_empty() && name.len() <= 16 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !plain || names.contains(&name) {
            return fail(Kind::Value, "optimiser: states have different names of 1 to 16 letters, digits and `_`");
        }
        names.push(name);
    }
    let states = m.new_tuple(&states)?;
    fields.insert(1, ("state", states));
    object(m, ObjectKind::Optimiser(Rule::Custom), fields)
}

/// `group(pattern, optimiser)`.
pub(crate) fn group(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [pattern, optimiser] = a.two(m, "group", ["pattern", "optimiser|optimizer"])?;
    m.text_argument("group: pattern", pattern)?;
    if rule_of(m, optimiser).is_none() {
        return fail_hint(
            Kind::Type,
            format!("group: an optimiser is needed, not {}", m.article(optimiser)),
            "write group(\"*\", adamw(lr=lr))",
        );
    }
    object(m, ObjectKind::Group, vec![("pattern", pattern), ("optimiser", optimiser)])
}

/// `phase(share=1.0, batch=…, context=…)`.
pub(crate) fn phase(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [share, batch, context] = a.bind(m, "phase", ["share", "batch", "context"], 0)?;
    let share = m.real("phase: share", share.unwrap_or(Value::Float(1.0)))?;
    if !(share > 0.0 && share.is_finite()) {
        return fail(Kind::Value, "phase: the share is above 0");
    }
    let or_none = |value: Option<Value>| value.unwrap_or(Value::None);
    let fields = vec![("share", Value::Float(share)), ("batch", or_none(batch)), ("context", or_none(context))];
    object(m, ObjectKind::Phase, fields)
}

pub(super) fn rule_of(m: &Machine<'_>, value: Value) -> Option<Rule> {
    match value {
        Value::Object(id) => match m.object(id).ok()?.kind {
            ObjectKind::Optimiser(rule) => Some(rule),
            _ => None,
        },
        _ => None,
    }
}

/// A pattern and what updates the parameters that it matches.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) pattern: Rc<str>,
    pub(crate) optimiser: Value,
}

/// What `optimizer()` gave: a list of groups, one group, or one optimiser for everything.
pub(crate) fn groups(m: &mut Machine<'_>, value: Value) -> Outcome<Vec<Group>> {
    if rule_of(m, value).is_some() {
        return Ok(vec![Group { pattern: "*".into(), optimiser: value }]);
    }
    let values = match value {
        Value::Object(_) => vec![value],
        value => m.collect(value)?,
    };
    let mut groups = Vec::new();
    for value in values {
        let group = match value {
            Value::Object(id) => m.object(id)?,
            other => return Err(no_groups(m, other)),
        };
        match (group.kind, &group.fields[..]) {
            (ObjectKind::Group, &[(_, Value::Text(pattern)), (_, optimiser)]) => {
                groups.push(Group { pattern: m.text(pattern)?, optimiser });
            }
            _ => return Err(no_groups(m, value)),
        }
    }
    Ok(groups)
}

fn no_groups(m: &Machine<'_>, value: Value) -> Box<Fault> {
    Fault::new(Kind::Program, format!("optimizer() gives a list of groups, not {}", m.article(value)))
        .hint("return [group(\"*\", adamw(lr=lr))]")
}

/// Whether a pattern matches: `tag:NAME`, or a glob (`*`, `?`) on the name.
pub(crate) fn matches(pattern: &str, name: &str, tag: &str) -> bool {
    match pattern.strip_prefix("tag:") {
        Some(wanted) => wanted == tag,
        None => glob(pattern.as_bytes(), name.as_bytes()),
    }
}

/// Greedy matching that goes back to the last star only.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || name.get(n) == Some(&byte) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (p, n) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&byte| byte == b'*'))
}

/// `clip_by_global_norm(grads, max_norm)`: all gradients times min(1, max_norm / norm), the norm of all together.
pub(crate) fn clip_by_global_norm(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [grads, limit] = a.two(m, "clip_by_global_norm", ["grads", "max_norm"])?;
    let Value::Dict(id) = grads else {
        return fail(
            Kind::Type,
            format!("clip_by_global_norm: a dict of gradients is needed, not {}", m.article(grads)),
        );
    };
    let entries = m.dict(id)?.entries.clone();
    let mut total = None;
    for &(_, gradient) in &entries {
        let squared = m.pair(Binary::Mul, gradient, gradient)?;
        let sum = m.total(squared)?;
        total = Some(match total {
            None => sum,
            Some(total) => m.add(total, sum)?,
        });
    }
    let Some(total) = total else { return Ok(grads) };
    let norm = m.unary(Unary::Sqrt, total)?;
    let norm = m.pair(Binary::Max, norm, limit)?;
    let factor = m.div(limit, norm)?;
    let clipped = m.new_dict()?;
    for (key, gradient) in entries {
        let value = m.mul(gradient, factor)?;
        m.dict_set(clipped, key, value)?;
    }
    Ok(Value::Dict(clipped))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_are_globs_or_tags() {
        for (pattern, name, tag, want) in [
            ("*", "wte", "", true),
            ("block*.q", "block12.q", "", true),
            ("block?.q", "block12.q", "", false),
            ("*.o", "block1.o.o", "", true),
            ("a*b*c", "a-b-b-c", "", true),
            ("a*b", "a-b-c", "", false),
            ("tag:embedding", "wte", "embedding", true),
            ("tag:embedding", "tag:embedding", "", false),
            ("wte", "wte", "embedding", true),
            ("", "wte", "", false),
        ] {
            assert_eq!(matches(pattern, name, tag), want, "{pattern} {name} {tag}");
        }
    }
}
