//! Convolutions and their gradients as products whose unfolded operand is made chunk by chunk, where it is multiplied.
//!
//! [`Slide`] is a convolution, or the gradient of its input: for a block of pixels and a chunk of k, a [`slab`] of the
//! tensor is rounded and laid out with its padding, the panels of the unfolded operand are copied from it, and the
//! product of `gemm` runs on them. [`Weight`] is the gradient of the kernel. Groups of few channels would leave most of
//! a tile empty: `direct` and `few` compute theirs without one, the pixels or the channels side by side.
//!
//! *Invariant:* work is split over results, never along k.

mod direct;
mod few;
mod slab;
mod slide;
mod weight;

use std::marker::PhantomData;
use std::ops::Range;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::backend::Isa;
use crate::reference::conv::Sizes;

use super::isa::{Kernel, Level};
use super::memory::{LINE, Place, Shared};
use super::step::{Context, Pieces, Sharing};
use super::wide::{self, Wide};

use self::few::Few;
use self::slide::Slide;
use self::weight::Weight;

/// Multiplications with additions that take as long as a simple operation.
const FLOPS: usize = 4;

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
pub(super) enum Conv {
    /// Result pixels from a kernel that slides.
    Slide(Slide),
    /// Gradient of the kernel.
    Weight(Weight),
    /// Gradient of the kernel, where a group has few outputs.
    Few(Few),
}

impl Conv {
    /// From its two operands to its result.
    pub(super) fn new(
        kind: Kind,
        sizes: &Sizes,
        [a, b]: [Place; 2],
        to: Place,
        sharing: Sharing,
        level: Level,
    ) -> Self {
        match kind {
            Kind::Forward => Self::Slide(Slide::forward(sizes, a, b, to, sharing)),
            Kind::InputGrad => Self::Slide(Slide::input_grad(sizes, a, b, to, sharing)),
            Kind::WeightGrad if sizes.of_group()[1] <= few::OUTPUTS => Self::Few(Few::new(sizes, a, b, to)),
            Kind::WeightGrad => Self::Weight(Weight::new(sizes, a, b, to, sharing, level)),
        }
    }

    /// How the work is shared out.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        match self {
            Self::Slide(slide) => slide.pieces(sharing),
            Self::Weight(weight) => weight.pieces(sharing),
            Self::Few(few) => few.pieces(sharing),
        }
    }

    /// Elements of scratch that a worker needs.
    pub(super) fn scratch(&self) -> usize {
        match self {
            Self::Slide(slide) => slide.room().total(),
            Self::Weight(weight) => weight.room().total(),
            Self::Few(few) => few.room().total(),
        }
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, scratch: Shared, units: Range<usize>) {
        // SAFETY: owed by the caller.
        unsafe {
            match self {
                Self::Slide(slide) => units.for_each(|unit| slide.unit(context, scratch, unit)),
                Self::Weight(weight) => units.for_each(|unit| weight.unit(context, scratch, unit)),
                Self::Few(few) => units.for_each(|unit| few.unit(context, scratch, unit)),
            }
        }
    }
}

/// How a worker's scratch is divided, in elements.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    /// For the product.
    product: usize,
    slab: usize,
    /// A left operand that is put together.
    left: usize,
    /// A right operand that is put together, or a result before it is moved to its place.
    rest: usize,
}

impl Room {
    fn total(self) -> usize {
        [self.product, self.slab, self.left, self.rest].map(|len| len.next_multiple_of(LINE)).iter().sum()
    }

    /// Slab, left operand, and rest.
    ///
    /// # Safety
    /// The scratch has this room.
    unsafe fn divide(self, scratch: Shared) -> [Shared; 3] {
        let mut at = 0;
        [self.product, self.slab, self.left].map(|len| {
            at += len.next_multiple_of(LINE);
            // SAFETY: owed by the caller.
            Shared::new(unsafe { scratch.at(at) })
        })
    }
}

/// A loop on registers of sixteen floats.
trait Lanes {
    /// The loop, `#[inline(always)]`.
    fn run<W: Wide>(self);
}

struct On<K, W>(K, PhantomData<W>);

impl<K: Lanes, W: Wide> Kernel for On<K, W> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.0.run::<W>();
    }
}

/// Runs a loop on the registers of a level.
fn run_on<K: Lanes>(level: Level, work: K) {
    match level.isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => level.run(On(work, PhantomData::<wide::Avx512>)),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => level.run(On(work, PhantomData::<wide::Avx2>)),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => level.run(On(work, PhantomData::<wide::Neon>)),
        _ => level.run(On(work, PhantomData::<wide::Portable>)),
    }
}

/// The shift of each kernel element along an axis, from how far it is from the first.
fn shifts(kernel: usize, dilation: usize, shift: impl Fn(i64) -> Option<i64>) -> Vec<Option<i64>> {
    (0..kernel).map(|tap| shift((tap * dilation) as i64)).collect()
}
