//! Jobs of a track: what they are asked, what they may cost, and how they are stopped.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cairn_protocol::{Text, Track};

use super::parent::{Job, JobError, Killer, Outcome};
use super::wire::{Message, Request, Task};

/// Operations a second of the slowest thread that is waited for: an old machine, a debug build.
const OPERATIONS_PER_SECOND_MIN: u64 = 100_000_000;
/// Seconds of processor time for starting, parsing, loading data.
const START_SECONDS: u64 = 30;
/// How much longer than its processor time a job may take: the machine may be busy with other things.
const BUSY_FACTOR: u64 = 8;

impl Task {
    /// `source` under the rules of `track`, with the track's raw data in the file `data`.
    ///
    /// # Errors
    /// The source or the path is too long, or the path is not UTF-8.
    pub fn of(track: &Track, source: &str, data: &Path) -> Result<Self, JobError> {
        let failed = |what: &str| JobError::Failed(what.to_string());
        let data = data.to_str().ok_or_else(|| failed("the path of the data is not UTF-8"))?;
        Ok(Self {
            source: source.try_into().map_err(|_| failed("the source is too long for a job"))?,
            converter: Text::truncated(track.converter.as_str()),
            data: data.try_into().map_err(|_| failed("the path of the data is too long"))?,
            budget: track.budget,
            memory: track.memory,
            parameters: track.parameters,
            literal_bits: u64::from(track.literal_bits),
        })
    }
}

impl Task {
    /// No program, for work that needs none.
    pub fn nothing() -> Self {
        Self {
            source: Text::default(),
            converter: Text::default(),
            data: Text::default(),
            budget: 0,
            memory: 0,
            parameters: 0,
            literal_bits: 0,
        }
    }
}

/// What a job may cost in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Real time.
    pub deadline: Duration,
    /// Processor time over all threads, in seconds.
    pub cpu_seconds: u64,
    /// Whether it gives way to other processes: nobody waits for it.
    pub gives_way: bool,
}

impl Allowance {
    /// For so many runs of `budget` operations each, on so many threads; no runs for a trace.
    pub fn of(budget: u64, runs: usize, threads: u16) -> Self {
        let run = budget / OPERATIONS_PER_SECOND_MIN;
        let work = run.saturating_mul(runs as u64).saturating_add(START_SECONDS);
        // Threads that wait for each other burn time as well.
        let cpu_seconds = work.saturating_mul(u64::from(threads.max(1)));
        Self { deadline: Duration::from_secs(work.saturating_mul(BUSY_FACTOR)), cpu_seconds, gives_way: false }
    }
}

/// Stops a job from another thread, also one that is about to start.
#[derive(Debug, Default)]
pub struct Stopper {
    stopped: AtomicBool,
    running: Mutex<Option<Killer>>,
}

impl Stopper {
    /// Stops the job that runs, and every one that would start later.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(killer) = self.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            killer.kill();
        }
    }

    /// Whether it was stopped.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn guard(&self, killer: Option<Killer>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = killer;
    }
}

/// Runs one job to its end on this thread; `progress` sees every message and may say stop.
///
/// # Errors
/// `Stopped` if `stopper` or `progress` ended it, else what went wrong.
pub fn perform(
    exe: &Path,
    request: Request,
    allowance: Allowance,
    stopper: &Stopper,
    progress: &mut dyn FnMut(&Message) -> bool,
) -> Result<Outcome, JobError> {
    guarded(exe, request, allowance, stopper, |job| job.finish(progress))
}

/// Starts a job and listens to it, within reach of `stopper`.
pub(super) fn guarded<T>(
    exe: &Path,
    request: Request,
    allowance: Allowance,
    stopper: &Stopper,
    listen: impl FnOnce(Job) -> Result<T, JobError>,
) -> Result<T, JobError> {
    if stopper.stopped() {
        return Err(JobError::Stopped);
    }
    let job = Job::start(exe, request, allowance)?;
    stopper.guard(Some(job.killer()));
    // Stopped between the question above and the guard: the killer was not known yet.
    let result = if stopper.stopped() { Err(JobError::Stopped) } else { listen(job) };
    stopper.guard(None);
    if stopper.stopped() && result.is_err() { Err(JobError::Stopped) } else { result }
}
