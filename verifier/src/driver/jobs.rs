//! Traces and replays, in job processes that are listened to from threads of their own.
//!
//! One thread traces what is revealed, in order; each replay has a thread, and the machine asks for
//! one at a time.
//!
//! *Invariant:* whatever a job does, the machine gets exactly one answer, unless the job was stopped.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc as queue;

use cairn_program::job::{Allowance, BackendChoice, JobError, Outcome, Request, Stopper, Task, Work, perform};
use cairn_protocol::limits::PENDING_COMMITS_MAX;
use cairn_protocol::{BoundedVec, Commit, CommitId, Signed, Track, VerifierSecret};
use tokio::sync::mpsc;

use super::judge::{Judge, cannot};
use super::prepare::Ready;
use super::{Config, Message};
use crate::machine::Input;

/// Times that a job is started for one question: a machine may be out of memory for a moment.
const ATTEMPTS: usize = 2;

type Body = Box<Signed<Commit>>;

pub(super) struct Jobs {
    workshop: Workshop,
    traces: queue::SyncSender<Body>,
    tracing: Arc<Stopper>,
    replaying: Option<(CommitId, Arc<Stopper>)>,
}

/// What every job needs to know.
#[derive(Clone)]
struct Workshop {
    exe: PathBuf,
    track: Arc<Track>,
    data: PathBuf,
    threads: u16,
    secret: VerifierSecret,
    inbox: mpsc::Sender<Message>,
}

impl Jobs {
    pub(super) fn start(config: &Config, ready: &Ready, inbox: mpsc::Sender<Message>) -> io::Result<Self> {
        let workshop = Workshop {
            exe: config.exe.clone(),
            track: Arc::new(ready.track.clone()),
            data: ready.data.clone(),
            threads: config.threads,
            secret: config.secret.clone(),
            inbox,
        };
        let (traces, waiting) = queue::sync_channel::<Body>(PENDING_COMMITS_MAX);
        let tracing = Arc::new(Stopper::default());
        let (tracer, stopper) = (workshop.clone(), tracing.clone());
        std::thread::Builder::new().name("trace".into()).spawn(move || {
            for body in waiting {
                if let Some(result) = tracer.trace(&body, &stopper) {
                    tracer.tell(Input::Traced { commit: body.id(), result });
                }
            }
        })?;
        Ok(Self { workshop, traces, tracing, replaying: None })
    }

    /// Traces a commit's source beside whatever else goes on.
    pub(super) fn trace(&self, body: Body) {
        let commit = body.id();
        if self.traces.try_send(body).is_err() {
            // The machine holds no more commits than this queue does: the tracer is gone.
            tracing::error!(%commit, "the tracer has ended");
        }
    }

    /// Replays a commit.
    pub(super) fn replay(&mut self, body: Body) {
        let (commit, stopper) = (body.id(), Arc::new(Stopper::default()));
        if let Some((_, before)) = self.replaying.replace((commit, stopper.clone())) {
            before.stop();
        }
        let workshop = self.workshop.clone();
        let nothing = Input::Replayed { commit, findings: cannot(&body.body) };
        let replayed = move || {
            if let Some(findings) = workshop.replay(&body, &stopper) {
                workshop.tell(Input::Replayed { commit, findings });
            }
        };
        if let Err(error) = std::thread::Builder::new().name("replay".into()).spawn(replayed) {
            tracing::error!(%commit, %error, "cannot start a thread to replay");
            // Where even this finds no place, peers judge without us.
            let _ = self.workshop.inbox.try_send(Message::Input(Box::new(nothing)));
        }
    }

    /// Ends the replay of `commit`.
    pub(super) fn stop_replay(&mut self, commit: CommitId) {
        if let Some((_, stopper)) = self.replaying.take_if(|(replaying, _)| *replaying == commit) {
            stopper.stop();
        }
    }

    /// Ends everything.
    pub(super) fn stop(&mut self) {
        self.tracing.stop();
        if let Some((_, stopper)) = self.replaying.take() {
            stopper.stop();
        }
    }
}

impl Workshop {
    fn tell(&self, input: Input) {
        // The loop that takes these is over if nobody listens.
        let _ = self.inbox.blocking_send(Message::Input(Box::new(input)));
    }

    fn trouble(&self, what: String) {
        let _ = self.inbox.blocking_send(Message::Trouble(what));
    }

    /// Whether source, graph and price are what they must be; none if it was stopped.
    fn trace(&self, body: &Signed<Commit>, stopper: &Stopper) -> Option<Result<(), String>> {
        let draft = &body.body.draft;
        let allowance = Allowance::of(self.track.budget, 0, 1);
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let asked = Task::of(&self.track, &draft.source, &self.data)
                .map(|task| Request { task, work: Work::Trace })
                .and_then(|request| perform(&self.exe, request, allowance, stopper, &mut |_| true));
            match asked {
                Ok(Outcome::Done { traced, .. }) if traced.graph == draft.graph => return Some(Ok(())),
                Ok(Outcome::Done { traced, .. }) => {
                    return Some(Err(format!("its graph is {}, not {}", traced.graph, draft.graph)));
                }
                Ok(Outcome::Refused(refusal)) => {
                    let (line, column) = (refusal.line, refusal.column);
                    return Some(Err(format!("{}: {} (line {line}, column {column})", refusal.kind, refusal.message)));
                }
                Ok(Outcome::Diverged { .. }) => return Some(Err("it ran when it was to be traced".into())),
                Err(JobError::Stopped) => return None,
                Err(error) => last = error.to_string(),
            }
        }
        self.trouble(format!("commit {} could not be traced: {last}", body.id().short()));
        Some(Err(last))
    }

    /// What replaying every run finds; none if it was stopped.
    fn replay(&self, body: &Signed<Commit>, stopper: &Stopper) -> Option<Vec<cairn_protocol::Judged>> {
        let runs = body.body.runs.len();
        let allowance = Allowance::of(self.track.budget, runs, self.threads);
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let mut judge = Judge::new(&body.body);
            let replayed = self
                .replay_request(body)
                .and_then(|request| perform(&self.exe, request, allowance, stopper, &mut |said| judge.hear(said)));
            match replayed {
                Ok(outcome) => return Some(judge.findings(&outcome)),
                // The judge needs no more: a lie was found.
                Err(JobError::Stopped) if !stopper.stopped() => return Some(judge.found()),
                Err(JobError::Stopped) => return None,
                Err(error) => last = error.to_string(),
            }
        }
        self.trouble(format!("commit {} could not be replayed: {last}", body.id().short()));
        Some(cannot(&body.body))
    }

    fn replay_request(&self, body: &Signed<Commit>) -> Result<Request, JobError> {
        let task = Task::of(&self.track, &body.body.draft.source, &self.data)?;
        let too_many = |_| JobError::Failed("the commit has too many runs".into());
        let claimed: Vec<_> = body.body.runs.iter().map(|run| run.leaves.clone()).collect();
        let work = Work::Replay {
            seeds: BoundedVec::try_from(body.body.seeds()).map_err(too_many)?,
            claimed: BoundedVec::try_from(claimed).map_err(too_many)?,
            prover: self.secret.public(),
            commit: body.id(),
            audit: self.secret.audit_key(&body.body.track(), &body.id()),
            backend: BackendChoice::cpu(self.threads),
        };
        Ok(Request { task, work })
    }
}
