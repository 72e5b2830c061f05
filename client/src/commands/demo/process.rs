//! The demo's processes: this very binary, started several times.
//!
//! *Invariant:* no process outlives the demo. Each ends when its input closes, which also happens when the demo is killed;
//! whoever does not end in time is killed.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::homes::Homes;
use crate::context::own_binary;
use crate::format;

/// Time in which a process must end after it was asked to.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Longest line of a process that is read, in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Lines of its errors that are shown when a process ends early.
const ERRORS_SHOWN: usize = 5;
/// File with what a process writes to its error stream.
const ERRORS: &str = "errors.log";

/// What a process says; nothing at its end.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    /// Which process.
    pub(super) process: usize,
    /// The event.
    pub(super) event: Option<Value>,
}

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Verifier,
    Worker,
    Observer,
}

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) role: Role,
    /// Whether its output is still open.
    pub(super) alive: bool,
    child: Child,
}

/// All processes of a demo.
#[derive(Debug)]
pub(super) struct Processes<'a> {
    homes: &'a Homes,
    sender: mpsc::Sender<Heard>,
    pub(super) all: Vec<Process>,
}

impl<'a> Processes<'a> {
    pub(super) fn new(homes: &'a Homes) -> (Self, mpsc::Receiver<Heard>) {
        let (sender, heard) = mpsc::channel(1024);
        (Self { homes, sender, all: Vec::new() }, heard)
    }

    /// Starts `cairn ARGUMENTS` in the home of `name`; what it says is heard under its place among all. Its process id.
    pub(super) fn start(&mut self, name: String, role: Role, arguments: &[String]) -> anyhow::Result<u32> {
        let home = self.homes.of(&name);
        home.create()?;
        let errors = File::create(home.root().join(ERRORS))?;
        let mut command = Command::new(own_binary()?);
        command.args(arguments).args(["--json", "--with-parent", "--home"]).arg(home.root());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).kill_on_drop(true);
        // Ctrl-C is for the demo alone, which then ends its processes in order.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = child.id().unwrap_or(0);
        let process = self.all.len();
        let output = child.stdout.take().context("no pipe")?;
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::with_capacity(LINE_BYTES_MAX, output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                // A line that is no event is a bug of ours, which the process's log will show.
                let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                if sender.send(Heard { process, event: Some(event) }).await.is_err() {
                    return;
                }
            }
            // The demo may have stopped listening.
            let _ = sender.send(Heard { process, event: None }).await;
        });
        self.all.push(Process { name, role, alive: true, child });
        Ok(pid)
    }

    /// The last errors of a process.
    pub(super) fn errors(&self, process: usize) -> String {
        let Some(process) = self.all.get(process) else { return String::new() };
        let text = std::fs::read(self.homes.of(&process.name).root().join(ERRORS)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(ERRORS_SHOWN));
        last.map(|line| format::plain(line)).collect::<Vec<_>>().join("\n  ")
    }

    /// Asks every process to end, waits, and kills those that do not.
    pub(super) async fn end(mut self) {
        for process in &mut self.all {
            drop(process.child.stdin.take());
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for process in &mut self.all {
            if tokio::time::timeout_at(deadline, process.child.wait()).await.is_err() {
                tracing::warn!("{} did not end in time and is killed", process.name);
                // It may end just now, which is what is wanted.
                let _ = process.child.kill().await;
            }
        }
    }
}
