//! Whole programs, built by hand: a GPT and a classifier, each with AdamW, as `train.py` would give them.
//!
//! Sizes are arguments, so that a test takes the smallest that shows what it is about.

use cairn_engine::backend::Tensor;
use cairn_engine::grad::gradients;
use cairn_engine::graph::{
    Attention, Binary, DType, Graph, Init, NodeId, Param, Phase, Program, RowOp, Shape, StateVar, Unary,
};

use crate::cases::Numbers;

/// Sizes of a GPT with rotary positions, grouped heads and tied embeddings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gpt {
    /// Tokens.
    pub(crate) vocab: u32,
    /// Rows of a batch.
    pub(crate) batch: u32,
    /// Positions.
    pub(crate) context: u32,
    /// Channels, a multiple of the heads.
    pub(crate) width: u32,
    /// Heads of the queries.
    pub(crate) heads: u32,
    /// Heads of keys and values; divides `heads`.
    pub(crate) key_heads: u32,
    /// Blocks.
    pub(crate) depth: u32,
    /// Attention window, 0 for none.
    pub(crate) window: u32,
    /// Steps of the run.
    pub(crate) steps: u32,
}

impl Gpt {
    /// The smallest that has everything.
    pub(crate) const TINY: Self =
        Self { vocab: 11, batch: 2, context: 8, width: 8, heads: 4, key_heads: 2, depth: 1, window: 0, steps: 16 };
}

/// Sizes of a classifier of each token by the three tokens up to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mlp {
    /// Tokens; also the classes.
    pub(crate) vocab: u32,
    /// Rows of a batch.
    pub(crate) batch: u32,
    /// Positions.
    pub(crate) context: u32,
    /// Channels of a token.
    pub(crate) width: u32,
    /// Hidden units.
    pub(crate) hidden: u32,
    /// Steps of the run.
    pub(crate) steps: u32,
}

impl Mlp {
    /// The smallest that has everything.
    pub(crate) const TINY: Self = Self { vocab: 7, batch: 3, context: 5, width: 4, hidden: 6, steps: 16 };
}

/// A graph under construction, with the program's parameters by name.
pub(crate) struct Builder {
    /// The graph.
    pub(crate) graph: Graph,
    pub(crate) params: Vec<Param>,
    nodes: Vec<Option<NodeId>>,
}

impl Builder {
    /// An empty graph over parameters that another graph of the program has made.
    pub(crate) fn new(params: Vec<Param>) -> Self {
        let nodes = vec![None; params.len()];
        Self { graph: Graph::default(), params, nodes }
    }

    /// A parameter: the same node for the same name.
    pub(crate) fn param(&mut self, name: &str, shape: &[u32], init: Init) -> NodeId {
        let i = self.params.iter().position(|param| param.name == name).unwrap_or_else(|| {
            let shape = Shape(shape.to_vec());
            self.params.push(Param { name: name.to_owned(), shape, init, tag: String::new() });
            self.nodes.push(None);
            self.params.len() - 1
        });
        *self.nodes[i].get_or_insert_with(|| self.graph.param(i as u32, Shape(shape.to_vec())).unwrap())
    }

    /// A number.
    pub(crate) fn number(&mut self, value: f32) -> NodeId {
        self.graph.full(value.to_bits(), Shape::default()).unwrap()
    }

    /// Elementwise with one operand.
    pub(crate) fn unary(&mut self, op: Unary, a: NodeId) -> NodeId {
        self.graph.unary(op, a).unwrap()
    }

    /// Elementwise with two operands.
    pub(crate) fn binary(&mut self, op: Binary, a: NodeId, b: NodeId) -> NodeId {
        self.graph.binary(op, a, b).unwrap()
    }

    /// x @ w with a new weight of standard deviation `std`.
    pub(crate) fn linear(&mut self, name: &str, x: NodeId, width: u32, std: f32) -> NodeId {
        let from = *self.graph.shape(x).unwrap().0.last().unwrap();
        let weight = self.param(name, &[from, width], Init::Normal(std.to_bits()));
        self.graph.matmul(x, weight).unwrap()
    }
}

/// A program and the sizes that its evaluation needs.
struct Model<'a> {
    batch: u32,
    context: u32,
    steps: u32,
    forward: &'a dyn Fn(&mut Builder, NodeId) -> NodeId,
}

/// A GPT with AdamW.
pub(crate) fn gpt(sizes: &Gpt) -> Program {
    let forward = |b: &mut Builder, tokens| gpt_forward(b, tokens, sizes);
    program(Model { batch: sizes.batch, context: sizes.context, steps: sizes.steps, forward: &forward })
}

/// A classifier with one hidden layer, with AdamW.
pub(crate) fn mlp(sizes: &Mlp) -> Program {
    let forward = |b: &mut Builder, tokens| mlp_forward(b, tokens, sizes);
    program(Model { batch: sizes.batch, context: sizes.context, steps: sizes.steps, forward: &forward })
}

/// A GPT's training objective, without gradients: the graph, the loss, and the nodes of the parameters.
pub(crate) fn gpt_objective(sizes: &Gpt) -> (Builder, NodeId, Vec<NodeId>) {
    let forward = |b: &mut Builder, tokens| gpt_forward(b, tokens, sizes);
    objective(&Model { batch: sizes.batch, context: sizes.context, steps: sizes.steps, forward: &forward })
}

/// A classifier's training objective, without gradients: the graph, the loss, and the nodes of the parameters.
pub(crate) fn mlp_objective(sizes: &Mlp) -> (Builder, NodeId, Vec<NodeId>) {
    let forward = |b: &mut Builder, tokens| mlp_forward(b, tokens, sizes);
    objective(&Model { batch: sizes.batch, context: sizes.context, steps: sizes.steps, forward: &forward })
}

/// Tokens and targets of a batch, some targets being padding.
pub(crate) fn batch(vocab: u32, batch: u32, context: u32) -> [Tensor; 2] {
    let mut numbers = Numbers::new("batch");
    let mut rows = |least: f64| {
        let count = batch * context;
        let id = |_| (least + numbers.uniform() * (f64::from(vocab) - least)).floor() as i32;
        Tensor::I32((0..count).map(id).collect())
    };
    [rows(0.0), rows(-1.0)]
}

fn gpt_forward(b: &mut Builder, tokens: NodeId, sizes: &Gpt) -> NodeId {
    let eps = 1e-6f32.to_bits();
    b.graph.set_line(10);
    let table = b.param("wte", &[sizes.vocab, sizes.width], Init::Normal(0.02f32.to_bits()));
    let mut x = b.graph.embedding(table, tokens).unwrap();
    x = b.graph.row(RowOp::RmsNorm(eps), &[x]).unwrap();
    for i in 0..sizes.depth {
        b.graph.set_line(20 + i);
        let normed = b.graph.row(RowOp::RmsNorm(eps), &[x]).unwrap();
        let mixed = attention(b, &format!("block{i}"), normed, sizes);
        x = b.binary(Binary::Add, x, mixed);
        let normed = b.graph.row(RowOp::RmsNorm(eps), &[x]).unwrap();
        let up = b.linear(&format!("block{i}.up"), normed, 4 * sizes.width, 0.1);
        let relu = b.unary(Unary::Relu, up);
        let square = b.binary(Binary::Mul, relu, relu);
        let down = b.linear(&format!("block{i}.down"), square, sizes.width, 0.1);
        x = b.binary(Binary::Add, x, down);
    }
    b.graph.set_line(30);
    x = b.graph.row(RowOp::RmsNorm(eps), &[x]).unwrap();
    let transposed = b.graph.permute(table, &[1, 0]).unwrap();
    b.graph.matmul(x, transposed).unwrap()
}

fn attention(b: &mut Builder, name: &str, x: NodeId, sizes: &Gpt) -> NodeId {
    let [batch, context] = b.graph.shape(x).unwrap().0[..2] else { unreachable!() };
    let channels = sizes.width / sizes.heads;
    let mut heads = |part: &str, count: u32, rotated: bool| {
        let flat = b.linear(&format!("{name}.{part}"), x, count * channels, 0.2);
        let split = b.graph.reshape(flat, Shape(vec![batch, context, count, channels])).unwrap();
        let heads = b.graph.permute(split, &[0, 2, 1, 3]).unwrap();
        if rotated { b.graph.rope(heads, 10_000.0f32.to_bits(), false).unwrap() } else { heads }
    };
    let (q, k, v) =
        (heads("q", sizes.heads, true), heads("k", sizes.key_heads, true), heads("v", sizes.key_heads, false));
    let scale = (1.0 / f64::from(channels).sqrt()) as f32;
    let options = Attention { causal: true, window: sizes.window, scale: scale.to_bits(), soft_cap: 0 };
    let y = b.graph.attention(q, k, v, options).unwrap();
    let y = b.graph.permute(y, &[0, 2, 1, 3]).unwrap();
    let y = b.graph.reshape(y, Shape(vec![batch, context, sizes.width])).unwrap();
    b.linear(&format!("{name}.o"), y, sizes.width, 0.2)
}

fn mlp_forward(b: &mut Builder, tokens: NodeId, sizes: &Mlp) -> NodeId {
    b.graph.set_line(10);
    let table = b.param("wte", &[sizes.vocab, sizes.width], Init::Normal(1.0f32.to_bits()));
    let x = b.graph.embedding(table, tokens).unwrap();
    // The token before, and the one before that; zeros before the first.
    let earlier: Vec<NodeId> = (1..3)
        .map(|by| {
            let padded = b.graph.pad(x, 1, by, 0).unwrap();
            b.graph.slice(padded, 1, 0, sizes.context).unwrap()
        })
        .collect();
    let near = b.graph.concat(&[x, earlier[0], earlier[1]], 2).unwrap();
    b.graph.set_line(20);
    let hidden = b.linear("hidden", near, sizes.hidden, 0.3);
    let bias = b.param("hidden.bias", &[sizes.hidden], Init::Constant(0));
    let hidden = b.binary(Binary::Add, hidden, bias);
    let hidden = b.unary(Unary::Tanh, hidden);
    b.graph.set_line(30);
    let outputs = b.linear("out", hidden, sizes.vocab, 0.3);
    let bias = b.param("out.bias", &[sizes.vocab], Init::Uniform(0.1f32.to_bits()));
    b.binary(Binary::Add, outputs, bias)
}

/// Mean cross-entropy over the targets that are not -1.
pub(crate) fn mean_cross_entropy(b: &mut Builder, outputs: NodeId, targets: NodeId) -> NodeId {
    let losses = b.graph.row(RowOp::CrossEntropy, &[outputs, targets]).unwrap();
    let sum = sum_all(b, losses);
    let zero = b.graph.full_int(0, Shape::default()).unwrap();
    let counted = b.binary(Binary::Le, zero, targets);
    let count = sum_all(b, counted);
    let one = b.number(1.0);
    let count = b.binary(Binary::Max, count, one);
    let share = b.unary(Unary::Recip, count);
    b.binary(Binary::Mul, sum, share)
}

/// Sum over all axes, as a scalar.
pub(crate) fn sum_all(b: &mut Builder, x: NodeId) -> NodeId {
    let axes: Vec<u8> = (0..b.graph.shape(x).unwrap().0.len() as u8).collect();
    let sum = b.graph.sum(x, &axes).unwrap();
    b.graph.reshape(sum, Shape::default()).unwrap()
}

const BETAS: [f32; 2] = [0.9, 0.95];

/// The tables of [`adamw`], in order.
const RATE: u32 = 0;
const CORRECTIONS: [u32; 2] = [1, 2];

/// A running mean of `of` in state `i`: its new value, and that value corrected for its start at 0.
fn moment(b: &mut Builder, i: u32, k: usize, of: NodeId, shape: &Shape) -> (NodeId, NodeId) {
    let old = b.graph.state(i, shape.clone()).unwrap();
    let (keep, take) = (b.number(BETAS[k]), b.number(1.0 - BETAS[k]));
    let (kept, taken) = (b.binary(Binary::Mul, old, keep), b.binary(Binary::Mul, of, take));
    let new = b.binary(Binary::Add, kept, taken);
    let correction = b.graph.table(CORRECTIONS[k]).unwrap();
    (new, b.binary(Binary::Div, new, correction))
}

/// One AdamW update of parameter `i`, node `p`, by gradient `g`: the new parameter and its two new states.
fn adamw(b: &mut Builder, i: u32, p: NodeId, g: NodeId, shape: &Shape) -> (NodeId, [NodeId; 2]) {
    let square = b.binary(Binary::Mul, g, g);
    let (m, m_hat) = moment(b, 2 * i, 0, g, shape);
    let (v, v_hat) = moment(b, 2 * i + 1, 1, square, shape);
    let (root, eps) = (b.unary(Unary::Sqrt, v_hat), b.number(1e-8));
    let denominator = b.binary(Binary::Add, root, eps);
    let step = b.binary(Binary::Div, m_hat, denominator);
    let decay = b.number(0.1);
    let decayed = b.binary(Binary::Mul, p, decay);
    let direction = b.binary(Binary::Add, step, decayed);
    let rate = b.graph.table(RATE).unwrap();
    let change = b.binary(Binary::Mul, direction, rate);
    (b.binary(Binary::Sub, p, change), [m, v])
}

/// A warm-up of the rate, and the corrections of the moments.
fn tables(steps: u32) -> Vec<Vec<f32>> {
    let rate = (0..steps).map(|step| 0.01 * (f64::from(step + 1) / 4.0).min(1.0) as f32).collect();
    let correction = |beta: f32| {
        let mut power = 1.0f64;
        (0..steps)
            .map(|_| {
                power *= f64::from(beta);
                (1.0 - power) as f32
            })
            .collect()
    };
    vec![rate, correction(BETAS[0]), correction(BETAS[1])]
}

/// The training objective, without gradients: the graph, the loss, and the nodes of the parameters.
fn objective(model: &Model<'_>) -> (Builder, NodeId, Vec<NodeId>) {
    let mut b = Builder::new(vec![]);
    let rows = || Shape(vec![model.batch, model.context]);
    let (tokens, targets) =
        (b.graph.input(0, rows(), DType::I32).unwrap(), b.graph.input(1, rows(), DType::I32).unwrap());
    let outputs = (model.forward)(&mut b, tokens);
    b.graph.set_line(40);
    let loss = mean_cross_entropy(&mut b, outputs, targets);
    let nodes = b.nodes.iter().map(|node| node.unwrap()).collect();
    (b, loss, nodes)
}

fn program(model: Model<'_>) -> Program {
    let (mut b, loss, nodes) = objective(&model);
    let rows = || Shape(vec![model.batch, model.context]);
    let found = gradients(&mut b.graph, loss, &nodes).unwrap();
    b.graph.set_line(50);
    let (mut states, mut wanted) = (vec![], vec![loss]);
    let mut states_out = vec![];
    for (i, (&p, &g)) in nodes.iter().zip(&found).enumerate() {
        let Param { name, shape, .. } = b.params[i].clone();
        let (new, moments) = adamw(&mut b, i as u32, p, g, &shape);
        wanted.push(new);
        states_out.extend(moments);
        for suffix in ["m", "v"] {
            states.push(StateVar { name: format!("{name}/{suffix}"), shape: shape.clone() });
        }
    }
    wanted.extend(states_out);
    let (graph, wanted) = b.graph.pruned(&wanted);
    let (params_out, states_out) = wanted[1..].split_at(nodes.len());
    let phase = Phase {
        share_ppm: 1_000_000,
        batch: model.batch,
        context: model.context,
        graph,
        loss: wanted[0],
        params_out: params_out.to_vec(),
        states_out: states_out.to_vec(),
    };
    let mut b = Builder::new(b.params);
    let tokens = b.graph.input(0, rows(), DType::I32).unwrap();
    let output = (model.forward)(&mut b, tokens);
    let (eval, roots) = b.graph.pruned(&[output]);
    Program {
        params: b.params,
        states,
        phases: vec![phase],
        eval,
        eval_batch: model.batch,
        output: roots[0],
        table_names: ["rate", "correction1", "correction2"].map(str::to_owned).to_vec(),
        tables: tables(model.steps),
        steps: vec![model.steps],
    }
}
