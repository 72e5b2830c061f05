//! The conformance gate: every adapter passes it, and a kernel that is wrong in one bit of one element does not.

use std::process::Command;

use cairn_engine::gpu::adapters;
use cairn_engine::gpu::gate::{Verdict, examine, fingerprint};
use cairn_engine::run::Control;

use super::choices;

/// Told to builds with debug assertions: an operation that is to be wrong, from a step on.
const FAULT: &str = "CAIRN_TEST_GPU_FAULT";

#[test]
fn every_adapter_passes_the_gate() {
    for choice in choices() {
        let name = &adapters()[usize::from(choice.adapter)].name;
        let (mut last, mut parts) = (0, 0);
        let started = std::time::Instant::now();
        let verdict = examine(choice.adapter, &mut |progress| {
            assert!(progress.done <= progress.of && progress.done >= last, "{progress:?}");
            println!("{:6.2} s: {}", started.elapsed().as_secs_f64(), progress.what);
            (last, parts) = (progress.done, parts + 1);
            Control::Continue
        });
        match verdict.unwrap() {
            Verdict::Passed { form, speed, compared } => {
                println!("{name}: {form:?}, {:.1} GFLOPS, {compared} numbers in {parts} parts", speed as f64 / 1e9);
                assert!(compared > 60 << 20 && speed > 0);
            }
            Verdict::Failed(difference) => panic!("{name} fails: {difference}"),
        }
    }
}

#[test]
fn an_examination_can_be_stopped() {
    let mut parts = 0;
    let stopped = examine(choices()[0].adapter, &mut |_| {
        parts += 1;
        if parts < 2 { Control::Continue } else { Control::Stop }
    });
    assert!(stopped.unwrap_err().to_string().contains("stopped") && parts == 2);
}

/// The test above, in a process of its own with a wrong kernel: what it says.
fn gate_with(fault: &str) -> String {
    let test = "gpu::gate::every_adapter_passes_the_gate";
    let ran = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(FAULT, fault)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(said.contains("1 test") && !said.contains("filtered out; finished in 0.00s"), "{said}");
    if ran.status.success() { "it passes".into() } else { said }
}

#[test]
fn one_wrong_bit_is_caught() {
    if !cfg!(debug_assertions) {
        // Such a build has no wrong kernels.
        return;
    }
    for (fault, words) in [
        ("exp", ["fails: exp", "1 of 262144 numbers differ, number 0 first"]),
        ("softmax", ["fails: softmax", "number 0 first"]),
        ("matmul", ["fails: matmul nn in `products", "number 0 first"]),
    ] {
        let said = gate_with(fault);
        assert!(words.iter().all(|word| said.contains(word)), "{fault}: {said}");
    }
}

#[test]
fn the_fingerprint_needs_no_device_and_stays() {
    assert_eq!(fingerprint().unwrap(), fingerprint().unwrap());
}
