//! Convolutions and their gradients.

use crate::reference::conv::{Sizes, forward, input_grad, weight_grad};

use super::memory::Place;
use super::step::{Context, Pieces, Sharing};

/// Which of the three contractions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// (x, w) -> y.
    Forward,
    /// (w, dy) -> dx.
    InputGrad,
    /// (x, dy) -> dw.
    WeightGrad,
}

/// A convolution, or a gradient of one.
#[derive(Debug)]
pub(super) struct Conv {
    /// Which one.
    pub(super) kind: Kind,
    /// Lengths.
    pub(super) sizes: Sizes,
    /// Operands: place and length.
    pub(super) inputs: [(Place, usize); 2],
    /// Result: place and length.
    pub(super) to: (Place, usize),
}

impl Conv {
    /// How the work is shared out.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        Pieces::new(1, 1, 1, sharing)
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>) {
        let ([a, b], (to, len)) = (self.inputs, self.to);
        // SAFETY: the planner settled places and lengths; the caller owes the rest.
        unsafe {
            let [a, b] = [a, b].map(|(place, len)| context.at(place).read(0, len));
            let result = match self.kind {
                Kind::Forward => forward(&self.sizes, a, b),
                Kind::InputGrad => input_grad(&self.sizes, a, b),
                Kind::WeightGrad => weight_grad(&self.sizes, a, b),
            };
            context.at(to).write(0, len).copy_from_slice(&result);
        }
    }
}
