//! Attention with its scores in memory, and its gradients from them.

use std::collections::BTreeMap;

use candle_core::{D, Tensor};

use super::rows::softmax;
use super::{Here, Result};
use crate::graph::{Attention, AttentionInput, NodeId};
use crate::reference::attention::visible;

/// A masked score: e to this is 0.
const MASKED: f32 = -1e30;

/// What a gradient needs of the forward pass; all are [batch, head, query, key].
pub(super) struct Kept {
    /// Probabilities.
    p: Tensor,
    /// tanh of the capped scores, under a cap.
    bent: Option<Tensor>,
    /// Gradient of the products q·k, and the node of dy that it is for: the three gradients share it.
    ds: Option<(NodeId, Tensor)>,
}

/// What is added to the scores [query, key]; none when every query sees every key.
pub(super) fn mask(
    options: &Attention,
    here: &Here<'_>,
    tables: &mut BTreeMap<String, Tensor>,
) -> Result<Option<Tensor>> {
    if !options.causal && options.window == 0 {
        return Ok(None);
    }
    let n = here.operands[0].dim(2)?;
    let name = format!("mask {n} {}", options.window);
    if let Some(mask) = tables.get(&name) {
        return Ok(Some(mask.clone()));
    }
    let rows = (0..n).map(|i| visible(options, i, n));
    let values: Vec<f32> =
        rows.flat_map(|seen| (0..n).map(move |j| if seen.contains(&j) { 0.0 } else { MASKED })).collect();
    let mask = Tensor::from_vec(values, (n, n), here.device)?;
    tables.insert(name, mask.clone());
    Ok(Some(mask))
}

impl Here<'_> {
    /// Keys or values with each head repeated for the query heads that share it.
    fn repeated(&self, i: usize) -> Result<Tensor> {
        let heads = self.operands[0].dim(1)?;
        let (batch, own, n, width) = self.operands[i].dims4()?;
        if own == heads {
            return self.operands[i].contiguous();
        }
        let wide = self.operands[i].unsqueeze(2)?.broadcast_as((batch, own, heads / own, n, width))?;
        wide.contiguous()?.reshape((batch, heads, n, width))
    }

    pub(super) fn attention(&self, options: &Attention, mask: Option<&Tensor>) -> Result<(Tensor, Kept)> {
        let [k, v] = [self.repeated(1)?, self.repeated(2)?];
        let mut scores = (self.operands[0].contiguous()?.matmul(&k.t()?)? * f64::from(f32::from_bits(options.scale)))?;
        let mut bent = None;
        if options.soft_cap != 0 {
            let cap = f64::from(f32::from_bits(options.soft_cap));
            let bend = (scores / cap)?.tanh()?;
            scores = (&bend * cap)?;
            bent = Some(bend);
        }
        if let Some(mask) = mask {
            scores = scores.broadcast_add(mask)?;
        }
        let p = softmax(&scores)?;
        Ok((p.matmul(&v)?, Kept { p, bent, ds: None }))
    }

    /// Operands are q, k, v, y, dy; `dy` is the node of the last.
    pub(super) fn attention_grad(
        &self,
        options: &Attention,
        of: AttentionInput,
        dy: NodeId,
        kept: &mut Kept,
    ) -> Result<Tensor> {
        if of == AttentionInput::V {
            return self.shared(&kept.p.t()?.matmul(&self.operands[4].contiguous()?)?, 2);
        }
        let ds = match &kept.ds {
            Some((of, ds)) if *of == dy => ds.clone(),
            _ => self.scores_grad(options, kept)?,
        };
        kept.ds = Some((dy, ds.clone()));
        if of == AttentionInput::Q {
            return ds.matmul(&self.repeated(1)?);
        }
        self.shared(&ds.t()?.matmul(&self.operands[0].contiguous()?)?, 1)
    }

    fn scores_grad(&self, options: &Attention, kept: &Kept) -> Result<Tensor> {
        let [y, dy] = [self.operands[3], self.operands[4]];
        let d = (dy * y)?.sum_keepdim(D::Minus1)?;
        let dp = dy.contiguous()?.matmul(&self.repeated(2)?.t()?)?;
        let mut ds = (&kept.p * dp.broadcast_sub(&d)?)?;
        if let Some(bent) = &kept.bent {
            ds = (ds * bent.sqr()?.affine(-1.0, 1.0)?)?;
        }
        ds * f64::from(f32::from_bits(options.scale))
    }

    /// The gradient of a key head is the sum of those of the query heads that share it.
    fn shared(&self, gradient: &Tensor, i: usize) -> Result<Tensor> {
        let (batch, own, n, width) = self.operands[i].dims4()?;
        let heads = gradient.dim(1)?;
        if own == heads {
            return Ok(gradient.clone());
        }
        gradient.reshape((batch, own, heads / own, n, width))?.sum(2)
    }
}
