//! Identity and pruning of programs.

use std::collections::BTreeMap;

use cairn_engine::graph::{
    Attention, AttentionInput, Binary, Conv2d, DType, Graph, GraphError, Init, NodeId, Op, Param, Phase, Program,
    Random, RowOp, Shape, StateVar, Unary, canonical_bytes, program_id,
};

use crate::cases::CASES;
use crate::programs::{Gpt, Mlp, gpt, mlp};

/// The smallest program: one parameter, doubled each step.
fn small() -> Program {
    let mut graph = Graph::default();
    graph.set_line(1);
    let w = graph.param(0, Shape(vec![2])).unwrap();
    let doubled = graph.binary(Binary::Add, w, w).unwrap();
    let loss = graph.full(0, Shape::default()).unwrap();
    let mut eval = Graph::default();
    let output = eval.param(0, Shape(vec![2])).unwrap();
    Program {
        params: vec![Param {
            name: "w".into(),
            shape: Shape(vec![2]),
            init: Init::Normal(0x3f80_0000),
            tag: "t".into(),
        }],
        states: vec![StateVar { name: "w/m".into(), shape: Shape(vec![2]) }],
        phases: vec![Phase {
            share_ppm: 1_000_000,
            batch: 4,
            context: 8,
            graph,
            loss,
            params_out: vec![doubled],
            states_out: vec![w],
        }],
        eval,
        eval_batch: 3,
        output,
        table_names: vec!["rate".into()],
        tables: vec![vec![0.5, 0.25]],
        steps: vec![2],
    }
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let word = |n: u32| n.to_be_bytes().to_vec();
    let expected = [
        vec![0, 1],
        // Parameters.
        [word(1), word(1), b"w".to_vec(), word(1), word(2), vec![1], word(0x3f80_0000)].concat(),
        // States.
        [word(1), word(3), b"w/m".to_vec(), word(1), word(2)].concat(),
        // One phase: batch, context, three nodes, loss, new parameters, new states.
        [word(1), word(4), word(8), word(3)].concat(),
        [vec![1], word(0), word(0), word(1), word(2), vec![0]].concat(),
        [vec![9, 0], word(2), word(0), word(0), word(1), word(2), vec![0]].concat(),
        [vec![4], word(0), word(0), word(0), vec![0]].concat(),
        [word(2), word(1), word(1), word(1), word(0)].concat(),
        // Steps, rows of an evaluation batch.
        [word(1), word(2), word(3)].concat(),
        // Evaluation: one node, output 0.
        [word(1), vec![1], word(0), word(0), word(1), word(2), vec![0], word(0)].concat(),
        // Tables.
        [word(1), word(2), word(0x3f00_0000), word(0x3e80_0000)].concat(),
    ];
    assert_eq!(canonical_bytes(&small()), expected.concat());
    assert_eq!(program_id(&small()).0, cairn_protocol::hash("graph", &[&expected.concat()]));
}

/// Pinned: a change here changes the id of every experiment, and needs a new arithmetic version.
#[test]
fn ids_of_known_programs() {
    assert_eq!(program_id(&small()).short(), "ba8d6118");
    assert_eq!(program_id(&gpt(&Gpt::TINY)).short(), "800b5491");
    assert_eq!(program_id(&mlp(&Mlp::TINY)).short(), "5ce46dfc");
}

/// A change of a program, and its name.
type Change = (&'static str, fn(&mut Program));

#[test]
fn what_changes_no_result_changes_no_id() {
    let changes: &[Change] = &[
        ("tag", |p| p.params[0].tag = "other".into()),
        ("table name", |p| p.table_names[0] = "other".into()),
        ("share", |p| p.phases[0].share_ppm = 1),
        ("lines", |p| {
            let old = std::mem::take(&mut p.phases[0].graph);
            for (id, node) in (0..).zip(old.nodes()) {
                let graph = &mut p.phases[0].graph;
                graph.set_line(old.line_of(id) + 100);
                match &node.op {
                    Op::Param(i) => graph.param(*i, node.shape.clone()),
                    Op::Binary(op) => graph.binary(*op, node.inputs[0], node.inputs[1]),
                    _ => graph.full(0, node.shape.clone()),
                }
                .unwrap();
            }
        }),
    ];
    for (name, change) in changes {
        let mut program = small();
        change(&mut program);
        assert_eq!(program_id(&program), program_id(&small()), "{name}");
    }
}

#[test]
fn what_may_change_a_result_changes_the_id() {
    let changes: &[Change] = &[
        ("parameter name", |p| p.params[0].name = "v".into()),
        ("parameter shape", |p| p.params[0].shape = Shape(vec![2, 1])),
        ("kind of initialisation", |p| p.params[0].init = Init::Uniform(0x3f80_0000)),
        ("initialisation", |p| p.params[0].init = Init::Normal(0x3f80_0001)),
        ("one parameter less", |p| p.params.clear()),
        ("state name", |p| p.states[0].name = "w/v".into()),
        ("state shape", |p| p.states[0].shape = Shape(vec![])),
        ("batch", |p| p.phases[0].batch += 1),
        ("context", |p| p.phases[0].context += 1),
        ("loss", |p| p.phases[0].loss = 0),
        ("new parameter", |p| p.phases[0].params_out[0] = 0),
        ("new state", |p| p.phases[0].states_out[0] = 1),
        ("from one list to the next", |p| {
            p.phases[0].params_out = vec![1, 0];
            p.phases[0].states_out.clear();
        }),
        ("a node more", |p| {
            p.phases[0].graph.full(0, Shape::default()).unwrap();
        }),
        ("evaluation rows", |p| p.eval_batch += 1),
        ("evaluation", |p| {
            p.eval.unary(Unary::Exp, 0).unwrap();
        }),
        ("output", |p| p.output += 1),
        ("a table's value", |p| p.tables[0][1] = f32::from_bits(p.tables[0][1].to_bits() + 1)),
        ("a table's length", |p| p.tables[0].push(0.0)),
        ("another table", |p| p.tables.push(vec![])),
        ("steps", |p| p.steps[0] += 1),
        ("phases", |p| p.phases.push(p.phases[0].clone())),
    ];
    let mut ids = BTreeMap::from([(program_id(&small()), "unchanged")]);
    for (name, change) in changes {
        let mut program = small();
        change(&mut program);
        assert_eq!(ids.insert(program_id(&program), name), None, "{name}");
    }
}

/// Operands of each kind, from which the nodes below are built.
struct Operands {
    square: NodeId,
    heads: NodeId,
    ids: NodeId,
    row_ids: NodeId,
    vector: NodeId,
}

fn operands(g: &mut Graph) -> Operands {
    Operands {
        square: g.full(0, Shape(vec![4, 4])).unwrap(),
        heads: g.full(0, Shape(vec![1, 2, 4, 2])).unwrap(),
        ids: g.full_int(0, Shape(vec![4, 4])).unwrap(),
        row_ids: g.full_int(0, Shape(vec![4])).unwrap(),
        vector: g.full(0, Shape(vec![4])).unwrap(),
    }
}

/// Every operation with different fields: each gives another encoding.
#[test]
fn every_operation_and_field_is_in_the_bytes() {
    type Build = Box<dyn Fn(&mut Graph, &Operands) -> Result<NodeId, GraphError>>;
    let mut builds: Vec<Build> = vec![];
    let mut add = |build: Build| builds.push(build);
    let scalar = Shape::default;
    for i in [0, 1, 2] {
        if i < 2 {
            add(Box::new(move |g, _| g.input(i as u8, scalar(), DType::F32)));
            add(Box::new(move |g, _| g.input(i as u8, scalar(), DType::I32)));
        }
        add(Box::new(move |g, _| g.param(i, scalar())));
        add(Box::new(move |g, _| g.state(i, scalar())));
        add(Box::new(move |g, _| g.table(i)));
        add(Box::new(move |g, _| g.full(i, scalar())));
        add(Box::new(move |g, _| g.full_int(i as i32 - 1, scalar())));
        add(Box::new(move |g, _| g.arange(i + 1)));
        for kind in [Random::Uniform, Random::Normal] {
            add(Box::new(move |g, _| g.random(kind, &format!("stream{i}"), scalar())));
        }
        for op in [RowOp::RmsNorm(i), RowOp::LayerNorm(i)] {
            add(Box::new(move |g, o| g.row(op, &[o.square])));
        }
        for op in [RowOp::RmsNormGrad(i), RowOp::LayerNormGrad(i)] {
            add(Box::new(move |g, o| g.row(op, &[o.square, o.square])));
        }
        add(Box::new(move |g, o| g.scatter_add(o.ids, o.square, 0, i + 1)));
        add(Box::new(move |g, o| g.scatter_add(o.ids, o.square, 1, i + 1)));
        add(Box::new(move |g, o| g.topk(o.square, i + 1)));
        add(Box::new(move |g, o| g.embedding_grad(o.row_ids, o.square, i + 1)));
        add(Box::new(move |g, o| g.take_grad(o.row_ids, o.vector, i + 1)));
        add(Box::new(move |g, o| g.pad(o.square, 0, i, 1)));
        add(Box::new(move |g, o| g.pad(o.square, 1, 1, i + 2)));
        add(Box::new(move |g, o| g.slice(o.square, 0, i, 1)));
        add(Box::new(move |g, o| g.slice(o.square, 1, i, 1)));
        for inverse in [false, true] {
            add(Box::new(move |g, o| g.rope(o.square, i, inverse)));
        }
    }
    for op in [
        Unary::Neg,
        Unary::Exp,
        Unary::Log,
        Unary::Sqrt,
        Unary::Rsqrt,
        Unary::Recip,
        Unary::Tanh,
        Unary::Sigmoid,
        Unary::Erf,
        Unary::Sin,
        Unary::Cos,
        Unary::Relu,
        Unary::Abs,
        Unary::Sign,
        Unary::Floor,
        Unary::Round,
        Unary::RoundBf16,
    ] {
        add(Box::new(move |g, o| g.unary(op, o.square)));
    }
    for op in [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Max,
        Binary::Min,
        Binary::Lt,
        Binary::Le,
        Binary::Eq,
    ] {
        add(Box::new(move |g, o| g.binary(op, o.square, o.square)));
    }
    for op in [RowOp::Softmax, RowOp::LogSoftmax] {
        add(Box::new(move |g, o| g.row(op, &[o.square])));
    }
    for op in [RowOp::SoftmaxGrad, RowOp::LogSoftmaxGrad] {
        add(Box::new(move |g, o| g.row(op, &[o.square, o.square])));
    }
    let base = Attention { causal: false, window: 0, scale: 0, soft_cap: 0 };
    for options in [
        base,
        Attention { causal: true, ..base },
        Attention { window: 1, ..base },
        Attention { scale: 1, ..base },
        Attention { soft_cap: 1, ..base },
    ] {
        add(Box::new(move |g, o| g.attention(o.heads, o.heads, o.heads, options)));
        for of in [AttentionInput::Q, AttentionInput::K, AttentionInput::V] {
            add(Box::new(move |g, o| g.attention_grad([o.heads; 5], options, of)));
        }
    }
    for flags in [(false, false), (false, true), (true, false), (true, true)] {
        add(Box::new(move |g, o| g.contraction((o.square, flags.0), (o.square, flags.1))));
    }
    let base = Conv2d { stride: [1, 1], padding: [3, 3], dilation: [1, 1], groups: 1 };
    for options in [
        base,
        Conv2d { stride: [2, 1], ..base },
        Conv2d { stride: [1, 2], ..base },
        Conv2d { padding: [4, 3], ..base },
        Conv2d { padding: [3, 4], ..base },
        Conv2d { dilation: [2, 1], ..base },
        Conv2d { dilation: [1, 2], ..base },
        Conv2d { groups: 2, ..base },
    ] {
        let kernel = |g: &mut Graph, o: &Operands, options: Conv2d| match options.groups {
            1 => Ok(o.heads),
            _ => g.full(0, Shape(vec![2, 1, 4, 2])),
        };
        add(Box::new(move |g, o| {
            let w = kernel(g, o, options)?;
            g.conv2d(o.heads, w, options)
        }));
        for of_input in [true, false] {
            add(Box::new(move |g, o| {
                let w = kernel(g, o, options)?;
                let heads = [1, 2, 4, 2];
                let out = [0, 1].map(|axis| options.output_len(axis, heads[axis + 2], heads[axis + 2]).unwrap() as u32);
                let dy = g.full(0, Shape(vec![1, g.shape(w)?.0[0], out[0], out[1]]))?;
                match of_input {
                    true => g.conv2d_input_grad(w, dy, options, [4, 2]),
                    false => g.conv2d_weight_grad(o.heads, dy, options, [4, 2]),
                }
            }));
        }
    }
    for axis in [0, 1] {
        add(Box::new(move |g, o| g.gather(o.square, o.ids, axis)));
        add(Box::new(move |g, o| g.gather(o.ids, o.ids, axis)));
        for reverse in [false, true] {
            add(Box::new(move |g, o| g.cumsum(o.square, axis, reverse)));
        }
    }
    add(Box::new(|g, o| g.unary(Unary::ToFloat, o.ids)));
    add(Box::new(|g, o| g.unary(Unary::ToInt, o.square)));
    add(Box::new(|g, o| g.where_(o.square, o.ids, o.ids)));
    add(Box::new(|g, o| g.where_(o.square, o.square, o.square)));
    add(Box::new(|g, o| g.where_(o.square, o.square, o.vector)));
    add(Box::new(|g, o| g.stop_gradient(o.square)));
    for axes in [&[0u8][..], &[1], &[0, 1]] {
        add(Box::new(|g, o| g.sum(o.square, axes)));
        add(Box::new(|g, o| g.max(o.square, axes)));
    }
    add(Box::new(|g, o| g.argmax(o.square)));
    add(Box::new(|g, o| g.row(RowOp::CrossEntropy, &[o.square, o.row_ids])));
    add(Box::new(|g, o| g.row(RowOp::CrossEntropyGrad, &[o.square, o.row_ids, o.vector])));
    add(Box::new(|g, o| g.embedding(o.square, o.row_ids)));
    add(Box::new(|g, o| g.take(o.square, o.row_ids)));
    add(Box::new(|g, o| g.reshape(o.square, Shape(vec![16]))));
    add(Box::new(|g, o| g.permute(o.square, &[1, 0])));
    add(Box::new(|g, o| g.permute(o.square, &[0, 1])));
    add(Box::new(|g, o| g.broadcast_to(o.square, Shape(vec![1, 4, 4]))));
    for axis in [0, 1] {
        add(Box::new(move |g, o| g.concat(&[o.square, o.square], axis)));
    }
    add(Box::new(|g, o| g.concat(&[o.square], 0)));

    let mut seen = BTreeMap::new();
    for (i, build) in builds.iter().enumerate() {
        let mut program = small();
        let mut graph = Graph::default();
        let operands = operands(&mut graph);
        build(&mut graph, &operands).unwrap();
        program.eval = graph;
        let last = program.eval.nodes().last().unwrap().op.clone();
        if let Some(other) = seen.insert(canonical_bytes(&program), last.clone()) {
            panic!("{other:?} and {last:?}, the {i}th, have the same bytes");
        }
    }
}

#[test]
fn pruning_keeps_what_is_wanted_in_order_and_nothing_else() {
    for case in CASES {
        let mut built = case.build();
        let (loss, gradients) = built.differentiate();
        let wanted = [&[loss][..], &gradients].concat();
        let (pruned, roots) = built.graph.pruned(&wanted);
        let (again, same) = pruned.pruned(&roots);
        assert_eq!((again.nodes(), &same), (pruned.nodes(), &roots), "{}: a second pruning does nothing", case.name);
        let mut used: Vec<bool> = vec![false; pruned.len()];
        roots.iter().for_each(|&root| used[root as usize] = true);
        for (id, node) in pruned.nodes().iter().enumerate() {
            assert!(node.inputs.iter().all(|&input| (input as usize) < id), "{}", case.name);
            node.inputs.iter().for_each(|&input| used[input as usize] = true);
        }
        assert!(used.iter().all(|&used| used), "{}: every node is used or wanted", case.name);
        for (&old, &new) in wanted.iter().zip(&roots) {
            let (old_node, new_node) = (&built.graph.nodes()[old as usize], &pruned.nodes()[new as usize]);
            assert_eq!((&old_node.op, &old_node.shape), (&new_node.op, &new_node.shape), "{}", case.name);
            assert_eq!(built.graph.line_of(old), pruned.line_of(new));
        }
    }
}

#[test]
fn dead_code_leaves_no_trace() {
    let mut graph = Graph::default();
    let a = graph.param(0, Shape(vec![2])).unwrap();
    let dead = graph.unary(Unary::Exp, a).unwrap();
    graph.set_line(4);
    let b = graph.unary(Unary::Tanh, a).unwrap();
    graph.binary(Binary::Add, dead, b).unwrap();
    let (pruned, roots) = graph.pruned(&[b, a, b]);
    assert_eq!(roots, [1, 0, 1]);
    assert_eq!(pruned.nodes().iter().map(|n| n.op.clone()).collect::<Vec<_>>(), [Op::Param(0), Op::Unary(Unary::Tanh)]);
    assert_eq!((pruned.line_of(0), pruned.line_of(1)), (0, 4));
}
