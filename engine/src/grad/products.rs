//! Gradients of contractions, of composite rows and of indexing.

use super::{Backward, Done};
use crate::graph::{Attention, AttentionInput, Conv2d, GraphError, RowOp};

impl Backward<'_> {
    /// With A, B the operands as multiplied: dA = dY·Bᵀ, dB = Aᵀ·dY, each written so that no operand is moved.
    pub(super) fn matmul(&mut self, ta: bool, tb: bool) -> Done {
        let (a, b, dy) = (self.operand(0), self.operand(1), self.dy);
        if self.wants(0) {
            let term = if ta {
                self.graph.contraction((b, tb), (dy, true))?
            } else {
                self.graph.contraction((dy, false), (b, !tb))?
            };
            self.pass(0, term)?;
        }
        if self.wants(1) {
            let term = if tb {
                self.graph.contraction((dy, true), (a, ta))?
            } else {
                self.graph.contraction((a, !ta), (dy, false))?
            };
            self.pass(1, term)?;
        }
        Ok(())
    }

    pub(super) fn attention(&mut self, options: Attention) -> Done {
        let [q, k, v] = [self.operand(0), self.operand(1), self.operand(2)];
        for (operand, of) in [AttentionInput::Q, AttentionInput::K, AttentionInput::V].into_iter().enumerate() {
            if self.wants(operand) {
                let term = self.graph.attention_grad([q, k, v, self.id, self.dy], options, of)?;
                self.pass(operand, term)?;
            }
        }
        Ok(())
    }

    /// Height and width of operand `k`.
    fn size(&self, k: usize) -> Result<[u32; 2], GraphError> {
        let shape = self.operand_shape(k)?.0;
        Ok([shape[2], shape[3]])
    }

    pub(super) fn conv2d(&mut self, options: Conv2d) -> Done {
        let (x, w, dy) = (self.operand(0), self.operand(1), self.dy);
        if self.wants(0) {
            let term = self.graph.conv2d_input_grad(w, dy, options, self.size(0)?)?;
            self.pass(0, term)?;
        }
        if self.wants(1) {
            let term = self.graph.conv2d_weight_grad(x, dy, options, self.size(1)?)?;
            self.pass(1, term)?;
        }
        Ok(())
    }

    /// A convolution is linear in each operand, and so are its gradients: each is the gradient of the others.
    pub(super) fn conv2d_input_grad(&mut self, options: Conv2d) -> Done {
        let (w, inner, dy) = (self.operand(0), self.operand(1), self.dy);
        if self.wants(0) {
            let term = self.graph.conv2d_weight_grad(dy, inner, options, self.size(0)?)?;
            self.pass(0, term)?;
        }
        if self.wants(1) {
            let term = self.graph.conv2d(dy, w, options)?;
            self.pass(1, term)?;
        }
        Ok(())
    }

    pub(super) fn conv2d_weight_grad(&mut self, options: Conv2d) -> Done {
        let (x, inner, dy) = (self.operand(0), self.operand(1), self.dy);
        if self.wants(0) {
            let term = self.graph.conv2d_input_grad(dy, inner, options, self.size(0)?)?;
            self.pass(0, term)?;
        }
        if self.wants(1) {
            let term = self.graph.conv2d(x, dy, options)?;
            self.pass(1, term)?;
        }
        Ok(())
    }

    pub(super) fn row(&mut self, op: RowOp) -> Done {
        let (x, y, dy) = (self.operand(0), self.id, self.dy);
        let (gradient, inputs) = match op {
            RowOp::Softmax => (RowOp::SoftmaxGrad, vec![y, dy]),
            RowOp::LogSoftmax => (RowOp::LogSoftmaxGrad, vec![y, dy]),
            RowOp::RmsNorm(eps) => (RowOp::RmsNormGrad(eps), vec![x, dy]),
            RowOp::LayerNorm(eps) => (RowOp::LayerNormGrad(eps), vec![x, dy]),
            RowOp::CrossEntropy => (RowOp::CrossEntropyGrad, vec![x, self.operand(1), dy]),
            RowOp::SoftmaxGrad
            | RowOp::LogSoftmaxGrad
            | RowOp::RmsNormGrad(_)
            | RowOp::LayerNormGrad(_)
            | RowOp::CrossEntropyGrad => return self.no_rule(),
        };
        let term = self.graph.row(gradient, &inputs)?;
        self.pass(0, term)
    }

    pub(super) fn rope(&mut self, base: u32, inverse: bool) -> Done {
        let term = self.graph.rope(self.dy, base, !inverse)?;
        self.pass(0, term)
    }

    pub(super) fn embedding(&mut self) -> Done {
        let rows = self.operand_shape(0)?.0[0];
        let term = self.graph.embedding_grad(self.operand(1), self.dy, rows)?;
        self.pass(0, term)
    }

    pub(super) fn embedding_grad(&mut self) -> Done {
        let term = self.graph.embedding(self.dy, self.operand(0))?;
        self.pass(1, term)
    }

    pub(super) fn take(&mut self) -> Done {
        let shape = self.operand_shape(0)?;
        let n = shape.0[shape.0.len() - 1];
        let term = self.graph.take_grad(self.operand(1), self.dy, n)?;
        self.pass(0, term)
    }

    pub(super) fn take_grad(&mut self) -> Done {
        let term = self.graph.take(self.dy, self.operand(0))?;
        self.pass(1, term)
    }

    pub(super) fn gather(&mut self, axis: u8) -> Done {
        let len = self.operand_shape(0)?.0[usize::from(axis)];
        let term = self.graph.scatter_add(self.operand(1), self.dy, axis, len)?;
        self.pass(0, term)
    }

    pub(super) fn scatter_add(&mut self, axis: u8) -> Done {
        let term = self.graph.gather(self.dy, self.operand(0), axis)?;
        self.pass(1, term)
    }
}
