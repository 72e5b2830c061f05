//! What each optimiser does to a parameter, as nodes.
//!
//! An update is ordinary tensor arithmetic: the nodes it builds are those that the same formula in the program would
//! build, and are priced alike.
//!
//! *Invariant:* an optimiser's numbers meet in f64 where both are numbers, and are rounded once when they meet a tensor.

use std::rc::Rc;

use cairn_engine::graph::{Binary, NodeId, Shape, StateVar, Unary};

use super::rule_of;
use crate::ast::BinaryOp;
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, Span, fail};
use crate::machine::Machine;
use crate::tensor::Table;
use crate::value::{Object, ObjectKind, Rule, Value};

/// Newton–Schulz coefficients of Muon (Jordan et al. 2024).
const NEWTON_SCHULZ: [f64; 3] = [3.4445, -4.7750, 2.0315];

/// One parameter to update: its node, its gradient, and its name for the states.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a str,
    pub(crate) param: Value,
    pub(crate) gradient: Value,
}

impl Machine<'_> {
    fn field(&self, optimiser: Value, name: &str) -> Outcome<Value> {
        let Value::Object(id) = optimiser else {
            return fail(Kind::Internal, "an optimiser that is none");
        };
        let found = self.object(id)?.fields.iter().find(|(field, _)| &**field == name).map(|field| field.1);
        found.ok_or_else(|| Fault::new(Kind::Internal, format!("an optimiser without {name}")))
    }

    /// A hyperparameter as it is used: a number, or the scalar of its table.
    fn hyper_value(&mut self, optimiser: Value, name: &str) -> Outcome<Value> {
        let value = self.field(optimiser, name)?;
        self.scheduled(value)
    }

    fn scheduled(&mut self, value: Value) -> Outcome<Value> {
        match value {
            Value::Function(_) | Value::Builtin(_) | Value::Method(_) => self.table(Table::Schedule(value)),
            number => Ok(number),
        }
    }

    /// What `t.name` is: tables come into the graph only where they are used.
    pub(crate) fn step_field(&mut self, name: &str, value: Value) -> Outcome<Value> {
        if name == "step" { self.table(Table::Step) } else { self.scheduled(value) }
    }

    /// The state `PARAM/NAME` of a parameter, its index and its node.
    fn state(&mut self, of: Subject<'_>, name: &str) -> Outcome<Value> {
        let full = format!("{}/{name}", of.name);
        let param = self.node("state", of.param)?;
        let shape = Shape(self.shape_of(param)?);
        let index = match self.tracer.state_index(&full) {
            Some(index) => index,
            None => {
                self.charge(64 + full.len() as u64)?;
                self.tracer.add_state(StateVar { name: full, shape: shape.clone() })
            }
        };
        self.build(0, |graph| graph.state(index as u32, shape))
    }

    /// Records the new value of a state.
    fn set_state(&mut self, of: Subject<'_>, name: &str, value: Value) -> Outcome<()> {
        let full = format!("{}/{name}", of.name);
        let id = self.node("state", value)?;
        let Some(index) = self.tracer.state_index(&full) else {
            return fail(Kind::Internal, "a state that is not there");
        };
        self.tracer.set_state_out(index, id);
        Ok(())
    }

    /// Builds the update of one parameter; gives its new value.
    pub(crate) fn update(&mut self, optimiser: Value, of: Subject<'_>) -> Outcome<NodeId> {
        let Some(rule) = rule_of(self, optimiser) else {
            return fail(Kind::Internal, "an optimiser that is none");
        };
        if let Value::Object(id) = optimiser {
            let at = self.object(id)?.at;
            self.tracer.blame(at);
        }
        let new = match rule {
            Rule::AdamW => self.update_adamw(optimiser, of)?,
            Rule::Sgd => self.update_sgd(optimiser, of)?,
            Rule::Lion => self.update_lion(optimiser, of)?,
            Rule::Muon => self.update_muon(optimiser, of)?,
            Rule::Custom => self.update_custom(optimiser, of)?,
        };
        self.node("update", new)
    }

    /// p · (1 − lr·decay), p itself where the decay is 0.
    fn decayed(&mut self, param: Value, lr: Value, decay: Value) -> Outcome<Value> {
        if self.number(decay).is_some_and(|decay| decay.float() == 0.0) {
            return Ok(param);
        }
        let rate = self.mul(lr, decay)?;
        let keep = self.sub(Value::Float(1.0), rate)?;
        self.mul(param, keep)
    }

    /// β·old + (1 − β)·new.
    fn average(&mut self, beta: Value, old: Value, new: Value) -> Outcome<Value> {
        let kept = self.mul(old, beta)?;
        let rest = self.sub(Value::Float(1.0), beta)?;
        let added = self.mul(new, rest)?;
        self.add(kept, added)
    }

    /// m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; p ← p(1 − lr·decay) − (m·lr·c₁) / (√(v·c₂) + eps), with the
    /// corrections c = 1/(1 − βᵗ) from tables.
    fn update_adamw(&mut self, optimiser: Value, of: Subject<'_>) -> Outcome<Value> {
        let numbers = ["lr", "weight_decay", "eps"].map(|name| self.field(optimiser, name));
        let [lr, decay, eps] = numbers;
        let betas = [self.field(optimiser, "beta1")?, self.field(optimiser, "beta2")?];
        self.adamw_step(of, [lr?, decay?, eps?], betas)
    }

    fn adamw_step(&mut self, of: Subject<'_>, numbers: [Value; 3], [beta1, beta2]: [Value; 2]) -> Outcome<Value> {
        let [lr, decay, eps] = numbers;
        let (lr, decay, eps) = (self.scheduled(lr)?, self.scheduled(decay)?, self.scheduled(eps)?);
        let (mean, square) = (self.state(of, "m")?, self.state(of, "v")?);
        let mean = self.average(beta1, mean, of.gradient)?;
        let squared = self.pair(Binary::Mul, of.gradient, of.gradient)?;
        let square = self.average(beta2, square, squared)?;
        self.set_state(of, "m", mean)?;
        self.set_state(of, "v", square)?;
        let correction1 = self.correction(beta1)?;
        let correction2 = self.correction(beta2)?;
        let unbiased = self.mul(square, correction2)?;
        let root = self.unary(Unary::Sqrt, unbiased)?;
        let root = self.add(root, eps)?;
        let rate = self.mul(lr, correction1)?;
        let step = self.mul(mean, rate)?;
        let step = self.div(step, root)?;
        let kept = self.decayed(of.param, lr, decay)?;
        self.sub(kept, step)
    }

    fn correction(&mut self, beta: Value) -> Outcome<Value> {
        let beta = self.real("beta", beta)?;
        if beta == 0.0 { Ok(Value::Float(1.0)) } else { self.table(Table::Correction(beta)) }
    }

    /// g ← g + decay·p; m ← momentum·m + g; p ← p − lr·(g + momentum·m if nesterov, else m).
    fn update_sgd(&mut self, optimiser: Value, of: Subject<'_>) -> Outcome<Value> {
        let lr = self.hyper_value(optimiser, "lr")?;
        let momentum = self.hyper_value(optimiser, "momentum")?;
        let decay = self.hyper_value(optimiser, "weight_decay")?;
        let nesterov = self.field(optimiser, "nesterov")? == Value::Bool(true);
        let mut gradient = of.gradient;
        if self.number(decay).is_none_or(|decay| decay.float() != 0.0) {
            let pull = self.mul(of.param, decay)?;
            gradient = self.add(gradient, pull)?;
        }
        let mut direction = gradient;
        if self.number(momentum).is_none_or(|momentum| momentum.float() != 0.0) {
            let old = self.state(of, "m")?;
            let kept = self.mul(old, momentum)?;
            let velocity = self.add(kept, gradient)?;
            self.set_state(of, "m", velocity)?;
            direction = velocity;
            if nesterov {
                let ahead = self.mul(velocity, momentum)?;
                direction = self.add(gradient, ahead)?;
            }
        }
        let step = self.mul(direction, lr)?;
        self.sub(of.param, step)
    }

    /// p ← p(1 − lr·decay) − lr·sign(β₁m + (1−β₁)g); m ← β₂m + (1−β₂)g.
    fn update_lion(&mut self, optimiser: Value, of: Subject<'_>) -> Outcome<Value> {
        let lr = self.hyper_value(optimiser, "lr")?;
        let decay = self.hyper_value(optimiser, "weight_decay")?;
        let (beta1, beta2) = (self.field(optimiser, "beta1")?, self.field(optimiser, "beta2")?);
        let mean = self.state(of, "m")?;
        let direction = self.average(beta1, mean, of.gradient)?;
        let direction = self.unary(Unary::Sign, direction)?;
        let new = self.average(beta2, mean, of.gradient)?;
        self.set_state(of, "m", new)?;
        let step = self.mul(direction, lr)?;
        let kept = self.decayed(of.param, lr, decay)?;
        self.sub(kept, step)
    }

    /// m ← momentum·m + g; p ← p(1 − lr·decay) − lr·√max(1, columns/rows)·orthogonalised(g + momentum·m, or m).
    fn update_muon(&mut self, optimiser: Value, of: Subject<'_>) -> Outcome<Value> {
        let param = self.node("muon", of.param)?;
        let &[rows, columns] = &self.shape_of(param)?[..] else {
            let numbers = [self.field(optimiser, "lr")?, self.field(optimiser, "weight_decay")?, Value::Float(1e-8)];
            return self.adamw_step(of, numbers, [Value::Float(0.9), Value::Float(0.95)]);
        };
        let lr = self.hyper_value(optimiser, "lr")?;
        let momentum = self.hyper_value(optimiser, "momentum")?;
        let decay = self.hyper_value(optimiser, "weight_decay")?;
        let steps = self.field(optimiser, "ns_steps")?;
        let old = self.state(of, "m")?;
        let kept = self.mul(old, momentum)?;
        let velocity = self.add(kept, of.gradient)?;
        self.set_state(of, "m", velocity)?;
        let mut direction = velocity;
        if self.field(optimiser, "nesterov")? == Value::Bool(true) {
            let ahead = self.mul(velocity, momentum)?;
            direction = self.add(of.gradient, ahead)?;
        }
        let steps = self.integer("ns_steps", steps)?;
        let direction = self.orthogonal(direction, rows > columns, steps)?;
        let scale = libm::sqrt((f64::from(columns) / f64::from(rows)).max(1.0));
        let rate = self.mul(lr, Value::Float(scale))?;
        let step = self.mul(direction, rate)?;
        let kept = self.decayed(of.param, lr, decay)?;
        self.sub(kept, step)
    }

    /// Newton–Schulz: X ← aX + (bA + cA²)X with A = XXᵀ, X of Frobenius norm 1 at first, on the side with fewer rows.
    fn orthogonal(&mut self, x: Value, tall: bool, steps: i64) -> Outcome<Value> {
        let [a, b, c] = NEWTON_SCHULZ.map(Value::Float);
        let squared = self.pair(Binary::Mul, x, x)?;
        let norm = self.total(squared)?;
        let norm = self.unary(Unary::Sqrt, norm)?;
        let norm = self.add(norm, Value::Float(1e-7))?;
        let mut x = self.div(x, norm)?;
        if tall {
            x = self.transposed(x)?;
        }
        for _ in 0..steps {
            let other = self.transposed(x)?;
            let gram = self.binary(BinaryOp::MatMul, x, other)?;
            let square = self.binary(BinaryOp::MatMul, gram, gram)?;
            let (first, second) = (self.mul(gram, b)?, self.mul(square, c)?);
            let polynomial = self.add(first, second)?;
            let turned = self.binary(BinaryOp::MatMul, polynomial, x)?;
            let kept = self.mul(x, a)?;
            x = self.add(kept, turned)?;
        }
        if tall { self.transposed(x) } else { Ok(x) }
    }

    fn transposed(&mut self, x: Value) -> Outcome<Value> {
        let id = self.node("transpose", x)?;
        self.build(1, |graph| graph.permute(id, &[1, 0]))
    }

    fn update_custom(&mut self, optimiser: Value, of: Subject<'_>) -> Outcome<Value> {
        let Value::Object(id) = optimiser else {
            return fail(Kind::Internal, "an optimiser that is none");
        };
        let Object { at, fields, .. } = self.object(id)?.clone();
        let call = Span { start: at, end: at };
        let (mut update, mut names) = (Value::None, Vec::new());
        let mut numbers: Vec<(Rc<str>, Value)> = vec![("step".into(), Value::None)];
        for (name, value) in fields {
            match (&*name, value) {
                ("update", function) => update = function,
                ("state", states) => {
                    for state in self.collect(states)? {
                        names.push((self.text_argument("state", state)?, state));
                    }
                }
                _ => numbers.push((name, value)),
            }
        }
        let state = self.new_dict()?;
        for (name, key) in &names {
            let value = self.state(of, name)?;
            self.dict_set(state, *key, value)?;
        }
        let step = self.new_object(Object { kind: ObjectKind::Step, at, fields: numbers })?;
        let result = self.call_at(update, &[of.param, of.gradient, Value::Dict(state), step], call)?;
        let wrong = || {
            Fault::new(Kind::Program, "an optimiser's update gives (p, s): the parameter and a dict of its states")
                .hint("return p, {\"m\": m}")
        };
        let &[new, Value::Dict(new_state)] = &(match result {
            Value::Tuple(_) | Value::List(_) => self.collect(result)?,
            _ => return Err(wrong()),
        })[..] else {
            return Err(wrong());
        };
        if self.dict(new_state)?.entries.len() != names.len() {
            return Err(wrong());
        }
        for (name, key) in &names {
            let value = self.dict_get(new_state, *key)?.ok_or_else(wrong)?;
            self.same_shape_as(of, value, name)?;
            self.set_state(of, name, value)?;
        }
        self.same_shape_as(of, new, "p")?;
        let new = self.float_operand("update", new)?;
        Ok(self.tensor_of(new))
    }

    fn same_shape_as(&mut self, of: Subject<'_>, value: Value, what: &str) -> Outcome<()> {
        let (param, id) = (self.node("update", of.param)?, self.node(&format!("update: {what}"), value)?);
        let (wanted, got) = (self.shape_of(param)?, self.shape_of(id)?);
        if wanted == got {
            return Ok(());
        }
        fail(Kind::Shape, format!("update: {what} of parameter '{}' has shape {got:?}, not {wanted:?}", of.name))
    }
}
