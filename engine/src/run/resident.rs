//! A phase on a backend that keeps the state: steps are set off in bursts, and the host reads a state only where its hash
//! is wanted, while the next burst is computed.
//!
//! *Invariant:* whoever watches sees the same as on any other backend, only later.

use std::collections::VecDeque;

use super::{Control, Run, RunError, State, Watch};
use crate::backend::{Batch, Kind, Options, Outcome, Resident, Tensor, prepare};
use crate::graph::Phase;

/// Bursts that are under way at once: one is computed while the results of the other are looked at.
const UNDER_WAY: usize = 2;

impl Run<'_> {
    /// All steps of a phase.
    pub(super) fn resident_phase(
        &mut self,
        phase: &Phase,
        steps: u64,
        resident: &mut dyn Resident,
        options: &Options,
        watch: &mut dyn Watch,
    ) -> Result<(), RunError> {
        resident.load(&self.state.params, &self.state.optimiser)?;
        if self.state.step == 0 {
            self.note_checked(0, watch);
        }
        let mut begun = self.state.step;
        let end = begun + steps;
        // For each burst, whether the state after it is wanted.
        let mut under_way: VecDeque<bool> = VecDeque::new();
        while self.state.step < end {
            while begun < end && under_way.len() < UNDER_WAY {
                let stop = self.trace.next_stop(begun, watch).min(end);
                let steps = (resident.burst() as u64).clamp(1, stop - begun);
                self.start(phase, begun, steps, resident)?;
                begun += steps;
                let state = begun == stop;
                if state {
                    resident.snapshot()?;
                }
                under_way.push_back(state);
            }
            let Some(state) = under_way.pop_front() else { break };
            let outcomes = resident.finish()?;
            for Outcome { loss, out_of_range } in outcomes {
                self.state.step += 1;
                if let Some(tensor) = self.out_of_range(loss, out_of_range) {
                    return Err(RunError::Diverged { step: self.state.step, tensor });
                }
                if watch.step(self.state.step, self.steps, loss) == Control::Stop {
                    return Err(RunError::Stopped);
                }
            }
            if state {
                resident.fetch(&mut self.state.params, &mut self.state.optimiser)?;
                self.check_segment(options, watch)?;
                if self.trace.after(self.program, &self.state, watch) == Control::Stop {
                    return Err(RunError::Stopped);
                }
            }
        }
        Ok(())
    }

    /// Sets off `count` steps from step `first` on.
    fn start(&self, phase: &Phase, first: u64, count: u64, resident: &mut dyn Resident) -> Result<(), RunError> {
        let steps = first..first + count;
        let inputs: Vec<[Tensor; 2]> = steps
            .clone()
            .map(|step| self.data.batch(&self.stream, step as u32, phase.batch, phase.context))
            .collect::<Result<_, _>>()?;
        let tables: Vec<Vec<f32>> = steps.clone().map(|step| self.tables_at(step)).collect();
        let batches: Vec<Batch<'_>> = steps
            .zip(inputs.iter().zip(&tables))
            .map(|(step, ([input, target], tables))| Batch { inputs: [input, target], tables, seed: self.seed, step })
            .collect();
        Ok(resident.start(&batches)?)
    }

    /// Name of the tensor that the step left out of range.
    fn out_of_range(&self, loss: f32, tensor: Option<usize>) -> Option<String> {
        if super::state::at_end(&[loss]) {
            return Some("loss".into());
        }
        let names = self.program.params.iter().map(|param| &param.name);
        names.chain(self.program.states.iter().map(|state| &state.name)).nth(tensor?).cloned()
    }

    /// At the end of a segment: computes it on the CPU too, where [`Watch::check`] asked for that, and compares all bits.
    /// Then notes the state for the next one, if that is to be checked.
    fn check_segment(&mut self, options: &Options, watch: &mut dyn Watch) -> Result<(), RunError> {
        let Some(segment) = self.trace.ends_at(self.state.step) else { return Ok(()) };
        if let Some(mut state) = self.checked.take() {
            self.on_cpu(&mut state, options)?;
            if state.hash(self.program) != self.state.hash(self.program) {
                return Err(RunError::Inexact { segment });
            }
            watch.checked(segment);
        }
        self.note_checked(segment + 1, watch);
        Ok(())
    }

    /// Trains a state on the CPU up to the step that is reached.
    fn on_cpu(&self, state: &mut State, options: &Options) -> Result<(), RunError> {
        let options = Options { kind: Kind::Cpu, micro_batch: None, ..*options };
        let mut end = 0;
        for (phase, &steps) in self.program.phases.iter().zip(&self.program.steps) {
            end += u64::from(steps);
            let until = end.min(self.state.step);
            if state.step >= until {
                continue;
            }
            let mut cpu = prepare(&options, &phase.graph, &phase.wanted())?;
            while state.step < until {
                let step = state.step;
                let [input, target] = self.data.batch(&self.stream, step as u32, phase.batch, phase.context)?;
                let tables = self.tables_at(step);
                let batch = Batch { inputs: [&input, &target], tables: &tables, seed: self.seed, step };
                cpu.step(&batch, &mut state.params, &mut state.optimiser)?;
                state.step += 1;
            }
        }
        Ok(())
    }

    /// Notes the state before a segment, if that is to be checked.
    fn note_checked(&mut self, segment: u16, watch: &mut dyn Watch) {
        if watch.check(segment) {
            let State { params, optimiser, step } = &self.state;
            self.checked = Some(State { params: params.clone(), optimiser: optimiser.clone(), step: *step });
        }
    }
}
