//! Converter `bytes`: the file is one text, a token is a byte, an example is a window of it.
//!
//! *Invariant:* the parts are stretches of the file, in order and disjoint; no window crosses their ends.

use super::{DataError, DataSpec, PADDING, Split};

/// Longest file, in bytes.
pub const BYTES_MAX: usize = 256 << 20;
/// Values of a byte.
pub const BYTES_VOCAB: u32 = 256;
/// Shortest file: 5 per cent of it are an input and a target.
const BYTES_MIN: usize = 40;
/// Longest context that is ever offered: beyond, one row is no batch any more.
const CONTEXT_MAX: usize = 1 << 16;

/// A text in three parts.
#[derive(Clone, Debug)]
pub(super) struct Bytes {
    text: Vec<u8>,
    /// End of the training part, and of the validation part.
    ends: [usize; 2],
}

impl Bytes {
    /// 90, 5 and 5 per cent, in the order of the file.
    pub(super) fn parse(raw: &[u8]) -> Result<Self, DataError> {
        if raw.len() > BYTES_MAX {
            let (bytes, max) = (raw.len() as u64, BYTES_MAX as u64);
            return Err(DataError::TooLarge { converter: "bytes", bytes, max });
        }
        if raw.len() < BYTES_MIN {
            return Err(DataError::TooSmall { unit: "bytes", found: raw.len() as u64, needed: BYTES_MIN as u64 });
        }
        let at = |percent: u64| (raw.len() as u64 * percent / 100) as usize;
        Ok(Self { text: raw.to_vec(), ends: [at(90), at(95)] })
    }

    pub(super) fn spec(&self) -> DataSpec {
        let targets = |part: &[u8]| part.len() as u64 - 1;
        let context_max = (self.train().len() - 1).min(CONTEXT_MAX) as u32;
        let [validation, test] = [Split::Validation, Split::Test].map(|split| targets(self.of(split)));
        DataSpec::text(BYTES_VOCAB, context_max, validation, test)
    }

    pub(super) fn train(&self) -> &[u8] {
        self.text.get(..self.ends[0]).unwrap_or_default()
    }

    pub(super) fn of(&self, split: Split) -> &[u8] {
        let [validation, test] = self.ends;
        match split {
            Split::Validation => self.text.get(validation..test),
            Split::Test => self.text.get(test..),
        }
        .unwrap_or_default()
    }

    /// Windows that score each target of `part` once.
    pub(super) fn rows(part: &[u8], context: u32) -> u64 {
        (part.len() as u64).saturating_sub(1).div_ceil(u64::from(context.max(1)))
    }

    /// Writes the window that starts at `start`: bytes, and each one's successor. Beyond the part, padding.
    pub(super) fn window(part: &[u8], start: usize, input: &mut [i32], target: &mut [i32]) {
        let part = part.get(start..).unwrap_or_default();
        let pairs = part.iter().zip(part.iter().skip(1));
        input.fill(0);
        target.fill(PADDING);
        for ((slot, goal), (&byte, &next)) in input.iter_mut().zip(target).zip(pairs) {
            *slot = i32::from(byte);
            *goal = i32::from(next);
        }
    }

    /// Writes window `index` of an evaluation. Windows step by their length; the last is shifted left to end with the
    /// part, and what the window before it scored is masked.
    pub(super) fn row(part: &[u8], index: u64, input: &mut [i32], target: &mut [i32]) {
        let (targets, context) = (part.len().saturating_sub(1), target.len());
        let start = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(context);
        let shifted = start.min(targets.saturating_sub(context));
        Self::window(part, shifted, input, target);
        target.iter_mut().take(start - shifted).for_each(|scored| *scored = PADDING);
    }
}
