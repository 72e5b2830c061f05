//! Official runs, in job processes that are listened to from a thread of their own.
//!
//! *Invariant:* the machine gets exactly one answer to each run it asks for, unless it was stopped.

use std::path::PathBuf;
use std::sync::Arc;

use cairn_program::job::{Allowance, Audit, JobError, Message as Said, Outcome, Request, Stopper, Task, Work, perform};
use cairn_protocol::{BoundedVec, Draft, GraphId, ProposalId, Run, Seed, Track};
use tokio::sync::mpsc;

use super::Message;
use super::device::{Devices, Place, Timing, random_audit};
use super::prepare::Ready;
use crate::event::Event;

/// What every job needs to know.
#[derive(Clone)]
pub(super) struct Workshop {
    pub(super) exe: PathBuf,
    pub(super) track: Arc<Track>,
    pub(super) data: PathBuf,
    pub(super) threads: u16,
    pub(super) devices: Devices,
    pub(super) inbox: mpsc::Sender<Message>,
}

impl Workshop {
    pub(super) fn new(exe: PathBuf, threads: u16, ready: &Ready, inbox: mpsc::Sender<Message>) -> Self {
        let track = Arc::new(ready.track.clone());
        Self { exe, track, data: ready.data.clone(), threads, devices: Devices::default(), inbox }
    }

    /// The request to run `source` once for each seed.
    pub(super) fn run(
        &self,
        source: &str,
        seeds: Vec<Seed>,
        place: &Place,
        audit: Option<Audit>,
    ) -> Result<(Request, Allowance), JobError> {
        let allowance = Allowance::of(self.track.budget, seeds.len(), self.threads);
        let seeds = BoundedVec::try_from(seeds).map_err(|_| JobError::Failed("too many seeds for a job".into()))?;
        let task = Task::of(&self.track, source, &self.data)?;
        Ok((Request { task, work: Work::Run { seeds, backend: place.backend.clone(), audit } }, allowance))
    }

    /// Where programs like `source`, which comes from `head`, run fastest; timed where that is not known.
    pub(super) fn place(&self, head: Option<GraphId>, source: &str, stopper: &Stopper) -> Result<Place, JobError> {
        let timing = Timing { exe: &self.exe, track: &self.track, data: &self.data, threads: self.threads };
        if let Some(event) = timing.settle(&self.devices, head, source, stopper)? {
            self.tell(Message::Event(event));
        }
        Ok(self.devices.place(self.threads))
    }

    pub(super) fn tell(&self, message: Message) {
        // The loop that takes these is over if nobody listens.
        let _ = self.inbox.blocking_send(message);
    }

    /// The device was caught by an audit.
    pub(super) fn caught(&self, segment: u16) {
        if let Some((adapter, event)) = self.devices.caught(segment) {
            let Event::Gpu { says, .. } = &event else { return };
            self.tell(Message::Demoted { adapter, why: says.clone() });
            self.tell(Message::Event(event));
        }
    }

    /// An official run: on the device, if there is one, with one random segment computed on the processor too before
    /// anything is signed; where that finds other bits, or the device fails, all of it on the processor.
    fn official(&self, draft: &Draft, seeds: Vec<Seed>, stopper: &Stopper) -> Result<Vec<Run>, JobError> {
        let place = self.place(None, &draft.source, stopper)?;
        if place.device.is_some()
            && let Some(audit) = random_audit(seeds.len())
        {
            let mut agrees = None;
            match self.official_on(draft, seeds.clone(), &place, Some(audit), stopper, &mut agrees) {
                Ok(runs) if agrees == Some(true) => {
                    self.devices.went_well(true);
                    return Ok(runs);
                }
                Err(JobError::Stopped) if stopper.stopped() => return Err(JobError::Stopped),
                _ if agrees == Some(false) => self.caught(audit.segment),
                Ok(_) => self.failed(&JobError::Failed("the official run was not audited".into())),
                Err(error) => self.failed(&error),
            }
        }
        self.official_on(draft, seeds, &Place::cpu(self.threads), None, stopper, &mut None)
    }

    /// A run on the device failed.
    pub(super) fn failed(&self, error: &JobError) {
        if let Some(event) = self.devices.failed(error) {
            self.tell(Message::Event(event));
        }
    }

    fn official_on(
        &self,
        draft: &Draft,
        seeds: Vec<Seed>,
        place: &Place,
        audit: Option<Audit>,
        stopper: &Stopper,
        agrees: &mut Option<bool>,
    ) -> Result<Vec<Run>, JobError> {
        let (request, allowance) = self.run(&draft.source, seeds, place, audit)?;
        let mut listen = |said: &Said| match said {
            Said::Audited { agrees: found, .. } => {
                *agrees = Some(*found);
                *found
            }
            _ => true,
        };
        match perform(&self.exe, request, allowance, stopper, &mut listen)? {
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
