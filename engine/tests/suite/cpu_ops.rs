//! The cpu backend against the reference on convolutions, running sums, and what is chosen along an axis.

use cairn_engine::backend::Tensor;
use cairn_engine::graph::{Conv2d, DType, Graph, NodeId, Shape, Unary};

use crate::cases::{LOPSIDED, Numbers, conv};
use crate::cpu_exact::{Point, agree, hostile};

fn param(g: &mut Graph, i: u32, shape: &[u32]) -> NodeId {
    g.param(i, Shape(shape.to_vec())).unwrap()
}

fn len(shape: &[u32]) -> usize {
    shape.iter().product::<u32>() as usize
}

/// A convolution of x by w and both its gradients.
fn convolution(options: Conv2d, x_shape: [u32; 4], w_shape: [u32; 4]) {
    let mut g = Graph::default();
    let (x, w) = (param(&mut g, 0, &x_shape), param(&mut g, 1, &w_shape));
    let y = g.conv2d(x, w, options).unwrap();
    let y_shape = g.shape(y).unwrap().0.clone();
    let dy = param(&mut g, 2, &y_shape);
    let dx = g.conv2d_input_grad(w, dy, options, [x_shape[2], x_shape[3]]).unwrap();
    let dw = g.conv2d_weight_grad(x, dy, options, [w_shape[2], w_shape[3]]).unwrap();
    let wanted = [y, dx, dw];
    let values = [("x", len(&x_shape)), ("w", len(&w_shape)), ("dy", len(&y_shape))].map(|(n, len)| hostile(n, len));
    let name = format!("{options:?} of {x_shape:?} by {w_shape:?}");
    agree(&format!("{name}, hostile"), &g, &wanted, &Point::new(values.to_vec()));
    let plain = values.map(|x| x.iter().map(|x| x.clamp(-2.0, 2.0)).collect());
    agree(&name, &g, &wanted, &Point::new(plain.to_vec()));
    // Each alone has another plan.
    for id in wanted {
        agree(&name, &g, &[id], &Point::new(plain.to_vec()));
    }
}

#[test]
pub(crate) fn convolutions_of_every_geometry() {
    let lopsided = Conv2d { groups: 2, ..LOPSIDED };
    let wide = Conv2d { stride: [1, 3], padding: [0, 2], dilation: [1, 4], groups: 1 };
    let cases: [(Conv2d, [u32; 4], [u32; 4]); 23] = [
        (conv(1, 0, 1, 1), [1, 1, 1, 1], [1, 1, 1, 1]),
        (conv(1, 1, 1, 1), [3, 2, 7, 7], [5, 2, 3, 3]),
        // A kernel of one element, on images of less and of more than a block.
        (conv(1, 0, 1, 1), [5, 20, 4, 3], [33, 20, 1, 1]),
        (conv(1, 0, 1, 2), [2, 6, 25, 24], [4, 3, 1, 1]),
        (conv(2, 0, 1, 1), [2, 5, 9, 8], [7, 5, 1, 1]),
        (conv(2, 1, 1, 1), [2, 3, 9, 8], [4, 3, 3, 3]),
        (conv(3, 2, 2, 1), [2, 2, 11, 10], [3, 2, 3, 2]),
        // A kernel that jumps over the input, and one that is almost all padding.
        (conv(4, 0, 1, 1), [2, 3, 9, 9], [2, 3, 2, 2]),
        (conv(1, 5, 3, 1), [1, 2, 2, 3], [2, 2, 4, 4]),
        (lopsided, [2, 4, 9, 11], [6, 2, 3, 2]),
        (wide, [2, 2, 4, 40], [3, 2, 2, 5]),
        // One group for each channel, and few in each; more than a register's lanes; long lines and many images.
        (conv(1, 1, 1, 19), [2, 19, 6, 5], [19, 1, 3, 3]),
        (conv(2, 1, 2, 9), [3, 18, 9, 8], [36, 2, 3, 2]),
        (conv(1, 2, 1, 3), [1, 6, 50, 50], [3, 2, 5, 5]),
        (Conv2d { padding: [0, 3], ..conv(1, 0, 1, 2) }, [2, 2, 1, 2500], [2, 1, 1, 4]),
        (conv(1, 0, 1, 3), [300, 3, 1, 1], [3, 1, 1, 1]),
        (conv(1, 1, 1, 5), [3, 5, 6, 7], [5, 1, 3, 3]),
        (conv(1, 1, 1, 3), [2, 3, 5, 5], [6, 1, 3, 3]),
        // Contractions of more than a chunk: forward, input gradient, kernel gradient.
        (conv(1, 1, 1, 1), [1, 31, 4, 4], [3, 31, 3, 3]),
        (conv(2, 1, 1, 1), [1, 3, 7, 7], [31, 3, 3, 3]),
        (conv(1, 1, 1, 1), [3, 2, 17, 19], [3, 2, 3, 3]),
        // Lines: long rows, and columns.
        (Conv2d { padding: [0, 1], ..conv(1, 0, 1, 1) }, [2, 3, 1, 700], [4, 3, 1, 3]),
        (Conv2d { padding: [1, 0], ..conv(1, 0, 1, 1) }, [2, 3, 300, 1], [4, 3, 3, 1]),
    ];
    for (options, x, w) in cases {
        convolution(options, x, w);
    }
}

#[test]
pub(crate) fn random_convolutions() {
    for seed in 0..40 {
        let mut numbers = Numbers::new(&format!("convolution {seed}"));
        let mut below = |n: u32| (numbers.uniform() * f64::from(n)) as u32;
        let groups = 1 + below(3);
        let mut pair = |n: u32, from: u32| [from + below(n), from + below(n)];
        let options = Conv2d { stride: pair(3, 1), padding: pair(4, 0), dilation: pair(3, 1), groups };
        let (kernel, input) = (pair(4, 1), pair(12, 1));
        // Large enough for the kernel.
        let input = [0, 1].map(|axis| input[axis].max(options.dilation[axis] * (kernel[axis] - 1) + 1));
        let [channels, outputs] = pair(6, 1);
        let x = [1 + below(4), groups * channels, input[0], input[1]];
        convolution(options, x, [groups * outputs, channels, kernel[0], kernel[1]]);
    }
}

#[test]
pub(crate) fn running_sums_along_every_axis() {
    for shape in [
        &[1][..],
        &[255],
        &[256],
        &[257],
        &[513],
        &[3, 300],
        &[300, 3],
        &[2, 260, 70],
        &[3, 1, 5],
        &[37, 530],
        &[40, 20],
    ] {
        let mut g = Graph::default();
        let x = param(&mut g, 0, shape);
        let axes = (0..shape.len() as u8).flat_map(|axis| [(axis, false), (axis, true)]);
        let wanted: Vec<NodeId> = axes.map(|(axis, reverse)| g.cumsum(x, axis, reverse).unwrap()).collect();
        agree(&format!("{shape:?}, hostile"), &g, &wanted, &Point::new(vec![hostile("x", len(shape))]));
        let plain = hostile("y", len(shape)).iter().map(|x| x.clamp(-3.0, 3.0)).collect();
        agree(&format!("{shape:?}"), &g, &wanted, &Point::new(vec![plain]));
    }
}

#[test]
pub(crate) fn gathered_and_scattered_along_every_axis() {
    let cases: [(&[u32], &[u32], u8); 7] = [
        (&[7], &[300], 0),
        (&[5, 9], &[5, 4], 1),
        (&[5, 9], &[40, 9], 0),
        (&[4, 6, 130], &[4, 11, 130], 1),
        (&[3, 5, 4], &[2, 7, 3], 1),
        (&[1, 2000], &[1, 1000], 1),
        (&[3, 1, 2], &[3, 9, 2], 1),
    ];
    for (shape, ids_shape, axis) in cases {
        let mut g = Graph::default();
        let (x, src) = (param(&mut g, 0, shape), param(&mut g, 1, ids_shape));
        let ids = g.input(0, Shape(ids_shape.to_vec()), DType::I32).unwrap();
        let chosen = g.gather(x, ids, axis).unwrap();
        let n = shape[usize::from(axis)];
        let added = g.scatter_add(ids, src, axis, n).unwrap();
        // Of integers too.
        let whole = g.unary(Unary::ToInt, x).unwrap();
        let integers = g.gather(whole, ids, axis).unwrap();
        let integers = g.unary(Unary::ToFloat, integers).unwrap();
        let mut point = Point::new(vec![hostile("x", len(shape)), hostile("src", len(ids_shape))]);
        let ids = (0..len(ids_shape) as i32).map(|i| match i % 17 {
            3 => i32::MIN,
            5 => n as i32,
            9 => -1,
            _ => i * 7919 % (n as i32),
        });
        point.inputs[0] = Tensor::I32(ids.collect());
        agree(&format!("{shape:?} {ids_shape:?} {axis}"), &g, &[chosen, added, integers], &point);
    }
}

#[test]
pub(crate) fn the_largest_of_every_number() {
    for n in [1u32, 2, 16, 17, 100, 1000] {
        let rows = 2000 / n + 1;
        let mut g = Graph::default();
        let x = param(&mut g, 0, &[rows, n]);
        let mut ks = vec![1, 2, 4, 5, n / 2, n - 1, n];
        ks.retain(|k| (1..=n).contains(k));
        let wanted: Vec<NodeId> = ks
            .iter()
            .map(|&k| {
                let largest = g.topk(x, k).unwrap();
                g.unary(Unary::ToFloat, largest).unwrap()
            })
            .collect();
        let values = hostile("x", (rows * n) as usize);
        let ties: Vec<f32> = values.iter().map(|x| x.clamp(-2.0, 2.0).round() + 0.0).collect();
        agree(&format!("largest of {n}"), &g, &wanted, &Point::new(vec![values]));
        agree(&format!("largest of {n}, ties"), &g, &wanted, &Point::new(vec![ties]));
    }
}
