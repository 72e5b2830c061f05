//! Contractions: exact products, sums in one order.
//!
//! Both operands are rounded to 12 significant bits, so each product is exact and it makes no difference whether a
//! device fuses it with the sum. Sums are multiples of 2^-124: never subnormal.

use super::Here;
use super::reduce::CHUNK;
use crate::number::{canon, round12};

/// Σ a[k]·b[k] of operands that are rounded already: in chunks of 256 from +0 in order, chunk sums added in order to a
/// total that starts at +0; then `canon`.
///
/// A zero operand may be skipped, but keeps its index.
pub fn contract(a: &[f32], b: &[f32]) -> f32 {
    let mut total = 0.0;
    for (a, b) in a.chunks(CHUNK).zip(b.chunks(CHUNK)) {
        let mut sum = 0.0;
        for (&a, &b) in a.iter().zip(b) {
            sum += a * b;
        }
        total += sum;
    }
    canon(total)
}

/// A contraction's operand: every element rounded to 12 significant bits.
pub fn operand(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&x| round12(x)).collect()
}

/// The columns of a row-major matrix of `columns` columns, one after another.
pub(super) fn transposed(x: &[f32], columns: usize) -> Vec<f32> {
    let rows = x.len() / columns;
    (0..columns).flat_map(|j| (0..rows).map(move |i| x[i * columns + j])).collect()
}

/// a [m,k] (stored [k,m] if `ta`) times b [k,n] (stored [n,k] if `tb`): [m,n].
pub fn matrix_product(a: &[f32], ta: bool, b: &[f32], tb: bool, [m, n, k]: [usize; 3]) -> Vec<f32> {
    let (a, b) = (operand(a), operand(b));
    let a = if ta { transposed(&a, m) } else { a };
    let b = if tb { b } else { transposed(&b, n) };
    a.chunks(k).flat_map(|row| b.chunks(k).map(|column| contract(row, column))).collect()
}

impl Here<'_> {
    pub(super) fn matmul(&self, ta: bool, tb: bool) -> Vec<f32> {
        let (a, b) = (self.floats(0), self.floats(1));
        let rank = self.out().len();
        let [m, n] = [self.out()[rank - 2], self.out()[rank - 1]].map(|n| n as usize);
        let k = self.dims(0)[if ta { rank - 2 } else { rank - 1 }] as usize;
        let pairs = a.chunks(m * k).zip(b.chunks(k * n));
        pairs.flat_map(|(a, b)| matrix_product(a, ta, b, tb, [m, n, k])).collect()
    }
}
