//! Commands and GPUs: which one is meant, and what happens where there is none.

use crate::support::{Home, Ran, has};

/// A command on a machine without any driver.
fn without_drivers(home: &Home, arguments: &[&str]) -> Ran {
    let mut command = home.command(arguments);
    command.env("VK_ICD_FILENAMES", "/nonexistent").env("VK_DRIVER_FILES", "/nonexistent");
    command.output().unwrap().into()
}

#[test]
fn a_machine_without_a_gpu_is_told_what_to_install() {
    if cfg!(not(target_os = "linux")) {
        // Elsewhere drivers come with the system.
        return;
    }
    let home = Home::new();
    let ran = without_drivers(&home, &["doctor"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let line = ran.out.lines().find(|line| line.contains(" gpu ")).unwrap();
    assert!(line.starts_with("ok") && line.contains("the processor does all the work"), "{line}");
    assert!(line.contains("libvulkan1") && line.contains("mesa-vulkan-drivers"), "{line}");
    let doctor = without_drivers(&home, &["doctor", "--json"]).last();
    assert_eq!(doctor["gpus"], serde_json::json!([]));

    let track = home.small_track();
    let run = ["run", "baseline", "--track", track.to_str().unwrap(), "--backend", "gpu"];
    let ran = without_drivers(&home, &run);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(ran.err.contains("no GPU that can be used") && ran.err.contains("libvulkan1"), "{}", ran.err);
}

#[test]
fn a_gpu_that_is_not_there_or_not_asked_for_is_an_error() {
    let home = Home::new();
    let ran = home.run(&["run", "baseline", "--gpu", "x"]);
    assert!(ran.code == 2 && ran.err.contains("--backend gpu"), "{}", ran.all());
    let adapters = home.json(&["doctor", "--gpu", "auto"])["gpus"].as_array().unwrap().clone();
    for adapter in &adapters {
        has(adapter, &["key", "name", "driver", "backend", "kind", "binding_bytes", "conformance", "form"]);
    }
    if let Some(adapter) = adapters.first() {
        for command in [&["doctor", "--gpu", "abacus"][..], &["run", "baseline", "--backend", "gpu", "--gpu", "abacus"]]
        {
            let ran = home.run(command);
            assert!(ran.code == 2 && ran.err.contains("`abacus`"), "{}", ran.all());
            assert!(ran.err.contains(adapter["name"].as_str().unwrap()), "{}", ran.err);
        }
    }
}

#[test]
fn nobody_looks_for_a_gpu_that_is_off() {
    let home = Home::new();
    let ran = home.run(&["doctor", "--gpu", "off"]);
    assert!(ran.code == 0 && ran.out.contains("not looked at"), "{}", ran.all());
}
