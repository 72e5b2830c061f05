//! `trace` and `run`: fixed names, diagnostics, backends that agree.

use serde_json::Value;

use crate::support::{Home, has};

fn run(home: &Home, more: &[&str]) -> Value {
    let track = home.small_track();
    home.json(&[&["run", "baseline", "--track", track.to_str().unwrap()][..], more].concat())
}

#[test]
fn a_trace_has_the_fixed_names() {
    let home = Home::new();
    let traced = home.json(&["trace", "baseline", "--track", "names"]);
    has(&traced, &["graph", "nodes", "metered_step", "steps", "peak_bytes", "fuel", "literal_bits"]);
    assert_eq!(traced["graph"].as_str().unwrap().len(), 64);
    assert!(traced["steps"].as_u64().unwrap() > 16);
    let people = home.run(&["trace", "baseline"]);
    assert!(people.code == 0 && people.out.contains(traced["graph"].as_str().unwrap()), "{}", people.all());
}

#[test]
fn comments_and_local_names_change_no_graph() {
    let home = Home::new();
    let shipped = include_str!("../../../tracks/names/train.py");
    let file = home.file(
        "train.py",
        &format!("# another comment\n\n{}", shipped.replace("wpe", "places_").replace("\"places_\"", "\"wpe\"")),
    );
    let graph = |program: &str| home.json(&["trace", program, "--track", "names"])["graph"].clone();
    assert_eq!(graph(file.to_str().unwrap()), graph("baseline"));
}

#[test]
fn a_refused_program_is_a_diagnostic_with_place_and_code_2() {
    let home = Home::new();
    let file = home.file("bad.py", "from cairn import param\n\ndef model(x):\n    return undefined_name\n");
    for command in ["trace", "run"] {
        let ran = home.run(&[command, file.to_str().unwrap(), "--track", "names", "--json"]);
        assert_eq!(ran.code, 2, "{}", ran.all());
        let found = ran.last();
        has(&found, &["kind", "message", "hint", "line", "column"]);
        assert_eq!((found["line"].as_u64(), found["column"].as_u64()), (Some(4), Some(12)), "{found}");
        assert!(ran.err.contains("bad.py:4:12") && ran.err.contains('^'), "{}", ran.err);
    }
    let ran = home.run(&["trace", "baseline", "--track", "names", "--budget", "1000", "--json"]);
    assert_eq!(ran.code, 2, "over budget: {}", ran.all());
}

#[test]
fn a_program_over_its_budget_or_memory_is_refused_with_the_three_dearest_lines() {
    let home = Home::new();
    let shipped = include_str!("../../../tracks/names/train.py");
    for (batch, budget, what) in [("64", "1M", "by operations"), ("65536", "900T", "by bytes at the fullest moment")] {
        let file = home.file("large.py", &shipped.replace("BATCH = ", &format!("BATCH = {batch} # ")));
        let ran = home.run(&["run", file.to_str().unwrap(), "--track", "names", "--json", "--budget", budget]);
        let found = ran.last();
        assert_eq!((ran.code, found["kind"].as_str()), (2, Some("BudgetError")), "{}", ran.all());
        let hint = found["hint"].as_str().unwrap();
        assert!(hint.contains(what) && hint.matches("line ").count() == 3, "{hint}");
        assert!(found["line"].as_u64().unwrap() > 1 && ran.err.contains('^'), "{}", ran.err);
    }
}

#[test]
fn a_run_that_diverges_names_step_and_tensor_and_ends_with_code_5() {
    let home = Home::new();
    let shipped = include_str!("../../../tracks/names/train.py");
    let file =
        home.file("wild.py", &format!("{shipped}\nfrom cairn import sgd\ndef optimizer():\n    return sgd(lr=1e30)\n"));
    let ran = home.run(&["run", file.to_str().unwrap(), "--track", "names", "--json"]);
    assert_eq!(ran.code, 5, "{}", ran.all());
    let found = ran.last();
    let (step, tensor) = (found["step"].as_u64().unwrap(), found["tensor"].as_str().unwrap());
    assert!(step > 0 && !tensor.is_empty(), "{found}");
    assert!(ran.err.contains(&format!("diverged at step {step}: `{tensor}`")), "{}", ran.err);
    assert!(found["hint"].as_str().unwrap().contains("learning rate"));
}

#[test]
fn a_run_has_the_fixed_names_and_one_root_on_every_backend() {
    let home = Home::new();
    let first = run(&home, &["--threads", "1"]);
    has(
        &first,
        &[
            "metric",
            "metric_units",
            "test_metric",
            "trace_root",
            "graph",
            "steps",
            "metered",
            "peak_bytes",
            "seconds",
            "backend",
            "isa",
            "threads",
        ],
    );
    assert!(first["metric"].is_f64() && first["metric_units"].is_i64());
    assert_eq!(first["metric"].as_f64().unwrap(), first["metric_units"].as_i64().unwrap() as f64 / f64::from(1 << 24));
    for options in [
        &["--backend", "reference"][..],
        &["--threads", "2"],
        &["--isa", "scalar"],
        &["--no-fuse"],
        &["--micro-batch", "2"],
    ] {
        let other = run(&home, options);
        assert_eq!(other["trace_root"], first["trace_root"], "{options:?}");
        assert_eq!(other["metric_units"], first["metric_units"], "{options:?}");
    }
    assert_ne!(run(&home, &["--seed", "2"])["trace_root"], first["trace_root"]);
}

#[test]
fn an_instruction_set_that_is_lacking_is_an_error_that_says_so() {
    let home = Home::new();
    let isas = home.json(&["doctor"])["isas"].clone();
    let has: Vec<&str> = isas.as_array().unwrap().iter().map(|isa| isa.as_str().unwrap()).collect();
    assert!(has.contains(&"scalar"));
    for isa in ["avx2", "avx512"] {
        if has.contains(&isa) {
            assert_eq!(run(&home, &["--isa", isa])["isa"], isa);
        } else {
            let ran = home.run(&["run", "baseline", "--track", "names", "--isa", isa]);
            assert_eq!(ran.code, 1);
            assert!(ran.err.contains(&format!("this processor has no {isa}")), "{}", ran.err);
        }
    }
}

#[test]
fn doctor_finds_a_fresh_home_sound() {
    let home = Home::new();
    let found = home.json(&["doctor"]);
    has(&found, &["ok", "version", "wire", "arithmetic", "threads", "isas", "home", "findings", "conformance"]);
    let roots: Vec<&Value> = found["conformance"].as_array().unwrap().iter().map(|run| &run["trace_root"]).collect();
    assert!(roots.len() >= 3 && roots.iter().all(|root| *root == roots[0]), "{found}");
}

#[test]
fn a_missing_file_is_named() {
    let home = Home::new();
    let ran = home.run(&["run", "no-such.py", "--track", "names"]);
    assert!(ran.code == 1 && ran.err.contains("cannot read no-such.py"), "{}", ran.all());
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_run_ends_at_once_with_130_and_takes_its_job_along() {
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    let home = Home::new();
    // Hours of work.
    let arguments = ["run", "baseline", "--track", "names", "--budget", "900T", "--threads", "1", "--json"];
    let mut child = home.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let tasks = format!("/proc/{0}/task/{0}/children", child.id());
    let started = Instant::now();
    let job = loop {
        let children = std::fs::read_to_string(&tasks).unwrap();
        if let Some(job) = children.split_whitespace().next() {
            break job.to_string();
        }
        assert!(started.elapsed() < Duration::from_secs(30), "no job was started");
        std::thread::yield_now();
    };
    let asked = Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert!(!std::path::Path::new("/proc").join(job).exists(), "the job is left behind");
}
