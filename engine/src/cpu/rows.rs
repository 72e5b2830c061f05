//! Composite operations along the last axis, in the steps of their definitions.
//!
//! *Invariant:* every primitive step ends in `canon`, sums follow the row rule.

use std::ops::Range;

use crate::graph::{RowOp, Unary};
use crate::number::{canon, from_foreign, inverse_count};
use crate::reference::unary;

use super::isa::Kernel;
use super::lanes::{LANES, functions, lanes, update};
use super::memory::{Place, Shared};
use super::reduce::{exp_sum, row_max, row_sum, row_sum_of};
use super::step::{Context, Pieces, Sharing};

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
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        let cost = match self.kind {
            Kind::Row(RowOp::RmsNorm(_) | RowOp::RmsNormGrad(_) | RowOp::LayerNorm(_) | RowOp::LayerNormGrad(_)) => 8,
            Kind::Row(RowOp::SoftmaxGrad) | Kind::Rope { .. } => 4,
            Kind::Row(_) => 24,
        };
        Pieces::new(self.rows, 1, self.width * cost + 32, sharing)
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
        let function = self.work.function();
        for first in self.rows.clone().step_by(LANES) {
            let rows = first..self.rows.end.min(first + LANES);
            // Of as many rows as a register has lanes: a shift, and the argument of the function that each row takes of
            // one number. Computed side by side, the function costs what it costs one row.
            let (mut shifts, mut arguments) = ([0.0f32; LANES], [1.0f32; LANES]);
            // SAFETY: `Rows::run` was promised the tensors; a row of the result is its piece's own.
            unsafe {
                if function.is_some() {
                    for i in rows.clone() {
                        (shifts[i - first], arguments[i - first]) = self.gather(i);
                    }
                }
                match function {
                    Some(Unary::Recip) => functions!(&mut arguments, [z] => unary(Unary::Recip, z)),
                    Some(Unary::Log) => functions!(&mut arguments, [z] => unary(Unary::Log, z)),
                    Some(_) => functions!(&mut arguments, [z] => unary(Unary::Rsqrt, z)),
                    None => {}
                }
                for i in rows {
                    self.apply(i, shifts[i - first], arguments[i - first]);
                }
            }
        }
    }
}

impl Rows {
    /// The function of one number of each row.
    fn function(&self) -> Option<Unary> {
        match self.kind {
            Kind::Row(RowOp::Softmax | RowOp::CrossEntropyGrad) => Some(Unary::Recip),
            Kind::Row(RowOp::LogSoftmax | RowOp::CrossEntropy) => Some(Unary::Log),
            Kind::Row(RowOp::RmsNorm(_) | RowOp::RmsNormGrad(_) | RowOp::LayerNorm(_) | RowOp::LayerNormGrad(_)) => {
                Some(Unary::Rsqrt)
            }
            Kind::Row(RowOp::SoftmaxGrad | RowOp::LogSoftmaxGrad) | Kind::Rope { .. } => None,
        }
    }
}

impl Run<'_> {
    /// Row `i` of the first operand.
    #[inline(always)]
    unsafe fn x(&self, i: usize) -> &[f32] {
        // SAFETY: owed by the caller.
        unsafe { self.from[0].read(i * self.work.width, self.work.width) }
    }

    /// The class of row `i`, if its id names one.
    #[inline(always)]
    unsafe fn class(&self, i: usize) -> Option<usize> {
        // SAFETY: owed by the caller: the second operand has an id for each row.
        let id = unsafe { self.from[1].read_int(i, 1)[0] };
        usize::try_from(id).ok().filter(|&id| id < self.work.width)
    }

    /// What a row is shifted by (its maximum or its mean), and the argument of its function.
    #[inline(always)]
    unsafe fn gather(&self, i: usize) -> (f32, f32) {
        let n = self.work.width;
        // SAFETY: owed by the caller.
        unsafe {
            let x = self.x(i);
            match self.work.kind {
                Kind::Row(RowOp::Softmax) => exponentials(self.to.write(i * n, n), x),
                Kind::Row(RowOp::LogSoftmax) => log_argument(x),
                Kind::Row(RowOp::CrossEntropy | RowOp::CrossEntropyGrad) if self.class(i).is_none() => (0.0, 1.0),
                Kind::Row(RowOp::CrossEntropy) => log_argument(x),
                Kind::Row(RowOp::CrossEntropyGrad) => exponentials(self.to.write(i * n, n), x),
                Kind::Row(RowOp::RmsNorm(eps) | RowOp::RmsNormGrad(eps)) => (0.0, mean_square(x, 0.0, eps)),
                Kind::Row(RowOp::LayerNorm(eps) | RowOp::LayerNormGrad(eps)) => {
                    let mean = mean(x);
                    (mean, mean_square(x, mean, eps))
                }
                Kind::Row(RowOp::SoftmaxGrad | RowOp::LogSoftmaxGrad) | Kind::Rope { .. } => (0.0, 1.0),
            }
        }
    }

    /// The row's result, from its shift and from the function's value.
    #[inline(always)]
    unsafe fn apply(&self, i: usize, shift: f32, value: f32) {
        let n = self.work.width;
        let [_, b, c] = self.from;
        // SAFETY: owed by the caller; those operations that call `y` have such an operand.
        let (x, out, y) = unsafe { (self.x(i), |len: usize| self.to.write(i * len, len), || b.read(i * n, n)) };
        match &self.work.kind {
            Kind::Row(RowOp::Softmax) => update!(out(n), [e] => canon(e * value)),
            Kind::Row(RowOp::SoftmaxGrad) => softmax_grad(out(n), x, y()),
            Kind::Row(RowOp::LogSoftmax) => lanes!(out(n), [x in x] => canon(canon(x - shift) - value)),
            Kind::Row(RowOp::LogSoftmaxGrad) => log_softmax_grad(out(n), x, y()),
            Kind::Row(RowOp::RmsNorm(_)) => lanes!(out(n), [x in x] => canon(x * value)),
            Kind::Row(RowOp::RmsNormGrad(_)) => rms_norm_grad(out(n), x, y(), value),
            Kind::Row(RowOp::LayerNorm(_)) => lanes!(out(n), [x in x] => canon(canon(x - shift) * value)),
            Kind::Row(RowOp::LayerNormGrad(_)) => layer_norm_grad(out(n), x, y(), shift, value),
            Kind::Row(RowOp::CrossEntropy) => {
                // SAFETY: as above.
                let class = unsafe { self.class(i) };
                out(1)[0] = class.map_or(0.0, |class| canon(value - canon(x[class] - shift)));
            }
            Kind::Row(RowOp::CrossEntropyGrad) => {
                // SAFETY: as above; the third operand has a weight for each row.
                let (class, weight) = unsafe { (self.class(i), c.read(i, 1)[0]) };
                cross_entropy_grad(out(n), class, value, weight);
            }
            Kind::Rope { positions, inverse, cosines, sines } => {
                let (at, half) = (i % positions * (n / 2), n / 2);
                turn(out(n), x, &cosines[at..at + half], &sines[at..at + half], *inverse);
            }
        }
    }
}

/// e^(x - max); the maximum, and the sum.
#[inline(always)]
fn exponentials(to: &mut [f32], x: &[f32]) -> (f32, f32) {
    let max = row_max(x);
    lanes!(to, [x in x] => canon(x - max));
    functions!(to, [x] => unary(Unary::Exp, x));
    (max, canon(row_sum(to)))
}

/// The maximum, and the sum of e^(x - max).
#[inline(always)]
fn log_argument(x: &[f32]) -> (f32, f32) {
    let max = row_max(x);
    (max, canon(exp_sum(x, max)))
}

#[inline(always)]
fn softmax_grad(to: &mut [f32], y: &[f32], dy: &[f32]) {
    let sum = canon(row_sum_of(dy, y, |dy, y| canon(dy * y)));
    lanes!(to, [y in y, dy in dy] => canon(y * canon(dy - sum)));
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

#[inline(always)]
fn mean(x: &[f32]) -> f32 {
    canon(canon(row_sum(x)) * inverse(x))
}

/// Mean of (x - shift)², plus eps. A shift of 0 changes no bit.
#[inline(always)]
fn mean_square(x: &[f32], shift: f32, eps: u32) -> f32 {
    let squares = row_sum_of(x, x, |x, _| {
        let centred = canon(x - shift);
        canon(centred * centred)
    });
    canon(canon(canon(squares) * inverse(x)) + from_foreign(f32::from_bits(eps)))
}

#[inline(always)]
fn rms_norm_grad(to: &mut [f32], x: &[f32], dy: &[f32], scale: f32) {
    let mean = canon(canon(row_sum_of(x, dy, |x, dy| canon(dy * canon(x * scale)))) * inverse(x));
    lanes!(to, [x in x, dy in dy] => canon(scale * canon(dy - canon(canon(x * scale) * mean))));
}

#[inline(always)]
fn layer_norm_grad(to: &mut [f32], x: &[f32], dy: &[f32], shift: f32, scale: f32) {
    let dy_mean = mean(dy);
    let product = row_sum_of(x, dy, |x, dy| canon(dy * canon(canon(x - shift) * scale)));
    let product_mean = canon(canon(product) * inverse(x));
    lanes!(to, [x in x, dy in dy] => {
        let y = canon(canon(x - shift) * scale);
        canon(scale * canon(canon(dy - dy_mean) - canon(y * product_mean)))
    });
}

/// From the exponentials in `to`.
#[inline(always)]
fn cross_entropy_grad(to: &mut [f32], class: Option<usize>, scale: f32, weight: f32) {
    let Some(class) = class else {
        return to.fill(0.0);
    };
    let own = canon(canon(canon(to[class] * scale) - 1.0) * weight);
    update!(to, [e] => canon(canon(e * scale) * weight));
    to[class] = own;
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
