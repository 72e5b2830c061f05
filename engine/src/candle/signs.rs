//! What is known of the signs of nodes, so that a division or a root need not be guarded where it cannot go wrong.

use crate::graph::{Binary, Graph, Node, NodeId, Op, Unary};
use crate::number::from_foreign;

/// What is known of all elements of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sign {
    /// None is below 0.
    pub(super) not_negative: bool,
    /// All are above 0.
    pub(super) positive: bool,
    /// All are this one.
    pub(super) constant: Option<f32>,
}

/// For each node of a graph.
#[derive(Debug)]
pub(super) struct Signs(Vec<Sign>);

impl Signs {
    pub(super) fn of(graph: &Graph) -> Self {
        let mut known: Vec<Sign> = Vec::with_capacity(graph.len());
        for node in graph.nodes() {
            known.push(sign(node, &known));
        }
        Self(known)
    }

    pub(super) fn at(&self, id: NodeId) -> Sign {
        self.0.get(id as usize).copied().unwrap_or_default()
    }
}

fn sign(node: &Node, known: &[Sign]) -> Sign {
    let x = |i: usize| known[node.inputs[i] as usize];
    let sign = |not_negative: bool, positive: bool| Sign { not_negative, positive, constant: None };
    match &node.op {
        Op::Full(bits) => {
            let value = from_foreign(f32::from_bits(*bits));
            Sign { not_negative: value >= 0.0, positive: value > 0.0, constant: Some(value) }
        }
        Op::Unary(Unary::Sqrt | Unary::Abs | Unary::Relu | Unary::Exp | Unary::Sigmoid) => sign(true, false),
        Op::Binary(Binary::Mul) if node.inputs[0] == node.inputs[1] => sign(true, false),
        Op::Binary(Binary::Mul | Binary::Div) => sign(x(0).not_negative && x(1).not_negative, false),
        Op::Binary(Binary::Add) => {
            let not_negative = x(0).not_negative && x(1).not_negative;
            sign(not_negative, not_negative && (x(0).positive || x(1).positive))
        }
        Op::Binary(Binary::Max) => sign(x(0).not_negative || x(1).not_negative, x(0).positive || x(1).positive),
        Op::Sum(_) | Op::Max(_) | Op::Slice { .. } => sign(x(0).not_negative, x(0).positive),
        Op::Reshape | Op::Permute(_) | Op::BroadcastTo | Op::StopGradient => x(0),
        _ => Sign::default(),
    }
}
