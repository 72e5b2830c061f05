//! Chains, moved elements, random numbers, indices and running sums on the GPU: beyond the suite that all backends
//! pass, what is special about kernels.

use cairn_engine::backend::{Batch, Executor, Options, Tensor};
use cairn_engine::gpu::Gpu;
use cairn_engine::graph::{Binary, DType, Graph, NodeId, Random, Shape, Unary};
use cairn_engine::reference::Reference;
use cairn_protocol::Seed;

use super::{agree_with, choices, options};
use crate::cases::Numbers;
use crate::cpu_exact::{Point, hostile};

/// With chains and without, and the batch cut as far as it goes.
fn agree(name: &str, graph: &Graph, wanted: &[NodeId], point: &Point) {
    for &choice in choices() {
        for (fuse, micro_batch) in [(true, None), (false, None), (true, Some(1))] {
            let options = Options { fuse, micro_batch, ..options(choice) };
            agree_with(&format!("{name}, {fuse}, {micro_batch:?}"), graph, wanted, point, &options, choice);
        }
    }
}

/// Kernels of a run.
fn kernels(graph: &Graph, wanted: &[NodeId]) -> usize {
    let choice = choices()[0];
    Gpu::new(graph, wanted, &options(choice), choice).unwrap().dispatches()
}

fn param(g: &mut Graph, i: u32, shape: &[u32]) -> NodeId {
    g.param(i, Shape(shape.to_vec())).unwrap()
}

fn number(g: &mut Graph, x: f32) -> NodeId {
    g.full(x.to_bits(), Shape::default()).unwrap()
}

fn plain(name: &str, count: usize) -> Vec<f32> {
    let mut numbers = Numbers::new(name);
    (0..count).map(|_| (4.0 * numbers.uniform() - 2.0) as f32).collect()
}

#[test]
fn a_chain_may_need_more_buffers_than_a_kernel_has() {
    let mut g = Graph::default();
    let shape = [7, 45];
    let all: Vec<NodeId> = (0..24).map(|i| param(&mut g, i, &shape)).collect();
    let mut wanted = vec![];
    let mut sum = all[0];
    let mut early = vec![];
    for (i, &x) in all.iter().enumerate().skip(1) {
        let product = g.binary(Binary::Mul, sum, x).unwrap();
        sum = g.binary(Binary::Add, product, all[i - 1]).unwrap();
        let whole = g.unary(Unary::ToInt, sum).unwrap();
        early.push((sum, whole));
        if i % 3 == 0 {
            wanted.push(sum);
        }
    }
    // Values from the beginning, floats and integers, are used again at the end.
    for (x, whole) in early {
        let less = g.binary(Binary::Lt, x, sum).unwrap();
        let zero = g.full_int(3, Shape::default()).unwrap();
        let chosen = g.where_(less, whole, zero).unwrap();
        let chosen = g.unary(Unary::ToFloat, chosen).unwrap();
        sum = g.binary(Binary::Max, sum, chosen).unwrap();
    }
    wanted.push(sum);
    let values = |of: fn(&str, usize) -> Vec<f32>| (0..24).map(|i| of(&format!("x{i}"), 315)).collect();
    agree("many buffers", &g, &wanted, &Point::new(values(hostile)));
    agree("many buffers, plain", &g, &wanted, &Point::new(values(plain)));
    assert!(kernels(&g, &wanted) <= 24, "{} kernels", kernels(&g, &wanted));
}

#[test]
fn a_chain_may_be_long_and_have_many_numbers() {
    let mut g = Graph::default();
    let x = param(&mut g, 0, &[1021]);
    let (mut y, mut wanted) = (x, vec![]);
    for i in 0..66 {
        let [limit, low, high] = [0.1, 0.7, 1.3].map(|by| number(&mut g, by + 0.01 * i as f32));
        let less = g.binary(Binary::Lt, y, limit).unwrap();
        let factor = g.where_(less, low, high).unwrap();
        y = g.binary(Binary::Mul, y, factor).unwrap();
        if i == 30 {
            wanted.push(less);
        }
    }
    wanted.push(y);
    agree("long", &g, &wanted, &Point::new(vec![plain("x", 1021)]));
    assert!(kernels(&g, &wanted) <= 2);
}

#[test]
fn every_way_to_broadcast() {
    let shapes: [&[u32]; 12] = [
        &[],
        &[1],
        &[5],
        &[4, 1],
        &[4, 5],
        &[3, 1, 5],
        &[3, 4, 1],
        &[3, 1, 1],
        &[2, 1, 4, 1],
        &[2, 3, 1, 1],
        &[1, 3, 1, 5],
        &[2, 3, 4, 5],
    ];
    let mut g = Graph::default();
    let all: Vec<NodeId> = (0..).zip(shapes).map(|(i, shape)| param(&mut g, i, shape)).collect();
    let full = Shape(vec![2, 3, 4, 5]);
    let (mut wanted, mut sum) = (vec![], all[11]);
    for &x in &all {
        sum = g.binary(Binary::Add, sum, x).unwrap();
        let product = g.binary(Binary::Mul, x, all[11]).unwrap();
        wanted.extend([g.broadcast_to(x, full.clone()).unwrap(), product]);
    }
    // Twice, and of integers.
    let once = g.broadcast_to(all[2], Shape(vec![4, 5])).unwrap();
    let twice = g.broadcast_to(once, full.clone()).unwrap();
    let whole = g.unary(Unary::ToInt, all[5]).unwrap();
    let wide = g.broadcast_to(whole, full).unwrap();
    let back = g.unary(Unary::ToFloat, wide).unwrap();
    let product = g.binary(Binary::Mul, twice, back).unwrap();
    wanted.extend([sum, twice, back, product]);
    let values = (0..).zip(shapes).map(|(i, shape)| hostile(&format!("x{i}"), shape.iter().product::<u32>() as usize));
    agree("broadcasts", &g, &wanted, &Point::new(values.collect()));
}

/// A step that updates two parameters with all that optimisers do, and keeps an average, a transposed copy and a part.
fn optimiser() -> (Graph, Vec<NodeId>) {
    let mut g = Graph::default();
    let shapes: [&[u32]; 2] = [&[33, 17], &[68]];
    let tables: Vec<NodeId> = (0..4).map(|i| g.table(i).unwrap()).collect();
    let clip = g.binary(Binary::Min, tables[3], tables[0]).unwrap();
    let (mut params, mut states) = (vec![], vec![]);
    for (i, shape) in (0..).zip(shapes) {
        let b = |g: &mut Graph, op, a, b| g.binary(op, a, b).unwrap();
        let p = param(&mut g, i, shape);
        let [m, v, ema] = [0, 1, 2].map(|k| g.state(4 * i + k, Shape(shape.to_vec())).unwrap());
        let gradient = g.unary(Unary::Sin, p).unwrap();
        let gradient = b(&mut g, Binary::Mul, gradient, clip);
        let moment = |g: &mut Graph, m, beta: f32, of| {
            let (keep, take) = (number(g, beta), number(g, 1.0 - beta));
            let (kept, taken) = (b(g, Binary::Mul, m, keep), b(g, Binary::Mul, of, take));
            b(g, Binary::Add, kept, taken)
        };
        let m_new = moment(&mut g, m, 0.9, gradient);
        let square = b(&mut g, Binary::Mul, gradient, gradient);
        let v_new = moment(&mut g, v, 0.99, square);
        let m_hat = b(&mut g, Binary::Div, m_new, tables[1]);
        let v_hat = b(&mut g, Binary::Div, v_new, tables[2]);
        let root = g.unary(Unary::Sqrt, v_hat).unwrap();
        let tiny = number(&mut g, 1e-8);
        let below = b(&mut g, Binary::Add, root, tiny);
        let update = b(&mut g, Binary::Div, m_hat, below);
        let decay = number(&mut g, 0.01);
        let decayed = b(&mut g, Binary::Mul, p, decay);
        let update = b(&mut g, Binary::Add, update, decayed);
        let step = b(&mut g, Binary::Mul, update, tables[0]);
        let p_new = b(&mut g, Binary::Sub, p, step);
        let away = b(&mut g, Binary::Sub, p_new, ema);
        let part = number(&mut g, 0.05);
        let nearer = b(&mut g, Binary::Mul, away, part);
        let ema_new = b(&mut g, Binary::Add, ema, nearer);
        // New values that other kernels read while they write new ones.
        let (shape, moved) = if shape.len() == 2 {
            (vec![shape[1], shape[0]], g.permute(p_new, &[1, 0]).unwrap())
        } else {
            (vec![30], g.slice(p_new, 0, 3, 30).unwrap())
        };
        let copy = g.state(4 * i + 3, Shape(shape)).unwrap();
        let copy_new = b(&mut g, Binary::Add, moved, copy);
        params.push(p_new);
        states.extend([m_new, v_new, ema_new, copy_new]);
    }
    let loss = g.slice(params[1], 0, 5, 1).unwrap();
    let mut wanted = vec![g.reshape(loss, Shape::default()).unwrap()];
    wanted.extend(params.into_iter().chain(states));
    (g, wanted)
}

#[test]
fn an_optimiser_takes_steps() {
    let (graph, wanted) = optimiser();
    let lens = [[561; 4], [68, 68, 68, 30]];
    let start = || {
        let params = [plain("p", 561), plain("q", 68)].to_vec();
        let states: Vec<Vec<f32>> =
            lens.iter().flatten().map(|&n| plain("s", n).iter().map(|x| x.abs()).collect()).collect();
        (params, states)
    };
    let train = |executor: &mut dyn Executor| {
        let (mut params, mut states) = start();
        let nothing = Tensor::I32(vec![]);
        let mut losses = vec![];
        for step in 0..4 {
            let tables = [0.01, 0.1 + step as f32 * 0.05, 0.01, 0.7];
            let batch = Batch { inputs: [&nothing, &nothing], tables: &tables, seed: &Seed([7; 32]), step };
            losses.push(executor.step(&batch, &mut params, &mut states).unwrap());
        }
        [losses]
            .into_iter()
            .chain(params)
            .chain(states)
            .map(|x| x.iter().map(|x| x.to_bits()).collect())
            .collect::<Vec<Vec<u32>>>()
    };
    let want = train(&mut Reference::new(&graph, &wanted));
    for &choice in choices() {
        for fuse in [true, false] {
            let mut gpu = Gpu::new(&graph, &wanted, &Options { fuse, ..options(choice) }, choice).unwrap();
            let got = train(&mut gpu);
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                assert!(got == want, "{choice:?}, {fuse}, tensor {i}");
            }
        }
    }
}

#[test]
fn transposes_have_any_size() {
    let mut g = Graph::default();
    let shapes: [&[u32]; 7] =
        [&[8, 8], &[33, 31], &[64, 100], &[7, 500], &[3, 40, 2, 65], &[2, 3, 9, 10, 11], &[3, 4, 5, 64]];
    let mut wanted = vec![];
    for (i, shape) in (0..).zip(shapes) {
        let x = param(&mut g, i, shape);
        let rank = shape.len() as u8;
        let mut perm: Vec<u8> = (0..rank).collect();
        for turn in 0..rank {
            perm.rotate_left(1);
            wanted.push(g.permute(x, &perm).unwrap());
            let (a, b) = (usize::from(turn), usize::from(rank) - 1);
            let mut swapped: Vec<u8> = (0..rank).collect();
            swapped.swap(a, b);
            wanted.push(g.permute(x, &swapped).unwrap());
        }
        // The last axis stays.
        let mut first: Vec<u8> = (0..rank).collect();
        first[..usize::from(rank) - 1].reverse();
        wanted.push(g.permute(x, &first).unwrap());
        // Of integers.
        let whole = g.unary(Unary::ToInt, x).unwrap();
        let moved = g.permute(whole, &perm.iter().rev().copied().collect::<Vec<u8>>()).unwrap();
        wanted.push(g.unary(Unary::ToFloat, moved).unwrap());
    }
    let values = (0..).zip(shapes).map(|(i, shape)| hostile(&format!("x{i}"), shape.iter().product::<u32>() as usize));
    agree("transposes", &g, &wanted, &Point::new(values.collect()));
}

#[test]
fn any_number_of_tensors_is_joined() {
    let mut g = Graph::default();
    let mut wanted = vec![];
    let all: Vec<NodeId> = (0..19).map(|i| param(&mut g, i, &[3, i + 1, 4])).collect();
    let joined = g.concat(&all, 1).unwrap();
    wanted.push(joined);
    wanted.push(g.concat(&[all[4], all[4], all[4]], 0).unwrap());
    wanted.push(g.concat(&[all[4], all[4]], 2).unwrap());
    let ints: Vec<NodeId> = all.iter().map(|&x| g.unary(Unary::ToInt, x).unwrap()).collect();
    let ints = g.concat(&ints, 1).unwrap();
    wanted.push(g.unary(Unary::ToFloat, ints).unwrap());
    let ones = g.full(1f32.to_bits(), Shape(vec![3, 2, 4])).unwrap();
    wanted.push(g.concat(&[ones, all[0], ones], 1).unwrap());
    for before in [0, 1, 7] {
        wanted.push(g.pad(all[3], 1, before, 2).unwrap());
        wanted.push(g.slice(joined, 1, before, 100).unwrap());
    }
    let values = (0..19).map(|i| hostile(&format!("x{i}"), 12 * (i + 1))).collect();
    agree("joined", &g, &wanted, &Point::new(values));
}

#[test]
fn random_numbers_are_the_same_in_any_slice() {
    let mut g = Graph::default();
    let x = g.input(0, Shape(vec![6, 5, 7]), DType::F32).unwrap();
    let mut wanted = vec![];
    for (kind, name) in [(Random::Uniform, "u"), (Random::Normal, "n"), (Random::Normal, "u")] {
        let random = g.random(kind, name, Shape(vec![6, 5, 7])).unwrap();
        wanted.push(g.binary(Binary::Add, x, random).unwrap());
        let odd = g.random(kind, name, Shape(vec![1])).unwrap();
        let many = g.random(kind, "many", Shape(vec![70_001])).unwrap();
        wanted.extend([odd, many]);
    }
    let mut point = Point::new(vec![]);
    point.inputs[0] = Tensor::F32(plain("x", 210));
    agree("random", &g, &wanted, &point);
}

/// Indices of which many are alike and some name nothing.
fn ids(count: usize, rows: u32) -> Vec<i32> {
    let mut numbers = Numbers::new("ids");
    let id = |i: usize| match i % 23 {
        3 => i32::MIN,
        5 => rows as i32,
        9 => -1,
        _ if numbers.uniform() < 0.3 => (rows / 2) as i32,
        _ => (numbers.uniform() * f64::from(rows)) as i32,
    };
    (0..count).map(id).collect()
}

#[test]
fn embeddings_and_their_gradients() {
    for (rows, width, batch, context) in
        [(1, 1, 1, 1), (5, 3, 4, 7), (65, 32, 3, 400), (300, 257, 2, 33), (3, 300, 1, 1100)]
    {
        let mut g = Graph::default();
        let (table, x) = (param(&mut g, 0, &[rows, width]), param(&mut g, 1, &[batch, context, width]));
        let y = param(&mut g, 2, &[batch, context, rows]);
        let ids_node = g.input(0, Shape(vec![batch, context]), DType::I32).unwrap();
        let found = g.embedding(table, ids_node).unwrap();
        let dy = g.binary(Binary::Mul, found, x).unwrap();
        let gradient = g.embedding_grad(ids_node, dy, rows).unwrap();
        let plain_gradient = g.embedding_grad(ids_node, x, rows).unwrap();
        let taken = g.take(y, ids_node).unwrap();
        let spread = g.take_grad(ids_node, taken, rows).unwrap();
        let positions = (batch * context) as usize;
        let lens = [(rows * width) as usize, positions * width as usize, positions * rows as usize];
        let wanted = [found, gradient, plain_gradient, taken, spread];
        for of in [hostile as fn(&str, usize) -> Vec<f32>, plain] {
            let mut point =
                Point::new(["t", "x", "y"].into_iter().zip(lens).map(|(name, len)| of(name, len)).collect());
            point.inputs[0] = Tensor::I32(ids(positions, rows));
            agree(&format!("embedding of {rows} {width} {batch} {context}"), &g, &wanted, &point);
        }
    }
}

#[test]
fn elements_are_scattered_along_few_and_many_lines() {
    let cases: [(&[u32], u32, u8); 6] = [
        (&[3000], 700, 0),
        (&[1], 1, 0),
        (&[257, 2], 5, 0),
        (&[2, 300, 9], 11, 1),
        (&[20, 40, 20], 30, 1),
        (&[400, 30], 7, 1),
    ];
    for (shape, n, axis) in cases {
        let mut g = Graph::default();
        let len = shape.iter().product::<u32>() as usize;
        let src = param(&mut g, 0, shape);
        let ids_node = g.input(0, Shape(shape.to_vec()), DType::I32).unwrap();
        let added = g.scatter_add(ids_node, src, axis, n).unwrap();
        for of in [hostile as fn(&str, usize) -> Vec<f32>, plain] {
            let mut point = Point::new(vec![of("src", len)]);
            point.inputs[0] = Tensor::I32(ids(len, n));
            agree(&format!("{shape:?} {n} {axis}"), &g, &[added], &point);
        }
    }
}

/// More elements, results and alike indices than a device lets an invocation have turns of its loops.
#[test]
fn indices_name_more_elements_than_loops_may_have_turns() {
    let point = |lens: [usize; 2], n: u32, alike: bool| {
        let mut point = Point::new(vec![(0..lens[0]).map(|i| (i * 7 % 1_000_003) as f32 * 1e-3 - 300.0).collect()]);
        let id = |i: usize| if alike { 1 } else { (i.wrapping_mul(0x9e37_79b9) >> 7) as i32 % n as i32 };
        point.inputs[0] = Tensor::I32((0..lens[1]).map(id).collect());
        point
    };
    let choice = choices()[0];
    let lines: [(&[u32], u32); 3] = [(&[1, 140_000], 300), (&[256, 10], 34_000), (&[256, 51_000], 3)];
    for (shape, n) in lines {
        let mut g = Graph::default();
        let len = shape.iter().product::<u32>() as usize;
        let src = param(&mut g, 0, shape);
        let ids = g.input(0, Shape(shape.to_vec()), DType::I32).unwrap();
        let added = g.scatter_add(ids, src, 1, n).unwrap();
        agree_with(&format!("{shape:?} {n}"), &g, &[added], &point([len; 2], n, false), &options(choice), choice);
    }
    let count = 240_000;
    let mut g = Graph::default();
    let dy = param(&mut g, 0, &[count, 1]);
    let ids = g.input(0, Shape(vec![count]), DType::I32).unwrap();
    let gradient = g.embedding_grad(ids, dy, 2).unwrap();
    agree_with("alike", &g, &[gradient], &point([count as usize; 2], 2, true), &options(choice), choice);
}

#[test]
fn running_sums_of_any_length() {
    for shape in [&[1, 1][..], &[4, 2], &[3, 255], &[2, 256], &[2, 257], &[5, 1000], &[513, 3], &[1, 70_000]] {
        let mut g = Graph::default();
        let x = param(&mut g, 0, shape);
        let axes = [(0, false), (0, true), (1, false), (1, true)];
        let wanted: Vec<NodeId> = axes.iter().map(|&(axis, reverse)| g.cumsum(x, axis, reverse).unwrap()).collect();
        let len = shape.iter().product::<u32>() as usize;
        for of in [hostile as fn(&str, usize) -> Vec<f32>, plain] {
            agree(&format!("{shape:?}"), &g, &wanted, &Point::new(vec![of("x", len)]));
        }
    }
}

#[test]
fn more_workgroups_than_one_axis_may_have() {
    // Of 256 invocations, of which each has one element.
    let (rows, columns) = (2897, 2903);
    let mut g = Graph::default();
    let x = param(&mut g, 0, &[rows, columns]);
    let row = g.slice(x, 0, 5, 1).unwrap();
    let sum = g.binary(Binary::Add, x, row).unwrap();
    let part = g.slice(sum, 1, 1, columns - 1).unwrap();
    let values: Vec<f32> = (0..rows * columns).map(|i| (i * 7 % 1_000_003) as f32 * 1e-3).collect();
    let choice = choices()[0];
    agree_with("wide", &g, &[sum, part], &Point::new(vec![values]), &options(choice), choice);
}
