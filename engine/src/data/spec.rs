//! What tracing needs to know of a data set: the shapes and the size of an evaluation, without the data.

use super::DataError;

/// Tokens of one evaluation batch: rows × context stays at or just below this.
pub const EVALUATION_TOKENS: u32 = 4096;

/// Shapes and sizes of a data set. Every field is plain, so that tests can write one down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSpec {
    /// Input tokens are 0 .. vocab.
    pub vocab: u32,
    /// Targets are 0 .. classes, or -1.
    pub classes: u32,
    /// Positions of a row where the data fix them; none where the program chooses.
    pub context: Option<u32>,
    /// Longest context that the program may choose (the fixed one where it is fixed).
    pub context_max: u32,
    /// Targets that a validation scores.
    pub validation_targets: u64,
    /// Targets that a test scores.
    pub test_targets: u64,
    /// Rows of a validation where the context is fixed; otherwise they follow from the targets.
    pub validation_rows: u64,
    /// Rows of a test where the context is fixed; otherwise they follow from the targets.
    pub test_rows: u64,
}

impl DataSpec {
    /// A text of tokens in which the program chooses its context.
    pub fn text(vocab: u32, context_max: u32, validation_targets: u64, test_targets: u64) -> Self {
        Self {
            vocab,
            classes: vocab,
            context: None,
            context_max,
            validation_targets,
            test_targets,
            validation_rows: 0,
            test_rows: 0,
        }
    }

    /// Rows of a fixed length: `targets` and `rows` are those of validation and test.
    pub fn rows(vocab: u32, context: u32, targets: [u64; 2], rows: [u64; 2]) -> Self {
        Self {
            vocab,
            classes: vocab,
            context: Some(context),
            context_max: context,
            validation_targets: targets[0],
            test_targets: targets[1],
            validation_rows: rows[0],
            test_rows: rows[1],
        }
    }

    /// Rows of one evaluation batch, at least 1.
    pub fn evaluation_rows(&self, context: u32) -> u32 {
        (EVALUATION_TOKENS / context.max(1)).max(1)
    }

    /// Batches of a validation and of a test.
    pub fn evaluation_batches(&self, context: u32) -> (u64, u64) {
        let rows = |targets: u64, fixed: u64| match self.context {
            Some(_) => fixed,
            None => targets.div_ceil(u64::from(context.max(1))),
        };
        let batches = |rows: u64| rows.div_ceil(u64::from(self.evaluation_rows(context)));
        (batches(rows(self.validation_targets, self.validation_rows)), batches(rows(self.test_targets, self.test_rows)))
    }

    /// Whether the data have rows of `context` positions.
    ///
    /// # Errors
    /// They have not; the message says which they have.
    pub fn check_context(&self, context: u32) -> Result<(), DataError> {
        let fits = match self.context {
            Some(fixed) => context == fixed,
            None => (1..=self.context_max).contains(&context),
        };
        let error = DataError::Context { context, max: self.context_max, fixed: self.context.is_some() };
        if fits { Ok(()) } else { Err(error) }
    }
}
