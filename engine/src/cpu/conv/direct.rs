//! Convolutions whose groups have few result channels: no unfolded operand, each term is added from the slab itself, as
//! if the padding between lines were pixels too.

use std::ops::Range;

use crate::number::{canon, round12};

use super::super::gemm::CHUNK;
use super::super::isa::Kernel;
use super::super::memory::Shared;

/// Most result channels of a group for which this is faster than a product.
pub(super) const RESULTS: usize = 2;
/// Pixels that are summed side by side: some registers, so that their sums do not wait for each other.
pub(super) const STRIPE: usize = 64;

/// One result channel from at most a chunk of terms.
pub(super) struct Direct<'a> {
    pub(super) slab: Shared,
    /// Offset of each term in the slab.
    pub(super) offsets: &'a [usize],
    pub(super) weights: Shared,
    /// Place of each term's weight.
    pub(super) places: &'a [usize],
    /// Places of the slab that are pixels, seen from a term's offset.
    pub(super) pixels: Range<usize>,
    pub(super) to: Shared,
}

impl Kernel for Direct<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let mut weights = [0.0f32; CHUNK];
        let weights = &mut weights[..self.offsets.len()];
        for (weight, &place) in weights.iter_mut().zip(self.places) {
            // SAFETY: the caller's places are those of weights.
            *weight = round12(unsafe { *self.weights.at(place) });
        }
        for first in self.pixels.step_by(STRIPE) {
            let mut sums = [0.0f32; STRIPE];
            for (&offset, &weight) in self.offsets.iter().zip(weights.iter()) {
                // SAFETY: the slab has a stripe's room behind it.
                let line = unsafe { self.slab.read(offset + first, STRIPE) };
                for (sum, &x) in sums.iter_mut().zip(&line[..STRIPE]) {
                    *sum += weight * x;
                }
            }
            // SAFETY: so has the room for results.
            let to = unsafe { self.to.write(first, STRIPE) };
            for (to, &sum) in to.iter_mut().zip(&sums) {
                *to = canon(sum);
            }
        }
    }
}
