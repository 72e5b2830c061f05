//! Processes, their homes, and what their stores say.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cairn_protocol::{
    AuthorSecret, Baseline, BlobId, DataBlob, Record, Text, Track, TrackId, TrackKind, VerifierKey, gate, limits,
};
use cairn_store::{BoardRow, Device, Store};

use super::{DATA, Outcome, bytes, verifier_secret, work};

/// Kind and number of a process.
type Part = (String, u8);

/// What all processes said so far, and the news that there is more.
#[derive(Clone, Default)]
struct News(Arc<(Mutex<BTreeMap<Part, Said>>, Condvar)>);

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

fn said(told: &BTreeMap<Part, Said>, kind: &str, number: u8, words: &str) -> bool {
    let said = told.get(&(kind.to_string(), number));
    said.is_some_and(|said| said.lines.iter().any(|line| line.contains(words)))
}

impl News {
    fn told(&self) -> MutexGuard<'_, BTreeMap<Part, Said>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, part: &Part, what: impl FnOnce(&mut Said)) {
        what(self.told().entry(part.clone()).or_default());
        self.0.1.notify_all();
    }

    /// Waits for `found` in what was said, which is looked at when there is more and now and then.
    fn wait<T>(&self, most: Duration, mut found: impl FnMut(&BTreeMap<Part, Said>) -> Option<T>) -> Option<T> {
        let started = Instant::now();
        let mut told = self.told();
        loop {
            if let Some(found) = found(&told) {
                return Some(found);
            }
            let left = most.checked_sub(started.elapsed())?;
            let waited = self.0.1.wait_timeout(told, left.min(Duration::from_millis(200)));
            told = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Listens to one process until it ends.
    fn listen(&self, part: Part, stdout: ChildStdout) {
        let news = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if std::env::var_os("SHOW").is_some() {
                    println!("{part:?}: {line}");
                }
                news.tell(&part, |said| said.lines.push(line));
            }
            news.tell(&part, |said| said.ended = true);
        });
    }
}

struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
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
    running: BTreeMap<Part, Running>,
    addresses: BTreeMap<Part, String>,
    news: News,
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
        let network = Self {
            folder,
            track: track.id(),
            running: BTreeMap::new(),
            addresses: BTreeMap::new(),
            news: News::default(),
        };
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
        self.running.insert(key.clone(), Running { child, stdin });
        self.news.tell(&key, |said| *said = Said::default());
        self.news.listen(key.clone(), stdout);
        let address = |told: &BTreeMap<Part, Said>| {
            let line = told.get(&key)?.lines.iter().find(|line| line.starts_with("Listening"))?;
            line.split('"').nth(1).map(str::to_string)
        };
        let address = self.news.wait(super::LONG, address).ok_or(format!("{kind} {number} is silent"))?;
        self.addresses.insert(key, address);
        Ok(())
    }

    /// Kills a part as `kill -9` does.
    pub(crate) fn kill(&mut self, kind: &str, number: u8) -> Outcome {
        let key = (kind.to_string(), number);
        // Dropping kills and waits.
        self.running.remove(&key).map(drop).ok_or("not running")?;
        let ended = |told: &BTreeMap<Part, Said>| told.get(&key).filter(|said| said.ended).map(drop);
        self.news.wait(super::LONG, ended).ok_or_else(|| "its output goes on".into())
    }

    /// The leaderboard in a part's home; empty as long as there is none.
    pub(crate) fn board(&self, kind: &str, number: u8) -> Vec<BoardRow> {
        let read = Store::open_reader(&self.home(kind, number)).and_then(|store| store.leaderboard(self.track));
        read.unwrap_or_default()
    }

    /// Whether a part said these words since it was started.
    pub(crate) fn said(&self, kind: &str, number: u8, words: &str) -> bool {
        said(&self.news.told(), kind, number, words)
    }

    /// Waits until one of these parts says these words: its number.
    pub(crate) fn wait_said(&self, kind: &str, numbers: &[u8], words: &str) -> Outcome<u8> {
        let found =
            |told: &BTreeMap<Part, Said>| numbers.iter().copied().find(|&number| said(told, kind, number, words));
        let number = self.news.wait(super::LONG, found);
        number.ok_or_else(|| format!("no {kind} of {numbers:?} says `{words}`: {:#?}", self.tails()).into())
    }

    /// The last lines of each part.
    fn tails(&self) -> Vec<(Part, Vec<String>)> {
        let tail = |said: &Said| said.lines.iter().rev().take(8).cloned().collect::<Vec<_>>();
        self.news.told().iter().map(|(part, said)| (part.clone(), tail(said))).collect()
    }

    /// What a part's home knows of devices.
    pub(crate) fn devices(&self, kind: &str, number: u8) -> Vec<Device> {
        Store::open_reader(&self.home(kind, number)).and_then(|store| store.devices()).unwrap_or_default()
    }

    /// Waits until `found` is something; news of any process is an occasion to look.
    pub(crate) fn wait<T>(&self, what: &str, most: Duration, found: impl Fn(&Self) -> Option<T>) -> Outcome<T> {
        let started = Instant::now();
        let Some(found) = self.news.wait(most, |_| found(self)) else {
            return Err(format!("waited in vain for {what}: {:#?}", self.tails()).into());
        };
        eprintln!("{what}: after {:?}", started.elapsed());
        Ok(found)
    }

    /// Asks every process to stop; each must end well, and soon.
    pub(crate) fn stop(mut self) -> Outcome {
        let started = Instant::now();
        self.running.values_mut().for_each(|running| drop(running.stdin.take()));
        let ended = |told: &BTreeMap<Part, Said>| {
            self.running.keys().all(|part| told.get(part).is_some_and(|said| said.ended)).then_some(())
        };
        self.news.wait(Duration::from_secs(20), ended).ok_or("not all processes stop")?;
        for ((kind, number), running) in &mut self.running {
            let status = running.child.wait()?;
            assert!(status.success(), "{kind} {number}: {status}");
        }
        eprintln!("all stopped after {:?}", started.elapsed());
        Ok(())
    }
}
