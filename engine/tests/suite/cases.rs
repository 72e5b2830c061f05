//! One small graph for each operation and way of using it: what gradients and backends are tested on.

use std::collections::BTreeSet;

use cairn_engine::backend::Tensor;
use cairn_engine::grad::gradients;
use cairn_engine::graph::{
    Attention, AttentionInput, Binary, Conv2d, DType, Graph, NodeId, Op, Random, RowOp, Shape, Unary,
};
use cairn_engine::oracle::Point;
use cairn_protocol::Seed;

/// Seed and step of everything random.
pub(crate) const SEED: Seed = Seed([7; 32]);
pub(crate) const STEP: u64 = 3;

/// Which numbers an operand holds, so that no kink is within reach of a finite difference.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Values {
    /// -2 to 2.
    Any,
    /// -2 to 2, but not within 0.05 of an integer multiple of 0.5.
    Smooth,
    /// 0.3 to 2.
    Positive,
}
use Values::{Any, Positive, Smooth};

/// A way of using an operation.
pub(crate) struct Case {
    /// For messages.
    pub(crate) name: &'static str,
    /// Operands: parameters of the graph.
    pub(crate) operands: &'static [(&'static [u32], Values)],
    /// `Input(0)`, when the case takes indices.
    pub(crate) ids: &'static [i32],
    /// From the operands to the result.
    pub(crate) build: fn(&mut Graph, &[NodeId]) -> NodeId,
}

/// A case as a graph.
pub(crate) struct Built {
    pub(crate) graph: Graph,
    pub(crate) operands: Vec<NodeId>,
    pub(crate) output: NodeId,
    /// Values of the operands.
    pub(crate) values: Vec<Vec<f32>>,
    /// `Input(0)`; `Input(1)` is not used.
    pub(crate) ids: Tensor,
    /// Weights of the projection, after `differentiate`.
    pub(crate) weights: Vec<f32>,
}

impl Case {
    pub(crate) fn build(&self) -> Built {
        let mut graph = Graph::default();
        let operands: Vec<NodeId> =
            (0..).zip(self.operands).map(|(i, (shape, _))| graph.param(i, Shape(shape.to_vec())).unwrap()).collect();
        let output = (self.build)(&mut graph, &operands);
        let mut numbers = Numbers::new(self.name);
        let values = self.operands.iter().map(|(shape, values)| numbers.tensor(shape, *values)).collect();
        Built { graph, operands, output, values, ids: Tensor::I32(self.ids.to_vec()), weights: vec![] }
    }
}

impl Built {
    /// The operands' values, for the oracle; after `differentiate`.
    pub(crate) fn point(&self) -> Point {
        point([self.ids.clone(), Tensor::I32(vec![])], &self.values, std::slice::from_ref(&self.weights))
    }

    /// A random projection of the result (weights: the only state) and its gradients by the operands.
    pub(crate) fn differentiate(&mut self) -> (NodeId, Vec<NodeId>) {
        let g = &mut self.graph;
        let shape = g.shape(self.output).unwrap().clone();
        let weights = g.state(0, shape.clone()).unwrap();
        let mut loss = g.binary(Binary::Mul, self.output, weights).unwrap();
        if !shape.0.is_empty() {
            let axes: Vec<u8> = (0..shape.0.len() as u8).collect();
            loss = g.sum(loss, &axes).unwrap();
        }
        let gradients = gradients(g, loss, &self.operands).unwrap();
        self.weights = Numbers::new("weights").tensor(&shape.0, Any);
        (loss, gradients)
    }
}

fn wide(tensors: &[Vec<f32>]) -> Vec<Vec<f64>> {
    tensors.iter().map(|tensor| tensor.iter().map(|&x| f64::from(x)).collect()).collect()
}

/// What the oracle reads: no tables, a seed and a step.
pub(crate) fn point(inputs: [Tensor; 2], params: &[Vec<f32>], states: &[Vec<f32>]) -> Point {
    Point { inputs, params: wide(params), states: wide(states), tables: vec![], seed: SEED, step: STEP }
}

/// Numbers that depend on a name alone.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(name: &str) -> Self {
        let hash = cairn_protocol::hash("test numbers", &[name.as_bytes()]);
        Self(u64::from_be_bytes(hash[..8].try_into().unwrap()))
    }

    /// Uniform on [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f64 / f64::from(1 << 24)
    }

    pub(crate) fn tensor(&mut self, shape: &[u32], values: Values) -> Vec<f32> {
        let count = Shape(shape.to_vec()).elements();
        (0..count).map(|_| self.number(values) as f32).collect()
    }

    fn number(&mut self, values: Values) -> f64 {
        match values {
            Any => 4.0 * self.uniform() - 2.0,
            Positive => 0.3 + 1.7 * self.uniform(),
            Smooth => {
                let cell = (8.0 * self.uniform()).floor() - 4.0;
                0.5 * cell + 0.05 + 0.4 * self.uniform()
            }
        }
    }
}

fn ids(g: &mut Graph, shape: &[u32]) -> NodeId {
    g.input(0, Shape(shape.to_vec()), DType::I32).unwrap()
}

fn number(g: &mut Graph, value: f32) -> NodeId {
    g.full(value.to_bits(), Shape::default()).unwrap()
}

/// A convolution of square stride, padding and dilation.
pub(crate) fn conv(stride: u32, padding: u32, dilation: u32, groups: u32) -> Conv2d {
    Conv2d { stride: [stride; 2], padding: [padding; 2], dilation: [dilation; 2], groups }
}

/// Another stride, padding and dilation along each axis.
pub(crate) const LOPSIDED: Conv2d = Conv2d { stride: [2, 1], padding: [1, 2], dilation: [1, 2], groups: 1 };

fn causal(scale: f32) -> Attention {
    Attention { causal: true, window: 0, scale: scale.to_bits(), soft_cap: 0 }
}

macro_rules! unary {
    ($op:ident, $values:expr) => {
        Case {
            name: stringify!($op),
            operands: &[(&[3, 5], $values)],
            ids: &[],
            build: |g, x| g.unary(Unary::$op, x[0]).unwrap(),
        }
    };
}

macro_rules! binary {
    ($op:ident, $a:expr, $b:expr, $values:expr) => {
        Case {
            name: concat!(stringify!($op), stringify!($a), stringify!($b)),
            operands: &[(&$a, Smooth), (&$b, $values)],
            ids: &[],
            build: |g, x| g.binary(Binary::$op, x[0], x[1]).unwrap(),
        }
    };
}

macro_rules! row {
    ($op:expr, $shape:expr) => {
        Case {
            name: stringify!($op),
            operands: &[(&$shape, Any)],
            ids: &[],
            build: |g, x| g.row($op, &[x[0]]).unwrap(),
        }
    };
}

/// A contraction with given flags; operands as stored.
macro_rules! contraction {
    ($a:expr, $ta:expr, $b:expr, $tb:expr) => {
        Case {
            name: concat!("contraction", stringify!($a), stringify!($ta), stringify!($b), stringify!($tb)),
            operands: &[(&$a, Any), (&$b, Any)],
            ids: &[],
            build: |g, x| g.contraction((x[0], $ta), (x[1], $tb)).unwrap(),
        }
    };
}

macro_rules! case {
    ($name:expr, [$($operand:expr),*], [$($id:expr),*], $build:expr) => {
        Case { name: $name, operands: &[$($operand),*], ids: &[$($id),*], build: $build }
    };
}

const EPS: u32 = 1e-5f32.to_bits();

/// Every differentiable operation.
pub(crate) const CASES: &[Case] = &[
    unary!(Neg, Any),
    unary!(Exp, Any),
    unary!(Log, Positive),
    unary!(Sqrt, Positive),
    unary!(Rsqrt, Positive),
    unary!(Recip, Positive),
    unary!(Tanh, Any),
    unary!(Sigmoid, Any),
    unary!(Erf, Any),
    unary!(Sin, Any),
    unary!(Cos, Any),
    unary!(Relu, Smooth),
    unary!(Abs, Smooth),
    unary!(Sign, Smooth),
    unary!(Floor, Smooth),
    unary!(Round, Smooth),
    binary!(Add, [2, 3], [2, 3], Smooth),
    binary!(Add, [4, 2, 3], [3], Smooth),
    binary!(Add, [2, 1, 3], [4, 1], Smooth),
    binary!(Sub, [3], [2, 3], Smooth),
    binary!(Sub, [2, 3], [], Smooth),
    binary!(Mul, [2, 3], [2, 3], Smooth),
    binary!(Mul, [2, 1], [1, 3], Smooth),
    binary!(Mul, [], [5], Smooth),
    binary!(Div, [2, 3], [2, 3], Positive),
    binary!(Div, [2, 3], [2, 1], Positive),
    binary!(Div, [3], [4, 3], Positive),
    binary!(Max, [4, 5], [4, 5], Smooth),
    binary!(Max, [4, 5], [5], Smooth),
    binary!(Min, [4, 5], [4, 5], Smooth),
    binary!(Min, [4, 1], [3, 1, 5], Smooth),
    case!("masks", [(&[2, 6], Smooth), (&[6], Smooth)], [], |g, x| {
        let masks = [Binary::Lt, Binary::Le, Binary::Eq].map(|op| g.binary(op, x[0], x[1]).unwrap());
        let some = g.binary(Binary::Add, masks[0], masks[1]).unwrap();
        let all = g.binary(Binary::Add, some, masks[2]).unwrap();
        g.binary(Binary::Mul, all, x[0]).unwrap()
    }),
    case!("masks of indices", [(&[2, 3], Smooth)], [0, 2, 1, 3, -1, 2], |g, x| {
        let ids = ids(g, &[2, 3]);
        let two = g.full_int(2, Shape::default()).unwrap();
        let mask = g.binary(Binary::Le, two, ids).unwrap();
        g.binary(Binary::Mul, mask, x[0]).unwrap()
    }),
    case!("where", [(&[2, 6], Smooth), (&[2, 6], Any), (&[2, 6], Any)], [], |g, x| {
        let zero = g.full(0, Shape::default()).unwrap();
        let positive = g.binary(Binary::Lt, zero, x[0]).unwrap();
        g.where_(positive, x[1], x[2]).unwrap()
    }),
    case!("where, broadcasting", [(&[6], Smooth), (&[2, 1], Any), (&[], Any)], [], |g, x| {
        let zero = g.full(0, Shape::default()).unwrap();
        let positive = g.binary(Binary::Lt, zero, x[0]).unwrap();
        g.where_(positive, x[1], x[2]).unwrap()
    }),
    case!("stop_gradient", [(&[4], Any)], [], |g, x| {
        let square = g.binary(Binary::Mul, x[0], x[0]).unwrap();
        let stopped = g.unary(Unary::Sign, square).unwrap();
        let stopped = g.stop_gradient(stopped).unwrap();
        g.binary(Binary::Mul, x[0], stopped).unwrap()
    }),
    case!("to_float", [(&[5], Any)], [], |g, x| {
        let steps = g.arange(5).unwrap();
        let steps = g.unary(Unary::ToFloat, steps).unwrap();
        g.binary(Binary::Mul, x[0], steps).unwrap()
    }),
    case!("sum of the last axis", [(&[3, 4], Any)], [], |g, x| g.sum(x[0], &[1]).unwrap()),
    case!("sum of the first axis", [(&[3, 4, 2], Any)], [], |g, x| g.sum(x[0], &[0]).unwrap()),
    case!("sum of the outer axes", [(&[3, 4, 2], Any)], [], |g, x| g.sum(x[0], &[0, 2]).unwrap()),
    case!("sum of everything", [(&[3, 4, 2], Any)], [], |g, x| g.sum(x[0], &[0, 1, 2]).unwrap()),
    case!("max of the last axis", [(&[3, 4], Any)], [], |g, x| g.max(x[0], &[1]).unwrap()),
    case!("max of the first axis", [(&[3, 4, 2], Any)], [], |g, x| g.max(x[0], &[0]).unwrap()),
    case!("max of the outer axes", [(&[3, 4, 2], Any)], [], |g, x| g.max(x[0], &[0, 2]).unwrap()),
    case!("max of the last axes", [(&[3, 4, 2], Any)], [], |g, x| g.max(x[0], &[1, 2]).unwrap()),
    case!("max of everything", [(&[3, 4], Any)], [], |g, x| g.max(x[0], &[0, 1]).unwrap()),
    case!("argmax", [(&[3, 4], Any)], [], |g, x| {
        let first = g.argmax(x[0]).unwrap();
        let first = g.reshape(first, Shape(vec![3])).unwrap();
        g.take(x[0], first).unwrap()
    }),
    contraction!([3, 4], false, [4, 5], false),
    contraction!([4, 3], true, [4, 5], false),
    contraction!([3, 4], false, [5, 4], true),
    contraction!([4, 3], true, [5, 4], true),
    contraction!([2, 3, 4], false, [2, 4, 5], false),
    contraction!([2, 4, 3], true, [2, 4, 5], false),
    contraction!([2, 3, 4], false, [2, 5, 4], true),
    contraction!([2, 4, 3], true, [2, 5, 4], true),
    contraction!([3, 300], false, [300, 2], false),
    case!("x @ w", [(&[2, 3, 4], Any), (&[4, 5], Any)], [], |g, x| g.matmul(x[0], x[1]).unwrap()),
    case!("x @ w.T", [(&[2, 3, 4], Any), (&[5, 4], Any)], [], |g, x| {
        let w = g.permute(x[1], &[1, 0]).unwrap();
        g.matmul(x[0], w).unwrap()
    }),
    case!("batched @ batched, broadcasting", [(&[2, 1, 3, 4], Any), (&[3, 4, 2], Any)], [], |g, x| {
        g.matmul(x[0], x[1]).unwrap()
    }),
    case!("attention", [(&[2, 2, 3, 4], Any), (&[2, 2, 5, 4], Any), (&[2, 2, 5, 4], Any)], [], |g, x| {
        let options = Attention { causal: false, ..causal(0.5) };
        g.attention(x[0], x[1], x[2], options).unwrap()
    }),
    case!("causal attention", [(&[1, 2, 5, 4], Any), (&[1, 2, 5, 4], Any), (&[1, 2, 5, 4], Any)], [], |g, x| {
        g.attention(x[0], x[1], x[2], causal(0.5)).unwrap()
    }),
    case!("grouped heads", [(&[2, 4, 5, 2], Any), (&[2, 2, 5, 2], Any), (&[2, 2, 5, 2], Any)], [], |g, x| {
        g.attention(x[0], x[1], x[2], causal(0.7)).unwrap()
    }),
    case!("windowed attention", [(&[1, 2, 7, 2], Any), (&[1, 1, 7, 2], Any), (&[1, 1, 7, 2], Any)], [], |g, x| {
        let options = Attention { window: 3, ..causal(0.7) };
        g.attention(x[0], x[1], x[2], options).unwrap()
    }),
    case!("soft cap", [(&[1, 2, 5, 2], Any), (&[1, 2, 5, 2], Any), (&[1, 2, 5, 2], Any)], [], |g, x| {
        let options = Attention { soft_cap: 1.5f32.to_bits(), ..causal(0.7) };
        g.attention(x[0], x[1], x[2], options).unwrap()
    }),
    case!("self attention", [(&[1, 2, 5, 2], Any)], [], |g, x| { g.attention(x[0], x[0], x[0], causal(0.7)).unwrap() }),
    row!(RowOp::Softmax, [3, 5]),
    row!(RowOp::LogSoftmax, [2, 3, 5]),
    row!(RowOp::RmsNorm(EPS), [3, 6]),
    row!(RowOp::LayerNorm(EPS), [2, 2, 6]),
    case!("cross entropy", [(&[2, 3, 5], Any)], [0, 4, -1, 2, 2, -1], |g, x| {
        let ids = ids(g, &[2, 3]);
        g.row(RowOp::CrossEntropy, &[x[0], ids]).unwrap()
    }),
    case!("rope", [(&[2, 3, 5, 4], Any)], [], |g, x| g.rope(x[0], 100.0f32.to_bits(), false).unwrap()),
    case!("rope back", [(&[5, 6], Any)], [], |g, x| g.rope(x[0], 10_000.0f32.to_bits(), true).unwrap()),
    case!("embedding", [(&[4, 3], Any)], [0, 3, 3, 1, -1, 4], |g, x| {
        let ids = ids(g, &[2, 3]);
        g.embedding(x[0], ids).unwrap()
    }),
    case!("embedding gradient", [(&[6, 3], Any)], [0, 3, 3, 1, -1, 4], |g, x| {
        let ids = ids(g, &[6]);
        g.embedding_grad(ids, x[0], 4).unwrap()
    }),
    case!("take", [(&[2, 2, 3], Any)], [0, 2, -1, 1], |g, x| {
        let ids = ids(g, &[2, 2]);
        g.take(x[0], ids).unwrap()
    }),
    case!("take gradient", [(&[2, 2], Any)], [0, 2, -1, 1], |g, x| {
        let ids = ids(g, &[2, 2]);
        g.take_grad(ids, x[0], 3).unwrap()
    }),
    case!("conv2d", [(&[2, 3, 5, 4], Any), (&[2, 3, 3, 2], Any)], [], |g, x| {
        g.conv2d(x[0], x[1], conv(1, 0, 1, 1)).unwrap()
    }),
    case!("conv2d, padded", [(&[1, 2, 4, 4], Any), (&[3, 2, 3, 3], Any)], [], |g, x| {
        g.conv2d(x[0], x[1], conv(1, 1, 1, 1)).unwrap()
    }),
    case!("conv2d, strided", [(&[2, 2, 5, 5], Any), (&[2, 2, 2, 2], Any)], [], |g, x| {
        g.conv2d(x[0], x[1], conv(2, 1, 1, 1)).unwrap()
    }),
    case!("conv2d, dilated", [(&[1, 1, 7, 6], Any), (&[2, 1, 3, 2], Any)], [], |g, x| {
        g.conv2d(x[0], x[1], conv(1, 2, 2, 1)).unwrap()
    }),
    case!("conv2d, grouped", [(&[2, 4, 3, 3], Any), (&[6, 2, 2, 2], Any)], [], |g, x| {
        g.conv2d(x[0], x[1], conv(1, 1, 1, 2)).unwrap()
    }),
    case!("conv2d, lopsided", [(&[1, 2, 5, 6], Any), (&[2, 2, 3, 2], Any)], [], |g, x| {
        g.conv2d(x[0], x[1], LOPSIDED).unwrap()
    }),
    case!("conv2d input gradient", [(&[4, 1, 2, 3], Any), (&[2, 4, 3, 3], Any)], [], |g, x| {
        g.conv2d_input_grad(x[0], x[1], conv(2, 1, 1, 2), [5, 6]).unwrap()
    }),
    case!("conv2d weight gradient", [(&[2, 4, 5, 6], Any), (&[2, 4, 3, 3], Any)], [], |g, x| {
        g.conv2d_weight_grad(x[0], x[1], conv(2, 1, 1, 2), [2, 3]).unwrap()
    }),
    case!("cumsum", [(&[2, 5], Any)], [], |g, x| g.cumsum(x[0], 1, false).unwrap()),
    case!("cumsum of the first axis", [(&[4, 3, 2], Any)], [], |g, x| g.cumsum(x[0], 0, false).unwrap()),
    case!("cumsum back", [(&[2, 4, 3], Any)], [], |g, x| g.cumsum(x[0], 1, true).unwrap()),
    case!("gather", [(&[2, 4], Any)], [0, 3, 3, -1, 4, 2], |g, x| {
        let ids = ids(g, &[2, 3]);
        g.gather(x[0], ids, 1).unwrap()
    }),
    case!("gather from the start of the other axis", [(&[3, 4], Any)], [0, 2, 2, -1, 3, 1], |g, x| {
        let ids = ids(g, &[2, 3]);
        g.gather(x[0], ids, 0).unwrap()
    }),
    case!("scatter_add", [(&[2, 3], Any)], [1, 1, -1, 0, 5, 3], |g, x| {
        let ids = ids(g, &[2, 3]);
        g.scatter_add(ids, x[0], 1, 4).unwrap()
    }),
    case!("scatter_add along the first axis", [(&[3, 2], Any)], [1, 0, 1, 0, 7, 1], |g, x| {
        let ids = ids(g, &[3, 2]);
        g.scatter_add(ids, x[0], 0, 2).unwrap()
    }),
    case!("topk", [(&[2, 5], Any)], [], |g, x| {
        let largest = g.topk(x[0], 3).unwrap();
        g.gather(x[0], largest, 1).unwrap()
    }),
    case!("sort", [(&[3, 4], Any)], [], |g, x| {
        let order = g.topk(x[0], 4).unwrap();
        g.gather(x[0], order, 1).unwrap()
    }),
    case!("to_int", [(&[2, 3], Smooth), (&[5], Any)], [], |g, x| {
        let whole = g.unary(Unary::ToInt, x[0]).unwrap();
        let two = g.full_int(2, Shape::default()).unwrap();
        let zero = g.full(0, Shape::default()).unwrap();
        let negative = g.binary(Binary::Lt, x[0], zero).unwrap();
        let ids = g.where_(negative, two, whole).unwrap();
        let ids = g.reshape(ids, Shape(vec![6])).unwrap();
        g.gather(x[1], ids, 0).unwrap()
    }),
    case!("gather of indices", [(&[3, 2], Any)], [2, 0, 1], |g, x| {
        let (ids, order) = (ids(g, &[3]), g.arange(3).unwrap());
        let chosen = g.gather(order, ids, 0).unwrap();
        g.embedding(x[0], chosen).unwrap()
    }),
    case!("reshape", [(&[1, 6], Any)], [], |g, x| g.reshape(x[0], Shape(vec![6, 1])).unwrap()),
    case!("permute", [(&[2, 3, 4], Any)], [], |g, x| g.permute(x[0], &[2, 0, 1]).unwrap()),
    case!("broadcast_to", [(&[3, 1], Any)], [], |g, x| g.broadcast_to(x[0], Shape(vec![2, 3, 4])).unwrap()),
    case!("slice", [(&[2, 5, 3], Any)], [], |g, x| g.slice(x[0], 1, 1, 3).unwrap()),
    case!("pad", [(&[2, 3], Any)], [], |g, x| g.pad(x[0], 0, 1, 2).unwrap()),
    case!("concat", [(&[2, 3], Any), (&[2, 1], Any), (&[2, 2], Any)], [], |g, x| {
        g.concat(&[x[0], x[1], x[2], x[0]], 1).unwrap()
    }),
    case!("gelu", [(&[2, 5], Any)], [], |g, x| {
        let [half, one, root] = [0.5, 1.0, std::f32::consts::FRAC_1_SQRT_2].map(|c| number(g, c));
        let scaled = g.binary(Binary::Mul, x[0], root).unwrap();
        let erf = g.unary(Unary::Erf, scaled).unwrap();
        let weight = g.binary(Binary::Add, one, erf).unwrap();
        let halved = g.binary(Binary::Mul, x[0], half).unwrap();
        g.binary(Binary::Mul, halved, weight).unwrap()
    }),
    case!("silu", [(&[2, 5], Any)], [], |g, x| {
        let weight = g.unary(Unary::Sigmoid, x[0]).unwrap();
        g.binary(Binary::Mul, x[0], weight).unwrap()
    }),
    case!("fan-out", [(&[2, 3], Any)], [], |g, x| {
        let a = g.binary(Binary::Mul, x[0], x[0]).unwrap();
        let b = g.unary(Unary::Tanh, x[0]).unwrap();
        let c = g.binary(Binary::Mul, a, b).unwrap();
        g.binary(Binary::Sub, c, x[0]).unwrap()
    }),
    case!("tied weights", [(&[5, 3], Any)], [0, 3, 3, 1], |g, x| {
        let ids = ids(g, &[4]);
        let embedded = g.embedding(x[0], ids).unwrap();
        let w = g.permute(x[0], &[1, 0]).unwrap();
        g.matmul(embedded, w).unwrap()
    }),
];

/// Defines `operations`: an example of every operation and variant. The match has no wildcard, so an operation that is not
/// listed does not compile; tests assert that they have met all that are.
macro_rules! operations {
    ($($pattern:pat => $example:expr),+ $(,)?) => {
        pub(crate) fn operations() -> Vec<Op> {
            let listed = |op: &Op| match op {
                $($pattern => stringify!($pattern),)+
            };
            let all = vec![$($example),+];
            let patterns: BTreeSet<_> = all.iter().map(listed).collect();
            assert_eq!(patterns.len(), all.len(), "each example is of its own pattern");
            all
        }
    };
}

const NO_CONV: Conv2d = Conv2d { stride: [1; 2], padding: [0; 2], dilation: [1; 2], groups: 1 };
const NO_MASK: Attention = Attention { causal: false, window: 0, scale: 0, soft_cap: 0 };

operations! {
    Op::Input(_) => Op::Input(0),
    Op::Param(_) => Op::Param(0),
    Op::State(_) => Op::State(0),
    Op::Table(_) => Op::Table(0),
    Op::Full(_) => Op::Full(0),
    Op::Arange => Op::Arange,
    Op::FullInt(_) => Op::FullInt(0),
    Op::Random(Random::Uniform, _) => Op::Random(Random::Uniform, String::new()),
    Op::Random(Random::Normal, _) => Op::Random(Random::Normal, String::new()),
    Op::Unary(Unary::Neg) => Op::Unary(Unary::Neg),
    Op::Unary(Unary::Exp) => Op::Unary(Unary::Exp),
    Op::Unary(Unary::Log) => Op::Unary(Unary::Log),
    Op::Unary(Unary::Sqrt) => Op::Unary(Unary::Sqrt),
    Op::Unary(Unary::Rsqrt) => Op::Unary(Unary::Rsqrt),
    Op::Unary(Unary::Recip) => Op::Unary(Unary::Recip),
    Op::Unary(Unary::Tanh) => Op::Unary(Unary::Tanh),
    Op::Unary(Unary::Sigmoid) => Op::Unary(Unary::Sigmoid),
    Op::Unary(Unary::Erf) => Op::Unary(Unary::Erf),
    Op::Unary(Unary::Sin) => Op::Unary(Unary::Sin),
    Op::Unary(Unary::Cos) => Op::Unary(Unary::Cos),
    Op::Unary(Unary::Relu) => Op::Unary(Unary::Relu),
    Op::Unary(Unary::Abs) => Op::Unary(Unary::Abs),
    Op::Unary(Unary::Sign) => Op::Unary(Unary::Sign),
    Op::Unary(Unary::Floor) => Op::Unary(Unary::Floor),
    Op::Unary(Unary::Round) => Op::Unary(Unary::Round),
    Op::Unary(Unary::RoundBf16) => Op::Unary(Unary::RoundBf16),
    Op::Unary(Unary::ToFloat) => Op::Unary(Unary::ToFloat),
    Op::Unary(Unary::ToInt) => Op::Unary(Unary::ToInt),
    Op::Binary(Binary::Add) => Op::Binary(Binary::Add),
    Op::Binary(Binary::Sub) => Op::Binary(Binary::Sub),
    Op::Binary(Binary::Mul) => Op::Binary(Binary::Mul),
    Op::Binary(Binary::Div) => Op::Binary(Binary::Div),
    Op::Binary(Binary::Max) => Op::Binary(Binary::Max),
    Op::Binary(Binary::Min) => Op::Binary(Binary::Min),
    Op::Binary(Binary::Lt) => Op::Binary(Binary::Lt),
    Op::Binary(Binary::Le) => Op::Binary(Binary::Le),
    Op::Binary(Binary::Eq) => Op::Binary(Binary::Eq),
    Op::Where => Op::Where,
    Op::StopGradient => Op::StopGradient,
    Op::Sum(_) => Op::Sum(vec![0]),
    Op::Max(_) => Op::Max(vec![0]),
    Op::ArgMax => Op::ArgMax,
    Op::MatMul { .. } => Op::MatMul { ta: false, tb: false },
    Op::Attention(_) => Op::Attention(NO_MASK),
    Op::AttentionGrad(_, AttentionInput::Q) => Op::AttentionGrad(NO_MASK, AttentionInput::Q),
    Op::AttentionGrad(_, AttentionInput::K) => Op::AttentionGrad(NO_MASK, AttentionInput::K),
    Op::AttentionGrad(_, AttentionInput::V) => Op::AttentionGrad(NO_MASK, AttentionInput::V),
    Op::Row(RowOp::Softmax) => Op::Row(RowOp::Softmax),
    Op::Row(RowOp::SoftmaxGrad) => Op::Row(RowOp::SoftmaxGrad),
    Op::Row(RowOp::LogSoftmax) => Op::Row(RowOp::LogSoftmax),
    Op::Row(RowOp::LogSoftmaxGrad) => Op::Row(RowOp::LogSoftmaxGrad),
    Op::Row(RowOp::RmsNorm(_)) => Op::Row(RowOp::RmsNorm(0)),
    Op::Row(RowOp::RmsNormGrad(_)) => Op::Row(RowOp::RmsNormGrad(0)),
    Op::Row(RowOp::LayerNorm(_)) => Op::Row(RowOp::LayerNorm(0)),
    Op::Row(RowOp::LayerNormGrad(_)) => Op::Row(RowOp::LayerNormGrad(0)),
    Op::Row(RowOp::CrossEntropy) => Op::Row(RowOp::CrossEntropy),
    Op::Row(RowOp::CrossEntropyGrad) => Op::Row(RowOp::CrossEntropyGrad),
    Op::Rope { .. } => Op::Rope { base: 0, inverse: false },
    Op::Embedding => Op::Embedding,
    Op::EmbeddingGrad(_) => Op::EmbeddingGrad(1),
    Op::Take => Op::Take,
    Op::TakeGrad(_) => Op::TakeGrad(1),
    Op::Reshape => Op::Reshape,
    Op::Permute(_) => Op::Permute(vec![0]),
    Op::BroadcastTo => Op::BroadcastTo,
    Op::Slice { .. } => Op::Slice { axis: 0, start: 0 },
    Op::Pad { .. } => Op::Pad { axis: 0, before: 0, after: 0 },
    Op::Concat(_) => Op::Concat(0),
    Op::Conv2d(_) => Op::Conv2d(NO_CONV),
    Op::Conv2dInputGrad(_) => Op::Conv2dInputGrad(NO_CONV),
    Op::Conv2dWeightGrad(_) => Op::Conv2dWeightGrad(NO_CONV),
    Op::CumSum { .. } => Op::CumSum { axis: 0, reverse: false },
    Op::Gather(_) => Op::Gather(0),
    Op::ScatterAdd { .. } => Op::ScatterAdd { axis: 0, len: 1 },
    Op::TopK(_) => Op::TopK(1),
}

/// The names of all operations but some.
pub(crate) fn names_without(some: &[&str]) -> BTreeSet<String> {
    operations().iter().map(name).filter(|name| !some.contains(&name.as_str())).collect()
}

/// The name of an operation and of its variant, without numbers.
pub(crate) fn name(op: &Op) -> String {
    let of = match op {
        Op::Random(kind, _) => format!("{kind:?}"),
        Op::AttentionGrad(_, of) => format!("{of:?}"),
        Op::Unary(op) => format!("{op:?}"),
        Op::Binary(op) => format!("{op:?}"),
        Op::Row(op) => format!("{op:?}"),
        _ => String::new(),
    };
    let short = |text: String| text.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
    format!("{} {}", short(format!("{op:?}")), short(of)).trim_end().to_owned()
}
