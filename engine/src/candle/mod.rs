//! Exploration on other hardware: the graph run by candle, node by node, on its processor, CUDA or Metal device.
//!
//! Optional (feature `candle`; `cuda` and `metal` choose the device). An operation that candle lacks is computed by
//! [`mod@crate::reference`] on the host, so every graph runs. Sums take candle's order and contractions do not round
//! their operands, so results are near the exact ones, never equal by design. The edges of the number system are kept
//! where a training can meet them: divisors and roots of 0, logarithms, e^x beyond 2^60; results are canonical, and
//! what is no number comes out as 2^60, so that the runner sees a divergence.
//!
//! Start at [`Candle`]; [`elementwise`], [`rows`], [`attention`], [`conv`] and [`index`] hold one family each.
//!
//! *Invariant:* nothing that is signed may come from here; see [`crate::backend::Kind::exact`].

mod attention;
mod conv;
mod elementwise;
mod index;
mod rows;
mod signs;

use std::collections::BTreeMap;

use candle_core::{DType as Type, Device, Tensor};

use self::attention::Kept;
use self::signs::Signs;
use crate::backend::{BackendError, Executor, Feed, Tensor as Host};
use crate::graph::{DType, Graph, Node, NodeId, Op};
use crate::number::{HUGE, canon, from_foreign};
use crate::reference::{self, last_uses};

/// What candle's own functions return.
type Result<T> = candle_core::Result<T>;

/// The candle backend: one graph made ready.
#[derive(Debug)]
pub struct Candle {
    graph: Graph,
    wanted: Vec<NodeId>,
    device: Device,
    /// For each node, the last node that reads it; `None` when no wanted node needs it.
    last_use: Vec<Option<usize>>,
    /// Nodes that are the same at every step.
    constants: Vec<Option<Tensor>>,
    /// What is known of the signs of nodes.
    signs: Signs,
    /// Cosines and sines of rotary positions, masks of attention: made at their first use.
    tables: BTreeMap<String, Tensor>,
}

/// The values of a run so far.
struct Values {
    tensors: Vec<Option<Tensor>>,
    /// Least and greatest element of integer inputs.
    ranges: Vec<Option<[i32; 2]>>,
    /// What attention nodes leave for their gradients.
    kept: BTreeMap<NodeId, Kept>,
}

/// A node that is being computed, with its operands at hand.
struct Here<'a> {
    node: &'a Node,
    operands: Vec<&'a Tensor>,
    device: &'a Device,
}

impl Here<'_> {
    /// Axis lengths of the result.
    fn out(&self) -> Vec<usize> {
        lengths(self.node)
    }
}

fn lengths(node: &Node) -> Vec<usize> {
    node.shape.0.iter().map(|&n| n as usize).collect()
}

fn failed(error: &candle_core::Error) -> BackendError {
    BackendError::Resources(format!("candle: {error}"))
}

/// The device that this build is for.
fn device() -> Result<Device> {
    if cfg!(feature = "cuda") {
        Device::new_cuda(0)
    } else if cfg!(feature = "metal") {
        Device::new_metal(0)
    } else {
        Ok(Device::Cpu)
    }
}

/// Whether the wanted nodes need each node.
fn needed(nodes: &[Node], wanted: &[NodeId]) -> Vec<bool> {
    let mut needed = vec![false; nodes.len()];
    for &id in wanted {
        if let Some(needed) = needed.get_mut(id as usize) {
            *needed = true;
        }
    }
    for (id, node) in nodes.iter().enumerate().rev() {
        if needed[id] {
            node.inputs.iter().for_each(|&input| needed[input as usize] = true);
        }
    }
    needed
}

impl Candle {
    /// Makes `graph` ready. Threads are those of candle's own pool (environment `RAYON_NUM_THREADS`).
    ///
    /// # Errors
    /// There is no such device, or it has no room for the constants.
    pub fn new(graph: &Graph, wanted: &[NodeId]) -> std::result::Result<Self, BackendError> {
        let device = device().map_err(|e| failed(&e))?;
        let needed = needed(graph.nodes(), wanted);
        let last_use = last_uses(graph, wanted).into_iter().zip(needed).map(|(last, needed)| needed.then_some(last));
        let constants = graph.nodes().iter().map(|node| constant(node, &device)).collect::<Result<_>>();
        Ok(Self {
            graph: graph.clone(),
            wanted: wanted.to_vec(),
            last_use: last_use.collect(),
            constants: constants.map_err(|e| failed(&e))?,
            signs: Signs::of(graph),
            tables: BTreeMap::new(),
            device,
        })
    }

    fn values(&mut self, feed: &Feed<'_>) -> std::result::Result<Values, BackendError> {
        let count = self.graph.len();
        let mut values = Values { tensors: vec![None; count], ranges: vec![None; count], kept: BTreeMap::new() };
        // Moved out for the loop: nodes are read while tables are filled.
        let graph = std::mem::take(&mut self.graph);
        let result = (0..count).try_for_each(|id| self.step(&graph, id, feed, &mut values));
        self.graph = graph;
        result.map(|()| values)
    }

    /// Computes one node and forgets what it was the last to read.
    fn step(
        &mut self,
        graph: &Graph,
        id: usize,
        feed: &Feed<'_>,
        values: &mut Values,
    ) -> std::result::Result<(), BackendError> {
        if self.last_use[id].is_none() {
            return Ok(());
        }
        let node = &graph.nodes()[id];
        let value = match &self.constants[id] {
            Some(value) => value.clone(),
            None => match self.value(graph, id as NodeId, feed, values) {
                Ok(Some(value)) => value,
                Ok(None) => self.on_host(graph, id, feed, values)?,
                Err(error) => return Err(failed(&error)),
            },
        };
        values.tensors[id] = Some(value);
        for used in node.inputs.iter().map(|&input| input as usize).chain([id]) {
            if self.last_use[used].is_some_and(|last| last <= id) {
                values.tensors[used] = None;
                values.kept.remove(&(used as NodeId));
            }
        }
        Ok(())
    }

    /// A node's value by candle; none where the host computes it.
    fn value(&mut self, graph: &Graph, id: NodeId, feed: &Feed<'_>, values: &mut Values) -> Result<Option<Tensor>> {
        let node = &graph.nodes()[id as usize];
        let operands = node.inputs.iter().filter_map(|&input| values.tensors[input as usize].as_ref()).collect();
        let here = Here { node, operands, device: &self.device };
        let x = |i: usize| here.operands[i];
        let value = match &node.op {
            Op::Param(i) => return self.stored(node, feed.params.get(*i as usize)),
            Op::State(i) => return self.stored(node, feed.states.get(*i as usize)),
            Op::Input(i) => {
                if let Some(Host::I32(ids)) = feed.inputs.get(usize::from(*i)) {
                    let least = ids.iter().min().zip(ids.iter().max());
                    values.ranges[id as usize] = least.map(|(&least, &most)| [least, most]);
                }
                return Ok(None);
            }
            Op::Unary(op) => return here.unary(*op, self.signs.at(node.inputs[0])),
            Op::Binary(op) => here.binary(*op, [0, 1].map(|i| self.signs.at(node.inputs[i])))?,
            Op::Where => here.where_()?,
            Op::StopGradient => x(0).clone(),
            Op::Sum(axes) => {
                let axes: Vec<usize> = axes.iter().map(|&axis| axis.into()).collect();
                x(0).sum_keepdim(axes)?
            }
            Op::Max(axes) => axes.iter().try_fold(x(0).clone(), |x, &axis| x.max_keepdim(usize::from(axis)))?,
            Op::ArgMax => x(0).contiguous()?.argmax_keepdim(candle_core::D::Minus1)?.to_dtype(Type::I64)?,
            Op::MatMul { ta, tb } => here.matmul(*ta, *tb)?,
            Op::Attention(options) => {
                let mask = attention::mask(options, &here, &mut self.tables)?;
                let (value, kept) = here.attention(options, mask.as_ref())?;
                values.kept.insert(id, kept);
                value
            }
            Op::AttentionGrad(options, of) => {
                let mask = attention::mask(options, &here, &mut self.tables)?;
                let y = node.inputs[3];
                let forward = &graph.nodes()[y as usize];
                let same = forward.op == Op::Attention(*options) && forward.inputs[..] == node.inputs[..3];
                let mut kept = match values.kept.remove(&y) {
                    Some(kept) if same => kept,
                    _ => here.attention(options, mask.as_ref())?.1,
                };
                let value = here.attention_grad(options, *of, node.inputs[4], &mut kept)?;
                if same {
                    values.kept.insert(y, kept);
                }
                value
            }
            Op::Row(op) => here.row(*op)?,
            Op::Rope { base, inverse } => here.rope(*base, *inverse, &mut self.tables)?,
            Op::Embedding => here.embedding(values.ranges[node.inputs[1] as usize])?,
            Op::EmbeddingGrad(rows) => here.embedding_grad(*rows as usize, values.ranges[node.inputs[0] as usize])?,
            Op::Take => here.take(values.ranges[node.inputs[1] as usize])?,
            Op::TakeGrad(n) => here.take_grad(*n as usize, values.ranges[node.inputs[0] as usize])?,
            Op::Reshape => x(0).reshape(here.out())?,
            Op::Permute(perm) => {
                let perm: Vec<usize> = perm.iter().map(|&axis| axis.into()).collect();
                x(0).permute(perm)?
            }
            Op::BroadcastTo => x(0).broadcast_as(here.out())?,
            Op::Slice { axis, start } => {
                let axis = usize::from(*axis);
                x(0).narrow(axis, *start as usize, here.out()[axis])?
            }
            Op::Pad { axis, before, after } => {
                x(0).pad_with_zeros(usize::from(*axis), *before as usize, *after as usize)?
            }
            Op::Concat(axis) => Tensor::cat(&here.operands, usize::from(*axis))?,
            Op::Conv2d(options) => here.conv2d(options)?,
            Op::Conv2dInputGrad(options) => here.conv2d_input_grad(options)?,
            Op::Conv2dWeightGrad(options) => here.conv2d_weight_grad(options)?,
            Op::CumSum { axis, reverse } => here.cumsum(usize::from(*axis), *reverse)?,
            Op::Gather(axis) => here.gather(usize::from(*axis), values.ranges[node.inputs[1] as usize])?,
            Op::ScatterAdd { axis, .. } => {
                here.scatter_add(usize::from(*axis), values.ranges[node.inputs[0] as usize])?
            }
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    /// A tensor of the feed; none when it does not fit: the reference then says what is wrong.
    fn stored(&self, node: &Node, values: Option<&Vec<f32>>) -> Result<Option<Tensor>> {
        let shape = lengths(node);
        match values {
            Some(values) if values.len() == shape.iter().product::<usize>() => {
                Tensor::from_slice(values, shape, &self.device).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A node's value by the reference.
    fn on_host(
        &self,
        graph: &Graph,
        id: usize,
        feed: &Feed<'_>,
        values: &Values,
    ) -> std::result::Result<Tensor, BackendError> {
        let node = &graph.nodes()[id];
        let operands = node.inputs.iter().filter_map(|&input| values.tensors[input as usize].as_ref()).map(download);
        let operands = operands.collect::<Result<Vec<Host>>>().map_err(|e| failed(&e))?;
        let shapes = node.inputs.iter().map(|&input| &graph.nodes()[input as usize].shape).collect();
        let value = reference::node_value(node, operands.iter().collect(), shapes, feed)?;
        upload(&value, lengths(node), &self.device).map_err(|e| failed(&e))
    }
}

/// The value of a node that never changes.
fn constant(node: &Node, device: &Device) -> Result<Option<Tensor>> {
    let shape = lengths(node);
    Ok(Some(match node.op {
        Op::Full(bits) => Tensor::new(from_foreign(f32::from_bits(bits)), device)?.broadcast_as(shape)?,
        Op::FullInt(value) => Tensor::new(i64::from(value), device)?.broadcast_as(shape)?,
        Op::Arange => Tensor::arange(0, i64::from(node.shape.0[0]), device)?,
        _ => return Ok(None),
    }))
}

fn upload(value: &Host, shape: Vec<usize>, device: &Device) -> Result<Tensor> {
    match value {
        Host::F32(values) => Tensor::from_slice(values, shape, device),
        Host::I32(values) => Tensor::from_vec(values.iter().map(|&x| i64::from(x)).collect(), shape, device),
    }
}

/// Canonical elements of a tensor; what is no number becomes 2^60.
fn download(tensor: &Tensor) -> Result<Host> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        Type::I64 => Host::I32(flat.to_vec1::<i64>()?.into_iter().map(|x| x as i32).collect()),
        _ => Host::F32(flat.to_vec1::<f32>()?.into_iter().map(|x| if x.is_nan() { HUGE } else { canon(x) }).collect()),
    })
}

impl Executor for Candle {
    fn run(&mut self, feed: &Feed<'_>, out: &mut [Vec<f32>]) -> std::result::Result<(), BackendError> {
        if out.len() != self.wanted.len() {
            return Err(BackendError::Feed(format!("{} results for {} wanted nodes", out.len(), self.wanted.len())));
        }
        let floats = |&id: &NodeId| self.graph.dtype(id) == Ok(DType::F32);
        if let Some(id) = self.wanted.iter().find(|id| !floats(id)) {
            return Err(BackendError::Feed(format!("node {id} is not a float node of this graph")));
        }
        let values = self.values(feed)?;
        for (out, &id) in out.iter_mut().zip(&self.wanted) {
            let value = values.tensors.get(id as usize).and_then(Option::as_ref).map(download);
            if let Some(Host::F32(found)) = value.transpose().map_err(|e| failed(&e))? {
                *out = found;
            }
        }
        Ok(())
    }
}
