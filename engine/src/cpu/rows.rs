//! Composite operations along the last axis, in the steps of their definitions.
//!
//! *Invariant:* every primitive step ends in `canon`, sums follow the row rule.

use std::ops::Range;

use crate::graph::{RowOp, Unary};
use crate::number::{canon, from_foreign, inverse_count};
use crate::reference::unary;

use super::lanes::{LANES, functions};
use super::memory::{Place, Shared};
use super::reduce::row_max;
use super::step::{Context, Pieces, Sharing};
use super::wide::{self, Wide, WideKernel, each, sum};

/// What is done to each row.
#[derive(Debug)]
enum Kind {
    /// See [`RowOp`].
    Row(RowOp),
    /// Rotation of pairs (i, i + half) by the row's position, or back.
    Rope { inverse: bool, turns: Turns },
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
        let turns = Turns::new(base, positions, width);
        let rows = shape.iter().product::<usize>() / width;
        Self { kind: Kind::Rope { inverse, turns }, rows, width, from: vec![from], to }
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
        wide::run(context.level, Run { work: self, from, to: context.at(self.to), rows });
    }
}

struct Run<'a> {
    work: &'a Rows,
    from: [Shared; 3],
    to: Shared,
    rows: Range<usize>,
}

impl WideKernel for Run<'_> {
    #[inline(always)]
    fn run<W: Wide>(self) {
        if let Kind::Rope { inverse, turns } = &self.work.kind {
            // SAFETY: `Rows::run` was promised the tensors; these rows of the result are this piece's own.
            return unsafe { self.rope::<W>(*inverse, turns) };
        }
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
                        (shifts[i - first], arguments[i - first]) = self.gather::<W>(i);
                    }
                }
                match function {
                    Some(Unary::Recip) => functions!(&mut arguments, [z] => unary(Unary::Recip, z)),
                    Some(Unary::Log) => functions!(&mut arguments, [z] => unary(Unary::Log, z)),
                    Some(_) => functions!(&mut arguments, [z] => unary(Unary::Rsqrt, z)),
                    None => {}
                }
                for i in rows {
                    self.apply::<W>(i, shifts[i - first], arguments[i - first]);
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
    unsafe fn gather<W: Wide>(&self, i: usize) -> (f32, f32) {
        let n = self.work.width;
        // SAFETY: owed by the caller.
        unsafe {
            let x = self.x(i);
            match self.work.kind {
                Kind::Row(RowOp::CrossEntropy | RowOp::CrossEntropyGrad) if self.class(i).is_none() => (0.0, 1.0),
                Kind::Row(RowOp::Softmax | RowOp::CrossEntropyGrad) => exponentials::<W>(self.to.write(i * n, n), x),
                Kind::Row(RowOp::LogSoftmax | RowOp::CrossEntropy) => log_argument::<W>(x),
                Kind::Row(
                    RowOp::RmsNorm(eps) | RowOp::RmsNormGrad(eps) | RowOp::LayerNorm(eps) | RowOp::LayerNormGrad(eps),
                ) => {
                    let centred = matches!(self.work.kind, Kind::Row(RowOp::LayerNorm(_) | RowOp::LayerNormGrad(_)));
                    let shift = if centred { mean::<W>(x) } else { 0.0 };
                    (shift, mean_square::<W>(x, shift, eps))
                }
                Kind::Row(RowOp::SoftmaxGrad | RowOp::LogSoftmaxGrad) | Kind::Rope { .. } => (0.0, 1.0),
            }
        }
    }

    /// The row's result, from its shift and from the function's value.
    #[inline(always)]
    unsafe fn apply<W: Wide>(&self, i: usize, shift: f32, value: f32) {
        let n = self.work.width;
        let [_, b, c] = self.from;
        // SAFETY: owed by the caller; those operations that call `y` have such an operand.
        let (x, out, y) = unsafe { (self.x(i), |len: usize| self.to.write(i * len, len), || b.read(i * n, n)) };
        match &self.work.kind {
            Kind::Row(RowOp::Softmax) => scale_all(out(n), W::splat(value)),
            Kind::Row(RowOp::SoftmaxGrad) => softmax_grad::<W>(out(n), x, y()),
            Kind::Row(RowOp::LogSoftmax) => {
                let (shift, value) = (W::splat(shift), W::splat(value));
                each!(W, out(n), [x in x] => x.sub(shift).canon().sub(value).canon());
            }
            Kind::Row(RowOp::LogSoftmaxGrad) => log_softmax_grad::<W>(out(n), x, y()),
            Kind::Row(RowOp::RmsNormGrad(_)) => rms_norm_grad::<W>(out(n), x, y(), value),
            // Without a mean the shift is 0, which changes no bit.
            Kind::Row(RowOp::RmsNorm(_) | RowOp::LayerNorm(_)) => {
                let (shift, value) = (W::splat(shift), W::splat(value));
                each!(W, out(n), [x in x] => x.sub(shift).canon().mul(value).canon());
            }
            Kind::Row(RowOp::LayerNormGrad(_)) => layer_norm_grad::<W>(out(n), x, y(), shift, value),
            Kind::Row(RowOp::CrossEntropy) => {
                // SAFETY: as above.
                let class = unsafe { self.class(i) };
                out(1)[0] = class.map_or(0.0, |class| canon(value - canon(x[class] - shift)));
            }
            Kind::Row(RowOp::CrossEntropyGrad) => {
                // SAFETY: as above; the third operand has a weight for each row.
                let (class, weight) = unsafe { (self.class(i), c.read(i, 1)[0]) };
                cross_entropy_grad::<W>(out(n), class, value, weight);
            }
            Kind::Rope { .. } => {}
        }
    }

    /// Rotates the rows of the range.
    #[inline(always)]
    unsafe fn rope<W: Wide>(&self, inverse: bool, turns: &Turns) {
        let (width, len) = (self.work.width, turns.positions * self.work.width);
        let (first, end) = (self.rows.start * width, self.rows.end * width);
        let mut at = first;
        // SAFETY: owed by the caller; the turns go on for a group behind their end.
        unsafe {
            if turns.swaps() {
                let sign = W::splat(if inverse { -1.0 } else { 1.0 });
                while at + LANES <= end {
                    let x = self.from[0].read(at, LANES);
                    let cosines = W::load(turns.cosines[at % len..].as_ptr());
                    let sines = W::load(turns.sines[at % len..].as_ptr()).mul(sign);
                    let swapped = W::of(swapped(x, width / 2));
                    let turned = W::load(x.as_ptr()).mul(cosines).canon().add(swapped.mul(sines).canon()).canon();
                    turned.store(self.to.at(at));
                    at += LANES;
                }
            }
            for row in at / width..self.rows.end {
                let turn = row % turns.positions * width;
                let (c, s) = (&turns.cosines[turn..][..width], &turns.sines[turn..][..width]);
                turn_row::<W>(self.to.write(row * width, width), self.from[0].read(row * width, width), c, s, inverse);
            }
        }
    }
}

/// Cosines and sines of each element's turn [positions, width], and of the first ones again for another group. The sines
/// are those by which the other element of the pair is multiplied: negative in the first half of a row.
#[derive(Debug)]
struct Turns {
    positions: usize,
    width: usize,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Turns {
    fn new(base: u32, positions: usize, width: usize) -> Self {
        let half = width / 2;
        let elements = (0..positions * width + LANES).map(|i| (i / width % positions, i % width));
        let turns = elements.map(|(t, i)| {
            let [cosine, sine] = crate::reference::rows::rotation(base, t as u32, (i % half) as u32, width as u32);
            (cosine, if i < half { -sine } else { sine })
        });
        let (cosines, sines) = turns.unzip();
        Self { positions, width, cosines, sines }
    }

    /// Whether a group holds whole rows, in which the pairs change places.
    fn swaps(&self) -> bool {
        matches!(self.width, 2 | 4 | 8 | 16)
    }
}

/// The elements of a group with each pair's places changed.
#[inline(always)]
fn swapped(x: &[f32], half: usize) -> [f32; LANES] {
    let mut to = [0.0; LANES];
    macro_rules! swap {
        ($half:literal) => {
            for (to, x) in to.chunks_exact_mut(2 * $half).zip(x.chunks_exact(2 * $half)) {
                to[..$half].copy_from_slice(&x[$half..]);
                to[$half..].copy_from_slice(&x[..$half]);
            }
        };
    }
    match half {
        1 => swap!(1),
        2 => swap!(2),
        4 => swap!(4),
        _ => swap!(8),
    }
    to
}

/// One row; of `sines`, the second half is that of the turn.
#[inline(always)]
fn turn_row<W: Wide>(to: &mut [f32], x: &[f32], cosines: &[f32], sines: &[f32], inverse: bool) {
    let half = to.len() / 2;
    let ((left, right), (a, b)) = (to.split_at_mut(half), x.split_at(half));
    let (cosines, sines) = (&cosines[half..], &sines[half..]);
    let sign = W::splat(if inverse { -1.0 } else { 1.0 });
    for at in (0..half).step_by(LANES) {
        let len = LANES.min(half - at);
        let (a, b, c, s) = (&a[at..at + len], &b[at..at + len], &cosines[at..at + len], &sines[at..at + len]);
        let (a, b) = (W::load_some(a), W::load_some(b));
        let (c, s) = (W::load_some(c), W::load_some(s).mul(sign));
        let turned_left = a.mul(c).canon().sub(b.mul(s).canon()).canon();
        let turned_right = b.mul(c).canon().add(a.mul(s).canon()).canon();
        turned_left.store_some(&mut left[at..at + len]);
        turned_right.store_some(&mut right[at..at + len]);
    }
}

/// e^(x - max); the maximum, and the sum.
#[inline(always)]
fn exponentials<W: Wide>(to: &mut [f32], x: &[f32]) -> (f32, f32) {
    let max = row_max(x);
    let shift = W::splat(max);
    each!(W, to, [x in x] => x.sub(shift).canon().exp());
    (max, canon(sum!(W, [e in &*to] => e)))
}

/// The maximum, and the sum of e^(x - max).
#[inline(always)]
fn log_argument<W: Wide>(x: &[f32]) -> (f32, f32) {
    let max = row_max(x);
    let shift = W::splat(max);
    (max, canon(sum!(W, [x in x] => x.sub(shift).canon().exp())))
}

/// Each element times the same number.
#[inline(always)]
fn scale_all<W: Wide>(row: &mut [f32], scale: W) {
    let (groups, rest) = row.as_chunks_mut::<LANES>();
    for group in groups {
        // SAFETY: whole groups.
        unsafe { W::load(group.as_ptr()).mul(scale).canon().store(group.as_mut_ptr()) };
    }
    if !rest.is_empty() {
        W::load_short(rest, 0.0).mul(scale).canon().store_short(rest);
    }
}

#[inline(always)]
fn softmax_grad<W: Wide>(to: &mut [f32], y: &[f32], dy: &[f32]) {
    let sum = W::splat(canon(sum!(W, [dy in dy, y in y] => dy.mul(y).canon())));
    each!(W, to, [y in y, dy in dy] => y.mul(dy.sub(sum).canon()).canon());
}

#[inline(always)]
fn log_softmax_grad<W: Wide>(to: &mut [f32], y: &[f32], dy: &[f32]) {
    let sum = W::splat(canon(sum!(W, [dy in dy] => dy)));
    each!(W, to, [y in y, dy in dy] => dy.sub(y.exp().mul(sum).canon()).canon());
}

/// f32(1/n) of a row's length.
#[inline(always)]
fn inverse(row: &[f32]) -> f32 {
    inverse_count(row.len() as u64)
}

#[inline(always)]
fn mean<W: Wide>(x: &[f32]) -> f32 {
    canon(canon(sum!(W, [x in x] => x)) * inverse(x))
}

/// Mean of (x - shift)², plus eps. A shift of 0 changes no bit.
#[inline(always)]
fn mean_square<W: Wide>(x: &[f32], shift: f32, eps: u32) -> f32 {
    let shift = W::splat(shift);
    let squares = sum!(W, [x in x] => {
        let centred = x.sub(shift).canon();
        centred.mul(centred).canon()
    });
    canon(canon(canon(squares) * inverse(x)) + from_foreign(f32::from_bits(eps)))
}

#[inline(always)]
fn rms_norm_grad<W: Wide>(to: &mut [f32], x: &[f32], dy: &[f32], scale: f32) {
    let scale = W::splat(scale);
    let product = sum!(W, [x in x, dy in dy] => dy.mul(x.mul(scale).canon()).canon());
    let mean = W::splat(canon(canon(product) * inverse(x)));
    each!(W, to, [x in x, dy in dy] => {
        scale.mul(dy.sub(x.mul(scale).canon().mul(mean).canon()).canon()).canon()
    });
}

#[inline(always)]
fn layer_norm_grad<W: Wide>(to: &mut [f32], x: &[f32], dy: &[f32], shift: f32, scale: f32) {
    let (shift, scale, dy_mean) = (W::splat(shift), W::splat(scale), W::splat(mean::<W>(dy)));
    let product = sum!(W, [x in x, dy in dy] => dy.mul(x.sub(shift).canon().mul(scale).canon()).canon());
    let product_mean = W::splat(canon(canon(product) * inverse(x)));
    each!(W, to, [x in x, dy in dy] => {
        let y = x.sub(shift).canon().mul(scale).canon();
        scale.mul(dy.sub(dy_mean).canon().sub(y.mul(product_mean).canon()).canon()).canon()
    });
}

/// From the exponentials in `to`.
#[inline(always)]
fn cross_entropy_grad<W: Wide>(to: &mut [f32], class: Option<usize>, scale: f32, weight: f32) {
    let Some(class) = class else {
        return to.fill(0.0);
    };
    let own = canon(canon(canon(to[class] * scale) - 1.0) * weight);
    let (scale, weight) = (W::splat(scale), W::splat(weight));
    let (groups, rest) = to.as_chunks_mut::<LANES>();
    for group in groups {
        // SAFETY: whole groups.
        unsafe { W::load(group.as_ptr()).mul(scale).canon().mul(weight).canon().store(group.as_mut_ptr()) };
    }
    if !rest.is_empty() {
        W::load_short(rest, 0.0).mul(scale).canon().mul(weight).canon().store_short(rest);
    }
    to[class] = own;
}
