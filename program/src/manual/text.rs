//! The manual's tables as text.

use std::fmt::Write as _;

use super::{Operation, Section, measure, operations};

/// The reference of all operations, in Markdown: what `docs/guide/train-py.md` holds between its markers.
pub fn manual() -> String {
    let mut text = String::new();
    for section in Section::ALL {
        let _ = writeln!(text, "### {}\n", section.title());
        operations().filter(|operation| operation.section == section).for_each(|operation| entry(&mut text, operation));
    }
    text
}

fn entry(text: &mut String, operation: &Operation) {
    let Operation { names, methods, signature, about, shapes, gradient, price, .. } = operation;
    let _ = write!(text, "**`{signature}`**");
    let others = names.iter().skip(1);
    others.for_each(|name| {
        let _ = write!(text, ", also `{name}`");
    });
    if !methods.is_empty() {
        let calls: Vec<String> = methods.iter().map(|name| format!("`x.{name}`")).collect();
        let only = if names.is_empty() { "only as method " } else { "method " };
        let _ = write!(text, "; {only}{}", calls.join(", "));
    }
    let _ = write!(text, "\n\n{about}\n\n| | |\n|---|---|\n");
    for (what, value) in [("shapes", shapes), ("gradient", gradient), ("price", price)] {
        if !value.is_empty() {
            let _ = writeln!(text, "| {what} | {} |", cell(value));
        }
    }
    let _ = writeln!(text, "| example | {} |", cell(&example(operation)));
    let _ = writeln!(text, "| refused | {} |\n", cell(&refusal(operation)));
}

/// Bars would end a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn example(operation: &Operation) -> String {
    let shown = format!("`{}`", operation.example);
    match measure::example(operation) {
        Ok(Some(measured)) => {
            let mut text = format!("{shown}: {}", measured.result);
            if measured.forward > 0 {
                let _ = write!(text, "; {} operations", grouped(measured.forward));
            }
            if let Some(backward) = measured.backward {
                let _ = write!(text, ", backward {}", grouped(backward));
            }
            text
        }
        Ok(None) => shown,
        Err(diagnostic) => format!("{shown}: {diagnostic}"),
    }
}

fn refusal(operation: &Operation) -> String {
    let shown = format!("`{}`", operation.refused);
    match measure::refusal(operation) {
        Some(diagnostic) => format!("{shown}: {}: {}", diagnostic.kind.name(), diagnostic.message),
        None => shown,
    }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
