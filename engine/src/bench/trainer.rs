//! A training that is stepped for its time.
//!
//! *Invariant:* a step is all that a run does between two batches: forward, backward, optimiser, and the check for
//! divergence.

use std::time::Instant;

use cairn_protocol::Seed;

use super::Model;
use crate::backend::{BackendError, Batch, Executor, Kind, Options, Resident, Tensor};
use crate::cpu::Cpu;
use crate::gpu::Gpu;
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
    backend: Backend,
    state: State,
    loss: f32,
    tables: Vec<f32>,
}

/// What computes the steps.
#[derive(Debug)]
enum Backend {
    Cpu(Box<Cpu>),
    Gpu(Box<Gpu>),
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
    /// A model, ready on the cpu or the gpu backend.
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
        let state = State::new(&program, &SEED);
        let backend = match options.kind {
            Kind::Gpu(choice) => {
                let mut gpu = Gpu::new(&phase.graph, &wanted, options, choice)?;
                gpu.load(&state.params, &state.optimiser)?;
                Backend::Gpu(Box::new(gpu))
            }
            _ => Backend::Cpu(Box::new(Cpu::new(&phase.graph, &wanted, options)?)),
        };
        let tables = vec![0.0; program.tables.len()];
        Ok(Self { program, batch, backend, state, loss: 0.0, tables })
    }

    /// Does so many steps.
    ///
    /// # Errors
    /// The backend fails.
    pub fn steps(&mut self, steps: u64) -> Result<Steps, BackendError> {
        let start = Instant::now();
        let mut left = steps;
        while left > 0 {
            left -= match &self.backend {
                Backend::Cpu(_) => self.step()?,
                Backend::Gpu(gpu) => self.burst((gpu.burst() as u64).clamp(1, left))?,
            };
        }
        Ok(Steps { seconds: start.elapsed().as_secs_f64(), loss: self.loss })
    }

    /// Value of each table at a step; the last one's from its end on.
    fn tables_at(&self, step: u64) -> Vec<f32> {
        let last = |table: &[f32]| table.len().saturating_sub(1).min(step as usize);
        self.program.tables.iter().map(|table| table.get(last(table)).copied().unwrap_or_default()).collect()
    }

    fn step(&mut self) -> Result<u64, BackendError> {
        self.tables = self.tables_at(self.state.step);
        let inputs = [&self.batch[0], &self.batch[1]];
        let batch = Batch { inputs, tables: &self.tables, seed: &SEED, step: self.state.step };
        if let Backend::Cpu(cpu) = &mut self.backend {
            self.loss = cpu.step(&batch, &mut self.state.params, &mut self.state.optimiser)?;
        }
        self.state.step += 1;
        match self.state.out_of_range(&self.program, self.loss) {
            Some(tensor) => Err(self.diverged(&tensor)),
            None => Ok(1),
        }
    }

    /// Steps whose state stays on the device.
    fn burst(&mut self, steps: u64) -> Result<u64, BackendError> {
        let first = self.state.step;
        let tables: Vec<Vec<f32>> = (first..first + steps).map(|step| self.tables_at(step)).collect();
        let inputs = [&self.batch[0], &self.batch[1]];
        let batch = |(step, tables)| Batch { inputs, tables, seed: &SEED, step };
        let batches: Vec<Batch<'_>> = (first..).zip(tables.iter().map(Vec::as_slice)).map(batch).collect();
        let Backend::Gpu(gpu) = &mut self.backend else { return Ok(0) };
        gpu.start(&batches)?;
        for outcome in gpu.finish()? {
            self.state.step += 1;
            self.loss = outcome.loss;
            if let Some(tensor) = outcome.out_of_range {
                return Err(self.diverged(&format!("tensor {tensor}")));
            }
        }
        Ok(steps)
    }

    fn diverged(&self, tensor: &str) -> BackendError {
        BackendError::Feed(format!("{tensor} diverged at step {}", self.state.step))
    }

    /// The gpu backend, where it is the one that computes.
    pub fn gpu(&self) -> Option<&Gpu> {
        match &self.backend {
            Backend::Gpu(gpu) => Some(gpu),
            Backend::Cpu(_) => None,
        }
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The state, which starts at the same numbers in every training of a program. On the gpu backend it stays at the start:
    /// the device has it.
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
        let backend = match &self.backend {
            Backend::Cpu(cpu) => cpu.bytes() as u64,
            Backend::Gpu(gpu) => gpu.bytes(),
        };
        backend + (size_of::<f32>() * (state + batch)) as u64
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
