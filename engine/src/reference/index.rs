//! Looking rows and elements up by integer, and the gradients of that.
//!
//! An index outside the table reads zero and receives nothing.

use super::shape::size;
use crate::number::canon;

/// Where `id` points in a table of `n`, if it does.
fn inside(id: i32, n: usize) -> Option<usize> {
    usize::try_from(id).ok().filter(|&id| id < n)
}

pub(super) fn embedding(table: &[f32], ids: &[i32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; ids.len() * width];
    for (row, &id) in out.chunks_mut(width).zip(ids) {
        if let Some(id) = inside(id, table.len() / width) {
            row.copy_from_slice(&table[id * width..][..width]);
        }
    }
    out
}

/// Each row of `dy` added to the row of its id, in ascending position, into zeros; `canon` of the sums.
pub(super) fn embedding_grad(ids: &[i32], dy: &[f32], width: usize, rows: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * width];
    for (dy, &id) in dy.chunks(width).zip(ids) {
        if let Some(id) = inside(id, rows) {
            for (sum, &dy) in out[id * width..][..width].iter_mut().zip(dy) {
                *sum += dy;
            }
        }
    }
    out.iter().map(|&x| canon(x)).collect()
}

pub(super) fn take(x: &[f32], ids: &[i32], n: usize) -> Vec<f32> {
    x.chunks(n).zip(ids).map(|(row, &id)| inside(id, n).map_or(0.0, |id| row[id])).collect()
}

pub(super) fn take_grad(ids: &[i32], dy: &[f32], n: usize) -> Vec<f32> {
    let mut out = vec![0.0; ids.len() * n];
    for ((row, &id), &dy) in out.chunks_mut(n).zip(ids).zip(dy) {
        if let Some(id) = inside(id, n) {
            row[id] = dy;
        }
    }
    out
}

/// A tensor as (outer, along, inner): the lengths before, of, and after an axis.
pub(super) fn around(dims: &[u32], axis: usize) -> [usize; 3] {
    [size(&dims[..axis]), dims[axis] as usize, size(&dims[axis + 1..])]
}

/// result[o, i, j] = x[o, ids[o, i, j], j], where x is `n` and ids `len` long along the axis.
pub(super) fn gather<T: Copy + Default>(x: &[T], n: usize, ids: &[i32], [_, len, inner]: [usize; 3]) -> Vec<T> {
    let element = |(at, &id): (usize, &i32)| {
        let (outer, j) = (at / (len * inner), at % inner);
        inside(id, n).map_or(T::default(), |id| x[(outer * n + id) * inner + j])
    };
    ids.iter().enumerate().map(element).collect()
}

/// Each element of `src` added where its id says, in ascending position, into zeros; `canon` of the sums.
pub(super) fn scatter_add(ids: &[i32], src: &[f32], [outer, len, inner]: [usize; 3], n: usize) -> Vec<f32> {
    let mut out = vec![0.0; outer * n * inner];
    for (at, (&id, &src)) in ids.iter().zip(src).enumerate() {
        if let Some(id) = inside(id, n) {
            out[(at / (len * inner) * n + id) * inner + at % inner] += src;
        }
    }
    out.iter().map(|&x| canon(x)).collect()
}

/// Indices of the `k` largest of each row of length `n`, largest first, equal ones by ascending index.
pub(super) fn topk(x: &[f32], n: usize, k: usize) -> Vec<i32> {
    let largest = |row: &[f32]| {
        let mut order: Vec<i32> = (0..).take(n).collect();
        // The sort is stable, and canonical numbers are totally ordered.
        order.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
        order.truncate(k);
        order
    };
    x.chunks(n).flat_map(largest).collect()
}
