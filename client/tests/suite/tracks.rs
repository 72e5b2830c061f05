//! A track of one's own: check and open.

use std::fs;

use crate::support::{BUDGET, Home, has};

fn keys(count: u8) -> String {
    // Any 32 bytes name a seat; these seats sign nothing.
    (1..=count).map(|key| format!("{key:02x}").repeat(32)).collect::<Vec<_>>().join(",")
}

#[test]
fn a_sound_folder_is_checked_and_opened() {
    let home = Home::new();
    let dir = home.small_track();
    let dir = dir.to_str().unwrap();
    let checked = home.json(&["track", "check", dir]);
    has(&checked, &["ok", "graph", "steps", "metered", "budget", "peak_bytes", "data", "warnings"]);
    assert!(checked["metered"].as_u64() <= checked["budget"].as_u64());
    let opened = home.json(&["track", "open", dir, "--roster", &keys(4)]);
    let id = opened["track"].as_str().unwrap();
    assert_eq!(id.len(), 64);
    assert_eq!(home.json(&["track", "open", dir, "--roster", &keys(4)]), opened, "the same record has the same id");
    let other = Home::new();
    let owner = opened["owner"].as_str().unwrap();
    let same = other.json(&["track", "open", dir, "--roster", &keys(4), "--owner", owner]);
    assert_eq!(same["track"], id, "the id depends on the record alone");
    // Now it is known by name, by id, by prefix, and as the only one.
    for named in [Some("small"), Some(id), Some(&id[..6]), None] {
        let board = home.json(&[&["board"][..], named.as_slice()].concat());
        assert_eq!(board["track"], id, "{named:?}");
        assert_eq!(board["head"]["id"], "baseline");
        assert_eq!(board["entries"].as_array().unwrap().len(), 0);
    }
    let ran = home.run(&["board", "nope"]);
    assert!(ran.code == 2 && ran.err.contains("nope"), "{}", ran.all());
    assert_eq!(home.json(&["store", "check"])["blobs"], 1);
    assert_eq!(home.json(&["store", "rebuild"])["ok"], true);
    let source = home.run(&["show", "baseline", "--source"]).out;
    assert_eq!(source, fs::read_to_string(format!("{dir}/train.py")).unwrap());
}

#[test]
fn what_does_not_fit_is_named() {
    let home = Home::new();
    let dir = home.small_track();
    let check = || home.run(&["track", "check", dir.to_str().unwrap()]);
    let good = fs::read_to_string(dir.join("track.toml")).unwrap();
    assert!(good.contains(&BUDGET.to_string()));
    for (from, to, word) in [
        ("budget = ", "buget = ", "did you mean `budget`?"),
        ("\"data/names.txt\"", "\"../names.txt\"", "not a file of the folder"),
        ("\"data/names.txt\"", "\"data/none.txt\"", "none.txt"),
        ("converter = \"names\"", "converter = \"nmaes\"", "no converter `nmaes`"),
        ("name = \"small\"", "name = \"Small One\"", "a-z"),
    ] {
        assert!(good.contains(from), "{from} not in {good}");
        fs::write(dir.join("track.toml"), good.replace(from, to)).unwrap();
        let ran = check();
        assert_eq!(ran.code, 1, "{to}: {}", ran.all());
        assert!(ran.err.contains(word), "{to}: {}", ran.err);
    }
    fs::write(dir.join("track.toml"), good.replace(&BUDGET.to_string(), "1000")).unwrap();
    let ran = check();
    assert_eq!(ran.code, 2, "over budget: {}", ran.all());
    fs::remove_file(dir.join("track.toml")).unwrap();
    let ran = check();
    assert!(ran.code == 1 && ran.err.contains("track.toml is not there"), "{}", ran.all());
}

#[test]
fn a_roster_with_one_key_twice_is_refused() {
    let home = Home::new();
    let dir = home.small_track();
    let twice = format!("{},{}", keys(1), keys(1));
    let ran = home.run(&["track", "open", dir.to_str().unwrap(), "--roster", &twice]);
    assert!(ran.code == 1 && ran.err.contains("twice"), "{}", ran.all());
    let ran = home.run(&["track", "open", dir.to_str().unwrap(), "--roster", "abc"]);
    assert!(ran.code == 2 && ran.err.contains("64 hexadecimal digits"), "{}", ran.all());
}
