//! `cairn doctor`: what works here, and what to do about what does not.

use std::path::Path;
use std::time::Instant;

use cairn_node::driver::Gpu;
use cairn_program::job::{BackendChoice, Outcome};
use cairn_protocol::limits::{ARITHMETIC_VERSION, WIRE_VERSION};
use cairn_protocol::{Hash32, Seed, Text};
use serde_json::{Value, json};

use crate::cli::Doctor;
use crate::context::{Context, processors};
use crate::failure::Failure;
use crate::format;
use crate::gpu::{self, Known};
use crate::home::KeyKind;
use crate::jobs::{self, Program};
use crate::output::Tone;
use crate::tracks::{Definition, Rules};

/// Operations of the run that every backend repeats: a second at most, also for the slowest.
const PROBE_BUDGET: u64 = 1_200_000_000;
/// Lines of the shipped names that it is run on: evaluating all of them would cost more than the run.
const PROBE_LINES: usize = 2_000;
/// Free space below which a warning is given, in bytes.
const SPACE_MIN: u64 = 1 << 30;

/// One thing that was looked at.
struct Finding {
    name: &'static str,
    ok: bool,
    says: String,
}

pub(crate) fn run(context: &Context, options: &Doctor) -> anyhow::Result<std::process::ExitCode> {
    let home = context.home.root();
    let mut findings = vec![
        Finding {
            name: "version",
            ok: true,
            says: format!(
                "cairn {}, records {WIRE_VERSION}, arithmetic {ARITHMETIC_VERSION}",
                env!("CARGO_PKG_VERSION")
            ),
        },
        Finding { name: "processor", ok: true, says: format!("{}, {} threads", processor(), processors()) },
        Finding { name: "instructions", ok: true, says: jobs::instruction_sets().join(", ") },
    ];
    findings.push(settled(
        "config",
        context.home.config().map(|config| {
            let path = context.home.config_path();
            let what = if path.is_file() { path.display().to_string() } else { "none; the defaults hold".into() };
            format!("{what}, {} joined", format::count(config.joined.len() as u64, "track", "tracks"))
        }),
    ));
    findings.push(home_finding(home));
    findings.push(keys(context));
    findings.push(settled("store", store(context)));
    let (conformance, runs) = conformance(context);
    findings.push(conformance);
    let (found, gpus) = gpus(context, options)?;
    findings.extend(found);
    let ok = findings.iter().all(|finding| finding.ok);
    let ui = &context.ui;
    let all = findings.iter().map(|found| json!({ "name": found.name, "ok": found.ok, "says": found.says }));
    ui.object(&json!({
        "ok": ok,
        "version": env!("CARGO_PKG_VERSION"),
        "wire": WIRE_VERSION,
        "arithmetic": ARITHMETIC_VERSION,
        "threads": processors(),
        "isas": jobs::instruction_sets(),
        "home": home,
        "findings": all.collect::<Vec<Value>>(),
        "conformance": runs,
        "gpus": gpus.iter().map(Known::json).collect::<Vec<Value>>(),
    }));
    for found in &findings {
        let mark = if found.ok { ui.paint(Tone::Good, "ok  ") } else { ui.paint(Tone::Bad, "BAD ") };
        ui.result(format!("{mark} {:13} {}", found.name, found.says));
    }
    Ok(if ok { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE })
}

fn settled(name: &'static str, result: anyhow::Result<String>) -> Finding {
    match result {
        Ok(says) => Finding { name, ok: true, says },
        Err(error) => Finding { name, ok: false, says: format!("{error:#}") },
    }
}

/// The processor's name.
pub(super) fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    named.map_or_else(|| std::env::consts::ARCH.to_string(), |(_, name)| name.trim().to_string())
}

/// The nearest folder that exists: a home may not have been made yet.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"))
}

fn home_finding(home: &Path) -> Finding {
    let made = if home.is_dir() { "" } else { " (made on first use)" };
    match free_bytes(existing(home)) {
        Some(free) => Finding {
            name: "home",
            ok: free >= SPACE_MIN,
            says: format!("{}{made}, {} free", home.display(), format::bytes(free)),
        },
        None => Finding { name: "home", ok: true, says: format!("{}{made}", home.display()) },
    }
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

fn keys(context: &Context) -> Finding {
    let keys = context.home.keys();
    let made: Vec<&str> = KeyKind::ALL.into_iter().filter(|kind| keys.has(*kind)).map(KeyKind::name).collect();
    // Reading a key checks who else may read it; one that is missing is not made for that.
    let read = KeyKind::ALL.into_iter().filter(|kind| keys.has(*kind)).try_for_each(|kind| match kind {
        KeyKind::Peer => keys.peer().map(drop),
        KeyKind::Author => keys.author().map(drop),
        KeyKind::Verifier => keys.verifier().map(drop),
    });
    settled("keys", read.map(|()| if made.is_empty() { "none yet; made on first use".into() } else { made.join(", ") }))
}

fn store(context: &Context) -> anyhow::Result<String> {
    let Some(store) = context.home.reader_if_any()? else {
        return Ok("none yet".into());
    };
    store.check()?;
    Ok(format!("{} known, every chain whole", format::count(store.tracks()?.len() as u64, "track", "tracks")))
}

/// The GPUs, examined as far as that is wanted.
fn gpus(context: &Context, options: &Doctor) -> anyhow::Result<(Vec<Finding>, Vec<Known>)> {
    let finding = |ok: bool, says: String| Finding { name: "gpu", ok, says };
    if options.gpu == "off" {
        return Ok((vec![finding(true, "not looked at".into())], vec![]));
    }
    let mut all = match gpu::known(context) {
        Ok(all) => all,
        Err(error) => {
            context.interrupt.check()?;
            return Ok((vec![finding(false, format!("{error:#}"))], vec![]));
        }
    };
    if all.is_empty() {
        let says = format!("none; the processor does all the work; {}", gpu::INSTALL);
        return Ok((vec![finding(true, says)], all));
    }
    let wanted = Gpu::of(if options.gpu == "all" { "" } else { &options.gpu });
    let wanted = wanted.candidates(all.iter().map(|known| known.adapter.clone()).collect());
    if wanted.is_empty() && options.gpu != "auto" {
        let names: Vec<&str> = all.iter().map(|known| known.adapter.name.as_str()).collect();
        return Err(Failure::usage(
            format!("no GPU's name has `{}` in it", options.gpu),
            format!("there are: {}", names.join(", ")),
        ));
    }
    let mut findings = Vec::with_capacity(all.len() + 1);
    if all.iter().all(|known| known.adapter.is_software()) {
        findings.push(finding(true, format!("no real one; the processor does all the work; {}", gpu::INSTALL)));
    }
    for known in &mut all {
        let mut broken = None;
        if wanted.contains(&known.adapter)
            && (known.device.is_none() || options.again)
            && let Err(error) = gpu::examine(context, known)
        {
            context.interrupt.check()?;
            broken = Some(format!("{error:#}"));
        }
        let ok = broken.is_none() && matches!(known.status(), "passed" | "not examined");
        findings.push(finding(ok, broken.unwrap_or_else(|| known.says())));
    }
    Ok((findings, all))
}

/// Runs one small program on every backend and compares all bits.
fn conformance(context: &Context) -> (Finding, Value) {
    let mut runs = Vec::new();
    let started = Instant::now();
    let mut compare = || -> anyhow::Result<Vec<(String, Hash32)>> {
        let Some(track) = Definition::shipped("names") else { anyhow::bail!("no track ships with this program") };
        let track = track?;
        let few: Vec<u8> =
            track.data()?.split_inclusive(|byte| *byte == b'\n').take(PROBE_LINES).flatten().copied().collect();
        let rules = Rules { data: context.home.cached(&few)?, ..Rules::of_definition(&track, &context.home)? };
        let program = Program { file: "baseline".into(), source: rules.baseline.clone() };
        let backend = |name: &str, isa: &str| BackendChoice {
            name: Text::truncated(name),
            isa: Text::truncated(isa),
            ..BackendChoice::cpu(1)
        };
        let mut choices = vec![("reference".to_string(), backend("reference", ""))];
        choices.extend(jobs::instruction_sets().into_iter().map(|isa| (format!("cpu {isa}"), backend("cpu", isa))));
        let two = BackendChoice { threads: 2, ..backend("cpu", "") };
        choices.push(("cpu, 2 threads".into(), two));
        let mut roots = Vec::new();
        for (name, choice) in choices {
            let task = jobs::task(&rules, &program, Some(PROBE_BUDGET))?;
            let work = jobs::run_once(Seed::numbered(1), choice)?;
            match jobs::perform(context, &program.file, task, work, &mut |_| true)? {
                Outcome::Done { runs: done, .. } => {
                    let root = done.first().map(|run| run.root).unwrap_or_default();
                    runs.push(json!({ "backend": name, "trace_root": root }));
                    roots.push((name, root));
                }
                other => anyhow::bail!("{name}: {other:?}"),
            }
        }
        Ok(roots)
    };
    let found = compare().map(|roots| {
        let first = roots.first().map(|(_, root)| *root).unwrap_or_default();
        roots.iter().filter(|(_, root)| *root != first).map(|(name, _)| name.clone()).collect::<Vec<String>>()
    });
    let finding = match found {
        Ok(other) if other.is_empty() => Finding {
            name: "conformance",
            ok: true,
            says: format!("{} backends agree in every bit ({})", runs.len(), format::duration(started.elapsed())),
        },
        Ok(other) => Finding {
            name: "conformance",
            ok: false,
            says: format!("these differ from the reference: {}; do not use them, and report it", other.join(", ")),
        },
        Err(error) => Finding { name: "conformance", ok: false, says: format!("{error:#}") },
    };
    (finding, Value::Array(runs))
}
