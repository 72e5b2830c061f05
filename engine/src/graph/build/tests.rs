//! Shapes, folds and refusals of the checked constructors.
#![allow(clippy::unwrap_used)]

use super::super::{Attention, Binary, DType, ELEMENTS_MAX, Graph, NODES_MAX, NodeId, Op, RowOp, Shape, Unary};
use super::{Built, GraphError};

fn f(g: &mut Graph, shape: &[u32]) -> NodeId {
    g.full(0, Shape(shape.to_vec())).unwrap()
}

fn i(g: &mut Graph, shape: &[u32]) -> NodeId {
    g.full_int(0, Shape(shape.to_vec())).unwrap()
}

#[test]
fn broadcasting_is_numpys() {
    type Case = (&'static [u32], &'static [u32], Option<&'static [u32]>);
    let cases: &[Case] = &[
        (&[2, 3], &[3], Some(&[2, 3])),
        (&[2, 1], &[1, 3], Some(&[2, 3])),
        (&[], &[4], Some(&[4])),
        (&[2, 3], &[2], None),
    ];
    for (a, b, want) in cases {
        let mut g = Graph::default();
        let (a, b) = (f(&mut g, a), f(&mut g, b));
        let got = g.binary(Binary::Add, a, b);
        assert_eq!(got.ok().map(|id| g.shape(id).unwrap().0.clone()).as_deref(), *want);
    }
}

#[test]
fn a_product_with_a_weight_flattens_and_a_transposition_becomes_a_flag() {
    let mut g = Graph::default();
    let (x, w) = (f(&mut g, &[2, 5, 3]), f(&mut g, &[7, 3]));
    let wt = g.permute(w, &[1, 0]).unwrap();
    let y = g.matmul(x, wt).unwrap();
    assert_eq!(g.shape(y).unwrap().0, [2, 5, 7]);
    let product = g.nodes().iter().find(|n| matches!(n.op, Op::MatMul { .. })).unwrap();
    assert_eq!((product.op.clone(), product.shape.0.clone()), (Op::MatMul { ta: false, tb: true }, vec![10, 7]));
    assert_eq!(product.inputs[1], w);
}

#[test]
fn a_batched_product_broadcasts_its_leading_axes() {
    let mut g = Graph::default();
    let (a, b) = (f(&mut g, &[4, 1, 2, 3]), f(&mut g, &[6, 5, 3]));
    let bt = g.permute(b, &[0, 2, 1]).unwrap();
    let y = g.matmul(a, bt).unwrap();
    assert_eq!(g.shape(y).unwrap().0, [4, 6, 2, 5]);
    let product = g.nodes().iter().find(|n| matches!(n.op, Op::MatMul { .. })).unwrap();
    assert_eq!((product.op.clone(), product.shape.0.clone()), (Op::MatMul { ta: false, tb: true }, vec![24, 2, 5]));
    assert!(matches!(g.matmul(a, b), Err(GraphError::Shape(_))), "inner lengths 3 and 5 differ");
}

/// One way to build a node that must be refused.
type Wrong = fn(&mut Graph) -> Built;

#[test]
fn every_misfit_is_an_error_of_its_kind() {
    let shape: &[(&str, Wrong)] = &[
        ("reshape", |g| f(g, &[6]).pipe(|a| g.reshape(a, Shape(vec![4])))),
        ("permute twice", |g| f(g, &[2, 3]).pipe(|a| g.permute(a, &[0, 0]))),
        ("broadcast down", |g| f(g, &[2, 3]).pipe(|a| g.broadcast_to(a, Shape(vec![3])))),
        ("slice outside", |g| f(g, &[4]).pipe(|a| g.slice(a, 0, 2, 3))),
        ("slice overflow", |g| f(g, &[4]).pipe(|a| g.slice(a, 0, u32::MAX, u32::MAX))),
        ("sum of no axis", |g| f(g, &[4]).pipe(|a| g.sum(a, &[]))),
        ("sum outside", |g| f(g, &[4]).pipe(|a| g.sum(a, &[1]))),
        ("max twice", |g| f(g, &[4]).pipe(|a| g.max(a, &[0, 0]))),
        ("argmax of a scalar", |g| f(g, &[]).pipe(|a| g.argmax(a))),
        ("empty axis", |g| g.full(0, Shape(vec![0]))),
        ("concat of nothing", |g| g.concat(&[], 0)),
        ("odd rope", |g| f(g, &[4, 3]).pipe(|a| g.rope(a, 0, false))),
        ("softmax of a scalar", |g| f(g, &[]).pipe(|a| g.row(RowOp::Softmax, &[a]))),
        ("softmax of two", |g| f(g, &[2]).pipe(|a| g.row(RowOp::Softmax, &[a, a]))),
        ("matmul of vectors", |g| f(g, &[2]).pipe(|a| g.matmul(a, a))),
        ("embedding of a vector", |g| (f(g, &[2]), i(g, &[2])).pipe(|(t, a)| g.embedding(t, a))),
        ("take by other rows", |g| (f(g, &[2, 3]), i(g, &[3])).pipe(|(x, a)| g.take(x, a))),
        ("causal, fewer keys", |g| {
            let options = Attention { causal: true, window: 0, scale: 0, soft_cap: 0 };
            (f(g, &[1, 2, 4, 8]), f(g, &[1, 2, 3, 8])).pipe(|(q, k)| g.attention(q, k, k, options))
        }),
        ("heads that do not divide", |g| {
            let options = Attention { causal: false, window: 0, scale: 0, soft_cap: 0 };
            (f(g, &[1, 3, 4, 8]), f(g, &[1, 2, 4, 8])).pipe(|(q, k)| g.attention(q, k, k, options))
        }),
    ];
    for (name, build) in shape {
        let got = build(&mut Graph::default());
        assert!(matches!(got, Err(GraphError::Shape(_))), "{name}: {got:?}");
    }
    let dtype: &[(&str, Wrong)] = &[
        ("exp of int", |g| i(g, &[2]).pipe(|a| g.unary(Unary::Exp, a))),
        ("to_float of float", |g| f(g, &[2]).pipe(|a| g.unary(Unary::ToFloat, a))),
        ("int plus int", |g| i(g, &[2]).pipe(|a| g.binary(Binary::Add, a, a))),
        ("mixed compare", |g| (f(g, &[2]), i(g, &[2])).pipe(|(a, b)| g.binary(Binary::Lt, a, b))),
        ("float ids", |g| f(g, &[2, 3]).pipe(|a| g.row(RowOp::CrossEntropy, &[a, a]))),
    ];
    for (name, build) in dtype {
        let got = build(&mut Graph::default());
        assert!(matches!(got, Err(GraphError::DType(_))), "{name}: {got:?}");
    }
    let limit: &[(&str, Wrong)] = &[
        ("rank", |g| g.full(0, Shape(vec![1; 9]))),
        ("elements", |g| g.full(0, Shape(vec![1 << 16, 1 << 16]))),
        ("elements that overflow", |g| g.full(0, Shape(vec![u32::MAX; 8]))),
        ("unknown node", |g| g.unary(Unary::Exp, 7)),
        ("third input", |g| g.input(2, Shape(vec![1]), DType::F32)),
        ("padding", |g| f(g, &[4]).pipe(|a| g.pad(a, 0, u32::MAX, 1))),
    ];
    for (name, build) in limit {
        let got = build(&mut Graph::default());
        assert!(matches!(got, Err(GraphError::Limit(_))), "{name}: {got:?}");
    }
}

#[test]
fn the_graph_holds_no_more_nodes_than_its_limit() {
    let mut g = Graph::default();
    for _ in 0..NODES_MAX {
        f(&mut g, &[]);
    }
    assert!(matches!(g.full(0, Shape::default()), Err(GraphError::Limit(_))));
    assert_eq!(g.len(), NODES_MAX);
    assert!(Shape(vec![1 << 16, 1 << 15]).elements() <= ELEMENTS_MAX);
}

/// `value.pipe(f)`: the operands are built before the graph is borrowed again.
trait Pipe: Sized {
    fn pipe<R>(self, f: impl FnOnce(Self) -> R) -> R {
        f(self)
    }
}

impl<T> Pipe for T {}
