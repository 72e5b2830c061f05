//! The gate before parsing: size, characters, nesting.
//!
//! The parser recurses, and dropping its tree recurses again, so nesting is bounded on the token stream first.

use ruff_python_ast::token::TokenKind;
use ruff_python_ast::{ModModule, PythonVersion};
use ruff_python_parser::{Mode, ParseOptions, Parsed, lexer, parse};
use ruff_text_size::Ranged;

use crate::diagnostic::{Diagnostic, Kind};

/// Longest source, in bytes.
pub const SOURCE_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting of one statement: open brackets, pending operators and blocks together.
pub const NESTING_MAX: u32 = 200;
/// Tokens that are no Python, before the scan gives up.
const UNKNOWN_TOKENS_MAX: u32 = 20;

/// Checks and parses a source.
pub(crate) fn parse_checked(source: &str) -> Result<Parsed<ModModule>, Box<Diagnostic>> {
    check_text(source)?;
    check_nesting(source)?;
    let options = ParseOptions::from(Mode::Module).with_target_version(PythonVersion::PY314);
    let parsed = parse(source, options).map_err(|error| {
        let at = error.location;
        Diagnostic::new(Kind::Syntax, error.error.to_string(), source, at.start().to_usize()..at.end().to_usize())
    })?;
    if let Some(error) = parsed.unsupported_syntax_errors().first() {
        let at = error.range();
        return Err(Diagnostic::new(
            Kind::Syntax,
            error.to_string(),
            source,
            at.start().to_usize()..at.end().to_usize(),
        ));
    }
    parsed.try_into_module().ok_or_else(|| Diagnostic::new(Kind::Syntax, "not a module", source, 0..0))
}

fn check_text(source: &str) -> Result<(), Box<Diagnostic>> {
    if source.len() > SOURCE_BYTES_MAX {
        let message = format!("the source has {} bytes; the limit is {SOURCE_BYTES_MAX}", source.len());
        return Err(Diagnostic::new(Kind::Limit, message, source, 0..0));
    }
    let refused = [('\0', "a NUL character"), ('\u{feff}', "a byte order mark"), ('\r', "a carriage return")];
    for (character, name) in refused {
        if let Some(at) = source.find(character) {
            return Err(Diagnostic::new(Kind::Syntax, format!("{name} in the source"), source, at..at + 1)
                .with_hint("save the file as UTF-8 with Unix line ends and no byte order mark"));
        }
    }
    Ok(())
}

/// What is pending at one bracket level.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Operators since the last comma: each may be a level of the tree.
    operators: u32,
    /// `lambda`, `if`, `else`, `for`: these nest across commas.
    openers: u32,
}

fn check_nesting(source: &str) -> Result<(), Box<Diagnostic>> {
    let mut tokens = lexer::lex(source, Mode::Module);
    let (mut outer, mut here) = (Vec::<Level>::new(), Level::default());
    let (mut below, mut blocks, mut unknown) = (0u32, 0u32, 0u32);
    let mut lines = 0usize;
    loop {
        let token = tokens.next_token();
        lines += usize::from(matches!(token, TokenKind::Newline | TokenKind::NonLogicalNewline));
        match token {
            TokenKind::EndOfFile => return Ok(()),
            TokenKind::Newline => {
                outer.clear();
                (here, below) = (Level::default(), 0);
            }
            TokenKind::Indent => blocks += 1,
            TokenKind::Dedent => blocks = blocks.saturating_sub(1),
            TokenKind::Lpar
            | TokenKind::Lsqb
            | TokenKind::Lbrace
            | TokenKind::FStringStart
            | TokenKind::TStringStart => {
                below += here.operators + here.openers + 1;
                outer.push(std::mem::take(&mut here));
            }
            TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace | TokenKind::FStringEnd | TokenKind::TStringEnd => {
                if let Some(level) = outer.pop() {
                    below -= level.operators + level.openers + 1;
                    // A closed bracket is itself a level of what follows: f()()()…
                    here = Level { operators: level.operators + 1, ..level };
                }
            }
            TokenKind::Comma | TokenKind::Semi => here.operators = 0,
            TokenKind::Lambda | TokenKind::If | TokenKind::Else | TokenKind::For => here.openers += 1,
            // Leaves, and the operators whose chains the tree holds flat.
            TokenKind::Name
            | TokenKind::Int
            | TokenKind::Float
            | TokenKind::String
            | TokenKind::NonLogicalNewline
            | TokenKind::Comment
            | TokenKind::FStringMiddle
            | TokenKind::And
            | TokenKind::Or => {}
            TokenKind::Unknown => {
                unknown += 1;
                if unknown > UNKNOWN_TOKENS_MAX {
                    return Err(Diagnostic::new(Kind::Syntax, "this is not a Python file", source, 0..0));
                }
            }
            _ => here.operators += 1,
        }
        if below + here.operators + here.openers + blocks > NESTING_MAX {
            // The lexer keeps its position private; lines are near enough (a string of several lines counts as one).
            let at = source.split_inclusive('\n').take(lines).map(str::len).sum::<usize>();
            let message = format!("nesting of expressions and blocks above {NESTING_MAX}");
            return Err(Diagnostic::new(Kind::Limit, message, source, at..at)
                .with_hint("give parts of the expression names of their own"));
        }
    }
}
