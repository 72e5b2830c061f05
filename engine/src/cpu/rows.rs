//! Composite operations along the last axis, in the steps of their definitions.
//!
//! *Invariant:* every primitive step ends in `canon`, sums follow the row rule.

use std::ops::Range;

use crate::graph::{RowOp, Unary};
use crate::number::{canon, from_foreign, inverse_count};
use crate::reference::unary;

use super::isa::Kernel;
use super::memory::{Place, Shared};
use super::reduce::{RowSum, row_max, row_sum, row_sum_of};
use super::step::{Context, Pieces};

/// What is done to each row.
#[derive(Debug)]
enum Kind {
    /// See [`RowOp`].
    Row(RowOp),
    /// Rotation of pairs (i, i + half) by the row's position, or back: cosines and sines [positions, half].
    Rope { positions: usize, inverse: bool, cosines: Vec<f32>, sines: Vec<f32> },
}

/// An operation on rows.
#[derive(Debug)]
pub(super) struct Rows {
    kind: Kind,
    rows: usize,
    width: usize,
    from: Vec<Place>,
    to: Place,
}

impl Rows {
    /// A composite operation with its operands.
    pub(super) fn new(op: RowOp, rows: usize, width: usize, from: Vec<Place>, to: Place) -> Self {
        Self { kind: Kind::Row(op), rows, width, from, to }
    }

    /// Rotary positions of x [.., T, D].
    pub(super) fn rope(base: u32, inverse: bool, shape: &[usize], from: Place, to: Place) -> Self {
        let (positions, width) = match shape {
            &[.., positions, width] => (positions, width),
            _ => unreachable!("rotary positions take two axes"),
        };
        let turns = (0..positions as u32).flat_map(|t| {
            (0..width as u32 / 2).map(move |i| crate::reference::rows::rotation(base, t, i, width as u32))
        });
        let (cosines, sines) = turns.map(|[cosine, sine]| (cosine, sine)).unzip();
        let rows = shape.iter().product::<usize>() / width;
        Self { kind: Kind::Rope { positions, inverse, cosines, sines }, rows, width, from: vec![from], to }
    }

    /// How rows are shared out.
    pub(super) fn pieces(&self, threads: usize) -> Pieces {
        let cost = match self.kind {
            Kind::Row(RowOp::RmsNorm(_) | RowOp::RmsNormGrad(_) | RowOp::LayerNorm(_) | RowOp::LayerNormGrad(_)) => 8,
            Kind::Row(RowOp::SoftmaxGrad) | Kind::Rope { .. } => 4,
            Kind::Row(_) => 24,
        };
        Pieces::new(self.rows, 1, self.width * cost + 32, threads)
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, rows: Range<usize>) {
        let mut from = [context.at(self.to); 3];
        from.iter_mut().zip(&self.from).for_each(|(from, &place)| *from = context.at(place));
        context.level.run(Run { work: self, from, to: context.at(self.to), rows });
    }
}

struct Run<'a> {
    work: &'a Rows,
    from: [Shared; 3],
    to: Shared,
    rows: Range<usize>,
}

impl Kernel for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { work, from: [a, b, c], to, rows } = self;
        let n = work.width;
        // SAFETY: `Rows::run` was promised the tensors; a row of the result is its piece's own.
        unsafe {
            let (x, y) = (|i: usize| a.read(i * n, n), |i: usize| b.read(i * n, n));
            let out = |i: usize| to.write(i * n, n);
            let id = |i: usize| usize::try_from(b.read_int(i, 1)[0]).ok().filter(|&id| id < n);
            let op = match &work.kind {
                Kind::Row(op) => *op,
                Kind::Rope { positions, inverse, cosines, sines } => {
                    let half = n / 2;
                    return rows.for_each(|i| {
                        let at = i % positions * half;
                        turn(out(i), x(i), &cosines[at..at + half], &sines[at..at + half], *inverse);
                    });
                }
            };
            match op {
                RowOp::Softmax => rows.for_each(|i| softmax(out(i), x(i))),
                RowOp::SoftmaxGrad => rows.for_each(|i| softmax_grad(out(i), x(i), y(i))),
                RowOp::LogSoftmax => rows.for_each(|i| log_softmax(out(i), x(i))),
                RowOp::LogSoftmaxGrad => rows.for_each(|i| log_softmax_grad(out(i), x(i), y(i))),
                RowOp::RmsNorm(eps) => rows.for_each(|i| rms_norm(out(i), x(i), eps)),
                RowOp::RmsNormGrad(eps) => rows.for_each(|i| rms_norm_grad(out(i), x(i), y(i), eps)),
                RowOp::LayerNorm(eps) => rows.for_each(|i| layer_norm(out(i), x(i), eps)),
                RowOp::LayerNormGrad(eps) => rows.for_each(|i| layer_norm_grad(out(i), x(i), y(i), eps)),
                RowOp::CrossEntropy => rows.for_each(|i| to.write(i, 1)[0] = cross_entropy(x(i), id(i))),
                RowOp::CrossEntropyGrad => {
                    rows.for_each(|i| cross_entropy_grad(out(i), x(i), id(i), c.read(i, 1)[0]));
                }
            }
        }
    }
}

/// Elements whose exponentials are held at once.
const PART: usize = 256;

/// Sum of e^(x - max) by the row rule.
#[inline(always)]
fn exp_sum(x: &[f32], max: f32) -> f32 {
    let mut sums = RowSum::default();
    let mut buffer = [0.0f32; PART];
    for part in x.chunks(PART) {
        let buffer = &mut buffer[..part.len()];
        exponentials(buffer, part, max);
        sums.add(buffer);
    }
    canon(sums.end())
}

/// e^(x - max).
#[inline(always)]
fn exponentials(to: &mut [f32], x: &[f32], max: f32) {
    for (to, &x) in to.iter_mut().zip(x) {
        *to = unary(Unary::Exp, canon(x - max));
    }
}

#[inline(always)]
fn softmax(to: &mut [f32], x: &[f32]) {
    exponentials(to, x, row_max(x));
    let scale = unary(Unary::Recip, canon(row_sum(to)));
    to.iter_mut().for_each(|y| *y = canon(*y * scale));
}

#[inline(always)]
fn softmax_grad(to: &mut [f32], y: &[f32], dy: &[f32]) {
    let sum = canon(row_sum_of(dy, y, |dy, y| canon(dy * y)));
    for ((to, &y), &dy) in to.iter_mut().zip(y).zip(dy) {
        *to = canon(y * canon(dy - sum));
    }
}

#[inline(always)]
fn log_softmax(to: &mut [f32], x: &[f32]) {
    let max = row_max(x);
    let log = unary(Unary::Log, exp_sum(x, max));
    for (to, &x) in to.iter_mut().zip(x) {
        *to = canon(canon(x - max) - log);
    }
}

#[inline(always)]
fn log_softmax_grad(to: &mut [f32], y: &[f32], dy: &[f32]) {
    let sum = canon(row_sum(dy));
    for ((to, &y), &dy) in to.iter_mut().zip(y).zip(dy) {
        *to = canon(dy - canon(unary(Unary::Exp, y) * sum));
    }
}

/// f32(1/n) of a row's length.
#[inline(always)]
fn inverse(row: &[f32]) -> f32 {
    inverse_count(row.len() as u64)
}

/// 1 / sqrt(mean of squares + eps).
#[inline(always)]
fn rms_scale(x: &[f32], eps: u32) -> f32 {
    let mean = canon(canon(row_sum_of(x, x, |x, _| canon(x * x))) * inverse(x));
    unary(Unary::Rsqrt, canon(mean + from_foreign(f32::from_bits(eps))))
}

#[inline(always)]
fn rms_norm(to: &mut [f32], x: &[f32], eps: u32) {
    let scale = rms_scale(x, eps);
    for (to, &x) in to.iter_mut().zip(x) {
        *to = canon(x * scale);
    }
}

#[inline(always)]
fn rms_norm_grad(to: &mut [f32], x: &[f32], dy: &[f32], eps: u32) {
    let scale = rms_scale(x, eps);
    let mean = canon(canon(row_sum_of(x, dy, |x, dy| canon(dy * canon(x * scale)))) * inverse(x));
    for ((to, &x), &dy) in to.iter_mut().zip(x).zip(dy) {
        *to = canon(scale * canon(dy - canon(canon(x * scale) * mean)));
    }
}

/// Mean, and 1 / sqrt(variance + eps).
#[inline(always)]
fn moments(x: &[f32], eps: u32) -> (f32, f32) {
    let mean = canon(canon(row_sum(x)) * inverse(x));
    let squares = row_sum_of(x, x, |x, _| {
        let centred = canon(x - mean);
        canon(centred * centred)
    });
    let variance = canon(canon(squares) * inverse(x));
    (mean, unary(Unary::Rsqrt, canon(variance + from_foreign(f32::from_bits(eps)))))
}

#[inline(always)]
fn layer_norm(to: &mut [f32], x: &[f32], eps: u32) {
    let (mean, scale) = moments(x, eps);
    for (to, &x) in to.iter_mut().zip(x) {
        *to = canon(canon(x - mean) * scale);
    }
}

#[inline(always)]
fn layer_norm_grad(to: &mut [f32], x: &[f32], dy: &[f32], eps: u32) {
    let (mean, scale) = moments(x, eps);
    let dy_mean = canon(canon(row_sum(dy)) * inverse(x));
    let product = row_sum_of(x, dy, |x, dy| canon(dy * canon(canon(x - mean) * scale)));
    let product_mean = canon(canon(product) * inverse(x));
    for ((to, &x), &dy) in to.iter_mut().zip(x).zip(dy) {
        let y = canon(canon(x - mean) * scale);
        *to = canon(scale * canon(canon(dy - dy_mean) - canon(y * product_mean)));
    }
}

#[inline(always)]
fn cross_entropy(x: &[f32], id: Option<usize>) -> f32 {
    let Some(id) = id else {
        return 0.0;
    };
    let max = row_max(x);
    canon(unary(Unary::Log, exp_sum(x, max)) - canon(x[id] - max))
}

#[inline(always)]
fn cross_entropy_grad(to: &mut [f32], x: &[f32], id: Option<usize>, g: f32) {
    let Some(id) = id else {
        return to.fill(0.0);
    };
    exponentials(to, x, row_max(x));
    let scale = unary(Unary::Recip, canon(row_sum(to)));
    for to in to.iter_mut() {
        *to = canon(*to * scale);
    }
    to[id] = canon(to[id] - 1.0);
    for to in to.iter_mut() {
        *to = canon(*to * g);
    }
}

#[inline(always)]
fn turn(to: &mut [f32], x: &[f32], cosines: &[f32], sines: &[f32], inverse: bool) {
    let half = cosines.len();
    let ((left, right), (a, b)) = (to.split_at_mut(half), x.split_at(half));
    for i in 0..half.min(a.len()).min(b.len()).min(sines.len()).min(left.len()).min(right.len()) {
        let (c, s) = (cosines[i], sines[i]);
        let [ac, as_, bc, bs] = [a[i] * c, a[i] * s, b[i] * c, b[i] * s].map(canon);
        if inverse {
            (left[i], right[i]) = (canon(ac + bs), canon(bc - as_));
        } else {
            (left[i], right[i]) = (canon(ac - bs), canon(bc + as_));
        }
    }
}
