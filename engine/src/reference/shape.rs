//! Moving elements: permutation, broadcasting, slices, padding, concatenation.
//!
//! All of them walk a shape in row-major order and read where strides say.

use crate::backend::Tensor;
use crate::graph::Shape;

/// Number of elements of a shape.
pub fn size(dims: &[u32]) -> usize {
    dims.iter().map(|&n| n as usize).product()
}

/// Distance between neighbours along each axis of a row-major tensor.
pub fn strides(dims: &[u32]) -> Vec<usize> {
    (0..dims.len()).map(|axis| size(&dims[axis + 1..])).collect()
}

/// The offsets that all index tuples of `dims`, row-major, have under these strides.
pub fn walk(dims: &[u32], strides: &[usize]) -> Vec<usize> {
    let mut offsets = vec![0];
    for (&n, &stride) in dims.iter().zip(strides) {
        offsets = offsets.iter().flat_map(|&offset| (0..n as usize).map(move |i| offset + i * stride)).collect();
    }
    offsets
}

/// For each element of a tensor of shape `to`, the element of one of shape `from` that NumPy broadcasts to it.
pub fn broadcast_offsets(from: &[u32], to: &[u32]) -> Vec<usize> {
    let missing = to.len() - from.len();
    let own = strides(from);
    let stretched: Vec<usize> = (0..to.len())
        .map(|axis| match axis.checked_sub(missing) {
            Some(axis) if from[axis] != 1 => own[axis],
            _ => 0,
        })
        .collect();
    walk(to, &stretched)
}

/// The elements at these offsets.
fn gather(x: &Tensor, offsets: &[usize]) -> Tensor {
    match x {
        Tensor::F32(x) => Tensor::F32(offsets.iter().map(|&i| x[i]).collect()),
        Tensor::I32(x) => Tensor::I32(offsets.iter().map(|&i| x[i]).collect()),
    }
}

pub(super) fn permute(x: &Tensor, dims: &[u32], perm: &[u8]) -> Tensor {
    let own = strides(dims);
    let (to, moved): (Vec<u32>, Vec<usize>) =
        perm.iter().map(|&axis| (dims[usize::from(axis)], own[usize::from(axis)])).unzip();
    gather(x, &walk(&to, &moved))
}

pub(super) fn broadcast(x: &Tensor, from: &[u32], to: &[u32]) -> Tensor {
    gather(x, &broadcast_offsets(from, to))
}

pub(super) fn slice(x: &Tensor, from: &[u32], to: &[u32], axis: usize, start: u32) -> Tensor {
    let own = strides(from);
    let first = start as usize * own[axis];
    let offsets: Vec<usize> = walk(to, &own).iter().map(|offset| first + offset).collect();
    gather(x, &offsets)
}

pub(super) fn pad(x: &[f32], from: &[u32], to: &[u32], axis: usize, before: u32) -> Vec<f32> {
    let mut out = vec![0.0; size(to)];
    let wide = strides(to);
    let first = before as usize * wide[axis];
    for (&x, offset) in x.iter().zip(walk(from, &wide)) {
        out[first + offset] = x;
    }
    out
}

pub(super) fn concat(inputs: &[&Tensor], shapes: &[&Shape], to: &[u32], axis: usize) -> Tensor {
    // Whole runs of the axes from `axis` on, one input after another, for each index of the axes before it.
    let outer = size(&to[..axis]);
    let run = |shape: &Shape| size(&shape.0[axis..]);
    let ranges = (0..outer).flat_map(|i| (0..inputs.len()).map(move |k| (i, k)));
    let (mut floats, mut ints) = (vec![], vec![]);
    for (i, k) in ranges {
        let range = i * run(shapes[k])..(i + 1) * run(shapes[k]);
        match inputs[k] {
            Tensor::F32(x) => floats.extend_from_slice(&x[range]),
            Tensor::I32(x) => ints.extend_from_slice(&x[range]),
        }
    }
    if ints.is_empty() { Tensor::F32(floats) } else { Tensor::I32(ints) }
}
