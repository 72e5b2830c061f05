//! Schedules as tables: one number for each step, computed in f64 and rounded once.

use crate::ast::Ast;
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, Span, fail};
use crate::machine::{Machine, Meter};
use crate::tensor::{Table, bits};
use crate::value::Value;

/// Steps that are counted exactly as floats.
const EXACT_STEPS: u64 = 1 << 24;

impl Machine<'_> {
    /// What each table is called, for people.
    pub(super) fn table_names(&self) -> Vec<String> {
        let name = |table: &Table| match *table {
            Table::Schedule(function) => self.function_name(self.ast, function),
            Table::Step => "step".to_owned(),
            Table::Correction(_) => "bias correction".to_owned(),
            Table::Average(_) => "1 - EMA".to_owned(),
        };
        self.tracer.tables.iter().enumerate().map(|(i, table)| format!("{i}: {}", name(table))).collect()
    }

    fn function_name(&self, ast: &Ast, function: Value) -> String {
        let closure = match function {
            Value::Function(id) => self.heap.closures.get(id as usize),
            _ => None,
        };
        let function = closure.and_then(|closure| ast.functions.get(closure.function as usize));
        function.map_or("schedule", |function| ast.name(function.name)).to_owned()
    }

    /// The values of all tables, one for each step.
    pub(super) fn tabulate(&mut self, steps: u64) -> Outcome<Vec<Vec<f32>>> {
        let tables = self.tracer.tables.clone();
        let values = steps.saturating_mul(tables.len() as u64);
        if values > self.limits.table_values || steps > EXACT_STEPS {
            let message = format!(
                "{} schedules over {steps} steps; the limit is {} values",
                tables.len(),
                self.limits.table_values
            );
            return fail(Kind::Limit, message);
        }
        let mut fuel = self.limits.tables_fuel;
        let mut all = Vec::with_capacity(tables.len());
        for table in tables {
            all.push(match table {
                Table::Step => (0..steps).map(|step| step as f32).collect(),
                Table::Correction(beta) => (0..steps).map(|step| correction(beta, step)).collect(),
                Table::Schedule(function) => self.schedule(function, steps, &mut fuel, Ok)?,
                Table::Average(Value::Float(decay)) => (0..steps).map(|step| newness(decay, step)).collect(),
                Table::Average(schedule) => {
                    let mut weights =
                        self.schedule(schedule, steps, &mut fuel, |decay| match (0.0..=1.0).contains(&decay) {
                            true => Ok(1.0 - decay),
                            false => fail(Kind::Value, format!("EMA gives {decay}; a decay is 0 to 1")),
                        })?;
                    weights.iter_mut().take(1).for_each(|weight| *weight = 1.0);
                    weights
                }
            });
        }
        Ok(all)
    }

    /// A schedule at every step, each alone: nothing that one evaluation leaves behind reaches the next.
    fn schedule(
        &mut self,
        function: Value,
        steps: u64,
        fuel: &mut u64,
        meant: fn(f64) -> Outcome<f64>,
    ) -> Outcome<Vec<f32>> {
        let mark = self.heap.mark();
        let memory = self.memory;
        self.frozen = Some(mark);
        let mut values = Vec::with_capacity(steps as usize);
        for step in 0..steps {
            self.fuel = Meter::new(self.limits.table_fuel);
            let arguments = [Value::Int(step as i64), Value::Int(steps as i64)];
            let result = self.call_at(function, &arguments, Span::default());
            let value = result
                .and_then(|value| self.table_value(value, step, meant))
                .map_err(|fault| self.at_step(fault, function, step))?;
            values.push(value);
            let used = self.fuel.limit - self.fuel.left;
            *fuel = fuel.checked_sub(used).ok_or_else(|| {
                let message =
                    format!("the schedules take more than {} evaluation steps together", self.limits.tables_fuel);
                Fault::new(Kind::Fuel, message).hint("simplify them: each is evaluated once for every training step")
            })?;
            self.heap.release(&mark);
            self.memory = memory;
        }
        self.frozen = None;
        Ok(values)
    }

    fn table_value(&self, value: Value, step: u64, meant: fn(f64) -> Outcome<f64>) -> Outcome<f32> {
        match self.number(value).map(|number| number.float()) {
            Some(float) if float.is_finite() => Ok(f32::from_bits(bits(meant(float)?))),
            Some(_) => fail(Kind::Value, format!("the schedule is not a finite number at step {step}")),
            None => fail(Kind::Type, format!("a schedule gives a number, not {}", self.article(value))),
        }
    }

    fn at_step(&self, mut fault: Box<Fault>, function: Value, step: u64) -> Box<Fault> {
        if fault.kind == Kind::Fuel {
            let name = self.function_name(self.ast, function);
            fault.message = format!(
                "the schedule {name} takes more than {} evaluation steps at step {step}",
                self.limits.table_fuel
            );
            fault.hint = Some("a schedule is a formula of step and steps: compute constants outside of it".into());
        }
        fault
    }
}

/// 1 − d, and 1 at the first step.
fn newness(decay: f64, step: u64) -> f32 {
    f32::from_bits(bits(if step == 0 { 1.0 } else { 1.0 - decay }))
}

/// 1 / (1 − β^(step + 1)).
fn correction(beta: f64, step: u64) -> f32 {
    let kept = libm::pow(beta, (step + 1) as f64);
    f32::from_bits(bits(1.0 / (1.0 - kept)))
}
