//! `cairn track check`: whether a folder can become a track.

use std::fs;
use std::path::Path;

use cairn_protocol::{AuthorKey, BlobId, VerifierKey};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::format;
use crate::jobs::{self, Program};
use crate::output::Tone;
use crate::tracks::{Definition, Rules};

pub(crate) fn run(context: &Context, dir: &Path) -> anyhow::Result<()> {
    let track = Definition::folder(dir)?;
    let raw = track.data()?;
    let spec = track.data_spec()?;
    let rules = Rules::of_definition(&track, &context.home)?;
    let program = Program { file: dir.join("train.py").display().to_string(), source: track.program.clone() };
    let traced = jobs::trace(context, &rules, &program, None)?;
    // The record is checked as it would be opened, with a roster that stands in.
    let mut as_opened = track.clone();
    if track.file.margin_units == 0 {
        as_opened.file.margin_units = 1;
    }
    as_opened.record(traced.graph, AuthorKey([0; 32]), &[VerifierKey([0; 32])])?;
    let warnings = warnings(dir, &track)?;
    let ui = &context.ui;
    ui.object(&json!({
        "ok": true,
        "name": track.file.name,
        "graph": traced.graph,
        "steps": traced.steps,
        "metered": traced.metered,
        "budget": track.file.budget,
        "peak_bytes": traced.peak_bytes,
        "data": { "blob": BlobId::of(&raw), "bytes": raw.len() },
        "vocab": spec.vocab,
        "classes": spec.classes,
        "validation_targets": spec.validation_targets,
        "test_targets": spec.test_targets,
        "baseline": format::nats(track.file.baseline.metric_units),
        "margin": format::nats(track.file.margin_units),
        "warnings": warnings,
    }));
    for warning in &warnings {
        ui.warn(warning);
    }
    ui.result(format!("{} {} is sound", ui.paint(Tone::Good, "ok:"), track.file.name));
    ui.result(format!(
        "data      {}, {} validation and {} test targets",
        format::bytes(raw.len() as u64),
        spec.validation_targets,
        spec.test_targets
    ));
    ui.result(format!(
        "baseline  {} nats, {} steps, {} of {} operations, {} of memory",
        format::metric(track.file.baseline.metric_units),
        traced.steps,
        format::operations(traced.metered),
        format::operations(track.file.budget),
        format::bytes(traced.peak_bytes)
    ));
    ui.result(format!("margin    {} nats", format::metric(track.file.margin_units)));
    Ok(())
}

/// What a careful owner would still do.
fn warnings(dir: &Path, track: &Definition) -> anyhow::Result<Vec<String>> {
    let mut warnings = Vec::new();
    if track.file.margin_units == 0 {
        warnings.push(format!("{} has no margin yet: `cairn track calibrate` measures it", track.file.name));
    }
    for (file, why) in
        [("README.md", "where the data come from and under which licence"), ("program.md", "how to do research here")]
    {
        if !dir.join(file).is_file() {
            warnings.push(format!("{} is missing: say {why}", dir.join(file).display()));
        }
    }
    let path = dir.join("calibration.json");
    let evidence = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(_) => {
            warnings.push(format!("{} is missing: `cairn track calibrate` measures and writes it", path.display()));
            return Ok(warnings);
        }
    };
    let evidence: Value = serde_json::from_str(&evidence)
        .map_err(|e| Failure::advice(format!("{}: {e}", path.display()), "run `cairn track calibrate` again"))?;
    for (field, value) in [
        ("margin_units", track.file.margin_units),
        ("metric_units", track.file.baseline.metric_units),
        ("test_units", track.file.baseline.test_units),
    ] {
        if evidence.get(field).and_then(Value::as_i64) != Some(value) {
            warnings.push(format!("{}: `{field}` differs from track.toml; calibrate again", path.display()));
        }
    }
    Ok(warnings)
}
