//! Sums and maxima over axes.
//!
//! The order of a sum depends on logical axes alone: the row rule where the last axis is among the reduced ones, the
//! column rule otherwise. Partial sums of canonical numbers are multiples of 2^-123, so none is subnormal; only the
//! result passes `canon`.

use super::elementwise::maximum;
use super::index::around;
use super::shape::{strides, walk};
use crate::number::canon;

/// Elements of a block of the row rule.
pub const ROW_BLOCK: usize = 4096;
/// Lanes of a block.
pub const LANES: usize = 16;
/// Elements of a chunk of the column rule, and of a contraction.
pub const CHUNK: usize = 256;

/// The row rule: blocks of 4,096; in a block 16 strided lanes, then a tree; block sums by the same rule.
pub fn row_sum(values: &[f32]) -> f32 {
    canon(row_partial(values))
}

fn row_partial(values: &[f32]) -> f32 {
    if values.len() <= ROW_BLOCK {
        return block_sum(values);
    }
    let sums: Vec<f32> = values.chunks(ROW_BLOCK).map(block_sum).collect();
    row_partial(&sums)
}

/// At most 4,096 values: lane l sums values l, l+16, l+32, … from +0; then lane i += lane i+8, i+4, i+2, i+1.
pub fn block_sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    for row in values.chunks(LANES) {
        for (lane, &x) in lanes.iter_mut().zip(row) {
            *lane += x;
        }
    }
    lane_tree(lanes)
}

/// The sum of 16 lanes.
#[inline(always)]
pub fn lane_tree(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

/// The column rule: chunks of 256 from +0 in order, chunk sums added in order to a total that starts at +0.
pub fn column_sum(values: &[f32]) -> f32 {
    let mut total = 0.0;
    for chunk in values.chunks(CHUNK) {
        let mut sum = 0.0;
        for &x in chunk {
            sum += x;
        }
        total += sum;
    }
    canon(total)
}

/// The largest of at least one value; exact, so its order is free.
pub fn row_max(values: &[f32]) -> f32 {
    values.iter().copied().reduce(maximum).unwrap_or(0.0)
}

/// Applies `rule` to the elements that each element of the result is reduced from, in row-major order of the reduced
/// axes.
fn reduce(x: &[f32], dims: &[u32], axes: &[u8], rule: impl Fn(&[f32]) -> f32) -> Vec<f32> {
    let own = strides(dims);
    let part = |reduced: bool| -> Vec<usize> {
        let axes = (0..dims.len()).filter(|&axis| axes.contains(&(axis as u8)) == reduced);
        let (dims, strides): (Vec<u32>, Vec<usize>) = axes.map(|axis| (dims[axis], own[axis])).unzip();
        walk(&dims, &strides)
    };
    let (kept, reduced) = (part(false), part(true));
    kept.iter()
        .map(|first| {
            let values: Vec<f32> = reduced.iter().map(|offset| x[first + offset]).collect();
            rule(&values)
        })
        .collect()
}

pub(super) fn sum(x: &[f32], dims: &[u32], axes: &[u8]) -> Vec<f32> {
    let last = axes.iter().any(|&axis| usize::from(axis) + 1 == dims.len());
    reduce(x, dims, axes, if last { row_sum } else { column_sum })
}

pub(super) fn max(x: &[f32], dims: &[u32], axes: &[u8]) -> Vec<f32> {
    reduce(x, dims, axes, row_max)
}

/// Running sums of one line: in blocks of 256, each from +0 in order; the result is the sum of the blocks before, added
/// in order to a carry that starts at +0, plus the block's sum so far. The last result is the column rule's sum.
pub fn running_sums(values: &[f32]) -> Vec<f32> {
    let mut carry = 0.0;
    let mut out = Vec::with_capacity(values.len());
    for block in values.chunks(CHUNK) {
        let mut sum = 0.0;
        for &x in block {
            sum += x;
            out.push(canon(carry + sum));
        }
        carry += sum;
    }
    out
}

/// Running sums along an axis, from its end if `reverse`.
pub(super) fn cumsum(x: &[f32], dims: &[u32], axis: usize, reverse: bool) -> Vec<f32> {
    let [outer, n, inner] = around(dims, axis);
    let mut out = vec![0.0; x.len()];
    for line in 0..outer * inner {
        let first = line / inner * n * inner + line % inner;
        let mut places: Vec<usize> = (0..n).map(|i| first + i * inner).collect();
        if reverse {
            places.reverse();
        }
        let values: Vec<f32> = places.iter().map(|&at| x[at]).collect();
        for (at, sum) in places.into_iter().zip(running_sums(&values)) {
            out[at] = sum;
        }
    }
    out
}

/// Index of the first maximum of each row of length `n`.
pub(super) fn argmax(x: &[f32], n: usize) -> Vec<i32> {
    let first = |row: &[f32]| {
        let mut best = 0;
        for (i, &x) in row.iter().enumerate() {
            if x > row[best] {
                best = i;
            }
        }
        best as i32
    };
    x.chunks(n).map(first).collect()
}
