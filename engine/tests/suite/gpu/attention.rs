//! What is special about the kernels of attention: tiles, masks that hide some of them, chunks, blocks, shared keys.

use cairn_engine::backend::{Options, Tensor};
use cairn_engine::gpu::{Choice, Form};
use cairn_engine::graph::AttentionInput::{K, Q, V};
use cairn_engine::graph::{Attention, Binary, DType, Graph, NodeId, Shape};

use super::{agree, agree_with, choices, options};
use crate::cpu_exact::{Point, hostile};

const PLAIN: Attention = Attention { causal: false, window: 0, scale: 0.37f32.to_bits(), soft_cap: 0 };
const CAUSAL: Attention = Attention { causal: true, ..PLAIN };

/// Batch, heads, heads of keys, queries, keys, width.
type Lengths = [u32; 6];

/// Attention and its gradients, of parameters: the graph, and these four.
fn graph(options: Attention, [batch, heads, key_heads, queries, keys, width]: Lengths) -> (Graph, [NodeId; 4]) {
    let mut g = Graph::default();
    let mut param = |i: u32, shape: [u32; 4]| g.param(i, Shape(shape.to_vec())).unwrap();
    let q = param(0, [batch, heads, queries, width]);
    let [k, v] = [1, 2].map(|i| param(i, [batch, key_heads, keys, width]));
    let dy = param(3, [batch, heads, queries, width]);
    let y = g.attention(q, k, v, options).unwrap();
    let [dq, dk, dv] = [Q, K, V].map(|of| g.attention_grad([q, k, v, y, dy], options, of).unwrap());
    (g, [y, dq, dk, dv])
}

/// Parameters on which nothing saturates, or hostile ones.
fn point([batch, heads, key_heads, queries, keys, width]: Lengths, is_hostile: bool) -> Point {
    let (q, k) = (batch * heads * queries * width, batch * key_heads * keys * width);
    let all = [q, k, k, q].into_iter().zip(0..).map(|(len, i)| {
        let mut x = hostile(&format!("attention {i}"), len as usize);
        if !is_hostile {
            x.iter_mut().for_each(|x| *x = x.clamp(-2.0, 2.0));
        }
        x
    });
    Point::new(all.collect())
}

fn check(options: Attention, lengths: Lengths) {
    let (g, wanted) = graph(options, lengths);
    let name = format!("{options:?} {lengths:?}");
    agree(&format!("{name}, hostile"), &g, &wanted, &point(lengths, true));
    agree(&name, &g, &wanted, &point(lengths, false));
}

#[test]
fn every_mask_with_every_cap_and_sharing() {
    let masks = [CAUSAL, Attention { window: 20, ..PLAIN }, Attention { window: 70, ..CAUSAL }];
    for (mask, n) in masks.into_iter().flat_map(|mask| [5, 17, 65, 130, 300].map(|n| (mask, n))) {
        for (soft_cap, key_heads) in [(0, 2), (2.5f32.to_bits(), 1)] {
            check(Attention { soft_cap, ..mask }, [1, 2, key_heads, n, n, 8]);
        }
    }
    check(Attention { soft_cap: 0.5f32.to_bits(), ..CAUSAL }, [1, 2, 2, 40, 40, 20]);
    check(CAUSAL, [2, 6, 2, 33, 33, 16]);
}

#[test]
fn queries_and_keys_of_every_length() {
    for (queries, keys) in [
        (1, 1),
        (1, 300),
        (5, 16),
        (16, 5),
        (16, 64),
        (17, 65),
        (64, 257),
        (65, 17),
        (257, 64),
        (300, 1),
        (256, 257),
        (257, 256),
    ] {
        check(PLAIN, [1, 1, 1, queries, keys, 4]);
    }
    check(PLAIN, [1, 2, 1, 65, 300, 12]);
    check(PLAIN, [3, 4, 2, 5, 7, 6]);
}

#[test]
fn rows_of_every_width() {
    for width in [1, 3, 4, 8, 16, 20, 33, 64, 65, 130, 260, 600] {
        check(CAUSAL, [1, 1, 1, 19, 19, width]);
        check(PLAIN, [1, 2, 1, 5, 70, width]);
    }
    // Rows that are rounded beforehand.
    check(PLAIN, [1, 1, 1, 40, 130, 64]);
    check(PLAIN, [1, 1, 1, 130, 40, 260]);
}

#[test]
fn workgroups_of_every_size() {
    // Many heads have longer tiles of rows than few.
    check(CAUSAL, [2, 65, 65, 70, 70, 4]);
    check(PLAIN, [2, 65, 65, 33, 20, 8]);
    for lengths in
        [[1, 64, 64, 65, 20, 64], [1, 64, 64, 20, 65, 64], [1, 32, 32, 65, 20, 130], [1, 32, 32, 20, 65, 130]]
    {
        let (g, wanted) = graph(PLAIN, lengths);
        agree(&format!("{lengths:?}"), &g, &wanted, &point(lengths, false));
    }
}

#[test]
fn keys_and_rows_beyond_a_block() {
    check(PLAIN, [1, 1, 1, 3, 4096 + 70, 2]);
    check(PLAIN, [1, 1, 1, 4096 + 70, 3, 2]);
    check(Attention { window: 9, ..PLAIN }, [1, 1, 1, 4096 + 30, 4096 + 30, 1]);
    check(PLAIN, [1, 1, 1, 2, 3, 4096 + 20]);
}

#[test]
fn each_gradient_alone() {
    for (options, lengths) in [(CAUSAL, [1, 2, 1, 70, 70, 8]), (PLAIN, [2, 2, 2, 9, 20, 5])] {
        let (g, [_, gradients @ ..]) = graph(options, lengths);
        let point = point(lengths, false);
        for of in gradients {
            agree(&format!("{:?} {lengths:?}", g.nodes()[of as usize].op), &g, &[of], &point);
        }
        let [dq, dk, dv] = gradients;
        for two in [[dq, dv], [dk, dv], [dq, dk]] {
            agree(&format!("two gradients {lengths:?}"), &g, &two, &point);
        }
    }
}

#[test]
fn contractions_of_every_form() {
    // A device may keep the rules in one form and break them in another; this one keeps them in all.
    for form in [Form::Plain, Form::Fma] {
        for lengths in [[1, 2, 1, 70, 70, 16], [1, 1, 1, 300, 300, 4]] {
            let (g, wanted) = graph(CAUSAL, lengths);
            for choice in choices().iter().map(|&choice| Choice { form, ..choice }) {
                let name = format!("{form:?} {lengths:?}");
                agree_with(&name, &g, &wanted, &point(lengths, false), &options(choice), choice);
            }
        }
    }
}

#[test]
fn slices_of_the_batch() {
    let mut g = Graph::default();
    let shape = Shape(vec![4, 2, 21, 8]);
    let [q, k] = [0, 1].map(|i| g.input(i, shape.clone(), DType::F32).unwrap());
    let v = g.binary(Binary::Add, q, k).unwrap();
    let y = g.attention(q, k, v, CAUSAL).unwrap();
    let mut wanted = vec![y];
    wanted.extend([Q, K, V].map(|of| g.attention_grad([q, k, v, y, k], CAUSAL, of).unwrap()));
    let mut point = Point::new(vec![]);
    point.inputs = ["q", "k"].map(|name| Tensor::F32(hostile(name, shape.elements() as usize)));
    for micro_batch in [1, 2] {
        for &choice in choices() {
            let options = Options { micro_batch: Some(micro_batch), ..options(choice) };
            agree_with(&format!("slices of {micro_batch}"), &g, &wanted, &point, &options, choice);
        }
    }
}

/// Query heads that share keys, of more queries than one kernel's loops may have turns for.
#[test]
fn many_long_heads_share_keys() {
    let lengths = [1, 40, 1, 700, 100, 4];
    let (g, [_, _, dk, dv]) = graph(PLAIN, lengths);
    let choice = choices()[0];
    agree_with("shared keys", &g, &[dk, dv], &point(lengths, false), &options(choice), choice);
}
