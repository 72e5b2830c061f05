//! ARCHITECTURE.md's arrows, read back from `cargo metadata`.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Who may import whom; every crate may import `cairn-protocol`, the last three may import anything.
const ALLOWED: &[(&str, &[&str])] = &[
    ("cairn-protocol", &[]),
    ("cairn-engine", &[]),
    ("cairn-program", &["cairn-engine"]),
    ("cairn-store", &[]),
    ("cairn-net", &[]),
    ("cairn-node", &["cairn-program", "cairn-engine", "cairn-store", "cairn-net"]),
    ("cairn-verifier", &["cairn-program", "cairn-engine", "cairn-store", "cairn-net"]),
];
const FREE: &[&str] = &["cairn", "cairn-tests", "xtask"];

/// Edges between workspace crates (build and test dependencies included) that the table does not allow.
fn forbidden_edges(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
    let mut found = Vec::new();
    for package in packages {
        let from = package["name"].as_str().unwrap();
        if FREE.contains(&from) {
            continue;
        }
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == from) else {
            found.push(format!("{from}: not in the table"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            let protocol = to == "cairn-protocol" && from != to;
            // A crate's tests may turn its own features on.
            let own_tests = from == to && dependency["kind"] == "dev";
            if names.contains(to) && !protocol && !own_tests && !allowed.contains(&to) {
                found.push(format!("{from} -> {to}"));
            }
        }
    }
    found
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_dependency_edge_is_one_the_architecture_allows() {
    assert_eq!(forbidden_edges(&metadata()), Vec::<String>::new());
}

#[test]
fn an_edge_the_wrong_way_is_found() {
    let mut metadata = metadata();
    let packages = metadata["packages"].as_array_mut().unwrap();
    let store = packages.iter_mut().find(|p| p["name"] == "cairn-store").unwrap();
    store["dependencies"].as_array_mut().unwrap().push(serde_json::json!({ "name": "cairn-net" }));
    assert_eq!(forbidden_edges(&metadata), ["cairn-store -> cairn-net"]);
}

#[test]
fn only_net_names_libp2p() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let names_it = package["dependencies"].as_array().unwrap().iter().any(|d| d["name"] == "libp2p");
        assert_eq!(names_it, package["name"] == "cairn-net", "{}", package["name"]);
    }
}
