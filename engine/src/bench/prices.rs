//! The price list against real time: what an operation takes for each metered operation, compared with a matrix product.
//!
//! *Invariant:* every operation that a step executes has a case; a node that costs nothing, or that is computed once
//! before the first step, has none.

use cairn_protocol::Seed;

use super::builder::{floats, ids};
use super::{Spread, options, seconds_of};
use crate::backend::{BackendError, Executor, Feed, Tensor};
use crate::cpu::Cpu;
use crate::graph::{
    Attention, AttentionInput, Binary, Conv2d, DType, Graph, GraphError, NodeId, Random, RowOp, Shape, Unary,
};
use crate::price;

/// Rows and columns of most operands: 4 MiB, as an activation of a small model is.
const ROWS: u32 = 4096;
const COLUMNS: u32 = 256;
/// Batch, heads, positions and channels of attention.
const HEADS: [u32; 4] = [32, 4, 128, 32];

/// One operation, or several that are always computed together, on operands of a usual size.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is called.
    pub name: String,
    /// The graph: operands are parameters and inputs.
    pub graph: Graph,
    /// What is computed.
    pub wanted: Vec<NodeId>,
    params: Vec<Vec<f32>>,
    inputs: [Tensor; 2],
}

/// Time and price of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Priced {
    /// The case's name.
    pub name: String,
    /// Metered operations.
    pub metered: u64,
    /// Seconds of one execution.
    pub seconds: Spread,
    /// Seconds for each metered operation, in units of those of a large matrix product.
    pub against_product: Spread,
}

/// A case under construction.
struct Operands {
    graph: Graph,
    params: Vec<Vec<f32>>,
    inputs: [Tensor; 2],
}

type Built = Result<NodeId, GraphError>;

impl Operands {
    /// Positive numbers: every function is at home there.
    fn tensor(&mut self, shape: &[u32]) -> Built {
        let (shape, i) = (Shape(shape.to_vec()), self.params.len());
        self.params.push(floats(i as u64 + 1, shape.elements() as u32).iter().map(|x| 1.1 + x).collect());
        self.graph.param(i as u32, shape)
    }

    /// The usual operand.
    fn usual(&mut self) -> Built {
        self.tensor(&[ROWS, COLUMNS])
    }

    fn ids(&mut self, shape: &[u32], below: u32) -> Built {
        let shape = Shape(shape.to_vec());
        self.inputs[0] = ids(1, shape.elements() as u32, below);
        self.graph.input(0, shape, DType::I32)
    }
}

/// Every operation, by family.
///
/// # Errors
/// A case contradicts itself: an error of this program.
pub fn cases() -> Result<Vec<Case>, GraphError> {
    let mut all = Cases::default();
    products(&mut all)?;
    convolutions(&mut all)?;
    elementwise(&mut all)?;
    reductions(&mut all)?;
    rows(&mut all)?;
    movement(&mut all)?;
    indexing(&mut all)?;
    Ok(all.0)
}

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn several(
        &mut self,
        name: impl Into<String>,
        build: impl FnOnce(&mut Operands) -> Result<Vec<NodeId>, GraphError>,
    ) -> Result<(), GraphError> {
        let nothing = || Tensor::I32(vec![]);
        let mut operands = Operands { graph: Graph::default(), params: vec![], inputs: [nothing(), nothing()] };
        let wanted = build(&mut operands)?;
        let Operands { graph, params, inputs } = operands;
        self.0.push(Case { name: name.into(), graph, wanted, params, inputs });
        Ok(())
    }

    fn one(&mut self, name: impl Into<String>, build: impl FnOnce(&mut Operands) -> Built) -> Result<(), GraphError> {
        self.several(name, |o| Ok(vec![build(o)?]))
    }
}

/// The first case is what the others are compared with.
fn products(all: &mut Cases) -> Result<(), GraphError> {
    let mut product = |name: &str, a: &[u32], b: &[u32], tb: bool| {
        all.one(name, |o| {
            let (a, b) = (o.tensor(a)?, o.tensor(b)?);
            o.graph.contraction((a, false), (b, tb))
        })
    };
    product("matmul 4096x512x128", &[4096, 128], &[128, 512], false)?;
    product("matmul 128 of 128x128x32", &[128, 128, 32], &[128, 128, 32], true)?;
    product("matmul 1024x64x16", &[1024, 16], &[16, 64], false)?;
    let causal = Attention { causal: true, window: 0, scale: 0.25f32.to_bits(), soft_cap: 0 };
    let kinds = [
        ("attention, causal", causal),
        ("attention", Attention { causal: false, ..causal }),
        ("attention, window 32", Attention { window: 32, ..causal }),
        ("attention, soft cap", Attention { soft_cap: 10.0f32.to_bits(), ..causal }),
    ];
    for (name, options) in kinds {
        all.one(name, |o| {
            let (q, k, v) = (o.tensor(&HEADS)?, o.tensor(&HEADS)?, o.tensor(&HEADS)?);
            o.graph.attention(q, k, v, options)
        })?;
    }
    all.several("attention gradients, causal", |o| {
        let inputs = [o.tensor(&HEADS)?, o.tensor(&HEADS)?, o.tensor(&HEADS)?, o.tensor(&HEADS)?, o.tensor(&HEADS)?];
        let by = [AttentionInput::Q, AttentionInput::K, AttentionInput::V];
        by.into_iter().map(|by| o.graph.attention_grad(inputs, causal, by)).collect()
    })
}

/// 3 x 3 on 16 images of 32 channels, 32 x 32.
fn convolutions(all: &mut Cases) -> Result<(), GraphError> {
    let options = Conv2d { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 };
    let (images, kernel) = ([16, 32, 32, 32], [32, 32, 3, 3]);
    all.one("conv2d 3x3", |o| {
        let (x, w) = (o.tensor(&images)?, o.tensor(&kernel)?);
        o.graph.conv2d(x, w, options)
    })?;
    all.one("conv2d input gradient", |o| {
        let (w, dy) = (o.tensor(&kernel)?, o.tensor(&images)?);
        o.graph.conv2d_input_grad(w, dy, options, [32, 32])
    })?;
    all.one("conv2d weight gradient", |o| {
        let (x, dy) = (o.tensor(&images)?, o.tensor(&images)?);
        o.graph.conv2d_weight_grad(x, dy, options, [3, 3])
    })
}

fn elementwise(all: &mut Cases) -> Result<(), GraphError> {
    use Binary::{Add, Div, Eq, Le, Lt, Max, Min, Mul, Sub};
    use Unary::{
        Abs, Cos, Erf, Exp, Floor, Log, Neg, Recip, Relu, Round, RoundBf16, Rsqrt, Sigmoid, Sign, Sin, Sqrt, Tanh,
    };
    let unary =
        [Neg, Exp, Log, Sqrt, Rsqrt, Recip, Tanh, Sigmoid, Erf, Sin, Cos, Relu, Abs, Sign, Floor, Round, RoundBf16];
    for op in unary {
        all.one(lower(op), |o| {
            let x = o.usual()?;
            o.graph.unary(op, x)
        })?;
    }
    all.one("to_float", |o| {
        let x = o.ids(&[ROWS, COLUMNS], 1000)?;
        o.graph.unary(Unary::ToFloat, x)
    })?;
    all.one("to_int", |o| {
        let x = o.usual()?;
        let whole = o.graph.unary(Unary::ToInt, x)?;
        o.graph.unary(Unary::ToFloat, whole)
    })?;
    for op in [Add, Sub, Mul, Div, Max, Min, Lt, Le, Eq] {
        all.one(lower(op), |o| {
            let (x, y) = (o.usual()?, o.usual()?);
            o.graph.binary(op, x, y)
        })?;
    }
    all.one("add a row", |o| {
        let (x, y) = (o.usual()?, o.tensor(&[COLUMNS])?);
        o.graph.binary(Add, x, y)
    })?;
    all.one("where", |o| {
        let (c, x, y) = (o.usual()?, o.usual()?, o.usual()?);
        o.graph.where_(c, x, y)
    })?;
    for (name, kind) in [("uniform", Random::Uniform), ("normal", Random::Normal)] {
        all.one(name, |o| o.graph.random(kind, "stream", Shape(vec![ROWS, COLUMNS])))?;
    }
    Ok(())
}

fn reductions(all: &mut Cases) -> Result<(), GraphError> {
    let axes: [(&str, &[u8]); 3] = [("last axis", &[1]), ("first axis", &[0]), ("all", &[0, 1])];
    for (name, axes) in axes {
        all.one(format!("sum, {name}"), |o| {
            let x = o.usual()?;
            o.graph.sum(x, axes)
        })?;
        all.one(format!("max, {name}"), |o| {
            let x = o.usual()?;
            o.graph.max(x, axes)
        })?;
    }
    for (name, axis) in [("cumsum, last axis", 1), ("cumsum, first axis", 0)] {
        all.one(name, |o| {
            let x = o.usual()?;
            o.graph.cumsum(x, axis, false)
        })?;
    }
    all.one("argmax", |o| {
        let x = o.usual()?;
        let index = o.graph.argmax(x)?;
        o.graph.unary(Unary::ToFloat, index)
    })
}

fn rows(all: &mut Cases) -> Result<(), GraphError> {
    use RowOp::{
        CrossEntropy, CrossEntropyGrad, LayerNorm, LayerNormGrad, LogSoftmax, LogSoftmaxGrad, RmsNorm, RmsNormGrad,
        Softmax, SoftmaxGrad,
    };
    let eps = 1e-5f32.to_bits();
    for op in [Softmax, LogSoftmax, RmsNorm(eps), LayerNorm(eps)] {
        all.one(lower(op), |o| {
            let x = o.usual()?;
            o.graph.row(op, &[x])
        })?;
    }
    for op in [SoftmaxGrad, LogSoftmaxGrad, RmsNormGrad(eps), LayerNormGrad(eps)] {
        all.one(lower(op), |o| {
            let (x, dy) = (o.usual()?, o.usual()?);
            o.graph.row(op, &[x, dy])
        })?;
    }
    all.one(lower(CrossEntropy), |o| {
        let (x, ids) = (o.usual()?, o.ids(&[ROWS], COLUMNS)?);
        o.graph.row(CrossEntropy, &[x, ids])
    })?;
    all.one(lower(CrossEntropyGrad), |o| {
        let (x, ids, g) = (o.usual()?, o.ids(&[ROWS], COLUMNS)?, o.tensor(&[ROWS])?);
        o.graph.row(CrossEntropyGrad, &[x, ids, g])
    })?;
    all.one("rope", |o| {
        let x = o.tensor(&HEADS)?;
        o.graph.rope(x, 10_000.0f32.to_bits(), false)
    })
}

fn indexing(all: &mut Cases) -> Result<(), GraphError> {
    all.one("embedding", |o| {
        let (table, ids) = (o.tensor(&[256, COLUMNS])?, o.ids(&[ROWS], 256)?);
        o.graph.embedding(table, ids)
    })?;
    all.one("embedding gradient", |o| {
        let (dy, ids) = (o.usual()?, o.ids(&[ROWS], 256)?);
        o.graph.embedding_grad(ids, dy, 256)
    })?;
    all.one("take", |o| {
        let (x, ids) = (o.usual()?, o.ids(&[ROWS], COLUMNS)?);
        o.graph.take(x, ids)
    })?;
    all.one("take gradient", |o| {
        let (dy, ids) = (o.tensor(&[ROWS])?, o.ids(&[ROWS], COLUMNS)?);
        o.graph.take_grad(ids, dy, COLUMNS)
    })?;
    for (name, axis) in [("gather, last axis", 1), ("gather, first axis", 0)] {
        all.one(name, |o| {
            let (x, ids) = (o.usual()?, o.ids(&[ROWS, COLUMNS], COLUMNS)?);
            o.graph.gather(x, ids, axis)
        })?;
    }
    for (name, axis) in [("scatter_add, last axis", 1), ("scatter_add, first axis", 0)] {
        all.one(name, |o| {
            let (src, ids) = (o.usual()?, o.ids(&[ROWS, COLUMNS], COLUMNS)?);
            o.graph.scatter_add(ids, src, axis, COLUMNS)
        })?;
    }
    for (name, k) in [("topk 8", 8), ("sort", COLUMNS)] {
        all.one(name, |o| {
            let x = o.usual()?;
            let index = o.graph.topk(x, k)?;
            o.graph.unary(Unary::ToFloat, index)
        })?;
    }
    Ok(())
}

fn movement(all: &mut Cases) -> Result<(), GraphError> {
    all.one("permute, last axis kept", |o| {
        let x = o.tensor(&[32, 128, 8, 32])?;
        o.graph.permute(x, &[0, 2, 1, 3])
    })?;
    all.one("permute, transposed", |o| {
        let x = o.usual()?;
        o.graph.permute(x, &[1, 0])
    })?;
    all.one("broadcast_to", |o| {
        let x = o.tensor(&[ROWS, 1])?;
        o.graph.broadcast_to(x, Shape(vec![ROWS, COLUMNS]))
    })?;
    all.one("slice", |o| {
        let x = o.usual()?;
        o.graph.slice(x, 1, COLUMNS / 4, COLUMNS / 2)
    })?;
    all.one("pad", |o| {
        let x = o.usual()?;
        o.graph.pad(x, 1, 1, 1)
    })?;
    all.one("concat", |o| {
        let (x, y) = (o.usual()?, o.usual()?);
        o.graph.concat(&[x, y], 1)
    })
}

/// The name of an operation without its numbers, in small letters.
fn lower(op: impl std::fmt::Debug) -> String {
    let text = format!("{op:?}");
    text.split('(').next().unwrap_or_default().to_lowercase()
}

/// A case made ready.
struct Ready<'a> {
    case: &'a Case,
    cpu: Cpu,
    out: Vec<Vec<f32>>,
}

impl<'a> Ready<'a> {
    fn new(case: &'a Case) -> Result<Self, BackendError> {
        let cpu = Cpu::new(&case.graph, &case.wanted, &options(1))?;
        Ok(Self { case, cpu, out: case.wanted.iter().map(|_| vec![]).collect() })
    }

    fn seconds(&mut self, seconds: f64) -> Result<f64, BackendError> {
        let (case, seed) = (self.case, Seed([0; 32]));
        let inputs = [&case.inputs[0], &case.inputs[1]];
        let feed = Feed { inputs, params: &case.params, states: &[], tables: &[], seed: &seed, step: 0 };
        seconds_of(seconds, || self.cpu.run(&feed, &mut self.out))
    }
}

/// Measures a case on one thread, in turns with the first of `all`: `pairs` pairs of about `seconds` each.
///
/// # Errors
/// The backend fails.
pub fn prices(all: &[Case], case: &Case, pairs: usize, seconds: f64) -> Result<Priced, BackendError> {
    let Some(product) = all.first() else {
        return Err(BackendError::Feed("there is nothing to compare with".into()));
    };
    let per = |case: &Case| 1.0 / price::graph(&case.graph).max(1) as f64;
    let (mut ours, mut products) = (Ready::new(case)?, Ready::new(product)?);
    let mut measured = Vec::with_capacity(pairs);
    for _ in 0..pairs {
        measured.push((ours.seconds(seconds)?, products.seconds(seconds)?));
    }
    let (per, per_product) = (per(case), per(product));
    Ok(Priced {
        name: case.name.clone(),
        metered: price::graph(&case.graph),
        seconds: Spread::of(measured.iter().map(|(ours, _)| *ours)),
        against_product: Spread::of(measured.iter().map(|(ours, product)| ours * per / (product * per_product))),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_case_runs_and_has_a_price() {
        let all = cases().unwrap();
        assert!(all[0].name.starts_with("matmul"));
        for case in &all {
            assert!(price::graph(&case.graph) > 0, "{}", case.name);
            Ready::new(case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        }
        let cheap = all.iter().find(|case| case.name == "matmul 1024x64x16").unwrap();
        let found = prices(&all, cheap, 1, 0.001).unwrap();
        assert_eq!(found.metered, 2 * 1024 * 64 * 16);
        assert!(found.seconds.median > 0.0 && found.against_product.median > 0.0);
    }
}
