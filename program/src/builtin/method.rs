//! Methods of lists, text and dicts; the receiver is the first argument.

use super::python::{fill, sort_values};
use super::{Entry, entry};
use crate::diagnostic::Kind;
use crate::fault::{Outcome, fail};
use crate::machine::{Arguments, Machine};
use crate::value::Value;

pub(super) const LIST: &[Entry] = &[
    entry("append", append),
    entry("copy", list_copy),
    entry("count", count),
    entry("extend", extend),
    entry("index", index),
    entry("insert", insert),
    entry("pop", list_pop),
    entry("reverse", reverse),
    entry("sort", sort),
];

pub(super) const TEXT: &[Entry] = &[
    entry("endswith", endswith),
    entry("join", join),
    entry("lower", lower),
    entry("replace", replace),
    entry("split", split),
    entry("startswith", startswith),
    entry("strip", strip),
    entry("upper", upper),
];

pub(super) const DICT: &[Entry] = &[
    entry("copy", dict_copy),
    entry("get", get),
    entry("items", items),
    entry("keys", keys),
    entry("pop", dict_pop),
    entry("setdefault", setdefault),
    entry("update", update),
    entry("values", values),
];

fn list_of(m: &Machine<'_>, value: Value) -> Outcome<u32> {
    match value {
        Value::List(id) => Ok(id),
        other => fail(Kind::Type, format!("a list is needed, not {}", m.article(other))),
    }
}

fn dict_of(m: &Machine<'_>, value: Value) -> Outcome<u32> {
    match value {
        Value::Dict(id) => Ok(id),
        other => fail(Kind::Type, format!("a dict is needed, not {}", m.article(other))),
    }
}

fn text_of(m: &mut Machine<'_>, value: Value) -> Outcome<std::rc::Rc<str>> {
    match value {
        Value::Text(id) => {
            let text = m.text(id)?;
            m.burn(text.len() as u64 / 64)?;
            Ok(text)
        }
        other => fail(Kind::Type, format!("a str is needed, not {}", m.article(other))),
    }
}

fn append(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [list, value] = a.two(m, "append", ["list", "value"])?;
    let list = list_of(m, list)?;
    m.append(list, value)?;
    Ok(Value::None)
}

fn extend(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [list, values] = a.two(m, "extend", ["list", "values"])?;
    let list = list_of(m, list)?;
    for value in m.collect(values)? {
        m.append(list, value)?;
    }
    Ok(Value::None)
}

fn insert(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [list, at, value] = a.bind(m, "insert", ["list", "index", "value"], 3)?.map(|v| v.unwrap_or(Value::None));
    let (list, at) = (list_of(m, list)?, m.integer("insert", at)?);
    let len = m.list(list)?.len() as i64;
    let at = if at < 0 { (at.saturating_add(len)).max(0) } else { at.min(len) };
    m.burn(len as u64)?;
    m.charge(16)?;
    m.list_mut(list)?.insert(at as usize, value);
    Ok(Value::None)
}

fn list_pop(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [list, at] = a.bind(m, "pop", ["list", "index"], 1)?;
    let list = list_of(m, list.unwrap_or(Value::None))?;
    let at = m.integer("pop", at.unwrap_or(Value::Int(-1)))?;
    let len = m.list(list)?.len() as i64;
    let index = if at < 0 { at.saturating_add(len) } else { at };
    if index < 0 || index >= len {
        return fail(Kind::Index, format!("pop: index {at} is outside of a list of length {len}"));
    }
    m.burn((len - index) as u64)?;
    Ok(m.list_mut(list)?.remove(index as usize))
}

fn list_copy(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let list = a.one(m, "copy", "list")?;
    let values = m.collect(list)?;
    m.new_list(values)
}

fn count(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [list, wanted] = a.two(m, "count", ["list", "value"])?;
    let mut iterator = m.iterate(list)?;
    let mut count = 0;
    while let Some(value) = m.next_item(&mut iterator)? {
        count += i64::from(m.equal(value, wanted, 0)?);
    }
    Ok(Value::Int(count))
}

fn index(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [list, wanted] = a.two(m, "index", ["list", "value"])?;
    let mut iterator = m.iterate(list)?;
    let mut at = 0;
    while let Some(value) = m.next_item(&mut iterator)? {
        if m.equal(value, wanted, 0)? {
            return Ok(Value::Int(at));
        }
        at += 1;
    }
    fail(Kind::Value, "index: the list does not have this value")
}

fn reverse(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let list = a.one(m, "reverse", "list")?;
    let list = list_of(m, list)?;
    m.burn(m.list(list)?.len() as u64)?;
    m.list_mut(list)?.reverse();
    Ok(Value::None)
}

fn sort(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [list, key, reverse] = a.bind(m, "sort", ["list", "key", "reverse"], 1)?;
    let value = list.unwrap_or(Value::None);
    let list = list_of(m, value)?;
    let values = m.collect(value)?;
    let sorted = sort_values(m, values, key.unwrap_or(Value::None), reverse)?;
    *m.list_mut(list)? = sorted;
    Ok(Value::None)
}

fn join(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [between, parts] = a.two(m, "join", ["text", "parts"])?;
    let between = text_of(m, between)?;
    let mut joined = String::new();
    for (i, part) in m.collect(parts)?.into_iter().enumerate() {
        let part = text_of(m, part)?;
        let between = if i > 0 { &*between } else { "" };
        m.burn(1 + (part.len() + between.len()) as u64 / 64)?;
        m.charge((part.len() + between.len()) as u64)?;
        joined.push_str(between);
        joined.push_str(&part);
    }
    m.new_text(&joined)
}

fn startswith(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [text, part] = a.two(m, "startswith", ["text", "prefix"])?;
    let (text, part) = (text_of(m, text)?, text_of(m, part)?);
    Ok(Value::Bool(text.starts_with(&*part)))
}

fn endswith(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [text, part] = a.two(m, "endswith", ["text", "suffix"])?;
    let (text, part) = (text_of(m, text)?, text_of(m, part)?);
    Ok(Value::Bool(text.ends_with(&*part)))
}

fn lower(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    cased(m, a, "lower", |c| c.to_ascii_lowercase())
}

fn upper(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    cased(m, a, "upper", |c| c.to_ascii_uppercase())
}

/// ASCII only: other letters depend on the version of Unicode.
fn cased(m: &mut Machine<'_>, a: Arguments, name: &str, change: fn(char) -> char) -> Outcome<Value> {
    let text = a.one(m, name, "text")?;
    let text = text_of(m, text)?;
    if !text.is_ascii() {
        return fail(Kind::Unsupported, format!("{name}() of text beyond ASCII is not part of the training language"));
    }
    m.charge(text.len() as u64)?;
    let changed: String = text.chars().map(change).collect();
    m.new_text(&changed)
}

fn strip(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let text = a.one(m, "strip", "text")?;
    let text = text_of(m, text)?;
    m.new_text(text.trim())
}

fn replace(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [text, old, new] = a.bind(m, "replace", ["text", "old", "new"], 3)?.map(|v| v.unwrap_or(Value::None));
    let (text, old, new) = (text_of(m, text)?, text_of(m, old)?, text_of(m, new)?);
    m.burn(text.len() as u64)?;
    let found = if old.is_empty() { text.chars().count() as u64 + 1 } else { text.matches(&*old).count() as u64 };
    let bytes = (text.len() as u64).saturating_add(found.saturating_mul(new.len() as u64));
    m.burn(bytes / 64)?;
    m.charge(bytes)?;
    m.new_text(&text.replace(&*old, &new))
}

fn split(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [text, between] = a.bind(m, "split", ["text", "sep"], 1)?;
    let text = text_of(m, text.unwrap_or(Value::None))?;
    m.burn(text.len() as u64)?;
    let between = match between {
        None | Some(Value::None) => None,
        Some(between) => Some(text_of(m, between)?),
    };
    let parts: Vec<&str> = match &between {
        None => text.split_whitespace().collect(),
        Some(between) if between.is_empty() => return fail(Kind::Value, "split: the separator is empty"),
        Some(between) => text.split(&**between).collect(),
    };
    let mut values = Vec::with_capacity(parts.len());
    for part in parts {
        m.burn(1)?;
        values.push(m.new_text(part)?);
    }
    m.new_list(values)
}

fn get(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [dict, key, default] = a.bind(m, "get", ["dict", "key", "default"], 2)?;
    let dict = dict_of(m, dict.unwrap_or(Value::None))?;
    let found = m.dict_get(dict, key.unwrap_or(Value::None))?;
    Ok(found.or(default).unwrap_or(Value::None))
}

fn setdefault(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [dict, key, default] = a.bind(m, "setdefault", ["dict", "key", "default"], 2)?;
    let (dict, key) = (dict_of(m, dict.unwrap_or(Value::None))?, key.unwrap_or(Value::None));
    if let Some(value) = m.dict_get(dict, key)? {
        return Ok(value);
    }
    let value = default.unwrap_or(Value::None);
    m.dict_set(dict, key, value)?;
    Ok(value)
}

fn dict_pop(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [dict, key, default] = a.bind(m, "pop", ["dict", "key", "default"], 2)?;
    let (dict, key) = (dict_of(m, dict.unwrap_or(Value::None))?, key.unwrap_or(Value::None));
    match m.dict_remove(dict, key)?.or(default) {
        Some(value) => Ok(value),
        None => {
            let shown = m.repr(key)?;
            fail(Kind::Key, format!("the dict has no key {shown}"))
        }
    }
}

fn update(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [dict, other] = a.two(m, "update", ["dict", "other"])?;
    let dict = dict_of(m, dict)?;
    fill(m, dict, other)?;
    Ok(Value::None)
}

fn dict_copy(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let dict = a.one(m, "copy", "dict")?;
    let new = m.new_dict()?;
    fill(m, new, dict)?;
    Ok(Value::Dict(new))
}

fn entries(m: &mut Machine<'_>, a: Arguments, name: &str) -> Outcome<Vec<(Value, Value)>> {
    let dict = a.one(m, name, "dict")?;
    let dict = dict_of(m, dict)?;
    let len = m.dict(dict)?.entries.len() as u64;
    m.burn(len)?;
    m.charge(32 * len)?;
    Ok(m.dict(dict)?.entries.clone())
}

fn keys(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let keys = entries(m, a, "keys")?.into_iter().map(|entry| entry.0).collect();
    m.new_items(keys, true, "dict_keys")
}

fn values(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let values = entries(m, a, "values")?.into_iter().map(|entry| entry.1).collect();
    m.new_items(values, true, "dict_values")
}

fn items(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let mut pairs = Vec::new();
    for (key, value) in entries(m, a, "items")? {
        pairs.push(m.new_tuple(&[key, value])?);
    }
    m.new_items(pairs, true, "dict_items")
}
