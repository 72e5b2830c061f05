//! Composite operations along the last axis, and rotary positions: each a list of primitive steps, `canon` after each.

use super::Here;
use super::elementwise::{binary, to_float, unary};
use super::reduce::{row_max, row_sum};
use crate::graph::{Binary, RowOp, Unary};
use crate::math;
use crate::number::{from_foreign, inverse_count};

fn add(a: f32, b: f32) -> f32 {
    binary(Binary::Add, a, b)
}

fn sub(a: f32, b: f32) -> f32 {
    binary(Binary::Sub, a, b)
}

fn mul(a: f32, b: f32) -> f32 {
    binary(Binary::Mul, a, b)
}

/// Elementwise product.
fn product(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(&a, &b)| mul(a, b)).collect()
}

/// Row sum times f32(1/n).
fn mean(x: &[f32]) -> f32 {
    mul(row_sum(x), inverse_count(x.len() as u64))
}

/// x - max, e^(x - max), and the row sum of the latter.
pub fn exponentials(x: &[f32]) -> (Vec<f32>, Vec<f32>, f32) {
    let m = row_max(x);
    let shifted: Vec<f32> = x.iter().map(|&x| sub(x, m)).collect();
    let e: Vec<f32> = shifted.iter().map(|&x| math::exp(x)).collect();
    let z = row_sum(&e);
    (shifted, e, z)
}

fn softmax(x: &[f32]) -> Vec<f32> {
    let (_, e, z) = exponentials(x);
    let r = math::recip(z);
    e.iter().map(|&e| mul(e, r)).collect()
}

fn softmax_grad(y: &[f32], dy: &[f32]) -> Vec<f32> {
    let s = row_sum(&product(dy, y));
    y.iter().zip(dy).map(|(&y, &dy)| mul(y, sub(dy, s))).collect()
}

fn log_softmax(x: &[f32]) -> Vec<f32> {
    let (shifted, _, z) = exponentials(x);
    let log_z = math::log(z);
    shifted.iter().map(|&x| sub(x, log_z)).collect()
}

fn log_softmax_grad(y: &[f32], dy: &[f32]) -> Vec<f32> {
    let s = row_sum(dy);
    y.iter().zip(dy).map(|(&y, &dy)| sub(dy, mul(math::exp(y), s))).collect()
}

/// x·r and r = rsqrt(mean(x·x) + eps).
fn rms_norm(x: &[f32], eps: u32) -> (Vec<f32>, f32) {
    let square = mean(&product(x, x));
    let r = math::rsqrt(add(square, from_foreign(f32::from_bits(eps))));
    (x.iter().map(|&x| mul(x, r)).collect(), r)
}

fn rms_norm_grad(x: &[f32], dy: &[f32], eps: u32) -> Vec<f32> {
    let (y, r) = rms_norm(x, eps);
    let s = mean(&product(dy, &y));
    y.iter().zip(dy).map(|(&y, &dy)| mul(r, sub(dy, mul(y, s)))).collect()
}

/// The mean is subtracted first, the variance is that of the differences: what `rms_norm` does to them.
fn layer_norm(x: &[f32], eps: u32) -> (Vec<f32>, f32) {
    let m = mean(x);
    let centred: Vec<f32> = x.iter().map(|&x| sub(x, m)).collect();
    rms_norm(&centred, eps)
}

fn layer_norm_grad(x: &[f32], dy: &[f32], eps: u32) -> Vec<f32> {
    let (y, r) = layer_norm(x, eps);
    let m = mean(dy);
    let s = mean(&product(dy, &y));
    y.iter().zip(dy).map(|(&y, &dy)| mul(r, sub(sub(dy, m), mul(y, s)))).collect()
}

/// The class of a row; -1, and any other id that is not one of the row's, is padding.
fn class(id: i32, n: usize) -> Option<usize> {
    usize::try_from(id).ok().filter(|&id| id < n)
}

fn cross_entropy(x: &[f32], id: i32) -> f32 {
    let Some(id) = class(id, x.len()) else { return 0.0 };
    let (shifted, _, z) = exponentials(x);
    sub(math::log(z), shifted[id])
}

fn cross_entropy_grad(x: &[f32], id: i32, g: f32) -> Vec<f32> {
    let Some(id) = class(id, x.len()) else { return vec![0.0; x.len()] };
    let mut y = softmax(x);
    y[id] = sub(y[id], 1.0);
    y.iter().map(|&y| mul(y, g)).collect()
}

impl Here<'_> {
    /// A gradient from the rows of operand 0 and of the gradient of the result.
    fn row_gradients(&self, rule: impl Fn(&[f32], &[f32]) -> Vec<f32>) -> Vec<f32> {
        let n = self.last(0);
        self.floats(0).chunks(n).zip(self.floats(1).chunks(n)).flat_map(|(x, dy)| rule(x, dy)).collect()
    }

    pub(super) fn row(&self, op: RowOp) -> Vec<f32> {
        let n = self.last(0);
        let rows = self.floats(0).chunks(n);
        match op {
            RowOp::Softmax => rows.flat_map(softmax).collect(),
            RowOp::SoftmaxGrad => self.row_gradients(softmax_grad),
            RowOp::LogSoftmax => rows.flat_map(log_softmax).collect(),
            RowOp::LogSoftmaxGrad => self.row_gradients(log_softmax_grad),
            RowOp::RmsNorm(eps) => rows.flat_map(|x| rms_norm(x, eps).0).collect(),
            RowOp::RmsNormGrad(eps) => self.row_gradients(|x, dy| rms_norm_grad(x, dy, eps)),
            RowOp::LayerNorm(eps) => rows.flat_map(|x| layer_norm(x, eps).0).collect(),
            RowOp::LayerNormGrad(eps) => self.row_gradients(|x, dy| layer_norm_grad(x, dy, eps)),
            RowOp::CrossEntropy => rows.zip(self.ints(1)).map(|(x, &id)| cross_entropy(x, id)).collect(),
            RowOp::CrossEntropyGrad => {
                let rows = rows.zip(self.ints(1)).zip(self.floats(2));
                rows.flat_map(|((x, &id), &g)| cross_entropy_grad(x, id, g)).collect()
            }
        }
    }
}

/// A length or position as a float; clamped as every integer is.
fn whole(n: u32) -> f32 {
    to_float(i32::try_from(n).unwrap_or(i32::MAX))
}

/// Cosine and sine of the angle by which the pair (i, i + d/2) at position t is turned: t · base^(-2i/d).
pub fn rotation(base: u32, t: u32, i: u32, d: u32) -> [f32; 2] {
    let log_base = math::log(from_foreign(f32::from_bits(base)));
    let share = math::div(whole(2 * i), whole(d));
    let frequency = math::exp(unary(Unary::Neg, mul(share, log_base)));
    let angle = mul(whole(t), frequency);
    [math::cos(angle), math::sin(angle)]
}

/// x [.., T, D] with each pair (i, i + D/2) turned by its position's angle, or back.
pub(super) fn rope(x: &[f32], dims: &[u32], base: u32, inverse: bool) -> Vec<f32> {
    let [positions, d] = [dims[dims.len() - 2], dims[dims.len() - 1]];
    let half = d as usize / 2;
    let turns: Vec<[f32; 2]> = (0..positions).flat_map(|t| (0..d / 2).map(move |i| rotation(base, t, i, d))).collect();
    let mut out = Vec::with_capacity(x.len());
    for (row, x) in x.chunks(d as usize).enumerate() {
        let turns = &turns[row % positions as usize * half..][..half];
        let (left, right) = x.split_at(half);
        let pairs = || turns.iter().zip(left.iter().zip(right)).map(|(&[c, s], (&a, &b))| (c, s, a, b));
        if inverse {
            out.extend(pairs().map(|(c, s, a, b)| add(mul(a, c), mul(b, s))));
            out.extend(pairs().map(|(c, s, a, b)| sub(mul(b, c), mul(a, s))));
        } else {
            out.extend(pairs().map(|(c, s, a, b)| sub(mul(a, c), mul(b, s))));
            out.extend(pairs().map(|(c, s, a, b)| add(mul(b, c), mul(a, s))));
        }
    }
    out
}
