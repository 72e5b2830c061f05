//! What the checked constructors refuse: for every operation, operands that do not fit it, and what the refusal says.

use cairn_engine::graph::{Attention, Binary, Conv2d, DType, Graph, GraphError, NodeId, Op, RowOp, Shape, Unary};

use crate::cases::{conv, name, operations};

type Built = Result<NodeId, GraphError>;
/// Words of the refusal, and what is refused.
type Misfit = (&'static str, Box<dyn Fn(&mut Graph) -> Built>);

fn f(g: &mut Graph, shape: &[u32]) -> NodeId {
    g.full(0, Shape(shape.to_vec())).unwrap()
}

fn i(g: &mut Graph, shape: &[u32]) -> NodeId {
    g.full_int(0, Shape(shape.to_vec())).unwrap()
}

/// A misfit: words, operands (floats, then integers), and the node that is built on them.
macro_rules! misfit {
    ($words:expr, [$($float:expr),*], [$($int:expr),*], |$g:ident, $x:ident| $build:expr) => {{
        let build = move |$g: &mut Graph| -> Built {
            let $x: Vec<NodeId> = vec![$(f($g, &$float),)* $(i($g, &$int),)*];
            $build
        };
        ($words, Box::new(build) as Box<dyn Fn(&mut Graph) -> Built>)
    }};
}

fn misfits(op: &Op) -> Vec<Misfit> {
    match op.clone() {
        Op::Input(_) => vec![
            misfit!("there are two", [], [], |g, _x| g.input(2, Shape(vec![1]), DType::F32)),
            misfit!("length 0", [], [], |g, _x| g.input(0, Shape(vec![2, 0]), DType::I32)),
        ],
        Op::Param(_) => vec![misfit!("more than 8 axes", [], [], |g, _x| g.param(0, Shape(vec![1; 9])))],
        Op::State(_) => vec![misfit!("length 0", [], [], |g, _x| g.state(0, Shape(vec![0])))],
        // A table has no operand and one shape.
        Op::Table(_) => vec![],
        Op::Full(_) => vec![misfit!("elements", [], [], |g, _x| g.full(0, Shape(vec![1 << 16, 1 << 16])))],
        Op::FullInt(_) => vec![misfit!("length 0", [], [], |g, _x| g.full_int(0, Shape(vec![0])))],
        Op::Arange => vec![misfit!("length 0", [], [], |g, _x| g.arange(0))],
        Op::Random(kind, _) => {
            vec![misfit!("length 0", [], [], |g, _x| g.random(kind, "stream", Shape(vec![0])))]
        }
        Op::Unary(op @ Unary::ToFloat) => vec![misfit!("ToFloat takes I32", [[2]], [], |g, x| g.unary(op, x[0]))],
        Op::Unary(op) => vec![misfit!("takes F32, not I32", [], [[2]], |g, x| g.unary(op, x[0]))],
        Op::Binary(op @ (Binary::Lt | Binary::Le | Binary::Eq)) => vec![
            misfit!("takes F32, not I32", [[2]], [[2]], |g, x| g.binary(op, x[0], x[1])),
            misfit!("do not broadcast", [[2], [3]], [], |g, x| g.binary(op, x[0], x[1])),
            misfit!("do not broadcast", [], [[2], [3]], |g, x| g.binary(op, x[0], x[1])),
        ],
        Op::Binary(op) => vec![
            misfit!("takes F32, not I32", [[2]], [[2]], |g, x| g.binary(op, x[0], x[1])),
            misfit!("takes F32, not I32", [], [[2], [2]], |g, x| g.binary(op, x[0], x[1])),
            misfit!("[2, 3] and [2] do not broadcast", [[2, 3], [2]], [], |g, x| g.binary(op, x[0], x[1])),
        ],
        Op::Where => vec![
            misfit!("where takes F32, not I32", [[2], [2]], [[2]], |g, x| g.where_(x[0], x[1], x[2])),
            misfit!("where takes I32, not F32", [[2], [2]], [[2]], |g, x| g.where_(x[0], x[2], x[1])),
            misfit!("where takes F32, not I32", [[2], [2]], [[2]], |g, x| g.where_(x[2], x[0], x[1])),
            misfit!("do not broadcast", [[2], [3], [2]], [], |g, x| g.where_(x[0], x[1], x[2])),
        ],
        Op::StopGradient => vec![misfit!("stop_gradient takes F32", [], [[2]], |g, x| g.stop_gradient(x[0]))],
        Op::Sum(_) => vec![
            misfit!("at least one axis", [[2]], [], |g, x| g.sum(x[0], &[])),
            misfit!("none of them twice", [[2]], [], |g, x| g.sum(x[0], &[0, 0])),
            misfit!("axis 1 is out of range for [2]", [[2]], [], |g, x| g.sum(x[0], &[1])),
            misfit!("sum takes F32", [], [[2]], |g, x| g.sum(x[0], &[0])),
        ],
        Op::Max(_) => vec![
            misfit!("none of them twice", [[2]], [], |g, x| g.max(x[0], &[0, 0])),
            misfit!("max: axis 3 is out of range", [[2, 2]], [], |g, x| g.max(x[0], &[3])),
            misfit!("max takes F32", [], [[2]], |g, x| g.max(x[0], &[0])),
        ],
        Op::ArgMax => vec![
            misfit!("argmax: a scalar", [[]], [], |g, x| g.argmax(x[0])),
            misfit!("argmax takes F32", [], [[2]], |g, x| g.argmax(x[0])),
        ],
        Op::MatMul { .. } => products(),
        Op::Attention(_) => attention(|g, q, k, v, options| g.attention(q, k, v, options)),
        Op::AttentionGrad(_, of) => {
            let mut all = attention(move |g, q, k, v, options| g.attention_grad([q, k, v, q, q], options, of));
            all.push(misfit!("must be equal", [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 2, 4]], [], |g, x| {
                g.attention_grad([x[0], x[1], x[1], x[0], x[2]], ALL, of)
            }));
            all
        }
        Op::Row(op) => rows(op),
        Op::Rope { .. } => vec![
            misfit!("rope: [4, 3] needs", [[4, 3]], [], |g, x| g.rope(x[0], 0, false)),
            misfit!("rope: [4] needs", [[4]], [], |g, x| g.rope(x[0], 0, true)),
            misfit!("rope takes F32", [], [[4, 2]], |g, x| g.rope(x[0], 0, false)),
        ],
        Op::Embedding => vec![
            misfit!("the table [2] must have two axes", [[2]], [[3]], |g, x| g.embedding(x[0], x[1])),
            misfit!("embedding takes I32", [[2, 2], [3]], [], |g, x| g.embedding(x[0], x[1])),
        ],
        Op::EmbeddingGrad(_) => vec![
            misfit!("a scalar", [[]], [[]], |g, x| g.embedding_grad(x[1], x[0], 3)),
            misfit!("[2] and [3] must be equal", [[2, 4]], [[3]], |g, x| g.embedding_grad(x[1], x[0], 3)),
            misfit!("length 0", [[2, 4]], [[2]], |g, x| g.embedding_grad(x[1], x[0], 0)),
        ],
        Op::Take => vec![
            misfit!("take: a scalar", [[]], [[]], |g, x| g.take(x[0], x[1])),
            misfit!("take: shapes [2] and [3]", [[2, 4]], [[3]], |g, x| g.take(x[0], x[1])),
            misfit!("take takes I32", [[2, 4], [2]], [], |g, x| g.take(x[0], x[1])),
        ],
        Op::TakeGrad(_) => vec![
            misfit!("take: shapes [2] and [3]", [[3]], [[2]], |g, x| g.take_grad(x[1], x[0], 5)),
            misfit!("length 0", [[2]], [[2]], |g, x| g.take_grad(x[1], x[0], 0)),
        ],
        Op::Reshape => {
            vec![misfit!("[6] has not as many elements as [4]", [[6]], [], |g, x| g.reshape(x[0], Shape(vec![4])))]
        }
        Op::Permute(_) => vec![
            misfit!("permute: [0, 0] does not name each axis", [[2, 3]], [], |g, x| g.permute(x[0], &[0, 0])),
            misfit!("permute: [0] does not name each axis", [[2, 3]], [], |g, x| g.permute(x[0], &[0])),
        ],
        Op::BroadcastTo => vec![misfit!("[2, 3] does not broadcast to [3]", [[2, 3]], [], |g, x| {
            g.broadcast_to(x[0], Shape(vec![3]))
        })],
        Op::Slice { .. } => vec![
            misfit!("outside axis 0 of length 4", [[4]], [], |g, x| g.slice(x[0], 0, 2, 3)),
            misfit!("outside", [[4]], [], |g, x| g.slice(x[0], 0, u32::MAX, u32::MAX)),
            misfit!("slice: axis 1 is out of range", [[4]], [], |g, x| g.slice(x[0], 1, 0, 1)),
            misfit!("length 0", [[4]], [], |g, x| g.slice(x[0], 0, 1, 0)),
        ],
        Op::Pad { .. } => vec![
            misfit!("is too long", [[4]], [], |g, x| g.pad(x[0], 0, u32::MAX, 1)),
            misfit!("pad: axis 1 is out of range", [[4]], [], |g, x| g.pad(x[0], 1, 0, 1)),
            misfit!("pad takes F32", [], [[4]], |g, x| g.pad(x[0], 0, 0, 1)),
        ],
        Op::Concat(_) => vec![
            misfit!("nothing to join", [], [], |g, _x| g.concat(&[], 0)),
            misfit!("[2, 3] and [4, 3] must be equal", [[2, 3], [4, 3]], [], |g, x| g.concat(&x, 1)),
            misfit!("concat: axis 2 is out of range", [[2, 3]], [], |g, x| g.concat(&x, 2)),
            misfit!("concat takes F32, not I32", [[2]], [[2]], |g, x| g.concat(&x, 0)),
        ],
        Op::Conv2d(_) => convolutions(),
        Op::Conv2dInputGrad(_) => vec![
            misfit!("must have four axes", [[4, 2, 3], [1, 4, 3, 3]], [], |g, x| {
                g.conv2d_input_grad(x[0], x[1], conv(1, 0, 1, 1), [5, 5])
            }),
            misfit!("[1, 4, 3, 3] and [1, 4, 3, 4] must be equal", [[4, 2, 3, 3], [1, 4, 3, 4]], [], |g, x| {
                g.conv2d_input_grad(x[0], x[1], conv(1, 0, 1, 1), [5, 5])
            }),
            misfit!("does not fit", [[4, 2, 3, 3], [1, 4, 3, 3]], [], |g, x| {
                g.conv2d_input_grad(x[0], x[1], conv(1, 0, 1, 1), [2, 5])
            }),
            misfit!("too many channels", [[2, 1 << 17, 1, 1], [1, 2, 3, 3]], [], |g, x| {
                g.conv2d_input_grad(x[0], x[1], conv(1, 0, 1, 1 << 15), [3, 3])
            }),
            misfit!("takes F32, not I32", [[4, 2, 3, 3]], [[1, 4, 3, 3]], |g, x| {
                g.conv2d_input_grad(x[0], x[1], conv(1, 0, 1, 1), [5, 5])
            }),
        ],
        Op::Conv2dWeightGrad(_) => vec![
            misfit!("must have four axes", [[1, 2, 5, 5], [9]], [], |g, x| {
                g.conv2d_weight_grad(x[0], x[1], conv(1, 0, 1, 1), [3, 3])
            }),
            misfit!("must be equal", [[1, 2, 5, 5], [1, 4, 3, 4]], [], |g, x| {
                g.conv2d_weight_grad(x[0], x[1], conv(1, 0, 1, 1), [3, 3])
            }),
            misfit!("must be equal", [[1, 2, 5, 5], [2, 4, 3, 3]], [], |g, x| {
                g.conv2d_weight_grad(x[0], x[1], conv(1, 0, 1, 1), [3, 3])
            }),
            misfit!("3 groups must divide", [[1, 4, 5, 5], [1, 4, 3, 3]], [], |g, x| {
                g.conv2d_weight_grad(x[0], x[1], conv(1, 0, 1, 3), [3, 3])
            }),
            misfit!("0 groups must divide", [[1, 4, 5, 5], [1, 4, 3, 3]], [], |g, x| {
                g.conv2d_weight_grad(x[0], x[1], conv(1, 0, 1, 0), [3, 3])
            }),
        ],
        Op::CumSum { .. } => vec![
            misfit!("cumsum: axis 1 is out of range for [4]", [[4]], [], |g, x| g.cumsum(x[0], 1, false)),
            misfit!("cumsum: axis 0 is out of range for []", [[]], [], |g, x| g.cumsum(x[0], 0, false)),
            misfit!("cumsum takes F32", [], [[4]], |g, x| g.cumsum(x[0], 0, true)),
        ],
        Op::Gather(_) => vec![
            misfit!("ids [2] must have the axes of x [2, 3]", [[2, 3]], [[2]], |g, x| g.gather(x[0], x[1], 1)),
            misfit!("ids [3, 3] must have the axes of x [2, 3]", [[2, 3]], [[3, 3]], |g, x| g.gather(x[0], x[1], 1)),
            misfit!("gather: axis 2 is out of range", [[2, 3]], [[2, 3]], |g, x| g.gather(x[0], x[1], 2)),
            misfit!("gather takes I32", [[2, 3], [2, 3]], [], |g, x| g.gather(x[0], x[1], 1)),
        ],
        Op::ScatterAdd { .. } => vec![
            misfit!("shapes [2] and [3] must be equal", [[3]], [[2]], |g, x| g.scatter_add(x[1], x[0], 0, 4)),
            misfit!("scatter_add: axis 1 is out of range", [[3]], [[3]], |g, x| g.scatter_add(x[1], x[0], 1, 4)),
            misfit!("length 0", [[3]], [[3]], |g, x| g.scatter_add(x[1], x[0], 0, 0)),
            misfit!("scatter_add takes I32", [[3], [3]], [], |g, x| g.scatter_add(x[0], x[1], 0, 4)),
        ],
        Op::TopK(_) => vec![
            misfit!("topk: 5 of an axis of 4", [[3, 4]], [], |g, x| g.topk(x[0], 5)),
            misfit!("topk: 0 of an axis of 4", [[3, 4]], [], |g, x| g.topk(x[0], 0)),
            misfit!("topk: a scalar", [[]], [], |g, x| g.topk(x[0], 1)),
            misfit!("topk takes F32", [], [[4]], |g, x| g.topk(x[0], 1)),
        ],
    }
}

fn products() -> Vec<Misfit> {
    vec![
        misfit!("operands need at least two axes", [[2], [2]], [], |g, x| g.matmul(x[0], x[1])),
        misfit!("inner lengths 3 and 4 differ", [[2, 3], [4, 2]], [], |g, x| g.matmul(x[0], x[1])),
        misfit!("do not broadcast", [[2, 3, 4], [3, 4, 5]], [], |g, x| g.matmul(x[0], x[1])),
        misfit!("matmul takes F32", [[2, 3]], [[3, 2]], |g, x| g.matmul(x[0], x[1])),
        misfit!("do not fit", [[2, 3], [2, 3]], [], |g, x| g.contraction((x[0], false), (x[1], false))),
        misfit!("do not fit", [[1, 2, 2, 3], [1, 2, 3, 2]], [], |g, x| g.contraction((x[0], false), (x[1], false))),
    ]
}

/// Every query sees every key.
const ALL: Attention = Attention { causal: false, window: 0, scale: 0, soft_cap: 0 };

fn attention(build: impl Fn(&mut Graph, NodeId, NodeId, NodeId, Attention) -> Built + Copy + 'static) -> Vec<Misfit> {
    let causal = Attention { causal: true, ..ALL };
    let window = Attention { window: 2, ..ALL };
    vec![
        misfit!("must have four axes", [[3, 4], [3, 4]], [], |g, x| build(g, x[0], x[1], x[1], ALL)),
        misfit!("keys and values", [[1, 2, 3, 4], [1, 2, 3, 5]], [], |g, x| build(g, x[0], x[0], x[1], ALL)),
        misfit!("heads of k divide", [[1, 3, 4, 8], [1, 2, 4, 8]], [], |g, x| build(g, x[0], x[1], x[1], ALL)),
        misfit!("channels must agree", [[1, 2, 4, 8], [1, 2, 4, 6]], [], |g, x| build(g, x[0], x[1], x[1], ALL)),
        misfit!("4 queries and 3 keys", [[1, 2, 4, 8], [1, 2, 3, 8]], [], |g, x| build(g, x[0], x[1], x[1], causal)),
        misfit!("4 queries and 3 keys", [[1, 2, 4, 8], [1, 2, 3, 8]], [], |g, x| build(g, x[0], x[1], x[1], window)),
        misfit!("attention takes F32", [], [[1, 2, 3, 4]], |g, x| build(g, x[0], x[0], x[0], ALL)),
    ]
}

fn rows(op: RowOp) -> Vec<Misfit> {
    let mut all = vec![
        misfit!("no operand", [], [], |g, _x| g.row(op, &[])),
        misfit!("operands wanted, not 4", [[2, 3]], [], |g, x| g.row(op, &[x[0]; 4])),
        misfit!("a scalar has no last axis", [[]], [[]], |g, x| match op {
            RowOp::CrossEntropy => g.row(op, &[x[0], x[1]]),
            RowOp::CrossEntropyGrad => g.row(op, &[x[0], x[1], x[0]]),
            RowOp::SoftmaxGrad | RowOp::LogSoftmaxGrad | RowOp::RmsNormGrad(_) | RowOp::LayerNormGrad(_) => {
                g.row(op, &[x[0], x[0]])
            }
            RowOp::Softmax | RowOp::LogSoftmax | RowOp::RmsNorm(_) | RowOp::LayerNorm(_) => g.row(op, &[x[0]]),
        }),
    ];
    match op {
        RowOp::Softmax | RowOp::LogSoftmax | RowOp::RmsNorm(_) | RowOp::LayerNorm(_) => {
            all.push(misfit!("takes F32, not I32", [], [[2, 3]], |g, x| g.row(op, &x)));
        }
        RowOp::SoftmaxGrad | RowOp::LogSoftmaxGrad | RowOp::RmsNormGrad(_) | RowOp::LayerNormGrad(_) => {
            all.push(misfit!("[2, 3] and [2, 4] must be equal", [[2, 3], [2, 4]], [], |g, x| g.row(op, &x)));
            all.push(misfit!("takes F32, not I32", [[2, 3]], [[2, 3]], |g, x| g.row(op, &x)));
        }
        RowOp::CrossEntropy => {
            all.push(misfit!("[2] and [3] must be equal", [[2, 5]], [[3]], |g, x| g.row(op, &x)));
            all.push(misfit!("takes I32, not F32", [[2, 5], [2]], [], |g, x| g.row(op, &x)));
        }
        RowOp::CrossEntropyGrad => {
            all.push(misfit!("[2] and [3] must be equal", [[2, 5], [2]], [[3]], |g, x| g.row(op, &[x[0], x[2], x[1]])));
            all.push(misfit!("[2] and [3] must be equal", [[2, 5], [3]], [[2]], |g, x| g.row(op, &[x[0], x[2], x[1]])));
        }
    }
    all
}

fn convolutions() -> Vec<Misfit> {
    vec![
        misfit!("must have four axes", [[2, 5, 5], [4, 2, 3, 3]], [], |g, x| g.conv2d(x[0], x[1], conv(1, 0, 1, 1))),
        misfit!("must have four axes", [[1, 2, 5, 5], [4, 2]], [], |g, x| g.conv2d(x[0], x[1], conv(1, 0, 1, 1))),
        misfit!("has 3 channels in each of 1", [[1, 3, 5, 5], [4, 2, 3, 3]], [], |g, x| g.conv2d(
            x[0],
            x[1],
            conv(1, 0, 1, 1)
        )),
        misfit!("2 groups must divide the 3 channels of x", [[1, 3, 5, 5], [4, 1, 3, 3]], [], |g, x| {
            g.conv2d(x[0], x[1], conv(1, 0, 1, 2))
        }),
        misfit!("and the 3 of w", [[1, 4, 5, 5], [3, 2, 3, 3]], [], |g, x| g.conv2d(x[0], x[1], conv(1, 0, 1, 2))),
        misfit!("0 groups", [[1, 4, 5, 5], [3, 2, 3, 3]], [], |g, x| g.conv2d(x[0], x[1], conv(1, 0, 1, 0))),
        misfit!("must be at least 1", [[1, 2, 5, 5], [3, 2, 3, 3]], [], |g, x| g.conv2d(x[0], x[1], conv(0, 0, 1, 1))),
        misfit!("must be at least 1", [[1, 2, 5, 5], [3, 2, 3, 3]], [], |g, x| g.conv2d(x[0], x[1], conv(1, 0, 0, 1))),
        misfit!("dilation 2 does not fit an axis of 4", [[1, 2, 4, 5], [3, 2, 3, 3]], [], |g, x| g.conv2d(
            x[0],
            x[1],
            conv(1, 0, 2, 1)
        )),
        misfit!("outputs along an axis", [[1, 1, 1, 1], [1, 1, 1, 1]], [], |g, x| {
            g.conv2d(x[0], x[1], Conv2d { padding: [u32::MAX, 0], ..conv(1, 0, 1, 1) })
        }),
        misfit!("more than 2147483648 elements", [[1, 1, 1, 1], [1, 1, 1, 1]], [], |g, x| {
            g.conv2d(x[0], x[1], conv(1, 1 << 20, 1, 1))
        }),
        misfit!("conv2d takes F32", [[1, 2, 5, 5]], [[3, 2, 3, 3]], |g, x| g.conv2d(x[0], x[1], conv(1, 0, 1, 1))),
    ]
}

#[test]
fn every_operation_refuses_what_does_not_fit_and_says_what() {
    for op in operations() {
        let all = misfits(&op);
        assert!(!all.is_empty() || matches!(op, Op::Table(_)), "nothing is refused for {}", name(&op));
        for (number, (words, build)) in all.iter().enumerate() {
            let mut g = Graph::default();
            let refused = build(&mut g);
            let Err(error) = refused else { panic!("{}, {number} ({words}) was built", name(&op)) };
            assert!(error.to_string().contains(words), "{}, {number}: {error}; not: {words}", name(&op));
        }
    }
}

#[test]
fn a_node_of_another_graph_is_refused() {
    let mut g = Graph::default();
    let a = f(&mut g, &[1, 2, 3, 4]);
    let ids = i(&mut g, &[1, 2, 3, 4]);
    let refused = [
        g.unary(Unary::Exp, 9),
        g.binary(Binary::Add, a, 9),
        g.where_(a, a, 9),
        g.reshape(9, Shape(vec![1])),
        g.concat(&[a, 9], 0),
        g.matmul(a, 9),
        g.conv2d(a, 9, conv(1, 0, 1, 1)),
        g.gather(a, 9, 0),
        g.scatter_add(ids, 9, 0, 1),
        g.cumsum(9, 0, false),
        g.topk(9, 1),
    ];
    for (i, refused) in refused.into_iter().enumerate() {
        assert_eq!(refused, Err(GraphError::Limit("there is no node 9 in this graph".into())), "{i}");
    }
}
