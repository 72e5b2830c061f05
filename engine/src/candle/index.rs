//! Looking rows and elements up by integer, and the gradients of that. What is out of range reads zero and receives nothing.

use candle_core::{D, DType as Type, Tensor};

use super::rows::floats;
use super::{Here, Result};

/// Indices with 0 for those that are not in 0..n, and a mask of those that are.
pub(super) fn inside(ids: &Tensor, n: usize) -> Result<(Tensor, Tensor)> {
    let valid = (ids.ge(0i64)? * ids.lt(n as i64)?)?;
    Ok((ids.mul(&valid.to_dtype(Type::I64)?)?.contiguous()?, floats(&valid)?))
}

/// As [`inside`], without a mask where the range says that none is needed.
fn known(ids: &Tensor, n: usize, range: Option<[i32; 2]>) -> Result<(Tensor, Option<Tensor>)> {
    if range.is_some_and(|[least, most]| least >= 0 && (most as usize) < n) {
        return Ok((ids.contiguous()?, None));
    }
    let (ids, valid) = inside(ids, n)?;
    Ok((ids, Some(valid)))
}

/// Rows whose mask is 0 become 0.
fn masked(rows: Tensor, valid: Option<Tensor>) -> Result<Tensor> {
    match valid {
        Some(valid) => rows.broadcast_mul(&valid),
        None => Ok(rows),
    }
}

impl Here<'_> {
    pub(super) fn embedding(&self, range: Option<[i32; 2]>) -> Result<Tensor> {
        let [table, ids] = [self.operands[0], self.operands[1]];
        let (ids, valid) = known(&ids.flatten_all()?, table.dim(0)?, range)?;
        let valid = valid.map(|valid| valid.unsqueeze(1)).transpose()?;
        masked(table.contiguous()?.index_select(&ids, 0)?, valid)?.reshape(self.out())
    }

    pub(super) fn embedding_grad(&self, rows: usize, range: Option<[i32; 2]>) -> Result<Tensor> {
        let [ids, dy] = [self.operands[0], self.operands[1]];
        let width = dy.dim(D::Minus1)?;
        let (ids, valid) = known(&ids.flatten_all()?, rows, range)?;
        let valid = valid.map(|valid| valid.unsqueeze(1)).transpose()?;
        let dy = masked(dy.reshape(((), width))?, valid)?.contiguous()?;
        Tensor::zeros((rows, width), Type::F32, self.device)?.index_add(&ids, &dy, 0)
    }

    pub(super) fn take(&self, range: Option<[i32; 2]>) -> Result<Tensor> {
        let [x, ids] = [self.operands[0], self.operands[1]];
        let (ids, valid) = known(&ids.unsqueeze(D::Minus1)?, x.dim(D::Minus1)?, range)?;
        masked(x.contiguous()?.gather(&ids, D::Minus1)?, valid)?.squeeze(D::Minus1)
    }

    pub(super) fn take_grad(&self, n: usize, range: Option<[i32; 2]>) -> Result<Tensor> {
        let [ids, dy] = [self.operands[0], self.operands[1]];
        let (ids, valid) = known(&ids.unsqueeze(D::Minus1)?, n, range)?;
        let dy = masked(dy.unsqueeze(D::Minus1)?, valid)?.contiguous()?;
        Tensor::zeros(self.out(), Type::F32, self.device)?.scatter_add(&ids, &dy, D::Minus1)
    }
    /// Elements that ids name along an axis, of floats or of ids.
    pub(super) fn gather(&self, axis: usize, range: Option<[i32; 2]>) -> Result<Tensor> {
        let [x, ids] = [self.operands[0], self.operands[1]];
        let (ids, valid) = known(ids, x.dim(axis)?, range)?;
        let valid = valid.map(|valid| valid.to_dtype(x.dtype())).transpose()?;
        masked(x.contiguous()?.gather(&ids, axis)?, valid)
    }

    pub(super) fn scatter_add(&self, axis: usize, range: Option<[i32; 2]>) -> Result<Tensor> {
        let [ids, source] = [self.operands[0], self.operands[1]];
        let (ids, valid) = known(ids, self.out()[axis], range)?;
        let source = masked(source.clone(), valid)?.contiguous()?;
        Tensor::zeros(self.out(), Type::F32, self.device)?.scatter_add(&ids, &source, axis)
    }

    /// Running sums along an axis; from each element to the end if `reverse`.
    pub(super) fn cumsum(&self, axis: usize, reverse: bool) -> Result<Tensor> {
        let x = self.operands[0];
        let n = x.dim(axis)?;
        let turned = |x: &Tensor| {
            let ids = Tensor::from_vec((0..n as i64).rev().collect::<Vec<_>>(), n, self.device)?;
            x.contiguous()?.index_select(&ids, axis)
        };
        if reverse { turned(&turned(x)?.cumsum(axis)?) } else { x.cumsum(axis) }
    }
}
