//! The parent's side: start, listen, check, kill.
//!
//! *Invariant:* a job never outlives its [`Job`], and never its deadline; what it says is checked
//! against what it was asked.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cairn_protocol::Hash32;
use cairn_protocol::limits::SEGMENTS;

use super::task::Allowance;
use super::wire::{Audit, Message, Refusal, Request, RunSummary, TraceSummary, Work, read_frame, write_frame};

/// Messages that wait to be looked at; more make the child wait.
const MESSAGES_MAX: usize = 256;
/// Bytes kept of what the child writes to its error stream.
const STDERR_BYTES_MAX: u64 = 8 * 1024;
/// Niceness of a job that gives way, on the scale of Unix: a ninth of the usual share.
#[cfg(unix)]
const NICENESS: i32 = 10;
/// Bytes beyond what a program may need where a GPU's driver is loaded: its compiler, its copies of tensors, and, where
/// the GPU is a program on the processor, the tensors themselves.
const GPU_BYTES: u64 = 8 << 30;
/// Variables that tell where GPU drivers lie, where they may keep files, and which devices they show.
const GPU_VARIABLES: [&str; 18] = [
    "HOME",
    "PATH",
    "LD_LIBRARY_PATH",
    "XDG_RUNTIME_DIR",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "XDG_DATA_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_CONFIG_DIRS",
    "VK_DRIVER_FILES",
    "VK_ADD_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "VK_LOADER_DRIVERS_SELECT",
    "VK_LOADER_DRIVERS_DISABLE",
    "CUDA_VISIBLE_DEVICES",
    "MESA_SHADER_CACHE_DIR",
    "MESA_VK_DEVICE_SELECT",
    // Read by builds with debug assertions only: see `cairn_engine::gpu`.
    "CAIRN_TEST_GPU_FAULT",
];
/// Steps of any run.
const STEPS_MAX: u64 = 1 << 20;

/// Why a job gave no result.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// It could not be started or spoken to.
    #[error("the job process could not be started: {0}")]
    Spawn(io::Error),
    /// It needed more memory than allowed.
    #[error("the job needed more memory than it may have and was ended")]
    Memory,
    /// It needed more processor time than allowed.
    #[error("the job needed more than {0} s of processor time and was ended")]
    Cpu(u64),
    /// It did not end in time.
    #[error("the job did not end within {0:?} and was ended")]
    Deadline(Duration),
    /// It ended before it was done.
    #[error("the job process ended early ({status}): {stderr}")]
    Died {
        /// Exit code or signal.
        status: String,
        /// The end of what it complained of.
        stderr: String,
    },
    /// It said what it must not say.
    #[error("the job process broke its protocol: {0}")]
    Protocol(String),
    /// The caller stopped it.
    #[error("the job was stopped")]
    Stopped,
    /// It could not do the work, for a reason that is not the program's.
    #[error("{0}")]
    Failed(String),
}

/// What a job found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The program is refused.
    Refused(Box<Refusal>),
    /// A run did not stay finite.
    Diverged {
        /// What tracing found.
        traced: TraceSummary,
        /// The seed, the step and the tensor.
        at: (u8, u64, String),
    },
    /// The work was done.
    Done {
        /// What tracing found.
        traced: TraceSummary,
        /// One result for each seed (empty when only traced).
        runs: Vec<RunSummary>,
        /// Proofs for each seed and segment, in order (only when replayed).
        inside: Vec<Vec<Hash32>>,
    },
}

/// Ends a job from another thread.
#[derive(Clone, Debug)]
pub struct Killer(Arc<Mutex<Child>>);

impl Killer {
    /// Ends the job; nothing happens if it has ended.
    pub fn kill(&self) {
        // A job that has just ended cannot be killed, which is what was wanted.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).kill();
    }

    fn wait(&self) -> io::Result<ExitStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).wait()
    }
}

/// A running job.
#[derive(Debug)]
pub struct Job {
    killer: Killer,
    request: Request,
    messages: Receiver<io::Result<Option<Message>>>,
    stderr: Option<std::thread::JoinHandle<String>>,
    deadline: Duration,
    cpu_seconds: u64,
    started: Instant,
    /// Open as long as we live: the child ends when it closes.
    _stdin: Option<ChildStdin>,
}

impl Job {
    /// Starts `exe job MEMORY CPU` and hands it the request.
    ///
    /// `deadline` bounds its life in real time, `cpu_seconds` its processor time over all threads.
    pub fn spawn(exe: &Path, request: Request, deadline: Duration, cpu_seconds: u64) -> Result<Self, JobError> {
        Self::start(exe, request, Allowance { deadline, cpu_seconds, gives_way: false })
    }

    /// Starts `exe job MEMORY CPU` and hands it the request.
    pub fn start(exe: &Path, request: Request, allowance: Allowance) -> Result<Self, JobError> {
        let Allowance { deadline, cpu_seconds, gives_way } = allowance;
        let mut command = Command::new(exe);
        let needs_gpu = request.work.needs_gpu();
        let memory = request.task.memory.saturating_add(if needs_gpu { GPU_BYTES } else { 0 });
        command.arg("job").arg(memory.to_string()).arg(cpu_seconds.to_string());
        if cfg!(unix) {
            command.env_clear();
            if needs_gpu {
                command.envs(GPU_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
            }
        }
        // Candle asks its environment how many threads to use; ours are in the request.
        if let Work::Run { backend, .. } = &request.work
            && backend.name.as_str() == "candle"
        {
            command.env("RAYON_NUM_THREADS", backend.threads.to_string());
        }
        // Ctrl-C is for the parent, which then ends its jobs in order.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(JobError::Spawn)?;
        if gives_way {
            give_way(&child);
        }
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let killer = Killer(Arc::new(Mutex::new(child)));
        let (Some(mut stdin), Some(mut stdout), Some(stderr)) = pipes else {
            killer.kill();
            return Err(JobError::Spawn(io::ErrorKind::BrokenPipe.into()));
        };
        let (sender, messages) = sync_channel(MESSAGES_MAX);
        let listen = move || {
            loop {
                let message = read_frame::<Message>(&mut stdout);
                let last = !matches!(message, Ok(Some(_)));
                if sender.send(message).is_err() || last {
                    return;
                }
            }
        };
        let complain = move || {
            let mut text = Vec::new();
            let mut stderr = stderr;
            // Only its beginning is kept; the rest is drained so that the child never blocks on it.
            let _ = stderr.by_ref().take(STDERR_BYTES_MAX).read_to_end(&mut text);
            let _ = io::copy(&mut stderr, &mut io::sink());
            String::from_utf8_lossy(&text).trim().to_string()
        };
        let spawned = std::thread::Builder::new()
            .name("job-out".into())
            .spawn(listen)
            .and_then(|_| std::thread::Builder::new().name("job-err".into()).spawn(complain));
        let mut job = Self {
            killer,
            request,
            messages,
            stderr: None,
            deadline,
            cpu_seconds,
            started: Instant::now(),
            _stdin: None,
        };
        job.stderr = Some(spawned.map_err(JobError::Spawn)?);
        match write_frame(&mut stdin, &job.request) {
            // A child that died at once is reported by `finish`, with its reason.
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => return Err(JobError::Spawn(e)),
            _ => job._stdin = Some(stdin),
        }
        Ok(job)
    }

    /// A handle that ends the job.
    pub fn killer(&self) -> Killer {
        self.killer.clone()
    }

    fn next(&mut self) -> Result<Message, JobError> {
        let left = self.deadline.saturating_sub(self.started.elapsed());
        match self.messages.recv_timeout(left) {
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Err(e)) if e.kind() == io::ErrorKind::InvalidData => Err(JobError::Protocol(e.to_string())),
            Ok(Ok(None) | Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(self.death()),
            Err(RecvTimeoutError::Timeout) => Err(JobError::Deadline(self.deadline)),
        }
    }

    /// Why the child closed its output.
    fn death(&mut self) -> JobError {
        let status = match self.killer.wait() {
            Ok(status) => status,
            Err(e) => return JobError::Spawn(e),
        };
        let stderr = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        #[cfg(unix)]
        {
            use std::os::unix::process::ExitStatusExt;
            if status.signal() == Some(rustix::process::Signal::XCPU.as_raw()) {
                return JobError::Cpu(self.cpu_seconds);
            }
        }
        if stderr.contains("memory allocation of") {
            return JobError::Memory;
        }
        JobError::Died { status: status.to_string(), stderr }
    }

    /// Listens until the job is done, for work that ends with no [`Outcome`]: `hear` takes every message.
    pub(super) fn answer(mut self, hear: &mut dyn FnMut(Message) -> Result<(), JobError>) -> Result<(), JobError> {
        loop {
            match self.next()? {
                Message::Done => return Ok(()),
                Message::Failed(why) => return Err(JobError::Failed(why.as_str().to_string())),
                message => hear(message)?,
            }
        }
    }

    /// Listens until the job is done; `progress` sees every message and may say stop.
    pub fn finish(mut self, progress: &mut dyn FnMut(&Message) -> bool) -> Result<Outcome, JobError> {
        let request = self.request.clone();
        let mut checked = Checked::new(&request);
        loop {
            let message = self.next()?;
            if !progress(&message) {
                return Err(JobError::Stopped);
            }
            if let Some(outcome) = checked.take(message)? {
                return Ok(outcome);
            }
        }
    }
}

/// Lowers the priority of a child before it has its request, and so of every thread that it will have.
fn give_way(child: &Child) {
    #[cfg(unix)]
    {
        use rustix::process::{Pid, getpriority_process, setpriority_process};
        if getpriority_process(None).is_ok_and(|own| own < NICENESS) {
            // Where that fails, it runs as well with the usual priority.
            let _ = setpriority_process(Some(Pid::from_child(child)), NICENESS);
        }
    }
    #[cfg(not(unix))]
    let _ = child;
}

impl Drop for Job {
    fn drop(&mut self) {
        self.killer.kill();
        // Reaped, so that no zombie stays.
        let _ = self.killer.wait();
    }
}

/// What was said so far, in the only order that is allowed.
struct Checked<'a> {
    request: &'a Request,
    traced: Option<TraceSummary>,
    runs: Vec<RunSummary>,
    inside: Vec<Vec<Hash32>>,
    /// The last seed whose audit found something.
    leaked: Option<u8>,
    over: Option<Outcome>,
}

impl<'a> Checked<'a> {
    fn new(request: &'a Request) -> Self {
        Self { request, traced: None, runs: Vec::new(), inside: Vec::new(), leaked: None, over: None }
    }

    fn seeds(&self) -> usize {
        match &self.request.work {
            Work::Trace | Work::Time { .. } | Work::Adapters | Work::Examine { .. } => 0,
            Work::Run { seeds, .. } | Work::Replay { seeds, .. } => seeds.len(),
        }
    }

    /// Takes the next message; the outcome when it was the last.
    fn take(&mut self, message: Message) -> Result<Option<Outcome>, JobError> {
        let broken = |what: &str| Err(JobError::Protocol(what.to_string()));
        if self.over.is_some() && message != Message::Done {
            return broken("a message after the last result");
        }
        match message {
            Message::Failed(why) => return Err(JobError::Failed(why.as_str().to_string())),
            Message::Traced(_) | Message::Refused(_) if self.traced.is_some() => return broken("traced twice"),
            Message::Refused(refusal) => self.over = Some(Outcome::Refused(refusal)),
            Message::Traced(summary) => {
                let task = &self.request.task;
                if summary.metered > task.budget || summary.peak_bytes > task.memory || summary.steps > STEPS_MAX {
                    return broken("a program over its budget, memory or steps was not refused");
                }
                self.traced = Some(summary);
            }
            Message::Step { seed, step, .. } => self.running(seed, step)?,
            Message::Segment { seed, segment, inside, .. } => {
                self.running(seed, 0)?;
                if !matches!(self.request.work, Work::Replay { .. }) {
                    return broken("a proof that was not asked for");
                }
                self.inside.resize(self.runs.len() + 1, Vec::new());
                match self.inside.last_mut() {
                    Some(proofs) if proofs.len() == usize::from(segment) && segment < SEGMENTS => proofs.push(inside),
                    _ => return broken("a segment out of order"),
                }
            }
            Message::Leaked { seed, .. } => {
                self.running(seed, 0)?;
                if !matches!(self.request.work, Work::Replay { .. }) || self.leaked == Some(seed) {
                    return broken("a finding of an audit that was not asked for");
                }
                self.leaked = Some(seed);
            }
            Message::Audited { seed, segment, .. } => {
                self.running(seed, 0)?;
                match &self.request.work {
                    Work::Run { audit: Some(asked), .. } if *asked == (Audit { seed, segment }) => {}
                    _ => return broken("an audit that was not asked for"),
                }
            }
            Message::Adapters(_) | Message::Examining { .. } | Message::Examined(_) | Message::Timed { .. } => {
                return broken("an answer to another question");
            }
            Message::Ran { seed, result } => {
                self.running(seed, 0)?;
                if result.leaves.len() != usize::from(SEGMENTS) {
                    return broken("a run without all its leaves");
                }
                self.runs.push(result);
            }
            Message::Diverged { seed, step, tensor } => {
                self.running(seed, step)?;
                if let Some(traced) = self.traced.clone() {
                    self.over = Some(Outcome::Diverged { traced, at: (seed, step, tensor.as_str().to_string()) });
                }
            }
            Message::Done => return self.done().map(Some),
        }
        Ok(None)
    }

    fn running(&self, seed: u8, step: u64) -> Result<(), JobError> {
        let Some(traced) = &self.traced else {
            return Err(JobError::Protocol("it ran before it was traced".into()));
        };
        if usize::from(seed) != self.runs.len() || self.runs.len() >= self.seeds() || step > traced.steps {
            return Err(JobError::Protocol(format!("seed {seed}, step {step} is not what runs now")));
        }
        Ok(())
    }

    fn done(&mut self) -> Result<Outcome, JobError> {
        if let Some(over) = self.over.take() {
            return Ok(over);
        }
        let whole = self.runs.len() == self.seeds()
            && (!matches!(self.request.work, Work::Replay { .. })
                || (self.inside.len() == self.seeds()
                    && self.inside.iter().all(|proofs| proofs.len() == usize::from(SEGMENTS))));
        match self.traced.take() {
            Some(traced) if whole => Ok(Outcome::Done {
                traced,
                runs: std::mem::take(&mut self.runs),
                inside: std::mem::take(&mut self.inside),
            }),
            _ => Err(JobError::Protocol("it says it is done and is not".into())),
        }
    }
}
