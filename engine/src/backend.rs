//! What every backend offers: a graph made ready once, run many times.
//!
//! *Invariant:* exact backends give the bits of [`mod@crate::reference`], whatever their options.

use cairn_protocol::Seed;
use thiserror::Error;

use crate::graph::{Graph, NodeId};

/// Elements of a tensor, row-major; its shape stands in the graph.
#[derive(Clone, Debug, PartialEq)]
pub enum Tensor {
    /// Floats of the closed number system.
    F32(Vec<f32>),
    /// Indices, tokens, labels.
    I32(Vec<i32>),
}

/// What one execution reads besides the graph.
#[derive(Clone, Copy, Debug)]
pub struct Feed<'a> {
    /// `Input(0)` and `Input(1)`.
    pub inputs: [&'a Tensor; 2],
    /// Parameters, in the program's order.
    pub params: &'a [Vec<f32>],
    /// Optimiser state, in the program's order.
    pub states: &'a [Vec<f32>],
    /// Value of each table at this step.
    pub tables: &'a [f32],
    /// Seed of the run: keys the random nodes.
    pub seed: &'a Seed,
    /// Step of the run, counted from 0 over all phases: the random nodes' counter.
    pub step: u64,
}

/// What a training step reads besides parameters and states; see [`Feed`].
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// `Input(0)` and `Input(1)`.
    pub inputs: [&'a Tensor; 2],
    /// Value of each table at this step.
    pub tables: &'a [f32],
    /// Seed of the run.
    pub seed: &'a Seed,
    /// Step of the run.
    pub step: u64,
}

impl<'a> Batch<'a> {
    /// With the parameters and states that the step reads.
    pub fn feed(&self, params: &'a [Vec<f32>], states: &'a [Vec<f32>]) -> Feed<'a> {
        Feed { inputs: self.inputs, params, states, tables: self.tables, seed: self.seed, step: self.step }
    }
}

/// A graph that is ready to run on one backend.
pub trait Executor: Send {
    /// Computes the wanted nodes, in the order in which they were wanted, each into a vector that has its length.
    fn run(&mut self, feed: &Feed<'_>, out: &mut [Vec<f32>]) -> Result<(), BackendError>;

    /// A training step: the first wanted node is the loss, which is given; the others are the new value of each parameter
    /// and then of each state, in order, which replace the old ones. After an error these are worth nothing.
    fn step(
        &mut self,
        batch: &Batch<'_>,
        params: &mut [Vec<f32>],
        states: &mut [Vec<f32>],
    ) -> Result<f32, BackendError> {
        let mut out = vec![vec![]; 1 + params.len() + states.len()];
        self.run(&batch.feed(params, states), &mut out)?;
        let mut out = out.into_iter();
        let loss = out.next().and_then(|loss| loss.first().copied()).unwrap_or_default();
        params.iter_mut().chain(states).zip(out).for_each(|(old, new)| *old = new);
        Ok(loss)
    }

    /// The same training with its state kept where it is computed; none for a backend that works on the caller's.
    fn resident(&mut self) -> Option<&mut dyn Resident> {
        None
    }
}

/// What a step on a [`Resident`] backend led to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The loss.
    pub loss: f32,
    /// The first tensor, parameters before states, with an element at the end of the number system.
    pub out_of_range: Option<usize>,
}

/// A training whose state stays where it is computed. Work is set off and waited for apart, so that the host can hash one
/// state while the next one is computed.
pub trait Resident {
    /// Takes over a state.
    fn load(&mut self, params: &[Vec<f32>], states: &[Vec<f32>]) -> Result<(), BackendError>;

    /// How many steps are best set off together.
    fn burst(&self) -> usize;

    /// Sets off steps, one for each batch, without waiting for them.
    fn start(&mut self, batches: &[Batch<'_>]) -> Result<(), BackendError>;

    /// Waits for the steps that were set off first and not yet waited for.
    fn finish(&mut self) -> Result<Vec<Outcome>, BackendError>;

    /// Sets off a copy of the state after all steps set off so far.
    fn snapshot(&mut self) -> Result<(), BackendError>;

    /// Waits for the copy that was set off first and not yet waited for.
    fn fetch(&mut self, params: &mut [Vec<f32>], states: &mut [Vec<f32>]) -> Result<(), BackendError>;
}

/// Which backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The definition: scalar, slow.
    Reference,
    /// Exact and fast.
    Cpu,
    /// Exact, on a GPU.
    Gpu(crate::gpu::Choice),
    /// Candle, for exploration on other hardware: near the exact results, not equal to them. Only in a build with the
    /// feature `candle`, see [`CANDLE`].
    Candle,
}

impl Kind {
    /// Whether results are those of the definition on every bit; only such may be claimed or confirmed.
    pub fn exact(self) -> bool {
        self != Self::Candle
    }
}

/// Whether this build has the candle backend.
pub const CANDLE: bool = cfg!(feature = "candle");

/// An instruction set of the cpu backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Portable Rust.
    Scalar,
    /// aarch64: its contractions by fused multiply-add of four lanes.
    Neon,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512F.
    Avx512,
}

/// A backend and its options; none of these changes a bit of an exact backend's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The backend.
    pub kind: Kind,
    /// Threads, at least 1.
    pub threads: usize,
    /// Instruction set; the best that this processor has when none is named.
    pub isa: Option<Isa>,
    /// Whether chains of elementwise nodes run as one pass.
    pub fuse: bool,
    /// Rows of the batch that are computed at a time, where the graph allows it; the backend's choice when not given.
    pub micro_batch: Option<u32>,
}

/// Why a backend cannot run something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BackendError {
    /// The processor lacks the instruction set that was asked for.
    #[error("this processor has no {0:?}; it has {1:?}")]
    Isa(Isa, Vec<Isa>),
    /// The caller's tensors do not fit the graph.
    #[error("{0}")]
    Feed(String),
    /// The backend was left out when this binary was built.
    #[error("this binary was built without the candle backend: cargo build --features candle")]
    NotBuilt,
    /// Memory, threads or a device could not be had.
    #[error("{0}")]
    Resources(String),
}

/// Makes `graph` ready: `wanted` are the F32 nodes whose values each run gives.
pub fn prepare(options: &Options, graph: &Graph, wanted: &[NodeId]) -> Result<Box<dyn Executor>, BackendError> {
    match options.kind {
        Kind::Reference => Ok(Box::new(crate::reference::Reference::new(graph, wanted))),
        Kind::Cpu => Ok(Box::new(crate::cpu::Cpu::new(graph, wanted, options)?)),
        Kind::Gpu(choice) => Ok(Box::new(crate::gpu::Gpu::new(graph, wanted, options, choice)?)),
        #[cfg(feature = "candle")]
        Kind::Candle => Ok(Box::new(crate::candle::Candle::new(graph, wanted)?)),
        #[cfg(not(feature = "candle"))]
        Kind::Candle => Err(BackendError::NotBuilt),
    }
}
