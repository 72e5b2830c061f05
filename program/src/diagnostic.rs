//! Why a program is refused, and where. Kinds are part of the protocol, texts are not.

use std::fmt::Write as _;
use std::ops::Range;

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Not Python, or not text.
    Syntax,
    /// Python, but outside of the training language.
    Unsupported,
    /// A name that nothing defines, or one that is read before it has a value.
    Name,
    /// An attribute that a value does not have.
    Attribute,
    /// A value of the wrong type, or a call with the wrong arguments.
    Type,
    /// A value of the right type that makes no sense here.
    Value,
    /// An index outside of a sequence.
    Index,
    /// A key that a dict does not have.
    Key,
    /// An integer beyond 64 bits, or a float beyond its range.
    Overflow,
    /// Division by zero.
    ZeroDivision,
    /// A failed `assert`.
    Assertion,
    /// Tensor shapes that do not fit.
    Shape,
    /// The program does not define what it must (`model`, batch size, …), or defines it wrongly.
    Program,
    /// Part of the language that this version does not have yet.
    Unavailable,
    /// A limit on the source, the syntax tree, the graph or a size: bytes, nesting, nodes, `range`, axes, elements.
    Limit,
    /// Calls nested too deeply.
    Recursion,
    /// More evaluation than the fuel pays for.
    Fuel,
    /// More memory than the evaluator may allocate.
    Memory,
    /// More operations, memory, parameters or literals than the track allows.
    Budget,
    /// A fault of this software, not of the program.
    Internal,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 20] = [
        Kind::Syntax,
        Kind::Unsupported,
        Kind::Name,
        Kind::Attribute,
        Kind::Type,
        Kind::Value,
        Kind::Index,
        Kind::Key,
        Kind::Overflow,
        Kind::ZeroDivision,
        Kind::Assertion,
        Kind::Shape,
        Kind::Program,
        Kind::Unavailable,
        Kind::Limit,
        Kind::Recursion,
        Kind::Fuel,
        Kind::Memory,
        Kind::Budget,
        Kind::Internal,
    ];

    /// The name that JSON and the terminal show.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Syntax => "SyntaxError",
            Kind::Unsupported => "UnsupportedError",
            Kind::Name => "NameError",
            Kind::Attribute => "AttributeError",
            Kind::Type => "TypeError",
            Kind::Value => "ValueError",
            Kind::Index => "IndexError",
            Kind::Key => "KeyError",
            Kind::Overflow => "OverflowError",
            Kind::ZeroDivision => "ZeroDivisionError",
            Kind::Assertion => "AssertionError",
            Kind::Shape => "ShapeError",
            Kind::Program => "ProgramError",
            Kind::Unavailable => "UnavailableError",
            Kind::Limit => "LimitError",
            Kind::Recursion => "RecursionError",
            Kind::Fuel => "FuelError",
            Kind::Memory => "MemoryError",
            Kind::Budget => "BudgetError",
            Kind::Internal => "InternalError",
        }
    }
}

/// One call that was under way, as a diagnostic shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Name of the function that was called.
    pub function: String,
    /// 1-based line of the call, 0 where the engine calls.
    pub line: u32,
    /// 1-based column of the call, in characters, 0 where the engine calls.
    pub column: u32,
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
    /// Calls that were under way, outermost first.
    pub stack: Vec<Frame>,
}

impl Diagnostic {
    /// A refusal about `range` of `source`; a range outside the source is cut to it.
    pub(crate) fn new(kind: Kind, message: impl Into<String>, source: &str, range: Range<usize>) -> Box<Self> {
        let start = floor_boundary(source, range.start);
        let end = floor_boundary(source, range.end).max(start);
        // A whole line is shown from its first word on.
        let words = source[start..end].trim_start_matches(' ');
        let start = if words.is_empty() { start } else { end - words.len() };
        let (line, column) = line_and_column(source, start);
        let (message, stack) = (message.into(), Vec::new());
        Box::new(Self { kind, message, hint: None, line, column, range: start..end, stack })
    }

    pub(crate) fn with_hint(mut self: Box<Self>, hint: impl Into<String>) -> Box<Self> {
        self.hint = Some(hint.into());
        self
    }

    /// The message as a terminal shows it: calls under way, file, line, caret, hint.
    pub fn render(&self, source: &str, file: &str) -> String {
        let mut out = format!("{}: {}\n --> {file}:{}:{}\n", self.kind.name(), self.message, self.line, self.column);
        let text = source.lines().nth(self.line.saturating_sub(1) as usize).unwrap_or("");
        if !text.is_empty() && text.chars().count() <= SHOWN_COLUMNS_MAX {
            let before = self.column.saturating_sub(1) as usize;
            let indent: String = text.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let marked = source.get(self.range.clone()).and_then(|s| s.lines().next()).map_or(1, |s| s.chars().count());
            let _ = write!(out, "  | {text}\n  | {indent}{}\n", "^".repeat(marked.max(1)));
        }
        for frame in self.stack.iter().rev().take(SHOWN_FRAMES_MAX) {
            let Frame { function, line, column } = frame;
            let _ = match line {
                0 => writeln!(out, "  in {function}, called by the engine"),
                _ => writeln!(out, "  in {function}, called at {file}:{line}:{column}"),
            };
        }
        if self.stack.len() > SHOWN_FRAMES_MAX {
            let _ = writeln!(out, "  … and {} more calls", self.stack.len() - SHOWN_FRAMES_MAX);
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "  = hint: {hint}");
        }
        out
    }
}

/// Longest line, in characters, that a rendered diagnostic repeats.
const SHOWN_COLUMNS_MAX: usize = 200;
/// Most calls of the stack that a rendered diagnostic lists, innermost first.
const SHOWN_FRAMES_MAX: usize = 8;

/// 1-based line and column (in characters) of a byte offset that is a character boundary.
pub(crate) fn line_and_column(source: &str, at: usize) -> (u32, u32) {
    let before = source.get(..at).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (count(before.matches('\n').count() + 1), count(before[line_start..].chars().count() + 1))
}

fn floor_boundary(source: &str, at: usize) -> usize {
    (0..=at.min(source.len())).rev().find(|&i| source.is_char_boundary(i)).unwrap_or(0)
}
