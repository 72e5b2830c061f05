//! `cairn trace`: what a program would cost, without running it.

use serde_json::json;

use crate::cli::Trace;
use crate::context::Context;
use crate::jobs::{self, Program};
use crate::output::Tone;
use crate::{format, tracks};

pub(crate) fn run(context: &Context, options: &Trace) -> anyhow::Result<()> {
    let rules = tracks::rules(&context.home, options.track.as_deref())?;
    let program = Program::read(&options.program, &rules)?;
    let budget = options.budget.unwrap_or(rules.budget);
    let traced = jobs::trace(context, &rules, &program, options.budget)?;
    warn_if_long(context, &rules, &program);
    let ui = &context.ui;
    ui.object(&json!({
        "track": rules.name,
        "graph": traced.graph,
        "nodes": traced.nodes,
        "metered_step": traced.metered_step,
        "steps": traced.steps,
        "metered": traced.metered,
        "budget": budget,
        "peak_bytes": traced.peak_bytes,
        "fuel": traced.fuel,
        "literal_bits": traced.literal_bits,
    }));
    let share = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
    ui.result(format!("graph      {}", ui.paint(Tone::Name, traced.graph.to_string())));
    ui.result(format!("nodes      {}", traced.nodes));
    ui.result(format!("step       {} operations", format::operations(traced.metered_step)));
    ui.result(format!("steps      {} (what the budget buys)", traced.steps));
    ui.result(format!(
        "run        {} of {} operations ({:.1} %)",
        format::operations(traced.metered),
        format::operations(budget),
        share(traced.metered, budget)
    ));
    ui.result(format!(
        "memory     {} of {} ({:.1} %)",
        format::bytes(traced.peak_bytes),
        format::bytes(rules.memory),
        share(traced.peak_bytes, rules.memory)
    ));
    ui.result(format!("literals   {} of {} bits", traced.literal_bits, rules.literal_bits));
    ui.result(format!("fuel       {}", traced.fuel));
    Ok(())
}

/// A program may be run here that is too long for a commit; its author should know.
pub(crate) fn warn_if_long(context: &Context, rules: &tracks::Rules, program: &Program) {
    if program.source.len() > rules.source_bytes as usize {
        context.ui.warn(format!(
            "{} has {} bytes; a commit to {} may have {}",
            program.file,
            program.source.len(),
            rules.name,
            rules.source_bytes
        ));
    }
}
