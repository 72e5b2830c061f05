//! The whole program: what the module defines, its phases, and what the budget buys.

use cairn_engine::graph::{Phase, Program, program_id};
use cairn_engine::price;

use super::average::Averages;
use super::build::Drafted;
use super::{TraceContext, Traced};
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, fail, fail_hint};
use crate::machine::Machine;
use crate::optimise::{self, Group};
use crate::value::{ObjectKind, Value};

/// Largest batch, in rows.
const BATCH_MAX: i64 = 1 << 20;
/// Shares are in parts per million.
const PPM: u32 = 1_000_000;

/// One phase as the program states it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stated {
    pub(super) share: f64,
    pub(super) batch: u32,
    pub(super) context: u32,
}

/// What the module defines.
#[derive(Clone, Debug)]
pub(super) struct Module {
    pub(super) model: Value,
    pub(super) loss: Option<Value>,
    pub(super) grad_transform: Option<Value>,
    /// What training ids pass through.
    pub(super) augment: Option<Value>,
    /// Decay of the averages that are evaluated: a number or a schedule.
    pub(super) ema: Option<Value>,
    pub(super) groups: Vec<Group>,
}

pub(super) fn program(machine: &mut Machine<'_>, context: &TraceContext) -> Outcome<Traced> {
    super::budget::literals(machine, context)?;
    machine.run()?;
    let module = module(machine)?;
    let stated = phases(machine, context)?;
    let mut drafts = Vec::with_capacity(stated.len());
    for phase in &stated {
        drafts.push(machine.training(&module, *phase, &context.data)?);
    }
    let averages = machine.averages(&module)?;
    let last = stated.last().map_or(1, |phase| phase.context);
    let rows = context.data.evaluation_rows(last);
    let (eval, output) = machine.evaluation(&module, rows, last, &context.data)?;
    super::budget::parameters(machine, context)?;

    let shares = shares(&stated);
    let mut phases = Vec::with_capacity(stated.len());
    for ((draft, stated), share_ppm) in drafts.into_iter().zip(&stated).zip(&shares) {
        phases.push(finished(machine, draft, stated, *share_ppm, averages.as_ref())?);
    }
    let mut program = Program {
        params: machine.tracer.params.iter().map(|known| known.param.clone()).collect(),
        states: machine.tracer.states.clone(),
        phases,
        eval,
        eval_batch: rows,
        output,
        table_names: machine.table_names(),
        tables: Vec::new(),
        steps: Vec::new(),
    };
    let peak_bytes = super::budget::memory(machine, &program, context)?;
    let priced = super::budget::steps(machine, &program, last, context)?;
    program.steps = priced.steps.clone();
    let fuel = machine.fuel.limit - machine.fuel.left;
    let steps = priced.steps.iter().map(|&steps| u64::from(steps)).sum();
    program.tables = machine.tabulate(steps)?;
    let nodes = program.phases.iter().map(|phase| phase.graph.len() as u64).sum::<u64>() + program.eval.len() as u64;
    Ok(Traced {
        graph: program_id(&program),
        nodes,
        metered_step: priced.step_price.first().copied().unwrap_or(0),
        steps,
        metered: priced.total,
        peak_bytes,
        fuel,
        literal_bits: machine.ast.literal_bits,
        program,
    })
}

fn module(machine: &mut Machine<'_>) -> Outcome<Module> {
    let Some(model) = function(machine, "model")? else {
        return fail_hint(
            Kind::Program,
            "the program defines no model(x)",
            "write `def model(tokens): …` that gives outputs",
        );
    };
    let loss = function(machine, "loss")?;
    let grad_transform = function(machine, "grad_transform")?;
    let augment = function(machine, "augment")?;
    let ema = super::average::decay(machine)?;
    let groups = match function(machine, "optimizer")? {
        Some(optimizer) => {
            let groups = machine.call_at(optimizer, &[], Default::default())?;
            optimise::groups(machine, groups)?
        }
        None => {
            let adamw = optimise::adamw(machine, Default::default())?;
            vec![Group { pattern: "*".into(), optimiser: adamw }]
        }
    };
    Ok(Module { model, loss, grad_transform, augment, ema, groups })
}

/// A function that the module may define.
fn function(machine: &Machine<'_>, name: &str) -> Outcome<Option<Value>> {
    match machine.global(name) {
        None => Ok(None),
        Some(function @ Value::Function(_)) => Ok(Some(function)),
        Some(other) => fail(Kind::Program, format!("`{name}` must be a function, and is {}", machine.article(other))),
    }
}

fn phases(machine: &mut Machine<'_>, context: &TraceContext) -> Outcome<Vec<Stated>> {
    let Some(list) = machine.global("PHASES") else {
        let batch = batch(machine, Value::None)?;
        return Ok(vec![Stated { share: 1.0, batch, context: row_length(machine, Value::None, context)? }]);
    };
    let values = machine.collect(list)?;
    if values.is_empty() || values.len() > machine.limits.phases as usize {
        return fail(Kind::Program, format!("PHASES has 1 to {} phases, not {}", machine.limits.phases, values.len()));
    }
    let mut phases = Vec::with_capacity(values.len());
    for value in values {
        let fields = match value {
            Value::Object(id) => machine.object(id)?.clone(),
            other => return Err(no_phase(machine, other)),
        };
        match (fields.kind, &fields.fields[..]) {
            (ObjectKind::Phase, &[(_, Value::Float(share)), (_, rows), (_, length)]) => phases.push(Stated {
                share,
                batch: batch(machine, rows)?,
                context: row_length(machine, length, context)?,
            }),
            _ => return Err(no_phase(machine, value)),
        }
    }
    Ok(phases)
}

fn no_phase(machine: &Machine<'_>, value: Value) -> Box<Fault> {
    Fault::new(Kind::Program, format!("PHASES is a list of phases, not of {}", machine.article(value)))
        .hint("write PHASES = [phase(share=1.0, batch=32, context=128)]")
}

/// A phase's own value, or the module's constant.
fn constant(machine: &Machine<'_>, own: Value, name: &str) -> Option<Value> {
    Some(own).filter(|own| *own != Value::None).or_else(|| machine.global(name))
}

fn batch(machine: &Machine<'_>, own: Value) -> Outcome<u32> {
    let Some(value) = constant(machine, own, "BATCH") else {
        return fail_hint(Kind::Program, "the program does not say how many rows a batch has", "write BATCH = 32");
    };
    match machine.integer("BATCH", value)? {
        rows @ 1..=BATCH_MAX => Ok(rows as u32),
        rows => fail(Kind::Program, format!("a batch of {rows} rows; it has 1 to {BATCH_MAX}")),
    }
}

fn row_length(machine: &Machine<'_>, own: Value, context: &TraceContext) -> Outcome<u32> {
    let length = match (constant(machine, own, "CONTEXT"), context.data.context) {
        (Some(value), _) => machine.integer("CONTEXT", value)?,
        (None, Some(fixed)) => fixed.into(),
        (None, None) => {
            let hint = format!("write CONTEXT = 64 (at most {})", context.data.context_max);
            return fail_hint(Kind::Program, "the program does not say how many positions a row has", hint);
        }
    };
    let length = u32::try_from(length).unwrap_or(0);
    match context.data.check_context(length) {
        Ok(()) => Ok(length),
        Err(error) => fail(Kind::Program, error.to_string()),
    }
}

/// Shares in parts per million that sum to a million: rounded down, the rest goes to the last phase.
fn shares(stated: &[Stated]) -> Vec<u32> {
    let total: f64 = stated.iter().map(|phase| phase.share).sum();
    let mut left = PPM;
    let count = stated.len();
    let share = |(i, phase): (usize, &Stated)| {
        let rounded = libm::floor(phase.share / total * f64::from(PPM)) as u32;
        let share = if i + 1 == count { left } else { rounded.min(left) };
        left -= share;
        share
    };
    stated.iter().enumerate().map(share).collect()
}

/// A phase with every parameter and state, also those that only others use, and without what nothing needs.
fn finished(
    machine: &Machine<'_>,
    draft: Drafted,
    stated: &Stated,
    share_ppm: u32,
    averages: Option<&Averages>,
) -> Outcome<Phase> {
    let Drafted { mut graph, loss, mut params, mut states } = draft;
    let known = &machine.tracer.params;
    params.resize(known.len(), None);
    let mut params_out = Vec::with_capacity(known.len());
    for (i, (known, new)) in known.iter().zip(params).enumerate() {
        params_out.push(match new {
            Some(new) => new,
            None => graph.param(i as u32, known.param.shape.clone())?,
        });
    }
    states.resize(machine.tracer.states.len(), None);
    if let Some(averages) = averages {
        let new = averages.updated(machine, &mut graph, &params_out)?;
        for (&state, new) in machine.tracer.averages.iter().zip(new) {
            if let Some(slot) = states.get_mut(state as usize) {
                *slot = Some(new);
            }
        }
    }
    let mut states_out = Vec::with_capacity(states.len());
    for (i, (state, new)) in machine.tracer.states.iter().zip(states).enumerate() {
        states_out.push(match new {
            Some(new) => new,
            None => graph.state(i as u32, state.shape.clone())?,
        });
    }
    let roots = [&[loss], &params_out[..], &states_out[..]].concat();
    let (graph, roots) = graph.pruned(&roots);
    let Some((&loss, outs)) = roots.split_first() else {
        return fail(Kind::Internal, "a graph without roots");
    };
    let (params_out, states_out) = outs.split_at(params_out.len().min(outs.len()));
    Ok(Phase {
        share_ppm,
        batch: stated.batch,
        context: stated.context,
        graph,
        loss,
        params_out: params_out.to_vec(),
        states_out: states_out.to_vec(),
    })
}

/// Metered operations of one step of each phase.
pub(super) fn step_prices(program: &Program) -> Vec<u64> {
    program.phases.iter().map(|phase| price::graph(&phase.graph)).collect()
}
