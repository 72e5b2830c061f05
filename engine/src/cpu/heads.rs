//! Attention of many small heads: sixteen of them side by side, a head in each lane.
//!
//! Where a head is a few positions of a few channels, tiles and rows of scores fill no register. Here sixteen heads are
//! turned so that each step of one head's arithmetic is one instruction for all of them. Pairs that a mask hides are
//! left out one by one.
//!
//! *Invariant:* each lane does what [`mod@crate::reference`] does for its head, in the same order.

use std::ops::Range;

use crate::graph::{Attention, Unary};
use crate::number::{canon, from_foreign};
use crate::reference::attention::visible;
use crate::reference::unary;

use super::isa::Level;
use super::lanes::LANES;
use super::memory::Shared;
use super::wide::{self, Wide, WideKernel};

/// Most positions of queries or keys: one chunk of each contraction.
const POSITIONS: usize = 256;
/// Most channels of a head.
const CHANNELS: usize = 32;
/// Most elements of a head's queries or keys: sixteen heads of these stay in the caches.
const ELEMENTS: usize = 512;
/// With fewer heads most lanes would be idle.
const HEADS: usize = 8;

/// One number of each of sixteen heads.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Group([f32; LANES]);

impl Group {
    const ZERO: Self = Self([0.0; LANES]);

    #[inline(always)]
    fn get<W: Wide>(&self) -> W {
        // SAFETY: a whole group; `W` is of the level that the kernel runs on.
        unsafe { W::load(self.0.as_ptr()) }
    }

    #[inline(always)]
    fn set<W: Wide>(&mut self, value: W) {
        // SAFETY: as above.
        unsafe { value.store(self.0.as_mut_ptr()) }
    }

    /// A function of many operations, which a compiler makes one register of.
    #[inline(always)]
    fn apply(&mut self, function: impl Fn(usize, f32) -> f32) {
        let mut group = self.0;
        for (lane, x) in group.iter_mut().enumerate() {
            *x = function(lane, *x);
        }
        self.0 = group;
    }
}

/// Lengths of a head, and the options.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    options: Attention,
    heads: usize,
    queries: usize,
    keys: usize,
    depth: usize,
}

impl Heads {
    /// `heads` heads over all examples, when they are small and many enough; each with keys of its own.
    pub(super) fn new(options: Attention, heads: usize, [queries, keys, depth]: [usize; 3]) -> Option<Self> {
        let small = queries.max(keys) <= POSITIONS && depth <= CHANNELS && queries.max(keys) * depth <= ELEMENTS;
        let plain = options.soft_cap == 0 && heads >= HEADS;
        (small && plain).then_some(Self { options, heads, queries, keys, depth })
    }

    /// Units of work: groups of sixteen heads.
    pub(super) fn groups(&self) -> usize {
        self.heads.div_ceil(LANES)
    }

    fn q_len(&self) -> usize {
        self.queries * self.depth
    }

    fn k_len(&self) -> usize {
        self.keys * self.depth
    }

    /// Elements of scratch that a forward pass needs.
    pub(super) fn forward_scratch(&self) -> usize {
        LANES * (2 * self.q_len() + 2 * self.k_len() + self.keys)
    }

    /// Elements of scratch that a backward pass needs.
    pub(super) fn backward_scratch(&self) -> usize {
        LANES * (4 * self.q_len() + 4 * self.k_len() + 2 * self.keys + self.depth)
    }

    fn seen(&self, query: usize) -> Range<usize> {
        visible(&self.options, query, self.keys)
    }

    /// y from q, k, v, for groups of heads.
    ///
    /// # Safety
    /// The tensors have all the heads; nobody else writes those of these groups, nor the scratch, which is aligned to a
    /// group and has the room of [`Heads::forward_scratch`].
    pub(super) unsafe fn forward(self, level: Level, scratch: Shared, groups: Range<usize>, tensors: [Shared; 4]) {
        let work = Forward { heads: self, scratch, groups, tensors };
        wide::run(level, work);
    }

    /// Gradients from q, k, v, y and dy, for groups of heads.
    ///
    /// # Safety
    /// As for [`Heads::forward`], with the room of [`Heads::backward_scratch`].
    pub(super) unsafe fn backward(
        self,
        level: Level,
        scratch: Shared,
        groups: Range<usize>,
        inputs: [Shared; 5],
        gradients: [Option<Shared>; 3],
    ) {
        let work = Backward { heads: self, scratch, groups, inputs, gradients };
        wide::run(level, work);
    }

    /// e^(s - max) of a query's visible keys, and the reciprocals of their sums.
    #[inline(always)]
    fn exponentials<W: Wide>(&self, q: &[Group], k: &[Group], seen: Range<usize>, e: &mut [Group]) -> W {
        let scale = W::splat(from_foreign(f32::from_bits(self.options.scale)));
        let mut most = W::splat(f32::NEG_INFINITY);
        for (e, k) in e.iter_mut().zip(k[seen.start * self.depth..].chunks_exact(self.depth)) {
            let score = dot::<W>(q, k).mul(scale).canon();
            most = most.max(score);
            e.set(score);
        }
        let mut shift = Group::ZERO;
        shift.set(most);
        for e in e.iter_mut() {
            e.apply(|lane, s| unary(Unary::Exp, canon(s - shift.0[lane])));
        }
        let mut sum = Group::ZERO;
        sum.set(row_sum::<W>(seen.start, e));
        sum.apply(|_, z| unary(Unary::Recip, z));
        sum.get()
    }
}

/// The contraction of two rows of rounded operands.
#[inline(always)]
fn dot<W: Wide>(a: &[Group], b: &[Group]) -> W {
    let mut sum = W::splat(0.0);
    for (a, b) in a.iter().zip(b) {
        sum = sum.add_product(a.get(), b.get());
    }
    sum.canon()
}

/// Σ weights[j] · rows[j][channel], over rows of `depth`.
#[inline(always)]
fn mix<W: Wide>(weights: &[Group], rows: &[Group], depth: usize, channel: usize) -> W {
    let mut sum = W::splat(0.0);
    for (weight, row) in weights.iter().zip(rows.chunks_exact(depth)) {
        sum = sum.add_product(weight.get(), row[channel].get());
    }
    sum.canon()
}

/// The row rule's sum of values whose first has index `first`; those before are zeros.
#[inline(always)]
fn row_sum<W: Wide>(first: usize, values: &[Group]) -> W {
    let mut slots = [Group::ZERO; LANES];
    for (j, value) in values.iter().enumerate() {
        let slot = &mut slots[(first + j) % LANES];
        slot.set(slot.get::<W>().add(value.get()));
    }
    tree(&slots)
}

#[inline(always)]
fn tree<W: Wide>(slots: &[Group; LANES]) -> W {
    let mut slots = {
        let mut loaded = [W::splat(0.0); LANES];
        for (to, slot) in loaded.iter_mut().zip(slots) {
            *to = slot.get();
        }
        loaded
    };
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            slots[i] = slots[i].add(slots[i + half]);
        }
        half /= 2;
    }
    slots[0].canon()
}

/// A worker's scratch, dealt out front to back.
struct Room(Shared);

impl Room {
    /// # Safety
    /// The scratch has room for all that is taken, for nobody else, and starts at a multiple of a group's size.
    #[inline(always)]
    unsafe fn take<'a>(&mut self, len: usize) -> &'a mut [Group] {
        // SAFETY: owed by the caller.
        unsafe {
            let start = self.0.at(0).cast::<Group>();
            self.0 = Shared::new(self.0.at(len * LANES));
            std::slice::from_raw_parts_mut(start, len)
        }
    }
}

/// Sixteen heads of a tensor, or the last ones and zeros, element by element.
///
/// # Safety
/// The tensor has `heads` heads of `to.len()` elements.
#[inline(always)]
unsafe fn turn_in(from: Shared, heads: Range<usize>, to: &mut [Group]) {
    let len = to.len();
    if heads.len() < LANES {
        to.fill(Group::ZERO);
    }
    for (lane, head) in heads.enumerate() {
        // SAFETY: owed by the caller.
        let from = unsafe { from.read(head * len, len) };
        for (to, &x) in to.iter_mut().zip(from) {
            to.0[lane] = x;
        }
    }
}

/// The way back.
///
/// # Safety
/// As for [`turn_in`], and nobody else touches these heads.
#[inline(always)]
unsafe fn turn_out(from: &[Group], to: Shared, heads: Range<usize>) {
    for (lane, head) in heads.enumerate() {
        // SAFETY: owed by the caller.
        let to = unsafe { to.write(head * from.len(), from.len()) };
        for (to, x) in to.iter_mut().zip(from) {
            *to = x.0[lane];
        }
    }
}

#[inline(always)]
fn round<W: Wide>(all: &mut [Group]) {
    for x in all {
        x.set(x.get::<W>().round12());
    }
}

struct Forward {
    heads: Heads,
    scratch: Shared,
    groups: Range<usize>,
    /// q, k, v and y.
    tensors: [Shared; 4],
}

impl WideKernel for Forward {
    #[inline(always)]
    fn run<W: Wide>(self) {
        let Forward { heads, scratch, groups, tensors } = self;
        let (depth, mut room) = (heads.depth, Room(scratch));
        // SAFETY: `Heads::forward` was promised the tensors and the room.
        let ([q, y], [k, v], e) = unsafe {
            let [q, y] = [room.take(heads.q_len()), room.take(heads.q_len())];
            let [k, v] = [room.take(heads.k_len()), room.take(heads.k_len())];
            ([q, y], [k, v], room.take(heads.keys))
        };
        for group in groups {
            let lanes = group * LANES..heads.heads.min((group + 1) * LANES);
            // SAFETY: as above.
            unsafe {
                for (from, to) in tensors.into_iter().zip([&mut *q, &mut *k, &mut *v]) {
                    turn_in(from, lanes.clone(), to);
                    round::<W>(to);
                }
            }
            for (i, y) in y.chunks_exact_mut(depth).enumerate() {
                let seen = heads.seen(i);
                let e = &mut e[..seen.len()];
                let scale: W = heads.exponentials(&q[i * depth..][..depth], k, seen.clone(), e);
                round::<W>(e);
                for (channel, y) in y.iter_mut().enumerate() {
                    y.set(mix::<W>(e, &v[seen.start * depth..], depth, channel).mul(scale).canon());
                }
            }
            // SAFETY: as above.
            unsafe { turn_out(y, tensors[3], lanes) };
        }
    }
}

struct Backward {
    heads: Heads,
    scratch: Shared,
    groups: Range<usize>,
    /// q, k, v, y and dy.
    inputs: [Shared; 5],
    /// Of q, k and v.
    gradients: [Option<Shared>; 3],
}

impl WideKernel for Backward {
    #[inline(always)]
    fn run<W: Wide>(self) {
        let Backward { heads, scratch, groups, inputs, gradients } = self;
        let mut room = Room(scratch);
        // SAFETY: `Heads::backward` was promised the tensors and the room.
        let ([q, y, dy, dq], [k, v, dk, dv], [e, ds], row) = unsafe {
            let of_queries = [0, 1, 2, 3].map(|_| room.take(heads.q_len()));
            let of_keys = [0, 1, 2, 3].map(|_| room.take(heads.k_len()));
            (of_queries, of_keys, [0, 1].map(|_| room.take(heads.keys)), room.take(heads.depth))
        };
        for group in groups {
            let lanes = group * LANES..heads.heads.min((group + 1) * LANES);
            // SAFETY: as above.
            unsafe {
                for (from, to) in inputs.into_iter().zip([&mut *q, &mut *k, &mut *v, &mut *y, &mut *dy]) {
                    turn_in(from, lanes.clone(), to);
                }
            }
            for operand in [&mut *q, &mut *k, &mut *v] {
                round::<W>(operand);
            }
            let tensors = Turned { heads, q, k, v, y, dy, dq, dk, dv };
            tensors.gradients::<W>(e, ds, row);
            for (from, to) in [&*dq, &*dk, &*dv].into_iter().zip(gradients) {
                if let Some(to) = to {
                    // SAFETY: as above.
                    unsafe { turn_out(from, to, lanes.clone()) };
                }
            }
        }
    }
}

/// Sixteen heads side by side; q, k and v are rounded.
struct Turned<'a> {
    heads: Heads,
    q: &'a [Group],
    k: &'a [Group],
    v: &'a [Group],
    y: &'a [Group],
    dy: &'a [Group],
    dq: &'a mut [Group],
    dk: &'a mut [Group],
    dv: &'a mut [Group],
}

impl Turned<'_> {
    /// `e`, `ds` and `rounded` are room for a row of keys, one more, and a row of channels.
    #[inline(always)]
    fn gradients<W: Wide>(self, e: &mut [Group], ds: &mut [Group], rounded: &mut [Group]) {
        let Self { heads, q, k, v, y, dy, dq, dk, dv } = self;
        let depth = heads.depth;
        let factor = W::splat(from_foreign(f32::from_bits(heads.options.scale)));
        dk.fill(Group::ZERO);
        dv.fill(Group::ZERO);
        for i in 0..heads.queries {
            let (seen, row) = (heads.seen(i), i * depth..(i + 1) * depth);
            let (e, ds) = (&mut e[..seen.len()], &mut ds[..seen.len()]);
            let (q, y, dy) = (&q[row.clone()], &y[row.clone()], &dy[row.clone()]);
            let scale: W = heads.exponentials(q, k, seen.clone(), e);
            for ((product, y), dy) in rounded.iter_mut().zip(y).zip(dy) {
                product.set(dy.get::<W>().mul(y.get()).canon());
            }
            let total = row_sum::<W>(0, rounded);
            for (rounded, dy) in rounded.iter_mut().zip(dy) {
                rounded.set(dy.get::<W>().round12());
            }
            for ((e, ds), v) in e.iter_mut().zip(ds.iter_mut()).zip(v[seen.start * depth..].chunks_exact(depth)) {
                let p = e.get::<W>().mul(scale).canon();
                let change = p.mul(dot::<W>(rounded, v).sub(total).canon()).canon();
                ds.set(change.mul(factor).canon().round12());
                e.set(p.round12());
            }
            for (channel, dq) in dq[row].iter_mut().enumerate() {
                dq.set(mix::<W>(ds, &k[seen.start * depth..], depth, channel));
            }
            let rows = seen.start * depth..seen.end * depth;
            let totals = dk[rows.clone()].chunks_exact_mut(depth).zip(dv[rows].chunks_exact_mut(depth));
            for ((p, ds), (dk, dv)) in e.iter().zip(ds.iter()).zip(totals) {
                let (p, ds) = (p.get::<W>(), ds.get::<W>());
                for ((dk, dv), (q, dy)) in dk.iter_mut().zip(dv).zip(q.iter().zip(rounded.iter())) {
                    dk.set(dk.get::<W>().add_product(ds, q.get()));
                    dv.set(dv.get::<W>().add_product(p, dy.get()));
                }
            }
        }
        for total in dk.iter_mut().chain(dv) {
            total.set(total.get::<W>().canon());
        }
    }
}
