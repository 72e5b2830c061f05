//! Homes and processes of `cairn`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// The `cairn` binary of this build: cargo puts it beside the folder of the test binaries.
///
/// # Errors
/// It was not built.
pub fn binary() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.ancestors().find(|folder| folder.ends_with("deps")).and_then(Path::parent);
    let folder = folder.or_else(|| test.parent()).context("the test binary has no folder")?;
    let path = folder.join(format!("cairn{}", std::env::consts::EXE_SUFFIX));
    ensure!(path.is_file(), "{} is not there; run `cargo build -p cairn` or the workspace's tests", path.display());
    Ok(path)
}

/// A home directory that goes with its test.
#[derive(Debug)]
pub struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    /// An empty home.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { folder: tempfile::tempdir()? })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `cairn ARGUMENTS` in this home.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(binary()?);
        command.args(arguments).env("CAIRN_HOME", self.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command to its end.
    pub fn output(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command(arguments)?.output()?)
    }

    /// Runs a command with `--json` to its end, which must be a success; its last line.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.output(&[arguments, &["--json"]].concat())?;
        ensure!(
            output.status.success(),
            "cairn {} ended with {}: {}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout)?;
        let last = text.lines().rfind(|line| !line.trim().is_empty()).context("no output")?;
        Ok(serde_json::from_str(last)?)
    }

    /// Starts a command with `--json` that goes on; its lines are collected.
    pub fn start(&self, arguments: &[&str]) -> anyhow::Result<Running> {
        Running::start(self.command(&[arguments, &["--json"]].concat())?)
    }
}

#[derive(Debug, Default)]
struct Lines {
    values: Vec<Value>,
    closed: bool,
}

/// A process that prints a JSON object a line, ended with its owner.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Arc<(Mutex<Lines>, Condvar)>,
}

fn locked(lines: &Mutex<Lines>) -> MutexGuard<'_, Lines> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    /// Starts `command` and listens to it.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let stdout = child.stdout.take().context("no output pipe")?;
        let lines = Arc::new((Mutex::new(Lines::default()), Condvar::new()));
        let heard = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                locked(&heard.0).values.push(value);
                heard.1.notify_all();
            }
            locked(&heard.0).closed = true;
            heard.1.notify_all();
        });
        Ok(Self { child, lines })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything said so far.
    pub fn lines(&self) -> Vec<Value> {
        locked(&self.lines.0).values.clone()
    }

    /// Waits for a line, those already said included.
    pub fn wait_for(&self, what: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        self.wait_for_after(what, within, 0, wanted)
    }

    /// Waits for a line after the first `said` ones.
    pub fn wait_for_after(
        &self,
        what: &str,
        within: Duration,
        said: usize,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let mut seen = said;
        self.wait(what, within, |lines| {
            let found = lines.get(seen..)?.iter().find(|line| wanted(line)).cloned();
            seen = lines.len();
            found
        })
    }

    /// Waits until there are `count` lines.
    pub fn wait_for_count(&self, what: &str, within: Duration, count: usize) -> anyhow::Result<()> {
        self.wait(what, within, |lines| (lines.len() >= count).then_some(()))
    }

    fn wait<T>(
        &self,
        what: &str,
        within: Duration,
        mut wanted: impl FnMut(&[Value]) -> Option<T>,
    ) -> anyhow::Result<T> {
        let end = Instant::now() + within;
        let (lines, changed) = &*self.lines;
        let mut now = locked(lines);
        loop {
            if let Some(found) = wanted(&now.values) {
                return Ok(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if now.closed || left.is_zero() {
                let said: Vec<String> = now.values.iter().map(Value::to_string).collect();
                let why = if now.closed { "the process ended" } else { "it took too long" };
                bail!("{what}: {why}; it said:\n{}", said.join("\n"));
            }
            now = changed.wait_timeout(now, left).map_or_else(|e| e.into_inner().0, |(guard, _)| guard);
        }
    }

    /// Ends the process at once, as `kill -9` does, and reaps it.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for the process to end by itself.
    pub fn finish(&mut self, within: Duration) -> anyhow::Result<std::process::ExitStatus> {
        let (lines, changed) = &*self.lines;
        let end = Instant::now() + within;
        let mut now = locked(lines);
        while !now.closed {
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "the process did not end within {within:?}");
            now = changed.wait_timeout(now, left).map_or_else(|e| e.into_inner().0, |(guard, _)| guard);
        }
        drop(now);
        Ok(self.child.wait()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
