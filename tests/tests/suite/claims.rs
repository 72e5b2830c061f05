//! Claims over a real network: an honest one is accepted, each lie is refused, and anyone can recompute the result.

use std::process::Command;
use std::time::Duration;

use cairn_tests::{Home, Network, Running, fast_track};
use serde_json::Value;

/// Time for a claim to be settled on a busy machine.
const SETTLED: Duration = Duration::from_secs(180);

/// How the claim of a worker of this kind ends.
fn claimed(network: &Network, kind: &str) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adversary"));
    command.args([kind, &network.track]).args(&network.addresses);
    let worker = Running::start(command).unwrap();
    worker.wait_for(kind, SETTLED, |line| line["event"] == "ended").unwrap()
}

#[test]
fn lies_are_refused_and_an_honest_claim_is_replayed_by_a_stranger() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network::start(&fast_track(folder.path(), 1.0).unwrap(), 4).unwrap();

    for (kind, outcome) in [
        ("forge_ticket", "not queued"),
        ("bit_flip", "refused"),
        ("forge_trace", "refused"),
        ("forge_metric", "refused"),
        ("honest", "accepted"),
    ] {
        let ended = claimed(&network, kind);
        assert_eq!(ended["outcome"], outcome, "{kind}: {ended}");
    }

    // An observer that comes afterwards rebuilds the same board from its peers.
    let (home, verifier) = (Home::new().unwrap(), &network.homes[0]);
    let observer = network.node(&home, &["--observe"]).unwrap();
    observer.wait_for("the chain is here", SETTLED, |line| line["event"] == "accepted" || line["height"] == 8).unwrap();
    let board = eventually(|| {
        let board = network.board(&home).ok()?;
        (board["entries"].as_array()?.len() == 1).then_some(board)
    });
    assert_eq!(board["entries"], network.board(verifier).unwrap()["entries"]);
    assert_eq!(board["head"], network.board(verifier).unwrap()["head"]);

    // A home that has never seen the run recomputes it, bit for bit.
    let entry = board["head"]["id"].as_str().unwrap();
    let replay = eventually(|| home.json(&["replay", entry, "--threads", "1"]).ok());
    assert_eq!(replay["verdict"], "confirmed", "{replay}");
    assert_eq!(replay["metric_units"], claim_of(&board), "{replay}");
    assert_eq!(replay["segments_checked"], 48, "{replay}");
}

fn claim_of(board: &Value) -> i64 {
    let metric = board["entries"][0]["metric"].as_f64().unwrap();
    (metric * f64::from(1 << 24)).round() as i64
}

/// Asks until there is an answer.
fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + SETTLED;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(std::time::Instant::now() < end, "nothing within {SETTLED:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
