//! The drivers of verifier and node as real processes over loopback, with jobs that compute nothing costly.
//!
//! One binary plays every part: without arguments it is the test, which starts itself as verifiers and
//! nodes; those start it again as jobs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod network;
mod work;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cairn_program::job::child_main;
use cairn_protocol::{AuthorSecret, PeerSecret, TrackId, VerifierSecret, hash};
use network::Network;
use tokio::sync::{mpsc, watch};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The track's raw data.
pub(crate) const DATA: &[u8] = b"the data of the test";
/// Longest wait for anything, on a busy machine.
const LONG: Duration = Duration::from_secs(120);

fn bytes(kind: &str, number: u8) -> [u8; 32] {
    hash("test key", &[kind.as_bytes(), &[number]])
}

fn verifier_secret(seat: u8) -> VerifierSecret {
    VerifierSecret::from_bytes(&bytes("verifier", seat))
}

fn peer(kind: &str, number: u8) -> PeerSecret {
    PeerSecret::from_bytes(&bytes(kind, number))
}

/// What a child process is told: kind, number, home, track, listen address, bootstrap addresses.
struct Part {
    kind: String,
    number: u8,
    home: PathBuf,
    track: TrackId,
    listen: String,
    bootstrap: Vec<String>,
}

impl Part {
    fn read(arguments: &[String]) -> Option<Self> {
        let [_, kind, number, home, track, listen, bootstrap @ ..] = arguments else { return None };
        Some(Self {
            kind: kind.clone(),
            number: number.parse().ok()?,
            home: home.into(),
            track: track.parse().ok()?,
            listen: listen.clone(),
            bootstrap: bootstrap.to_vec(),
        })
    }
}

/// Tells what happens on standard output, a line each.
async fn tell<T: std::fmt::Debug>(mut told: mpsc::Receiver<T>) {
    while let Some(told) = told.recv().await {
        println!("{told:?}");
    }
}

async fn verifier(part: Part, stop: watch::Receiver<bool>) -> Outcome {
    let (events, told) = mpsc::channel(16);
    tokio::spawn(tell(told));
    let config = cairn_verifier::driver::Config {
        home: part.home,
        exe: std::env::current_exe()?,
        track: part.track,
        secret: verifier_secret(part.number),
        peer: peer("verifier", part.number),
        listen: vec![part.listen],
        bootstrap: part.bootstrap,
        threads: 1,
    };
    Ok(cairn_verifier::driver::run(config, events, stop).await?)
}

async fn node(part: Part, stop: watch::Receiver<bool>) -> Outcome {
    let (events, told) = mpsc::channel(16);
    tokio::spawn(tell(told));
    let worker = part.kind == "worker";
    let config = cairn_node::driver::Config {
        home: part.home,
        exe: std::env::current_exe()?,
        track: part.track,
        author: worker.then(|| AuthorSecret::from_bytes(&bytes("author", part.number))),
        peer: peer(&part.kind, part.number),
        listen: vec![part.listen],
        bootstrap: part.bootstrap,
        threads: 1,
        gpu: cairn_node::driver::Gpu::of("fake"),
        research: worker,
        seed: Some(7),
        proposer: cairn_node::driver::Options::default(),
    };
    Ok(cairn_node::driver::run(config, events, stop).await?)
}

/// A child stops when its input ends, as when the test itself is killed.
fn child(part: Part) -> Outcome {
    tokio::runtime::Runtime::new()?.block_on(async {
        let (sender, stop) = watch::channel(false);
        std::thread::spawn(move || {
            let _ = std::io::read_to_string(std::io::stdin());
            let _ = sender.send(true);
        });
        if part.kind == "verifier" { verifier(part, stop).await } else { node(part, stop).await }
    })
}

/// Four verifiers, of whom one alone has track and data, two workers, and an observer who comes late.
fn strangers_do_research() -> Outcome {
    let mut network = Network::new()?;
    for seat in 0..4 {
        network.start("verifier", seat)?;
    }
    network.start("worker", 0)?;
    network.start("worker", 1)?;
    let entries = network.wait("an entry at a worker", LONG, |n| {
        let board = n.board("worker", 0);
        (!board.is_empty()).then_some(board)
    })?;
    assert!(
        entries.windows(2).all(|pair| pair[1].metric <= pair[0].metric - work::MARGIN),
        "each beats the one before"
    );
    // Their device is wrong in official runs only: the audit before a signature catches it, and nothing wrong is
    // claimed.
    for number in [0, 1] {
        network.wait_said("worker", &[number], "status: Passed")?;
    }
    let caught = network.wait_said("worker", &[0, 1], "status: Demoted")?;
    let device = network.wait("the store knows", LONG, |n| {
        n.devices("worker", caught).into_iter().find(|device| device.demoted.is_some())
    })?;
    assert!(device.trusted().is_none(), "{device:?}");
    for number in [0, 1] {
        assert!(!network.said("worker", number, "Refuted("), "worker {number} claimed what its device got wrong");
    }
    network.start("observer", 0)?;
    network.wait("the observer's board", LONG, |n| n.board("observer", 0).starts_with(&entries).then_some(()))?;
    // kill -9 of the sequencer, a verifier and a worker: they go on from their homes.
    for (kind, number) in [("verifier", 0), ("verifier", 2), ("worker", 0), ("worker", 1)] {
        network.kill(kind, number)?;
        network.start(kind, number)?;
    }
    let before = network.board("observer", 0).len();
    network.wait("another entry after the kills", LONG, |n| (n.board("observer", 0).len() > before).then_some(()))?;
    let all: Vec<(&str, u8)> =
        vec![("verifier", 0), ("verifier", 1), ("verifier", 2), ("verifier", 3), ("worker", 0), ("worker", 1)];
    let longest = network.board("observer", 0);
    assert!(
        longest.windows(2).all(|pair| pair[1].metric <= pair[0].metric - work::MARGIN),
        "each beats the one before"
    );
    eprintln!("{} entries", longest.len());
    for (kind, number) in all {
        let board = network.board(kind, number);
        let shared = board.len().min(longest.len());
        assert_eq!(board[..shared], longest[..shared], "{kind} {number} has another board");
    }
    network.stop()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, job, memory, cpu] = arguments.as_slice()
        && job == "job"
    {
        let number = |text: &str| text.parse().unwrap_or(0);
        return child_main(number(memory), number(cpu), &mut work::work);
    }
    let result = match Part::read(&arguments) {
        Some(part) => child(part),
        None => strangers_do_research(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
