//! The program's own constants: what a searcher may vary, where they stand, and what their comments say of them.

use std::ops::Range;

use ruff_python_ast::{Expr, Number, Stmt, UnaryOp};
use ruff_text_size::Ranged;

use crate::diagnostic::{Diagnostic, Kind};
use crate::source::parse_checked;

/// Most knobs of one program.
pub const KNOBS_MAX: usize = 1024;

/// A constant's value.
#[derive(Clone, Debug, PartialEq)]
pub enum KnobValue {
    /// Integer.
    Int(i64),
    /// Float, finite.
    Float(f64),
    /// `True` or `False`.
    Bool(bool),
    /// Text, or a bare name such as `relu`.
    Text(String),
}

/// What the comment after a constant says: `# 1..8 step 2`, `# 1e-4..3e-2 log`, `# one of relu, gelu`.
#[derive(Clone, Debug, PartialEq)]
pub enum Hint {
    /// Inclusive bounds.
    Range {
        /// Smallest value.
        low: f64,
        /// Largest value.
        high: f64,
        /// Search on a logarithmic scale.
        log: bool,
        /// Distance of neighbouring values.
        step: Option<f64>,
    },
    /// Choices, as they are written in the source.
    OneOf(Vec<String>),
}

/// A top-level constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Knob {
    /// `LR`, or `BETAS[0]` for an element of a tuple or list.
    pub name: String,
    /// Bytes of the literal in the source: replace these to vary it.
    pub range: Range<usize>,
    /// Its value.
    pub value: KnobValue,
    /// What its comment says.
    pub hint: Option<Hint>,
}

/// The constants that are assigned once at top level, in source order.
///
/// # Errors
/// The source is too long, too deeply nested, not Python, or has more than [`KNOBS_MAX`] constants.
pub fn knobs(source: &str) -> Result<Vec<Knob>, Box<Diagnostic>> {
    let parsed = parse_checked(source)?;
    let mut found = Vec::new();
    for statement in &parsed.syntax().body {
        match statement {
            Stmt::Assign(assign) => {
                if let [target] = &assign.targets[..] {
                    assigned(source, target, &assign.value, &mut found);
                }
            }
            Stmt::AnnAssign(assign) => {
                if let Some(value) = &assign.value {
                    assigned(source, &assign.target, value, &mut found);
                }
            }
            _ => {}
        }
        if found.len() > KNOBS_MAX {
            let at = statement.range();
            let message = format!("more than {KNOBS_MAX} constants");
            return Err(Diagnostic::new(Kind::Limit, message, source, at.start().to_usize()..at.end().to_usize()));
        }
    }
    Ok(found)
}

fn assigned(source: &str, target: &Expr, value: &Expr, found: &mut Vec<Knob>) {
    match (target, value) {
        (Expr::Name(name), value) => constants(source, name.id.as_str(), value, found),
        (Expr::Tuple(names), Expr::Tuple(values)) if names.elts.len() == values.elts.len() => {
            for (name, value) in names.elts.iter().zip(&values.elts) {
                assigned(source, name, value, found);
            }
        }
        _ => {}
    }
}

fn constants(source: &str, name: &str, value: &Expr, found: &mut Vec<Knob>) {
    let elements = match value {
        Expr::Tuple(tuple) => &tuple.elts,
        Expr::List(list) => &list.elts,
        single => {
            if let Some(value) = literal(single) {
                let range = single.start().to_usize()..single.end().to_usize();
                let hint = hint_after(source, range.end);
                found.push(Knob { name: name.to_owned(), range, value, hint });
            }
            return;
        }
    };
    for (i, element) in elements.iter().enumerate() {
        constants(source, &format!("{name}[{i}]"), element, found);
    }
}

fn literal(value: &Expr) -> Option<KnobValue> {
    match value {
        Expr::NumberLiteral(literal) => number(&literal.value),
        Expr::UnaryOp(unary) if unary.op == UnaryOp::USub => match &*unary.operand {
            Expr::NumberLiteral(literal) => match number(&literal.value)? {
                KnobValue::Int(i) => Some(KnobValue::Int(-i)),
                KnobValue::Float(f) => Some(KnobValue::Float(-f)),
                _ => None,
            },
            _ => None,
        },
        Expr::BooleanLiteral(literal) => Some(KnobValue::Bool(literal.value)),
        Expr::StringLiteral(literal) => Some(KnobValue::Text(literal.value.to_str().to_owned())),
        Expr::Name(name) => Some(KnobValue::Text(name.id.to_string())),
        _ => None,
    }
}

fn number(number: &Number) -> Option<KnobValue> {
    match number {
        Number::Int(i) => i.as_i64().map(KnobValue::Int),
        Number::Float(f) => f.is_finite().then_some(KnobValue::Float(*f)),
        Number::Complex { .. } => None,
    }
}

/// Reads the comment on the rest of the line; one that is no hint is only a comment.
fn hint_after(source: &str, end: usize) -> Option<Hint> {
    let line = source.get(end..)?.lines().next()?;
    let comment = line.split_once('#')?.1.trim();
    if let Some(choices) = comment.strip_prefix("one of ") {
        let choices: Vec<String> = choices.split(',').map(|c| c.trim().to_owned()).filter(|c| !c.is_empty()).collect();
        return (choices.len() > 1).then_some(Hint::OneOf(choices));
    }
    let mut words = comment.split_whitespace();
    let (low, high) = words.next()?.split_once("..")?;
    let finite = |text: &str| text.parse::<f64>().ok().filter(|f| f.is_finite());
    let (low, high) = (finite(low)?, finite(high)?);
    let (mut log, mut step) = (false, None);
    while let Some(word) = words.next() {
        match word {
            "log" => log = true,
            "step" => step = Some(words.next().and_then(finite).filter(|step| *step > 0.0)?),
            _ => break,
        }
    }
    (low < high && (!log || low > 0.0)).then_some(Hint::Range { low, high, log, step })
}
