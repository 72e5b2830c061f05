//! Elementwise operations and matrix products.

use candle_core::{DType as Type, Tensor};

use super::signs::Sign;
use super::{Here, Result};
use crate::graph::{Binary, Unary};
use crate::number::HUGE;

/// 60 ln 2: e^x is 2^60 from here on.
const EXP_MOST: f64 = 41.588_830_833_596_72;
/// The result of a division by 0.
const END: f64 = HUGE as f64;

impl Here<'_> {
    /// None where the host computes it.
    pub(super) fn unary(&self, op: Unary, sign: Sign) -> Result<Option<Tensor>> {
        let x = self.operands[0];
        Ok(Some(match op {
            Unary::Neg => x.neg()?,
            Unary::Exp => x.minimum(EXP_MOST)?.exp()?,
            Unary::Log => guarded(x, sign, -END, |x| x.log())?,
            Unary::Sqrt if sign.not_negative => x.sqrt()?,
            Unary::Sqrt => x.relu()?.sqrt()?,
            Unary::Rsqrt => guarded(x, sign, END, |x| x.sqrt()?.recip())?,
            Unary::Recip if sign.positive => x.recip()?,
            Unary::Recip => x.eq(0f32)?.where_cond(&full(x, END)?, &x.recip()?)?,
            Unary::Tanh => x.tanh()?,
            Unary::Sigmoid => ((x * 0.5)?.tanh()? * 0.5)?.affine(1.0, 0.5)?,
            Unary::Erf => x.erf()?,
            Unary::Sin => x.sin()?,
            Unary::Cos => x.cos()?,
            Unary::Relu => x.relu()?,
            Unary::Abs => x.abs()?,
            Unary::Sign => sign_of(x)?,
            Unary::Floor => x.floor()?,
            Unary::RoundBf16 => x.to_dtype(Type::BF16)?.to_dtype(Type::F32)?,
            Unary::ToFloat => x.to_dtype(Type::F32)?,
            // Candle's rounding takes ties away from 0.
            Unary::Round | Unary::ToInt => return Ok(None),
        }))
    }

    pub(super) fn binary(&self, op: Binary, signs: [Sign; 2]) -> Result<Tensor> {
        let [a, b] = [self.operands[0], self.operands[1]];
        let as_wide = |x: &Tensor| x.elem_count() == self.node.shape.elements() as usize;
        match (op, signs[0].constant.map(f64::from), signs[1].constant.map(f64::from)) {
            (Binary::Add, _, Some(c)) if as_wide(a) => return a.affine(1.0, c)?.reshape(self.out()),
            (Binary::Add, Some(c), _) if as_wide(b) => return b.affine(1.0, c)?.reshape(self.out()),
            (Binary::Sub, _, Some(c)) if as_wide(a) => return a.affine(1.0, -c)?.reshape(self.out()),
            (Binary::Sub, Some(c), _) if as_wide(b) => return b.affine(-1.0, c)?.reshape(self.out()),
            (Binary::Mul, _, Some(c)) if as_wide(a) => return a.affine(c, 0.0)?.reshape(self.out()),
            (Binary::Mul, Some(c), _) if as_wide(b) => return b.affine(c, 0.0)?.reshape(self.out()),
            _ => {}
        }
        match op {
            Binary::Add => a.broadcast_add(b),
            Binary::Sub => a.broadcast_sub(b),
            Binary::Mul => a.broadcast_mul(b),
            Binary::Div if signs[1].positive => a.broadcast_div(b),
            Binary::Div => self.total_division(a, b),
            Binary::Max => a.broadcast_maximum(b),
            Binary::Min => a.broadcast_minimum(b),
            Binary::Lt => a.broadcast_lt(b)?.to_dtype(Type::F32),
            Binary::Le => a.broadcast_le(b)?.to_dtype(Type::F32),
            Binary::Eq => a.broadcast_eq(b)?.to_dtype(Type::F32),
        }
    }

    /// a / 0 = ±2^60, 0 / 0 = 0.
    fn total_division(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let (a, b) = (a.broadcast_as(self.out())?.contiguous()?, b.broadcast_as(self.out())?.contiguous()?);
        let at_zero = (sign_of(&a)? * END)?;
        b.eq(0f32)?.where_cond(&at_zero, &a.div(&b)?)
    }

    pub(super) fn where_(&self) -> Result<Tensor> {
        let wide = |i: usize| self.operands[i].broadcast_as(self.out())?.contiguous();
        wide(0)?.ne(0f32)?.where_cond(&wide(1)?, &wide(2)?)
    }

    pub(super) fn matmul(&self, ta: bool, tb: bool) -> Result<Tensor> {
        let side = |i: usize, swapped: bool| {
            let x = self.operands[i].contiguous()?;
            if swapped { x.t() } else { Ok(x) }
        };
        side(0, ta)?.matmul(&side(1, tb)?)
    }
}

fn sign_of(x: &Tensor) -> Result<Tensor> {
    x.gt(0f32)?.to_dtype(Type::F32)? - x.lt(0f32)?.to_dtype(Type::F32)?
}

fn full(like: &Tensor, value: f64) -> Result<Tensor> {
    Tensor::full(value as f32, like.shape(), like.device())
}

/// `f` of what is positive; `otherwise` of the rest.
fn guarded(x: &Tensor, sign: Sign, otherwise: f64, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if sign.positive {
        return f(x);
    }
    let positive = x.gt(0f32)?;
    positive.where_cond(&f(x)?, &full(x, otherwise)?)
}
