//! A whole training: from a program, a data set and a seed to a metric and a trace of state hashes.
//!
//! Start at [`train`]. What is hashed and scored, and in which order, is specified in `docs/spec/run.md`.
//!
//! *Invariant:* result and trace depend on program, data and seed alone: not on the backend, nor on who watches.

mod audit;
mod evaluate;
mod resident;
mod segments;
mod state;

use cairn_protocol::{Hash32, Seed};
use thiserror::Error;

use crate::backend::{BackendError, Batch, Executor, Options, prepare};
use crate::data::{DataError, Dataset, STREAM};
use crate::graph::{GraphError, Phase, Program};
use crate::price::STEPS_MAX;
use crate::random::Stream;

pub use audit::{Leak, audit};
pub use evaluate::{METRIC_MAX, METRIC_ONE, Score, Trained, evaluate, fixed_point, scored};
pub use segments::{segment_end, trace_root};
pub use state::State;

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// It goes on.
    Continue,
    /// It ends now, without a result.
    Stop,
}

/// Follows a run. Nothing that it returns changes a bit of the result.
pub trait Watch {
    /// After each step: `step` of `steps` are done, `loss` is the last one's training loss.
    fn step(&mut self, step: u64, steps: u64, loss: f32) -> Control;

    /// Before a segment of `steps_in_segment` steps: after how many of them (1 ..= all) the state is to be hashed
    /// too. None for not at all.
    fn inside(&mut self, segment: u16, steps_in_segment: u64) -> Option<u64> {
        let _ = (segment, steps_in_segment);
        None
    }

    /// After a segment: the hash of its last state, and the one that [`Watch::inside`] asked for.
    fn segment(&mut self, segment: u16, leaf: Hash32, inside: Option<Hash32>) -> Control;

    /// Before a segment on a backend that keeps the state: whether the CPU is to compute it too, and every bit to be
    /// compared.
    fn check(&mut self, segment: u16) -> bool {
        let _ = segment;
        false
    }

    /// After a segment that [`Watch::check`] asked for: the CPU has the same bits.
    fn checked(&mut self, segment: u16) {
        let _ = segment;
    }

    /// The key with which the trained model is to be audited. None for no audit.
    fn audit(&mut self) -> Option<Hash32> {
        None
    }
}

/// What a run reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Validation loss, in nats · 2⁻²⁴.
    pub metric: i64,
    /// Test loss, in nats · 2⁻²⁴.
    pub test: i64,
    /// Hash of the state at the end of each segment.
    pub leaves: Vec<Hash32>,
    /// Hash over the leaves.
    pub root: Hash32,
    /// What the audit found, where [`Watch::audit`] asked for one.
    pub leak: Option<Leak>,
    /// The trained parameters, in the program's order.
    pub params: Vec<Vec<f32>>,
}

/// Why a run has no result.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RunError {
    /// A number reached the end of the number system.
    #[error("after step {step}, {tensor} is out of range: the training diverged")]
    Diverged {
        /// Steps done.
        step: u64,
        /// `loss`, or the name of the parameter or state.
        tensor: String,
    },
    /// The backend is not exact: the CPU came to another state.
    #[error("segment {segment} has other bits on the CPU: the device is not exact")]
    Inexact {
        /// The segment that was computed twice.
        segment: u16,
    },
    /// [`Watch`] ended it.
    #[error("the run was stopped")]
    Stopped,
    /// The program's parts do not fit each other.
    #[error("the program is not sound: {0}")]
    Program(String),
    /// The program does not fit the data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The outputs cannot be scored.
    #[error("the outputs cannot be scored: {0}")]
    Graph(#[from] GraphError),
    /// The backend cannot run it.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Trains `program` on `data` from `seed`, hashes its state at the end of each of `segments` segments, and scores what
/// came out on the validation and test parts.
///
/// # Errors
/// It diverged, was stopped, or does not fit the data or the backend.
pub fn train(
    program: &Program,
    data: &Dataset,
    seed: &Seed,
    segments: u16,
    options: &Options,
    watch: &mut dyn Watch,
) -> Result<Finished, RunError> {
    let steps = check(program, segments)?;
    let mut run = Run {
        program,
        data,
        seed,
        stream: Stream::new(seed, STREAM, ""),
        steps,
        state: State::new(program, seed),
        trace: segments::Trace::new(steps, segments),
        tables: vec![0.0; program.tables.len()],
        checked: None,
    };
    for (phase, &count) in program.phases.iter().zip(&program.steps) {
        run.phase(phase, count, options, watch)?;
    }
    let Run { state, trace, tables, .. } = run;
    let context = program.phases.last().map_or(1, |phase| phase.context);
    let trained = Trained { program, data, context, state: &state, tables: &tables, seed };
    let scores = evaluate(&trained, options)?;
    let leak = match watch.audit() {
        Some(key) => audit(&trained, options, &key)?,
        None => None,
    };
    let leaves = trace.leaves;
    Ok(Finished {
        metric: scores.validation,
        test: scores.test,
        root: trace_root(&leaves),
        leaves,
        leak,
        params: state.params,
    })
}

/// Steps of the whole run, if the parts of the program fit each other.
fn check(program: &Program, segments: u16) -> Result<u64, RunError> {
    let unsound = |what: String| Err(RunError::Program(what));
    let steps: u64 = program.steps.iter().map(|&steps| u64::from(steps)).sum();
    if segments == 0 || steps < u64::from(segments) || steps > STEPS_MAX {
        return unsound(format!("{steps} steps; there must be {segments} (one a segment) to {STEPS_MAX}"));
    }
    if program.phases.is_empty() || program.phases.len() != program.steps.len() {
        return unsound(format!("{} phases, steps for {}", program.phases.len(), program.steps.len()));
    }
    for (table, name) in program.tables.iter().zip(&program.table_names) {
        if (table.len() as u64) < steps {
            return unsound(format!("schedule `{name}` has {} values for {steps} steps", table.len()));
        }
    }
    for phase in &program.phases {
        if phase.params_out.len() != program.params.len() || phase.states_out.len() != program.states.len() {
            return unsound("a step does not give every parameter and state".into());
        }
        let params = program.params.iter().map(|param| &param.shape).zip(&phase.params_out);
        let states = program.states.iter().map(|state| &state.shape).zip(&phase.states_out);
        for (shape, &out) in params.chain(states) {
            if phase.graph.shape(out)? != shape {
                return unsound(format!("a step changes the shape {shape} of a tensor"));
            }
        }
        if phase.graph.shape(phase.loss)?.elements() != 1 {
            return unsound("the loss is not a scalar".into());
        }
    }
    Ok(steps)
}

struct Run<'a> {
    program: &'a Program,
    data: &'a Dataset,
    seed: &'a Seed,
    stream: Stream,
    /// Steps of the whole run.
    steps: u64,
    state: State,
    trace: segments::Trace,
    /// Value of each table at the last step.
    tables: Vec<f32>,
    /// The state before a segment that is to be computed twice.
    checked: Option<State>,
}

impl Run<'_> {
    fn phase(&mut self, phase: &Phase, steps: u32, options: &Options, watch: &mut dyn Watch) -> Result<(), RunError> {
        let mut executor = prepare(options, &phase.graph, &phase.wanted())?;
        if let Some(resident) = executor.resident() {
            self.resident_phase(phase, u64::from(steps), resident, options, watch)?;
            if let Some(last) = self.state.step.checked_sub(1) {
                self.tables = self.tables_at(last);
            }
            return Ok(());
        }
        for _ in 0..steps {
            let loss = self.step(phase, executor.as_mut())?;
            if watch.step(self.state.step, self.steps, loss) == Control::Stop {
                return Err(RunError::Stopped);
            }
            if self.trace.after(self.program, &self.state, watch) == Control::Stop {
                return Err(RunError::Stopped);
            }
        }
        Ok(())
    }

    /// Value of each table at a step.
    fn tables_at(&self, step: u64) -> Vec<f32> {
        self.program.tables.iter().map(|table| table.get(step as usize).copied().unwrap_or_default()).collect()
    }

    /// One step: its loss.
    fn step(&mut self, phase: &Phase, executor: &mut dyn Executor) -> Result<f32, RunError> {
        let step = self.state.step;
        let [input, target] = self.data.batch(&self.stream, step as u32, phase.batch, phase.context)?;
        self.tables = self.tables_at(step);
        let batch = Batch { inputs: [&input, &target], tables: &self.tables, seed: self.seed, step };
        let State { params, optimiser, .. } = &mut self.state;
        let loss = executor.step(&batch, params, optimiser)?;
        self.state.step += 1;
        match self.state.out_of_range(self.program, loss) {
            Some(tensor) => Err(RunError::Diverged { step: self.state.step, tensor }),
            None => Ok(loss),
        }
    }
}
