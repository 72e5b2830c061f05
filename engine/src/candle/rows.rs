//! Operations along the last axis, composed of candle's.

use std::collections::BTreeMap;

use candle_core::{D, DType as Type, Device, Tensor};

use super::{Here, Result};
use crate::graph::RowOp;
use crate::reference::rows::rotation;

/// x - max, e^(x - max) and the sum of the latter.
fn exponentials(x: &Tensor) -> Result<[Tensor; 3]> {
    let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?;
    let e = shifted.exp()?;
    let z = e.sum_keepdim(D::Minus1)?;
    Ok([shifted, e, z])
}

pub(super) fn softmax(x: &Tensor) -> Result<Tensor> {
    let [_, e, z] = exponentials(x)?;
    e.broadcast_div(&z)
}

/// x·r and r = 1 / sqrt(mean(x·x) + eps).
fn rms_norm(x: &Tensor, eps: u32) -> Result<[Tensor; 2]> {
    let square = x.sqr()?.mean_keepdim(D::Minus1)?;
    let r = (square + f64::from(f32::from_bits(eps)))?.sqrt()?.recip()?;
    Ok([x.broadcast_mul(&r)?, r])
}

fn centred(x: &Tensor) -> Result<Tensor> {
    x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)
}

/// r · (dy - y · mean(dy·y)).
fn norm_grad([y, r]: &[Tensor; 2], dy: &Tensor) -> Result<Tensor> {
    let s = (dy * y)?.mean_keepdim(D::Minus1)?;
    (dy - y.broadcast_mul(&s)?)?.broadcast_mul(r)
}

/// Cosines and sines of every position and pair: two tables [positions, d / 2].
fn rotations(base: u32, positions: usize, d: usize, device: &Device) -> Result<[Tensor; 2]> {
    let pairs = (0..positions as u32).flat_map(|t| (0..d as u32 / 2).map(move |i| rotation(base, t, i, d as u32)));
    let (cosines, sines): (Vec<f32>, Vec<f32>) = pairs.map(|[c, s]| (c, s)).unzip();
    let table = |values| Tensor::from_vec(values, (positions, d / 2), device);
    Ok([table(cosines)?, table(sines)?])
}

impl Here<'_> {
    pub(super) fn row(&self, op: RowOp) -> Result<Tensor> {
        let x = &self.operands[0].contiguous()?;
        let dy = || self.operands[1];
        match op {
            RowOp::Softmax => softmax(x),
            RowOp::SoftmaxGrad => {
                let s = (dy() * x)?.sum_keepdim(D::Minus1)?;
                dy().broadcast_sub(&s)? * x
            }
            RowOp::LogSoftmax => {
                let [shifted, _, z] = exponentials(x)?;
                shifted.broadcast_sub(&z.log()?)
            }
            RowOp::LogSoftmaxGrad => dy() - x.exp()?.broadcast_mul(&dy().sum_keepdim(D::Minus1)?)?,
            RowOp::RmsNorm(eps) => rms_norm(x, eps).map(|[y, _]| y),
            RowOp::RmsNormGrad(eps) => norm_grad(&rms_norm(x, eps)?, dy()),
            RowOp::LayerNorm(eps) => rms_norm(&centred(x)?, eps).map(|[y, _]| y),
            RowOp::LayerNormGrad(eps) => norm_grad(&rms_norm(&centred(x)?, eps)?, &centred(dy())?),
            RowOp::CrossEntropy => {
                let [shifted, _, z] = exponentials(x)?;
                let (ids, valid) = self.classes(x)?;
                let taken = shifted.gather(&ids, D::Minus1)?;
                ((z.log()? - taken)? * valid)?.squeeze(D::Minus1)
            }
            RowOp::CrossEntropyGrad => {
                let (ids, valid) = self.classes(x)?;
                let minus_one = valid.affine(0.0, -1.0)?;
                let errors = softmax(x)?.scatter_add(&ids, &minus_one, D::Minus1)?;
                errors.broadcast_mul(&(valid * self.operands[2].unsqueeze(D::Minus1)?)?)
            }
        }
    }

    /// Class of each row [.., 1], 0 for padding, and a mask of the same shape: 0 for padding.
    fn classes(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        super::index::inside(&self.operands[1].unsqueeze(D::Minus1)?, x.dim(D::Minus1)?)
    }

    pub(super) fn rope(&self, base: u32, inverse: bool, tables: &mut BTreeMap<String, Tensor>) -> Result<Tensor> {
        let x = self.operands[0];
        let (positions, d) = (x.dim(D::Minus2)?, x.dim(D::Minus1)?);
        let [cosines, sines] = ["cos", "sin"].map(|what| format!("{what} {base} {positions} {d}"));
        let (c, s) = match (tables.get(&cosines), tables.get(&sines)) {
            (Some(c), Some(s)) => (c.clone(), s.clone()),
            _ => {
                let [c, s] = rotations(base, positions, d, self.device)?;
                tables.extend([(cosines, c.clone()), (sines, s.clone())]);
                (c, s)
            }
        };
        let s = if inverse { s.neg()? } else { s };
        let (left, right) = (x.narrow(D::Minus1, 0, d / 2)?, x.narrow(D::Minus1, d / 2, d / 2)?);
        let turned = [
            (left.broadcast_mul(&c)? - right.broadcast_mul(&s)?)?,
            (right.broadcast_mul(&c)? + left.broadcast_mul(&s)?)?,
        ];
        Tensor::cat(&turned, D::Minus1)
    }
}

/// A mask as floats.
pub(super) fn floats(mask: &Tensor) -> Result<Tensor> {
    mask.to_dtype(Type::F32)
}
