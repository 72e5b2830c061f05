//! What the values of a graph are, before anything is placed: which nodes are only other names for a value, which are
//! the same number everywhere, which never change, and who uses what.

use crate::graph::{Graph, Node, NodeId, Op};
use crate::number::from_foreign;

/// Most elements of a value that is computed once and kept: beyond, memory is worth more than time.
const CONSTANT_MAX: u64 = 1 << 18;

/// What a node's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A tensor of its own: fed, constant or computed.
    Own,
    /// Part of another node's tensor, from this element, in the same order.
    View(NodeId, usize),
    /// These bits in every element.
    Uniform(u32),
}

/// What is known of a graph.
#[derive(Debug)]
pub(crate) struct Analysis<'g> {
    /// The graph.
    pub(crate) graph: &'g Graph,
    /// Nodes that must be given out.
    pub(crate) wanted: &'g [NodeId],
    /// Whether elementwise nodes may run together.
    pub(crate) fuse: bool,
    /// Value of each node.
    pub(crate) values: Vec<Value>,
    /// Whether a node's value is needed, by node; only roots count.
    pub(crate) needed: Vec<bool>,
    /// Whether a node is computed once when the plan is made.
    pub(crate) constant: Vec<bool>,
    /// Nodes that compute with a root's value, ascending, by root.
    pub(crate) users: Vec<Vec<NodeId>>,
    /// Whether a root's value must be given out.
    pub(crate) given: Vec<bool>,
}

impl<'g> Analysis<'g> {
    /// Looks at a graph.
    pub(crate) fn new(graph: &'g Graph, wanted: &'g [NodeId], fuse: bool) -> Self {
        let n = graph.len();
        let mut analysis = Self {
            graph,
            wanted,
            fuse,
            values: Vec::with_capacity(n),
            needed: vec![false; n],
            constant: vec![false; n],
            users: vec![Vec::new(); n],
            given: vec![false; n],
        };
        for (id, node) in graph.nodes().iter().enumerate() {
            let value = analysis.value(node);
            analysis.values.push(value);
            analysis.constant[id] = analysis.never_changes(node);
        }
        for &id in wanted {
            if let Some(root) = analysis.root(id) {
                analysis.given[root as usize] = true;
                analysis.needed[root as usize] = true;
            }
        }
        for id in (0..n).rev() {
            if !analysis.needed[id] {
                continue;
            }
            let operands: Vec<NodeId> = analysis.operands(id as NodeId).collect();
            for input in operands {
                if let Some(root) = analysis.root(input) {
                    analysis.needed[root as usize] = true;
                    // Descending until it is reversed below.
                    if analysis.users[root as usize].last() != Some(&(id as NodeId)) {
                        analysis.users[root as usize].push(id as NodeId);
                    }
                }
            }
        }
        analysis.users.iter_mut().for_each(|users| users.reverse());
        analysis
    }

    /// A node.
    pub(crate) fn node(&self, id: NodeId) -> &'g Node {
        &self.graph.nodes()[id as usize]
    }

    /// Elements of a node.
    pub(crate) fn len(&self, id: NodeId) -> usize {
        self.node(id).shape.elements() as usize
    }

    /// The node whose tensor holds this node's value; none where no tensor is needed.
    pub(crate) fn root(&self, id: NodeId) -> Option<NodeId> {
        match self.values[id as usize] {
            Value::Own => Some(id),
            Value::View(root, _) => Some(root),
            Value::Uniform(_) => None,
        }
    }

    /// What a node computes with: its inputs, but an elementwise node looks through broadcasts.
    pub(crate) fn operands(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let elementwise = is_elementwise(&self.node(id).op);
        self.node(id).inputs.iter().map(move |&input| if elementwise { self.unbroadcast(input) } else { input })
    }

    /// The tensor under a broadcast.
    pub(crate) fn unbroadcast(&self, id: NodeId) -> NodeId {
        let mut id = id;
        while self.fuse && self.values[id as usize] == Value::Own {
            match (&self.node(id).op, &self.node(id).inputs[..]) {
                (Op::BroadcastTo, &[input]) => id = input,
                _ => break,
            }
        }
        id
    }

    /// Whether a node is computed by a step (and not fed or uniform).
    pub(crate) fn is_computed(&self, id: NodeId) -> bool {
        self.values[id as usize] == Value::Own && !is_leaf(&self.node(id).op)
    }

    fn value(&self, node: &Node) -> Value {
        let view = |offset| match (node.inputs[0], self.values[node.inputs[0] as usize]) {
            (input, Value::Own) => Value::View(input, offset),
            (_, Value::View(root, before)) => Value::View(root, before + offset),
            (_, uniform) => uniform,
        };
        let uniform = |otherwise| match node.inputs.first().map(|&input| self.values[input as usize]) {
            Some(Value::Uniform(bits)) => Value::Uniform(bits),
            _ => otherwise,
        };
        match &node.op {
            Op::Full(bits) => Value::Uniform(from_foreign(f32::from_bits(*bits)).to_bits()),
            Op::FullInt(value) => Value::Uniform(value.cast_unsigned()),
            Op::Reshape | Op::StopGradient => view(0),
            Op::BroadcastTo if node.shape.elements() == self.node(node.inputs[0]).shape.elements() => view(0),
            Op::Permute(perm) if keeps_order(perm, &self.node(node.inputs[0]).shape.0) => view(0),
            Op::Slice { axis, start } => {
                let (axis, shape) = (usize::from(*axis), &node.shape.0);
                if shape[..axis].iter().all(|&len| len == 1) {
                    let inner: usize = shape[axis + 1..].iter().map(|&len| len as usize).product();
                    view(*start as usize * inner)
                } else {
                    uniform(Value::Own)
                }
            }
            Op::BroadcastTo | Op::Permute(_) => uniform(Value::Own),
            _ => Value::Own,
        }
    }

    fn never_changes(&self, node: &Node) -> bool {
        let inputs = || node.inputs.iter().all(|&input| self.constant[input as usize]);
        match node.op {
            Op::Input(_) | Op::Param(_) | Op::State(_) | Op::Table(_) | Op::Random(..) => false,
            Op::Full(_) | Op::FullInt(_) | Op::Arange => true,
            _ => node.shape.elements() <= CONSTANT_MAX && inputs(),
        }
    }
}

/// Whether a permutation only moves axes of length 1.
fn keeps_order(perm: &[u8], shape: &[u32]) -> bool {
    let mut long = perm.iter().filter(|&&axis| shape[usize::from(axis)] != 1);
    let mut last = None;
    long.all(|axis| last.replace(axis) < Some(axis))
}

/// Whether a node is an elementwise operation, broadcasting included.
pub(crate) fn is_elementwise(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Where | Op::BroadcastTo)
}

/// Whether a node's value comes from outside.
pub(crate) fn is_leaf(op: &Op) -> bool {
    matches!(op, Op::Input(_) | Op::Param(_) | Op::State(_) | Op::Table(_) | Op::Full(_) | Op::FullInt(_) | Op::Arange)
}
