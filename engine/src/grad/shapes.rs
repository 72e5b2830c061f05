//! Gradients of reductions and of operations that move elements.

use super::{Backward, Done};
use crate::graph::{GraphError, NodeId, Shape};

impl Backward<'_> {
    /// The sum of `id` over the axes that broadcasting `shape` repeated or added.
    pub(super) fn unbroadcast(&mut self, id: NodeId, shape: Shape) -> Result<NodeId, GraphError> {
        let wide = self.graph.shape(id)?.clone();
        let added = wide.0.len().saturating_sub(shape.0.len());
        let axes: Vec<u8> = (0u8..)
            .zip(&wide.0)
            .filter(|&(axis, &n)| {
                let axis = usize::from(axis);
                n != 1 && (axis < added || shape.0[axis - added] == 1)
            })
            .map(|(axis, _)| axis)
            .collect();
        let sum = if axes.is_empty() { id } else { self.graph.sum(id, &axes)? };
        self.graph.reshape(sum, shape)
    }

    /// Sum: every summed element gets the gradient.
    pub(super) fn sum(&mut self) -> Done {
        let shape = self.operand_shape(0)?;
        let term = self.graph.broadcast_to(self.dy, shape)?;
        self.pass(0, term)
    }

    pub(super) fn cumsum(&mut self, axis: u8, reverse: bool) -> Done {
        let term = self.graph.cumsum(self.dy, axis, !reverse)?;
        self.pass(0, term)
    }

    pub(super) fn reshape(&mut self) -> Done {
        let shape = self.operand_shape(0)?;
        let term = self.graph.reshape(self.dy, shape)?;
        self.pass(0, term)
    }

    /// Maximum: the first largest element, in row-major order of the reduced axes, gets the gradient.
    pub(super) fn max(&mut self, axes: &[u8]) -> Done {
        let x = self.operand(0);
        let shape = self.operand_shape(0)?;
        // The reduced axes last, then flattened into one.
        let all = 0..shape.0.len() as u8;
        let perm: Vec<u8> = all.clone().filter(|axis| !axes.contains(axis)).chain(axes.iter().copied()).collect();
        let moved = self.moved(x, &perm)?;
        let moved_shape = self.graph.shape(moved)?.clone();
        let (kept, reduced) = moved_shape.0.split_at(shape.0.len() - axes.len());
        let n = reduced.iter().product::<u32>();
        let rows = self.graph.reshape(moved, Shape([kept, &[n]].concat()))?;
        let first = self.graph.argmax(rows)?;
        let ids = self.graph.reshape(first, Shape(kept.to_vec()))?;
        let dy = self.graph.reshape(self.dy, Shape(kept.to_vec()))?;
        let taken = self.graph.take_grad(ids, dy, n)?;
        let unflattened = self.graph.reshape(taken, moved_shape.clone())?;
        let term = self.moved(unflattened, &inverse(&perm))?;
        self.pass(0, term)
    }

    /// A permutation, nothing when it leaves every axis in its place.
    fn moved(&mut self, id: NodeId, perm: &[u8]) -> Result<NodeId, GraphError> {
        if perm.iter().copied().eq(0..perm.len() as u8) { Ok(id) } else { self.graph.permute(id, perm) }
    }

    pub(super) fn permute(&mut self, perm: &[u8]) -> Done {
        let term = self.graph.permute(self.dy, &inverse(perm))?;
        self.pass(0, term)
    }

    pub(super) fn slice(&mut self, axis: u8, start: u32) -> Done {
        let at = usize::from(axis);
        let after = self.operand_shape(0)?.0[at] - start - self.node.shape.0[at];
        let term = self.graph.pad(self.dy, axis, start, after)?;
        self.pass(0, term)
    }

    pub(super) fn pad(&mut self, axis: u8, before: u32) -> Done {
        let len = self.operand_shape(0)?.0[usize::from(axis)];
        let term = self.graph.slice(self.dy, axis, before, len)?;
        self.pass(0, term)
    }

    pub(super) fn concat(&mut self, axis: u8) -> Done {
        let mut start = 0;
        for k in 0..self.node.inputs.len() {
            let len = self.operand_shape(k)?.0[usize::from(axis)];
            if self.wants(k) {
                let term = self.graph.slice(self.dy, axis, start, len)?;
                self.pass(k, term)?;
            }
            start += len;
        }
        Ok(())
    }
}

/// The permutation that undoes `perm`.
fn inverse(perm: &[u8]) -> Vec<u8> {
    let mut inverse = vec![0; perm.len()];
    for (to, &from) in (0u8..).zip(perm) {
        inverse[usize::from(from)] = to;
    }
    inverse
}
