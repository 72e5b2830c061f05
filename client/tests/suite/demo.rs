//! `demo`: real processes, what they leave behind, how they end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Home, has};

/// How long a demo may take to end after it was told to.
const END: Duration = Duration::from_secs(20);

/// A record that no run reaches, in units of 2^-24 nats.
const OUT_OF_REACH: i64 = 1_000_000;

/// A demo under way on the small track.
struct Demo {
    home: Home,
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    pids: Vec<u32>,
}

impl Demo {
    fn start(more: &[&str]) -> Self {
        let home = Home::new();
        let dir = home.small_track();
        Self::start_on(home, &dir, more)
    }

    fn start_on(home: Home, dir: &Path, more: &[&str]) -> Self {
        let temporary = home.path().join("tmp");
        fs::create_dir(&temporary).unwrap();
        let arguments = ["demo", "--json", "--track", dir.to_str().unwrap(), "--seed", "1"];
        let mut command = home.command(&[&arguments, more].concat());
        command.env("TMPDIR", &temporary).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { home, child, lines, pids: Vec::new() }
    }

    /// The next line; none at the end.
    fn next(&mut self) -> Option<Value> {
        let value: Value = serde_json::from_str(&self.lines.next()?.unwrap()).unwrap();
        if value["event"] == "started" {
            self.pids.push(u32::try_from(value["pid"].as_u64().unwrap()).unwrap());
        }
        Some(value)
    }

    /// Goes on to a line of this event.
    fn until(&mut self, event: &str) -> Value {
        loop {
            match self.next() {
                Some(value) if value["event"] == event => return value,
                Some(_) => {}
                None => panic!("the demo ended before `{event}`"),
            }
        }
    }

    /// Waits for the end of its output, then of all its processes.
    fn ended(&mut self) -> (Option<i32>, Option<Value>) {
        let mut last = None;
        while let Some(value) = self.next() {
            last = Some(value);
        }
        let status = self.child.wait().unwrap();
        let deadline = Instant::now() + END;
        while self.pids.iter().any(|pid| runs(*pid)) {
            assert!(Instant::now() < deadline, "processes outlive the demo");
            std::thread::yield_now();
        }
        (status.code(), last)
    }

    fn left_behind(&self) -> usize {
        fs::read_dir(self.home.path().join("tmp")).unwrap().count()
    }
}

/// Whether the process exists and is no zombie.
fn runs(pid: u32) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[cfg(target_os = "linux")]
fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn a_demo_ends_with_an_entry_and_leaves_only_its_record() {
    let mut demo = Demo::start(&["--entries", "1", "--verifiers", "1", "--workers", "1", "--minutes", "2"]);
    let (code, last) = demo.ended();
    let last = last.unwrap();
    has(&last, &["entries", "reports", "refused", "baseline", "head_metric", "processes", "seconds"]);
    assert_eq!(code, Some(0), "{last}");
    assert!(last["entries"].as_u64() >= Some(1) && last["reports"].as_u64() >= Some(1), "{last}");
    assert_eq!(last["processes"].as_u64(), Some(3));
    assert!(last["head_metric"].as_f64() < last["baseline"].as_f64());
    assert_eq!(demo.left_behind(), 0);
    let kept = last["home"].as_str().unwrap();
    let board = demo.home.json(&["board", "--home", kept]);
    let entry = board["head"]["id"].as_str().unwrap();
    assert_eq!(demo.home.json(&["replay", &entry[..8], "--home", kept])["verdict"], "confirmed");
    assert!(!Path::new(kept).join("keys").exists());
}

#[test]
fn a_demo_without_an_entry_says_why() {
    let home = Home::new();
    let dir = home.track_with_record(OUT_OF_REACH);
    let mut demo = Demo::start_on(home, &dir, &["--minutes", "0.05", "--verifiers", "1", "--workers", "1"]);
    let (code, last) = demo.ended();
    let last = last.unwrap();
    assert_eq!((code, last["entries"].as_u64()), (Some(4), Some(0)), "{last}");
    assert!(!last["why"].as_str().unwrap().is_empty());
    assert_eq!(demo.left_behind(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_demo_takes_its_processes_and_folders_along() {
    let mut demo = Demo::start(&["--stay", "--verifiers", "2", "--workers", "1"]);
    demo.until("tried");
    assert_eq!(demo.pids.len(), 4);
    signal(&demo.child, rustix::process::Signal::INT);
    let (_, last) = demo.ended();
    assert_eq!(last.unwrap()["processes"].as_u64(), Some(4));
    assert_eq!(demo.left_behind(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn the_processes_of_a_killed_demo_end_by_themselves_and_the_next_one_cleans_up() {
    let mut demo = Demo::start(&["--stay", "--verifiers", "1", "--workers", "1"]);
    demo.until("tried");
    signal(&demo.child, rustix::process::Signal::KILL);
    let (code, _) = demo.ended();
    assert_eq!((code, demo.left_behind()), (None, 1));
    let dir = demo.home.track_with_record(OUT_OF_REACH);
    let mut next = demo.home.command(&["demo", "--minutes", "0.02", "--track", dir.to_str().unwrap()]);
    let next = next.env("TMPDIR", demo.home.path().join("tmp")).output().unwrap();
    assert_eq!(next.status.code(), Some(4), "{}", String::from_utf8_lossy(&next.stderr));
    assert_eq!(demo.left_behind(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_demo_goes_on_without_one_worker_and_ends_without_all() {
    let mut demo = Demo::start(&["--stay", "--verifiers", "1", "--workers", "2"]);
    demo.until("tried");
    let pid = |number: u32| rustix::process::Pid::from_raw(i32::try_from(number).unwrap()).unwrap();
    // Started in this order: a verifier, two workers, the observer.
    rustix::process::kill_process(pid(demo.pids[1]), rustix::process::Signal::KILL).unwrap();
    assert_eq!(demo.until("ended")["process"], "worker 1");
    demo.until("tried");
    rustix::process::kill_process(pid(demo.pids[2]), rustix::process::Signal::KILL).unwrap();
    let (code, last) = demo.ended();
    assert_eq!(code, Some(1));
    assert!(last.unwrap()["error"].as_str().unwrap().contains("worker 2 ended early"));
    assert_eq!(demo.left_behind(), 0);
}
