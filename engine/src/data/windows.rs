//! The batches of an evaluation.

use super::{Dataset, PADDING, Split, batch};
use crate::backend::Tensor;

/// Batches of an evaluation, in order.
#[derive(Clone, Debug)]
pub struct Windows<'a> {
    data: &'a Dataset,
    split: Split,
    context: usize,
    rows: usize,
    next: u64,
    total: u64,
}

impl<'a> Windows<'a> {
    pub(super) fn new(data: &'a Dataset, split: Split, context: u32, rows: u32) -> Self {
        let total = data.evaluation_rows(split, context);
        Self { data, split, context: context as usize, rows: rows as usize, next: 0, total }
    }
}

impl Iterator for Windows<'_> {
    type Item = [Tensor; 2];

    fn next(&mut self) -> Option<[Tensor; 2]> {
        if self.next >= self.total {
            return None;
        }
        let elements = self.rows * self.context;
        let (mut inputs, mut targets) = (vec![0; elements], vec![PADDING; elements]);
        let rows = inputs.chunks_exact_mut(self.context).zip(targets.chunks_exact_mut(self.context));
        for (index, (input, target)) in (self.next..self.total).zip(rows) {
            self.data.evaluation_row(self.split, index, input, target);
        }
        self.next += self.rows as u64;
        Some(batch(inputs, targets))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.total.saturating_sub(self.next).div_ceil(self.rows as u64) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Windows<'_> {}
