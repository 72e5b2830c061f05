//! Gradients of elementwise operations.

use super::{Backward, Done};
use crate::graph::{Binary, GraphError, NodeId, Unary};

impl Backward<'_> {
    fn mul(&mut self, a: NodeId, b: NodeId) -> Result<NodeId, GraphError> {
        self.graph.binary(Binary::Mul, a, b)
    }

    fn neg(&mut self, a: NodeId) -> Result<NodeId, GraphError> {
        self.graph.unary(Unary::Neg, a)
    }

    pub(super) fn unary(&mut self, op: Unary) -> Done {
        let (x, y, dy) = (self.operand(0), self.id, self.dy);
        let term = match op {
            Unary::Sign | Unary::Floor | Unary::Round | Unary::ToFloat | Unary::ToInt => return Ok(()),
            Unary::RoundBf16 => dy,
            Unary::Neg => self.neg(dy)?,
            Unary::Exp => self.mul(dy, y)?,
            Unary::Log => self.graph.binary(Binary::Div, dy, x)?,
            Unary::Sqrt => {
                let half = self.constant(0.5)?;
                let scaled = self.mul(dy, half)?;
                self.graph.binary(Binary::Div, scaled, y)?
            }
            Unary::Rsqrt => {
                let half = self.constant(-0.5)?;
                let scaled = self.mul(dy, half)?;
                let square = self.mul(y, y)?;
                let cube = self.mul(square, y)?;
                self.mul(scaled, cube)?
            }
            Unary::Recip => {
                let square = self.mul(y, y)?;
                let term = self.mul(dy, square)?;
                self.neg(term)?
            }
            Unary::Tanh => {
                let square = self.mul(y, y)?;
                let slope = self.one_minus(square)?;
                self.mul(dy, slope)?
            }
            Unary::Sigmoid => {
                let rest = self.one_minus(y)?;
                let slope = self.mul(y, rest)?;
                self.mul(dy, slope)?
            }
            Unary::Erf => {
                let square = self.mul(x, x)?;
                let exponent = self.neg(square)?;
                let bell = self.graph.unary(Unary::Exp, exponent)?;
                let height = self.constant(std::f32::consts::FRAC_2_SQRT_PI)?;
                let slope = self.mul(bell, height)?;
                self.mul(dy, slope)?
            }
            Unary::Sin => {
                let slope = self.graph.unary(Unary::Cos, x)?;
                self.mul(dy, slope)?
            }
            Unary::Cos => {
                let sin = self.graph.unary(Unary::Sin, x)?;
                let term = self.mul(dy, sin)?;
                self.neg(term)?
            }
            Unary::Relu => {
                let zero = self.constant(0.0)?;
                let positive = self.graph.binary(Binary::Lt, zero, x)?;
                self.mul(dy, positive)?
            }
            Unary::Abs => {
                let sign = self.graph.unary(Unary::Sign, x)?;
                self.mul(dy, sign)?
            }
        };
        self.pass(0, term)
    }

    fn one_minus(&mut self, a: NodeId) -> Result<NodeId, GraphError> {
        let one = self.constant(1.0)?;
        self.graph.binary(Binary::Sub, one, a)
    }

    pub(super) fn binary(&mut self, op: Binary) -> Done {
        let (a, b, y, dy) = (self.operand(0), self.operand(1), self.id, self.dy);
        if self.wants(0) {
            let term = match op {
                Binary::Lt | Binary::Le | Binary::Eq => return Ok(()),
                Binary::Add | Binary::Sub => dy,
                Binary::Mul => self.mul(dy, b)?,
                Binary::Div => self.graph.binary(Binary::Div, dy, b)?,
                Binary::Max => self.masked(Binary::Le, b, a)?,
                Binary::Min => self.masked(Binary::Le, a, b)?,
            };
            self.pass(0, term)?;
        }
        if self.wants(1) {
            let term = match op {
                Binary::Lt | Binary::Le | Binary::Eq => return Ok(()),
                Binary::Add => dy,
                Binary::Sub => self.neg(dy)?,
                Binary::Mul => self.mul(dy, a)?,
                Binary::Div => {
                    let scaled = self.mul(dy, y)?;
                    let quotient = self.graph.binary(Binary::Div, scaled, b)?;
                    self.neg(quotient)?
                }
                Binary::Max => self.masked(Binary::Lt, a, b)?,
                Binary::Min => self.masked(Binary::Lt, b, a)?,
            };
            self.pass(1, term)?;
        }
        Ok(())
    }

    /// The gradient where the comparison holds, 0 elsewhere.
    fn masked(&mut self, op: Binary, a: NodeId, b: NodeId) -> Result<NodeId, GraphError> {
        let mask = self.graph.binary(op, a, b)?;
        self.mul(self.dy, mask)
    }

    pub(super) fn where_(&mut self) -> Done {
        let (condition, dy) = (self.operand(0), self.dy);
        for k in [1, 2] {
            if self.wants(k) {
                let zero = self.constant(0.0)?;
                let (a, b) = if k == 1 { (dy, zero) } else { (zero, dy) };
                let term = self.graph.where_(condition, a, b)?;
                self.pass(k, term)?;
            }
        }
        Ok(())
    }
}
