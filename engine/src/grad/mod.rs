//! Reverse-mode differentiation: gradients are ordinary nodes, appended to the graph.
//!
//! [`gradients`] walks from the loss to the inputs. The rules stand by family: `elementwise`, `shapes` (movement and
//! reductions), `products` (contractions, rows, indexing). `docs/spec/graph.md` lists what is not plain calculus: ties,
//! kinks, and the order of additions.
//!
//! *Invariant:* the nodes and their order depend on the graph alone. Every gradient node is blamed on the source line of
//! the forward node that it comes from.

mod elementwise;
mod products;
mod shapes;

use crate::graph::{Binary, Graph, GraphError, Node, NodeId, Op, Shape, Unary};

/// Bits of 1.0.
const ONE: u32 = 1.0f32.to_bits();

/// The gradients of `loss`, a node of one element, by each of the nodes `wrt`: nodes of the same shapes, 0 where the loss
/// does not depend on one.
///
/// The contributions that reach a node are added as a left fold over its consumers by descending id, and by ascending
/// operand within one consumer.
///
/// # Errors
/// The loss has more than one element, an operation on the way has no gradient (those that are gradients themselves),
/// or the graph grows over its limit.
pub fn gradients(graph: &mut Graph, loss: NodeId, wrt: &[NodeId]) -> Result<Vec<NodeId>, GraphError> {
    let line = graph.line();
    let found = walk(graph, loss, wrt);
    graph.set_line(line);
    found
}

fn walk(graph: &mut Graph, loss: NodeId, wrt: &[NodeId]) -> Result<Vec<NodeId>, GraphError> {
    let shape = graph.shape(loss)?.clone();
    if shape.elements() != 1 {
        return Err(GraphError::Shape(format!("a loss is one number, this one has shape {shape}")));
    }
    for &id in wrt {
        graph.shape(id)?;
    }
    let needed = needed(graph, loss, wrt);
    let mut gradient: Vec<Option<NodeId>> = vec![None; needed.len()];
    graph.set_line(graph.line_of(loss));
    gradient[loss as usize] = Some(graph.full(ONE, shape)?);
    for id in (0..=loss).rev() {
        let Some(dy) = gradient[id as usize].filter(|_| needed[id as usize]) else {
            continue;
        };
        let node = graph.nodes()[id as usize].clone();
        graph.set_line(graph.line_of(id));
        let mut backward = Backward { graph, needed: &needed, id, node, dy, passed: Vec::new() };
        backward.rule()?;
        for (to, term) in backward.passed {
            let sum = match gradient[to as usize] {
                None => term,
                Some(sum) => graph.binary(Binary::Add, sum, term)?,
            };
            gradient[to as usize] = Some(sum);
        }
    }
    let found = wrt.iter().map(|&id| match gradient.get(id as usize).copied().flatten() {
        Some(found) => Ok(found),
        None => {
            graph.set_line(graph.line_of(id));
            let shape = graph.shape(id)?.clone();
            graph.full(0, shape)
        }
    });
    found.collect()
}

/// Which nodes up to the loss some wanted node flows into.
fn needed(graph: &Graph, loss: NodeId, wrt: &[NodeId]) -> Vec<bool> {
    let mut needed = vec![false; loss as usize + 1];
    for &id in wrt {
        if let Some(needed) = needed.get_mut(id as usize) {
            *needed = true;
        }
    }
    for (id, node) in graph.nodes().iter().enumerate().take(needed.len()) {
        let flows = (0..node.inputs.len()).any(|k| passes(&node.op, k) && needed[node.inputs[k] as usize]);
        needed[id] |= flows;
    }
    needed
}

/// Whether an operation passes a gradient to its operand `k`.
fn passes(op: &Op, k: usize) -> bool {
    match op {
        Op::Unary(Unary::Sign | Unary::Floor | Unary::Round | Unary::ToFloat | Unary::ToInt)
        | Op::Binary(Binary::Lt | Binary::Le | Binary::Eq)
        | Op::StopGradient
        | Op::ArgMax
        | Op::TopK(_) => false,
        Op::Where => k != 0,
        _ => true,
    }
}

/// One forward node on the way back.
struct Backward<'a> {
    graph: &'a mut Graph,
    needed: &'a [bool],
    /// The forward node: its value is `y`.
    id: NodeId,
    node: Node,
    /// Gradient of the loss by `y`.
    dy: NodeId,
    /// Gradients passed on: the operand's node and its term.
    passed: Vec<(NodeId, NodeId)>,
}

type Done = Result<(), GraphError>;

impl Backward<'_> {
    fn rule(&mut self) -> Done {
        match self.node.op.clone() {
            Op::Input(_) | Op::Param(_) | Op::State(_) | Op::Table(_) => Ok(()),
            Op::Full(_) | Op::FullInt(_) | Op::Arange | Op::Random(..) => Ok(()),
            Op::StopGradient | Op::ArgMax | Op::TopK(_) => Ok(()),
            Op::Unary(op) => self.unary(op),
            Op::Binary(op) => self.binary(op),
            Op::Where => self.where_(),
            Op::Sum(_) => self.sum(),
            Op::Reshape => self.reshape(),
            Op::BroadcastTo => self.pass(0, self.dy),
            Op::Max(axes) => self.max(&axes),
            Op::Permute(perm) => self.permute(&perm),
            Op::Slice { axis, start } => self.slice(axis, start),
            Op::Pad { axis, before, .. } => self.pad(axis, before),
            Op::Concat(axis) => self.concat(axis),
            Op::MatMul { ta, tb } => self.matmul(ta, tb),
            Op::Attention(options) => self.attention(options),
            Op::Row(op) => self.row(op),
            Op::Rope { base, inverse } => self.rope(base, inverse),
            Op::Embedding => self.embedding(),
            Op::EmbeddingGrad(_) => self.embedding_grad(),
            Op::Take => self.take(),
            Op::TakeGrad(_) => self.take_grad(),
            Op::Conv2d(options) => self.conv2d(options),
            Op::Conv2dInputGrad(options) => self.conv2d_input_grad(options),
            Op::Conv2dWeightGrad(options) => self.conv2d_weight_grad(options),
            Op::CumSum { axis, reverse } => self.cumsum(axis, reverse),
            Op::Gather(axis) => self.gather(axis),
            Op::ScatterAdd { axis, .. } => self.scatter_add(axis),
            Op::AttentionGrad(..) => self.no_rule(),
        }
    }

    fn no_rule(&self) -> Done {
        Err(GraphError::Gradient(format!("{:?} is a gradient itself and has none", self.node.op)))
    }

    /// Operand `k`.
    fn operand(&self, k: usize) -> NodeId {
        self.node.inputs[k]
    }

    fn operand_shape(&self, k: usize) -> Result<Shape, GraphError> {
        self.graph.shape(self.operand(k)).cloned()
    }

    /// Whether the gradient of operand `k` is of use.
    fn wants(&self, k: usize) -> bool {
        self.needed[self.operand(k) as usize]
    }

    /// Passes a gradient to operand `k`, summed over the axes along which the operand was repeated.
    fn pass(&mut self, k: usize, term: NodeId) -> Done {
        let shape = self.operand_shape(k)?;
        let term = self.unbroadcast(term, shape)?;
        self.passed.push((self.operand(k), term));
        Ok(())
    }

    fn constant(&mut self, value: f32) -> Result<NodeId, GraphError> {
        self.graph.full(value.to_bits(), Shape::default())
    }
}
