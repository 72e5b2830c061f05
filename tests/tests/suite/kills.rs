//! `kill -9` of anybody at any moment: homes open again, chains stay whole and agree, work goes on.

use std::time::Duration;

use cairn_tests::{Home, Network, Running, fast_track};
use serde_json::Value;

/// Processes killed, one after another.
const KILLS: u64 = 10;
/// Time for the network to get something done on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// A small seeded generator: SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Waits until the process has said `more` lines more: a moment that the work chooses, not a clock.
fn let_it_say(process: &Running, more: usize) {
    let said = process.lines().len();
    process.wait_for_count("it goes on", PATIENCE, said + more).unwrap();
}

fn entries(board: &Value) -> &Vec<Value> {
    board["entries"].as_array().unwrap()
}

#[test]
fn killing_anybody_at_random_loses_at_most_the_job_in_flight() {
    let seed = std::env::var("CAIRN_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7);
    println!("CAIRN_TEST_SEED={seed}");
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut network = Network::start(&fast_track(folder.path(), 1.0).unwrap(), 4).unwrap();
    let worker_home = Home::new().unwrap();
    let mut worker = network.node(&worker_home, &["--seed", "1"]).unwrap();

    for round in 0..KILLS {
        // The sequencer is among them.
        let victim = random.below(5) as usize;
        println!("round {round}: killing {victim}");
        let_it_say(&worker, 1 + random.below(3) as usize);
        if victim < 4 {
            network.kill(victim).unwrap();
            network.restart(victim).unwrap();
        } else {
            worker.kill().unwrap();
            worker = network.node(&worker_home, &["--seed", &round.to_string()]).unwrap();
        }
    }

    // Work goes on: an entry comes after all of that.
    // One home alone was given this track's record: a verifier that was killed before it had fetched it knows none yet.
    let readable = (0..100).find_map(|_| {
        network.board(&network.homes[0]).inspect_err(|_| std::thread::sleep(std::time::Duration::from_millis(100))).ok()
    });
    let board = readable.unwrap();
    let before = entries(&board).last().map_or(0, |entry| entry["height"].as_u64().unwrap());
    let said = worker.lines().len();
    worker
        .wait_for_after("another entry", PATIENCE, said, |line| {
            line["event"] == "accepted" && line["height"].as_u64().unwrap() > before
        })
        .unwrap();

    worker.kill().unwrap();
    (0..4).for_each(|seat| network.kill(seat).unwrap());
    let mut boards: Vec<Value> = Vec::new();
    for home in network.homes.iter().chain([&worker_home]) {
        home.json(&["store", "check"]).unwrap();
        boards.push(network.board(home).unwrap());
    }
    boards.sort_by_key(|board| entries(board).len());
    for pair in boards.windows(2) {
        let shorter = entries(&pair[0]).len();
        assert_eq!(entries(&pair[0])[..], entries(&pair[1])[..shorter], "two homes disagree");
    }
    assert!(!entries(boards.last().unwrap()).is_empty());
}
