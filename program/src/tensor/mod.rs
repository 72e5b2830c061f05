//! Tensors while the graph is built: they have shapes and no values, and every operation on one is a node.
//!
//! The tables here are what `from cairn import …` and `x.method` reach. An operation that the engine has becomes one
//! node; the others are written down here as what they are made of, and that is their definition.
//!
//! *Invariant:* nodes come into the graph through its checked constructors only, each paid for and blamed on the source
//! line of the call that built it.

mod convolution;
mod einsum;
mod elementwise;
mod index;
mod layer;
mod leaf;
mod order;
mod random;
mod reduce;
mod shape;

use std::collections::{BTreeMap, BTreeSet};

use cairn_engine::graph::{Binary, DType, Graph, GraphError, NodeId, Param, Shape, StateVar, Unary};

use crate::ast::BinaryOp;
use crate::builtin::{Entry, entry};
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, Span, fail, fail_hint};
use crate::machine::{Arguments, Machine};
use crate::value::Value;

/// Bytes that building a node is charged: the node, and those that reshape its operands.
const NODE_BYTES: u64 = 512;
/// Evaluation steps that building a node takes.
const NODE_FUEL: u64 = 8;

pub(crate) const FUNCTIONS: &[Entry] = &[
    entry("abs", |m, a| elementwise::unary(m, a, "abs", Unary::Abs)),
    entry("adamw", crate::optimise::adamw),
    entry("arange", leaf::arange),
    entry("argmax", index::argmax),
    entry("argsort", order::argsort),
    entry("attention", layer::attention),
    entry("avg_pool2d", convolution::avg_pool2d),
    entry("broadcast_to", shape::broadcast_to),
    entry("cat", shape::concat),
    entry("chunk", shape::chunk),
    entry("clamp", elementwise::clip),
    entry("clip", elementwise::clip),
    entry("clip_by_global_norm", crate::optimise::clip_by_global_norm),
    entry("concat", shape::concat),
    entry("concatenate", shape::concat),
    entry("conv1d", convolution::conv1d),
    entry("conv2d", convolution::conv2d),
    entry("cos", |m, a| elementwise::unary(m, a, "cos", Unary::Cos)),
    entry("cross_entropy", layer::cross_entropy),
    entry("cumsum", order::cumsum),
    entry("dropout", random::dropout),
    entry("einsum", einsum::einsum),
    entry("embedding", layer::embedding),
    entry("eq", |m, a| elementwise::comparison(m, a, "eq", crate::ast::CompareOp::Eq)),
    entry("erf", |m, a| elementwise::unary(m, a, "erf", Unary::Erf)),
    entry("exp", |m, a| elementwise::unary(m, a, "exp", Unary::Exp)),
    entry("expand_dims", shape::unsqueeze),
    entry("flatten", shape::flatten),
    entry("flip", order::flip),
    entry("floor", |m, a| elementwise::unary(m, a, "floor", Unary::Floor)),
    entry("full", leaf::full),
    entry("full_like", leaf::full_like),
    entry("gather", order::gather),
    entry("ge", |m, a| elementwise::comparison(m, a, "ge", crate::ast::CompareOp::GtE)),
    entry("gelu", elementwise::gelu),
    entry("group", crate::optimise::group),
    entry("gt", |m, a| elementwise::comparison(m, a, "gt", crate::ast::CompareOp::Gt)),
    entry("is_training", leaf::is_training),
    entry("layer_norm", layer::layer_norm),
    entry("le", |m, a| elementwise::comparison(m, a, "le", crate::ast::CompareOp::LtE)),
    entry("linear", layer::linear),
    entry("lion", crate::optimise::lion),
    entry("log", |m, a| elementwise::unary(m, a, "log", Unary::Log)),
    entry("log_softmax", layer::log_softmax),
    entry("logsumexp", reduce::logsumexp),
    entry("lt", |m, a| elementwise::comparison(m, a, "lt", crate::ast::CompareOp::Lt)),
    entry("masked_fill", order::masked_fill),
    entry("matmul", elementwise::matmul),
    entry("max", reduce::max),
    entry("max_pool2d", convolution::max_pool2d),
    entry("maximum", |m, a| elementwise::pairwise(m, a, "maximum", Binary::Max)),
    entry("mean", reduce::mean),
    entry("min", reduce::min),
    entry("minimum", |m, a| elementwise::pairwise(m, a, "minimum", Binary::Min)),
    entry("muon", crate::optimise::muon),
    entry("ne", |m, a| elementwise::comparison(m, a, "ne", crate::ast::CompareOp::NotEq)),
    entry("neg", |m, a| elementwise::unary(m, a, "neg", Unary::Neg)),
    entry("normal", |m, a| random::random(m, a, "normal", cairn_engine::graph::Random::Normal)),
    entry("one_hot", index::one_hot),
    entry("ones", |m, a| leaf::filled(m, a, "ones", 1.0)),
    entry("ones_like", |m, a| leaf::filled_like(m, a, "ones_like", 1.0)),
    entry("optimiser", crate::optimise::optimiser),
    entry("optimizer", crate::optimise::optimiser),
    entry("pad", shape::pad),
    entry("param", leaf::param),
    entry("permute", shape::permute),
    entry("phase", crate::optimise::phase),
    entry("reciprocal", |m, a| elementwise::unary(m, a, "reciprocal", Unary::Recip)),
    entry("relu", |m, a| elementwise::unary(m, a, "relu", Unary::Relu)),
    entry("reshape", shape::reshape),
    entry("rms_norm", layer::rms_norm),
    entry("roll", order::roll),
    entry("rope", layer::rope),
    entry("round", |m, a| elementwise::unary(m, a, "round", Unary::Round)),
    entry("round_to", elementwise::round_to),
    entry("rsqrt", |m, a| elementwise::unary(m, a, "rsqrt", Unary::Rsqrt)),
    entry("scatter_add", order::scatter_add),
    entry("sgd", crate::optimise::sgd),
    entry("sigmoid", |m, a| elementwise::unary(m, a, "sigmoid", Unary::Sigmoid)),
    entry("sign", |m, a| elementwise::unary(m, a, "sign", Unary::Sign)),
    entry("silu", elementwise::silu),
    entry("sin", |m, a| elementwise::unary(m, a, "sin", Unary::Sin)),
    entry("softmax", layer::softmax),
    entry("softplus", elementwise::softplus),
    entry("sort", order::sort),
    entry("split", shape::split),
    entry("sqrt", |m, a| elementwise::unary(m, a, "sqrt", Unary::Sqrt)),
    entry("squeeze", shape::squeeze),
    entry("stack", shape::stack),
    entry("stop_gradient", elementwise::stop_gradient),
    entry("sum", reduce::sum),
    entry("take", index::take),
    entry("tanh", |m, a| elementwise::unary(m, a, "tanh", Unary::Tanh)),
    entry("to_float", elementwise::to_float),
    entry("to_int", order::to_int),
    entry("topk", order::topk),
    entry("transpose", shape::transpose),
    entry("tril", |m, a| order::triangle(m, a, "tril", true)),
    entry("triu", |m, a| order::triangle(m, a, "triu", false)),
    entry("uniform", |m, a| random::random(m, a, "uniform", cairn_engine::graph::Random::Uniform)),
    entry("unsqueeze", shape::unsqueeze),
    entry("var", reduce::var),
    entry("where", elementwise::where_),
    entry("zeros", |m, a| leaf::filled(m, a, "zeros", 0.0)),
    entry("zeros_like", |m, a| leaf::filled_like(m, a, "zeros_like", 0.0)),
];

pub(crate) const METHODS: &[Entry] = &[
    entry("abs", |m, a| elementwise::unary(m, a, "abs", Unary::Abs)),
    entry("amax", reduce::max),
    entry("argmax", index::argmax),
    entry("argsort", order::argsort),
    entry("chunk", shape::chunk),
    entry("clamp", elementwise::clip),
    entry("clip", elementwise::clip),
    entry("cos", |m, a| elementwise::unary(m, a, "cos", Unary::Cos)),
    entry("cumsum", order::cumsum),
    entry("detach", elementwise::stop_gradient),
    entry("dim", shape::ndim),
    entry("erf", |m, a| elementwise::unary(m, a, "erf", Unary::Erf)),
    entry("exp", |m, a| elementwise::unary(m, a, "exp", Unary::Exp)),
    entry("expand", shape::expand),
    entry("flatten", shape::flatten),
    entry("flip", order::flip),
    entry("float", elementwise::to_float),
    entry("floor", |m, a| elementwise::unary(m, a, "floor", Unary::Floor)),
    entry("gather", order::gather),
    entry("int", |m, a| order::truncated(m, a, "int")),
    entry("log", |m, a| elementwise::unary(m, a, "log", Unary::Log)),
    entry("log_softmax", layer::log_softmax),
    entry("logsumexp", reduce::logsumexp),
    entry("long", |m, a| order::truncated(m, a, "long")),
    entry("masked_fill", order::masked_fill),
    entry("matmul", elementwise::matmul),
    entry("max", reduce::max),
    entry("mean", reduce::mean),
    entry("min", reduce::min),
    entry("neg", |m, a| elementwise::unary(m, a, "neg", Unary::Neg)),
    entry("numel", shape::numel),
    entry("permute", shape::permute),
    entry("pow", elementwise::pow),
    entry("reciprocal", |m, a| elementwise::unary(m, a, "reciprocal", Unary::Recip)),
    entry("relu", |m, a| elementwise::unary(m, a, "relu", Unary::Relu)),
    entry("reshape", shape::reshape),
    entry("roll", order::roll),
    entry("round", |m, a| elementwise::unary(m, a, "round", Unary::Round)),
    entry("rsqrt", |m, a| elementwise::unary(m, a, "rsqrt", Unary::Rsqrt)),
    entry("scatter_add", order::scatter_add),
    entry("sigmoid", |m, a| elementwise::unary(m, a, "sigmoid", Unary::Sigmoid)),
    entry("sign", |m, a| elementwise::unary(m, a, "sign", Unary::Sign)),
    entry("sin", |m, a| elementwise::unary(m, a, "sin", Unary::Sin)),
    entry("size", shape::size),
    entry("softmax", layer::softmax),
    entry("sort", order::sort),
    entry("split", shape::split),
    entry("sqrt", |m, a| elementwise::unary(m, a, "sqrt", Unary::Sqrt)),
    entry("square", elementwise::square),
    entry("squeeze", shape::squeeze),
    entry("sum", reduce::sum),
    entry("tanh", |m, a| elementwise::unary(m, a, "tanh", Unary::Tanh)),
    entry("topk", order::topk),
    entry("transpose", shape::transpose),
    entry("tril", |m, a| order::triangle(m, a, "tril", true)),
    entry("triu", |m, a| order::triangle(m, a, "triu", false)),
    entry("unsqueeze", shape::unsqueeze),
    entry("var", reduce::var),
    entry("view", shape::reshape),
];

/// A parameter and where the program first named it.
#[derive(Clone, Debug)]
pub(crate) struct KnownParam {
    pub(crate) param: Param,
    pub(crate) at: u32,
}

/// A number that changes with the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Table {
    /// A function of step and steps.
    Schedule(Value),
    /// The step, from 0.
    Step,
    /// 1 / (1 − β^(step + 1)): what makes up for a moment's start at zero.
    Correction(f64),
    /// 1 − d of a decay d or a schedule of decays, 1 at the first step: what an average takes of a new value.
    Average(Value),
}

/// The graph under construction, and what the graphs of one program share.
#[derive(Debug, Default)]
pub(crate) struct Tracer {
    graph: Option<Graph>,
    /// Tells the tensors of one graph from those of another.
    epoch: u32,
    /// Whether training or evaluation is traced.
    pub(crate) training: bool,
    /// Whether the model may be built: `param` and randomness belong there, not into optimisers.
    pub(crate) in_model: bool,
    pub(crate) params: Vec<KnownParam>,
    by_name: BTreeMap<String, u32>,
    /// Where each parameter is in this graph.
    param_nodes: Vec<Option<NodeId>>,
    pub(crate) states: Vec<StateVar>,
    state_by_name: BTreeMap<String, usize>,
    /// States that evaluation reads in place of the parameters, in their order; empty where it reads the parameters.
    pub(crate) averages: Vec<u32>,
    /// New value of each state in this graph.
    states_out: Vec<Option<NodeId>>,
    /// Scalars of this graph, each built once.
    constants: BTreeMap<u32, NodeId>,
    pub(crate) tables: Vec<Table>,
    table_nodes: Vec<Option<NodeId>>,
    streams: BTreeSet<String>,
    unnamed_streams: u32,
    /// Byte at which each line of the source starts.
    pub(crate) line_starts: Vec<u32>,
    at: u32,
}

impl Tracer {
    pub(crate) fn is_tracing(&self) -> bool {
        self.graph.is_some()
    }

    /// Nodes built from now on come from the line of this byte.
    pub(crate) fn blame(&mut self, at: u32) {
        self.at = at;
        let line = self.line_at(at);
        if let Some(graph) = &mut self.graph {
            graph.set_line(line);
        }
    }

    /// The line of a byte of the source, from 1.
    pub(crate) fn line_at(&self, at: u32) -> u32 {
        self.line_starts.partition_point(|&start| start <= at) as u32
    }

    /// Where the program is.
    pub(crate) fn at(&self) -> u32 {
        self.at
    }

    /// Starts a graph; the tensors of the one before are of no use any more.
    pub(crate) fn begin(&mut self, training: bool) {
        self.graph = Some(Graph::default());
        self.epoch += 1;
        (self.training, self.in_model) = (training, true);
        self.param_nodes = vec![None; self.params.len()];
        self.states_out.clear();
        self.constants.clear();
        self.table_nodes = vec![None; self.tables.len()];
        self.streams.clear();
        self.unnamed_streams = 0;
    }

    /// The graph, when all is built.
    pub(crate) fn end(&mut self) -> Graph {
        self.in_model = false;
        self.graph.take().unwrap_or_default()
    }

    /// The index of a state, if it is known.
    pub(crate) fn state_index(&self, name: &str) -> Option<usize> {
        self.state_by_name.get(name).copied()
    }

    /// A new state.
    pub(crate) fn add_state(&mut self, state: StateVar) -> usize {
        self.state_by_name.insert(state.name.clone(), self.states.len());
        self.states.push(state);
        self.states.len() - 1
    }

    /// Records the new value of a state.
    pub(crate) fn set_state_out(&mut self, state: usize, id: NodeId) {
        self.states_out.resize(self.states.len().max(state + 1), None);
        if let Some(slot) = self.states_out.get_mut(state) {
            *slot = Some(id);
        }
    }

    /// The new value of a state, if this graph computes one.
    pub(crate) fn state_out(&self, state: usize) -> Option<NodeId> {
        self.states_out.get(state).copied().flatten()
    }

    /// The node of a parameter, if this graph uses it.
    pub(crate) fn param_node(&self, param: usize) -> Option<NodeId> {
        self.param_nodes.get(param).copied().flatten()
    }
}

impl From<GraphError> for Box<Fault> {
    fn from(error: GraphError) -> Self {
        match error {
            GraphError::Shape(message) => Fault::new(Kind::Shape, message),
            GraphError::DType(message) => Fault::new(Kind::Type, message).hint(
                "token ids and labels are I32: embedding, one_hot, cross_entropy take them; to_float(x) converts",
            ),
            GraphError::Limit(message) => Fault::new(Kind::Limit, message),
            GraphError::Gradient(message) => Fault::new(Kind::Unavailable, message),
        }
    }
}

/// The bits of the f32 nearest to a literal, in the engine's number system.
pub(crate) fn bits(value: f64) -> u32 {
    cairn_engine::number::from_foreign(value as f32).to_bits()
}

impl Machine<'_> {
    // ---- graph

    /// The graph under construction, to look at.
    pub(crate) fn graph(&self) -> Outcome<&Graph> {
        self.tracer.graph.as_ref().ok_or_else(outside)
    }

    /// Builds something in the graph, and pays for it.
    pub(crate) fn build(
        &mut self,
        operands: usize,
        build: impl FnOnce(&mut Graph) -> Result<NodeId, GraphError>,
    ) -> Outcome<Value> {
        self.burn(NODE_FUEL + operands as u64)?;
        self.charge(NODE_BYTES + 8 * operands as u64)?;
        let graph = self.tracer.graph.as_mut().ok_or_else(outside)?;
        let id = build(graph)?;
        Ok(Value::Tensor(self.tracer.epoch, id))
    }

    /// Differentiates the graph's loss.
    pub(crate) fn gradients(&mut self, loss: NodeId, wrt: &[NodeId]) -> Outcome<Vec<NodeId>> {
        let graph = self.tracer.graph.as_mut().ok_or_else(outside)?;
        Ok(cairn_engine::grad::gradients(graph, loss, wrt)?)
    }

    /// A node of the graph as a value.
    pub(crate) fn tensor_of(&self, id: NodeId) -> Value {
        Value::Tensor(self.tracer.epoch, id)
    }

    /// The node that a value is.
    pub(crate) fn node(&self, what: &str, value: Value) -> Outcome<NodeId> {
        match value {
            Value::Tensor(epoch, id) if epoch == self.tracer.epoch && self.tracer.graph.is_some() => Ok(id),
            Value::Tensor(..) => fail_hint(
                Kind::Value,
                format!("{what}: this tensor is of an earlier trace"),
                "training and evaluation are traced apart: build tensors inside of model(), do not keep them between calls",
            ),
            other => fail(Kind::Type, format!("{what}: a tensor is needed, not {}", self.article(other))),
        }
    }

    pub(crate) fn shape_of(&self, id: NodeId) -> Outcome<Vec<u32>> {
        Ok(self.graph()?.shape(id)?.0.clone())
    }

    pub(crate) fn dtype_of(&self, id: NodeId) -> Outcome<DType> {
        Ok(self.graph()?.dtype(id)?)
    }

    /// A float scalar, of which each graph has one for each value.
    pub(crate) fn scalar(&mut self, value: f64) -> Outcome<Value> {
        if value.is_nan() {
            return fail(Kind::Value, "not a number (inf - inf, …) cannot become a tensor");
        }
        let bits = bits(value);
        if let Some(&id) = self.tracer.constants.get(&bits)
            && self.tracer.graph.is_some()
        {
            return Ok(Value::Tensor(self.tracer.epoch, id));
        }
        let built = self.build(0, |graph| graph.full(bits, Shape(vec![])))?;
        if let Value::Tensor(_, id) = built {
            self.tracer.constants.insert(bits, id);
        }
        Ok(built)
    }

    /// The node of an operand that may be a number.
    pub(crate) fn operand(&mut self, what: &str, value: Value) -> Outcome<NodeId> {
        match self.number(value) {
            Some(number) => {
                let scalar = self.scalar(number.float())?;
                self.node(what, scalar)
            }
            None => self.node(what, value),
        }
    }

    /// The node of a float operand; integers become floats.
    pub(crate) fn float_operand(&mut self, what: &str, value: Value) -> Outcome<NodeId> {
        let id = self.operand(what, value)?;
        if self.dtype_of(id)? == DType::F32 {
            return Ok(id);
        }
        let floats = self.build(1, |graph| graph.unary(Unary::ToFloat, id))?;
        self.node(what, floats)
    }

    // ---- operations that others are made of

    pub(crate) fn unary(&mut self, op: Unary, a: Value) -> Outcome<Value> {
        let a = self.float_operand(&format!("{op:?}").to_lowercase(), a)?;
        self.build(1, |graph| graph.unary(op, a))
    }

    pub(crate) fn pair(&mut self, op: Binary, a: Value, b: Value) -> Outcome<Value> {
        let name = format!("{op:?}").to_lowercase();
        let (a, b) = (self.float_operand(&name, a)?, self.float_operand(&name, b)?);
        self.build(2, |graph| graph.binary(op, a, b))
    }

    pub(crate) fn add(&mut self, a: Value, b: Value) -> Outcome<Value> {
        self.binary(BinaryOp::Add, a, b)
    }

    pub(crate) fn sub(&mut self, a: Value, b: Value) -> Outcome<Value> {
        self.binary(BinaryOp::Sub, a, b)
    }

    pub(crate) fn mul(&mut self, a: Value, b: Value) -> Outcome<Value> {
        self.binary(BinaryOp::Mul, a, b)
    }

    pub(crate) fn div(&mut self, a: Value, b: Value) -> Outcome<Value> {
        self.binary(BinaryOp::Div, a, b)
    }

    // ---- parameters, states, tables

    /// The node of a parameter in this graph.
    pub(crate) fn param_value(&mut self, index: usize) -> Outcome<Value> {
        if let Some(id) = self.tracer.param_node(index) {
            return Ok(self.tensor_of(id));
        }
        let Some(shape) = self.tracer.params.get(index).map(|known| known.param.shape.clone()) else {
            return fail(Kind::Internal, "a parameter that is not there");
        };
        let average = self.tracer.averages.get(index).copied().filter(|_| !self.tracer.training);
        let value = self.build(0, |graph| match average {
            Some(state) => graph.state(state, shape),
            None => graph.param(index as u32, shape),
        })?;
        if let Value::Tensor(_, id) = value {
            self.tracer.param_nodes.resize(self.tracer.params.len(), None);
            if let Some(slot) = self.tracer.param_nodes.get_mut(index) {
                *slot = Some(id);
            }
        }
        Ok(value)
    }

    /// The index of a table, a new one where it is new.
    pub(crate) fn table_index(&mut self, table: Table) -> Outcome<u32> {
        let known = self.tracer.tables.iter().position(|known| *known == table);
        if known.is_none() && self.tracer.tables.len() >= self.limits.tables as usize {
            return fail(Kind::Limit, format!("more than {} schedules", self.limits.tables));
        }
        Ok(known.unwrap_or_else(|| {
            self.tracer.tables.push(table);
            self.tracer.tables.len() - 1
        }) as u32)
    }

    /// The scalar of a table in this graph.
    pub(crate) fn table(&mut self, table: Table) -> Outcome<Value> {
        let index = self.table_index(table)? as usize;
        self.tracer.table_nodes.resize(self.tracer.tables.len(), None);
        if let Some(Some(id)) = self.tracer.table_nodes.get(index) {
            return Ok(self.tensor_of(*id));
        }
        let value = self.build(0, |graph| graph.table(index as u32))?;
        if let (Value::Tensor(_, id), Some(slot)) = (value, self.tracer.table_nodes.get_mut(index)) {
            *slot = Some(id);
        }
        Ok(value)
    }

    // ---- arguments

    /// The axis that an argument names, negative from the end.
    pub(crate) fn axis(&self, what: &str, value: Value, rank: usize) -> Outcome<u8> {
        let axis = self.integer(&format!("{what}: dim"), value)?;
        let at = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        match u8::try_from(at) {
            Ok(at) if usize::from(at) < rank => Ok(at),
            _ => fail(Kind::Shape, format!("{what}: axis {axis} is out of range for a tensor with {rank} axes")),
        }
    }

    /// Ints given one by one, or as one list or tuple.
    pub(crate) fn integers(&mut self, what: &str, values: &[Value]) -> Outcome<Vec<i64>> {
        let values = match values {
            [list @ (Value::List(_) | Value::Tuple(_))] => self.collect(*list)?,
            values => values.to_vec(),
        };
        values.into_iter().map(|value| self.integer(what, value)).collect()
    }

    /// A shape argument.
    pub(crate) fn shape_argument(&mut self, what: &str, value: Value) -> Outcome<Shape> {
        let dims = self.integers(what, &[value])?;
        self.new_shape(what, &dims)
    }

    pub(crate) fn new_shape(&self, what: &str, dims: &[i64]) -> Outcome<Shape> {
        let dims: Option<Vec<u32>> = dims.iter().map(|&n| u32::try_from(n).ok().filter(|&n| n > 0)).collect();
        match dims {
            Some(dims) => Ok(Shape(dims)),
            None => fail(Kind::Shape, format!("{what}: the lengths of a shape are at least 1 and below 2^32")),
        }
    }

    /// Text, an argument that must be.
    pub(crate) fn text_argument(&self, what: &str, value: Value) -> Outcome<std::rc::Rc<str>> {
        match value {
            Value::Text(id) => self.text(id),
            other => fail(Kind::Type, format!("{what}: a str is needed, not {}", self.article(other))),
        }
    }

    // ---- attributes

    pub(crate) fn tensor_attribute(&mut self, value: Value, name: &str) -> Outcome<Option<Value>> {
        let id = self.node(name, value)?;
        Ok(Some(match name {
            "shape" => {
                let dims: Vec<Value> = self.shape_of(id)?.into_iter().map(|n| Value::Int(n.into())).collect();
                self.new_tuple(&dims)?
            }
            "ndim" => Value::Int(self.shape_of(id)?.len() as i64),
            "T" => match self.shape_of(id)?.len() {
                2 => self.build(1, |graph| graph.permute(id, &[1, 0]))?,
                rank => {
                    return fail_hint(
                        Kind::Shape,
                        format!(".T of a tensor with {rank} axes"),
                        "use .mT to swap the last two axes, or permute(…)",
                    );
                }
            },
            "mT" => {
                let rank = self.shape_of(id)?.len();
                if rank < 2 {
                    return fail(Kind::Shape, ".mT needs two axes");
                }
                let perm: Vec<u8> = (0..rank as u8 - 2).chain([rank as u8 - 1, rank as u8 - 2]).collect();
                self.build(1, |graph| graph.permute(id, &perm))?
            }
            "data" | "grad" | "requires_grad" | "device" | "dtype" | "item" | "numpy" | "tolist" | "backward"
            | "cuda" | "cpu" | "to" | "half" | "bfloat16" => {
                return fail_hint(
                    Kind::Attribute,
                    format!("a tensor has no '{name}'"),
                    "the engine chooses device and precision and differentiates by itself; tensors have shapes, no values",
                );
            }
            "values" | "indices" => {
                return fail_hint(
                    Kind::Attribute,
                    format!("a tensor has no '{name}'"),
                    "max and min give the values themselves; argmax gives the index",
                );
            }
            _ => return Ok(None),
        }))
    }

    pub(crate) fn tensor_len(&mut self, value: Value) -> Outcome<Value> {
        let id = self.node("len", value)?;
        match self.shape_of(id)?.first() {
            Some(&n) => Ok(Value::Int(n.into())),
            None => fail(Kind::Type, "a scalar has no len()"),
        }
    }

    /// Where the program is, for calls that builtins make.
    pub(crate) fn here(&self) -> Span {
        Span { start: self.tracer.at(), end: self.tracer.at() }
    }

    /// Calls a value with a place for the call stack.
    pub(crate) fn call_at(&mut self, callee: Value, arguments: &[Value], at: Span) -> Outcome<Value> {
        self.call(callee, Arguments::of(arguments), at)
    }
}

#[cold]
fn outside() -> Box<Fault> {
    Fault::new(Kind::Program, "tensors exist only while the graph is built")
        .hint("build them inside of model(), loss(), grad_transform() or an optimiser's update, not at module level or in schedules")
}
