//! The graphs of a phase and of the evaluation.

use cairn_engine::data::DataSpec;
use cairn_engine::graph::{DType, Graph, NodeId, Shape};

use super::plan::{Module, Stated};
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, Span, fail, fail_hint};
use crate::machine::Machine;
use crate::optimise::{Subject, matches};
use crate::value::Value;

/// A phase before all parameters and states of the program are known.
#[derive(Debug)]
pub(super) struct Drafted {
    pub(super) graph: Graph,
    pub(super) loss: NodeId,
    /// New value of each parameter that the phase uses.
    pub(super) params: Vec<Option<NodeId>>,
    pub(super) states: Vec<Option<NodeId>>,
}

impl Machine<'_> {
    /// Where a function of the module is defined: the place of its call by the engine.
    fn call_module(&mut self, function: Value, arguments: &[Value]) -> Outcome<Value> {
        self.call_at(function, arguments, Span::default())
    }

    /// One whole training step: forward, backward, optimiser.
    pub(super) fn training(&mut self, module: &Module, phase: Stated, data: &DataSpec) -> Outcome<Drafted> {
        self.tracer.begin(true);
        let shape = Shape(vec![phase.batch, phase.context]);
        let x = self.build(0, |graph| graph.input(0, shape.clone(), DType::I32))?;
        let y = self.build(0, |graph| graph.input(1, shape, DType::I32))?;
        let x = match module.augment {
            Some(augment) => self.augmented(augment, x)?,
            None => x,
        };
        let loss = match module.loss {
            Some(loss) => self.call_module(loss, &[x, y])?,
            None => {
                let output = self.call_module(module.model, &[x])?;
                self.check_output(output, phase.batch, phase.context, data)?;
                self.default_loss(output, y)?
            }
        };
        let loss = self.scalar_loss(loss)?;
        self.tracer.in_model = false;
        let used: Vec<usize> = (0..self.tracer.params.len()).filter(|&i| self.tracer.param_node(i).is_some()).collect();
        if used.is_empty() {
            return fail_hint(Kind::Program, "the model has no parameters", "create them with param(name, shape)");
        }
        let nodes: Vec<NodeId> = used.iter().filter_map(|&i| self.tracer.param_node(i)).collect();
        let gradients = self.gradients(loss, &nodes)?.into_iter().map(|id| self.tensor_of(id)).collect();
        let gradients = self.transformed(module, &used, gradients)?;
        let mut params = vec![None; self.tracer.params.len()];
        for (&index, &gradient) in used.iter().zip(&gradients) {
            let new = self.updated(module, index, gradient)?;
            if let Some(slot) = params.get_mut(index) {
                *slot = Some(new);
            }
        }
        let states = (0..self.tracer.states.len()).map(|i| self.tracer.state_out(i)).collect();
        Ok(Drafted { graph: self.tracer.end(), loss, params, states })
    }

    /// The training ids after the program's `augment`: ids of the same shape.
    fn augmented(&mut self, augment: Value, x: Value) -> Outcome<Value> {
        let changed = self.call_module(augment, &[x])?;
        if !matches!(changed, Value::Tensor(..)) {
            let message = format!("augment(x) gives {}, not a tensor", self.article(changed));
            return fail_hint(Kind::Program, message, "return ids of the same shape");
        }
        let (old, new) = (self.node("augment", x)?, self.node("augment", changed)?);
        let (wanted, got) = (self.shape_of(old)?, self.shape_of(new)?);
        if self.dtype_of(new)? != DType::I32 || wanted != got {
            let kind = if self.dtype_of(new)? == DType::I32 { "ids" } else { "floats" };
            return fail_hint(
                Kind::Shape,
                format!("augment(x) gives {kind} of shape {got:?}, and ids of shape {wanted:?} are needed"),
                "it changes ids, not how many there are; to_int(x) makes ids of floats",
            );
        }
        Ok(changed)
    }

    fn updated(&mut self, module: &Module, index: usize, gradient: Value) -> Outcome<NodeId> {
        let Some(known) = self.tracer.params.get(index).cloned() else {
            return fail(Kind::Internal, "a parameter that is not there");
        };
        let (name, tag) = (&known.param.name, &known.param.tag);
        let Some(group) = module.groups.iter().find(|group| matches(&group.pattern, name, tag)) else {
            return fail_hint(
                Kind::Program,
                format!("no group of optimizer() matches parameter '{name}'"),
                "end the list with group(\"*\", …)",
            )
            .map_err(|fault: Box<Fault>| fault.at(Span { start: known.at, end: known.at }));
        };
        let optimiser = group.optimiser;
        let param = self.param_value(index)?;
        self.update(optimiser, Subject { name, param, gradient })
    }

    /// The gradients after the program's grad_transform, if it has one.
    fn transformed(&mut self, module: &Module, used: &[usize], gradients: Vec<Value>) -> Outcome<Vec<Value>> {
        let Some(transform) = module.grad_transform else { return Ok(gradients) };
        let dict = self.new_dict()?;
        let mut keys = Vec::with_capacity(used.len());
        for (&index, &gradient) in used.iter().zip(&gradients) {
            let name = self.tracer.params.get(index).map(|known| known.param.name.clone()).unwrap_or_default();
            let key = self.new_text(&name)?;
            self.dict_set(dict, key, gradient)?;
            keys.push((name, key));
        }
        let result = self.call_module(transform, &[Value::Dict(dict)])?;
        let Value::Dict(result) = result else {
            return fail_hint(
                Kind::Program,
                format!("grad_transform(grads) gives a dict of gradients, not {}", self.article(result)),
                "return {name: g for name, g in grads.items()}",
            );
        };
        let mut changed = Vec::with_capacity(keys.len());
        for ((name, key), &old) in keys.into_iter().zip(&gradients) {
            let Some(new) = self.dict_get(result, key)? else {
                return fail(Kind::Program, format!("grad_transform(grads) gives no gradient for '{name}'"));
            };
            let (old, new) = (self.node("grad_transform", old)?, self.float_operand("grad_transform", new)?);
            let (wanted, got) = (self.shape_of(old)?, self.shape_of(new)?);
            if wanted != got {
                return fail(Kind::Shape, format!("grad_transform: '{name}' has shape {got:?}, not {wanted:?}"));
            }
            changed.push(self.tensor_of(new));
        }
        Ok(changed)
    }

    /// A loss is one number.
    fn scalar_loss(&mut self, loss: Value) -> Outcome<NodeId> {
        if self.number(loss).is_some() || loss == Value::None {
            return fail_hint(
                Kind::Program,
                format!("loss(x, y) gives {}, not a tensor", self.article(loss)),
                "return cross_entropy(model(x), y)",
            );
        }
        let id = self.float_operand("loss", loss)?;
        let shape = Shape(self.shape_of(id)?);
        if shape.elements() != 1 {
            return fail_hint(
                Kind::Shape,
                format!("a loss is one number, this one has shape {shape}"),
                "take its mean()",
            );
        }
        let scalar = self.build(1, |graph| graph.reshape(id, Shape(vec![])))?;
        self.node("loss", scalar)
    }

    fn check_output(&mut self, output: Value, rows: u32, context: u32, data: &DataSpec) -> Outcome<NodeId> {
        let wanted = [rows, context, data.classes];
        let Value::Tensor(..) = output else {
            return fail_hint(
                Kind::Program,
                format!("model(x) gives {}, not a tensor", self.article(output)),
                "return the logits",
            );
        };
        let id = self.float_operand("model", output)?;
        let shape = self.shape_of(id)?;
        if shape != wanted {
            return fail_hint(
                Kind::Shape,
                format!("model(x) gives shape {shape:?}, and {wanted:?} is needed"),
                format!("rows, positions, and one score for each of the {} classes", data.classes),
            );
        }
        Ok(id)
    }

    /// The graph from inputs to outputs, and its output node.
    pub(super) fn evaluation(
        &mut self,
        module: &Module,
        rows: u32,
        context: u32,
        data: &DataSpec,
    ) -> Outcome<(Graph, NodeId)> {
        self.tracer.begin(false);
        let x = self.build(0, |graph| graph.input(0, Shape(vec![rows, context]), DType::I32))?;
        let output = self.call_module(module.model, &[x])?;
        let output = self.check_output(output, rows, context, data)?;
        let (graph, roots) = self.tracer.end().pruned(&[output]);
        match roots[..] {
            [output] => Ok((graph, output)),
            _ => fail(Kind::Internal, "an evaluation without output"),
        }
    }
}
