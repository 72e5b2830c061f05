//! Matrix products: every orientation in every form, by every tile, in one kernel and chunk by chunk.

use cairn_engine::backend::{Options, Tensor};
use cairn_engine::gpu::{Choice, Form};
use cairn_engine::graph::{DType, Graph, NodeId, Shape};

use super::{agree_with, choices, options};
use crate::cpu_exact::{Point, hostile};

const FORMS: [Form; 3] = [Form::Plain, Form::Fma, Form::Barrier];
const ORIENTATIONS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

/// The shape a matrix is stored in; without a leading axis where `batch` is 0.
fn stored(batch: u32, rows: u32, columns: u32, swapped: bool) -> Vec<u32> {
    let matrix = if swapped { [columns, rows] } else { [rows, columns] };
    if batch == 0 { matrix.to_vec() } else { [&[batch][..], &matrix].concat() }
}

/// A parameter of which the operand is all but its first `skip` elements.
fn operand(g: &mut Graph, i: u32, shape: Vec<u32>, skip: u32) -> (NodeId, Vec<f32>) {
    let len: u32 = shape.iter().product();
    let all = g.param(i, Shape(vec![skip + len])).unwrap();
    let part = if skip == 0 { all } else { g.slice(all, 0, skip, len).unwrap() };
    (g.reshape(part, Shape(shape)).unwrap(), hostile(&format!("operand {i}"), (skip + len) as usize))
}

/// Products of a batch of m by k and k by n in these orientations, whose operands stand behind `skip` others; of hostile
/// and of plain numbers, on every adapter.
fn products(forms: &[Form], orientations: &[(bool, bool)], [batch, m, n, k]: [u32; 4], skip: u32) {
    let mut g = Graph::default();
    let (mut wanted, mut values) = (vec![], vec![]);
    for (i, &(ta, tb)) in (0..).zip(orientations) {
        let (a, of_a) = operand(&mut g, 2 * i, stored(batch, m, k, ta), skip);
        let (b, of_b) = operand(&mut g, 2 * i + 1, stored(batch, k, n, tb), skip);
        wanted.push(g.contraction((a, ta), (b, tb)).unwrap());
        values.extend([of_a, of_b]);
    }
    let plain: Vec<Vec<f32>> = values.iter().map(|x| x.iter().map(|x| x.clamp(-2.0, 2.0)).collect()).collect();
    for (what, values) in [("hostile", values), ("plain", plain)] {
        let point = Point::new(values);
        for &choice in choices() {
            for &form in forms {
                let choice = Choice { form, ..choice };
                let name = format!("products {batch} {m} {n} {k}, {skip} before, {what}");
                agree_with(&name, &g, &wanted, &point, &options(choice), choice);
            }
        }
    }
}

#[test]
fn products_of_every_length_in_every_form() {
    for k in [1, 2, 255, 256, 257, 513, 1000] {
        products(&FORMS, &ORIENTATIONS, [0, 5, 7, k], 0);
    }
    products(&FORMS, &ORIENTATIONS, [0, 68, 36, 520], 0);
}

#[test]
fn ragged_products_and_whole_fours() {
    let sides = [1, 3, 4, 16, 63, 64, 65, 130];
    for (i, m) in sides.into_iter().enumerate() {
        for (j, n) in sides.into_iter().enumerate() {
            // Each pair has one length and one form, and each length and form some pair.
            let k = [1, 8, 31, 64][(i + j) % 4];
            products(&[FORMS[(i + 2 * j) % 3]], &ORIENTATIONS, [0, m, n, k], 0);
        }
    }
}

#[test]
fn products_of_operands_at_any_place() {
    for (skip, form) in [1, 2, 4].into_iter().zip(FORMS) {
        products(&[form], &ORIENTATIONS, [0, 20, 24, 300], skip);
        products(&[form], &ORIENTATIONS, [3, 20, 24, 12], skip);
    }
}

#[test]
fn batches_of_products() {
    for ([batch, m, n, k], form) in [
        ([1, 5, 6, 7], Form::Plain),
        ([7, 16, 16, 16], Form::Fma),
        ([5, 33, 31, 300], Form::Barrier),
        ([300, 4, 3, 5], Form::Plain),
        ([600, 32, 32, 8], Form::Fma),
        ([700, 2, 64, 5], Form::Barrier),
        ([600, 16, 50, 4], Form::Plain),
        ([600, 52, 12, 4], Form::Fma),
        ([70_000, 2, 1, 3], Form::Barrier),
    ] {
        products(&[form], &ORIENTATIONS, [batch, m, n, k], 0);
    }
}

/// Of these sizes, a large device's tiles are the best.
#[test]
fn large_products() {
    for (orientation, form) in ORIENTATIONS.into_iter().zip([Form::Plain, Form::Fma, Form::Barrier, Form::Fma]) {
        products(&[form], &[orientation], [0, 1100, 1156, 20], 0);
        products(&[form], &[orientation], [0, 1101, 1155, 9], 0);
        products(&[form], &[orientation], [0, 600, 900, 12], 0);
    }
    products(&[Form::Fma], &[(true, false)], [0, 1100, 1156, 260], 0);
}

#[test]
fn long_sums_are_of_chunks_in_order() {
    for ([m, n, k], form) in
        [([1, 1, 70_000], Form::Plain), ([3, 130, 2305], Form::Fma), ([33, 2, 4100], Form::Barrier)]
    {
        products(&[form], &ORIENTATIONS, [0, m, n, k], 0);
    }
}

/// A layer and the gradient of its weights, a sum over the batch's rows.
#[test]
fn sums_go_on_from_slice_to_slice() {
    for ([inputs, outputs], form) in [([5, 7], Form::Plain), ([24, 36], Form::Fma), ([130, 66], Form::Barrier)] {
        let rows = 2048;
        let mut g = Graph::default();
        let x = g.input(0, Shape(vec![rows, inputs]), DType::F32).unwrap();
        let w = g.param(0, Shape(vec![inputs, outputs])).unwrap();
        let y = g.contraction((x, false), (w, false)).unwrap();
        let dw = g.contraction((x, true), (y, false)).unwrap();
        let mut point = Point::new(vec![hostile("w", (inputs * outputs) as usize)]);
        point.inputs[0] = Tensor::F32(hostile("x", (rows * inputs) as usize));
        for &choice in choices() {
            let choice = Choice { form, ..choice };
            for micro_batch in [None, Some(256), Some(512), Some(1024)] {
                let options = Options { micro_batch, ..options(choice) };
                agree_with(&format!("slices of {micro_batch:?}"), &g, &[dw], &point, &options, choice);
                agree_with(&format!("slices of {micro_batch:?}"), &g, &[dw, y], &point, &options, choice);
            }
        }
    }
}
