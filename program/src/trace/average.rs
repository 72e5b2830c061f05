//! `EMA`: exponential moving averages of the parameters, which evaluation reads in their place.
//!
//! After each step e ← e + (1 − d)·(p − e) for every parameter p, used in the phase or not. The averages are states that
//! start at zero like all others; the decay d of the first step is 0, so that they start at the parameters: 0 + 1·(p − 0)
//! is p in every bit.

use cairn_engine::graph::{Binary, Graph, NodeId, StateVar};

use super::plan::Module;
use crate::ast::{StmtKind, Target};
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, Span, fail, fail_hint};
use crate::machine::Machine;
use crate::tensor::Table;
use crate::value::Value;

/// Name of the state that averages a parameter, after the parameter's own.
const STATE: &str = "ema";
/// Evaluation steps and bytes that the average of one parameter takes.
const COST: (u64, u64) = (32, 2048);

/// The averages of one program.
#[derive(Clone, Debug)]
pub(super) struct Averages {
    /// Table of what is added of p − e.
    weight: u32,
    /// Line that says `EMA`.
    line: u32,
}

/// The module's `EMA`: a decay or a schedule of decays.
pub(super) fn decay(machine: &Machine<'_>) -> Outcome<Option<Value>> {
    let Some(value) = machine.global("EMA").filter(|value| *value != Value::None) else { return Ok(None) };
    let at = machine.definition("EMA");
    if let Value::Function(_) = value {
        return Ok(Some(value));
    }
    match machine.number(value) {
        Some(decay) if (0.0..1.0).contains(&decay.float()) => Ok(Some(Value::Float(decay.float()))),
        Some(_) => fail(Kind::Value, "EMA is a decay of at least 0 and below 1"),
        None => fail_hint(
            Kind::Program,
            format!("EMA is a decay, and this is {}", machine.article(value)),
            "write EMA = 0.999, or def EMA(step, steps): … that gives one",
        ),
    }
    .map_err(|fault: Box<Fault>| fault.at(at))
}

impl Machine<'_> {
    /// Where the module gives a name its value, at its top level.
    fn definition(&self, name: &str) -> Span {
        let ast = self.ast;
        let names = |place: &crate::ast::Place| ast.name(place.name) == name;
        let defines = |kind: &StmtKind| match kind {
            StmtKind::Def(place, _) => names(place),
            StmtKind::Assign(targets, _) => ast.ids(*targets).iter().any(
                |&target| matches!(ast.targets.get(target as usize), Some((Target::Name(place), _)) if names(place)),
            ),
            _ => false,
        };
        let mut statements = ast.ids(ast.body).iter().filter_map(|&id| ast.stmts.get(id as usize));
        statements.rfind(|statement| defines(&statement.kind)).map(|found| found.at).unwrap_or_default()
    }

    /// A state for each parameter, in the order of the parameters; from now on evaluation reads them.
    pub(super) fn averages(&mut self, module: &Module) -> Outcome<Option<Averages>> {
        let Some(decay) = module.ema else { return Ok(None) };
        for index in 0..self.tracer.params.len() {
            let Some(param) = self.tracer.params.get(index).map(|known| known.param.clone()) else { continue };
            let name = format!("{}/{STATE}", param.name);
            if self.tracer.state_index(&name).is_some() {
                let message = format!("an optimiser has a state '{STATE}', which EMA needs for its averages");
                return fail_hint(Kind::Program, message, "give the optimiser's state another name");
            }
            self.burn(COST.0)?;
            self.charge(COST.1 + name.len() as u64)?;
            let state = self.tracer.add_state(StateVar { name, shape: param.shape });
            self.tracer.averages.push(state as u32);
        }
        let line = self.tracer.line_at(self.definition("EMA").start);
        Ok(Some(Averages { weight: self.table_index(Table::Average(decay))?, line }))
    }
}

impl Averages {
    /// The new averages of a phase, in the order of the parameters.
    pub(super) fn updated(&self, machine: &Machine<'_>, graph: &mut Graph, new: &[NodeId]) -> Outcome<Vec<NodeId>> {
        graph.set_line(self.line);
        let weight = graph.table(self.weight)?;
        let states = machine.tracer.averages.iter().zip(&machine.tracer.params).zip(new);
        let average = |((&state, known), &new): ((&u32, &crate::tensor::KnownParam), &NodeId)| {
            let old = graph.state(state, known.param.shape.clone())?;
            let apart = graph.binary(Binary::Sub, new, old)?;
            let step = graph.binary(Binary::Mul, apart, weight)?;
            Ok(graph.binary(Binary::Add, old, step)?)
        };
        states.map(average).collect()
    }
}
