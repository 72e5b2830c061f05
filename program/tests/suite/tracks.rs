//! The shipped programs trace.

use std::time::{Duration, Instant};

use cairn_engine::graph::Op;
use cairn_program::{KnobValue, Limits, knobs};

use crate::common::{NAMES, SHAKESPEARE, rows, text, traced};

/// The example of the guide.
const EXAMPLE: &str = include_str!("example.py");
/// Four layers, grouped heads, windows, gates, tied head.
const GPT: &str = include_str!("gpt.py");

#[test]
fn the_shipped_programs_trace() {
    for (source, context) in [(NAMES, rows()), (SHAKESPEARE, text()), (EXAMPLE, text())] {
        let traced = traced(source, &context);
        let program = &traced.program;
        assert!(traced.steps >= 16 && traced.metered <= context.budget && traced.peak_bytes <= context.memory);
        assert!(traced.fuel < Limits::default().fuel / 100, "{}", traced.fuel);
        assert_eq!(program.phases.len(), 1);
        assert_eq!(program.phases[0].params_out.len(), program.params.len());
        assert_eq!(program.phases[0].states_out.len(), program.states.len());
        assert_eq!(program.states.len(), 2 * program.params.len(), "two moments for each parameter");
        assert!(program.tables.iter().all(|table| table.len() as u64 == traced.steps));
        assert!(!program.eval.nodes().iter().any(|node| node.op == Op::Input(1)), "evaluation reads no targets");
    }
}

#[test]
fn a_schedule_becomes_its_values() {
    let traced = traced(SHAKESPEARE, &text());
    let program = &traced.program;
    let at = program.table_names.iter().position(|name| name.ends_with(" lr")).unwrap();
    let steps = traced.steps as f64;
    let knobs = knobs(SHAKESPEARE).unwrap();
    let number = |name: &str| match knobs.iter().find(|knob| knob.name == name).map(|knob| &knob.value) {
        Some(KnobValue::Float(value)) => *value,
        other => panic!("{name} is {other:?}"),
    };
    let (lr, warmup) = (number("LR"), number("WARMUP"));
    for (step, value) in program.tables[at].iter().enumerate() {
        let t = step as f64 / steps;
        let expected =
            lr * f64::min(1.0, (t + 1.0 / steps) / warmup) * 0.5 * (1.0 + libm_cos(std::f64::consts::PI * t));
        assert!((f64::from(*value) - expected).abs() <= 1e-9, "step {step}: {value} {expected}");
    }
}

fn libm_cos(x: f64) -> f64 {
    x.cos()
}

/// Prints how long it takes.
#[test]
fn a_four_layer_gpt_traces() {
    let mut context = text();
    context.budget = 5_000_000_000_000;
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let started = Instant::now();
        let traced = traced(GPT, &context);
        best = best.min(started.elapsed());
        assert!(traced.nodes > 1_000 && traced.steps > 16, "{} {}", traced.nodes, traced.steps);
    }
    println!("4-layer GPT: {:.3} ms", best.as_secs_f64() * 1e3);
}
