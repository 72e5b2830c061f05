//! Sums, contractions, rows, attention: whatever adds in an order.

use cairn_engine::graph::{Attention, AttentionInput, Conv2d, RowOp};

use super::{Source, Vector};

fn join(axes: &[u8]) -> String {
    axes.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
}

pub(super) fn sums() -> Vec<Vector> {
    let mut vectors = vec![];
    // Around the lengths of lanes, chunks and blocks; by rows, by columns and by both.
    let cases: &[(&[u32], &[u8])] = &[
        (&[1], &[0]),
        (&[15], &[0]),
        (&[16], &[0]),
        (&[17], &[0]),
        (&[257], &[0]),
        (&[4096], &[0]),
        (&[4097], &[0]),
        (&[2, 4100], &[0, 1]),
        (&[3, 40], &[1]),
        (&[40, 3], &[0]),
        (&[255, 2], &[0]),
        (&[256, 2], &[0]),
        (&[257, 2], &[0]),
        (&[600, 3], &[0]),
        (&[3, 4, 5, 6], &[1]),
        (&[3, 4, 5, 6], &[0, 2]),
        (&[3, 4, 5, 6], &[1, 3]),
        (&[20, 15, 2], &[0, 1]),
        (&[3, 4, 5], &[0, 1, 2]),
        (&[7, 1], &[1]),
        (&[7, 1], &[0]),
    ];
    for &(shape, axes) in cases {
        let mut source = Source::new(&format!("sum {shape:?} {axes:?}"));
        let operands = vec![source.floats(shape)];
        vectors.push(Vector::new(&format!("Sum axes={}", join(axes)), operands, |g, x| g.sum(x[0], axes)));
    }
    let cases: &[(&[u32], &[u8])] = &[(&[3, 40], &[1]), (&[40, 3], &[0]), (&[3, 4, 5], &[0, 2]), (&[1], &[0])];
    for &(shape, axes) in cases {
        let mut source = Source::new(&format!("max {shape:?} {axes:?}"));
        let operands = vec![source.floats(shape)];
        vectors.push(Vector::new(&format!("Max axes={}", join(axes)), operands, |g, x| g.max(x[0], axes)));
    }
    for shape in [&[5, 12][..], &[2, 2, 33], &[1]] {
        let operands = vec![Source::new(&format!("argmax {shape:?}")).floats(shape)];
        vectors.push(Vector::new("ArgMax", operands, |g, x| g.argmax(x[0])));
    }
    let cases: &[(&[u32], u8)] = &[(&[1], 0), (&[256], 0), (&[257], 0), (&[600], 0), (&[3, 4], 1), (&[260, 2, 2], 0)];
    for &(shape, axis) in cases {
        for reverse in [false, true] {
            let operands = vec![Source::new(&format!("cumsum {shape:?} {axis}")).floats(shape)];
            let title = format!("CumSum axis={axis} reverse={}", u8::from(reverse));
            vectors.push(Vector::new(&title, operands, |g, x| g.cumsum(x[0], axis, reverse)));
        }
    }
    for (shape, k) in [(&[5, 12][..], 1), (&[2, 2, 33], 7), (&[3, 20], 20), (&[1], 1)] {
        let operands = vec![Source::new(&format!("topk {shape:?}")).floats(shape)];
        vectors.push(Vector::new(&format!("TopK k={k}"), operands, |g, x| g.topk(x[0], k)));
    }
    vectors
}

pub(super) fn contractions() -> Vec<Vector> {
    let mut vectors = vec![];
    let cases: &[(&[u32], u32, u32, u32)] = &[
        (&[], 1, 1, 1),
        (&[], 3, 5, 4),
        (&[], 17, 33, 19),
        (&[], 2, 255, 3),
        (&[], 2, 256, 3),
        (&[], 2, 257, 3),
        (&[], 1, 1000, 2),
        (&[], 13, 7, 70),
        (&[3], 4, 10, 5),
        (&[2], 1, 300, 2),
    ];
    for &(lead, m, k, n) in cases {
        for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
            let flags = format!("MatMul ta={} tb={}", u8::from(ta), u8::from(tb));
            let stored = |transposed, [rows, columns]: [u32; 2]| {
                [lead, &if transposed { [columns, rows] } else { [rows, columns] }].concat()
            };
            let (a, b) = (stored(ta, [m, k]), stored(tb, [k, n]));
            let mut source = Source::new(&format!("{flags} {a:?} {b:?}"));
            let operands = vec![source.floats(&a), source.floats(&b)];
            vectors.push(Vector::new(&flags, operands, |g, x| g.contraction((x[0], ta), (x[1], tb))));
        }
    }
    // Cancellation: products of many magnitudes.
    let mut source = Source::new("cancellation");
    let wide = |source: &mut Source, shape: &[u32]| {
        let (shape, _) = source.tame(shape);
        let values = (0..shape.elements()).map(|_| source.wide()).collect();
        (shape, cairn_engine::backend::Tensor::F32(values))
    };
    let operands = vec![wide(&mut source, &[6, 300]), wide(&mut source, &[300, 5])];
    vectors.push(Vector::new("MatMul ta=0 tb=0", operands, |g, x| g.contraction((x[0], false), (x[1], false))));
    vectors.extend(convolutions());
    vectors
}

fn convolutions() -> Vec<Vector> {
    let plain = Conv2d { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 };
    let padded = Conv2d { padding: [1, 1], ..plain };
    let strided = Conv2d { stride: [2, 3], ..padded };
    let dilated = Conv2d { padding: [3, 2], dilation: [2, 1], ..plain };
    let grouped = Conv2d { groups: 3, ..padded };
    let far = Conv2d { stride: [3, 1], dilation: [1, 2], padding: [0, 4], groups: 2 };
    let cases: [(Conv2d, [u32; 4], [u32; 4]); 8] = [
        (plain, [1, 1, 1, 1], [1, 1, 1, 1]),
        (plain, [2, 3, 4, 5], [4, 3, 2, 3]),
        (padded, [1, 30, 3, 3], [2, 30, 3, 3]),
        (strided, [2, 2, 7, 8], [3, 2, 3, 3]),
        (dilated, [1, 2, 5, 4], [3, 2, 3, 2]),
        (grouped, [2, 3, 4, 4], [6, 1, 3, 3]),
        (far, [1, 4, 8, 3], [2, 2, 2, 2]),
        (padded, [3, 1, 9, 10], [30, 1, 3, 3]),
    ];
    let mut vectors = vec![];
    for (options, x, w) in cases {
        let Conv2d { stride, padding, dilation, groups } = options;
        let pair = |pair: [u32; 2]| format!("{},{}", pair[0], pair[1]);
        let arguments =
            format!("stride={} padding={} dilation={} groups={groups}", pair(stride), pair(padding), pair(dilation));
        let out = [0, 1].map(|axis| options.output_len(axis, x[axis + 2], w[axis + 2]).unwrap() as u32);
        let mut source = Source::new(&format!("conv2d {arguments} {x:?} {w:?}"));
        let [x_operand, w_operand, dy] = [x, w, [x[0], w[0], out[0], out[1]]].map(|shape| source.floats(&shape));
        let operands = vec![x_operand.clone(), w_operand.clone()];
        vectors.push(Vector::new(&format!("Conv2d {arguments}"), operands, |g, i| g.conv2d(i[0], i[1], options)));
        let size = [x[2], x[3]];
        let title = format!("Conv2dInputGrad size={} {arguments}", pair(size));
        let operands = vec![w_operand, dy.clone()];
        vectors.push(Vector::new(&title, operands, |g, i| g.conv2d_input_grad(i[0], i[1], options, size)));
        let size = [w[2], w[3]];
        let title = format!("Conv2dWeightGrad size={} {arguments}", pair(size));
        let operands = vec![x_operand, dy];
        vectors.push(Vector::new(&title, operands, |g, i| g.conv2d_weight_grad(i[0], i[1], options, size)));
    }
    vectors
}

/// 1e-5 and 1e-6.
const EPS: [u32; 2] = [1e-5f32.to_bits(), 1e-6f32.to_bits()];

pub(super) fn rows() -> Vec<Vector> {
    let mut vectors = vec![];
    let ops = [
        ("Softmax", RowOp::Softmax, 1),
        ("SoftmaxGrad", RowOp::SoftmaxGrad, 2),
        ("LogSoftmax", RowOp::LogSoftmax, 1),
        ("LogSoftmaxGrad", RowOp::LogSoftmaxGrad, 2),
        ("RmsNorm", RowOp::RmsNorm(EPS[1]), 1),
        ("RmsNormGrad", RowOp::RmsNormGrad(EPS[1]), 2),
        ("LayerNorm", RowOp::LayerNorm(EPS[0]), 1),
        ("LayerNormGrad", RowOp::LayerNormGrad(EPS[0]), 2),
    ];
    let eps = |op| match op {
        RowOp::RmsNorm(eps) | RowOp::RmsNormGrad(eps) | RowOp::LayerNorm(eps) | RowOp::LayerNormGrad(eps) => {
            format!(" eps={eps:08x}")
        }
        _ => String::new(),
    };
    for (name, op, operands) in ops {
        let title = format!("Row.{name}{}", eps(op));
        for shape in [&[2, 3, 1][..], &[4, 16], &[3, 27], &[2, 300]] {
            let mut source = Source::new(&format!("{name} {shape:?}"));
            for tame in [true, false] {
                let operand = |s: &mut Source| if tame { s.tame(shape) } else { s.floats(shape) };
                let operands = (0..operands).map(|_| operand(&mut source)).collect();
                vectors.push(Vector::new(&title, operands, |g, x| g.row(op, x)));
            }
        }
    }
    let mut source = Source::new("long row");
    let operands = vec![source.tame(&[1, 4200])];
    vectors.push(Vector::new("Row.RmsNorm eps=358637bd", operands, |g, x| g.row(RowOp::RmsNorm(EPS[1]), x)));
    for shape in [&[6, 1][..], &[5, 27], &[2, 3, 40]] {
        let (lead, n) = (&shape[..shape.len() - 1], shape[shape.len() - 1]);
        let mut source = Source::new(&format!("cross entropy {shape:?}"));
        let operands = vec![source.tame(shape), source.ints(lead, n)];
        vectors.push(Vector::new("Row.CrossEntropy", operands, |g, x| g.row(RowOp::CrossEntropy, x)));
        let operands = vec![source.floats(shape), source.ints(lead, n), source.tame(lead)];
        vectors.push(Vector::new("Row.CrossEntropyGrad", operands, |g, x| g.row(RowOp::CrossEntropyGrad, x)));
    }
    let cases: &[(&[u32], f32)] = &[(&[5, 2], 1e4), (&[2, 3, 9, 8], 1e4), (&[40, 6], 500.0)];
    for &(shape, base) in cases {
        for inverse in [false, true] {
            let base = base.to_bits();
            let operands = vec![Source::new(&format!("rope {shape:?}")).floats(shape)];
            let title = format!("Rope base={base:08x} inverse={}", u8::from(inverse));
            vectors.push(Vector::new(&title, operands, |g, x| g.rope(x[0], base, inverse)));
        }
    }
    vectors
}

pub(super) fn attention() -> Vec<Vector> {
    let full = Attention { causal: false, window: 0, scale: 0.5f32.to_bits(), soft_cap: 0 };
    let causal = Attention { causal: true, ..full };
    let window = Attention { window: 3, ..causal };
    let capped = Attention { soft_cap: 2.5f32.to_bits(), scale: 0.353_553_4f32.to_bits(), ..causal };
    let window_only = Attention { window: 2, ..full };
    type Case = (Attention, [u32; 4], [u32; 4]);
    let cases: &[Case] = &[
        (full, [1, 1, 1, 1], [1, 1, 1, 1]),
        (full, [2, 2, 3, 4], [2, 2, 5, 4]),
        (full, [1, 2, 2, 3], [1, 1, 300, 3]),
        (full, [1, 1, 300, 2], [1, 1, 2, 2]),
        (causal, [1, 2, 17, 8], [1, 2, 17, 8]),
        (causal, [2, 4, 6, 5], [2, 2, 6, 5]),
        (causal, [1, 6, 5, 4], [1, 2, 5, 4]),
        (window, [1, 2, 9, 4], [1, 1, 9, 4]),
        (window_only, [1, 1, 6, 3], [1, 1, 6, 3]),
        (capped, [1, 3, 7, 8], [1, 1, 7, 8]),
    ];
    let mut vectors = vec![];
    for (number, &(options, query, key)) in cases.iter().enumerate() {
        let Attention { causal, window, scale, soft_cap } = options;
        let arguments =
            format!("causal={} window={window} scale={scale:08x} soft_cap={soft_cap:08x}", u8::from(causal));
        let mut source = Source::new(&format!("attention {number}"));
        let [q, k, v] = [query, key, key].map(|shape| source.tame(&shape));
        let [y, dy] = [query, query].map(|shape| source.tame(&shape));
        let forward = vec![q.clone(), k.clone(), v.clone()];
        vectors.push(Vector::new(&format!("Attention {arguments}"), forward, |g, x| {
            g.attention(x[0], x[1], x[2], options)
        }));
        for of in [AttentionInput::Q, AttentionInput::K, AttentionInput::V] {
            let operands = vec![q.clone(), k.clone(), v.clone(), y.clone(), dy.clone()];
            let title = format!("AttentionGrad of={of:?} {arguments}");
            let build = |g: &mut cairn_engine::graph::Graph, x: &[u32]| {
                g.attention_grad([x[0], x[1], x[2], x[3], x[4]], options, of)
            };
            vectors.push(Vector::new(&title, operands, build));
        }
    }
    vectors
}
