//! Training batches: rows drawn with replacement from the training part.

use super::{DataError, Dataset, Examples, PADDING, batch, bytes};
use crate::backend::Tensor;
use crate::random::Stream;

/// Stream that rows are drawn from, with the step and the row as its counter.
pub const STREAM: &str = "data";

/// An index in 0 .. `count` (at most 2³²) from a 32-bit draw: ⌊draw · count / 2³²⌋.
fn scaled(draw: u32, count: usize) -> usize {
    ((u64::from(draw) * count as u64) >> 32) as usize
}

impl Dataset {
    /// The batch of a training step: two I32 tensors of `rows` × `context`, inputs and targets. `stream` is that of
    /// kind [`STREAM`] without a name.
    ///
    /// # Errors
    /// The data have no rows of that context.
    pub fn batch(&self, stream: &Stream, step: u32, rows: u32, context: u32) -> Result<[Tensor; 2], DataError> {
        self.spec().check_context(context)?;
        let (columns, elements) = (context as usize, rows as usize * context as usize);
        let (mut inputs, mut targets) = (vec![0; elements], vec![PADDING; elements]);
        let pairs = inputs.chunks_exact_mut(columns).zip(targets.chunks_exact_mut(columns));
        for (row, (input, target)) in (0..rows).zip(pairs) {
            let draw = stream.word(step, row);
            match &self.examples {
                Examples::Names(names) => {
                    if let Some(name) = names.train().get(scaled(draw, names.train().len())) {
                        name.write(input, target);
                    }
                }
                Examples::Bytes(text) => {
                    let part = text.train();
                    bytes::Bytes::window(part, scaled(draw, part.len() - columns), input, target);
                }
            }
        }
        Ok(batch(inputs, targets))
    }
}
