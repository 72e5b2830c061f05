//! Data sets: raw bytes in, splits, training batches and evaluation windows out.
//!
//! A *converter* is a named rule that turns a track's raw file into examples: [`names`] (one example a line) or
//! [`bytes`] (one long text). The rules are in `docs/spec/run.md`. Start at [`Dataset::load`]; a [`DataSpec`] is what
//! tracing needs to know and is small enough to be written by hand.
//!
//! *Invariant:* splits, batches and windows are functions of the raw bytes, the seed and the step alone; every
//! element of a batch is a token of the vocabulary, or -1 (padding) among the targets.

mod batches;
mod bytes;
mod names;
mod spec;
mod windows;

use thiserror::Error;

use crate::backend::Tensor;

pub use batches::STREAM;
pub use bytes::{BYTES_MAX as TEXT_BYTES_MAX, BYTES_VOCAB};
pub use names::{NAME_LETTERS_MAX, NAMES_BYTES_MAX, NAMES_CONTEXT, NAMES_VOCAB};
pub use spec::{DataSpec, EVALUATION_TOKENS};
pub use windows::Windows;

/// Target that is not scored.
pub const PADDING: i32 = -1;

/// Characters of an unknown converter's name that an error repeats.
const CONVERTER_SHOWN: usize = 80;

/// A part of the data that training does not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// What records are measured on.
    Validation,
    /// What guards against fitting the validation part.
    Test,
}

/// Why raw data or a request for them is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DataError {
    /// No such converter.
    #[error("there is no converter `{0}`; there are `names` and `bytes`")]
    Converter(String),
    /// More than the converter takes.
    #[error("the data are {bytes} bytes long, and the converter `{converter}` takes at most {max}")]
    TooLarge {
        /// The converter.
        converter: &'static str,
        /// Length of the raw data.
        bytes: u64,
        /// Its limit.
        max: u64,
    },
    /// Too little for three parts.
    #[error("{found} {unit} cannot be split into training, validation and test; at least {needed} are needed")]
    TooSmall {
        /// What is counted.
        unit: &'static str,
        /// How many there are.
        found: u64,
        /// How many must be.
        needed: u64,
    },
    /// A line that is no example.
    #[error("line {line}, column {column}: {what}")]
    Line {
        /// Line, from 1.
        line: u64,
        /// Column in bytes, from 1.
        column: u64,
        /// What is wrong.
        what: String,
    },
    /// The data have no rows of this length.
    #[error("a context of {context} positions: this data set has {}", fits(*.max, *.fixed))]
    Context {
        /// The context asked for.
        context: u32,
        /// The longest that there is.
        max: u32,
        /// Whether only that one is possible.
        fixed: bool,
    },
}

fn fits(max: u32, fixed: bool) -> String {
    if fixed { format!("rows of {max} positions only") } else { format!("rows of 1 to {max} positions") }
}

/// A data set, converted and split.
#[derive(Clone, Debug)]
pub struct Dataset {
    examples: Examples,
    spec: DataSpec,
}

#[derive(Clone, Debug)]
enum Examples {
    Names(names::Names),
    Bytes(bytes::Bytes),
}

impl Dataset {
    /// Converts and splits `raw` by the rule of that name.
    ///
    /// # Errors
    /// The rule is unknown, or the bytes are not what it takes; the message says where.
    pub fn load(converter: &str, raw: &[u8]) -> Result<Self, DataError> {
        let examples = match converter {
            "names" => Examples::Names(names::Names::parse(raw)?),
            "bytes" => Examples::Bytes(bytes::Bytes::parse(raw)?),
            other => return Err(unknown(other)),
        };
        let spec = match &examples {
            Examples::Names(names) => names.spec(),
            Examples::Bytes(bytes) => bytes.spec(),
        };
        Ok(Self { examples, spec })
    }

    /// Bytes of the longest file that a converter takes.
    ///
    /// # Errors
    /// There is no such converter.
    pub fn bytes_max(converter: &str) -> Result<u64, DataError> {
        match converter {
            "names" => Ok(NAMES_BYTES_MAX as u64),
            "bytes" => Ok(TEXT_BYTES_MAX as u64),
            other => Err(unknown(other)),
        }
    }

    /// What tracing needs to know.
    pub fn spec(&self) -> &DataSpec {
        &self.spec
    }

    /// The batches of an evaluation, each two I32 tensors of `rows` × `context`: inputs and targets. Every target of
    /// the split is scored exactly once; rows beyond the last are inputs 0, targets -1.
    ///
    /// # Errors
    /// The data have no rows of that context.
    pub fn windows(&self, split: Split, context: u32, rows: u32) -> Result<Windows<'_>, DataError> {
        self.spec.check_context(context)?;
        Ok(Windows::new(self, split, context, rows.max(1)))
    }

    /// Rows that an evaluation has.
    pub(crate) fn evaluation_rows(&self, split: Split, context: u32) -> u64 {
        match (&self.examples, split) {
            (Examples::Names(names), _) => names.of(split).len() as u64,
            (Examples::Bytes(bytes), _) => bytes::Bytes::rows(bytes.of(split), context),
        }
    }

    /// Writes row `index` of an evaluation.
    pub(crate) fn evaluation_row(&self, split: Split, index: u64, input: &mut [i32], target: &mut [i32]) {
        match &self.examples {
            Examples::Names(names) => {
                let list = names.of(split);
                if let Some(name) = usize::try_from(index).ok().and_then(|i| list.get(i)) {
                    name.write(input, target);
                }
            }
            Examples::Bytes(bytes) => bytes::Bytes::row(bytes.of(split), index, input, target),
        }
    }
}

fn unknown(converter: &str) -> DataError {
    DataError::Converter(converter.chars().take(CONVERTER_SHOWN).collect())
}

/// Two I32 tensors as a batch.
fn batch(inputs: Vec<i32>, targets: Vec<i32>) -> [Tensor; 2] {
    [Tensor::I32(inputs), Tensor::I32(targets)]
}
