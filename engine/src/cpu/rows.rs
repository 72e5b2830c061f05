//! Composite operations along the last axis, in the steps of their definitions.
//!
//! *Invariant:* every primitive step ends in `canon`, sums follow the row rule.

use std::ops::Range;

use crate::graph::{RowOp, Unary};
use crate::number::{canon, from_foreign, inverse_count};
use crate::reference::unary;

use super::isa::Kernel;
use super::lanes::{lanes, update};
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
        for (from, &place) in from.iter_mut().zip(&self.from) {
            *from = context.at(place);
        }
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
        for i in self.rows.clone() {
            // SAFETY: `Rows::run` was promised the tensors; a row of the result is its piece's own.
            unsafe { self.row(i) };
        }
    }
}

impl Run<'_> {
    #[inline(always)]
    unsafe fn row(&self, i: usize) {
        let n = self.work.width;
        let [a, b, c] = self.from;
        // SAFETY: owed by the caller.
        let (x, out) = unsafe { (a.read(i * n, n), |len: usize| self.to.write(i * len, len)) };
        // SAFETY: those operations that call these have such operands.
        let (y, id) = unsafe { (|| b.read(i * n, n), || named(b.read_int(i, 1)[0], n)) };
        match &self.work.kind {
            Kind::Row(RowOp::Softmax) => softmax(out(n), x),
            Kind::Row(RowOp::SoftmaxGrad) => softmax_grad(out(n), x, y()),
            Kind::Row(RowOp::LogSoftmax) => log_softmax(out(n), x),
            Kind::Row(RowOp::LogSoftmaxGrad) => log_softmax_grad(out(n), x, y()),
            Kind::Row(RowOp::RmsNorm(eps)) => rms_norm(out(n), x, *eps),
            Kind::Row(RowOp::RmsNormGrad(eps)) => rms_norm_grad(out(n), x, y(), *eps),
            Kind::Row(RowOp::LayerNorm(eps)) => layer_norm(out(n), x, *eps),
            Kind::Row(RowOp::LayerNormGrad(eps)) => layer_norm_grad(out(n), x, y(), *eps),
            Kind::Row(RowOp::CrossEntropy) => out(1)[0] = cross_entropy(x, id()),
            Kind::Row(RowOp::CrossEntropyGrad) => {
                // SAFETY: the third operand has a weight for each row.
                cross_entropy_grad(out(n), x, id(), unsafe { c.read(i, 1)[0] });
            }
            Kind::Rope { positions, inverse, cosines, sines } => {
                let (at, half) = (i % positions * (n / 2), n / 2);
                turn(out(n), x, &cosines[at..at + half], &sines[at..at + half], *inverse);
            }
        }
    }
}

/// The class that an id names, if it is one of `n`.
#[inline(always)]
fn named(id: i32, n: usize) -> Option<usize> {
    usize::try_from(id).ok().filter(|&id| id < n)
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
    lanes!(to, [x in x] => unary(Unary::Exp, canon(x - max)));
}

#[inline(always)]
fn softmax(to: &mut [f32], x: &[f32]) {
    exponentials(to, x, row_max(x));
    let scale = unary(Unary::Recip, canon(row_sum(to)));
    update!(to, [y] => canon(y * scale));
}

#[inline(always)]
fn softmax_grad(to: &mut [f32], y: &[f32], dy: &[f32]) {
    let sum = canon(row_sum_of(dy, y, |dy, y| canon(dy * y)));
    lanes!(to, [y in y, dy in dy] => canon(y * canon(dy - sum)));
}

#[inline(always)]
fn log_softmax(to: &mut [f32], x: &[f32]) {
    let max = row_max(x);
    let log = unary(Unary::Log, exp_sum(x, max));
    lanes!(to, [x in x] => canon(canon(x - max) - log));
}

#[inline(always)]
fn log_softmax_grad(to: &mut [f32], y: &[f32], dy: &[f32]) {
    let sum = canon(row_sum(dy));
    lanes!(to, [y in y, dy in dy] => canon(dy - canon(unary(Unary::Exp, y) * sum)));
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
    lanes!(to, [x in x] => canon(x * scale));
}

#[inline(always)]
fn rms_norm_grad(to: &mut [f32], x: &[f32], dy: &[f32], eps: u32) {
    let scale = rms_scale(x, eps);
    let mean = canon(canon(row_sum_of(x, dy, |x, dy| canon(dy * canon(x * scale)))) * inverse(x));
    lanes!(to, [x in x, dy in dy] => canon(scale * canon(dy - canon(canon(x * scale) * mean))));
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
    lanes!(to, [x in x] => canon(canon(x - mean) * scale));
}

#[inline(always)]
fn layer_norm_grad(to: &mut [f32], x: &[f32], dy: &[f32], eps: u32) {
    let (mean, scale) = moments(x, eps);
    let dy_mean = canon(canon(row_sum(dy)) * inverse(x));
    let product = row_sum_of(x, dy, |x, dy| canon(dy * canon(canon(x - mean) * scale)));
    let product_mean = canon(canon(product) * inverse(x));
    lanes!(to, [x in x, dy in dy] => {
        let y = canon(canon(x - mean) * scale);
        canon(scale * canon(canon(dy - dy_mean) - canon(y * product_mean)))
    });
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
    update!(to, [y] => canon(y * scale));
    to[id] = canon(to[id] - 1.0);
    update!(to, [y] => canon(y * g));
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
