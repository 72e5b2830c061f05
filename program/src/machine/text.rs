//! Text of values, as `str()`, f-strings and messages show them. Floats have none: their digits are a matter of taste.

use super::Machine;
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, fail};
use crate::value::Value;

/// Deepest nesting of lists that has text.
const DEPTH_MAX: u32 = 32;

impl Machine<'_> {
    /// `str(value)`.
    pub(crate) fn show(&mut self, value: Value) -> Outcome<String> {
        if let Value::Text(id) = value {
            let text = self.text(id)?;
            self.burn(text.len() as u64 / 64)?;
            return Ok(text.as_ref().to_owned());
        }
        self.repr(value)
    }

    /// `repr(value)`.
    pub(crate) fn repr(&mut self, value: Value) -> Outcome<String> {
        let mut out = String::new();
        self.write_repr(value, 0, &mut out)?;
        Ok(out)
    }

    /// Text of any value, floats as the hexadecimal of their bits: for comparisons with other implementations.
    pub(crate) fn exact_text(&mut self, value: Value) -> Outcome<String> {
        match value {
            Value::Float(float) => Ok(format!("f{:016x}", float.to_bits())),
            Value::List(_) | Value::Tuple(_) => {
                let values = self.collect(value)?;
                let texts: Vec<String> =
                    values.into_iter().map(|value| self.exact_text(value)).collect::<Outcome<_>>()?;
                let [open, close] = if let Value::List(_) = value { ["[", "]"] } else { ["(", ")"] };
                Ok(format!("{open}{}{close}", texts.join(", ")))
            }
            Value::Dict(id) => {
                let mut texts = Vec::new();
                for (key, value) in self.dict(id)?.entries.clone() {
                    texts.push(format!("{}: {}", self.repr(key)?, self.exact_text(value)?));
                }
                Ok(format!("{{{}}}", texts.join(", ")))
            }
            other => self.repr(other),
        }
    }

    fn write_repr(&mut self, value: Value, depth: u32, out: &mut String) -> Outcome<()> {
        self.burn(1)?;
        if depth > DEPTH_MAX {
            return fail(Kind::Recursion, format!("text of values nested deeper than {DEPTH_MAX}"));
        }
        let before = out.len();
        match value {
            Value::Unbound | Value::None => out.push_str("None"),
            Value::Ellipsis => out.push_str("Ellipsis"),
            Value::Bool(bool) => out.push_str(if bool { "True" } else { "False" }),
            Value::Int(int) => out.push_str(&int.to_string()),
            Value::Text(id) => {
                let text = self.text(id)?;
                self.burn(text.len() as u64 / 8)?;
                quote(&text, out);
            }
            Value::List(id) => {
                let values = self.list(id)?.clone();
                self.write_all(&values, ["[", "]"], depth, out)?;
            }
            Value::Tuple(id) => {
                let values = self.tuple(id)?;
                let close = if values.len() == 1 { ",)" } else { ")" };
                self.write_all(&values, ["(", close], depth, out)?;
            }
            Value::Dict(id) => {
                let entries = self.dict(id)?.entries.clone();
                out.push('{');
                for (i, (key, value)) in entries.into_iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    self.write_repr(key, depth + 1, out)?;
                    out.push_str(": ");
                    self.write_repr(value, depth + 1, out)?;
                }
                out.push('}');
            }
            Value::Range(id) => {
                let range = self.range(id)?;
                let stop = range.get(range.len);
                out.push_str(&format!("range({}, {stop}", range.start));
                out.push_str(&if range.step == 1 { ")".to_owned() } else { format!(", {})", range.step) });
            }
            Value::Float(_) => {
                return Err(Fault::new(Kind::Unsupported, "floats have no text in the training language")
                    .hint("name parameters by integers and strings; round with int(…) first"));
            }
            other => {
                return fail(
                    Kind::Unsupported,
                    format!("{} has no text in the training language", self.article(other)),
                );
            }
        }
        self.charge((out.len() - before) as u64)
    }

    fn write_all(&mut self, values: &[Value], [open, close]: [&str; 2], depth: u32, out: &mut String) -> Outcome<()> {
        out.push_str(open);
        for (i, &value) in values.iter().enumerate() {
            out.push_str(if i > 0 { ", " } else { "" });
            self.write_repr(value, depth + 1, out)?;
        }
        out.push_str(close);
        Ok(())
    }
}

/// Python's quotes: single ones, double where that avoids an escape.
fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
}
