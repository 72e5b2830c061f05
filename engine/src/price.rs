//! What a graph costs: metered operations and peak memory, properties of the graph and of the arithmetic's version
//! alone. `docs/spec/graph.md` has the table.
//!
//! The prices follow real time roughly; their purpose is that everybody counts alike, before anything runs. Start
//! at [`node`].
//!
//! *Invariant:* integers only, saturating: a hostile graph is dear, never cheap by overflow.

use std::collections::BTreeMap;

use crate::graph::{Attention, AttentionInput, Binary, Graph, Node, NodeId, Op, Program, Random, RowOp, Unary};

/// Least price of executing a node: what starting it costs.
pub const NODE_MIN: u64 = 4096;
/// An element of an elementwise result, and an element moved.
const ELEMENT: u64 = 16;
/// An element of a result that takes a polynomial or Newton steps.
const FUNCTION: u64 = 32;
/// An element that a reduction reads.
const REDUCED: u64 = 8;
/// Per element that an index chooses: memory is read or written where no one could foresee.
const CHOSEN: u64 = 48;
/// Per normally distributed element: of two, a logarithm, a root, a sine and a cosine.
const NORMAL: u64 = 128;
/// Fewest steps of a training: one for each segment of its trace.
pub const STEPS_MIN: u64 = cairn_protocol::limits::SEGMENTS as u64;
/// Most steps of a training.
pub const STEPS_MAX: u64 = 1 << 20;

/// Metered operations of one execution of a node; 0 for an id that is not of this graph.
pub fn node(graph: &Graph, id: NodeId) -> u64 {
    let Some(node) = graph.nodes().get(id as usize) else {
        return 0;
    };
    if is_free(node) { 0 } else { work(graph, node).max(NODE_MIN) }
}

/// Nodes that nothing executes for: what is there before the step, single constants, and other names of a value.
fn is_free(node: &Node) -> bool {
    match node.op {
        Op::Input(_) | Op::Param(_) | Op::State(_) | Op::Table(_) | Op::Reshape | Op::StopGradient => true,
        Op::Full(_) | Op::FullInt(_) | Op::Arange => node.shape.elements() == 1,
        _ => false,
    }
}

fn work(graph: &Graph, node: &Node) -> u64 {
    let out = node.shape.elements();
    let axes = |k: usize| {
        let input = node.inputs.get(k).and_then(|&id| graph.nodes().get(id as usize));
        input.map_or(&[][..], |input| &input.shape.0[..])
    };
    let elements = |k: usize| axes(k).iter().fold(1u64, |product, &n| product.saturating_mul(n.into()));
    let moved = || elements(0).saturating_add(elements(1)).saturating_add(out).saturating_mul(ELEMENT);
    match &node.op {
        Op::Input(_) | Op::Param(_) | Op::State(_) | Op::Table(_) | Op::Reshape | Op::StopGradient => 0,
        Op::Unary(op) => out.saturating_mul(unary(*op)),
        Op::Binary(Binary::Div) | Op::Rope { .. } => out.saturating_mul(FUNCTION),
        Op::Sum(_) | Op::Max(_) => elements(0).saturating_mul(REDUCED),
        Op::ArgMax => elements(0).saturating_mul(ELEMENT),
        Op::MatMul { ta, .. } => {
            let k = match *axes(0) {
                [.., k, _] if *ta => k,
                [.., k] => k,
                [] => 1,
            };
            out.saturating_mul(2 * u64::from(k))
        }
        // Each output pixel with each kernel element of its group: as many products in each of the three contractions.
        // Operands and result are moved besides, which is most of the work where kernels are small.
        Op::Conv2d(_) => out.saturating_mul(2).saturating_mul(taps(axes(1))).saturating_add(moved()),
        Op::Conv2dInputGrad(_) => elements(1).saturating_mul(2).saturating_mul(taps(axes(0))).saturating_add(moved()),
        Op::Conv2dWeightGrad(_) => {
            elements(1).saturating_mul(2).saturating_mul(taps(&node.shape.0)).saturating_add(moved())
        }
        Op::CumSum { .. } => out.saturating_mul(REDUCED + ELEMENT),
        Op::TopK(k) => elements(0).saturating_mul(FUNCTION * u64::from(u32::BITS - k.leading_zeros())),
        Op::Attention(options) => attention(axes(0), axes(1), *options, 2),
        // The scores again and the product with `dy`; for Q and K also the scores' gradient.
        Op::AttentionGrad(options, AttentionInput::V) => attention(axes(0), axes(1), *options, 2),
        Op::AttentionGrad(options, AttentionInput::Q | AttentionInput::K) => {
            attention(axes(0), axes(1), *options, 3).saturating_add(elements(0).saturating_mul(REDUCED))
        }
        Op::Row(op) => elements(0).saturating_mul(row(*op)),
        // Every element of the result is zeroed, every element of `dy` is added.
        Op::EmbeddingGrad(_) => out.saturating_add(elements(1)).saturating_mul(ELEMENT),
        Op::ScatterAdd { .. } => out.saturating_add(elements(1)).saturating_mul(CHOSEN),
        Op::Gather(_) => out.saturating_mul(CHOSEN),
        Op::Take => out.saturating_mul(CHOSEN + FUNCTION),
        Op::Random(Random::Uniform, _) => out.saturating_mul(FUNCTION),
        Op::Random(Random::Normal, _) => out.saturating_mul(NORMAL),
        Op::Full(_)
        | Op::FullInt(_)
        | Op::Arange
        | Op::Binary(_)
        | Op::Where
        | Op::Embedding
        | Op::TakeGrad(_)
        | Op::Permute(_)
        | Op::BroadcastTo
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Concat(_) => out.saturating_mul(ELEMENT),
    }
}

fn unary(op: Unary) -> u64 {
    match op {
        Unary::Exp | Unary::Log | Unary::Sqrt | Unary::Rsqrt | Unary::Recip | Unary::Erf | Unary::Sin | Unary::Cos => {
            FUNCTION
        }
        Unary::Tanh | Unary::Sigmoid => FUNCTION + ELEMENT,
        Unary::Neg
        | Unary::Relu
        | Unary::Abs
        | Unary::Sign
        | Unary::Floor
        | Unary::Round
        | Unary::RoundBf16
        | Unary::ToFloat
        | Unary::ToInt => ELEMENT,
    }
}

/// Elements of a kernel [O, C, KH, KW] that one output pixel meets.
fn taps(kernel: &[u32]) -> u64 {
    kernel.iter().skip(1).fold(1, |product: u64, &n| product.saturating_mul(n.into()))
}

/// Price of one element of a row: its reductions, an exponential if there is one, and writing a full result.
fn row(op: RowOp) -> u64 {
    let (reductions, exponential, written) = match op {
        RowOp::Softmax | RowOp::LogSoftmax | RowOp::CrossEntropyGrad => (2, FUNCTION, ELEMENT),
        RowOp::CrossEntropy => (2, FUNCTION, 0),
        RowOp::SoftmaxGrad | RowOp::RmsNorm(_) => (1, 0, ELEMENT),
        RowOp::LogSoftmaxGrad => (1, FUNCTION, ELEMENT),
        RowOp::RmsNormGrad(_) | RowOp::LayerNorm(_) => (2, 0, ELEMENT),
        RowOp::LayerNormGrad(_) => (4, 0, ELEMENT),
    };
    reductions * REDUCED + exponential + written
}

/// Attention by its unmasked pairs: `products` contractions over channels, and the functions of a score.
fn attention(q: &[u32], k: &[u32], options: Attention, products: u64) -> u64 {
    let (&[batch, heads, t, channels], &[_, _, s, _]) = (q, k) else {
        return 0;
    };
    let (t, s) = (u64::from(t), u64::from(s));
    let pairs = if options.causal || options.window > 0 {
        // Query i sees min(i + 1, window) keys.
        let window = if options.window > 0 { u64::from(options.window).min(t) } else { t };
        window * (window + 1) / 2 + (t - window) * window
    } else {
        t * s
    };
    let functions = if options.soft_cap == 0 { FUNCTION } else { 2 * FUNCTION };
    pairs
        .saturating_mul(u64::from(batch) * u64::from(heads))
        .saturating_mul(products * 2 * u64::from(channels) + functions)
}

/// Metered operations of one execution of a whole graph.
pub fn graph(graph: &Graph) -> u64 {
    (0..graph.len() as NodeId).fold(0, |total: u64, id| total.saturating_add(node(graph, id)))
}

/// The `n` source lines whose nodes cost most, dearest first, ties by line; each with its metered operations.
pub fn dearest_lines(graph: &Graph, n: usize) -> Vec<(u32, u64)> {
    let mut lines = BTreeMap::<u32, u64>::new();
    for id in 0..graph.len() as NodeId {
        let line = graph.line_of(id);
        if line > 0 {
            let total = lines.entry(line).or_default();
            *total = total.saturating_add(node(graph, id));
        }
    }
    let mut lines: Vec<_> = lines.into_iter().collect();
    lines.sort_by_key(|&(line, price)| (std::cmp::Reverse(price), line));
    lines.truncate(n);
    lines
}

/// Metered operations of the evaluations of a run: the outputs and their cross-entropy over the validation batches
/// twice (the second pass looks for outputs that depend on later inputs) and over the test batches once.
pub fn evaluation(eval: &Graph, output: NodeId, (validation, test): (u64, u64)) -> u64 {
    let outputs = eval.nodes().get(output as usize).map_or(0, |node| node.shape.elements());
    let loss = outputs.saturating_mul(row(RowOp::CrossEntropy)).max(NODE_MIN);
    let batches = validation.saturating_mul(2).saturating_add(test);
    graph(eval).saturating_add(loss).saturating_mul(batches)
}

/// Bytes that a value takes: 4 for each element of either type.
fn bytes(node: &Node) -> u64 {
    node.shape.elements().saturating_mul(4)
}

/// Most bytes live at once in the canonical schedule of a graph: nodes run in id order, a value is freed after its last
/// use. Inputs, parameters, states and tables are there throughout; the `wanted` values stay to the end, each in a
/// place of its own. A reshape is another name of its input.
pub fn peak_bytes(graph: &Graph, wanted: &[NodeId]) -> u64 {
    Lifetimes::new(graph, wanted).peak().0
}

/// The `n` source lines whose values take most of the memory at the moment when most of it is used, largest first, ties
/// by line; each with its bytes.
pub fn largest_lines(graph: &Graph, wanted: &[NodeId], n: usize) -> Vec<(u32, u64)> {
    let lifetimes = Lifetimes::new(graph, wanted);
    let (_, at) = lifetimes.peak();
    let mut lines = BTreeMap::<u32, u64>::new();
    for (id, node) in graph.nodes().iter().enumerate() {
        let copies = lifetimes.copies.get(&id).copied().unwrap_or(0);
        let held = copies + u64::from(is_resident(node) || (lifetimes.allocates(id) && lifetimes.holds(id, at)));
        if held > 0 {
            let total = lines.entry(graph.line_of(id as NodeId)).or_default();
            *total = total.saturating_add(bytes(node).saturating_mul(held));
        }
    }
    lines.remove(&0);
    let mut lines: Vec<_> = lines.into_iter().collect();
    lines.sort_by_key(|&(line, bytes)| (std::cmp::Reverse(bytes), line));
    lines.truncate(n);
    lines
}

/// When each value of a graph comes and goes.
struct Lifetimes<'a> {
    nodes: &'a [Node],
    /// The node whose value another one names.
    owner: Vec<usize>,
    /// Last node that reads a value; `usize::MAX` where it is wanted.
    last_use: Vec<usize>,
    /// Further places of values that are there anyway or wanted more than once.
    copies: BTreeMap<usize, u64>,
}

impl<'a> Lifetimes<'a> {
    fn new(graph: &'a Graph, wanted: &[NodeId]) -> Self {
        let nodes = graph.nodes();
        let mut owner: Vec<usize> = Vec::with_capacity(nodes.len());
        let mut last_use: Vec<usize> = (0..nodes.len()).collect();
        for (id, node) in nodes.iter().enumerate() {
            for &input in &node.inputs {
                last_use[owner[input as usize]] = id;
            }
            owner.push(match node.op {
                Op::Reshape | Op::StopGradient => owner[node.inputs[0] as usize],
                _ => id,
            });
        }
        let mut copies = BTreeMap::new();
        for &id in wanted {
            let Some(&id) = owner.get(id as usize) else { continue };
            if is_resident(&nodes[id]) || last_use[id] == usize::MAX {
                *copies.entry(id).or_default() += 1;
            }
            last_use[id] = usize::MAX;
        }
        Self { nodes, owner, last_use, copies }
    }

    /// Whether a node has a value of its own that comes when it runs.
    fn allocates(&self, id: usize) -> bool {
        self.owner[id] == id && !is_resident(&self.nodes[id])
    }

    /// Whether the value of a node that allocates is there while node `at` runs.
    fn holds(&self, id: usize, at: usize) -> bool {
        id <= at && at <= self.last_use[id]
    }

    /// Most bytes at once, and the first node during which it is so many.
    fn peak(&self) -> (u64, usize) {
        let mut freed_at: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        let mut live = 0u64;
        for (id, node) in self.nodes.iter().enumerate() {
            let there = self.copies.get(&id).copied().unwrap_or(0) + u64::from(is_resident(node));
            live = live.saturating_add(bytes(node).saturating_mul(there));
            if self.allocates(id) && self.last_use[id] < self.nodes.len() {
                freed_at[self.last_use[id]].push(id);
            }
        }
        let mut peak = (live, 0);
        for (id, node) in self.nodes.iter().enumerate() {
            if self.allocates(id) {
                live = live.saturating_add(bytes(node));
            }
            if live > peak.0 {
                peak = (live, id);
            }
            for &gone in &freed_at[id] {
                live = live.saturating_sub(bytes(&self.nodes[gone]));
            }
        }
        peak
    }
}

fn is_resident(node: &Node) -> bool {
    matches!(node.op, Op::Input(_) | Op::Param(_) | Op::State(_) | Op::Table(_))
}

/// Most bytes live at once in any phase or evaluation of a program.
pub fn program_peak_bytes(program: &Program) -> u64 {
    let phases = program.phases.iter().map(|phase| {
        let wanted = [&phase.params_out[..], &phase.states_out[..], &[phase.loss]].concat();
        peak_bytes(&phase.graph, &wanted)
    });
    phases.fold(peak_bytes(&program.eval, &[program.output]), u64::max)
}

/// What a budget buys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priced {
    /// Steps of each phase.
    pub steps: Vec<u32>,
    /// Metered operations of one step of each phase.
    pub step_price: Vec<u64>,
    /// Metered operations of all evaluations.
    pub evaluation: u64,
    /// Metered operations of the whole run; at most the budget.
    pub total: u64,
}

/// The steps of each phase: its share, in parts per million, of what the evaluations leave of the budget. When that
/// is more than [`STEPS_MAX`] together, each phase is shortened in proportion.
///
/// # Errors
/// In words for the program's author: the budget buys too few steps, or a phase's share buys none.
pub fn steps(step_prices: &[u64], shares_ppm: &[u32], evaluation: u64, budget: u64) -> Result<Priced, String> {
    let phases = step_prices.len() as u64;
    if phases == 0 || shares_ppm.len() != step_prices.len() || phases > STEPS_MIN {
        return Err(format!("{phases} phases: 1 to {STEPS_MIN} are possible, each with its share"));
    }
    if shares_ppm.iter().map(|&share| u64::from(share)).sum::<u64>() != 1_000_000 {
        return Err("the shares of the phases must sum to 1".into());
    }
    let training = budget.checked_sub(evaluation).ok_or_else(|| {
        format!("the evaluations alone take {evaluation} operations, more than the budget of {budget}")
    })?;
    let mut bought = Vec::with_capacity(step_prices.len());
    for (i, (&price, &share)) in step_prices.iter().zip(shares_ppm).enumerate() {
        let count = u128::from(training) * u128::from(share) / 1_000_000 / u128::from(price.max(1));
        if count == 0 {
            return Err(format!(
                "phase {i}: a step takes {price} operations, more than its share of the {training} for training"
            ));
        }
        bought.push(count);
    }
    let (sum, phases) = (bought.iter().sum::<u128>(), u128::from(phases));
    if sum > u128::from(STEPS_MAX) {
        for count in &mut bought {
            *count = 1 + (*count - 1) * (u128::from(STEPS_MAX) - phases) / (sum - phases);
        }
    }
    if sum < u128::from(STEPS_MIN) {
        return Err(format!(
            "the budget buys {sum} steps, fewer than {STEPS_MIN}: a step takes {step_prices:?} operations, and {training} are for training"
        ));
    }
    // At most STEPS_MAX each, so nothing is lost.
    let steps: Vec<u32> = bought.iter().map(|&count| count as u32).collect();
    let total = steps.iter().zip(step_prices).map(|(&count, &price)| u64::from(count) * price).sum::<u64>();
    Ok(Priced { steps, step_price: step_prices.to_vec(), evaluation, total: total + evaluation })
}
