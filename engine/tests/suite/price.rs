//! Prices and peak memory.

use cairn_engine::graph::{
    Attention, AttentionInput, Binary, Conv2d, DType, Graph, NodeId, Random, RowOp, Shape, Unary,
};
use cairn_engine::price::{self, NODE_MIN, STEPS_MAX};

use crate::programs::{Gpt, gpt};

/// Builds one node on its own operands.
type Build = fn(&mut Graph) -> NodeId;

fn f(g: &mut Graph, shape: &[u32]) -> NodeId {
    g.param(0, Shape(shape.to_vec())).unwrap()
}

fn i(g: &mut Graph, shape: &[u32]) -> NodeId {
    g.input(0, Shape(shape.to_vec()), DType::I32).unwrap()
}

/// Two groups; as many rows as before, one column less.
/// Elements of a convolution's input, kernel and output.
const X: u64 = 4 * 4 * 10 * 10;
const W: u64 = 6 * 2 * 3 * 2;
const Y: u64 = 4 * 6 * 10 * 9;
const GROUPED: Conv2d = Conv2d { stride: [1, 1], padding: [1, 0], dilation: [1, 1], groups: 2 };

const CAUSAL: Attention = Attention { causal: true, window: 0, scale: 0, soft_cap: 0 };

/// Attention of 2 batches and 4 heads, 100 positions of 16 channels.
fn attention(g: &mut Graph, options: Attention) -> NodeId {
    let (q, k) = (f(g, &[2, 4, 100, 16]), f(g, &[2, 2, 100, 16]));
    g.attention(q, k, k, options).unwrap()
}

fn attention_grad(g: &mut Graph, of: AttentionInput) -> NodeId {
    let (q, k) = (f(g, &[2, 4, 100, 16]), f(g, &[2, 2, 100, 16]));
    g.attention_grad([q, k, k, q, q], CAUSAL, of).unwrap()
}

#[test]
fn the_price_table() {
    const PAIRS: u64 = 8 * 100 * 101 / 2;
    const K: u64 = 1000;
    let table: &[(&str, u64, Build)] = &[
        ("input", 0, |g| i(g, &[1000])),
        ("reshape", 0, |g| {
            let a = f(g, &[10, 100]);
            g.reshape(a, Shape(vec![1000])).unwrap()
        }),
        ("one constant", 0, |g| g.full(0, Shape(vec![1, 1])).unwrap()),
        ("constants", 16 * K, |g| g.full(0, Shape(vec![1000])).unwrap()),
        ("smallest node", NODE_MIN, |g| {
            let a = f(g, &[2]);
            g.unary(Unary::Neg, a).unwrap()
        }),
        ("relu", 16 * K, |g| {
            let a = f(g, &[1000]);
            g.unary(Unary::Relu, a).unwrap()
        }),
        ("exp", 32 * K, |g| {
            let a = f(g, &[1000]);
            g.unary(Unary::Exp, a).unwrap()
        }),
        ("add, broadcasting", 16 * K, |g| {
            let (a, b) = (f(g, &[100, 1]), f(g, &[10]));
            g.binary(Binary::Add, a, b).unwrap()
        }),
        ("div", 32 * K, |g| {
            let a = f(g, &[1000]);
            g.binary(Binary::Div, a, a).unwrap()
        }),
        ("uniform", 32 * K, |g| g.random(Random::Uniform, "s", Shape(vec![1000])).unwrap()),
        ("normal", 128 * K, |g| g.random(Random::Normal, "s", Shape(vec![1000])).unwrap()),
        ("sum", 8 * K, |g| {
            let a = f(g, &[10, 100]);
            g.sum(a, &[0]).unwrap()
        }),
        ("matmul", 2 * 30 * 40 * 50, |g| {
            let (a, b) = (f(g, &[30, 40]), f(g, &[40, 50]));
            g.contraction((a, false), (b, false)).unwrap()
        }),
        ("swapped, batched matmul", 2 * 3 * 30 * 40 * 50, |g| {
            let (a, b) = (f(g, &[3, 40, 30]), f(g, &[3, 50, 40]));
            g.contraction((a, true), (b, true)).unwrap()
        }),
        ("causal attention", PAIRS * (4 * 16 + 32), |g| attention(g, CAUSAL)),
        ("attention", 8 * 100 * 100 * (4 * 16 + 32), |g| attention(g, Attention { causal: false, ..CAUSAL })),
        // 1 + 2 + 3 keys for the first three queries, then 3 each.
        ("windowed", 8 * (3 + 98 * 3) * (4 * 16 + 32), |g| attention(g, Attention { window: 3, ..CAUSAL })),
        ("wide window", PAIRS * (4 * 16 + 32), |g| attention(g, Attention { window: 5000, ..CAUSAL })),
        ("soft cap", PAIRS * (4 * 16 + 64), |g| attention(g, Attention { soft_cap: 1, ..CAUSAL })),
        ("gradient of q", PAIRS * (6 * 16 + 32) + 8 * 2 * 4 * 100 * 16, |g| attention_grad(g, AttentionInput::Q)),
        ("gradient of k", PAIRS * (6 * 16 + 32) + 8 * 2 * 4 * 100 * 16, |g| attention_grad(g, AttentionInput::K)),
        ("gradient of v", PAIRS * (4 * 16 + 32), |g| attention_grad(g, AttentionInput::V)),
        ("softmax", 64 * K, |g| {
            let a = f(g, &[10, 100]);
            g.row(RowOp::Softmax, &[a]).unwrap()
        }),
        ("rms_norm", 24 * K, |g| {
            let a = f(g, &[10, 100]);
            g.row(RowOp::RmsNorm(0), &[a]).unwrap()
        }),
        ("cross entropy", 48 * K, |g| {
            let (a, ids) = (f(g, &[10, 100]), i(g, &[10]));
            g.row(RowOp::CrossEntropy, &[a, ids]).unwrap()
        }),
        ("embedding", 16 * K, |g| {
            let (table, ids) = (f(g, &[70, 10]), i(g, &[100]));
            g.embedding(table, ids).unwrap()
        }),
        ("embedding gradient", 16 * (K + 700), |g| {
            let (dy, ids) = (f(g, &[100, 10]), i(g, &[100]));
            g.embedding_grad(ids, dy, 70).unwrap()
        }),
        ("convolution", 2 * Y * (2 * 3 * 2) + 16 * (X + W + Y), |g| {
            let (x, w) = (f(g, &[4, 4, 10, 10]), f(g, &[6, 2, 3, 2]));
            g.conv2d(x, w, GROUPED).unwrap()
        }),
        ("its input gradient", 2 * Y * (2 * 3 * 2) + 16 * (X + W + Y), |g| {
            let (w, dy) = (f(g, &[6, 2, 3, 2]), f(g, &[4, 6, 10, 9]));
            g.conv2d_input_grad(w, dy, GROUPED, [10, 10]).unwrap()
        }),
        ("its kernel gradient", 2 * Y * (2 * 3 * 2) + 16 * (X + W + Y), |g| {
            let (x, dy) = (f(g, &[4, 4, 10, 10]), f(g, &[4, 6, 10, 9]));
            g.conv2d_weight_grad(x, dy, GROUPED, [3, 2]).unwrap()
        }),
        ("strided", 2 * (4 * 6 * 5 * 5) * (4 * 2 * 2) + 16 * (X + 6 * 4 * 2 * 2 + 4 * 6 * 5 * 5), |g| {
            let (w, dy) = (f(g, &[6, 4, 2, 2]), f(g, &[4, 6, 5, 5]));
            let options = Conv2d { stride: [2, 2], padding: [0, 0], groups: 1, ..GROUPED };
            g.conv2d_input_grad(w, dy, options, [10, 10]).unwrap()
        }),
        ("running sum", 24 * K, |g| {
            let a = f(g, &[10, 100]);
            g.cumsum(a, 0, true).unwrap()
        }),
        ("gather", 48 * K, |g| {
            let (x, ids) = (f(g, &[10, 7]), i(g, &[10, 100]));
            g.gather(x, ids, 1).unwrap()
        }),
        ("scatter_add", 48 * (K + 70), |g| {
            let (ids, src) = (i(g, &[10, 100]), f(g, &[10, 100]));
            g.scatter_add(ids, src, 1, 7).unwrap()
        }),
        ("the largest", 32 * K, |g| {
            let a = f(g, &[10, 100]);
            g.topk(a, 1).unwrap()
        }),
        ("the eight largest", 4 * 32 * K, |g| {
            let a = f(g, &[10, 100]);
            g.topk(a, 8).unwrap()
        }),
        ("to_int", 16 * K, |g| {
            let a = f(g, &[1000]);
            g.unary(Unary::ToInt, a).unwrap()
        }),
        ("integers chosen", 16 * K, |g| {
            let (c, a) = (f(g, &[1000]), i(g, &[]));
            g.where_(c, a, a).unwrap()
        }),
        ("permute", 16 * K, |g| {
            let a = f(g, &[10, 100]);
            g.permute(a, &[1, 0]).unwrap()
        }),
    ];
    for (name, price, build) in table {
        let mut g = Graph::default();
        let id = build(&mut g);
        assert_eq!(price::node(&g, id), *price, "{name}");
        assert_eq!(price::graph(&g), *price, "{name}: its operands are free");
    }
}

#[test]
fn a_price_saturates() {
    let mut g = Graph::default();
    let a = g.param(0, Shape(vec![2, 1 << 30])).unwrap();
    let (row, column) = (g.param(1, Shape(vec![1 << 16, 1])).unwrap(), g.param(2, Shape(vec![1, 1 << 15])).unwrap());
    let product = g.contraction((row, false), (column, false)).unwrap();
    assert_eq!(price::node(&g, product), 1 << 32);
    let tall = g.contraction((a, true), (a, false));
    assert!(tall.is_err(), "2^60 elements");
    assert_eq!(price::node(&g, 99_999), 0, "no such node");
    assert_eq!(price::evaluation(&g, a, (u64::MAX, u64::MAX)), u64::MAX);
}

#[test]
fn the_dearest_lines_come_first() {
    let mut g = Graph::default();
    let a = f(&mut g, &[1000]);
    for (line, op) in [(4, Unary::Relu), (2, Unary::Exp), (7, Unary::Relu), (4, Unary::Relu), (0, Unary::Exp)] {
        g.set_line(line);
        g.unary(op, a).unwrap();
    }
    assert_eq!(price::dearest_lines(&g, 3), [(2, 32_000), (4, 32_000), (7, 16_000)]);
    assert_eq!(price::dearest_lines(&g, 1), [(2, 32_000)]);
}

#[test]
fn peak_memory_follows_the_schedule() {
    let mut g = Graph::default();
    let p = f(&mut g, &[100]); // 400 bytes throughout
    let a = g.unary(Unary::Exp, p).unwrap();
    let b = g.unary(Unary::Exp, a).unwrap(); // a, b: 1,200
    let r = g.reshape(b, Shape(vec![10, 10])).unwrap();
    let c = g.concat(&[r, r], 0).unwrap(); // b, c: 400 + 400 + 800; a is gone
    let d = g.sum(c, &[0, 1]).unwrap(); // c, d: 400 + 800 + 4
    assert_eq!(price::peak_bytes(&g, &[d]), 1600);
    assert_eq!(price::peak_bytes(&g, &[d, a]), 2000, "a stays");
    assert_eq!(price::peak_bytes(&g, &[d, r]), 1604, "b stays under its other name");
    assert_eq!(price::peak_bytes(&g, &[d, p]), 2000, "a parameter that is wanted is copied");
    assert_eq!(price::peak_bytes(&g, &[d, d]), 1604, "so is what is wanted twice");
    assert_eq!(price::peak_bytes(&Graph::default(), &[]), 0);
}

#[test]
fn the_lines_that_hold_most_are_those_of_the_fullest_moment() {
    let mut g = Graph::default();
    g.set_line(1);
    let p = f(&mut g, &[100]);
    g.set_line(2);
    let a = g.unary(Unary::Exp, p).unwrap();
    g.set_line(3);
    let b = g.unary(Unary::Exp, a).unwrap();
    g.set_line(4);
    let c = g.concat(&[b, b], 0).unwrap();
    let d = g.sum(c, &[0]).unwrap();
    // While c is made, a is gone.
    assert_eq!(price::largest_lines(&g, &[d], 3), [(4, 800), (1, 400), (3, 400)]);
    assert_eq!(price::largest_lines(&g, &[d], 1), [(4, 800)]);
    assert_eq!(price::largest_lines(&g, &[d, a, a], 4), [(2, 800), (4, 800), (1, 400), (3, 400)], "wanted, and twice");
    assert!(price::largest_lines(&Graph::default(), &[], 3).is_empty());
}

#[test]
fn a_program_needs_what_its_largest_graph_needs() {
    let program = gpt(&Gpt::TINY);
    let phase = &program.phases[0];
    let wanted = [&phase.params_out[..], &phase.states_out, &[phase.loss]].concat();
    let floats: u64 = program.params.iter().map(|p| p.shape.elements()).sum();
    assert_eq!(price::program_peak_bytes(&program), price::peak_bytes(&phase.graph, &wanted));
    assert!(price::program_peak_bytes(&program) >= 4 * 6 * floats, "parameters and two states, old and new");
}

#[test]
fn the_budget_buys_steps() {
    let one = price::steps(&[1000], &[1_000_000], 500, 100_499).unwrap();
    assert_eq!((one.steps, one.total), (vec![99], 99_500));
    let two = price::steps(&[1000, 500], &[250_000, 750_000], 0, 100_000).unwrap();
    assert_eq!((two.steps, two.total, two.step_price), (vec![25, 150], 100_000, vec![1000, 500]));
    let many = price::steps(&[1, 1], &[500_000, 500_000], 7, 1 << 40).unwrap();
    assert_eq!(many.steps.iter().map(|&n| u64::from(n)).sum::<u64>(), STEPS_MAX);
    assert_eq!(many.total, STEPS_MAX + 7);
    let lopsided = price::steps(&[1 << 40, 1], &[999_999, 1], 0, 1 << 42).unwrap();
    assert_eq!(lopsided.steps[0], 1, "at least one step of each phase is left");
    assert!(lopsided.steps.iter().map(|&n| u64::from(n)).sum::<u64>() <= STEPS_MAX);
    type Refused = (&'static [u64], &'static [u32], u64, u64, &'static str);
    let refused: &[Refused] = &[
        (&[1000], &[1_000_000], 500, 400, "evaluations"),
        (&[1000], &[1_000_000], 500, 16_499, "buys 15 steps"),
        (&[1000, 1_000_000], &[500_000, 500_000], 0, 1_000_000, "phase 1"),
        (&[1000], &[999_999], 0, 1_000_000, "sum to 1"),
        (&[1000, 1000], &[1_000_000], 0, 1_000_000, "phases"),
        (&[], &[], 0, 1_000_000, "phases"),
    ];
    for (prices, shares, evaluation, budget, word) in refused {
        let refusal = price::steps(prices, shares, *evaluation, *budget).unwrap_err();
        assert!(refusal.contains(word), "{refusal}");
    }
    assert!(price::steps(&[u64::MAX], &[1_000_000], 0, u64::MAX).is_err());
}
