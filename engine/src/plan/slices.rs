//! Slices of the batch: which nodes run slice by slice, so that what lives between them is small.
//!
//! A tensor is cut into slices along its first axis that is not 1, its **lead**; in memory, slices follow each other.
//! A node that makes each slice of its result from the same slice of its operands (and from values that are there
//! before) runs in the loop. So do sums over the lead whose order lets one slice continue what the last one began: weight
//! gradients, sums by the column rule, gradients of embeddings. The rest runs before the loop or after it.
//!
//! *Invariant:* no node in the loop reads a value that is complete only after it.

use crate::graph::{Graph, Node, NodeId, Op, Shape};

use super::analysis::{Analysis, is_elementwise, is_leaf};
use crate::reference::reduce::CHUNK;

/// When a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Once, before the loop.
    Before,
    /// For each slice.
    Loop,
    /// Once, after the loop.
    After,
}

/// How a node that runs in the loop treats slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// A slice of the result is made from a slice of the operands.
    Slice,
    /// The result is a sum over all slices.
    Sum,
}

/// How the nodes of a graph are spread over slices.
#[derive(Debug)]
pub(crate) struct Slices {
    /// Number of slices.
    pub(crate) count: usize,
    /// When each node runs; of a view, when what it shows is there.
    stages: Vec<Stage>,
    /// Nodes in the loop whose result is a sum over all slices.
    sums: Vec<bool>,
}

impl Slices {
    /// The whole batch at once.
    pub(crate) fn whole(analysis: &Analysis<'_>) -> Self {
        let n = analysis.graph.len();
        Self { count: 1, stages: vec![Stage::Before; n], sums: vec![false; n] }
    }

    /// Cuts the batch into `count` slices, at least 2; none where nodes mix examples, or the batch has not that many
    /// equal parts.
    pub(crate) fn new(analysis: &Analysis<'_>, count: usize) -> Option<Self> {
        let mut cutting = Cutting::new(analysis, count);
        for id in 0..analysis.graph.len() as NodeId {
            cutting.place(id)?;
        }
        cutting.draw_in();
        cutting.put_off();
        let slices = cutting.slices;
        slices.stages.contains(&Stage::Loop).then_some(slices)
    }

    /// When a node runs.
    pub(crate) fn stage(&self, id: NodeId) -> Stage {
        if self.sums[id as usize] { Stage::Loop } else { self.stages[id as usize] }
    }

    /// Rows of the products that a slice has: the shortest contraction over a slice's rows or, without any, the most rows
    /// of a slice's product. None without products.
    pub(crate) fn rows_of_products(&self, analysis: &Analysis<'_>) -> Option<usize> {
        let products = (0..analysis.graph.len() as NodeId).filter(|&id| {
            let node = analysis.node(id);
            analysis.needed[id as usize]
                && self.stage(id) == Stage::Loop
                && matches!(node.op, Op::MatMul { .. })
                && node.shape.0.len() == 2
        });
        let (sums, others): (Vec<_>, Vec<_>) = products.partition(|&id| self.is_sum(id));
        let lead = |&id: &NodeId| analysis.node(analysis.node(id).inputs[0]).shape.0[0] as usize / self.count;
        sums.iter().map(lead).min().or_else(|| others.iter().map(lead).max())
    }

    /// Whether each slice of a node is a tensor of its own.
    pub(crate) fn is_sliced(&self, id: NodeId) -> bool {
        self.stages[id as usize] == Stage::Loop
    }

    /// Whether a node is a sum over all slices, of each of which it does a part.
    pub(crate) fn is_sum(&self, id: NodeId) -> bool {
        self.sums[id as usize]
    }

    /// Whether a node, computed in the loop, takes only a slice of operand `k`.
    pub(crate) fn takes_slice(&self, analysis: &Analysis<'_>, id: NodeId, k: usize) -> bool {
        self.stage(id) == Stage::Loop && takes_slice(analysis.graph, analysis.node(id), k)
    }
}

/// Rows of the batch: the lead of the graph's first input.
pub(crate) fn rows(graph: &Graph) -> usize {
    let input = graph.nodes().iter().find(|node| matches!(node.op, Op::Input(_)));
    input.and_then(|node| lead(&node.shape).map(|axis| node.shape.0[axis] as usize)).unwrap_or(1)
}

/// The first axis that is not 1.
pub(crate) fn lead(shape: &Shape) -> Option<usize> {
    shape.0.iter().position(|&len| len != 1)
}

/// A slice of a tensor of this shape.
pub(crate) fn sliced(shape: &Shape, count: usize) -> Shape {
    let mut slice = shape.clone();
    if let Some(axis) = lead(shape) {
        slice.0[axis] /= count as u32;
    }
    slice
}

struct Cutting<'a, 'g> {
    analysis: &'a Analysis<'g>,
    slices: Slices,
    /// Nodes that a wanted node depends on, views included.
    live: Vec<bool>,
    /// Nodes that depend on no parameter or state.
    free: Vec<bool>,
}

impl<'a, 'g> Cutting<'a, 'g> {
    fn new(analysis: &'a Analysis<'g>, count: usize) -> Self {
        let nodes = analysis.graph.nodes();
        let mut live = vec![false; nodes.len()];
        analysis.wanted.iter().for_each(|&id| live[id as usize] = true);
        for (id, node) in nodes.iter().enumerate().rev() {
            if live[id] {
                node.inputs.iter().for_each(|&input| live[input as usize] = true);
            }
        }
        let mut free = vec![true; nodes.len()];
        for (id, node) in nodes.iter().enumerate() {
            free[id] = !matches!(node.op, Op::Param(_) | Op::State(_))
                && node.inputs.iter().all(|&input| free[input as usize]);
        }
        let slices = Slices { count, stages: vec![Stage::Before; nodes.len()], sums: vec![false; nodes.len()] };
        Self { analysis, slices, live, free }
    }

    fn node(&self, id: NodeId) -> &'g Node {
        self.analysis.node(id)
    }

    /// Settles the stage of the next node; none where it mixes examples.
    fn place(&mut self, id: NodeId) -> Option<()> {
        let node = self.node(id);
        if !self.live[id as usize] || is_leaf(&node.op) || self.analysis.constant[id as usize] {
            return Some(());
        }
        let rule = rule(self.analysis.graph, node, self.slices.count);
        let of_batch = |k: usize| {
            let input = node.inputs[k];
            self.slices.is_sliced(input) || matches!(self.node(input).op, Op::Input(_))
        };
        let in_loop = (0..node.inputs.len()).any(|k| takes_slice(self.analysis.graph, node, k) && of_batch(k));
        if let (Some(rule), true) = (rule, in_loop) {
            for (k, &input) in node.inputs.iter().enumerate() {
                let sliced = takes_slice(self.analysis.graph, node, k);
                if self.slices.stages[input as usize] > if sliced { Stage::Loop } else { Stage::Before } {
                    self.hoist(input)?;
                }
            }
            match rule {
                Rule::Slice => self.slices.stages[id as usize] = Stage::Loop,
                Rule::Sum => {
                    self.slices.stages[id as usize] = Stage::After;
                    self.slices.sums[id as usize] = true;
                }
            }
        } else if node.inputs.iter().any(|&input| self.slices.stages[input as usize] != Stage::Before) {
            self.slices.stages[id as usize] = Stage::After;
        }
        Some(())
    }

    /// Moves a value that the loop needs whole, and all that it is made of, before the loop: that is sensible only where
    /// no parameter is involved, such as counting targets.
    fn hoist(&mut self, id: NodeId) -> Option<()> {
        if !self.free[id as usize] {
            return None;
        }
        let mut left = vec![id];
        while let Some(id) = left.pop() {
            if self.slices.stages[id as usize] != Stage::Before {
                self.slices.stages[id as usize] = Stage::Before;
                self.slices.sums[id as usize] = false;
                left.extend(&self.node(id).inputs);
            }
        }
        Some(())
    }

    /// Draws nodes from before the loop into it where only slices of them are used there: broadcasts and random numbers,
    /// say.
    fn draw_in(&mut self) {
        let analysis = self.analysis;
        let mut whole = analysis.given.clone();
        for id in (0..analysis.graph.len() as NodeId).rev().filter(|&id| self.live[id as usize]) {
            let node = self.node(id);
            let movable = !whole[id as usize] && !is_leaf(&node.op) && !analysis.constant[id as usize];
            if self.slices.stage(id) == Stage::Before
                && movable
                && rule(analysis.graph, node, self.slices.count) == Some(Rule::Slice)
            {
                self.slices.stages[id as usize] = Stage::Loop;
            }
            for (k, &input) in node.inputs.iter().enumerate() {
                whole[input as usize] |= !self.slices.takes_slice(analysis, id, k);
            }
        }
    }

    /// Puts off to after the loop what it does not need, so that an optimiser's nodes are together.
    fn put_off(&mut self) {
        let mut early = vec![false; self.live.len()];
        for id in (0..self.live.len()).rev().filter(|&id| self.live[id]) {
            let node = self.node(id as NodeId);
            match self.slices.stage(id as NodeId) {
                Stage::Before if is_leaf(&node.op) || self.analysis.constant[id] => continue,
                Stage::Before if !early[id] => self.slices.stages[id] = Stage::After,
                Stage::After => continue,
                Stage::Before | Stage::Loop => node.inputs.iter().for_each(|&input| early[input as usize] = true),
            }
        }
    }
}

/// Whether a tensor of this shape can be cut.
fn divides(shape: &Shape, count: usize) -> bool {
    lead(shape).is_some_and(|axis| (shape.0[axis] as usize).is_multiple_of(count))
}

/// How a node could run in the loop, whatever its operands are.
fn rule(graph: &Graph, node: &Node, count: usize) -> Option<Rule> {
    let shape = |k: usize| &graph.nodes()[node.inputs[k] as usize].shape;
    let (out, when) = (&node.shape, |holds: bool, rule: Rule| holds.then_some(rule));
    let cut = divides(out, count);
    let slice_if = |holds: bool| when(cut && holds, Rule::Slice);
    let same_lead = |k: usize| lead(shape(k)) == lead(out);
    // Whether `n` axes or more follow the lead of operand 0.
    let inside = |n: usize| lead(shape(0)).is_some_and(|axis| axis + n < shape(0).0.len());
    match &node.op {
        op if is_elementwise(op) => slice_if(true),
        Op::StopGradient | Op::Random(..) => slice_if(true),
        Op::Reshape => slice_if(divides(shape(0), count)),
        Op::Permute(perm) => slice_if(lead(out).map(|axis| usize::from(perm[axis])) == lead(shape(0))),
        Op::Slice { axis, .. }
        | Op::Pad { axis, .. }
        | Op::CumSum { axis, .. }
        | Op::Gather(axis)
        | Op::ScatterAdd { axis, .. } => slice_if(same_lead(0) && lead(out) != Some(usize::from(*axis))),
        Op::Concat(axis) => slice_if((0..node.inputs.len()).all(same_lead) && lead(out) != Some(usize::from(*axis))),
        Op::MatMul { ta, tb } if out.0.len() == 2 => match (ta, tb) {
            (false, _) => slice_if(lead(out) == Some(0)),
            (true, false) => when((shape(0).0[0] as usize).is_multiple_of(count * CHUNK), Rule::Sum),
            (true, true) => None,
        },
        Op::MatMul { .. } | Op::Attention(_) | Op::AttentionGrad(..) => slice_if(lead(out) == Some(0)),
        Op::Conv2d(_) | Op::Conv2dInputGrad(_) => slice_if(lead(out) == Some(0)),
        Op::Row(_) | Op::ArgMax | Op::TopK(_) => slice_if(inside(1)),
        Op::Rope { .. } => slice_if(inside(2)),
        Op::Sum(axes) | Op::Max(axes) => {
            let of_lead = lead(shape(0)).is_some_and(|axis| axes.contains(&(axis as u8)));
            let by_rows = axes.last().is_some_and(|&axis| usize::from(axis) + 1 == out.0.len());
            match (&node.op, of_lead) {
                (_, false) => slice_if(true),
                (Op::Sum(_), true) if !by_rows => when(divides(shape(0), count), Rule::Sum),
                _ => None,
            }
        }
        Op::Embedding | Op::Take => slice_if(divides(shape(1), count)),
        Op::EmbeddingGrad(_) => when(divides(shape(0), count), Rule::Sum),
        Op::TakeGrad(_) => slice_if(divides(shape(0), count)),
        _ => None,
    }
}

/// Whether a node that runs in the loop takes only a slice of operand `k`, and not all of it.
pub(crate) fn takes_slice(graph: &Graph, node: &Node, k: usize) -> bool {
    match &node.op {
        op if is_elementwise(op) => {
            // Axes are counted from the last one: the operand may have fewer.
            let (out, operand) = (&node.shape.0, &graph.nodes()[node.inputs[k] as usize].shape.0);
            lead(&node.shape).is_some_and(|axis| {
                let from_last = out.len() - axis;
                operand.len() >= from_last && operand[operand.len() - from_last] == out[axis]
            })
        }
        Op::MatMul { ta: false, .. } if node.shape.0.len() == 2 => k == 0,
        Op::Embedding | Op::Conv2dInputGrad(_) => k == 1,
        Op::Conv2d(_) => k == 0,
        _ => true,
    }
}
