//! Attention and its gradients, blocked so that no queries x keys matrix is ever stored.
//!
//! A head's keys and values are packed once; then blocks of query rows go through the same steps as the reference:
//! scores, mask, row maximum, exponentials, row sum, product with the values. The gradients recompute the
//! probabilities of up to 256 rows (a chunk of the contraction over queries) and add their products to the totals.
//! Elements that a mask makes zero are skipped where that skips whole tiles; the others keep their index.
//!
//! *Invariant:* every contraction runs in the order of its whole index, whatever is skipped.

use std::ops::Range;

use crate::graph::Attention;
use crate::number::canon;

use super::gemm::{CHUNK, Matrix, Packed, Product, Right, STRIP};
use super::isa::Kernel;
use super::memory::{Place, Shared};
use super::step::{Context, Pieces};

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

    /// Keys that a query may see.
    fn visible(&self, query: usize) -> Range<usize> {
        let Attention { causal, window, .. } = self.options;
        match window as usize {
            0 if causal => 0..query + 1,
            0 => 0..self.keys,
            window => (query + 1).saturating_sub(window)..query + 1,
        }
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
    /// A unit is a head of an example.
    pub(super) fn pieces(&self, threads: usize) -> Pieces {
        let heads = &self.heads;
        Pieces::new(heads.batch * heads.heads, 1, heads.queries * heads.cost(), threads)
    }

    /// Elements of scratch that a worker needs.
    pub(super) fn scratch(&self) -> usize {
        let Shape { keys, depth, .. } = self.heads;
        let parts = [STRIP, Packed::len(depth, keys), Packed::len(keys, depth), ROWS * keys, ROWS];
        parts.iter().map(|len| len.next_multiple_of(16)).sum()
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, scratch: Shared, units: Range<usize>) {
        let heads = &self.heads;
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
                let scores = room.take(ROWS * keys);
                let totals = room.take(ROWS);
                for first in (0..queries).step_by(ROWS) {
                    let block = Block { heads: *heads, first, rows: ROWS.min(queries - first), scores, width: keys };
                    block.scores(context, strip, q, kt);
                    context.level.run(Softmax { block, totals, normalised: false });
                    let seen = block.keys();
                    Product {
                        m: block.rows,
                        n: depth,
                        k: seen.len(),
                        a: Matrix::new(Shared::new(scores.at(seen.start)), keys, false),
                        b: Right::Packed(v.from(seen.start, 0)),
                        c: Shared::new(y.at(first * depth)),
                        c_row: depth,
                        continues: false,
                        ends: true,
                    }
                    .compute(context.level, strip);
                    context.level.run(Divide { block, totals, y: Shared::new(y.at(first * depth)) });
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
    /// Scores [rows, keys].
    scores: Shared,
    width: usize,
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
                c_row: self.width,
                continues: false,
                ends: true,
            }
            .compute(context.level, strip);
        }
    }
}

/// TODO
struct Softmax {
    block: Block,
    totals: Shared,
    normalised: bool,
}
impl Kernel for Softmax {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let _ = (self.block.first, self.totals, self.normalised, canon(0.0));
    }
}
struct Divide {
    block: Block,
    totals: Shared,
    y: Shared,
}
impl Kernel for Divide {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let _ = (self.block, self.totals, self.y);
    }
}
#[derive(Debug)]
pub(super) struct Backward {
    pub(super) heads: Shape,
    pub(super) inputs: [Place; 5],
    pub(super) gradients: [Option<Place>; 3],
}
impl Backward {
    pub(super) fn pieces(&self, threads: usize) -> Pieces {
        Pieces::new(1, 1, 1, threads)
    }
    pub(super) fn scratch(&self) -> usize {
        0
    }
    pub(super) unsafe fn run(&self, _context: &Context<'_>, _scratch: Shared, _units: Range<usize>) {}
}
