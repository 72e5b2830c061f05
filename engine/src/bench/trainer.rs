//! A training that is stepped for its time.
//!
//! *Invariant:* a step is all that a run does between two batches: forward, backward, optimiser, and the check for
//! divergence.

use std::time::Instant;

use cairn_protocol::Seed;

use super::Model;
use crate::backend::{BackendError, Batch, Executor, Options, Tensor};
use crate::cpu::Cpu;
use crate::graph::{NodeId, Program};
use crate::price;
use crate::run::State;

/// Seed of every measurement.
const SEED: Seed = Seed([5; 32]);

/// A program in training on one batch.
#[derive(Debug)]
pub struct Trainer {
    program: Program,
    batch: [Tensor; 2],
    cpu: Cpu,
    state: State,
    loss: f32,
    tables: Vec<f32>,
}

/// Steps that were done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steps {
    /// Seconds of real time.
    pub seconds: f64,
    /// Loss of the last step.
    pub loss: f32,
}

impl Trainer {
    /// A model, ready on the cpu backend.
    ///
    /// # Errors
    /// The backend cannot run it.
    pub fn new(model: &Model, options: &Options) -> Result<Self, BackendError> {
        let program = model.program().map_err(|error| BackendError::Feed(error.to_string()))?;
        Self::of(program, model.batch(), options)
    }

    /// The first phase of a program, on a batch that fits it.
    ///
    /// # Errors
    /// The backend cannot run it.
    pub fn of(program: Program, batch: [Tensor; 2], options: &Options) -> Result<Self, BackendError> {
        let Some(phase) = program.phases.first() else {
            return Err(BackendError::Feed("a program without phases".into()));
        };
        let wanted = wanted(&program);
        let cpu = Cpu::new(&phase.graph, &wanted, options)?;
        let state = State::new(&program, &SEED);
        let tables = vec![0.0; program.tables.len()];
        Ok(Self { program, batch, cpu, state, loss: 0.0, tables })
    }

    /// Does so many steps.
    ///
    /// # Errors
    /// The backend fails.
    pub fn steps(&mut self, steps: u64) -> Result<Steps, BackendError> {
        let start = Instant::now();
        for _ in 0..steps {
            self.step()?;
        }
        Ok(Steps { seconds: start.elapsed().as_secs_f64(), loss: self.loss })
    }

    fn step(&mut self) -> Result<(), BackendError> {
        for (value, table) in self.tables.iter_mut().zip(&self.program.tables) {
            let last = table.len().saturating_sub(1);
            *value = table.get(last.min(self.state.step as usize)).copied().unwrap_or_default();
        }
        let inputs = [&self.batch[0], &self.batch[1]];
        let batch = Batch { inputs, tables: &self.tables, seed: &SEED, step: self.state.step };
        self.loss = self.cpu.step(&batch, &mut self.state.params, &mut self.state.optimiser)?;
        self.state.step += 1;
        if let Some(tensor) = self.state.out_of_range(&self.program, self.loss) {
            return Err(BackendError::Feed(format!("{tensor} diverged at step {}", self.state.step)));
        }
        Ok(())
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The state, which starts at the same numbers in every training of a program.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Elements of all parameters.
    pub fn parameters(&self) -> u64 {
        self.program.params.iter().map(|param| param.shape.elements()).sum()
    }

    /// Peak memory of a step by the canonical schedule, in bytes: what a track's limit counts.
    pub fn priced_bytes(&self) -> u64 {
        self.program.phases.first().map_or(0, |phase| price::peak_bytes(&phase.graph, &wanted(&self.program)))
    }

    /// Bytes that are planned for: the backend's, the state's and the batch's.
    pub fn planned_bytes(&self) -> u64 {
        let tensors = self.state.params.iter().chain(&self.state.optimiser);
        let state: usize = tensors.map(Vec::len).sum();
        let len = |tensor: &Tensor| match tensor {
            Tensor::F32(values) => values.len(),
            Tensor::I32(values) => values.len(),
        };
        let batch: usize = self.batch.iter().map(len).sum();
        (self.cpu.bytes() + size_of::<f32>() * (state + batch)) as u64
    }
}

/// What a step gives: the loss, then parameters and states.
fn wanted(program: &Program) -> Vec<NodeId> {
    let outputs = crate::graph::Phase::wanted;
    program.phases.first().map(outputs).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bench::options;

    #[test]
    fn every_model_trains() {
        for name in ["gpt-tiny", "names", "tabular-10k"] {
            let mut trainer = Trainer::new(&Model::named(name).unwrap(), &options(1)).unwrap();
            let first = trainer.steps(1).unwrap().loss;
            let last = trainer.steps(40).unwrap().loss;
            assert!(last < first && last > 0.0, "{name}: {first} to {last}");
            assert!(trainer.planned_bytes() > 12 * trainer.parameters(), "{name}");
        }
    }

    #[test]
    fn every_model_can_be_built() {
        for name in Model::names() {
            let program = Model::named(name).unwrap().program().unwrap();
            assert_eq!(program.states.len(), 2 * program.params.len(), "{name}");
        }
        assert_eq!(Model::named("no such"), None);
    }
}
