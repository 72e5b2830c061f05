//! Nodes and their GPUs: none at all, and one that begins to be wrong after it passed the gate.

use std::path::Path;
use std::time::Duration;

use cairn_store::Store;
use cairn_tests::{Home, Running, fast_track};
use serde_json::Value;

/// Time for anything on a busy machine; a gate on a software device is the longest.
const PATIENCE: Duration = Duration::from_secs(600);

/// Operations of a run of 66 steps, more than four for each segment.
const BUDGET: i64 = 5_000_000_000;

/// Starts a node that is alone with its track in `home`.
fn node(home: &Home, track: &Path, options: &[&str], environment: &[(&str, &str)]) -> Running {
    let key = home.json(&["id"]).unwrap()["verifier"].as_str().unwrap().to_string();
    let opened = home.json(&["track", "open", track.to_str().unwrap(), "--roster", &key]).unwrap();
    let id = opened["track"].as_str().unwrap();
    let listen = ["node", "--track", id, "--listen", "/ip4/127.0.0.1/tcp/0", "--threads", "1", "--json"];
    let mut command = home.command(&[&listen, options].concat()).unwrap();
    command.envs(environment.iter().copied());
    Running::start(command).unwrap()
}

fn is_gpu(line: &Value, status: &str) -> bool {
    line["event"] == "gpu" && line["status"] == status
}

#[test]
fn a_node_without_vulkan_says_so_in_one_line_and_works_on_the_processor() {
    if cfg!(not(target_os = "linux")) {
        // Elsewhere drivers come with the system.
        return;
    }
    let (folder, home) = (tempfile::tempdir().unwrap(), Home::new().unwrap());
    let track = fast_track(folder.path(), 1.0).unwrap();
    let nowhere = [("VK_ICD_FILENAMES", "/nonexistent"), ("VK_DRIVER_FILES", "/nonexistent")];
    let node = node(&home, &track, &[], &nowhere);
    let said = node.wait_for("there is no GPU", PATIENCE, |line| line["event"] == "gpu").unwrap();
    assert!(
        is_gpu(&said, "none") && said["says"].as_str().unwrap().contains("the processor does all the work"),
        "{said}"
    );
    node.wait_for("a try on the processor", PATIENCE, |line| line["event"] == "tried" && line["status"] == "done")
        .unwrap();
    assert_eq!(node.lines().iter().filter(|line| line["event"] == "gpu").count(), 1);
    assert!(node.lines().iter().all(|line| line["event"] != "trouble"), "{:?}", node.lines());
}

#[test]
fn a_device_that_turns_wrong_after_the_gate_is_caught_by_the_audit() {
    if !cfg!(all(debug_assertions, target_os = "linux")) {
        // No other build has wrong kernels, and no other system the software device that `cargo xtask test` installs.
        return;
    }
    let (folder, home) = (tempfile::tempdir().unwrap(), Home::new().unwrap());
    let track = fast_track(folder.path(), 1.0).unwrap();
    let record = std::fs::read_to_string(track.join("track.toml")).unwrap();
    let mut record: toml::Table = record.parse().unwrap();
    record.insert("budget".into(), toml::Value::Integer(BUDGET));
    std::fs::write(track.join("track.toml"), record.to_string()).unwrap();
    // The gate has no step that late, and in a run every segment has a later one.
    let fault = [("CAIRN_TEST_GPU_FAULT", "matmul:3")];
    let node = node(&home, &track, &["--gpu", "llvmpipe"], &fault);
    node.wait_for("it passes the gate", PATIENCE, |line| is_gpu(line, "passed")).unwrap();
    let caught = node.wait_for("the audit catches it", PATIENCE, |line| is_gpu(line, "demoted")).unwrap();
    assert!(caught["name"].as_str().unwrap().contains("llvmpipe"), "{caught}");
    assert!(caught["says"].as_str().unwrap().contains("goes on with the processor"), "{caught}");
    let said = node.lines().len();
    node.wait_for_after("a try on the processor", PATIENCE, said, |line| line["event"] == "tried").unwrap();

    let devices = Store::open_reader(home.path()).unwrap().devices().unwrap();
    assert!(devices.len() == 1 && devices[0].trusted().is_none() && devices[0].demoted.is_some(), "{devices:?}");
    drop(node);
}
