//! Contractions: matrix products and attention.

use super::super::{Attention, AttentionInput, DType, Graph, NodeId, Op, Shape};
use super::{Built, GraphError, broadcast, shape_error};

impl Graph {
    /// NumPy's `a @ b` for operands of rank 2 and more.
    ///
    /// A rank-2 `b` takes the leading axes of `a` flattened into one product. A permutation that swaps the last two
    /// axes becomes a flag of the product, so that `x @ w.T` moves nothing.
    pub fn matmul(&mut self, a: NodeId, b: NodeId) -> Built {
        let (left, right) = (self.float("matmul", a)?, self.float("matmul", b)?);
        let (&[.., m, k], &[.., rows, n]) = (&left[..], &right[..]) else {
            return shape_error(format!("matmul: {left:?} @ {right:?}: operands need at least two axes"));
        };
        if k != rows {
            return shape_error(format!("matmul: {left:?} @ {right:?}: inner lengths {k} and {rows} differ"));
        }
        if right.len() == 2 && left.len() > 2 {
            let lead: u64 = left[..left.len() - 1].iter().map(|&n| u64::from(n)).product();
            let lead = u32::try_from(lead).map_err(|_| GraphError::Limit("matmul: too many rows".into()))?;
            let flat = self.reshape(a, Shape(vec![lead, k]))?;
            let product = self.product(flat, b)?;
            let mut shape = left;
            if let Some(last) = shape.last_mut() {
                *last = n;
            }
            return self.reshape(product, Shape(shape));
        }
        if left.len() == 2 && right.len() == 2 {
            return self.product(a, b);
        }
        let lead = broadcast("matmul", &[left[..left.len() - 2].to_vec(), right[..right.len() - 2].to_vec()])?;
        let count = u32::try_from(Shape(lead.clone()).elements())
            .map_err(|_| GraphError::Limit("matmul: too many products".into()))?;
        let a = self.batched(a, &lead, count, [m, k])?;
        let b = self.batched(b, &lead, count, [k, n])?;
        let product = self.product(a, b)?;
        self.reshape(product, Shape([&lead[..], &[m, n]].concat()))
    }

    /// Broadcasts the leading axes and flattens them into one; a swap of the last two axes stays outermost, where
    /// `product` finds it.
    fn batched(&mut self, id: NodeId, lead: &[u32], count: u32, [rows, columns]: [u32; 2]) -> Built {
        let (source, swapped) = self.unswapped(id)?;
        let last = if swapped { [columns, rows] } else { [rows, columns] };
        let wide = self.broadcast_to(source, Shape([lead, &last].concat()))?;
        let flat = self.reshape(wide, Shape(vec![count, last[0], last[1]]))?;
        if swapped { self.permute(flat, &[0, 2, 1]) } else { Ok(flat) }
    }

    /// What a node is the transposition (of the last two axes) of, if it is one.
    fn unswapped(&self, id: NodeId) -> Result<(NodeId, bool), GraphError> {
        let node = self.node(id)?;
        let rank = node.shape.0.len();
        if let (Op::Permute(perm), [source], 2..) = (&node.op, &node.inputs[..], rank) {
            let swap = (0..rank - 2).chain([rank - 1, rank - 2]);
            if perm.iter().copied().map(usize::from).eq(swap) {
                return Ok((*source, true));
            }
        }
        Ok((id, false))
    }

    /// The matrix product node of operands that may be swaps of their last two axes.
    fn product(&mut self, a: NodeId, b: NodeId) -> Built {
        let ((a, ta), (b, tb)) = (self.unswapped(a)?, self.unswapped(b)?);
        self.contraction((a, ta), (b, tb))
    }

    /// One matrix product, of rank 2, or of rank 3 with equal leading axes. With the flag, an operand is stored with its
    /// last two axes swapped.
    pub fn contraction(&mut self, (a, ta): (NodeId, bool), (b, tb): (NodeId, bool)) -> Built {
        let (left, right) = (self.float("matmul", a)?, self.float("matmul", b)?);
        let (&[ref lead @ .., rows, columns], &[ref right_lead @ .., right_rows, right_columns]) =
            (&left[..], &right[..])
        else {
            return shape_error(format!("matmul: {left:?} @ {right:?}: operands need at least two axes"));
        };
        let (m, k) = if ta { (columns, rows) } else { (rows, columns) };
        let (right_k, n) = if tb { (right_columns, right_rows) } else { (right_rows, right_columns) };
        if k != right_k || lead != right_lead || lead.len() > 1 {
            return shape_error(format!("matmul: {left:?} (swapped: {ta}) @ {right:?} (swapped: {tb}) do not fit"));
        }
        let shape = [lead, &[m, n]].concat();
        self.push(Op::MatMul { ta, tb }, vec![a, b], shape, DType::F32)
    }

    /// Scaled dot-product attention: q [B,H,T,D]; k, v [B,Hk,S,D].
    pub fn attention(&mut self, q: NodeId, k: NodeId, v: NodeId, options: Attention) -> Built {
        let shape = self.attention_shapes(q, k, v, options)?;
        self.push(Op::Attention(options), vec![q, k, v], shape, DType::F32)
    }

    /// Gradient of one input of attention, from its inputs, its output `y` and the gradient `dy` of that.
    pub fn attention_grad(&mut self, [q, k, v, y, dy]: [NodeId; 5], options: Attention, wrt: AttentionInput) -> Built {
        let out = self.attention_shapes(q, k, v, options)?;
        for id in [y, dy] {
            let shape = self.float("attention gradient", id)?;
            self.same_shape("attention gradient", &out, &shape)?;
        }
        let of = match wrt {
            AttentionInput::Q => q,
            AttentionInput::K => k,
            AttentionInput::V => v,
        };
        let shape = self.shape(of)?.0.clone();
        self.push(Op::AttentionGrad(options, wrt), vec![q, k, v, y, dy], shape, DType::F32)
    }

    fn attention_shapes(&self, q: NodeId, k: NodeId, v: NodeId, options: Attention) -> Result<Vec<u32>, GraphError> {
        let (q, k, v) = (self.float("attention", q)?, self.float("attention", k)?, self.float("attention", v)?);
        self.same_shape("attention: keys and values", &k, &v)?;
        let (&[batch, heads, t, d], &[key_batch, key_heads, s, key_d]) = (&q[..], &k[..]) else {
            return shape_error(format!(
                "attention: q {q:?}, k {k:?} must have four axes: batch, head, position, channel"
            ));
        };
        if batch != key_batch || d != key_d || heads % key_heads != 0 {
            return shape_error(format!(
                "attention: q {q:?}, k {k:?}: batch and channels must agree, and the heads of k divide those of q"
            ));
        }
        if (options.causal || options.window > 0) && t != s {
            return shape_error(format!("attention: {t} queries and {s} keys: a causal mask needs as many of each"));
        }
        Ok(q)
    }
}
