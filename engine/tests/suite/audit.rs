//! The audit finds models that look ahead or at other rows, however little, and leaves honest ones alone.

use cairn_engine::backend::{Kind, Options};
use cairn_engine::data::Dataset;
use cairn_engine::graph::{Binary, DType, Graph, Init, NodeId, Param, Program, Shape};
use cairn_engine::run::{State, Trained, audit};
use cairn_protocol::{Hash32, Seed};

const VOCAB: u32 = 256;
const ROWS: u32 = 4;
const CONTEXT: u32 = 16;
const SEED: Seed = Seed([3; 32]);
const OPTIONS: Options = Options { kind: Kind::Reference, threads: 1, isa: None, fuse: false, micro_batch: None };

fn text() -> Dataset {
    let letters = (0..40_000u32).map(|i| b'a' + (i.wrapping_mul(2_654_435_761) >> 27) as u8 % 26);
    Dataset::load("bytes", &letters.collect::<Vec<u8>>()).unwrap()
}

/// A bigram model, whose outputs `twist` then changes; it also gets the tokens' embeddings, [ROWS, CONTEXT, VOCAB].
fn model(twist: fn(&mut Graph, NodeId) -> NodeId) -> Program {
    let mut eval = Graph::default();
    let table = eval.param(0, Shape(vec![VOCAB, VOCAB])).unwrap();
    let x = eval.input(0, Shape(vec![ROWS, CONTEXT]), DType::I32).unwrap();
    let logits = eval.embedding(table, x).unwrap();
    let output = twist(&mut eval, logits);
    let table = Param {
        name: "table".into(),
        shape: Shape(vec![VOCAB, VOCAB]),
        init: Init::Normal(1f32.to_bits()),
        tag: String::new(),
    };
    Program {
        params: vec![table],
        states: vec![],
        phases: vec![],
        eval,
        eval_batch: ROWS,
        output,
        table_names: vec![],
        tables: vec![],
        steps: vec![],
    }
}

/// `x` plus a thousandth of `x` moved by one along `axis`.
fn plus_neighbour(g: &mut Graph, x: NodeId, axis: u8, ahead: bool) -> NodeId {
    let n = g.shape(x).unwrap().0[usize::from(axis)];
    let part = g.slice(x, axis, u32::from(ahead), n - 1).unwrap();
    let (before, after) = if ahead { (0, 1) } else { (1, 0) };
    let moved = g.pad(part, axis, before, after).unwrap();
    let little = g.full(1e-3f32.to_bits(), Shape::default()).unwrap();
    let moved = g.binary(Binary::Mul, moved, little).unwrap();
    g.binary(Binary::Add, x, moved).unwrap()
}

fn leaks(twist: fn(&mut Graph, NodeId) -> NodeId, key: u8) -> bool {
    let (program, data) = (model(twist), text());
    let state = State::new(&program, &SEED);
    let trained = Trained { program: &program, data: &data, context: CONTEXT, state: &state, tables: &[], seed: &SEED };
    let found = audit(&trained, &OPTIONS, &Hash32([key; 32])).unwrap();
    if let Some(leak) = found {
        assert!(leak.position <= leak.cut && leak.cut < CONTEXT - 1, "{leak:?}");
    }
    found.is_some()
}

#[test]
fn a_model_that_looks_back_only_passes_with_every_key() {
    assert!((0..4).all(|key| !leaks(|_, logits| logits, key)));
    assert!((0..4).all(|key| !leaks(|g, logits| plus_neighbour(g, logits, 1, false), key)));
}

#[test]
fn a_little_of_the_next_position_is_found() {
    assert!((0..4).all(|key| leaks(|g, logits| plus_neighbour(g, logits, 1, true), key)));
}

#[test]
fn a_little_of_another_row_is_found() {
    assert!((0..4).all(|key| leaks(|g, logits| plus_neighbour(g, logits, 0, true), key)));
    assert!((0..4).all(|key| leaks(|g, logits| plus_neighbour(g, logits, 0, false), key)));
}

/// The place of the only token that decides: half-way through a row.
const RARE: u32 = CONTEXT / 2;

#[test]
fn looking_ahead_from_one_position_in_sixteen_is_found() {
    // Only position RARE sees the one after it.
    let rarely = |g: &mut Graph, logits: NodeId| {
        let next = g.slice(logits, 1, RARE + 1, 1).unwrap();
        let moved = g.pad(next, 1, RARE, CONTEXT - RARE - 1).unwrap();
        g.binary(Binary::Add, logits, moved).unwrap()
    };
    assert!((0..4).all(|key| leaks(rarely, key)));
}
