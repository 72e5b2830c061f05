//! What an example gives and costs, and how a refusal reads: the parts of the manual that are measured.

use cairn_engine::data::DataSpec;
use cairn_engine::graph::{DType, NodeId, Op, Shape};
use cairn_engine::price;

use super::{Operation, Place};
use crate::diagnostic::{Diagnostic, Kind};
use crate::fault::{Outcome, Span, fail};
use crate::limits::Limits;
use crate::machine::Machine;
use crate::optimise::{self, Subject};
use crate::trace::evaluated;
use crate::value::Value;
use crate::{TraceContext, trace};

/// Side of the matrix parameter on which an optimiser is measured.
const SIDE: u32 = 256;

/// What an example came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    /// The result, as the manual shows it.
    pub(super) result: String,
    /// Metered operations of its nodes.
    pub(super) forward: u64,
    /// Metered operations of the gradients of all float operands; none where no gradient passes.
    pub(super) backward: Option<u64>,
}

/// A text of bytes with room for everything that an example may need.
pub(super) fn context() -> TraceContext {
    TraceContext {
        data: DataSpec::text(256, 1024, 55_770, 55_770),
        budget: 1 << 36,
        memory: 1 << 32,
        parameters: 1 << 24,
        literal_bits: 1 << 20,
    }
}

/// How the refused expression of an operation is refused.
pub(super) fn refusal(operation: &Operation) -> Option<Box<Diagnostic>> {
    let (source, _) = operation.program(operation.refused);
    trace(&source, &context(), &Limits::default()).err()
}

/// Runs an operation's example; none for those that build nothing.
pub(super) fn example(operation: &Operation) -> Result<Option<Measured>, Box<Diagnostic>> {
    let (source, _) = operation.program(operation.example);
    evaluated(&source, &Limits::default(), |machine| {
        machine.run()?;
        match operation.place {
            Place::Model => model(machine).map(Some),
            Place::Optimizer => optimizer(machine).map(Some),
            Place::Gradients => gradients(machine).map(Some),
            Place::Phases => Ok(None),
        }
    })
}

impl Machine<'_> {
    fn module_function(&self, name: &str) -> Outcome<Value> {
        match self.global(name) {
            Some(function) => Ok(function),
            None => fail(Kind::Internal, format!("the example has no {name}")),
        }
    }

    /// A parameter of the example.
    fn leaf(&mut self, index: u32, shape: &[u32]) -> Outcome<Value> {
        self.build(0, |graph| graph.param(index, Shape(shape.to_vec())))
    }

    /// Metered operations of the nodes from one id on.
    fn price_from(&self, first: usize) -> Outcome<u64> {
        let graph = self.graph()?;
        Ok((first..graph.len()).map(|id| price::node(graph, id as NodeId)).sum())
    }
}

fn model(machine: &mut Machine<'_>) -> Outcome<Measured> {
    let function = machine.module_function("example")?;
    machine.tracer.begin(true);
    let x = machine.build(0, |graph| graph.input(0, Shape(vec![32, 64]), DType::I32))?;
    let shapes: [&[u32]; 4] = [&[32, 64, 64], &[64], &[64, 128], &[32, 4, 64, 16]];
    let mut arguments = vec![x];
    for (index, shape) in (0..).zip(shapes) {
        arguments.push(machine.leaf(index, shape)?);
    }
    let first = machine.graph()?.len();
    let value = machine.call_at(function, &arguments, Span::default())?;
    let forward = machine.price_from(first)?;
    let backward = match value {
        Value::Tensor(_, id) => backward(machine, id)?,
        _ => None,
    };
    Ok(Measured { result: shown(machine, value)?, forward, backward })
}

/// Metered operations of the gradients of everything trained that a result depends on.
fn backward(machine: &mut Machine<'_>, result: NodeId) -> Outcome<Option<u64>> {
    let graph = machine.graph()?;
    if graph.dtype(result)? != DType::F32 {
        return Ok(None);
    }
    let mut reached = vec![false; result as usize + 1];
    if let Some(last) = reached.last_mut() {
        *last = true;
    }
    let mut wanted = Vec::new();
    for id in (0..=result).rev() {
        let Some(node) = graph.nodes().get(id as usize).filter(|_| reached[id as usize]) else { continue };
        if matches!(node.op, Op::Param(_)) {
            wanted.push(id);
        }
        node.inputs.iter().for_each(|&input| reached[input as usize] = true);
    }
    let elements = graph.shape(result)?.elements();
    let loss = machine.total(machine.tensor_of(result))?;
    let loss = machine.node("loss", loss)?;
    let first = machine.graph()?.len();
    let gradients = machine.gradients(loss, &wanted)?;
    let graph = machine.graph()?;
    let zero = |id: &NodeId| matches!(graph.nodes().get(*id as usize).map(|node| &node.op), Some(Op::Full(0)));
    if gradients.iter().all(zero) {
        return Ok(None);
    }
    // The sum's gradient is a 1 for each element, which the operation does not pay for.
    let seed = if elements == 1 { 0 } else { elements.saturating_mul(16).max(price::NODE_MIN) };
    machine.price_from(first).map(|price| Some(price.saturating_sub(seed)))
}

fn optimizer(machine: &mut Machine<'_>) -> Outcome<Measured> {
    let function = machine.module_function("optimizer")?;
    let value = machine.call_at(function, &[], Span::default())?;
    let groups = optimise::groups(machine, value)?;
    let Some(group) = groups.first() else {
        return fail(Kind::Internal, "an example without a group");
    };
    machine.tracer.begin(true);
    let param = machine.leaf(0, &[SIDE, SIDE])?;
    let gradient = machine.leaf(1, &[SIDE, SIDE])?;
    let first = machine.graph()?.len();
    machine.update(group.optimiser, Subject { name: "w", param, gradient })?;
    let result = format!("updates a [{SIDE}, {SIDE}] parameter");
    Ok(Measured { result, forward: machine.price_from(first)?, backward: None })
}

fn gradients(machine: &mut Machine<'_>) -> Outcome<Measured> {
    let function = machine.module_function("grad_transform")?;
    machine.tracer.begin(true);
    let gradient = machine.leaf(0, &[SIDE, SIDE])?;
    let (grads, key) = (machine.new_dict()?, machine.new_text("w")?);
    machine.dict_set(grads, key, gradient)?;
    let first = machine.graph()?.len();
    machine.call_at(function, &[Value::Dict(grads)], Span::default())?;
    let result = format!("for one gradient [{SIDE}, {SIDE}]");
    Ok(Measured { result, forward: machine.price_from(first)?, backward: None })
}

/// A result as the manual shows it: type and shape of tensors, numbers as they are.
fn shown(machine: &mut Machine<'_>, value: Value) -> Outcome<String> {
    Ok(match value {
        Value::Tensor(_, id) => {
            let kind = match machine.dtype_of(id)? {
                DType::F32 => "floats",
                DType::I32 => "ints",
            };
            format!("{kind} {:?}", machine.shape_of(id)?)
        }
        Value::Tuple(id) if machine.tuple(id)?.iter().any(|value| matches!(value, Value::Tensor(..))) => {
            let parts = machine.tuple(id)?;
            let shown: Outcome<Vec<String>> = parts.iter().map(|&part| shown(machine, part)).collect();
            shown?.join(", ")
        }
        other => machine.exact_text(other)?,
    })
}
