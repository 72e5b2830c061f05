//! The definition: every operation in scalar Rust, as slow as it is plain.
//!
//! Nodes run one after another in the order of their ids, each by the rule that `docs/spec/arithmetic.md` states. One
//! file for each family: [`elementwise`], [`reduce`], [`contract`], [`conv`], [`attention`], [`rows`], [`index`], [`shape`].
//! Other backends may share the scalar functions that are public here; they must equal this one on every bit.
//!
//! *Invariant:* all floats between nodes are canonical (see [`crate::number`]).

pub mod attention;
pub mod contract;
pub mod conv;
pub mod elementwise;
pub mod index;
mod leaves;
pub mod reduce;
pub mod rows;
pub mod shape;

pub use elementwise::{binary, unary};

use crate::backend::{BackendError, Executor, Feed, Tensor};
use crate::graph::{Graph, Node, NodeId, Op, Shape};

/// The reference backend.
#[derive(Debug)]
pub struct Reference {
    graph: Graph,
    wanted: Vec<NodeId>,
    /// For each node, the last node that reads it; itself when none does. Wanted nodes are kept to the end.
    last_use: Vec<usize>,
}

impl Reference {
    /// Makes `graph` ready.
    pub fn new(graph: &Graph, wanted: &[NodeId]) -> Self {
        Self { graph: graph.clone(), wanted: wanted.to_vec(), last_use: last_uses(graph, wanted) }
    }

    /// The values of all nodes that are kept to the end.
    fn values(&self, feed: &Feed<'_>) -> Result<Vec<Option<Tensor>>, BackendError> {
        let nodes = self.graph.nodes();
        let mut values: Vec<Option<Tensor>> = vec![None; nodes.len()];
        for (id, node) in nodes.iter().enumerate() {
            let operands = node.inputs.iter().filter_map(|&input| values[input as usize].as_ref()).collect();
            let shapes = node.inputs.iter().map(|&input| &nodes[input as usize].shape).collect();
            let value = Here { node, operands, shapes }.value(feed)?;
            values[id] = Some(value);
            for used in node.inputs.iter().map(|&input| input as usize).chain([id]) {
                if self.last_use[used] <= id {
                    values[used] = None;
                }
            }
        }
        Ok(values)
    }
}

/// For each node, the last node that reads it; itself when none does, the number of nodes when it is wanted.
pub(crate) fn last_uses(graph: &Graph, wanted: &[NodeId]) -> Vec<usize> {
    let nodes = graph.nodes();
    let mut last_use: Vec<usize> = (0..nodes.len()).collect();
    for (id, node) in nodes.iter().enumerate() {
        for &input in &node.inputs {
            last_use[input as usize] = id;
        }
    }
    for &id in wanted {
        if let Some(last) = last_use.get_mut(id as usize) {
            *last = nodes.len();
        }
    }
    last_use
}

/// One node's value from those of its operands, for a backend that lacks the operation.
#[cfg(feature = "candle")]
pub(crate) fn node_value(
    node: &Node,
    operands: Vec<&Tensor>,
    shapes: Vec<&Shape>,
    feed: &Feed<'_>,
) -> Result<Tensor, BackendError> {
    Here { node, operands, shapes }.value(feed)
}

impl Executor for Reference {
    fn run(&mut self, feed: &Feed<'_>, out: &mut [Vec<f32>]) -> Result<(), BackendError> {
        if out.len() != self.wanted.len() {
            return Err(BackendError::Feed(format!("{} results for {} wanted nodes", out.len(), self.wanted.len())));
        }
        let values = self.values(feed)?;
        for (out, &id) in out.iter_mut().zip(&self.wanted) {
            match values.get(id as usize) {
                Some(Some(Tensor::F32(value))) => value.clone_into(out),
                _ => return Err(BackendError::Feed(format!("node {id} is not a float node of this graph"))),
            }
        }
        Ok(())
    }
}

/// A node that is being computed, with its operands at hand.
struct Here<'a> {
    node: &'a Node,
    operands: Vec<&'a Tensor>,
    shapes: Vec<&'a Shape>,
}

impl<'a> Here<'a> {
    /// Floats of operand `i`. The graph's constructors have checked every element type.
    fn floats(&self, i: usize) -> &'a [f32] {
        match self.operands[i] {
            Tensor::F32(values) => values,
            Tensor::I32(_) => unreachable!("operand {i} of {:?} is not a float", self.node.op),
        }
    }

    /// Integers of operand `i`.
    fn ints(&self, i: usize) -> &'a [i32] {
        match self.operands[i] {
            Tensor::I32(values) => values,
            Tensor::F32(_) => unreachable!("operand {i} of {:?} is not an integer", self.node.op),
        }
    }

    /// Axis lengths of operand `i`.
    fn dims(&self, i: usize) -> &'a [u32] {
        &self.shapes[i].0
    }

    /// Axis lengths of the result.
    fn out(&self) -> &'a [u32] {
        &self.node.shape.0
    }

    /// Number of elements of the result.
    fn count(&self) -> usize {
        shape::size(self.out())
    }

    /// Length of the last axis of operand `i`.
    fn last(&self, i: usize) -> usize {
        self.dims(i).last().map_or(1, |&n| n as usize)
    }

    fn gather(&self, axis: usize) -> Tensor {
        let (n, ids, around) = (self.dims(0)[axis] as usize, self.ints(1), index::around(self.dims(1), axis));
        match self.operands[0] {
            Tensor::F32(x) => Tensor::F32(index::gather(x, n, ids, around)),
            Tensor::I32(x) => Tensor::I32(index::gather(x, n, ids, around)),
        }
    }

    fn value(&self, feed: &Feed<'_>) -> Result<Tensor, BackendError> {
        Ok(match &self.node.op {
            Op::Input(_) | Op::Param(_) | Op::State(_) | Op::Table(_) => return leaves::fed(self.node, feed),
            Op::Full(bits) => leaves::full(*bits, self.count()),
            Op::FullInt(value) => Tensor::I32(vec![*value; self.count()]),
            Op::Arange => Tensor::I32((0..).take(self.count()).collect()),
            Op::Random(kind, name) => Tensor::F32(leaves::random(*kind, name, feed, self.count())),
            Op::Unary(op) => self.unary(*op),
            Op::Binary(op) => Tensor::F32(self.binary(*op)),
            Op::Where => self.where_(),
            Op::StopGradient | Op::Reshape => self.operands[0].clone(),
            Op::Sum(axes) => Tensor::F32(reduce::sum(self.floats(0), self.dims(0), axes)),
            Op::Max(axes) => Tensor::F32(reduce::max(self.floats(0), self.dims(0), axes)),
            Op::ArgMax => Tensor::I32(reduce::argmax(self.floats(0), self.last(0))),
            Op::MatMul { ta, tb } => Tensor::F32(self.matmul(*ta, *tb)),
            Op::Attention(options) => Tensor::F32(self.attention(options)),
            Op::AttentionGrad(options, of) => Tensor::F32(self.attention_grad(options, *of)),
            Op::Row(op) => Tensor::F32(self.row(*op)),
            Op::Rope { base, inverse } => Tensor::F32(rows::rope(self.floats(0), self.dims(0), *base, *inverse)),
            Op::Embedding => Tensor::F32(index::embedding(self.floats(0), self.ints(1), self.last(0))),
            Op::EmbeddingGrad(rows) => {
                Tensor::F32(index::embedding_grad(self.ints(0), self.floats(1), self.last(1), *rows as usize))
            }
            Op::Take => Tensor::F32(index::take(self.floats(0), self.ints(1), self.last(0))),
            Op::TakeGrad(n) => Tensor::F32(index::take_grad(self.ints(0), self.floats(1), *n as usize)),
            Op::Permute(perm) => shape::permute(self.operands[0], self.dims(0), perm),
            Op::BroadcastTo => shape::broadcast(self.operands[0], self.dims(0), self.out()),
            Op::Slice { axis, start } => {
                shape::slice(self.operands[0], self.dims(0), self.out(), usize::from(*axis), *start)
            }
            Op::Pad { axis, before, .. } => {
                let axis = usize::from(*axis);
                Tensor::F32(shape::pad(self.floats(0), self.dims(0), self.out(), axis, *before))
            }
            Op::Concat(axis) => shape::concat(&self.operands, &self.shapes, self.out(), usize::from(*axis)),
            Op::Conv2d(options) => Tensor::F32(self.conv2d(*options)),
            Op::Conv2dInputGrad(options) => Tensor::F32(self.conv2d_input_grad(*options)),
            Op::Conv2dWeightGrad(options) => Tensor::F32(self.conv2d_weight_grad(*options)),
            Op::CumSum { axis, reverse } => {
                Tensor::F32(reduce::cumsum(self.floats(0), self.dims(0), usize::from(*axis), *reverse))
            }
            Op::Gather(axis) => self.gather(usize::from(*axis)),
            Op::ScatterAdd { axis, len } => {
                let around = index::around(self.dims(0), usize::from(*axis));
                Tensor::F32(index::scatter_add(self.ints(0), self.floats(1), around, *len as usize))
            }
            Op::TopK(k) => Tensor::I32(index::topk(self.floats(0), self.last(0), *k as usize)),
        })
    }
}
