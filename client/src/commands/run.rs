//! `cairn run`: one experiment, nothing published.

use std::time::Instant;

use anyhow::bail;
use cairn_program::job::{Message, Outcome, RunSummary, TraceSummary};
use serde_json::json;

use crate::cli::Run;
use crate::commands::trace::warn_if_long;
use crate::context::Context;
use crate::failure::Failure;
use crate::jobs::{self, Program};
use crate::output::Tone;
use crate::{format, tracks};

/// Characters of the loss curve.
const CURVE: usize = 60;

pub(crate) fn run(context: &Context, options: &Run) -> anyhow::Result<()> {
    let ui = &context.ui;
    let (backend, exact) = jobs::backend(context, &options.backend)?;
    let rules = tracks::rules(&context.home, options.track.as_deref())?;
    let program = Program::read(&options.program, &rules)?;
    warn_if_long(context, &rules, &program);
    let task = jobs::task(&rules, &program, options.budget)?;
    let work = jobs::run_once(options.seed, backend.clone())?;
    let started = Instant::now();
    let mut losses = Vec::new();
    let mut progress = ui.progress("training", 0);
    let outcome = jobs::perform(context, &program.file, task, work, &mut |message| {
        match message {
            Message::Traced(traced) => {
                progress.line(&price(&rules, traced));
                progress.total(traced.steps);
            }
            Message::Step { step, loss_bits, .. } => {
                let loss = f32::from_bits(*loss_bits);
                losses.push(loss);
                progress.set(*step, || format!("loss {loss:.4} {}", format::sparkline(&losses, 24)));
            }
            _ => {}
        }
        true
    })?;
    progress.end();
    let took = started.elapsed();
    let (traced, run) = match outcome {
        Outcome::Done { traced, runs, .. } => match runs.into_iter().next() {
            Some(run) => (traced, run),
            None => bail!("the run gave no result"),
        },
        Outcome::Diverged { at: (_, step, tensor), .. } => return Err(Failure::Diverged { step, tensor }.into()),
        Outcome::Refused(_) => bail!("the program was refused"),
    };
    // Hashes of an inexact run would only mislead: nobody can confirm them.
    let gpu = backend.gpu.as_ref();
    ui.object(&json!({
        "track": rules.name,
        "metric": format::nats(run.metric),
        "metric_units": run.metric,
        "test_metric": format::nats(run.test),
        "test_metric_units": run.test,
        "exact": exact,
        "trace_root": exact.then_some(run.root),
        "leaves": exact.then_some(&run.leaves),
        "graph": traced.graph,
        "seed": options.seed,
        "steps": traced.steps,
        "metered": traced.metered,
        "peak_bytes": traced.peak_bytes,
        "seconds": format::seconds(took),
        "backend": backend.name.as_str(),
        "isa": jobs::isa_used(&backend),
        "gpu": gpu.map(|gpu| gpu.adapter.as_str()),
        "form": gpu.map(|gpu| gpu.form.as_str()),
        "threads": backend.threads,
    }));
    show(context, &traced, &run, exact, &losses, took);
    Ok(())
}

fn price(rules: &tracks::Rules, traced: &TraceSummary) -> String {
    format!(
        "{}: {} steps of {} operations, {} in all; {} of memory",
        rules.name,
        traced.steps,
        format::operations(traced.metered_step),
        format::operations(traced.metered),
        format::bytes(traced.peak_bytes)
    )
}

fn show(
    context: &Context,
    traced: &TraceSummary,
    run: &RunSummary,
    exact: bool,
    losses: &[f32],
    took: std::time::Duration,
) {
    let ui = &context.ui;
    if let (Some(first), Some(last)) = (losses.first(), losses.last()) {
        ui.result(format!("loss    {first:.3} {} {last:.3}", format::sparkline(losses, CURVE)));
    }
    ui.result(format!("metric  {} nats", ui.paint(Tone::Bold, format::metric(run.metric))));
    ui.result(format!("test    {} nats", format::metric(run.test)));
    match exact {
        true => ui.result(format!("trace   {}", ui.paint(Tone::Name, run.root.to_string()))),
        false => ui.result("trace   none: this backend is not exact; confirm with --backend cpu"),
    }
    ui.result(format!("graph   {}", traced.graph));
    ui.result(format!("time    {} for {} steps", format::duration(took), traced.steps));
}
