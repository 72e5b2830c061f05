//! Why a program is refused, and where. Kinds are part of the protocol, texts are not.

use std::fmt::Write as _;
use std::ops::Range;

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Not Python, or not text.
    Syntax,
    /// A limit on the source itself: bytes, nesting, count.
    Limit,
}

impl Kind {
    /// The name that JSON and the terminal show.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Syntax => "SyntaxError",
            Kind::Limit => "LimitError",
        }
    }
}

/// A refusal with its place in the source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message} (line {line}, column {column})", kind.name())]
pub struct Diagnostic {
    /// What kind of refusal.
    pub kind: Kind,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
    /// 1-based line.
    pub line: u32,
    /// 1-based column, in characters.
    pub column: u32,
    /// Bytes of the source it is about.
    pub range: Range<usize>,
}

impl Diagnostic {
    /// A refusal about `range` of `source`; a range outside the source is cut to it.
    pub(crate) fn new(kind: Kind, message: impl Into<String>, source: &str, range: Range<usize>) -> Box<Self> {
        let start = floor_boundary(source, range.start);
        let end = floor_boundary(source, range.end).max(start);
        let before = &source[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Box::new(Self {
            kind,
            message: message.into(),
            hint: None,
            line: count(before.matches('\n').count() + 1),
            column: count(source[line_start..start].chars().count() + 1),
            range: start..end,
        })
    }

    pub(crate) fn with_hint(mut self: Box<Self>, hint: impl Into<String>) -> Box<Self> {
        self.hint = Some(hint.into());
        self
    }

    /// The message as a terminal shows it: file, line, caret, hint.
    pub fn render(&self, source: &str, file: &str) -> String {
        let mut out = format!("{}: {}\n --> {file}:{}:{}\n", self.kind.name(), self.message, self.line, self.column);
        let text = source.lines().nth(self.line.saturating_sub(1) as usize).unwrap_or("");
        if !text.is_empty() && text.chars().count() <= SHOWN_COLUMNS_MAX {
            let before = self.column.saturating_sub(1) as usize;
            let indent: String = text.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let marked = source.get(self.range.clone()).and_then(|s| s.lines().next()).map_or(1, |s| s.chars().count());
            let _ = write!(out, "  | {text}\n  | {indent}{}\n", "^".repeat(marked.max(1)));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "  = hint: {hint}");
        }
        out
    }
}

/// Longest line, in characters, that a rendered diagnostic repeats.
const SHOWN_COLUMNS_MAX: usize = 200;

fn floor_boundary(source: &str, at: usize) -> usize {
    (0..=at.min(source.len())).rev().find(|&i| source.is_char_boundary(i)).unwrap_or(0)
}
