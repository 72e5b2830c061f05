//! Processes, their homes, and what their stores say.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use cairn_protocol::{
    AuthorSecret, Baseline, BlobId, DataBlob, Record, Text, Track, TrackId, TrackKind, VerifierKey, gate, limits,
};
use cairn_store::{BoardRow, Store};

use super::{DATA, Outcome, bytes, verifier_secret, work};

/// Lines of one process so far, and the news that there are more.
type Lines = Arc<(Mutex<Vec<String>>, Condvar)>;

struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes of one network.
pub(crate) struct Network {
    folder: tempfile::TempDir,
    track: TrackId,
    running: BTreeMap<(String, u8), Running>,
    addresses: BTreeMap<(String, u8), String>,
}

fn track() -> Outcome<Track> {
    let roster: Vec<VerifierKey> = (0..4).map(|seat| verifier_secret(seat).public()).collect();
    let track = Track {
        version: limits::WIRE_VERSION,
        arithmetic: limits::ARITHMETIC_VERSION,
        name: "drivers".try_into()?,
        title: "A test".try_into()?,
        description: Text::default(),
        kind: TrackKind::Train,
        budget: 1_000_000,
        memory: 64 << 20,
        parameters: 1000,
        source_bytes: 16 * 1024,
        literal_bits: 4096,
        seeds: 3,
        segments: limits::SEGMENTS,
        margin: work::MARGIN,
        converter: "bytes".try_into()?,
        data: vec![DataBlob { blob: BlobId::of(DATA), bytes: DATA.len() as u64 }].try_into()?,
        baseline: Baseline {
            source: work::SOURCE.try_into()?,
            graph: work::graph(work::SOURCE),
            metric: work::BASE,
            test: work::BASE,
        },
        owner: AuthorSecret::from_bytes(&bytes("author", 9)).public(),
        roster: roster.try_into()?,
        continues: None,
    };
    gate::track(&track)?;
    Ok(track)
}

impl Network {
    /// A network without processes; the first verifier's home has track and data.
    pub(crate) fn new() -> Outcome<Self> {
        let (folder, track) = (tempfile::tempdir()?, track()?);
        let network = Self { folder, track: track.id(), running: BTreeMap::new(), addresses: BTreeMap::new() };
        let mut store = Store::open(&network.home("verifier", 0))?;
        store.put_track(&track)?;
        store.blobs().put(DATA)?;
        Ok(network)
    }

    fn home(&self, kind: &str, number: u8) -> PathBuf {
        self.folder.path().join(format!("{kind}-{number}"))
    }

    /// Starts a part and waits until it listens; one that was there before comes back at its address.
    pub(crate) fn start(&mut self, kind: &str, number: u8) -> Outcome {
        let key = (kind.to_string(), number);
        let listen = self.addresses.get(&key).and_then(|address| address.split("/p2p/").next());
        let mut child = Command::new(std::env::current_exe()?)
            .args([kind, &number.to_string()])
            .arg(self.home(kind, number))
            .arg(self.track.to_string())
            .arg(listen.unwrap_or("/ip4/127.0.0.1/tcp/0"))
            .args(self.addresses.iter().filter(|(other, _)| **other != key).map(|(_, address)| address))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().ok_or("no output")?);
        let lines = Lines::default();
        let (heard, name) = (lines.clone(), format!("{kind} {number}"));
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if std::env::var_os("SHOW").is_some() {
                    println!("{name}: {line}");
                }
                let (lines, news) = &*heard;
                lines.lock().unwrap().push(line);
                news.notify_all();
            }
        });
        self.running.insert(key.clone(), Running { child, stdin, lines: lines.clone() });
        let (all, news) = &*lines;
        let listening = |lines: &mut Vec<String>| !lines.iter().any(|line| line.starts_with("Listening"));
        let (lines, _) = news.wait_timeout_while(all.lock().unwrap(), super::LONG, listening).unwrap();
        let line =
            lines.iter().find(|line| line.starts_with("Listening")).ok_or(format!("{kind} {number} is silent"))?;
        self.addresses.insert(key, line.split('"').nth(1).ok_or("no address")?.to_string());
        Ok(())
    }

    /// Kills a part as `kill -9` does.
    pub(crate) fn kill(&mut self, kind: &str, number: u8) -> Outcome {
        // Dropping kills and waits.
        self.running.remove(&(kind.to_string(), number)).map(drop).ok_or_else(|| "not running".into())
    }

    /// The leaderboard in a part's home; empty as long as there is none.
    pub(crate) fn board(&self, kind: &str, number: u8) -> Vec<BoardRow> {
        let read = Store::open_reader(&self.home(kind, number)).and_then(|store| store.leaderboard(self.track));
        read.unwrap_or_default()
    }

    /// Waits until `found` is something; news of any process is an occasion to look.
    pub(crate) fn wait<T>(&self, what: &str, most: Duration, found: impl Fn(&Self) -> Option<T>) -> Outcome<T> {
        let started = Instant::now();
        loop {
            if let Some(found) = found(self) {
                eprintln!("{what}: after {:?}", started.elapsed());
                return Ok(found);
            }
            if started.elapsed() > most {
                let tail = |lines: &Lines| lines.0.lock().unwrap().iter().rev().take(8).cloned().collect::<Vec<_>>();
                let said: Vec<_> = self.running.iter().map(|(key, running)| (key, tail(&running.lines))).collect();
                return Err(format!("waited in vain for {what}: {said:#?}").into());
            }
            if let Some(first) = self.running.values().next() {
                let (lines, news) = &*first.lines;
                drop(news.wait_timeout(lines.lock().unwrap(), Duration::from_millis(200)).unwrap());
            }
        }
    }

    /// Asks every process to stop; each must end well, and soon.
    pub(crate) fn stop(mut self) -> Outcome {
        let started = Instant::now();
        self.running.values_mut().for_each(|running| drop(running.stdin.take()));
        for ((kind, number), running) in &mut self.running {
            while running.child.try_wait()?.is_none() && started.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let status = running.child.try_wait()?.ok_or(format!("{kind} {number} does not stop"))?;
            assert!(status.success(), "{kind} {number}: {status}");
        }
        eprintln!("all stopped after {:?}", started.elapsed());
        Ok(())
    }
}
