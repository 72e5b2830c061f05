//! Composite operations along the last axis, and rotary positions.

use super::{Here, Value, wide};
use crate::graph::RowOp;

fn mean(row: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = row.len() as f64;
    row.sum::<f64>() / n
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Softmax of a row, and the logarithm of its normaliser.
pub(super) fn softmax(row: &[f64]) -> (Vec<f64>, f64) {
    let m = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = row.iter().map(|&x| libm::exp(x - m)).collect();
    let z: f64 = e.iter().sum();
    (e.iter().map(|e| e / z).collect(), m + libm::log(z))
}

/// The row over its root mean square, and the factor.
fn rms_norm(x: &[f64], eps: f64) -> (Vec<f64>, f64) {
    let r = 1.0 / libm::sqrt(mean(x.iter().map(|x| x * x)) + eps);
    (x.iter().map(|x| x * r).collect(), r)
}

fn layer_norm(x: &[f64], eps: f64) -> (Vec<f64>, f64) {
    let m = mean(x.iter().copied());
    let centred: Vec<f64> = x.iter().map(|x| x - m).collect();
    rms_norm(&centred, eps)
}

impl Here<'_> {
    pub(super) fn row(&self, op: RowOp) -> Value {
        let n = self.last(0);
        let rows = self.floats(0).chunks(n);
        match op {
            RowOp::Softmax => Value::F(rows.flat_map(|x| softmax(x).0).collect()),
            RowOp::LogSoftmax => Value::F(rows.flat_map(log_softmax).collect()),
            RowOp::RmsNorm(eps) => Value::F(rows.flat_map(|x| rms_norm(x, wide(eps)).0).collect()),
            RowOp::LayerNorm(eps) => Value::F(rows.flat_map(|x| layer_norm(x, wide(eps)).0).collect()),
            RowOp::SoftmaxGrad | RowOp::LogSoftmaxGrad | RowOp::RmsNormGrad(_) | RowOp::LayerNormGrad(_) => {
                Value::F(rows.zip(self.floats(1).chunks(n)).flat_map(|(x, dy)| row_grad(op, x, dy)).collect())
            }
            RowOp::CrossEntropy => {
                let loss = |(x, &id): (&[f64], &i32)| label(id, n).map_or(0.0, |id| softmax(x).1 - x[id]);
                Value::F(rows.zip(self.ints(1)).map(loss).collect())
            }
            RowOp::CrossEntropyGrad => {
                let gradient = |((x, &id), &g): ((&[f64], &i32), &f64)| {
                    let Some(id) = label(id, n) else { return vec![0.0; n] };
                    let mut y = softmax(x).0;
                    y[id] -= 1.0;
                    y.iter().map(|y| y * g).collect()
                };
                Value::F(rows.zip(self.ints(1)).zip(self.floats(2)).flat_map(gradient).collect())
            }
        }
    }

    pub(super) fn rope(&self, base: f64, inverse: bool) -> Value {
        let shape = &self.shape(0).0;
        let (positions, d) = (shape[shape.len() - 2] as usize, self.last(0));
        let half = d / 2;
        let mut out = Vec::with_capacity(self.count());
        for (row, x) in self.floats(0).chunks(d).enumerate() {
            let position = (row % positions) as f64;
            let angle = |i: usize| {
                let angle = position * libm::pow(base, -2.0 * i as f64 / d as f64);
                if inverse { -angle } else { angle }
            };
            let turned = |i: usize| (libm::cos(angle(i)), libm::sin(angle(i)));
            out.extend((0..half).map(|i| x[i] * turned(i).0 - x[i + half] * turned(i).1));
            out.extend((0..half).map(|i| x[i + half] * turned(i).0 + x[i] * turned(i).1));
        }
        Value::F(out)
    }
}

/// A label that is not padding.
fn label(id: i32, n: usize) -> Option<usize> {
    usize::try_from(id).ok().filter(|&id| id < n)
}

fn log_softmax(x: &[f64]) -> Vec<f64> {
    let log_z = softmax(x).1;
    x.iter().map(|x| x - log_z).collect()
}

/// Gradient of a row operation from its first listed operand (`y` for the softmaxes, `x` for the norms) and `dy`.
fn row_grad(op: RowOp, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let n = x.len() as f64;
    let each = |f: &dyn Fn(f64, f64) -> f64, y: &[f64]| y.iter().zip(dy).map(|(&y, &dy)| f(y, dy)).collect();
    match op {
        RowOp::SoftmaxGrad => {
            let s = dot(x, dy);
            each(&|y, dy| y * (dy - s), x)
        }
        RowOp::LogSoftmaxGrad => {
            let s: f64 = dy.iter().sum();
            each(&|y, dy| dy - libm::exp(y) * s, x)
        }
        RowOp::RmsNormGrad(eps) => {
            let (y, r) = rms_norm(x, wide(eps));
            let s = dot(&y, dy) / n;
            each(&|y, dy| r * (dy - y * s), &y)
        }
        RowOp::LayerNormGrad(eps) => {
            let (y, r) = layer_norm(x, wide(eps));
            let (m, s) = (mean(dy.iter().copied()), dot(&y, dy) / n);
            each(&|y, dy| r * ((dy - m) - y * s), &y)
        }
        _ => unreachable!("not a gradient of a row: {op:?}"),
    }
}
