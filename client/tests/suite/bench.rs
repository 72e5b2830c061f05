//! `cairn bench`: that every part runs and says all that is documented; not how fast.

use serde_json::Value;

use crate::support::{Home, has};

const SPREAD: [&str; 3] = ["median", "low", "high"];

/// The rows of a part, of which there must be some.
fn rows<'a>(found: &'a Value, part: &str) -> &'a [Value] {
    let rows = found[part].as_array().unwrap();
    assert!(!rows.is_empty(), "{part} is empty");
    rows
}

fn positive(value: &Value, what: &str) {
    assert!(value.as_f64().is_some_and(|value| value > 0.0 && value.is_finite()), "{what}: {value}");
}

#[test]
fn a_quick_bench_gives_every_documented_field() {
    let home = Home::new();
    let found = home.json(&["bench", "--quick", "--ops", "--threads", "1,2"]);
    has(&found, &["version", "processor", "processors", "isas", "quick", "pairs", "against"]);
    for row in rows(&found, "peak") {
        has(row, &["isa", "gflops"]);
        positive(&row["gflops"], "peak");
    }
    for row in rows(&found, "products") {
        has(row, &["kind", "shape", "gflops", "share"]);
        has(&row["share"], &SPREAD);
        positive(&row["share"]["median"], "share");
    }
    let steps = rows(&found, "steps");
    assert_eq!(steps.iter().map(|row| row["threads"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    for row in steps {
        has(row, &["model", "parameters", "examples", "threads", "ms", "examples_per_second", "cpu_ms", "speedup"]);
        has(&row["ms"], &SPREAD);
        positive(&row["examples_per_second"], "speed");
        positive(&row["parameters"], "parameters");
    }
    for row in rows(&found, "memory") {
        has(row, &["model", "priced_bytes", "planned_bytes", "grown_bytes", "peak_rss_bytes"]);
        positive(&row["planned_bytes"], "planned");
    }
    has(&found["hashes"], &["track", "steps", "step_ms", "hash_ms", "share"]);
    let share = found["hashes"]["share"].as_f64().unwrap();
    assert!(share > 0.0 && share < 1.0, "{share}");
    for row in rows(&found, "ops") {
        has(row, &["op", "metered", "ms", "against_product"]);
        positive(&row["against_product"]["median"], row["op"].as_str().unwrap());
    }
}

#[test]
fn a_part_alone_is_a_table_for_people_or_markdown() {
    let home = Home::new();
    let plain = home.run(&["bench", "--quick", "--only", "peak"]);
    assert_eq!(plain.code, 0, "{}", plain.all());
    assert!(plain.out.contains("GFLOP/s") && !plain.out.contains("products"), "{}", plain.out);
    let markdown = home.run(&["bench", "--quick", "--only", "peak", "--markdown"]);
    assert!(markdown.out.contains("\n### ") && markdown.out.contains("| scalar"), "{}", markdown.out);
}

/// Stands in for PyTorch: takes the model as the script does, trains nothing.
const FAKE: &str = r#"#!/bin/sh
head -n 1 > /dev/null
echo '{"ready": "Fake 1.0", "idle_rss_bytes": 1000}'
while read line; do
    case "$line" in *steps*) echo '{"seconds": 0.5, "cpu_seconds": 0.5, "loss": LOSS, "peak_rss_bytes": 5000}';; esac
done
"#;

#[cfg(unix)]
fn fake(home: &Home, name: &str, loss: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = home.file(name, &FAKE.replace("LOSS", loss));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[cfg(unix)]
#[test]
fn another_system_is_compared_only_if_it_trains_the_same() {
    let home = Home::new();
    let bench = |python: &str| {
        let options = ["--quick", "--only", "against", "--against", "torch", "--no-compile", "--threads", "1"];
        home.run(&[&["bench", "--json", "--python", python], &options[..]].concat())
    };
    let other = bench(&fake(&home, "other", "9.5"));
    assert_eq!(other.code, 1, "{}", other.all());
    assert!(other.last()["error"].as_str().unwrap().contains("9.5"), "{}", other.out);
    let missing = bench("no-such-python");
    assert_eq!(missing.code, 1);
    assert!(missing.last()["error"].as_str().unwrap().contains("no-such-python"), "{}", missing.out);
    // The loss of the model that is trained after three steps.
    let loss =
        other.last()["error"].as_str().unwrap().split("is ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let same = bench(&fake(&home, "same", loss.trim_end_matches(',')));
    assert_eq!(same.code, 0, "{}", same.all());
    let rows = same.last();
    let [row] = &rows["against"].as_array().unwrap()[..] else { panic!("{rows}") };
    has(
        row,
        &[
            "model",
            "peer",
            "version",
            "threads",
            "ratio",
            "cpu_ratio",
            "ms",
            "peer_ms",
            "examples_per_second",
            "peer_examples_per_second",
            "cpu_ms",
            "peer_cpu_ms",
            "peak_rss_bytes",
            "peer_peak_rss_bytes",
            "peer_idle_rss_bytes",
            "loss",
            "peer_loss",
        ],
    );
    assert_eq!((&row["peer"], &row["version"]), (&"torch eager".into(), &"Fake 1.0".into()));
    positive(&row["ratio"]["median"], "ratio");
}
