//! The graph in `f64`, without the rounding rules: what the exact arithmetic approximates.
//!
//! Gradients are checked against central differences here, and backends for closeness. Each operation is written from
//! its mathematical definition, not from its gradient's or its backend's code. Start at [`evaluate`].
//!
//! *Invariant:* for tests only: slow, and it panics on tensors that do not fit the graph. Its results decide nothing.

mod conv;
mod elementwise;
mod movement;
mod products;
mod rows;

use cairn_protocol::Seed;

use crate::backend::{Feed, Tensor};
use crate::graph::{Graph, Node, NodeId, Op, Random, Shape};
use crate::random::Stream;

/// What an evaluation reads: [`Feed`] in `f64`, so that a parameter can be moved by less than an `f32` shows.
#[derive(Clone, Debug)]
pub struct Point {
    /// `Input(0)` and `Input(1)`.
    pub inputs: [Tensor; 2],
    /// Parameters, in the program's order.
    pub params: Vec<Vec<f64>>,
    /// Optimiser state, in the program's order.
    pub states: Vec<Vec<f64>>,
    /// Value of each table at this step.
    pub tables: Vec<f64>,
    /// Seed of the run.
    pub seed: Seed,
    /// Step of the run.
    pub step: u64,
}

impl From<&Feed<'_>> for Point {
    fn from(feed: &Feed<'_>) -> Self {
        let wide = |tensors: &[Vec<f32>]| tensors.iter().map(|tensor| widened(tensor)).collect();
        Self {
            inputs: feed.inputs.map(Clone::clone),
            params: wide(feed.params),
            states: wide(feed.states),
            tables: widened(feed.tables),
            seed: *feed.seed,
            step: feed.step,
        }
    }
}

fn widened(tensor: &[f32]) -> Vec<f64> {
    tensor.iter().map(|&x| f64::from(x)).collect()
}

/// A tensor under evaluation.
#[derive(Clone, Debug)]
enum Value {
    F(Vec<f64>),
    I(Vec<i32>),
}

impl Value {
    fn floats(&self) -> &[f64] {
        match self {
            Self::F(values) => values,
            Self::I(_) => unreachable!("the constructors checked that this operand is F32"),
        }
    }

    fn ints(&self) -> &[i32] {
        match self {
            Self::I(values) => values,
            Self::F(_) => unreachable!("the constructors checked that this operand is I32"),
        }
    }

    /// The same movement of elements for either type.
    fn moved(&self, from: impl Fn(usize) -> usize, count: usize) -> Self {
        match self {
            Self::F(values) => Self::F((0..count).map(|i| values[from(i)]).collect()),
            Self::I(values) => Self::I((0..count).map(|i| values[from(i)]).collect()),
        }
    }
}

/// The wanted F32 nodes of a graph, in `f64`.
///
/// # Panics
/// The feed does not fit the graph.
pub fn evaluate(graph: &Graph, feed: &Feed<'_>, wanted: &[NodeId]) -> Vec<Vec<f64>> {
    evaluate_at(graph, &Point::from(feed), wanted)
}

/// [`evaluate`] at a point given in `f64`.
///
/// # Panics
/// The point does not fit the graph.
pub fn evaluate_at(graph: &Graph, point: &Point, wanted: &[NodeId]) -> Vec<Vec<f64>> {
    let values = evaluate_given(graph, point, &[]);
    wanted.iter().map(|&id| values[id as usize].clone()).collect()
}

/// Every node of a graph, each computed from the values that are `given` for its operands, as another backend found them,
/// rather than from those computed here: what each single operation should have given. A node of integers is empty.
///
/// # Panics
/// The point or a given value does not fit the graph.
pub fn evaluate_given(graph: &Graph, point: &Point, given: &[Option<Vec<f32>>]) -> Vec<Vec<f64>> {
    let mut values: Vec<Value> = Vec::with_capacity(graph.len());
    let mut computed = Vec::with_capacity(graph.len());
    for (id, node) in graph.nodes().iter().enumerate() {
        let here = Here { graph, node, values: &values };
        let value = here.value(point);
        computed.push(match &value {
            Value::F(values) => values.clone(),
            Value::I(_) => vec![],
        });
        values.push(match given.get(id) {
            Some(Some(given)) => here.fitting(Value::F(widened(given))),
            _ => value,
        });
    }
    computed
}

/// One node and the values before it.
struct Here<'a> {
    graph: &'a Graph,
    node: &'a Node,
    values: &'a [Value],
}

impl<'a> Here<'a> {
    fn operand(&self, k: usize) -> &'a Value {
        &self.values[self.node.inputs[k] as usize]
    }

    fn floats(&self, k: usize) -> &'a [f64] {
        self.operand(k).floats()
    }

    fn ints(&self, k: usize) -> &'a [i32] {
        self.operand(k).ints()
    }

    fn shape(&self, k: usize) -> &'a Shape {
        &self.graph.nodes()[self.node.inputs[k] as usize].shape
    }

    /// Length of operand `k`'s last axis.
    fn last(&self, k: usize) -> usize {
        self.shape(k).0.last().map_or(1, |&n| n as usize)
    }

    /// Number of elements of the result.
    fn count(&self) -> usize {
        self.node.shape.elements() as usize
    }

    fn value(&self, point: &Point) -> Value {
        match &self.node.op {
            Op::Input(i) => match &point.inputs[usize::from(*i)] {
                Tensor::F32(values) => self.fitting(Value::F(widened(values))),
                Tensor::I32(values) => self.fitting(Value::I(values.clone())),
            },
            Op::Param(i) => self.fitting(Value::F(point.params[*i as usize].clone())),
            Op::State(i) => self.fitting(Value::F(point.states[*i as usize].clone())),
            Op::Table(i) => Value::F(vec![point.tables[*i as usize]]),
            Op::Full(bits) => Value::F(vec![wide(*bits); self.count()]),
            Op::FullInt(value) => Value::I(vec![*value; self.count()]),
            Op::Arange => Value::I((0..).take(self.count()).collect()),
            Op::Random(kind, name) => self.random(*kind, name, point),
            Op::Unary(op) => self.unary(*op),
            Op::Binary(op) => self.binary(*op),
            Op::Where => self.where_(),
            Op::StopGradient | Op::Reshape => self.operand(0).clone(),
            Op::Sum(_) => self.sum(),
            Op::Max(_) => self.max(),
            Op::ArgMax => self.argmax(),
            Op::MatMul { ta, tb } => self.matmul(*ta, *tb),
            Op::Attention(options) => self.attention(*options),
            Op::AttentionGrad(options, of) => self.attention_grad(*options, *of),
            Op::Row(op) => self.row(*op),
            Op::Rope { base, inverse } => self.rope(wide(*base), *inverse),
            Op::Embedding => self.embedding(),
            Op::EmbeddingGrad(rows) => self.embedding_grad(*rows as usize),
            Op::Take => self.take(),
            Op::TakeGrad(n) => self.take_grad(*n as usize),
            Op::Permute(perm) => self.permute(perm),
            Op::BroadcastTo => self.broadcast_to(),
            Op::Slice { axis, start } => self.slice(*axis, *start as usize),
            Op::Pad { axis, before, .. } => self.pad(*axis, *before as usize),
            Op::Concat(axis) => self.concat(*axis),
            Op::Conv2d(options) => self.conv2d(*options),
            Op::Conv2dInputGrad(options) => self.conv2d_input_grad(*options),
            Op::Conv2dWeightGrad(options) => self.conv2d_weight_grad(*options),
            Op::CumSum { axis, reverse } => self.cumsum(usize::from(*axis), *reverse),
            Op::Gather(axis) => self.gather(usize::from(*axis)),
            Op::ScatterAdd { axis, .. } => self.scatter_add(usize::from(*axis)),
            Op::TopK(_) => self.topk(),
        }
    }

    /// The numbers that every backend draws.
    fn random(&self, kind: Random, name: &str, point: &Point) -> Value {
        let stream = Stream::new(&point.seed, "random", name);
        let step = point.step as u32; // a run has at most 2^20 steps
        let number = |index| match kind {
            Random::Uniform => stream.uniform(step, index),
            Random::Normal => stream.normal(step, index),
        };
        Value::F((0..).take(self.count()).map(|index| f64::from(number(index))).collect())
    }

    /// A fed tensor, which must have the node's length.
    fn fitting(&self, value: Value) -> Value {
        let got = match &value {
            Value::F(values) => values.len(),
            Value::I(values) => values.len(),
        };
        assert_eq!(got, self.count(), "{:?} is fed another number of elements", self.node.op);
        value
    }
}

/// The float with these bits.
fn wide(bits: u32) -> f64 {
    f64::from(f32::from_bits(bits))
}
