//! Optimisers, groups and phases: what `optimizer()` and `PHASES` are made of, and how an update is built.
//!
//! An update is ordinary tensor arithmetic: the nodes it builds are those that the same formula in the program would
//! build, and are priced alike. Numbers may be schedules: functions of step and steps, which become tables.
//!
//! *Invariant:* an optimiser's numbers meet in f64 where both are numbers, and are rounded once when they meet a tensor.

use std::rc::Rc;

use cairn_engine::graph::{Binary, NodeId, Shape, StateVar, Unary};

use crate::ast::BinaryOp;
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, Span, fail, fail_hint};
use crate::machine::{Arguments, Machine};
use crate::tensor::Table;
use crate::value::{Object, ObjectKind, Rule, Value};

/// Most states of one optimiser.
const STATES_MAX: usize = 8;
/// Newton–Schulz coefficients of Muon (Jordan et al. 2024).
const NEWTON_SCHULZ: [f64; 3] = [3.4445, -4.7750, 2.0315];

/// An object with fields in this order; absent arguments have their defaults.
fn object(m: &mut Machine<'_>, kind: ObjectKind, fields: Vec<(&str, Value)>) -> Outcome<Value> {
    let fields = fields.into_iter().map(|(name, value)| (Rc::from(name), value)).collect();
    let at = m.tracer.at();
    m.new_object(Object { kind, at, fields })
}

/// A hyperparameter: a number or a schedule, by default `default`.
fn hyper(m: &Machine<'_>, what: &str, value: Option<Value>, default: f64) -> Outcome<Value> {
    match value {
        None | Some(Value::None) => Ok(Value::Float(default)),
        Some(schedule @ (Value::Function(_) | Value::Builtin(_) | Value::Method(_))) => Ok(schedule),
        Some(value) => match m.number(value) {
            Some(number) => Ok(Value::Float(number.float())),
            None => fail_hint(
                Kind::Type,
                format!("{what}: a number or a schedule is needed, not {}", m.article(value)),
                "a schedule is a function of step and steps that gives a number",
            ),
        },
    }
}

/// The learning rate: the program's own `lr` where none is given.
fn rate(m: &Machine<'_>, what: &str, value: Option<Value>, default: f64) -> Outcome<Value> {
    match value {
        None | Some(Value::None) => match m.global("lr").or_else(|| m.global("LR")) {
            Some(lr) => hyper(m, what, Some(lr), default),
            None => Ok(Value::Float(default)),
        },
        value => hyper(m, what, value, default),
    }
}

fn betas(m: &mut Machine<'_>, what: &str, value: Option<Value>, default: [f64; 2]) -> Outcome<[Value; 2]> {
    let pair = match value {
        None | Some(Value::None) => return Ok(default.map(Value::Float)),
        Some(value) => m.collect(value)?,
    };
    let &[first, second] = &pair[..] else {
        return fail(Kind::Value, format!("{what}: betas are two numbers"));
    };
    let (first, second) = (m.real(what, first)?, m.real(what, second)?);
    for beta in [first, second] {
        if !(0.0..1.0).contains(&beta) {
            return fail(Kind::Value, format!("{what}: betas are at least 0 and below 1"));
        }
    }
    Ok([Value::Float(first), Value::Float(second)])
}

/// AdamW (Loshchilov & Hutter 2019).
pub(crate) fn adamw(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [lr, pair, eps, decay] = a.bind(m, "adamw", ["lr", "betas", "eps", "weight_decay"], 0)?;
    let lr = rate(m, "adamw: lr", lr, 1e-3)?;
    let [beta1, beta2] = betas(m, "adamw: betas", pair, [0.9, 0.999])?;
    let eps = hyper(m, "adamw: eps", eps, 1e-8)?;
    let decay = hyper(m, "adamw: weight_decay", decay, 0.01)?;
    let fields = vec![("lr", lr), ("beta1", beta1), ("beta2", beta2), ("eps", eps), ("weight_decay", decay)];
    object(m, ObjectKind::Optimiser(Rule::AdamW), fields)
}

/// SGD with momentum, as in PyTorch.
pub(crate) fn sgd(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [lr, momentum, decay, nesterov] = a.bind(m, "sgd", ["lr", "momentum", "weight_decay", "nesterov"], 0)?;
    let lr = rate(m, "sgd: lr", lr, 1e-2)?;
    let momentum = hyper(m, "sgd: momentum", momentum, 0.0)?;
    let decay = hyper(m, "sgd: weight_decay", decay, 0.0)?;
    let nesterov = Value::Bool(m.truth(nesterov.unwrap_or(Value::Bool(false)))?);
    let fields = vec![("lr", lr), ("momentum", momentum), ("weight_decay", decay), ("nesterov", nesterov)];
    object(m, ObjectKind::Optimiser(Rule::Sgd), fields)
}

/// Lion (Chen et al. 2023).
pub(crate) fn lion(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [lr, pair, decay] = a.bind(m, "lion", ["lr", "betas", "weight_decay"], 0)?;
    let lr = rate(m, "lion: lr", lr, 1e-4)?;
    let [beta1, beta2] = betas(m, "lion: betas", pair, [0.9, 0.99])?;
    let decay = hyper(m, "lion: weight_decay", decay, 0.0)?;
    let fields = vec![("lr", lr), ("beta1", beta1), ("beta2", beta2), ("weight_decay", decay)];
    object(m, ObjectKind::Optimiser(Rule::Lion), fields)
}

/// Muon (Jordan et al. 2024) for matrices; other parameters of its group get AdamW with the same rate and decay.
pub(crate) fn muon(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let names = ["lr", "momentum", "weight_decay", "nesterov", "ns_steps|steps"];
    let [lr, momentum, decay, nesterov, steps] = a.bind(m, "muon", names, 0)?;
    let lr = rate(m, "muon: lr", lr, 2e-2)?;
    let momentum = hyper(m, "muon: momentum", momentum, 0.95)?;
    let decay = hyper(m, "muon: weight_decay", decay, 0.0)?;
    let nesterov = Value::Bool(m.truth(nesterov.unwrap_or(Value::Bool(true)))?);
    let steps = m.integer("muon: ns_steps", steps.unwrap_or(Value::Int(5)))?;
    if !(1..=10).contains(&steps) {
        return fail(Kind::Value, "muon: ns_steps is 1 to 10");
    }
    let fields = vec![
        ("lr", lr),
        ("momentum", momentum),
        ("weight_decay", decay),
        ("nesterov", nesterov),
        ("ns_steps", Value::Int(steps)),
    ];
    object(m, ObjectKind::Optimiser(Rule::Muon), fields)
}

/// `optimiser(update, state=["m", "v"], **numbers)` with `update(p, g, s, t) -> (p, s)`.
pub(crate) fn optimiser(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let Some(&update) = a.positional.first().filter(|_| a.positional.len() == 1) else {
        return fail_hint(
            Kind::Type,
            "optimiser() takes the update function",
            "write optimiser(update, state=[\"m\"], lr=lr) with update(p, g, s, t) -> (p, s)",
        );
    };
    if !matches!(update, Value::Function(_)) {
        return fail(Kind::Type, format!("optimiser: the update is a function, not {}", m.article(update)));
    }
    let ast = m.ast;
    let mut fields: Vec<(&str, Value)> = vec![("update", update)];
    let mut states = Vec::new();
    for (name, value) in a.keywords {
        match ast.name(name) {
            "state" => states = m.collect(value)?,
            reserved @ ("step" | "update") => {
                return fail(Kind::Value, format!("optimiser: '{reserved}' cannot be the name of a number"));
            }
            name => {
                let value = hyper(m, &format!("optimiser: {name}"), Some(value), 0.0)?;
                fields.push((name, value));
            }
        }
    }
    if states.len() > STATES_MAX {
        return fail(Kind::Limit, format!("optimiser: more than {STATES_MAX} states"));
    }
    let mut names: Vec<Rc<str>> = Vec::new();
    for &state in &states {
        let name = m.text_argument("optimiser: state", state)?;
        let plain =
            !name.is_empty() && name.len() <= 16 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !plain || names.contains(&name) {
            return fail(Kind::Value, "optimiser: states have different names of 1 to 16 letters, digits and `_`");
        }
        names.push(name);
    }
    let states = m.new_tuple(&states)?;
    fields.insert(1, ("state", states));
    object(m, ObjectKind::Optimiser(Rule::Custom), fields)
}

/// `group(pattern, optimiser)`.
pub(crate) fn group(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [pattern, optimiser] = a.two(m, "group", ["pattern", "optimiser|optimizer"])?;
    m.text_argument("group: pattern", pattern)?;
    if rule_of(m, optimiser).is_none() {
        return fail_hint(
            Kind::Type,
            format!("group: an optimiser is needed, not {}", m.article(optimiser)),
            "write group(\"*\", adamw(lr=lr))",
        );
    }
    object(m, ObjectKind::Group, vec![("pattern", pattern), ("optimiser", optimiser)])
}

/// `phase(share=1.0, batch=…, context=…)`.
pub(crate) fn phase(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [share, batch, context] = a.bind(m, "phase", ["share", "batch", "context"], 0)?;
    let share = m.real("phase: share", share.unwrap_or(Value::Float(1.0)))?;
    if !(share > 0.0 && share.is_finite()) {
        return fail(Kind::Value, "phase: the share is above 0");
    }
    let or_none = |value: Option<Value>| value.unwrap_or(Value::None);
    let fields = vec![("share", Value::Float(share)), ("batch", or_none(batch)), ("context", or_none(context))];
    object(m, ObjectKind::Phase, fields)
}

fn rule_of(m: &Machine<'_>, value: Value) -> Option<Rule> {
    match value {
        Value::Object(id) => match m.object(id).ok()?.kind {
            ObjectKind::Optimiser(rule) => Some(rule),
            _ => None,
        },
        _ => None,
    }
}

/// A pattern and what updates the parameters that it matches.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) pattern: Rc<str>,
    pub(crate) optimiser: Value,
}

/// What `optimizer()` gave: a list of groups, one group, or one optimiser for everything.
pub(crate) fn groups(m: &mut Machine<'_>, value: Value) -> Outcome<Vec<Group>> {
    if rule_of(m, value).is_some() {
        return Ok(vec![Group { pattern: "*".into(), optimiser: value }]);
    }
    let values = match value {
        Value::Object(_) => vec![value],
        value => m.collect(value)?,
    };
    let mut groups = Vec::new();
    for value in values {
        let group = match value {
            Value::Object(id) => m.object(id)?,
            other => return Err(no_groups(m, other)),
        };
        match (group.kind, &group.fields[..]) {
            (ObjectKind::Group, &[(_, Value::Text(pattern)), (_, optimiser)]) => {
                groups.push(Group { pattern: m.text(pattern)?, optimiser });
            }
            _ => return Err(no_groups(m, value)),
        }
    }
    Ok(groups)
}

fn no_groups(m: &Machine<'_>, value: Value) -> Box<Fault> {
    Fault::new(Kind::Program, format!("optimizer() gives a list of groups, not {}", m.article(value)))
        .hint("return [group(\"*\", adamw(lr=lr))]")
}

/// Whether a pattern matches: `tag:NAME`, or a glob (`*`, `?`) on the name.
pub(crate) fn matches(pattern: &str, name: &str, tag: &str) -> bool {
    match pattern.strip_prefix("tag:") {
        Some(wanted) => wanted == tag,
        None => glob(pattern.as_bytes(), name.as_bytes()),
    }
}

/// Greedy matching that goes back to the last star only.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || name.get(n) == Some(&byte) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (p, n) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&byte| byte == b'*'))
}

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
        let index = match self.tracer.states.iter().position(|state| state.name == full) {
            Some(index) => index,
            None => {
                self.charge(64 + full.len() as u64)?;
                self.tracer.states.push(StateVar { name: full, shape: shape.clone() });
                self.tracer.states.len() - 1
            }
        };
        self.build(0, |graph| graph.state(index as u32, shape))
    }

    /// Records the new value of a state.
    fn set_state(&mut self, of: Subject<'_>, name: &str, value: Value) -> Outcome<()> {
        let full = format!("{}/{name}", of.name);
        let id = self.node("state", value)?;
        let Some(index) = self.tracer.states.iter().position(|state| state.name == full) else {
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

/// `clip_by_global_norm(grads, max_norm)`: all gradients times min(1, max_norm / norm), the norm of all together.
pub(crate) fn clip_by_global_norm(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [grads, limit] = a.two(m, "clip_by_global_norm", ["grads", "max_norm"])?;
    let Value::Dict(id) = grads else {
        return fail(
            Kind::Type,
            format!("clip_by_global_norm: a dict of gradients is needed, not {}", m.article(grads)),
        );
    };
    let entries = m.dict(id)?.entries.clone();
    let mut total = None;
    for &(_, gradient) in &entries {
        let squared = m.pair(Binary::Mul, gradient, gradient)?;
        let sum = m.total(squared)?;
        total = Some(match total {
            None => sum,
            Some(total) => m.add(total, sum)?,
        });
    }
    let Some(total) = total else { return Ok(grads) };
    let norm = m.unary(Unary::Sqrt, total)?;
    let norm = m.pair(Binary::Max, norm, limit)?;
    let factor = m.div(limit, norm)?;
    let clipped = m.new_dict()?;
    for (key, gradient) in entries {
        let value = m.mul(gradient, factor)?;
        m.dict_set(clipped, key, value)?;
    }
    Ok(Value::Dict(clipped))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_are_globs_or_tags() {
        for (pattern, name, tag, want) in [
            ("*", "wte", "", true),
            ("block*.q", "block12.q", "", true),
            ("block?.q", "block12.q", "", false),
            ("*.o", "block1.o.o", "", true),
            ("a*b*c", "a-b-b-c", "", true),
            ("a*b", "a-b-c", "", false),
            ("tag:embedding", "wte", "embedding", true),
            ("tag:embedding", "tag:embedding", "", false),
            ("wte", "wte", "embedding", true),
            ("", "wte", "", false),
        ] {
            assert_eq!(matches(pattern, name, tag), want, "{pattern} {name} {tag}");
        }
    }
}
