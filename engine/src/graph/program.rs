//! What `train.py` evaluates to.

use super::{Graph, Init, NodeId, Shape};

/// A trained tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Unique; keys the initialisation.
    pub name: String,
    /// Shape.
    pub shape: Shape,
    /// Starting values.
    pub init: Init,
    /// For patterns such as `tag:embedding`; empty when none.
    pub tag: String,
}

/// An optimiser's tensor: starts at zero, belongs to a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct StateVar {
    /// `PARAM/NAME`, unique.
    pub name: String,
    /// Shape.
    pub shape: Shape,
}

/// A stretch of training with one batch size and context.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Share of the training budget, in parts per million; the shares of a program sum to 1,000,000.
    pub share_ppm: u32,
    /// Rows in a batch.
    pub batch: u32,
    /// Positions in a row (1 where the track has no positions).
    pub context: u32,
    /// One whole training step: forward, backward, optimiser.
    pub graph: Graph,
    /// Scalar training objective.
    pub loss: NodeId,
    /// New value of each parameter, in parameter order.
    pub params_out: Vec<NodeId>,
    /// New value of each state, in state order.
    pub states_out: Vec<NodeId>,
}

impl Phase {
    /// What a step gives: the loss, then the new value of each parameter and of each state.
    pub fn wanted(&self) -> Vec<NodeId> {
        [&[self.loss][..], &self.params_out, &self.states_out].concat()
    }
}

/// A whole experiment, ready to be priced and run. Its hash is its identity.
#[derive(Clone, Debug)]
pub struct Program {
    /// Parameters, in order of first use.
    pub params: Vec<Param>,
    /// Optimiser state, in order of creation.
    pub states: Vec<StateVar>,
    /// At least one; run in order.
    pub phases: Vec<Phase>,
    /// Evaluation: `Input(0)` [eval_batch, ..] to the outputs [eval_batch, .., V].
    pub eval: Graph,
    /// Rows of one evaluation batch.
    pub eval_batch: u32,
    /// Output node of `eval`.
    pub output: NodeId,
    /// Names of the schedules, in `Op::Table` order.
    pub table_names: Vec<String>,
    /// `tables[i][step]`, one value for every step of the run.
    pub tables: Vec<Vec<f32>>,
    /// Steps of each phase: what the budget buys.
    pub steps: Vec<u32>,
}
