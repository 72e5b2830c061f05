//! The steps of a plan: operations whose shapes, places and splits are settled, so that running one looks nothing up.
//!
//! *Invariant:* pieces of one step write disjoint elements, and a step reads nothing that it writes.

use cairn_protocol::Seed;

use super::attention::{Backward, Forward};
use super::choose::{Choose, TopK};
use super::conv::Conv;
use super::elementwise::Program;
use super::index::Indexed;
use super::isa::Level;
use super::matmul::{MatMul, Pack};
use super::memory::{Buffer, Place, Shared};
use super::moves::Move;
use super::random::Draw;
use super::reduce::Reduce;
use super::rows::Rows;
use super::scan::Scan;

/// Pieces for each thread, so that a thread that the system holds up delays the others little.
const PIECES_PER_THREAD: usize = 4;

/// Among how many threads work is shared, and which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sharing {
    /// Threads, the calling one included.
    pub(super) threads: usize,
    /// Work of fewer simple operations is done by the calling thread.
    pub(super) least: usize,
}

impl Sharing {
    /// In how many pieces this many operations should be split.
    pub(super) fn pieces(self, work: usize) -> usize {
        match self.threads {
            1 => 1,
            _ if work < self.least => 1,
            threads => (threads * PIECES_PER_THREAD).min(work / (self.least / PIECES_PER_THREAD).max(1)).max(1),
        }
    }
}

/// What every piece of every step sees.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// Instruction set.
    pub(super) level: Level,
    /// First element of each region.
    pub(super) regions: &'a [Shared],
    /// One buffer for each thread.
    pub(super) scratch: &'a [Buffer],
    /// Seed of the run.
    pub(super) seed: &'a Seed,
    /// Step of the run.
    pub(super) step: u64,
    /// Slice of the batch that is computed, and how many there are.
    pub(super) slice: Slice,
}

/// A slice of the batch; the only one outside of the loop over slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    /// Which one.
    pub(super) index: usize,
    /// Number of slices.
    pub(super) count: usize,
}

impl Slice {
    /// The whole batch.
    pub(super) const WHOLE: Self = Self { index: 0, count: 1 };

    /// Whether none comes before.
    pub(super) fn is_first(self) -> bool {
        self.index == 0
    }

    /// Whether none follows.
    pub(super) fn is_last(self) -> bool {
        self.index + 1 == self.count
    }
}

impl Context<'_> {
    /// First element of the tensor at a place: of this slice's part, where it has one.
    #[inline(always)]
    pub(super) fn at(&self, place: Place) -> Shared {
        let offset = place.offset + self.slice.index * place.advance;
        // SAFETY: the plan's places, and the slices of those that advance, lie inside their regions.
        Shared::new(unsafe { self.regions[place.region as usize].at(offset) })
    }
}

/// How the units of a step (elements, rows, tiles) are split among threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pieces {
    /// Number of pieces.
    pub(super) count: usize,
    size: usize,
    total: usize,
}

impl Pieces {
    /// Splits `total` units, each of about `cost` simple operations, at multiples of `unit`.
    pub(super) fn new(total: usize, unit: usize, cost: usize, sharing: Sharing) -> Self {
        match sharing.pieces(total.saturating_mul(cost)) {
            1 => Self { count: usize::from(total > 0), size: total, total },
            pieces => {
                let size = total.div_ceil(pieces).next_multiple_of(unit.max(1));
                Self { count: total.div_ceil(size), size, total }
            }
        }
    }

    /// Units of a piece.
    pub(super) fn range(&self, piece: usize) -> std::ops::Range<usize> {
        (piece * self.size).min(self.total)..((piece + 1) * self.size).min(self.total)
    }
}

/// A step of a plan.
#[derive(Debug)]
pub(super) struct Step {
    /// What is done.
    pub(super) work: Work,
    /// How it is split.
    pub(super) pieces: Pieces,
}

/// What a step does.
#[derive(Debug)]
pub(super) enum Work {
    /// Elementwise nodes.
    Elementwise(Program),
    /// A matrix product.
    MatMul(MatMul),
    /// A right operand of products is packed.
    Pack(Pack),
    /// Attention.
    Forward(Forward),
    /// Gradients of attention.
    Backward(Backward),
    /// An operation along the last axis, or rotary positions.
    Rows(Rows),
    /// A sum or a maximum.
    Reduce(Reduce),
    /// Elements moved.
    Move(Move),
    /// Elements chosen by integers.
    Indexed(Indexed),
    /// Random numbers.
    Draw(Draw),
    /// A convolution or a gradient of one.
    Conv(Conv),
    /// Running sums.
    Scan(Scan),
    /// Elements chosen along an axis.
    Choose(Choose),
    /// Indices of the largest elements.
    TopK(TopK),
}

impl Step {
    /// A step and how it is shared.
    pub(super) fn new(work: Work, sharing: Sharing) -> Self {
        let pieces = match &work {
            Work::Elementwise(work) => work.pieces(sharing),
            Work::MatMul(work) => work.pieces(sharing),
            Work::Pack(work) => work.pieces(sharing),
            Work::Forward(work) => work.pieces(sharing),
            Work::Backward(work) => work.pieces(sharing),
            Work::Rows(work) => work.pieces(sharing),
            Work::Reduce(work) => work.pieces(sharing),
            Work::Move(work) => work.pieces(sharing),
            Work::Indexed(work) => work.pieces(sharing),
            Work::Draw(work) => work.pieces(sharing),
            Work::Conv(work) => work.pieces(sharing),
            Work::Scan(work) => work.pieces(sharing),
            Work::Choose(work) => work.pieces(sharing),
            Work::TopK(work) => work.pieces(sharing),
        };
        Self { work, pieces }
    }

    /// Elements of scratch that a worker needs.
    pub(super) fn scratch(&self) -> usize {
        match &self.work {
            Work::Elementwise(work) => work.scratch(),
            Work::MatMul(work) => work.scratch(),
            Work::Forward(work) => work.scratch(),
            Work::Backward(work) => work.scratch(),
            Work::TopK(work) => work.scratch(),
            Work::Conv(work) => work.scratch(),
            Work::Pack(_) | Work::Scan(_) | Work::Choose(_) => 0,
            Work::Reduce(_) | Work::Rows(_) | Work::Move(_) | Work::Indexed(_) | Work::Draw(_) => 0,
        }
    }

    /// Does a piece.
    ///
    /// # Safety
    /// The context's regions are those that the plan was made for, its scratch has a buffer for this worker with the
    /// room of [`Step::scratch`], every earlier step is done, and no other step runs.
    pub(super) unsafe fn piece(&self, context: &Context<'_>, worker: usize, piece: usize) {
        let range = self.pieces.range(piece);
        let scratch = Shared::new(context.scratch[worker].start());
        // SAFETY: owed by the caller; pieces have disjoint ranges.
        unsafe {
            match &self.work {
                Work::Elementwise(work) => work.run(context, scratch, range.start, range.end),
                Work::MatMul(work) => work.run(context, scratch, range),
                Work::Pack(work) => work.run(context, range),
                Work::Forward(work) => work.run(context, scratch, range),
                Work::Backward(work) => work.run(context, scratch, range),
                Work::Rows(work) => work.run(context, range),
                Work::Reduce(work) => work.run(context, range),
                Work::Move(work) => work.run(context, range),
                Work::Indexed(work) => work.run(context, range),
                Work::Draw(work) => work.run(context, range),
                Work::Conv(work) => work.run(context, scratch, range),
                Work::Scan(work) => work.run(context, range),
                Work::Choose(work) => work.run(context, range),
                Work::TopK(work) => work.run(context, scratch, range),
            }
        }
    }
}
