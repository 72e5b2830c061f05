//! Questions about this machine's GPUs, each asked in a process of its own: a driver that crashes or hangs costs that
//! process.
//!
//! *Invariant:* the asking process never loads a driver.

use std::path::Path;
use std::time::Duration;

use cairn_protocol::{BoundedVec, Seed, Text};

use super::parent::{Job, JobError};
use super::task::{Allowance, Stopper, guarded};
use super::wire::{AdapterInfo, BackendChoice, Examined, Message, Request, Task, Timed, Work};

/// Longest that listing adapters may take: a driver that is loaded for the first time may be slow.
const LIST_DEADLINE: Duration = Duration::from_secs(60);
/// Longest that a measurement may take: seconds on a GPU, a minute on a program that plays one on a busy machine.
const EXAMINE_DEADLINE: Duration = Duration::from_secs(20 * 60);

/// Time for work that a GPU does. A program on the processor that plays one takes all threads.
fn allowance(deadline: Duration) -> Allowance {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    Allowance { deadline, cpu_seconds: deadline.as_secs().saturating_mul(threads), gives_way: false }
}

fn broken(what: &str) -> JobError {
    JobError::Protocol(what.to_string())
}

/// The adapters of this machine that can compute, real ones first.
///
/// # Errors
/// A driver crashed or hung, or `stopper` ended it.
pub fn adapters(exe: &Path, stopper: &Stopper) -> Result<Vec<AdapterInfo>, JobError> {
    let request = Request { task: Task::nothing(), work: Work::Adapters };
    let mut found = None;
    let listen = |job: Job| {
        job.answer(&mut |message| match message {
            Message::Adapters(list) if found.is_none() => {
                found = Some(list.into_inner());
                Ok(())
            }
            _ => Err(broken("an answer to another question")),
        })
    };
    guarded(exe, request, allowance(LIST_DEADLINE), stopper, listen)?;
    found.ok_or_else(|| broken("no list of adapters"))
}

/// Measures whether an adapter keeps the arithmetic; `progress` gets parts done, parts, and what comes next.
///
/// # Errors
/// The device was lost, hung or ran out of memory, or `stopper` ended it: nothing is known of it then.
pub fn examine(
    exe: &Path,
    adapter: &str,
    cache: &Path,
    stopper: &Stopper,
    progress: &mut dyn FnMut(u32, u32, &str),
) -> Result<Examined, JobError> {
    let adapter = Text::try_from(adapter).map_err(|e| JobError::Failed(format!("the adapter's name: {e}")))?;
    let cache = Text::truncated(cache.to_str().unwrap_or_default());
    let request = Request { task: Task::nothing(), work: Work::Examine { adapter, cache } };
    let mut found = None;
    let listen = |job: Job| {
        job.answer(&mut |message| match message {
            Message::Examining { done, of, what } => {
                progress(done, of, &what);
                Ok(())
            }
            Message::Examined(examined) if found.is_none() => {
                found = Some(*examined);
                Ok(())
            }
            _ => Err(broken("an answer to another question")),
        })
    };
    guarded(exe, request, allowance(EXAMINE_DEADLINE), stopper, listen)?;
    found.ok_or_else(|| broken("no result of the measurement"))
}

/// What each backend takes for a program, and the program's steps; none where the program is refused.
///
/// # Errors
/// The job failed, or `stopper` ended it.
pub fn time(
    exe: &Path,
    task: Task,
    seed: Seed,
    backends: Vec<BackendChoice>,
    allowance: Allowance,
    stopper: &Stopper,
) -> Result<Option<(u64, Vec<Timed>)>, JobError> {
    let asked = backends.len();
    let backends = BoundedVec::try_from(backends).map_err(|_| broken("too many backends at once"))?;
    let request = Request { task, work: Work::Time { seed, backends } };
    let (mut steps, mut refused, mut all) = (None, false, Vec::new());
    let listen = |job: Job| {
        job.answer(&mut |message| {
            match message {
                Message::Traced(summary) if steps.is_none() => steps = Some(summary.steps),
                Message::Refused(_) if steps.is_none() => refused = true,
                Message::Timed { backend, timed } if steps.is_some() && usize::from(backend) == all.len() => {
                    all.push(timed);
                }
                _ => return Err(broken("an answer to another question")),
            }
            Ok(())
        })
    };
    guarded(exe, request, allowance, stopper, listen)?;
    match steps {
        _ if refused => Ok(None),
        Some(steps) if all.len() == asked => Ok(Some((steps, all))),
        _ => Err(broken("not every backend was timed")),
    }
}
