//! Convolutions whose groups have few result channels: no unfolded operand, each term is added from the slab itself, as
//! if the padding between lines were pixels too.

use std::ops::Range;

use crate::number::round12;

use super::super::gemm::CHUNK;
use super::super::lanes::LANES;
use super::super::memory::Shared;
use super::super::wide::Wide;
use super::Lanes;

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

impl Lanes for Direct<'_> {
    #[inline(always)]
    fn run<W: Wide>(self) {
        let mut weights = [0.0f32; CHUNK];
        let weights = &mut weights[..self.offsets.len()];
        for (weight, &place) in weights.iter_mut().zip(self.places) {
            // SAFETY: the caller's places are those of weights.
            *weight = round12(unsafe { *self.weights.at(place) });
        }
        for first in self.pixels.step_by(STRIPE) {
            let mut sums = [W::splat(0.0); STRIPE / LANES];
            for (&offset, &weight) in self.offsets.iter().zip(weights.iter()) {
                let weight = W::splat(weight);
                for (i, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the slab has a stripe's room behind it.
                    let x = unsafe { W::load(self.slab.at(offset + first + i * LANES)) };
                    *sum = sum.add_product(weight, x);
                }
            }
            for (i, sum) in sums.iter().enumerate() {
                // SAFETY: so has the room for results.
                unsafe { sum.canon().store(self.to.at(first + i * LANES)) };
            }
        }
    }
}
