//! Reductions over axes, movement of elements, indexing.

use super::{Here, Value};
use crate::graph::Shape;

/// The index along each axis of element `i` of a tensor of this shape.
fn coordinates(shape: &Shape, mut i: usize) -> Vec<usize> {
    let mut at = vec![0; shape.0.len()];
    for (at, &n) in at.iter_mut().zip(&shape.0).rev() {
        *at = i % n as usize;
        i /= n as usize;
    }
    at
}

/// The element with these indices; an axis of length 1 is the same everywhere, and missing leading axes are such.
fn element(shape: &Shape, at: &[usize]) -> usize {
    let added = at.len() - shape.0.len();
    shape.0.iter().zip(&at[added..]).fold(0, |i, (&n, &at)| i * n as usize + if n == 1 { 0 } else { at })
}

impl<'a> Here<'a> {
    /// From an element of the result to that of operand `k` which is broadcast to it.
    pub(super) fn broadcast_from(&self, k: usize) -> impl Fn(usize) -> usize + 'a {
        let (out, operand) = (&self.node.shape, self.shape(k));
        move |i| if out == operand { i } else { element(operand, &coordinates(out, i)) }
    }

    /// Folds every operand's element into the result's element that it is reduced to.
    fn reduced(&self, start: f64, fold: impl Fn(f64, f64) -> f64) -> Value {
        let (from, to) = (self.shape(0), &self.node.shape);
        let mut out = vec![start; self.count()];
        for (i, &x) in self.floats(0).iter().enumerate() {
            let out = &mut out[element(to, &coordinates(from, i))];
            *out = fold(*out, x);
        }
        Value::F(out)
    }

    pub(super) fn sum(&self) -> Value {
        self.reduced(0.0, |sum, x| sum + x)
    }

    pub(super) fn max(&self) -> Value {
        self.reduced(f64::NEG_INFINITY, f64::max)
    }

    pub(super) fn argmax(&self) -> Value {
        let first = |row: &[f64]| (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as i32;
        Value::I(self.floats(0).chunks(self.last(0)).map(first).collect())
    }

    pub(super) fn permute(&self, perm: &[u8]) -> Value {
        let (from, to) = (self.shape(0), &self.node.shape);
        let source = |i| {
            let mut at = vec![0; perm.len()];
            for (&axis, index) in perm.iter().zip(coordinates(to, i)) {
                at[usize::from(axis)] = index;
            }
            element(from, &at)
        };
        self.operand(0).moved(source, self.count())
    }

    pub(super) fn broadcast_to(&self) -> Value {
        self.operand(0).moved(self.broadcast_from(0), self.count())
    }

    pub(super) fn slice(&self, axis: u8, start: usize) -> Value {
        let source = |i| {
            let mut at = coordinates(&self.node.shape, i);
            at[usize::from(axis)] += start;
            self.offset(0, &at)
        };
        self.operand(0).moved(source, self.count())
    }

    /// The element of operand `k` with these indices, without broadcasting.
    fn offset(&self, k: usize, at: &[usize]) -> usize {
        self.shape(k).0.iter().zip(at).fold(0, |i, (&n, &at)| i * n as usize + at)
    }

    pub(super) fn pad(&self, axis: u8, before: usize) -> Value {
        let (x, axis) = (self.floats(0), usize::from(axis));
        let n = self.shape(0).0[axis] as usize;
        let pick = |i| {
            let mut at = coordinates(&self.node.shape, i);
            if !(before..before + n).contains(&at[axis]) {
                return 0.0;
            }
            at[axis] -= before;
            x[self.offset(0, &at)]
        };
        Value::F((0..self.count()).map(pick).collect())
    }

    pub(super) fn concat(&self, axis: u8) -> Value {
        let axis = usize::from(axis);
        let source = |i| {
            let mut at = coordinates(&self.node.shape, i);
            let mut k = 0;
            while at[axis] >= self.shape(k).0[axis] as usize {
                at[axis] -= self.shape(k).0[axis] as usize;
                k += 1;
            }
            (k, self.offset(k, &at))
        };
        match self.operand(0) {
            Value::F(_) => Value::F((0..self.count()).map(source).map(|(k, i)| self.floats(k)[i]).collect()),
            Value::I(_) => Value::I((0..self.count()).map(source).map(|(k, i)| self.ints(k)[i]).collect()),
        }
    }

    pub(super) fn embedding(&self) -> Value {
        let (table, width) = (self.floats(0), self.last(0));
        let zeros = vec![0.0; width];
        let row = |&id: &i32| usize::try_from(id).ok().and_then(|id| table.chunks(width).nth(id)).unwrap_or(&zeros);
        Value::F(self.ints(1).iter().flat_map(row).copied().collect())
    }

    pub(super) fn embedding_grad(&self, rows: usize) -> Value {
        let (dy, width) = (self.floats(1), self.last(1));
        let mut out = vec![0.0; rows * width];
        for (&id, dy) in self.ints(0).iter().zip(dy.chunks(width)) {
            if let Some(row) = usize::try_from(id).ok().and_then(|id| out.chunks_mut(width).nth(id)) {
                row.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
            }
        }
        Value::F(out)
    }

    pub(super) fn take(&self) -> Value {
        let rows = self.floats(0).chunks(self.last(0)).zip(self.ints(1));
        let pick = |(row, &id): (&[f64], &i32)| usize::try_from(id).ok().and_then(|id| row.get(id)).copied();
        Value::F(rows.map(|pair| pick(pair).unwrap_or(0.0)).collect())
    }

    pub(super) fn take_grad(&self, n: usize) -> Value {
        let mut out = vec![0.0; self.count()];
        for ((row, &id), &dy) in out.chunks_mut(n).zip(self.ints(0)).zip(self.floats(1)) {
            if let Some(x) = usize::try_from(id).ok().and_then(|id| row.get_mut(id)) {
                *x = dy;
            }
        }
        Value::F(out)
    }

    pub(super) fn cumsum(&self, axis: usize, reverse: bool) -> Value {
        let (x, shape) = (self.floats(0), self.shape(0));
        let sum = |i| {
            let mut at = coordinates(shape, i);
            let range = if reverse { at[axis]..shape.0[axis] as usize } else { 0..at[axis] + 1 };
            let mut element = |place| {
                at[axis] = place;
                x[self.offset(0, &at)]
            };
            range.map(&mut element).sum()
        };
        Value::F((0..self.count()).map(sum).collect())
    }

    /// The element of a tensor of this shape that the id at element `i` of ids names.
    fn named(&self, shape: &Shape, ids: (usize, usize), axis: usize) -> Option<usize> {
        let (k, i) = ids;
        let id = usize::try_from(self.ints(k)[i]).ok().filter(|&id| id < shape.0[axis] as usize)?;
        let mut at = coordinates(self.shape(k), i);
        at[axis] = id;
        Some(shape.0.iter().zip(&at).fold(0, |i, (&n, &at)| i * n as usize + at))
    }

    pub(super) fn gather(&self, axis: usize) -> Value {
        let from = |i| self.named(self.shape(0), (1, i), axis);
        let all = (0..self.count()).map(from);
        match self.operand(0) {
            Value::F(x) => Value::F(all.map(|at| at.map_or(0.0, |at| x[at])).collect()),
            Value::I(x) => Value::I(all.map(|at| at.map_or(0, |at| x[at])).collect()),
        }
    }

    pub(super) fn scatter_add(&self, axis: usize) -> Value {
        let mut out = vec![0.0; self.count()];
        for (i, &x) in self.floats(1).iter().enumerate() {
            if let Some(at) = self.named(&self.node.shape, (0, i), axis) {
                out[at] += x;
            }
        }
        Value::F(out)
    }

    /// An element's place is the number of those before it: the larger ones, and equal ones of lower index.
    pub(super) fn topk(&self) -> Value {
        let (n, k) = (self.last(0), self.node.shape.0.last().map_or(1, |&k| k as usize));
        let mut out = vec![0; self.count()];
        for (row, out) in self.floats(0).chunks(n).zip(out.chunks_mut(k)) {
            for (i, &x) in row.iter().enumerate() {
                let before = |&(j, &y): &(usize, &f64)| y > x || (y == x && j < i);
                let place = row.iter().enumerate().filter(before).count();
                if let Some(out) = out.get_mut(place) {
                    *out = i as i32;
                }
            }
        }
        Value::I(out)
    }
}
