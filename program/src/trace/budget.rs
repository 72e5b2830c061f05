//! What the track allows: literals, parameters, memory, operations. A refusal names the lines that take most.

use std::collections::BTreeMap;

use cairn_engine::graph::Program;
use cairn_engine::price::{self, Priced};

use super::TraceContext;
use super::plan::step_prices;
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, Span, fail, fail_hint};
use crate::machine::Machine;

/// Lines that a refusal names.
const LINES: usize = 3;

pub(super) fn literals(machine: &Machine<'_>, context: &TraceContext) -> Outcome<()> {
    let (has, most) = (machine.ast.literal_bits, context.literal_bits);
    if has <= most {
        return Ok(());
    }
    fail_hint(
        Kind::Budget,
        format!("the literals of the program hold {has} bits; the track allows {most}"),
        "a number counts 4 bits a character, text 8 bits a byte; compute tables instead of writing them down",
    )
}

pub(super) fn parameters(machine: &Machine<'_>, context: &TraceContext) -> Outcome<()> {
    let sizes = machine.tracer.params.iter().map(|known| (known.at, known.param.shape.elements()));
    let total = sizes.clone().fold(0u64, |total, (_, n)| total.saturating_add(n));
    if total <= context.parameters {
        return Ok(());
    }
    let mut lines = BTreeMap::<u32, u64>::new();
    for (at, size) in sizes {
        let line = machine.tracer.line_starts.partition_point(|&start| start <= at) as u32;
        let sum = lines.entry(line).or_default();
        *sum = sum.saturating_add(size);
    }
    let message = format!("the model has {total} parameters; the track allows {}", context.parameters);
    Err(named(machine, message, dearest(lines), total, "parameters"))
}

/// Peak bytes, if they are allowed.
pub(super) fn memory(machine: &Machine<'_>, program: &Program, context: &TraceContext) -> Outcome<u64> {
    let peak = price::program_peak_bytes(program);
    if peak <= context.memory {
        return Ok(peak);
    }
    let phases = program
        .phases
        .iter()
        .map(|phase| (&phase.graph, [&phase.params_out[..], &phase.states_out[..], &[phase.loss]].concat()));
    let graphs = phases.chain([(&program.eval, vec![program.output])]);
    let largest = graphs.max_by_key(|(graph, wanted)| price::peak_bytes(graph, wanted));
    let message = format!("a step needs {peak} bytes of memory; the track allows {}", context.memory);
    let Some((graph, wanted)) = largest else { return fail(Kind::Budget, message) };
    Err(named(machine, message, price::largest_lines(graph, &wanted, LINES), peak, "bytes at the fullest moment"))
}

/// What the budget buys, if that is enough.
pub(super) fn steps(machine: &Machine<'_>, program: &Program, last: u32, context: &TraceContext) -> Outcome<Priced> {
    let prices = step_prices(program);
    let shares: Vec<u32> = program.phases.iter().map(|phase| phase.share_ppm).collect();
    let evaluation = price::evaluation(&program.eval, program.output, context.data.evaluation_batches(last));
    price::steps(&prices, &shares, evaluation, context.budget).map_err(|message| {
        let graphs = program.phases.iter().map(|phase| &phase.graph);
        let graph = if evaluation >= context.budget {
            &program.eval
        } else {
            graphs.max_by_key(|graph| price::graph(graph)).unwrap_or(&program.eval)
        };
        named(machine, message, price::dearest_lines(graph, LINES), price::graph(graph), "operations")
    })
}

fn dearest(lines: BTreeMap<u32, u64>) -> Vec<(u32, u64)> {
    let mut lines: Vec<_> = lines.into_iter().filter(|(line, _)| *line > 0).collect();
    lines.sort_by_key(|&(line, cost)| (std::cmp::Reverse(cost), line));
    lines.truncate(LINES);
    lines
}

/// A refusal at the dearest line that names all of them.
fn named(machine: &Machine<'_>, message: String, lines: Vec<(u32, u64)>, total: u64, of: &str) -> Box<Fault> {
    let percent = |cost: u64| (u128::from(cost) * 100 / u128::from(total.max(1))) as u64;
    let shown: Vec<String> = lines.iter().map(|(line, cost)| format!("line {line} ({} %)", percent(*cost))).collect();
    let fault = Fault::new(Kind::Budget, message);
    let Some(&(line, _)) = lines.first() else { return fault };
    let starts = &machine.tracer.line_starts;
    let start = starts.get(line.saturating_sub(1) as usize).copied().unwrap_or(0);
    let end = starts.get(line as usize).map_or(start, |next| next.saturating_sub(1));
    fault.hint(format!("the dearest lines, by {of}: {}", shown.join(", "))).at(Span { start, end })
}
