//! The one-line summary of a change: `LR 0.003 → 0.006, WIDTH 16 → 24`, written and read back.
//!
//! *Invariant:* what [`write`] gives, [`read`] takes apart again.

use cairn_protocol::limits::SUMMARY_BYTES_MAX;

/// One changed constant: its name, its old and its new literal, as they stand in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name of the constant.
    pub name: String,
    /// Old literal.
    pub old: String,
    /// New literal.
    pub new: String,
}

/// The summary of `changes`; none if it would be longer than a report's summary may be, or if a
/// literal holds what separates literals.
pub fn write(changes: &[Change]) -> Option<String> {
    let part = |change: &Change| format!("{} {} → {}", change.name, change.old, change.new);
    let text = changes.iter().map(part).collect::<Vec<_>>().join(", ");
    (text.len() <= SUMMARY_BYTES_MAX && read(&text).as_deref() == Some(changes)).then_some(text)
}

/// The changes that a summary speaks of; none if it is not one of ours.
pub fn read(summary: &str) -> Option<Vec<Change>> {
    summary
        .split(", ")
        .map(|part| {
            let (left, new) = part.split_once(" → ")?;
            let (name, old) = left.split_once(' ')?;
            let word = |text: &str| !text.is_empty() && !text.contains([' ', ',', '→']);
            (word(name) && word(old) && word(new)).then(|| Change {
                name: name.into(),
                old: old.into(),
                new: new.into(),
            })
        })
        .collect()
}
