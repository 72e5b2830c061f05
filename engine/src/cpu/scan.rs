//! Running sums along an axis.
//!
//! *Invariant:* a line is summed in its own order, in blocks from +0, the blocks before it as one carry.

use std::ops::Range;

use crate::number::canon;

use super::isa::Kernel;
use super::memory::{Place, Shared};
use super::step::{Context, Pieces, Sharing};

/// Elements of a block.
const BLOCK: usize = 256;
/// Lines that are summed side by side.
const STRIPE: usize = 64;

/// Running sums of x [outer, len, inner] along the middle axis.
#[derive(Debug)]
pub(super) struct Scan {
    /// Lengths before, of, and after the axis.
    pub(super) axes: [usize; 3],
    /// Whether sums start at the end of the axis.
    pub(super) reverse: bool,
    /// Operand.
    pub(super) from: Place,
    /// Result.
    pub(super) to: Place,
}

impl Scan {
    /// Stripes of lines that stand side by side.
    fn stripes(&self) -> usize {
        self.axes[2].div_ceil(STRIPE)
    }

    /// How stripes are shared out.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        let [outer, len, inner] = self.axes;
        Pieces::new(outer * self.stripes(), 1, 4 * len * inner.min(STRIPE), sharing)
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, units: Range<usize>) {
        let (from, to) = (context.at(self.from), context.at(self.to));
        context.level.run(Units { scan: self, from, to, units });
    }
}

struct Units<'a> {
    scan: &'a Scan,
    from: Shared,
    to: Shared,
    units: Range<usize>,
}

impl Kernel for Units<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let stripes = self.scan.stripes();
        for unit in self.units.clone() {
            // SAFETY: `Scan::run` was promised the tensors; a unit's lines are its own.
            unsafe { self.stripe(unit / stripes, unit % stripes * STRIPE) };
        }
    }
}

impl Units<'_> {
    /// Up to [`STRIPE`] lines side by side.
    #[inline(always)]
    unsafe fn stripe(&self, outer: usize, first: usize) {
        let Scan { axes: [_, len, inner], reverse, .. } = *self.scan;
        let width = STRIPE.min(inner - first);
        let (mut carry, mut sum) = ([0.0f32; STRIPE], [0.0f32; STRIPE]);
        for i in 0..len {
            if i % BLOCK == 0 {
                for (carry, sum) in carry.iter_mut().zip(&mut sum) {
                    *carry += *sum;
                    *sum = 0.0;
                }
            }
            let row = if reverse { len - 1 - i } else { i };
            let at = (outer * len + row) * inner + first;
            // SAFETY: owed by the caller.
            let (from, to) = unsafe { (self.from.read(at, width), self.to.write(at, width)) };
            for (((to, &x), sum), &carry) in to.iter_mut().zip(from).zip(&mut sum).zip(&carry) {
                *sum += x;
                *to = canon(carry + *sum);
            }
        }
    }
}
