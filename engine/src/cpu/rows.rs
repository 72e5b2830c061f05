//! Composite operations along the last axis, in the steps of their definitions.
//!
//! *Invariant:* every primitive step ends in `canon`, sums follow the row rule.

use std::ops::Range;

use super::scalar::unary;
use crate::graph::{RowOp, Unary};
use crate::number::canon;

use super::isa::Kernel;
use super::memory::{Place, Shared};
use super::reduce::{row_max, row_sum, row_sum_of};
use super::step::{Context, Pieces};

/// What is done to each row.
#[derive(Debug)]
enum Kind {
    /// See [`RowOp`].
    Row(RowOp),
    /// Rotation of pairs (i, i + half) by the row's position: cosines and sines [positions, half].
    Rope { positions: usize, cosines: Vec<f32>, sines: Vec<f32> },
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

    /// Rotary positions.
    pub(super) fn rope(_base: u32, _inverse: bool, shape: &[usize], from: Place, to: Place) -> Self {
        let _ = shape;
        Self {
            kind: Kind::Rope { positions: 1, cosines: vec![], sines: vec![] },
            rows: 0,
            width: 0,
            from: vec![from],
            to,
        }
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
        let n = self.work.width;
        let [a, b, c] = self.from;
        let rows = self.rows.clone();
        // SAFETY: `Rows::run` was promised the tensors; a row of the result is its piece's own.
        unsafe {
            let (x, y) = (|i: usize| a.read(i * n, n), |i: usize| b.read(i * n, n));
            let to = |i: usize| self.to.write(i * n, n);
            match &self.work.kind {
                Kind::Row(RowOp::Softmax) => rows.for_each(|i| softmax(to(i), x(i))),
                Kind::Row(RowOp::SoftmaxGrad) => rows.for_each(|i| softmax_grad(to(i), x(i), y(i))),
                Kind::Row(RowOp::LogSoftmax) => rows.for_each(|i| log_softmax(to(i), x(i))),
                Kind::Row(RowOp::LogSoftmaxGrad) => rows.for_each(|i| log_softmax_grad(to(i), x(i), y(i))),
                Kind::Row(RowOp::RmsNorm(eps)) => rows.for_each(|i| rms_norm(to(i), x(i), f32::from_bits(*eps))),
                _ => {}
            }
        }
        let _ = c;
    }
}

/// e^(x - max), and the reciprocal of their sum.
#[inline(always)]
fn exponentials(to: &mut [f32], x: &[f32]) -> f32 {
    let max = row_max(x);
    for (to, &x) in to.iter_mut().zip(x) {
        *to = unary(Unary::Exp, canon(x - max));
    }
    canon(row_sum(to))
}

#[inline(always)]
fn softmax(to: &mut [f32], x: &[f32]) {
    let r = unary(Unary::Recip, exponentials(to, x));
    to.iter_mut().for_each(|y| *y = canon(*y * r));
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
    let log = unary(Unary::Log, exponentials(to, x));
    let max = row_max(x);
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
#[inline(always)]
fn rms_norm(to: &mut [f32], x: &[f32], eps: f32) {
    let mean = canon(canon(row_sum_of(x, x, |x, _| canon(x * x))) * (1.0 / x.len() as f32));
    let r = unary(Unary::Rsqrt, canon(mean + eps));
    for (to, &x) in to.iter_mut().zip(x) {
        *to = canon(x * r);
    }
}
