//! Whole training steps: what single operations do not show, such as what is fused and what shares memory.

use super::{Choice, Difference, End, SEED, STEPS, cpu, gpu, unsound};
use crate::backend::{BackendError, Batch, Executor, Options, Tensor, prepare};
use crate::bench::{Activation, Gpt, Mlp, Model, Norm, Positions};
use crate::graph::{Graph, GraphError, NodeId, Program};
use crate::run::State;

/// A program's first steps.
pub(super) struct Training {
    pub(super) name: &'static str,
    pub(super) micro_batch: Option<u32>,
    /// Loss, parameters, states.
    pub(super) wanted: Vec<NodeId>,
    program: Program,
    batch: [Tensor; 2],
}

/// The programs.
pub(super) fn all() -> Result<Vec<Training>, GraphError> {
    let gpt = |positions, norm, activation, tied| {
        Model::Gpt(Gpt {
            vocab: 65,
            batch: 16,
            context: 32,
            width: 64,
            heads: 4,
            depth: 2,
            positions,
            norm,
            activation,
            tied,
        })
    };
    let modern = gpt(Positions::Rotary, Norm::Rms, Activation::ReluSquared, true);
    let classic = gpt(Positions::Learned, Norm::Layer, Activation::Gelu, false);
    let mlp = Model::Mlp(Mlp { batch: 128, features: 30, hidden: 96, depth: 2, classes: 10 });
    let models = [
        ("steps of a transformer", modern, None),
        ("steps of a transformer, by parts of the batch", modern, Some(8)),
        ("steps of a transformer with biases", classic, None),
        ("steps of a classifier", mlp, None),
    ];
    models.into_iter().map(|(name, model, micro_batch)| Training::new(name, model, micro_batch)).collect()
}

impl Training {
    fn new(name: &'static str, model: Model, micro_batch: Option<u32>) -> Result<Self, GraphError> {
        let program = model.program()?;
        let phase = &program.phases[0];
        let wanted = [&[phase.loss][..], &phase.params_out, &phase.states_out].concat();
        Ok(Self { name, micro_batch, wanted, batch: model.batch(), program })
    }

    pub(super) fn graph(&self) -> &Graph {
        &self.program.phases[0].graph
    }

    fn prepare(&self, options: &Options) -> Result<Box<dyn Executor>, BackendError> {
        prepare(&Options { micro_batch: self.micro_batch, ..*options }, self.graph(), &self.wanted)
    }

    fn tables(&self, step: u64) -> Vec<f32> {
        let value = |table: &Vec<f32>| table.get(step as usize).copied().unwrap_or_default();
        self.program.tables.iter().map(value).collect()
    }

    fn batch<'a>(&'a self, step: u64, tables: &'a [f32]) -> Batch<'a> {
        Batch { inputs: [&self.batch[0], &self.batch[1]], tables, seed: &SEED, step }
    }

    /// Compares loss and state after every step, and once more where the device keeps the state: the number of numbers
    /// that were compared.
    pub(super) fn compare(&self, choice: Choice) -> Result<u64, End> {
        let (mut device, mut host) = (self.prepare(&gpu(choice))?, self.prepare(&cpu())?);
        let start = State::new(&self.program, &SEED);
        let (mut found, mut expected) = (start.clone(), start.clone());
        let (mut compared, mut losses) = (0, vec![]);
        for step in 0..STEPS {
            let tables = self.tables(step);
            let batch = self.batch(step, &tables);
            let loss = host.step(&batch, &mut expected.params, &mut expected.optimiser)?;
            let other = device.step(&batch, &mut found.params, &mut found.optimiser)?;
            compared += self.agree(step, (loss, &expected), (other, &found))?;
            losses.push(loss);
        }
        let Some(resident) = device.resident() else { return Ok(compared) };
        let tables: Vec<Vec<f32>> = (0..STEPS).map(|step| self.tables(step)).collect();
        let batches: Vec<Batch<'_>> = (0..).zip(&tables).map(|(step, tables)| self.batch(step, tables)).collect();
        resident.load(&start.params, &start.optimiser)?;
        let burst = resident.burst().max(1);
        let mut last = 0.0;
        for batches in batches.chunks(burst) {
            resident.start(batches)?;
            last = resident.finish()?.last().map_or(last, |outcome| outcome.loss);
        }
        resident.snapshot()?;
        resident.fetch(&mut found.params, &mut found.optimiser)?;
        let loss = losses.last().copied().unwrap_or_default();
        Ok(compared + self.agree(STEPS - 1, (loss, &expected), (last, &found))?)
    }

    fn agree(&self, step: u64, expected: (f32, &State), found: (f32, &State)) -> Result<u64, End> {
        let params = self.program.params.iter().map(|param| &param.name);
        let names = params.chain(self.program.states.iter().map(|state| &state.name));
        let tensors = |state: &'_ State| state.params.iter().chain(&state.optimiser).cloned().collect::<Vec<_>>();
        let (own, others) = (tensors(expected.1), tensors(found.1));
        let what = |tensor: &str| format!("{}, {tensor} after step {}", self.name, step + 1);
        let mut compared = 1;
        let losses = Difference::between(&what("the loss"), None, &[expected.0], &[found.0]);
        // A loss is read by nobody: where a state differs as well, that says more.
        let mut differences = names.zip(own.iter().zip(&others)).map(|(name, (own, other))| {
            compared += own.len() as u64;
            Difference::between(&what(name), None, own, other)
        });
        match differences.find_map(|difference| difference).or(losses) {
            Some(difference) => Err(End::Differs(Box::new(difference))),
            None => Ok(compared),
        }
    }
}

/// For the module's `?`.
impl From<GraphError> for End {
    fn from(error: GraphError) -> Self {
        Self::Broken(unsound(error))
    }
}
