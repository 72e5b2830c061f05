//! Speed of convolutions: `cargo run --release -p cairn-engine --example conv [threads]`.
//!
//! For each geometry the convolution, the gradient of its input and that of its kernel, beside the matrix product of as
//! many rows, columns and terms.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use cairn_engine::backend::{Executor, Feed, Kind, Options, Tensor};
use cairn_engine::cpu::Cpu;
use cairn_engine::graph::{Conv2d, Graph, NodeId, Shape};

fn main() {
    let threads = std::env::args().nth(1).map_or(1, |text| text.parse().unwrap());
    println!("GFLOP/s with {threads} threads: forward, input gradient, kernel gradient, matrix product");
    let plain = Conv2d { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 };
    let cases = [
        ("32x32, 3 to 32", plain, [32, 3, 32, 32], [32, 3, 3, 3]),
        ("32x32, 32 to 32", plain, [32, 32, 32, 32], [32, 32, 3, 3]),
        ("16x16, 64 to 64", plain, [32, 64, 16, 16], [64, 64, 3, 3]),
        ("8x8, 128 to 128", plain, [32, 128, 8, 8], [128, 128, 3, 3]),
        ("28x28, 1 to 16", plain, [64, 1, 28, 28], [16, 1, 3, 3]),
        ("14x14, 16 to 32", plain, [64, 16, 14, 14], [32, 16, 3, 3]),
        ("7x7, 64 to 64", plain, [64, 64, 7, 7], [64, 64, 3, 3]),
        ("stride 2, 32 to 64", Conv2d { stride: [2, 2], ..plain }, [32, 32, 32, 32], [64, 32, 3, 3]),
        ("1x1, 64 to 64", Conv2d { padding: [0, 0], ..plain }, [32, 64, 16, 16], [64, 64, 1, 1]),
        ("5x5, 16 to 16", Conv2d { padding: [2, 2], ..plain }, [32, 16, 28, 28], [16, 16, 5, 5]),
        ("line of 256, 64 to 64", Conv2d { padding: [0, 1], ..plain }, [32, 64, 1, 256], [64, 64, 1, 3]),
        ("depthwise 16x16, 64", Conv2d { groups: 64, ..plain }, [32, 64, 16, 16], [64, 1, 3, 3]),
    ];
    for (name, options, x_shape, w_shape) in cases {
        let mut g = Graph::default();
        let [x, w] = [(0, x_shape), (1, w_shape)].map(|(i, shape)| g.param(i, Shape(shape.to_vec())).unwrap());
        let y = g.conv2d(x, w, options).unwrap();
        let y_shape = g.shape(y).unwrap().clone();
        let dy = g.param(2, y_shape.clone()).unwrap();
        let dx = g.conv2d_input_grad(w, dy, options, [x_shape[2], x_shape[3]]).unwrap();
        let dw = g.conv2d_weight_grad(x, dy, options, [w_shape[2], w_shape[3]]).unwrap();
        let k: u32 = w_shape[1..].iter().product();
        let (m, n) = (y_shape.elements() as u32 / w_shape[0], w_shape[0]);
        let (a, b) = (g.param(3, Shape(vec![m, k])).unwrap(), g.param(4, Shape(vec![k, n])).unwrap());
        let product = g.matmul(a, b).unwrap();
        let operations = 2.0 * y_shape.elements() as f64 * f64::from(k);
        let speeds: Vec<String> = [y, dx, dw, product]
            .iter()
            .map(|&id| format!("{:6.1}", operations / seconds(&g, id, threads) / 1e9))
            .collect();
        println!("{name:>22} {}", speeds.join(" "));
    }
}

/// Time of one node.
fn seconds(g: &Graph, id: NodeId, threads: usize) -> f64 {
    let options = Options { kind: Kind::Cpu, threads, isa: None, fuse: true, micro_batch: None };
    let mut cpu = Cpu::new(g, &[id], &options).unwrap();
    let values = |id: NodeId| (0..g.shape(id).unwrap().elements()).map(|i| (i % 97) as f32 * 0.01 - 0.5).collect();
    // The operands are the first two nodes, dy after y, and those of the product.
    let params: Vec<Vec<f32>> = [0, 1, 3, 6, 7].map(values).to_vec();
    let (seed, nothing) = (Default::default(), Tensor::F32(vec![]));
    let feed = Feed { inputs: [&nothing, &nothing], params: &params, states: &[], tables: &[], seed: &seed, step: 0 };
    let mut out = vec![vec![]];
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let mut runs = 0;
        while runs == 0 || start.elapsed().as_secs_f64() < 0.05 {
            cpu.run(&feed, &mut out).unwrap();
            runs += 1;
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(runs));
    }
    best
}
