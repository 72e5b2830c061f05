//! Official runs, in job processes that are listened to from a thread of their own.
//!
//! *Invariant:* the machine gets exactly one answer to each run it asks for, unless it was stopped.

use std::path::PathBuf;
use std::sync::Arc;

use cairn_program::job::{Allowance, BackendChoice, JobError, Outcome, Request, Stopper, Task, Work, perform};
use cairn_protocol::{BoundedVec, Draft, ProposalId, Run, Seed, Track};
use tokio::sync::mpsc;

use super::Message;
use super::prepare::Ready;

/// What every job needs to know.
#[derive(Clone)]
pub(super) struct Workshop {
    pub(super) exe: PathBuf,
    pub(super) track: Arc<Track>,
    pub(super) data: PathBuf,
    pub(super) threads: u16,
    pub(super) inbox: mpsc::Sender<Message>,
}

impl Workshop {
    pub(super) fn new(exe: PathBuf, threads: u16, ready: &Ready, inbox: mpsc::Sender<Message>) -> Self {
        Self { exe, track: Arc::new(ready.track.clone()), data: ready.data.clone(), threads, inbox }
    }

    /// The request to run `source` once for each seed.
    pub(super) fn run(&self, source: &str, seeds: Vec<Seed>) -> Result<(Request, Allowance), JobError> {
        let allowance = Allowance::of(self.track.budget, seeds.len(), self.threads);
        let seeds = BoundedVec::try_from(seeds).map_err(|_| JobError::Failed("too many seeds for a job".into()))?;
        let task = Task::of(&self.track, source, &self.data)?;
        Ok((Request { task, work: Work::Run { seeds, backend: BackendChoice::cpu(self.threads) } }, allowance))
    }

    fn official(&self, draft: &Draft, seeds: Vec<Seed>, stopper: &Stopper) -> Result<Vec<Run>, JobError> {
        let (request, allowance) = self.run(&draft.source, seeds)?;
        match perform(&self.exe, request, allowance, stopper, &mut |_| true)? {
            Outcome::Done { traced, runs, .. } if traced.graph == draft.graph => {
                Ok(runs.into_iter().map(|run| Run { metric: run.metric, test: run.test, leaves: run.leaves }).collect())
            }
            Outcome::Done { .. } => {
                Err(JobError::Failed("the program has another graph than when it was tried".into()))
            }
            Outcome::Refused(refusal) => Err(JobError::Failed(format!("{}: {}", refusal.kind, refusal.message))),
            Outcome::Diverged { at: (_, step, tensor), .. } => {
                Err(JobError::Failed(format!("the official run diverged at step {step} ({tensor})")))
            }
        }
    }
}

/// The official run under way.
#[derive(Default)]
pub(super) struct Official(Option<(ProposalId, Arc<Stopper>)>);

impl Official {
    pub(super) fn start(&mut self, workshop: &Workshop, proposal: ProposalId, draft: Box<Draft>, seeds: Vec<Seed>) {
        let (workshop, stopper) = (workshop.clone(), Arc::new(Stopper::default()));
        if let Some((_, before)) = self.0.replace((proposal, stopper.clone())) {
            before.stop();
        }
        let inbox = workshop.inbox.clone();
        let graph = draft.graph;
        let run = move || {
            let runs = match workshop.official(&draft, seeds, &stopper) {
                Err(JobError::Stopped) => return,
                runs => runs.map_err(|error| error.to_string()),
            };
            // The loop that takes this is over if nobody listens.
            let _ = workshop.inbox.blocking_send(Message::Official { proposal, graph, runs });
        };
        if let Err(error) = std::thread::Builder::new().name("official".into()).spawn(run) {
            let runs = Err(format!("cannot start a thread: {error}"));
            let _ = inbox.try_send(Message::Official { proposal, graph, runs });
        }
    }

    /// Ends the run for `proposal`.
    pub(super) fn stop(&mut self, proposal: ProposalId) {
        if let Some((_, stopper)) = self.0.take_if(|(running, _)| *running == proposal) {
            stopper.stop();
        }
    }

    /// Ends whatever runs.
    pub(super) fn stop_all(&mut self) {
        if let Some((_, stopper)) = self.0.take() {
            stopper.stop();
        }
    }
}
