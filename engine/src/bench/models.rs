//! The models that training steps are measured on, from a few thousand parameters to a few million.
//!
//! *Invariant:* parameters come in the order in which other systems are given them: of a GPT the embedding, the
//! positions, each block's (norm, q, k, v, o, norm, up, down), the norm, the head; a weight before its bias.

use super::builder::{Batch, Builder, RATE, floats, ids, program};
use crate::backend::Tensor;
use crate::graph::{Attention, Binary, DType, GraphError, Init, NodeId, Program, RowOp, Shape, Unary};

/// A model and its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// A transformer on tokens.
    Gpt(Gpt),
    /// A classifier of rows of numbers.
    Mlp(Mlp),
}

/// What tells a transformer where a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// Rotated queries and keys.
    Rotary,
    /// A trained table, added to the embedding.
    Learned,
}

/// How a transformer's stream is normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// RMS norm without a gain.
    Rms,
    /// Layer norm with gain and bias.
    Layer,
}

/// Between the two matrices of a block's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// max(x, 0)².
    ReluSquared,
    /// By the error function.
    Gelu,
}

/// Sizes and kind of a transformer. With layer norm its other linear maps than q, k, v have biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpt {
    /// Tokens.
    pub vocab: u32,
    /// Rows of a batch.
    pub batch: u32,
    /// Positions.
    pub context: u32,
    /// Channels.
    pub width: u32,
    /// Heads; divides the channels.
    pub heads: u32,
    /// Blocks.
    pub depth: u32,
    /// Positions.
    pub positions: Positions,
    /// Normalisation.
    pub norm: Norm,
    /// Activation.
    pub activation: Activation,
    /// Whether the embedding is the output matrix too.
    pub tied: bool,
}

/// Sizes of a classifier with ReLU and biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mlp {
    /// Rows of a batch.
    pub batch: u32,
    /// Numbers of a row.
    pub features: u32,
    /// Hidden units of a layer.
    pub hidden: u32,
    /// Hidden layers.
    pub depth: u32,
    /// Classes.
    pub classes: u32,
}

/// Rotary positions, RMS norm, squared ReLU, tied: the usual small model of today.
const fn modern(vocab: u32, [batch, context]: [u32; 2], width: u32, depth: u32) -> Model {
    let (positions, norm, activation) = (Positions::Rotary, Norm::Rms, Activation::ReluSquared);
    Model::Gpt(Gpt { vocab, batch, context, width, heads: 4, depth, positions, norm, activation, tied: true })
}

const NAMED: [(&str, Model); 8] = [
    ("gpt-128", modern(256, [32, 128], 128, 4)),
    ("gpt-256", modern(256, [32, 128], 256, 4)),
    (
        "nanogpt-128",
        Model::Gpt(Gpt {
            vocab: 256,
            batch: 32,
            context: 128,
            width: 128,
            heads: 4,
            depth: 4,
            positions: Positions::Learned,
            norm: Norm::Layer,
            activation: Activation::Gelu,
            tied: true,
        }),
    ),
    ("gpt-64", modern(256, [16, 64], 64, 2)),
    (
        "names",
        Model::Gpt(Gpt {
            vocab: 27,
            batch: 64,
            context: 16,
            width: 16,
            heads: 4,
            depth: 1,
            positions: Positions::Learned,
            norm: Norm::Rms,
            activation: Activation::Relu,
            tied: false,
        }),
    ),
    ("tabular-10k", Model::Mlp(Mlp { batch: 64, features: 32, hidden: 80, depth: 2, classes: 10 })),
    ("tabular-100k", Model::Mlp(Mlp { batch: 128, features: 64, hidden: 256, depth: 2, classes: 10 })),
    ("gpt-tiny", modern(16, [2, 8], 8, 1)),
];

impl Model {
    /// Names of the models: large ones, tiny ones, and one for tests.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, _)| *name)
    }

    /// The model of this name.
    pub fn named(name: &str) -> Option<Self> {
        NAMED.iter().find(|(known, _)| *known == name).map(|(_, model)| *model)
    }

    /// Tokens, or rows, of a batch: what a speed counts.
    pub fn examples(&self) -> u32 {
        match self {
            Self::Gpt(gpt) => gpt.batch * gpt.context,
            Self::Mlp(mlp) => mlp.batch,
        }
    }

    /// The model's learning rate; with AdamW, betas 0.9 and 0.95, epsilon 1e-8, weight decay 0.1 on everything.
    pub fn rate(&self) -> f32 {
        RATE
    }

    /// Inputs and targets, the same at each step.
    pub fn batch(&self) -> [Tensor; 2] {
        match self {
            Self::Gpt(gpt) => [1, 2].map(|stream| ids(stream, self.examples(), gpt.vocab)),
            Self::Mlp(mlp) => [Tensor::F32(floats(1, mlp.batch * mlp.features)), ids(2, mlp.batch, mlp.classes)],
        }
    }

    /// Its training step.
    ///
    /// # Errors
    /// The sizes do not fit each other.
    pub fn program(&self) -> Result<Program, GraphError> {
        match self {
            Self::Gpt(gpt) => {
                let batch = Batch { rows: gpt.batch, columns: gpt.context, dtype: DType::I32 };
                program(&batch, &|b, tokens| gpt.forward(b, tokens))
            }
            Self::Mlp(mlp) => {
                let batch = Batch { rows: mlp.batch, columns: mlp.features, dtype: DType::F32 };
                program(&batch, &|b, rows| mlp.forward(b, rows))
            }
        }
    }
}

impl Gpt {
    fn forward(&self, b: &mut Builder, tokens: NodeId) -> Result<NodeId, GraphError> {
        let table = b.matrix("wte", [self.vocab, self.width], 0.1)?;
        let mut x = b.graph.embedding(table, tokens)?;
        if self.positions == Positions::Learned {
            let positions = b.matrix("wpe", [self.context, self.width], 0.1)?;
            x = b.graph.binary(Binary::Add, x, positions)?;
        }
        if self.norm == Norm::Rms {
            x = self.normed(b, "", x)?;
        }
        for i in 0..self.depth {
            x = self.block(b, &format!("block{i}"), x)?;
        }
        if self.norm == Norm::Layer || self.tied {
            x = self.normed(b, "norm", x)?;
        }
        if !self.tied {
            return b.linear("head", x, self.vocab, false);
        }
        let transposed = b.graph.permute(table, &[1, 0])?;
        b.graph.matmul(x, transposed)
    }

    fn normed(&self, b: &mut Builder, name: &str, x: NodeId) -> Result<NodeId, GraphError> {
        if self.norm == Norm::Rms {
            return b.graph.row(RowOp::RmsNorm(1e-6f32.to_bits()), &[x]);
        }
        let normed = b.graph.row(RowOp::LayerNorm(1e-5f32.to_bits()), &[x])?;
        let gain = b.param(&format!("{name}.gain"), &[self.width], Init::Constant(1.0f32.to_bits()))?;
        let bias = b.param(&format!("{name}.bias"), &[self.width], Init::Constant(0))?;
        let scaled = b.graph.binary(Binary::Mul, normed, gain)?;
        b.graph.binary(Binary::Add, scaled, bias)
    }

    fn block(&self, b: &mut Builder, name: &str, x: NodeId) -> Result<NodeId, GraphError> {
        let biased = self.norm == Norm::Layer;
        let normed = self.normed(b, &format!("{name}.norm1"), x)?;
        let mixed = self.attention(b, name, normed)?;
        let mixed = b.linear(&format!("{name}.o"), mixed, self.width, biased)?;
        let x = b.graph.binary(Binary::Add, x, mixed)?;
        let normed = self.normed(b, &format!("{name}.norm2"), x)?;
        let up = b.linear(&format!("{name}.up"), normed, 4 * self.width, biased)?;
        let active = match self.activation {
            Activation::Relu => b.graph.unary(Unary::Relu, up)?,
            Activation::ReluSquared => {
                let relu = b.graph.unary(Unary::Relu, up)?;
                b.graph.binary(Binary::Mul, relu, relu)?
            }
            Activation::Gelu => b.gelu(up)?,
        };
        let down = b.linear(&format!("{name}.down"), active, self.width, biased)?;
        b.graph.binary(Binary::Add, x, down)
    }

    fn attention(&self, b: &mut Builder, name: &str, x: NodeId) -> Result<NodeId, GraphError> {
        let (width, heads) = (self.width, self.heads);
        let channels = width / heads;
        let mut split = |part: &str, rotated: bool| -> Result<NodeId, GraphError> {
            let flat = b.linear(&format!("{name}.{part}"), x, width, false)?;
            let split = b.graph.reshape(flat, Shape(vec![self.batch, self.context, heads, channels]))?;
            let split = b.graph.permute(split, &[0, 2, 1, 3])?;
            if rotated { b.graph.rope(split, 10_000.0f32.to_bits(), false) } else { Ok(split) }
        };
        let rotated = self.positions == Positions::Rotary;
        let (q, k, v) = (split("q", rotated)?, split("k", rotated)?, split("v", false)?);
        let scale = (1.0 / f64::from(channels).sqrt()) as f32;
        let options = Attention { causal: true, window: 0, scale: scale.to_bits(), soft_cap: 0 };
        let y = b.graph.attention(q, k, v, options)?;
        let y = b.graph.permute(y, &[0, 2, 1, 3])?;
        b.graph.reshape(y, Shape(vec![self.batch, self.context, width]))
    }
}

impl Mlp {
    fn forward(&self, b: &mut Builder, rows: NodeId) -> Result<NodeId, GraphError> {
        let mut x = rows;
        for i in 0..self.depth {
            let hidden = b.linear(&format!("hidden{i}"), x, self.hidden, true)?;
            x = b.graph.unary(Unary::Relu, hidden)?;
        }
        b.linear("out", x, self.classes, true)
    }
}
