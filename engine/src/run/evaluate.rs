//! Scoring: the engine computes the losses, the program only the outputs.
//!
//! *Invariant:* every target of a part is scored exactly once, and the sum is of integers, so that its order is free.

use cairn_protocol::Seed;

use super::RunError;
use super::state::State;
use crate::backend::{Executor, Feed, Options, Tensor, prepare};
use crate::data::{Dataset, PADDING, Split};
use crate::graph::{DType, Graph, GraphError, NodeId, Program, RowOp, Shape};

/// One nat, in units of the metric.
pub const METRIC_ONE: i64 = 1 << 24;
/// The most that one target can cost, in units of the metric: 2¹⁰ nats.
pub const METRIC_MAX: i64 = METRIC_ONE << 10;

/// What a run scored, in nats · 2⁻²⁴ per target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// On the validation part.
    pub validation: i64,
    /// On the test part.
    pub test: i64,
}

/// A program at the end of its training, and what it is scored on.
#[derive(Clone, Copy, Debug)]
pub struct Trained<'a> {
    /// The program.
    pub program: &'a Program,
    /// The data.
    pub data: &'a Dataset,
    /// Positions of a row: those of the last phase.
    pub context: u32,
    /// The trained state.
    pub state: &'a State,
    /// Value of each table at the last step.
    pub tables: &'a [f32],
    /// The run's seed.
    pub seed: &'a Seed,
}

impl Trained<'_> {
    /// Runs a graph made of the program's evaluation on one batch.
    pub(super) fn forward(
        &self,
        executor: &mut dyn Executor,
        inputs: [&Tensor; 2],
        out: &mut [Vec<f32>],
    ) -> Result<(), RunError> {
        let State { params, optimiser, step } = self.state;
        let feed = Feed { inputs, params, states: optimiser, tables: self.tables, seed: self.seed, step: *step };
        Ok(executor.run(&feed, out)?)
    }
}

/// One target's loss as an integer: ⌊loss · 2²⁴⌋, within 0 and [`METRIC_MAX`].
pub fn fixed_point(loss: f32) -> i64 {
    // A float of 24 bits times a power of two is exact in f64.
    let units = (f64::from(loss) * METRIC_ONE as f64).floor();
    (units as i64).clamp(0, METRIC_MAX)
}

/// The evaluation graph with its last node: the loss of each target, [rows, positions]; 0 where the target is -1.
///
/// # Errors
/// The outputs are not [.., classes].
pub fn scored(eval: &Graph, output: NodeId) -> Result<(Graph, NodeId), GraphError> {
    let mut graph = eval.clone();
    let lead = match graph.shape(output)?.0.split_last() {
        Some((_, lead)) => Shape(lead.to_vec()),
        None => Shape::default(),
    };
    let targets = graph.input(1, lead, DType::I32)?;
    let losses = graph.row(RowOp::CrossEntropy, &[output, targets])?;
    Ok((graph, losses))
}

/// Scores a state on both parts.
///
/// # Errors
/// The outputs do not fit the data, or the backend cannot run the graph.
pub fn evaluate(trained: &Trained<'_>, options: &Options) -> Result<Score, RunError> {
    let Trained { program, data, context, .. } = *trained;
    let (graph, losses) = scored(&program.eval, program.output)?;
    let shape = graph.shape(program.output)?;
    let wanted = Shape(vec![program.eval_batch, context, data.spec().classes]);
    if *shape != wanted {
        return Err(RunError::Program(format!("the outputs are {shape}; {wanted} are scored")));
    }
    let mut executor = prepare(options, &graph, &[losses])?;
    let mut score = |split| {
        let mut sum = Sum::default();
        let mut out = [vec![0.0; program.eval_batch as usize * context as usize]];
        for [input, target] in data.windows(split, context, program.eval_batch)? {
            trained.forward(executor.as_mut(), [&input, &target], &mut out)?;
            if let ([losses], Tensor::I32(targets)) = (&out, &target) {
                sum.add(losses, targets);
            }
        }
        Ok::<i64, RunError>(sum.mean())
    };
    Ok(Score { validation: score(Split::Validation)?, test: score(Split::Test)? })
}

/// Losses of scored targets.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    units: i64,
    count: i64,
}

impl Sum {
    fn add(&mut self, losses: &[f32], targets: &[i32]) {
        for (&loss, _) in losses.iter().zip(targets).filter(|(_, target)| **target != PADDING) {
            // 2⁶³ units are more than 2²⁹ targets at the most that each can cost: more than any data set has.
            self.units += fixed_point(loss);
            self.count += 1;
        }
    }

    fn mean(&self) -> i64 {
        self.units.div_euclid(self.count.max(1))
    }
}
