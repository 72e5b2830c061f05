//! Python's own builtins.

use std::cmp::Ordering;

use super::{Entry, entry};
use crate::ast::BinaryOp;
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, fail};
use crate::machine::number::{self, Number};
use crate::machine::{Arguments, Machine};
use crate::value::{Range, Value};

pub(super) const TABLE: &[Entry] = &[
    entry("abs", abs),
    entry("all", all),
    entry("any", any),
    entry("bool", bool_),
    entry("dict", dict),
    entry("divmod", divmod),
    entry("enumerate", enumerate),
    entry("float", float),
    entry("int", int),
    entry("len", len),
    entry("list", list),
    entry("map", map),
    entry("max", max),
    entry("min", min),
    entry("pow", pow),
    entry("range", range),
    entry("reversed", reversed),
    entry("round", round),
    entry("sorted", sorted),
    entry("str", str_),
    entry("sum", sum),
    entry("tuple", tuple),
    entry("zip", zip),
];

fn no_keywords(m: &Machine<'_>, function: &str, arguments: &Arguments) -> Outcome<()> {
    match arguments.keywords.first() {
        None => Ok(()),
        Some((name, _)) => fail(Kind::Type, format!("{function}() has no argument '{}'", m.ast.name(*name))),
    }
}

fn abs(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let value = a.one(m, "abs", "x")?;
    match m.number(value) {
        Some(number) => Ok(number::abs(number)?.into()),
        None if matches!(value, Value::Tensor(..)) => m.unary(cairn_engine::graph::Unary::Abs, value),
        None => fail(Kind::Type, format!("abs() of {}", m.article(value))),
    }
}

fn all(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let values = a.one(m, "all", "items")?;
    let mut iterator = m.iterate(values)?;
    while let Some(value) = m.next_item(&mut iterator)? {
        if !m.truth(value)? {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn any(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let values = a.one(m, "any", "items")?;
    let mut iterator = m.iterate(values)?;
    while let Some(value) = m.next_item(&mut iterator)? {
        if m.truth(value)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn bool_(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [value] = a.bind(m, "bool", ["x"], 0)?;
    Ok(Value::Bool(m.truth(value.unwrap_or(Value::None))?))
}

fn dict(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    if a.positional.len() > 1 {
        return fail(Kind::Type, format!("dict() takes at most one positional argument, not {}", a.positional.len()));
    }
    let new = m.new_dict()?;
    if let Some(&from) = a.positional.first() {
        fill(m, new, from)?;
    }
    let ast = m.ast;
    for (name, value) in a.keywords {
        let key = m.new_text(ast.name(name))?;
        m.dict_set(new, key, value)?;
    }
    Ok(Value::Dict(new))
}

/// Puts the entries of a dict, or pairs, into a dict.
pub(super) fn fill(m: &mut Machine<'_>, to: u32, from: Value) -> Outcome<()> {
    if let Value::Dict(from) = from {
        let entries = m.dict(from)?.entries.len();
        for i in 0..entries {
            if let Some(&(key, value)) = m.dict(from)?.entries.get(i) {
                m.dict_set(to, key, value)?;
            }
        }
        return Ok(());
    }
    for pair in m.collect(from)? {
        match m.collect(pair)?[..] {
            [key, value] => m.dict_set(to, key, value)?,
            _ => return fail(Kind::Value, "a dict is made of pairs of key and value"),
        }
    }
    Ok(())
}

fn divmod(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, y] = a.two(m, "divmod", ["x", "y"])?;
    let quotient = m.binary(BinaryOp::FloorDiv, x, y)?;
    let rest = m.binary(BinaryOp::Mod, x, y)?;
    m.new_tuple(&[quotient, rest])
}

fn enumerate(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [items, start] = a.bind(m, "enumerate", ["iterable", "start"], 1)?;
    let start = m.integer("start", start.unwrap_or(Value::Int(0)))?;
    let mut pairs = Vec::new();
    for (i, value) in m.collect(items.unwrap_or(Value::None))?.into_iter().enumerate() {
        pairs.push(m.new_tuple(&[Value::Int(start.saturating_add(i as i64)), value])?);
    }
    m.new_items(pairs, false, "enumerate")
}

fn float(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [value] = a.bind(m, "float", ["x"], 0)?;
    let value = value.unwrap_or(Value::Int(0));
    match (m.number(value), value) {
        (Some(number), _) => Ok(Value::Float(number.float())),
        (None, Value::Text(id)) => {
            let text = m.text(id)?;
            m.burn(text.len() as u64)?;
            match text.trim().to_ascii_lowercase().as_str() {
                "inf" | "+inf" | "infinity" => Ok(Value::Float(f64::INFINITY)),
                "-inf" | "-infinity" => Ok(Value::Float(f64::NEG_INFINITY)),
                digits => match digits.parse::<f64>() {
                    Ok(value) if value.is_finite() => Ok(Value::Float(value)),
                    _ => fail(Kind::Value, "this text is not a float"),
                },
            }
        }
        (None, Value::Tensor(..)) => Err(no_value("float")),
        (None, other) => fail(Kind::Type, format!("float() of {}", m.article(other))),
    }
}

fn no_value(function: &str) -> Box<Fault> {
    Fault::new(Kind::Type, format!("{function}() of a tensor: it has no numbers while the graph is built"))
        .hint("keep the computation in tensors; shapes are ints already")
}

fn int(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [value] = a.bind(m, "int", ["x"], 0)?;
    let value = value.unwrap_or(Value::Int(0));
    match (m.number(value), value) {
        (Some(Number::Int(int)), _) => Ok(Value::Int(int)),
        (Some(Number::Float(float)), _) => Ok(Value::Int(number::whole(float)?)),
        (None, Value::Text(id)) => {
            let text = m.text(id)?;
            m.burn(text.len() as u64)?;
            text.trim().parse::<i64>().map(Value::Int).or_else(|_| fail(Kind::Value, "this text is not an int"))
        }
        (None, Value::Tensor(..)) => Err(no_value("int")),
        (None, other) => fail(Kind::Type, format!("int() of {}", m.article(other))),
    }
}

fn len(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let value = a.one(m, "len", "x")?;
    let length = match value {
        Value::Text(id) => {
            let text = m.text(id)?;
            m.burn(text.len() as u64 / 64)?;
            text.chars().count()
        }
        Value::List(id) => m.list(id)?.len(),
        Value::Tuple(id) => m.tuple(id)?.len(),
        Value::Dict(id) => m.dict(id)?.entries.len(),
        Value::Range(id) => m.range(id)?.len as usize,
        Value::Items(id) => match m.heap.items.get(id as usize).copied() {
            Some(items) if items.view => m.list(items.list)?.len(),
            _ => return fail(Kind::Type, format!("{} has no len()", m.article(value))),
        },
        Value::Tensor(..) => return m.tensor_len(value),
        other => return fail(Kind::Type, format!("{} has no len()", m.article(other))),
    };
    Ok(Value::Int(length as i64))
}

fn list(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [items] = a.bind(m, "list", ["iterable"], 0)?;
    let values = match items {
        Some(items) => m.collect(items)?,
        None => Vec::new(),
    };
    m.new_list(values)
}

fn tuple(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [items] = a.bind(m, "tuple", ["iterable"], 0)?;
    match items {
        Some(tuple @ Value::Tuple(_)) => Ok(tuple),
        Some(items) => {
            let values = m.collect(items)?;
            m.new_tuple(&values)
        }
        None => m.new_tuple(&[]),
    }
}

fn map(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    no_keywords(m, "map", &a)?;
    let Some((&function, lists)) = a.positional.split_first().filter(|(_, lists)| !lists.is_empty()) else {
        return fail(Kind::Type, "map() needs a function and what to apply it to");
    };
    let mut results = Vec::new();
    for row in rows(m, lists)? {
        results.push(m.call(function, Arguments::of(&row), m.here())?);
    }
    m.new_items(results, false, "map")
}

fn zip(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    if let Some((name, strict)) = a.keywords.first() {
        if m.ast.name(*name) != "strict" {
            return no_keywords(m, "zip", &a).map(|()| Value::None);
        }
        if m.truth(*strict)? {
            return fail(Kind::Unsupported, "zip(strict=True) is not part of the training language")
                .map_err(|fault: Box<Fault>| fault.hint("assert len(a) == len(b) first"));
        }
    }
    let mut tuples = Vec::new();
    for row in rows(m, &a.positional)? {
        tuples.push(m.new_tuple(&row)?);
    }
    m.new_items(tuples, false, "zip")
}

/// The first elements of each, the second ones, …, until one has no more.
fn rows(m: &mut Machine<'_>, lists: &[Value]) -> Outcome<Vec<Vec<Value>>> {
    let mut iterators = Vec::new();
    for &list in lists {
        iterators.push(m.iterate(list)?);
    }
    let mut rows = Vec::new();
    loop {
        let mut row = Vec::with_capacity(iterators.len());
        for iterator in &mut iterators {
            match m.next_item(iterator)? {
                Some(value) => row.push(value),
                None => return Ok(rows),
            }
        }
        if row.is_empty() {
            return Ok(rows);
        }
        m.charge(16 * row.len() as u64)?;
        rows.push(row);
    }
}

fn max(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    extreme(m, a, "max", Ordering::Greater)
}

fn min(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    extreme(m, a, "min", Ordering::Less)
}

fn extreme(m: &mut Machine<'_>, a: Arguments, function: &str, wanted: Ordering) -> Outcome<Value> {
    let (mut key, mut default) = (Value::None, None);
    for &(name, value) in &a.keywords {
        match m.ast.name(name) {
            "key" => key = value,
            "default" => default = Some(value),
            other => return fail(Kind::Type, format!("{function}() has no argument '{other}'")),
        }
    }
    let values = match a.positional[..] {
        [] => return fail(Kind::Type, format!("{function}() needs an argument")),
        [tensor @ Value::Tensor(..)] => {
            return Err(Fault::new(Kind::Type, format!("{function}() of {}", m.article(tensor)))
                .hint(format!("use x.{function}() for the {function} of its elements")));
        }
        [items] => m.collect(items)?,
        ref values => values.to_vec(),
    };
    if values.iter().any(|value| matches!(value, Value::Tensor(..))) {
        return Err(Fault::new(Kind::Type, format!("{function}() compares numbers, not tensors"))
            .hint(format!("use `{function}imum(a, b)` from `cairn`")));
    }
    let mut best: Option<(Value, Value)> = None;
    for value in values {
        let rank = if key == Value::None { value } else { m.call(key, Arguments::of(&[value]), m.here())? };
        let better = match best {
            None => true,
            Some((held, _)) => m.ordering(if wanted.is_gt() { ">" } else { "<" }, rank, held, 0)? == Some(wanted),
        };
        if better {
            best = Some((rank, value));
        }
    }
    match (best, default) {
        (Some((_, value)), _) => Ok(value),
        (None, Some(default)) => Ok(default),
        (None, None) => fail(Kind::Value, format!("{function}() of nothing")),
    }
}

fn pow(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [base, exponent] = a.two(m, "pow", ["base", "exp"])?;
    m.binary(BinaryOp::Pow, base, exponent)
}

fn range(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    no_keywords(m, "range", &a)?;
    let mut bounds = Vec::new();
    for &value in &a.positional {
        bounds.push(match value {
            Value::Float(_) => {
                return Err(
                    Fault::new(Kind::Type, "range() needs ints, not a float").hint("use `//` to divide, or int(…)")
                );
            }
            value => m.integer("range", value)?,
        });
    }
    let (start, stop, step) = match bounds[..] {
        [stop] => (0, stop, 1),
        [start, stop] => (start, stop, 1),
        [start, stop, step] => (start, stop, step),
        _ => return fail(Kind::Type, "range() takes one to three ints"),
    };
    if step == 0 {
        return fail(Kind::Value, "the step of a range cannot be 0");
    }
    let len = crate::machine::span_len(start, stop, step);
    if len as u64 > m.limits.range {
        return fail(Kind::Limit, format!("a range of {len} ints; the limit is {}", m.limits.range));
    }
    m.new_range(Range { start, step, len })
}

fn reversed(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let items = a.one(m, "reversed", "items")?;
    if matches!(items, Value::Items(_)) {
        return fail(Kind::Type, format!("{} cannot be reversed", m.article(items)));
    }
    let mut values = m.collect(items)?;
    values.reverse();
    m.new_items(values, false, "reversed")
}

fn round(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let value = a.one(m, "round", "x")?;
    match m.number(value) {
        Some(Number::Int(int)) => Ok(Value::Int(int)),
        Some(Number::Float(float)) => Ok(Value::Int(number::round(float)?)),
        None => Err(Fault::new(Kind::Type, format!("round() of {}", m.article(value)))
            .hint("use `round` from `cairn` for tensors")),
    }
}

fn sorted(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [items, key, reverse] = a.bind(m, "sorted", ["iterable", "key", "reverse"], 1)?;
    let values = m.collect(items.unwrap_or(Value::None))?;
    let values = sort_values(m, values, key.unwrap_or(Value::None), reverse)?;
    m.new_list(values)
}

/// Values in order of their keys.
pub(super) fn sort_values(
    m: &mut Machine<'_>,
    values: Vec<Value>,
    key: Value,
    reverse: Option<Value>,
) -> Outcome<Vec<Value>> {
    let reverse = m.truth(reverse.unwrap_or(Value::Bool(false)))?;
    let mut ranked = Vec::with_capacity(values.len());
    for value in values {
        let rank = if key == Value::None { value } else { m.call(key, Arguments::of(&[value]), m.here())? };
        ranked.push((rank, value));
    }
    Ok(m.sort(ranked, reverse)?.into_iter().map(|(_, value)| value).collect())
}

fn str_(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [value] = a.bind(m, "str", ["x"], 0)?;
    let text = match value {
        Some(value) => m.show(value)?,
        None => String::new(),
    };
    m.new_text(&text)
}

fn sum(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [items, start] = a.bind(m, "sum", ["iterable", "start"], 1)?;
    let items = items.unwrap_or(Value::None);
    if let Value::Tensor(..) = items {
        return Err(Fault::new(Kind::Type, "sum() adds up a list; this is a tensor").hint("use x.sum()"));
    }
    let mut iterator = m.iterate(items)?;
    let mut total = start.unwrap_or(Value::Int(0));
    if let Value::Text(_) = total {
        return Err(Fault::new(Kind::Type, "sum() cannot join text").hint("use \"\".join(…)"));
    }
    while let Some(value) = m.next_item(&mut iterator)? {
        // 0 + tensor is the tensor.
        total = match (total, value) {
            (Value::Int(0), Value::Tensor(..)) => value,
            _ => m.binary(BinaryOp::Add, total, value)?,
        };
    }
    Ok(total)
}

impl Machine<'_> {
    /// An argument that must be an int.
    pub(crate) fn integer(&self, what: &str, value: Value) -> Outcome<i64> {
        match self.number(value) {
            Some(Number::Int(int)) => Ok(int),
            Some(Number::Float(_)) => Err(Fault::new(Kind::Type, format!("{what}: an int is needed, not a float"))
                .hint("use `//` to divide, or int(…)")),
            None => fail(Kind::Type, format!("{what}: an int is needed, not {}", self.article(value))),
        }
    }

    /// An argument that must be a number.
    pub(crate) fn real(&self, what: &str, value: Value) -> Outcome<f64> {
        match self.number(value) {
            Some(number) => Ok(number.float()),
            None => fail(Kind::Type, format!("{what}: a number is needed, not {}", self.article(value))),
        }
    }
}
