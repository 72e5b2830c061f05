//! The training steps of [`cairn_engine::bench::Model`] in candle, through its own differentiation: as its users write
//! them, on matrices of [rows · positions, channels].

use std::time::Instant;

use cairn_engine::backend::Tensor as Values;
use cairn_engine::bench::{Activation, Gpt, Mlp, Model, Norm, Positions, Trainer};
use candle_core::{D, Device, Result, Tensor, Var};

/// A model in training on one batch.
pub(crate) struct Training {
    model: Model,
    params: Vec<Var>,
    moments: Vec<[Tensor; 2]>,
    inputs: Tensor,
    targets: Tensor,
    tables: Tables,
    step: i32,
}

/// What depends on the sizes alone.
struct Tables {
    mask: Tensor,
    cos: Tensor,
    sin: Tensor,
}

/// Parameters, taken in order.
struct Take<'a>(std::slice::Iter<'a, Var>);

impl Take<'_> {
    fn next(&mut self) -> Result<&Tensor> {
        self.0.next().map(Var::as_tensor).ok_or_else(|| candle_core::Error::Msg("too few parameters".into()))
    }
}

fn softmax(x: &Tensor) -> Result<Tensor> {
    let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let x = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let log = x.broadcast_sub(&x.exp()?.sum_keepdim(D::Minus1)?.log()?)?;
    log.gather(&targets.unsqueeze(1)?, 1)?.mean_all()?.neg()
}

fn rms_norm(x: &Tensor, eps: f64) -> Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?)
}

impl Tables {
    fn new(model: &Model) -> Result<Self> {
        let (t, d) = match model {
            Model::Gpt(gpt) => (gpt.context as usize, (gpt.width / gpt.heads) as usize),
            Model::Mlp(_) => (1, 2),
        };
        let mask: Vec<f32> = (0..t * t).map(|i| if i % t > i / t { f32::NEG_INFINITY } else { 0.0 }).collect();
        let angle = |i: usize| (i / d) as f64 * 10_000f64.powf(-2.0 * (i % d % (d / 2)) as f64 / d as f64);
        let cos: Vec<f32> = (0..t * d).map(|i| angle(i).cos() as f32).collect();
        let sin: Vec<f32> = (0..t * d).map(|i| angle(i).sin() as f32).collect();
        Ok(Self {
            mask: Tensor::from_vec(mask, (t, t), &Device::Cpu)?,
            cos: Tensor::from_vec(cos, (t, d), &Device::Cpu)?,
            sin: Tensor::from_vec(sin, (t, d), &Device::Cpu)?,
        })
    }
}

impl Training {
    /// Starts where `trainer` starts.
    pub(crate) fn new(model: &Model, trainer: &Trainer) -> Result<Self> {
        let start = trainer.program().params.iter().zip(&trainer.state().params);
        let params = start.map(|(param, values)| {
            let shape: Vec<usize> = param.shape.0.iter().map(|&n| n as usize).collect();
            Var::from_tensor(&Tensor::from_slice(values, shape, &Device::Cpu)?)
        });
        let params = params.collect::<Result<Vec<Var>>>()?;
        let zeros = |param: &Var| Ok([param.zeros_like()?, param.zeros_like()?]);
        let tensor = |values: &Values| match values {
            Values::F32(values) => Tensor::from_slice(values, values.len(), &Device::Cpu),
            Values::I32(values) => {
                let values: Vec<u32> = values.iter().map(|&x| x.max(0) as u32).collect();
                Tensor::from_slice(&values, values.len(), &Device::Cpu)
            }
        };
        let [inputs, targets] = model.batch();
        let mut inputs = tensor(&inputs)?;
        if let Model::Mlp(mlp) = model {
            inputs = inputs.reshape((mlp.batch as usize, mlp.features as usize))?;
        }
        Ok(Self {
            model: *model,
            moments: params.iter().map(zeros).collect::<Result<_>>()?,
            params,
            inputs,
            targets: tensor(&targets)?,
            tables: Tables::new(model)?,
            step: 0,
        })
    }

    /// Does so many steps: seconds, and the loss of the last one.
    pub(crate) fn steps(&mut self, steps: u64) -> Result<(f64, f32)> {
        let start = Instant::now();
        let mut loss = 0.0;
        for _ in 0..steps {
            loss = self.step()?;
        }
        Ok((start.elapsed().as_secs_f64(), loss))
    }

    fn step(&mut self) -> Result<f32> {
        let mut take = Take(self.params.iter());
        let logits = match &self.model {
            Model::Gpt(gpt) => self.gpt(gpt, &mut take)?,
            Model::Mlp(mlp) => self.mlp(mlp, &mut take)?,
        };
        let loss = cross_entropy(&logits, &self.targets)?;
        let gradients = loss.backward()?;
        self.step += 1;
        let [first, second] = [0.9f64, 0.95].map(|beta| 1.0 - beta.powi(self.step));
        let rate = f64::from(self.model.rate());
        for (param, [m, v]) in self.params.iter().zip(&mut self.moments) {
            let Some(g) = gradients.get(param) else { continue };
            *m = ((&*m * 0.9)? + (g * 0.1)?)?;
            *v = ((&*v * 0.95)? + (g.sqr()? * 0.05)?)?;
            let step = ((&*m / first)? / ((&*v / second)?.sqrt()? + 1e-8)?)?;
            param.set(&((param.as_tensor() * (1.0 - 0.1 * rate))? - (step * rate)?)?)?;
        }
        loss.to_scalar::<f32>()
    }

    fn mlp(&self, mlp: &Mlp, take: &mut Take<'_>) -> Result<Tensor> {
        let mut x = self.inputs.clone();
        for i in 0..=mlp.depth {
            x = x.matmul(take.next()?)?.broadcast_add(take.next()?)?;
            if i < mlp.depth {
                x = x.relu()?;
            }
        }
        Ok(x)
    }

    fn gpt(&self, gpt: &Gpt, take: &mut Take<'_>) -> Result<Tensor> {
        let (batch, context, width) = (gpt.batch as usize, gpt.context as usize, gpt.width as usize);
        let wte = take.next()?.clone();
        let mut x = wte.index_select(&self.inputs, 0)?;
        if gpt.positions == Positions::Learned {
            x = x.reshape((batch, context, width))?.broadcast_add(take.next()?)?.reshape((batch * context, width))?;
        }
        if gpt.norm == Norm::Rms {
            x = rms_norm(&x, 1e-6)?;
        }
        for _ in 0..gpt.depth {
            x = self.block(gpt, &x, take)?;
        }
        if gpt.norm == Norm::Layer || gpt.tied {
            x = normed(gpt, &x, take)?;
        }
        if gpt.tied { x.matmul(&wte.t()?) } else { x.matmul(take.next()?) }
    }

    fn block(&self, gpt: &Gpt, x: &Tensor, take: &mut Take<'_>) -> Result<Tensor> {
        let normed_once = normed(gpt, x, take)?;
        let mixed = linear(gpt, &self.attention(gpt, &normed_once, take)?, take)?;
        let x = (x + mixed)?;
        let up = linear(gpt, &normed(gpt, &x, take)?, take)?;
        let active = match gpt.activation {
            Activation::Relu => up.relu()?,
            Activation::ReluSquared => up.relu()?.sqr()?,
            Activation::Gelu => up.gelu_erf()?,
        };
        &x + linear(gpt, &active, take)?
    }

    fn attention(&self, gpt: &Gpt, x: &Tensor, take: &mut Take<'_>) -> Result<Tensor> {
        let (batch, context, heads) = (gpt.batch as usize, gpt.context as usize, gpt.heads as usize);
        let channels = gpt.width as usize / heads;
        let mut split = |rotated: bool| -> Result<Tensor> {
            let x = x.matmul(take.next()?)?.reshape((batch, context, heads, channels))?;
            let x = x.transpose(1, 2)?.contiguous()?;
            if !rotated {
                return Ok(x);
            }
            let half = channels / 2;
            let (left, right) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
            let turned = Tensor::cat(&[&right.neg()?, &left], D::Minus1)?;
            x.broadcast_mul(&self.tables.cos)? + turned.broadcast_mul(&self.tables.sin)?
        };
        let rotated = gpt.positions == Positions::Rotary;
        let (q, k, v) = (split(rotated)?, split(rotated)?, split(false)?);
        let scores = (q.matmul(&k.t()?)? * (1.0 / (channels as f64).sqrt()))?.broadcast_add(&self.tables.mask)?;
        let y = softmax(&scores)?.matmul(&v)?;
        y.transpose(1, 2)?.contiguous()?.reshape((batch * context, gpt.width as usize))
    }
}

fn normed(gpt: &Gpt, x: &Tensor, take: &mut Take<'_>) -> Result<Tensor> {
    match gpt.norm {
        Norm::Rms => rms_norm(x, 1e-6),
        Norm::Layer => {
            let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
            rms_norm(&centred, 1e-5)?.broadcast_mul(take.next()?)?.broadcast_add(take.next()?)
        }
    }
}

fn linear(gpt: &Gpt, x: &Tensor, take: &mut Take<'_>) -> Result<Tensor> {
    let x = x.matmul(take.next()?)?;
    if gpt.norm == Norm::Layer { x.broadcast_add(take.next()?) } else { Ok(x) }
}
