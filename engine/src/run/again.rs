//! One segment of a run, computed once more: from the state before it to the hash of the state after it.
//!
//! *Invariant:* on an exact backend it gives the run's own leaf.

use cairn_protocol::{Hash32, Seed};

use super::segments::{Trace, segment_end};
use super::state::State;
use super::{Run, RunError, check};
use crate::backend::{Options, prepare};
use crate::data::{Dataset, STREAM};
use crate::graph::{NodeId, Program};
use crate::random::Stream;

/// Computes segment `segment` of `segments` of a run from the state before it: the hash of the state after it.
///
/// # Errors
/// The state is not one before that segment, the run diverges, or the program does not fit the data or the backend.
pub fn recompute(
    program: &Program,
    data: &Dataset,
    seed: &Seed,
    segments: u16,
    segment: u16,
    before: State,
    options: &Options,
) -> Result<Hash32, RunError> {
    let steps = check(program, segments)?;
    let start = if segment == 0 { 0 } else { segment_end(segment - 1, segments, steps) };
    if segment >= segments || before.step != start {
        return Err(RunError::Program(format!("the state after step {} is not before segment {segment}", before.step)));
    }
    let end = segment_end(segment, segments, steps);
    let mut run = Run {
        program,
        data,
        seed,
        stream: Stream::new(seed, STREAM, ""),
        steps,
        state: before,
        trace: Trace::new(steps, segments),
        tables: vec![0.0; program.tables.len()],
    };
    let mut last = 0;
    for (phase, &count) in program.phases.iter().zip(&program.steps) {
        last += u64::from(count);
        if run.state.step >= end.min(last) {
            continue;
        }
        let wanted: Vec<NodeId> =
            [phase.loss].iter().chain(&phase.params_out).chain(&phase.states_out).copied().collect();
        let mut executor = prepare(options, &phase.graph, &wanted)?;
        while run.state.step < end.min(last) {
            run.step(phase, executor.as_mut())?;
        }
    }
    Ok(run.state.hash(program))
}
