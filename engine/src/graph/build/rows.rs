//! Operations along the last axis, rotary positions, and indexing.

use super::super::{DType, Graph, NodeId, Op, RowOp};
use super::{Built, GraphError, shape_error};

impl Graph {
    /// A composite operation along the last axis; its inputs are those that [`RowOp`] lists.
    pub fn row(&mut self, op: RowOp, inputs: &[NodeId]) -> Built {
        let name = format!("{op:?}");
        let (floats, ids, gradients) = match op {
            RowOp::Softmax | RowOp::LogSoftmax | RowOp::RmsNorm(_) | RowOp::LayerNorm(_) => (1, 0, 0),
            RowOp::SoftmaxGrad | RowOp::LogSoftmaxGrad | RowOp::RmsNormGrad(_) | RowOp::LayerNormGrad(_) => (2, 0, 0),
            RowOp::CrossEntropy => (1, 1, 0),
            RowOp::CrossEntropyGrad => (1, 1, 1),
        };
        let wanted = floats + ids + gradients;
        let &[x, ..] = inputs else {
            return shape_error(format!("{name}: no operand"));
        };
        if inputs.len() != wanted {
            return shape_error(format!("{name}: {wanted} operands wanted, not {}", inputs.len()));
        }
        let full = self.float(&name, x)?;
        let Some((_, lead)) = full.split_last() else {
            return shape_error(format!("{name}: a scalar has no last axis"));
        };
        for &input in &inputs[1..floats] {
            let shape = self.float(&name, input)?;
            self.same_shape(&name, &full, &shape)?;
        }
        for &input in &inputs[floats..floats + ids] {
            let shape = self.want(&name, input, DType::I32)?;
            self.same_shape(&name, lead, &shape)?;
        }
        for &input in &inputs[floats + ids..] {
            let shape = self.float(&name, input)?;
            self.same_shape(&name, lead, &shape)?;
        }
        let shape = if op == RowOp::CrossEntropy { lead.to_vec() } else { full.clone() };
        self.push(Op::Row(op), inputs.to_vec(), shape, DType::F32)
    }

    /// Rotary position embedding of x [.., T, D] over T; `base` as f32 bits.
    pub fn rope(&mut self, x: NodeId, base: u32, inverse: bool) -> Built {
        let shape = self.float("rope", x)?;
        if !matches!(shape[..], [.., _, d] if d % 2 == 0) {
            return shape_error(format!("rope: {shape:?} needs a position axis and an even last axis"));
        }
        self.push(Op::Rope { base, inverse }, vec![x], shape, DType::F32)
    }

    /// Rows of `table` [V, C] at `ids` [..]: [.., C].
    pub fn embedding(&mut self, table: NodeId, ids: NodeId) -> Built {
        let (table_shape, mut shape) = (self.float("embedding", table)?, self.want("embedding", ids, DType::I32)?);
        let [_, width] = table_shape[..] else {
            return shape_error(format!("embedding: the table {table_shape:?} must have two axes"));
        };
        shape.push(width);
        self.push(Op::Embedding, vec![table, ids], shape, DType::F32)
    }

    /// Gradient of an embedding table of `rows` rows.
    pub fn embedding_grad(&mut self, ids: NodeId, dy: NodeId, rows: u32) -> Built {
        let (ids_shape, dy_shape) = (self.want("embedding", ids, DType::I32)?, self.float("embedding", dy)?);
        let Some((&width, lead)) = dy_shape.split_last() else {
            return shape_error("embedding: the gradient is a scalar".into());
        };
        self.same_shape("embedding", lead, &ids_shape)?;
        self.push(Op::EmbeddingGrad(rows), vec![ids, dy], vec![rows, width], DType::F32)
    }

    /// One element of each row of x [.., n], at `ids` [..].
    pub fn take(&mut self, x: NodeId, ids: NodeId) -> Built {
        let (shape, ids_shape) = (self.float("take", x)?, self.want("take", ids, DType::I32)?);
        let Some((_, lead)) = shape.split_last() else {
            return shape_error("take: a scalar has no last axis".into());
        };
        self.same_shape("take", lead, &ids_shape)?;
        self.push(Op::Take, vec![x, ids], ids_shape, DType::F32)
    }

    /// Gradient of `take` from rows of length `n`.
    pub fn take_grad(&mut self, ids: NodeId, dy: NodeId, n: u32) -> Result<NodeId, GraphError> {
        let (mut shape, dy_shape) = (self.want("take", ids, DType::I32)?, self.float("take", dy)?);
        self.same_shape("take", &shape, &dy_shape)?;
        shape.push(n);
        self.push(Op::TakeGrad(n), vec![ids, dy], shape, DType::F32)
    }
}
