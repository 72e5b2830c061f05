//! Looking rows and elements up by integer, and the gradients of that.
//!
//! An index outside the table reads zero and receives nothing.

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
