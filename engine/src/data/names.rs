//! Converter `names`: one lowercase name a line; an example is one name.
//!
//! Tokens: 0 is the mark before the first and after the last letter, 1 … 26 are a … z. A row has 16 positions: inputs
//! 0, c1 … cn and then zeros; targets c1 … cn, 0 and then -1.
//!
//! *Invariant:* a name stands in exactly one part, however often the file repeats it.

use super::{DataError, DataSpec, PADDING, Split};

/// Longest file, in bytes.
pub const NAMES_BYTES_MAX: usize = 64 << 20;
/// Letters of a name: with its end mark it fills a row.
pub const NAME_LETTERS_MAX: usize = 15;
/// Positions of a row.
pub const NAMES_CONTEXT: u32 = 16;
/// The mark and 26 letters.
pub const NAMES_VOCAB: u32 = 27;
/// Fewest distinct names of which each part gets one.
const NAMES_MIN: usize = 10;

/// One name: how many letters, then their tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    letters: u8,
    tokens: [u8; NAME_LETTERS_MAX],
}

impl Name {
    fn parse(line: u64, text: &[u8]) -> Result<Self, DataError> {
        let error = |column: usize, what: String| Err(DataError::Line { line, column: column as u64 + 1, what });
        let mut name = Self { letters: 0, tokens: [0; NAME_LETTERS_MAX] };
        if text.is_empty() {
            return error(0, "an empty line; a line is one name".into());
        }
        for (column, &byte) in text.iter().enumerate() {
            let Some(token) = name.tokens.get_mut(column) else {
                return error(column, format!("a name of more than {NAME_LETTERS_MAX} letters"));
            };
            if !byte.is_ascii_lowercase() {
                return error(column, format!("byte {byte:#04x}; a name is of the letters a to z"));
            }
            *token = byte - b'a' + 1;
            name.letters += 1;
        }
        Ok(name)
    }

    fn tokens(&self) -> &[u8] {
        self.tokens.get(..usize::from(self.letters)).unwrap_or_default()
    }

    /// Writes the name as a row.
    pub(super) fn write(&self, input: &mut [i32], target: &mut [i32]) {
        input.fill(0);
        target.fill(PADDING);
        let tokens = || self.tokens().iter().map(|&token| i32::from(token));
        input.iter_mut().skip(1).zip(tokens()).for_each(|(slot, token)| *slot = token);
        target.iter_mut().zip(tokens().chain([0])).for_each(|(slot, token)| *slot = token);
    }
}

/// Distinct names in three parts.
#[derive(Clone, Debug)]
pub(super) struct Names {
    train: Vec<Name>,
    validation: Vec<Name>,
    test: Vec<Name>,
}

impl Names {
    /// Distinct names, ordered by the BLAKE3 hash of their letters, cut at 80 and 90 per cent.
    pub(super) fn parse(raw: &[u8]) -> Result<Self, DataError> {
        if raw.len() > NAMES_BYTES_MAX {
            let (bytes, max) = (raw.len() as u64, NAMES_BYTES_MAX as u64);
            return Err(DataError::TooLarge { converter: "names", bytes, max });
        }
        let body = raw.strip_suffix(b"\n").unwrap_or(raw);
        let mut lines: Vec<(u64, &[u8])> = (1..).zip(body.split(|&byte| byte == b'\n')).collect();
        // The first line that is wrong is the one that is named.
        let mut named = Vec::with_capacity(lines.len());
        for (line, text) in lines.drain(..) {
            named.push((*blake3::hash(text).as_bytes(), Name::parse(line, text)?));
        }
        named.sort_unstable();
        named.dedup();
        let count = named.len();
        if count < NAMES_MIN {
            let (found, needed) = (count as u64, NAMES_MIN as u64);
            return Err(DataError::TooSmall { unit: "distinct names", found, needed });
        }
        let mut train: Vec<Name> = named.into_iter().map(|(_, name)| name).collect();
        let test = train.split_off(count * 9 / 10);
        let validation = train.split_off(count * 8 / 10);
        Ok(Self { train, validation, test })
    }

    pub(super) fn spec(&self) -> DataSpec {
        let targets = |list: &[Name]| list.iter().map(|name| u64::from(name.letters) + 1).sum();
        DataSpec::rows(
            NAMES_VOCAB,
            NAMES_CONTEXT,
            [targets(&self.validation), targets(&self.test)],
            [self.validation.len() as u64, self.test.len() as u64],
        )
    }

    pub(super) fn train(&self) -> &[Name] {
        &self.train
    }

    pub(super) fn of(&self, split: Split) -> &[Name] {
        match split {
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        }
    }
}
