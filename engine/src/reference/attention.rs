//! Scaled dot-product attention and its gradient, one query row at a time.
//!
//! Masked keys are left out by index; in sums over keys or queries they keep their place with the value +0.

use std::ops::Range;

use super::Here;
use super::contract::{contract, operand, transposed};
use super::elementwise::{binary, maximum};
use super::reduce::row_sum;
use crate::graph::{Attention, AttentionInput, Binary};
use crate::math;
use crate::number::{canon, from_foreign, round12};

fn sub(a: f32, b: f32) -> f32 {
    binary(Binary::Sub, a, b)
}

fn mul(a: f32, b: f32) -> f32 {
    binary(Binary::Mul, a, b)
}

/// The keys that query `i` of `keys` sees.
pub fn visible(options: &Attention, i: usize, keys: usize) -> Range<usize> {
    match (options.causal, options.window as usize) {
        (false, 0) => 0..keys,
        (true, 0) => 0..i + 1,
        (_, window) => (i + 1).saturating_sub(window)..i + 1,
    }
}

/// A score from its contraction: times scale, then c·tanh(s/c) under a soft cap. With the tanh, 0 without a cap.
#[inline(always)]
pub fn score(options: &Attention, product: f32) -> (f32, f32) {
    let s = mul(product, from_foreign(f32::from_bits(options.scale)));
    if options.soft_cap == 0 {
        return (s, 0.0);
    }
    let cap = from_foreign(f32::from_bits(options.soft_cap));
    let bent = math::tanh(math::div(s, cap));
    (mul(cap, bent), bent)
}

/// Gradient of a score's contraction: ((p·(dp - d)) · (1 - tanh²)) · scale; the middle factor only under a soft cap.
#[inline(always)]
pub fn score_grad(options: &Attention, [p, dp, d]: [f32; 3], bent: f32) -> f32 {
    let ds = mul(p, sub(dp, d));
    let ds = if options.soft_cap == 0 { ds } else { mul(ds, sub(1.0, mul(bent, bent))) };
    mul(ds, from_foreign(f32::from_bits(options.scale)))
}

/// What one query's scores lead to; vectors have one element for each key, masked ones +0.
struct Scores {
    /// e^(s - max).
    e: Vec<f32>,
    /// tanh of the capped score.
    bent: Vec<f32>,
    /// 1 / sum of e.
    recip: f32,
}

/// `q` is one query, `k` the keys of its head, both rounded.
fn scores(options: &Attention, q: &[f32], k: &[f32], i: usize) -> Scores {
    let keys = k.len() / q.len();
    let seen = visible(options, i, keys);
    let mut s = vec![0.0; keys];
    let mut bent = vec![0.0; keys];
    for j in seen.clone() {
        (s[j], bent[j]) = score(options, contract(q, &k[j * q.len()..][..q.len()]));
    }
    let m = s[seen.clone()].iter().copied().reduce(maximum).unwrap_or(0.0);
    let mut e = vec![0.0; keys];
    for j in seen {
        e[j] = math::exp(sub(s[j], m));
    }
    let recip = math::recip(row_sum(&e));
    Scores { e, bent, recip }
}

/// Lengths of q [batch, heads, queries, width] and k, v [batch, key_heads, keys, width].
#[derive(Clone, Copy)]
struct Lengths {
    heads: usize,
    key_heads: usize,
    queries: usize,
    keys: usize,
    width: usize,
}

impl Lengths {
    /// For each batch and head, in order: the place of its block in q and in k.
    fn heads(self, count: usize) -> impl Iterator<Item = (usize, usize)> {
        let group = self.heads / self.key_heads;
        (0..count / (self.queries * self.width))
            .map(move |head| (head, head / self.heads * self.key_heads + head % self.heads / group))
    }

    fn query_block(self, x: &[f32], head: usize) -> &[f32] {
        let n = self.queries * self.width;
        &x[head * n..][..n]
    }

    fn key_block(self, x: &[f32], head: usize) -> &[f32] {
        let n = self.keys * self.width;
        &x[head * n..][..n]
    }
}

/// For one head, P and dS [queries, keys], both rounded: what the three gradients contract.
struct HeadGrads {
    p: Vec<f32>,
    ds: Vec<f32>,
}

fn head_grads(options: &Attention, [q, k, v, y, dy]: [&[f32]; 5], width: usize) -> HeadGrads {
    let (q, k, v, dy_rounded) = (operand(q), operand(k), operand(v), operand(dy));
    let (mut p, mut ds) = (vec![], vec![]);
    for (i, query) in q.chunks(width).enumerate() {
        let row = scores(options, query, &k, i);
        let at = i * width..(i + 1) * width;
        let products: Vec<f32> = dy[at.clone()].iter().zip(&y[at.clone()]).map(|(&dy, &y)| mul(dy, y)).collect();
        let d = row_sum(&products);
        let seen = visible(options, i, row.e.len());
        for j in 0..row.e.len() {
            if !seen.contains(&j) {
                p.push(0.0);
                ds.push(0.0);
                continue;
            }
            let share = mul(row.e[j], row.recip);
            let dp = contract(&dy_rounded[at.clone()], &v[j * width..][..width]);
            p.push(round12(share));
            ds.push(round12(score_grad(options, [share, dp, d], row.bent[j])));
        }
    }
    HeadGrads { p, ds }
}

/// Rows of `a` [m,k] contracted with columns of `b` [k,n], both rounded: [m,n].
fn rows_by_columns(a: &[f32], b: &[f32], k: usize) -> Vec<f32> {
    let columns = transposed(b, b.len() / k);
    a.chunks(k).flat_map(|row| columns.chunks(k).map(|column| contract(row, column))).collect()
}

impl Here<'_> {
    fn lengths(&self) -> Lengths {
        let [q, k] = [self.dims(0), self.dims(1)];
        let [heads, queries, width] = [1, 2, 3].map(|axis| q[axis] as usize);
        Lengths { heads, key_heads: k[1] as usize, queries, keys: k[2] as usize, width }
    }

    pub(super) fn attention(&self, options: &Attention) -> Vec<f32> {
        let lengths = self.lengths();
        let [q, k, v] = [0, 1, 2].map(|i| operand(self.floats(i)));
        let mut out = Vec::with_capacity(q.len());
        for (head, key_head) in lengths.heads(q.len()) {
            let keys = lengths.key_block(&k, key_head);
            let channels = transposed(lengths.key_block(&v, key_head), lengths.width);
            for (i, query) in lengths.query_block(&q, head).chunks(lengths.width).enumerate() {
                let Scores { e, recip, .. } = scores(options, query, keys, i);
                let e = operand(&e);
                out.extend(channels.chunks(lengths.keys).map(|channel| mul(contract(&e, channel), recip)));
            }
        }
        out
    }

    pub(super) fn attention_grad(&self, options: &Attention, of: AttentionInput) -> Vec<f32> {
        let lengths = self.lengths();
        let [q, k, v, y, dy] = [0, 1, 2, 3, 4].map(|i| self.floats(i));
        let mut out: Vec<f32> = vec![];
        let mut last_key_head = None;
        for (head, key_head) in lengths.heads(q.len()) {
            let [q, y, dy] = [q, y, dy].map(|x| lengths.query_block(x, head));
            let [k, v] = [k, v].map(|x| lengths.key_block(x, key_head));
            let HeadGrads { p, ds } = head_grads(options, [q, k, v, y, dy], lengths.width);
            let gradient = match of {
                AttentionInput::Q => rows_by_columns(&ds, &operand(k), lengths.keys),
                AttentionInput::K => rows_by_columns(&transposed(&ds, lengths.keys), &operand(q), lengths.queries),
                AttentionInput::V => rows_by_columns(&transposed(&p, lengths.keys), &operand(dy), lengths.queries),
            };
            // Query heads that share a key head follow one another: each is complete, then added to those before it.
            if of != AttentionInput::Q && last_key_head == Some(key_head) {
                let first = out.len() - gradient.len();
                for (sum, x) in out[first..].iter_mut().zip(gradient) {
                    *sum = canon(*sum + x);
                }
            } else {
                out.extend(gradient);
            }
            last_key_head = Some(key_head);
        }
        out
    }
}
