//! A graph under construction, with its program's parameters: what a `train.py` would build.

use crate::backend::Tensor;
use crate::grad::gradients;
use crate::graph::{
    Binary, DType, Graph, GraphError, Init, NodeId, Param, Phase, Program, RowOp, Shape, StateVar, Unary,
};

/// AdamW's coefficients of the running means.
const BETAS: [f32; 2] = [0.9, 0.95];
/// AdamW's weight decay.
const DECAY: f32 = 0.1;
/// Learning rate.
pub(super) const RATE: f32 = 1e-3;
/// Steps that the tables reach; the last values hold after that.
const STEPS: u32 = 512;

type Built = Result<NodeId, GraphError>;

/// See the module.
pub(super) struct Builder {
    pub(super) graph: Graph,
    params: Vec<(Param, NodeId)>,
}

impl Builder {
    fn new() -> Self {
        Self { graph: Graph::default(), params: Vec::new() }
    }

    /// A new parameter.
    pub(super) fn param(&mut self, name: &str, shape: &[u32], init: Init) -> Built {
        let shape = Shape(shape.to_vec());
        let node = self.graph.param(self.params.len() as u32, shape.clone())?;
        self.params.push((Param { name: name.to_owned(), shape, init, tag: String::new() }, node));
        Ok(node)
    }

    /// A matrix with normal elements.
    pub(super) fn matrix(&mut self, name: &str, shape: [u32; 2], std: f32) -> Built {
        self.param(name, &shape, Init::Normal(std.to_bits()))
    }

    /// x @ w, with a bias if wanted.
    pub(super) fn linear(&mut self, name: &str, x: NodeId, width: u32, bias: bool) -> Built {
        let from = self.graph.shape(x)?.0.last().copied().unwrap_or(1);
        // As usual: the outputs are about as large as the inputs.
        let weight = self.matrix(name, [from, width], (1.0 / f64::from(from)).sqrt() as f32)?;
        let product = self.graph.matmul(x, weight)?;
        if !bias {
            return Ok(product);
        }
        let bias = self.param(&format!("{name}.bias"), &[width], Init::Constant(0))?;
        self.graph.binary(Binary::Add, product, bias)
    }

    fn number(&mut self, value: f32) -> Built {
        self.graph.full(value.to_bits(), Shape::default())
    }

    /// x · (1 + erf(x / √2)) / 2.
    pub(super) fn gelu(&mut self, x: NodeId) -> Built {
        let (root, one, half) = (self.number(std::f32::consts::FRAC_1_SQRT_2)?, self.number(1.0)?, self.number(0.5)?);
        let scaled = self.graph.binary(Binary::Mul, x, root)?;
        let erf = self.graph.unary(Unary::Erf, scaled)?;
        let weight = self.graph.binary(Binary::Add, one, erf)?;
        let halved = self.graph.binary(Binary::Mul, x, half)?;
        self.graph.binary(Binary::Mul, halved, weight)
    }

    fn sum(&mut self, x: NodeId) -> Built {
        let axes: Vec<u8> = (0..self.graph.shape(x)?.0.len() as u8).collect();
        let sum = self.graph.sum(x, &axes)?;
        self.graph.reshape(sum, Shape::default())
    }

    /// Mean cross-entropy of logits against class indices.
    fn loss(&mut self, logits: NodeId, targets: NodeId) -> Built {
        let losses = self.graph.row(RowOp::CrossEntropy, &[logits, targets])?;
        let count = self.graph.shape(losses)?.elements();
        let (sum, share) = (self.sum(losses)?, self.number((1.0 / count as f64) as f32)?);
        self.graph.binary(Binary::Mul, sum, share)
    }

    /// One AdamW update of parameter `i` by gradient `g`: the new parameter and its two new running means.
    fn adamw(&mut self, i: usize, g: NodeId) -> Result<[NodeId; 3], GraphError> {
        let (p, shape) = (self.params[i].1, self.params[i].0.shape.clone());
        let square = self.graph.binary(Binary::Mul, g, g)?;
        let mut moment = |k: usize, of: NodeId| -> Result<[NodeId; 2], GraphError> {
            let old = self.graph.state((2 * i + k) as u32, shape.clone())?;
            let (keep, take) = (self.number(BETAS[k])?, self.number(1.0 - BETAS[k])?);
            let (kept, taken) = (self.graph.binary(Binary::Mul, old, keep)?, self.graph.binary(Binary::Mul, of, take)?);
            let new = self.graph.binary(Binary::Add, kept, taken)?;
            let correction = self.graph.table(1 + k as u32)?;
            Ok([new, self.graph.binary(Binary::Div, new, correction)?])
        };
        let ([m, m_hat], [v, v_hat]) = (moment(0, g)?, moment(1, square)?);
        let (root, eps) = (self.graph.unary(Unary::Sqrt, v_hat)?, self.number(1e-8)?);
        let denominator = self.graph.binary(Binary::Add, root, eps)?;
        let step = self.graph.binary(Binary::Div, m_hat, denominator)?;
        let decay = self.number(DECAY)?;
        let decayed = self.graph.binary(Binary::Mul, p, decay)?;
        let direction = self.graph.binary(Binary::Add, step, decayed)?;
        let rate = self.graph.table(0)?;
        let change = self.graph.binary(Binary::Mul, direction, rate)?;
        Ok([self.graph.binary(Binary::Sub, p, change)?, m, v])
    }
}

/// Learning rate, and the corrections of the running means for their start at 0.
fn tables() -> Vec<Vec<f32>> {
    let correction = |beta: f32| {
        let mut power = 1.0f64;
        let next = |_| {
            power *= f64::from(beta);
            (1.0 - power) as f32
        };
        (0..STEPS).map(next).collect()
    };
    vec![vec![RATE; STEPS as usize], correction(BETAS[0]), correction(BETAS[1])]
}

/// What a batch looks like.
pub(super) struct Batch {
    /// Rows.
    pub(super) rows: u32,
    /// Positions of a row, or the number of its features.
    pub(super) columns: u32,
    /// Element type of the inputs.
    pub(super) dtype: DType,
}

/// A program that trains what `forward` builds (inputs to logits) by AdamW. Targets have the shape of the logits
/// without their last axis.
pub(super) fn program(
    batch: &Batch,
    forward: &dyn Fn(&mut Builder, NodeId) -> Result<NodeId, GraphError>,
) -> Result<Program, GraphError> {
    let inputs = || Shape(vec![batch.rows, batch.columns]);
    let mut b = Builder::new();
    let input = b.graph.input(0, inputs(), batch.dtype)?;
    let logits = forward(&mut b, input)?;
    let mut shape = b.graph.shape(logits)?.clone();
    shape.0.pop();
    let targets = b.graph.input(1, shape, DType::I32)?;
    let loss = b.loss(logits, targets)?;
    let nodes: Vec<NodeId> = b.params.iter().map(|(_, node)| *node).collect();
    let found = gradients(&mut b.graph, loss, &nodes)?;
    let (mut wanted, mut states, mut states_out) = (vec![loss], vec![], vec![]);
    for (i, &gradient) in found.iter().enumerate() {
        let [new, m, v] = b.adamw(i, gradient)?;
        wanted.push(new);
        states_out.extend([m, v]);
        let Param { name, shape, .. } = &b.params[i].0;
        states.extend(["m", "v"].map(|suffix| StateVar { name: format!("{name}/{suffix}"), shape: shape.clone() }));
    }
    wanted.extend(states_out);
    let (graph, wanted) = b.graph.pruned(&wanted);
    let (params_out, states_out) = wanted[1..].split_at(nodes.len());
    let phase = Phase {
        share_ppm: 1_000_000,
        batch: batch.rows,
        context: batch.columns,
        graph,
        loss: wanted[0],
        params_out: params_out.to_vec(),
        states_out: states_out.to_vec(),
    };
    let mut b = Builder::new();
    let input = b.graph.input(0, inputs(), batch.dtype)?;
    let output = forward(&mut b, input)?;
    let (eval, roots) = b.graph.pruned(&[output]);
    Ok(Program {
        params: b.params.into_iter().map(|(param, _)| param).collect(),
        states,
        phases: vec![phase],
        eval,
        eval_batch: batch.rows,
        output: roots[0],
        table_names: ["rate", "correction1", "correction2"].map(str::to_owned).to_vec(),
        tables: tables(),
        steps: vec![STEPS],
    })
}

/// `count` ids below `below`, the same for the same `stream`.
pub(super) fn ids(stream: u64, count: u32, below: u32) -> Tensor {
    Tensor::I32(numbers(stream, count).map(|x| (x * f64::from(below)) as i32).collect())
}

/// `count` numbers on [-1, 1), the same for the same `stream`.
pub(super) fn floats(stream: u64, count: u32) -> Vec<f32> {
    numbers(stream, count).map(|x| (2.0 * x - 1.0) as f32).collect()
}

/// On [0, 1): Knuth's MMIX generator, its top 24 bits.
fn numbers(stream: u64, count: u32) -> impl Iterator<Item = f64> {
    let mut state = stream.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..count).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 24)
    })
}
