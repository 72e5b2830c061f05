//! Attention and its gradients, blocked so that no queries x keys matrix is ever stored.
//!
//! A head's keys and values are packed once; then blocks of query rows go through the same steps as the reference:
//! scores, mask, row maximum, exponentials, row sum, product with the values. The gradients recompute the
//! probabilities of up to 256 rows (a chunk of the contraction over queries) and add their products to the totals.
//! Elements that a mask makes zero are skipped where that skips whole tiles; the others keep their index.
//!
//! *Invariant:* every contraction runs in the order of its whole index, whatever is skipped.

use std::ops::Range;

use crate::graph::{Attention, Unary};
use crate::number::{canon, from_foreign};
use crate::reference::attention::{score, visible};

use super::gemm::{CHUNK, Matrix, Packed, Product, Right, STRIP};
use super::heads::Heads;
use super::isa::Kernel;
use super::lanes::{LANES, functions};
use super::memory::{Place, Shared};
use super::reduce::{BLOCK as SUM_BLOCK, lanes_max, row_sum_after, tree};
use super::step::{Context, Pieces, Sharing};
use super::wide::{self, Wide, WideKernel, sum};
use crate::reference::unary;

/// Query rows of a block: full tiles for each instruction set.
const ROWS: usize = 48;

/// Lengths and options of an attention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    options: Attention,
    batch: usize,
    heads: usize,
    key_heads: usize,
    queries: usize,
    keys: usize,
    depth: usize,
}

impl Shape {
    /// From the shapes of q [B,H,T,D] and k [B,Hk,S,D].
    pub(super) fn new(options: &Attention, q: &[usize], k: &[usize]) -> Self {
        match (q, k) {
            (&[batch, heads, queries, depth], &[_, key_heads, keys, _]) => {
                Self { options: *options, batch, heads, key_heads, queries, keys, depth }
            }
            _ => unreachable!("attention takes four axes"),
        }
    }

    /// The heads side by side, where they are small and many.
    fn side_by_side(&self) -> Option<Heads> {
        let lengths = [self.queries, self.keys, self.depth];
        let own_keys = self.heads == self.key_heads;
        own_keys.then(|| Heads::new(self.options, self.batch * self.heads, lengths)).flatten()
    }

    /// Distance of rows of scores: whole groups of lanes.
    fn width(&self) -> usize {
        self.keys.next_multiple_of(LANES)
    }

    /// Keys that a query may see.
    fn visible(&self, query: usize) -> Range<usize> {
        visible(&self.options, query, self.keys)
    }

    /// Keys that a block of queries may see, from a multiple of a chunk.
    fn block(&self, queries: Range<usize>) -> Range<usize> {
        let first = self.visible(queries.start).start / CHUNK * CHUNK;
        first..self.visible(queries.end - 1).end
    }

    /// Simple operations of a head's query row.
    fn cost(&self) -> usize {
        let keys = match self.options.window as usize {
            0 => self.keys,
            window => self.keys.min(window + CHUNK),
        };
        keys * (self.depth / 4 + 16)
    }
}

/// Room in a worker's scratch, dealt out front to back.
struct Room(Shared);

impl Room {
    fn take(&mut self, len: usize) -> Shared {
        let start = self.0;
        // SAFETY: the step's `scratch` is the sum of what it takes.
        self.0 = Shared::new(unsafe { start.at(len.next_multiple_of(16)) });
        start
    }
}

/// y = attention(q, k, v).
#[derive(Debug)]
pub(super) struct Forward {
    /// Lengths.
    pub(super) heads: Shape,
    /// Queries.
    pub(super) q: Place,
    /// Keys.
    pub(super) k: Place,
    /// Values.
    pub(super) v: Place,
    /// Result.
    pub(super) y: Place,
}

impl Forward {
    /// A unit is a head of an example, or a group of small ones.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        let heads = &self.heads;
        match heads.side_by_side() {
            Some(small) => Pieces::new(small.groups(), 1, heads.queries * heads.cost() * LANES / 4, sharing),
            None => Pieces::new(heads.batch * heads.heads, 1, heads.queries * heads.cost(), sharing),
        }
    }

    /// Elements of scratch that a worker needs.
    pub(super) fn scratch(&self) -> usize {
        if let Some(small) = self.heads.side_by_side() {
            return small.forward_scratch();
        }
        let Shape { keys, depth, .. } = self.heads;
        let parts = [STRIP, Packed::len(depth, keys), Packed::len(keys, depth), ROWS * self.heads.width(), ROWS];
        parts.iter().map(|len| len.next_multiple_of(16)).sum()
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, scratch: Shared, units: Range<usize>) {
        let heads = &self.heads;
        if let Some(small) = heads.side_by_side() {
            let tensors = [self.q, self.k, self.v, self.y].map(|place| context.at(place));
            // SAFETY: owed by the caller; groups have disjoint heads, and `scratch` counted the room.
            return unsafe { small.forward(context.level, scratch, units, tensors) };
        }
        let Shape { keys, depth, queries, .. } = *heads;
        for unit in units {
            let mut room = Room(scratch);
            let strip = room.take(STRIP);
            // SAFETY: a head's part of each tensor; the room was counted in `scratch`.
            unsafe {
                let key_head = heads.key_head(unit);
                let [q, y] = [self.q, self.y].map(|it| Shared::new(context.at(it).at(unit * queries * depth)));
                let [k, v] = [self.k, self.v].map(|it| Shared::new(context.at(it).at(key_head * keys * depth)));
                let kt = Packed::new(
                    context.level,
                    Matrix::new(k, depth, true),
                    depth,
                    keys,
                    room.take(Packed::len(depth, keys)),
                );
                let v = Packed::new(
                    context.level,
                    Matrix::new(v, depth, false),
                    keys,
                    depth,
                    room.take(Packed::len(keys, depth)),
                );
                let scores = room.take(ROWS * heads.width());
                let scales = room.take(ROWS);
                for first in (0..queries).step_by(ROWS) {
                    let block = Block { heads: *heads, first, rows: ROWS.min(queries - first), scores };
                    block.scores(context, strip, q, kt);
                    wide::run(context.level, Softmax { block, scales, probabilities: false, bent: None });
                    let seen = block.keys();
                    Product {
                        m: block.rows,
                        n: depth,
                        k: seen.len(),
                        a: Matrix::new(Shared::new(scores.at(seen.start)), heads.width(), false),
                        b: Right::Packed(v.from(seen.start, 0)),
                        c: Shared::new(y.at(first * depth)),
                        c_row: depth,
                        continues: false,
                        ends: true,
                    }
                    .compute(context.level, strip);
                    wide::run(context.level, Normalise { block, scales, y: Shared::new(y.at(first * depth)) });
                }
            }
        }
    }
}

impl Shape {
    /// The head of keys and values, over all examples, that a head of queries uses.
    fn key_head(&self, head: usize) -> usize {
        let (example, head) = (head / self.heads, head % self.heads);
        example * self.key_heads + head / (self.heads / self.key_heads)
    }
}

/// Some query rows of a head, and their scores.
#[derive(Clone, Copy)]
struct Block {
    heads: Shape,
    first: usize,
    rows: usize,
    /// Scores [rows, width].
    scores: Shared,
}

impl Block {
    fn keys(&self) -> Range<usize> {
        self.heads.block(self.first..self.first + self.rows)
    }

    /// q · k of all pairs that some row of the block may see.
    unsafe fn scores(&self, context: &Context<'_>, strip: Shared, q: Shared, kt: Packed) {
        let (seen, depth) = (self.keys(), self.heads.depth);
        // SAFETY: owed by the caller: q and the scores hold these rows.
        unsafe {
            Product {
                m: self.rows,
                n: seen.len(),
                k: depth,
                a: Matrix::new(Shared::new(q.at(self.first * depth)), depth, false),
                b: Right::Packed(kt.from(0, seen.start)),
                c: Shared::new(self.scores.at(seen.start)),
                c_row: self.heads.width(),
                continues: false,
                ends: true,
            }
            .compute(context.level, strip);
        }
    }
}

/// Scores to exponentials, and the reciprocal of their sum; or to probabilities.
struct Softmax {
    block: Block,
    /// Reciprocals of the row sums.
    scales: Shared,
    /// Whether the exponentials are multiplied by them.
    probabilities: bool,
    /// Takes the tanh of capped scores.
    bent: Option<Shared>,
}

impl WideKernel for Softmax {
    #[inline(always)]
    fn run<W: Wide>(self) {
        let Self { block, scales, probabilities, bent } = self;
        for row in 0..block.rows {
            let visible = block.heads.visible(block.first + row);
            // SAFETY: the row was computed for these keys and has room for whole groups; the worker's scratch is nobody
            // else's.
            unsafe {
                let scores = groups(block.scores, block.heads.width(), row, &visible);
                let bent = bent.map(|bent| groups(bent, block.heads.width(), row, &visible));
                let max = score_all::<W>(scores, &block.heads.options, bent, &visible);
                let sums = exponentials::<W>(scores, max);
                let end = block.clear(block.scores, row, &visible);
                // Within a block of the row rule the zeros before and after the visible keys add nothing.
                let sum = if end <= SUM_BLOCK {
                    tree(sums)
                } else {
                    let first = block.keys().start;
                    row_sum_after(first, block.scores.read(row * block.heads.width() + first, end - first))
                };
                scales.write(row, 1)[0] = canon(sum);
            }
        }
        // SAFETY: as above.
        let scales = unsafe { scales.write(0, block.rows) };
        functions!(scales, [z] => unary(Unary::Recip, z));
        if probabilities {
            for (row, &scale) in scales.iter().enumerate() {
                let visible = block.heads.visible(block.first + row);
                // SAFETY: as above.
                unsafe {
                    for e in groups(block.scores, block.heads.width(), row, &visible) {
                        W::load(e.as_ptr()).mul(W::splat(scale)).canon().store(e.as_mut_ptr());
                    }
                }
            }
        }
    }
}

/// The groups of a row, from rows of `width`, that hold visible keys; of the first and the last one perhaps only some.
///
/// # Safety
/// The row lies in the matrix and is nobody else's.
#[inline(always)]
unsafe fn groups<'a>(matrix: Shared, width: usize, row: usize, visible: &Range<usize>) -> &'a mut [[f32; LANES]] {
    let start = visible.start / LANES * LANES;
    // SAFETY: owed by the caller; the width is a multiple of a group's.
    unsafe { matrix.write(row * width + start, (visible.end - start).next_multiple_of(LANES)) }.as_chunks_mut().0
}

impl Block {
    /// Clears what lies in a row of `matrix` beside the groups with visible keys, as far as the block's keys go; the end
    /// of those groups.
    ///
    /// # Safety
    /// As for [`groups`].
    #[inline(always)]
    unsafe fn clear(&self, matrix: Shared, row: usize, visible: &Range<usize>) -> usize {
        let (seen, at) = (self.keys(), row * self.heads.width());
        let (start, end) = (visible.start / LANES * LANES, visible.end.next_multiple_of(LANES));
        // SAFETY: owed by the caller.
        unsafe {
            if seen.start < start {
                matrix.write(at + seen.start, start - seen.start).fill(0.0);
            }
            if end < seen.end {
                matrix.write(at + end, seen.end - end).fill(0.0);
            }
        }
        end
    }
}

/// What is added to scores where a row's visible keys begin or end: nothing from lane 16 to 31.
static EDGES: [f32; 3 * LANES] = {
    let mut edges = [f32::NEG_INFINITY; 3 * LANES];
    let mut lane = LANES;
    while lane < 2 * LANES {
        edges[lane] = 0.0;
        lane += 1;
    }
    edges
};

/// Products to scores, scaled and capped; masked keys among them get -infinity, whose exponential is +0. The maximum.
#[inline(always)]
fn score_all<W: Wide>(
    scores: &mut [[f32; LANES]],
    options: &Attention,
    bent: Option<&mut [[f32; LANES]]>,
    visible: &Range<usize>,
) -> W {
    let mut scale = W::splat(from_foreign(f32::from_bits(options.scale)));
    if let Some(bent) = bent {
        for (bent, scores) in bent.iter_mut().zip(&mut *scores) {
            let mut capped = (*scores, *bent);
            for (s, bent) in capped.0.iter_mut().zip(&mut capped.1) {
                (*s, *bent) = score(options, *s);
            }
            (*scores, *bent) = capped;
        }
    } else if options.soft_cap != 0 {
        for s in scores.as_flattened_mut() {
            *s = score(options, *s).0;
        }
    }
    if options.soft_cap != 0 {
        scale = W::splat(1.0);
    }
    let (first, last) = (visible.start % LANES, (visible.end - 1) % LANES);
    let (count, mut max) = (scores.len(), W::splat(f32::NEG_INFINITY));
    for (i, group) in scores.iter_mut().enumerate() {
        // SAFETY: whole groups; the windows lie in the table.
        unsafe {
            let mut s = W::load(group.as_ptr()).mul(scale).canon();
            if i == 0 {
                s = s.add(W::load(EDGES.as_ptr().add(LANES - first)));
            }
            if i + 1 == count {
                s = s.add(W::load(EDGES.as_ptr().add(2 * LANES - 1 - last)));
            }
            s.store(group.as_mut_ptr());
            max = max.max(s);
        }
    }
    W::splat(lanes_max(max.lanes()))
}

/// e^(s - max) of all scores, and their sums by lanes.
#[inline(always)]
fn exponentials<W: Wide>(scores: &mut [[f32; LANES]], max: W) -> [f32; LANES] {
    let mut sums = W::splat(0.0);
    for group in scores {
        // SAFETY: whole groups.
        unsafe {
            let e = W::load(group.as_ptr()).sub(max).canon().exp();
            e.store(group.as_mut_ptr());
            sums = sums.add(e);
        }
    }
    sums.lanes()
}

/// Result rows times the reciprocal of their row's sum.
struct Normalise {
    block: Block,
    scales: Shared,
    y: Shared,
}

impl WideKernel for Normalise {
    #[inline(always)]
    fn run<W: Wide>(self) {
        let depth = self.block.heads.depth;
        for row in 0..self.block.rows {
            // SAFETY: the rows of this block are this piece's own.
            let (y, scale) = unsafe { (self.y.write(row * depth, depth), self.scales.read(row, 1)[0]) };
            let (groups, rest) = y.as_chunks_mut::<LANES>();
            let scaled = |y: W| y.mul(W::splat(scale)).canon();
            for y in groups {
                // SAFETY: whole groups.
                unsafe { scaled(W::load(y.as_ptr())).store(y.as_mut_ptr()) };
            }
            if !rest.is_empty() {
                scaled(W::load_short(rest, 0.0)).store_short(rest);
            }
        }
    }
}

/// Gradients of attention: those that are wanted of q, k and v.
#[derive(Debug)]
pub(super) struct Backward {
    /// Lengths.
    pub(super) heads: Shape,
    /// q, k, v, y and dy.
    pub(super) inputs: [Place; 5],
    /// Gradients of q, k and v.
    pub(super) gradients: [Option<Place>; 3],
}

/// What the blocks of a head share.
struct Head<'a, 'c> {
    context: &'a Context<'c>,
    heads: Shape,
    strip: Shared,
    q: Shared,
    y: Shared,
    dy: Shared,
    kt: Packed,
    vt: Packed,
    k: Packed,
    /// Probabilities and their gradients [up to a chunk of queries, keys].
    p: Shared,
    ds: Shared,
    scales: Shared,
    /// Tanh of the capped scores of a block of rows.
    bent: Option<Shared>,
    packed_q: Shared,
    packed_dy: Shared,
    dq: Option<Shared>,
    dk: Option<Shared>,
    dv: Option<Shared>,
}

impl Backward {
    /// A unit is a head of keys of an example, with all its heads of queries, or a group of small heads.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        let heads = &self.heads;
        if let Some(small) = heads.side_by_side() {
            return Pieces::new(small.groups(), 1, heads.queries * heads.cost() * LANES / 2, sharing);
        }
        let queries = heads.queries * heads.heads / heads.key_heads;
        Pieces::new(heads.batch * heads.key_heads, 1, 3 * queries * heads.cost(), sharing)
    }

    fn parts(&self) -> [usize; 12] {
        let Shape { keys, depth, queries, options, .. } = self.heads;
        let (rows, packed) = (queries.min(CHUNK), Packed::len(depth, keys));
        let block = Packed::len(rows, depth);
        let bent = if options.soft_cap == 0 { 0 } else { ROWS * self.heads.width() };
        let own = if self.heads.heads == self.heads.key_heads { 0 } else { keys * depth };
        let (keys_packed, scores) = (Packed::len(keys, depth), rows * self.heads.width());
        [STRIP, packed, packed, keys_packed, scores, scores, ROWS, block, block, bent, own, own]
    }

    /// Elements of scratch that a worker needs.
    pub(super) fn scratch(&self) -> usize {
        if let Some(small) = self.heads.side_by_side() {
            return small.backward_scratch();
        }
        self.parts().iter().map(|len| len.next_multiple_of(16)).sum()
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, scratch: Shared, units: Range<usize>) {
        let heads = self.heads;
        if let Some(small) = heads.side_by_side() {
            let inputs = self.inputs.map(|place| context.at(place));
            let gradients = self.gradients.map(|place| place.map(|place| context.at(place)));
            // SAFETY: owed by the caller; groups have disjoint heads, and `scratch` counted the room.
            return unsafe { small.backward(context.level, scratch, units, inputs, gradients) };
        }
        let Shape { keys, depth, queries, .. } = heads;
        let (group, level) = (heads.heads / heads.key_heads, context.level);
        for unit in units {
            let mut room = Room(scratch);
            let parts = self.parts();
            let [strip, kt, vt, k, p, ds, scales, packed_q, packed_dy, bent, own_k, own_v] =
                parts.map(|len| room.take(len));
            // SAFETY: a head's part of each tensor; the room was counted in `scratch`.
            unsafe {
                let at = |place, unit: usize, rows: usize| Shared::new(context.at(place).at(unit * rows * depth));
                let [q_place, k_place, v_place, y_place, dy_place] = self.inputs;
                let (k_rows, v_rows) = (at(k_place, unit, keys), at(v_place, unit, keys));
                let [dq, dk, dv] = self.gradients;
                let [dk, dv] = [dk, dv].map(|place| place.map(|place| at(place, unit, keys)));
                let mut shared = Head {
                    context,
                    heads,
                    strip,
                    q: strip,
                    y: strip,
                    dy: strip,
                    kt: Packed::new(level, Matrix::new(k_rows, depth, true), depth, keys, kt),
                    vt: Packed::new(level, Matrix::new(v_rows, depth, true), depth, keys, vt),
                    k: Packed::new(level, Matrix::new(k_rows, depth, false), keys, depth, k),
                    p,
                    ds,
                    scales,
                    bent: (heads.options.soft_cap != 0).then_some(bent),
                    packed_q,
                    packed_dy,
                    dq: None,
                    dk: None,
                    dv: None,
                };
                for head in unit * group..(unit + 1) * group {
                    // The first head's gradients are the start of the sum; each later one is complete, then added.
                    let first = head == unit * group;
                    let total = |sum: Option<Shared>, own| sum.map(|sum| if first { sum } else { own });
                    [shared.q, shared.y, shared.dy] =
                        [q_place, y_place, dy_place].map(|place| at(place, head, queries));
                    shared.dq = dq.map(|place| at(place, head, queries));
                    (shared.dk, shared.dv) = (total(dk, own_k), total(dv, own_v));
                    for total in [shared.dk, shared.dv].into_iter().flatten() {
                        total.write(0, keys * depth).fill(0.0);
                    }
                    for first in (0..queries).step_by(CHUNK) {
                        shared.chunk(first);
                    }
                    for (total, sum) in [(shared.dk, dk), (shared.dv, dv)] {
                        if let (Some(total), Some(sum)) = (total, sum) {
                            let sum = (!first).then(|| sum.write(0, keys * depth));
                            level.run(Complete { total: total.write(0, keys * depth), sum });
                        }
                    }
                }
            }
        }
    }
}

/// Ends a head's total with `canon`, and adds it to the sum of the heads before.
struct Complete<'a> {
    total: &'a mut [f32],
    sum: Option<&'a mut [f32]>,
}

impl Kernel for Complete<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.sum {
            None => {
                for x in self.total.iter_mut() {
                    *x = canon(*x);
                }
            }
            Some(sum) => {
                for (sum, x) in sum.iter_mut().zip(self.total) {
                    *sum = canon(*sum + canon(*x));
                }
            }
        }
    }
}

impl Head<'_, '_> {
    /// A chunk of queries.
    unsafe fn chunk(&self, first: usize) {
        let (rows, depth) = (CHUNK.min(self.heads.queries - first), self.heads.depth);
        let level = self.context.level;
        // SAFETY: owed by the caller: these rows lie in the head.
        unsafe {
            for sub in (0..rows).step_by(ROWS) {
                self.rows(first + sub, ROWS.min(rows - sub), sub);
            }
            if let Some(dk) = self.dk {
                let q = Matrix::new(Shared::new(self.q.at(first * depth)), depth, false);
                let q = Packed::new(level, q, rows, depth, self.packed_q);
                self.strips(first, rows, self.ds, q, dk);
            }
            if let Some(dv) = self.dv {
                let dy = Matrix::new(Shared::new(self.dy.at(first * depth)), depth, false);
                let dy = Packed::new(level, dy, rows, depth, self.packed_dy);
                self.strips(first, rows, self.p, dy, dv);
            }
        }
    }

    /// Probabilities and their gradients of a block of queries, at row `at` of the chunk; and the queries' gradients.
    unsafe fn rows(&self, first: usize, rows: usize, at: usize) {
        let (width, depth) = (self.heads.width(), self.heads.depth);
        // SAFETY: owed by the caller: these rows lie in the head and in the chunk.
        unsafe {
            let scores = Shared::new(self.p.at(at * width));
            let block = Block { heads: self.heads, first, rows, scores };
            block.scores(self.context, self.strip, self.q, self.kt);
            let seen = block.keys();
            wide::run(self.context.level, Softmax { block, scales: self.scales, probabilities: true, bent: self.bent });
            if self.dq.is_none() && self.dk.is_none() {
                return;
            }
            let ds = Shared::new(self.ds.at(at * width));
            Block { scores: ds, ..block }.scores(self.context, self.strip, self.dy, self.vt);
            let [y, dy] = [self.y, self.dy].map(|it| Shared::new(it.at(first * depth)));
            wide::run(self.context.level, ScoreGradients { block, ds, y, dy, bent: self.bent });
            if let Some(dq) = self.dq {
                Product {
                    m: rows,
                    n: depth,
                    k: seen.len(),
                    a: Matrix::new(Shared::new(ds.at(seen.start)), width, false),
                    b: Right::Packed(self.k.from(seen.start, 0)),
                    c: Shared::new(dq.at(first * depth)),
                    c_row: depth,
                    continues: false,
                    ends: true,
                }
                .compute(self.context.level, self.strip);
            }
        }
    }

    /// total [keys, depth] += weights [rows, keys]ᵀ · right [rows, depth], by strips of keys: rows that see none of a
    /// strip are left out.
    unsafe fn strips(&self, first: usize, rows: usize, weights: Shared, right: Packed, total: Shared) {
        let (keys, depth, stride) = (self.heads.keys, self.heads.depth, self.heads.width());
        let causal = self.heads.visible(0).end < keys;
        let seen = self.heads.block(first..first + rows);
        let mut key = seen.start;
        while key < seen.end {
            // A strip crosses no end of a chunk, nor the block of queries that it starts with.
            let boundary = if key < first || !causal { (key / CHUNK + 1) * CHUNK } else { first + rows };
            let width = ROWS.min(boundary - key).min(seen.end - key);
            let from = if causal { key.saturating_sub(first) } else { 0 };
            let sees = |sub: &usize| self.heads.block(first + sub..first + sub + 1).start <= key;
            let to = (from / ROWS * ROWS..rows)
                .step_by(ROWS)
                .take_while(sees)
                .last()
                .map_or(from, |sub| rows.min(sub + ROWS));
            // SAFETY: owed by the caller: keys, rows and depth lie in their matrices.
            unsafe {
                Product {
                    m: width,
                    n: depth,
                    k: to - from,
                    a: Matrix::new(Shared::new(weights.at(from * stride + key)), stride, true),
                    b: Right::Packed(right.from(from, 0)),
                    c: Shared::new(total.at(key * depth)),
                    c_row: depth,
                    continues: true,
                    ends: false,
                }
                .compute(self.context.level, self.strip);
            }
            key += width;
        }
    }
}

/// Row sum of y · dy.
#[inline(always)]
fn dot<W: Wide>(y: &[f32], dy: &[f32]) -> f32 {
    canon(sum!(W, [dy in dy, y in y] => dy.mul(y).canon()))
}

/// Gradients of probabilities to gradients of products q · k.
struct ScoreGradients {
    /// The block, whose scores are the probabilities.
    block: Block,
    ds: Shared,
    y: Shared,
    dy: Shared,
    bent: Option<Shared>,
}

impl WideKernel for ScoreGradients {
    #[inline(always)]
    fn run<W: Wide>(self) {
        let Self { block, ds, y, dy, bent } = self;
        let (depth, width) = (block.heads.depth, block.heads.width());
        let options = block.heads.options;
        let (scale, one) = (W::splat(from_foreign(f32::from_bits(options.scale))), W::splat(1.0));
        for row in 0..block.rows {
            let visible = block.heads.visible(block.first + row);
            // SAFETY: the rows were computed for these keys; the worker's scratch is nobody else's.
            unsafe {
                let (y, dy) = (y.read(row * depth, depth), dy.read(row * depth, depth));
                let dot = W::splat(dot::<W>(y, dy));
                block.clear(ds, row, &visible);
                // Masked keys of a group have the probability +0, and so this gradient.
                let p = groups(block.scores, width, row, &visible);
                let bent = bent.map(|bent| groups(bent, width, row, &visible));
                for (i, (ds, p)) in groups(ds, width, row, &visible).iter_mut().zip(p).enumerate() {
                    let mut x = W::load(ds.as_ptr()).sub(dot).canon();
                    x = W::load(p.as_ptr()).mul(x).canon();
                    if let Some(bent) = bent.as_ref().and_then(|bent| bent.get(i)) {
                        let bent = W::load(bent.as_ptr());
                        x = x.mul(one.sub(bent.mul(bent).canon()).canon()).canon();
                    }
                    x.mul(scale).canon().store(ds.as_mut_ptr());
                }
            }
        }
    }
}
