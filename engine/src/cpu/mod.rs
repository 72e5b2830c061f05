//! The exact backend for processors: vectorised, threaded, fused, and equal to the reference on every bit.
//!
//! A graph becomes a [`plan`] once: steps with all shapes, addresses and splits settled. A run fills in the addresses
//! of the caller's vectors and does the steps in order; the pieces of a large step are shared among threads by
//! [`pool`], a small one is done where it stands. The loops are plain Rust compiled once per instruction set
//! ([`isa`]); elementwise chains run block by block ([`elementwise`]), contractions in tiles ([`gemm`]).
//!
//! *Invariant:* neither the instruction set, nor the number of threads, nor fusion changes a bit. `unsafe` stands only
//! here; the planner settles all bounds before a step runs.
#![allow(unsafe_code)]

mod attention;
mod choose;
mod conv;
mod elementwise;
mod gemm;
mod heads;
mod index;
mod isa;
mod lanes;
mod matmul;
mod memory;
mod moves;
mod peak;
mod plan;
mod pool;
mod random;
mod reduce;
mod rows;
mod scan;
mod step;
mod wide;

use crate::backend::{BackendError, Batch, Executor, Feed, Options, Tensor};
use crate::graph::{DType, Graph, NodeId};
use crate::number::from_foreign;

pub use self::isa::available;
pub use self::peak::fma_peak;

use self::isa::Level;
use self::memory::{Buffer, Region, Shared};
use self::plan::Plan;
use self::pool::Pool;
use self::step::{Context, Sharing, Slice, Step};

/// Work of fewer simple operations, some tens of microseconds, is done by the calling thread: waking another one, and on
/// a busy machine waiting for it, costs more.
const INLINE_BELOW: usize = 400_000;

/// The cpu backend: one graph made ready.
#[derive(Debug)]
pub struct Cpu {
    plan: Plan,
    level: Level,
    arena: Buffer,
    scratch: Vec<Buffer>,
    pool: Pool,
    /// First element of each region; those of a feed hold only during its run.
    regions: Vec<Shared>,
    /// The feed's tables and float inputs, made canonical.
    tables: Vec<f32>,
    inputs: [Vec<f32>; 2],
    /// A step's loss, and the other half of a double buffer for each tensor that is not replaced in place.
    spare: Vec<Vec<f32>>,
}

impl Cpu {
    /// Makes `graph` ready.
    ///
    /// # Errors
    /// The processor lacks the instruction set, memory or threads cannot be had, or `wanted` is not of this graph.
    pub fn new(graph: &Graph, wanted: &[NodeId], options: &Options) -> Result<Self, BackendError> {
        Self::sharing(graph, wanted, options, INLINE_BELOW)
    }

    /// As [`Cpu::new`], but work is shared among threads from `least` simple operations on: for tests, which share
    /// small graphs out.
    ///
    /// # Errors
    /// As for [`Cpu::new`].
    pub fn sharing(graph: &Graph, wanted: &[NodeId], options: &Options, least: usize) -> Result<Self, BackendError> {
        let level = Level::new(options.isa)?;
        let pool = Pool::new(options.threads)?;
        let threads = pool.threads();
        let plan = Plan::new(graph, wanted, options, Sharing { threads, least }, level)?;
        let arena = Buffer::new(plan.arena)?;
        let scratch = (0..threads).map(|_| Buffer::new(plan.scratch)).collect::<Result<Vec<_>, _>>()?;
        let nothing = Shared::new(arena.start());
        let feed = &plan.feed;
        let count = Region::PARAMS as usize + feed.params.len() + feed.states.len() + feed.outputs.len();
        let mut cpu = Self {
            level,
            arena,
            scratch,
            pool,
            regions: vec![nothing; count],
            plan,
            tables: vec![],
            inputs: [vec![], vec![]],
            spare: vec![],
        };
        cpu.regions[Region::CONSTANTS as usize] = Shared::new(cpu.plan.constants.start());
        // Constants depend on no seed.
        let seed = cairn_protocol::Seed([0; 32]);
        cpu.execute(true, &seed, 0)?;
        Ok(cpu)
    }

    /// Into how many slices the batch is cut: 1 where the graph, or what was asked for, forbids more.
    pub fn slices(&self) -> usize {
        self.plan.slices
    }

    /// Bytes that this backend holds for values: activations, packed weights, constants, each thread's work, and what of
    /// the last feed or step it keeps.
    pub fn bytes(&self) -> usize {
        let scratch: usize = self.scratch.iter().map(Buffer::len).sum();
        let kept: usize = self.inputs.iter().chain(&self.spare).chain([&self.tables]).map(Vec::len).sum();
        (self.arena.len() + self.plan.constants.len() + scratch + kept) * size_of::<f32>()
    }

    fn execute(&mut self, once: bool, seed: &cairn_protocol::Seed, step: u64) -> Result<(), BackendError> {
        let whole = Slice::WHOLE;
        let context =
            Context { level: self.level, regions: &self.regions, scratch: &self.scratch, seed, step, slice: whole };
        let pool = &mut self.pool;
        if once {
            perform(pool, &context, &self.plan.once);
            return Ok(());
        }
        let [before, within, after] = &self.plan.steps;
        perform(pool, &context, before);
        for index in 0..self.plan.slices {
            let slice = Slice { index, count: self.plan.slices };
            perform(pool, &Context { slice, ..context }, within);
        }
        perform(pool, &context, after);
        if self.pool.failed() {
            return Err(BackendError::Resources("a worker thread has failed".into()));
        }
        Ok(())
    }

    /// Compares a feed with what the plan expects.
    fn check(&self, feed: &Feed<'_>, out: &[Vec<f32>]) -> Result<(), BackendError> {
        let expected = &self.plan.feed;
        for (index, (wanted, tensor)) in expected.inputs.iter().zip(feed.inputs).enumerate() {
            let found = match tensor {
                Tensor::F32(values) => (DType::F32, values.len()),
                Tensor::I32(values) => (DType::I32, values.len()),
            };
            if let Some(wanted) = wanted
                && *wanted != found
            {
                return Err(BackendError::Feed(format!("input {index} is {found:?}, the graph takes {wanted:?}")));
            }
        }
        lengths("parameter", &expected.params, feed.params)?;
        lengths("state", &expected.states, feed.states)?;
        if feed.tables.len() < expected.tables {
            let (wanted, found) = (expected.tables, feed.tables.len());
            return Err(BackendError::Feed(format!("{found} tables are fed, the graph takes {wanted}")));
        }
        if out.len() != expected.outputs.len() {
            let (wanted, found) = (expected.outputs.len(), out.len());
            return Err(BackendError::Feed(format!("{wanted} outputs are wanted, but there is room for {found}")));
        }
        Ok(())
    }

    /// Notes where a feed's tensors stand.
    fn point(&mut self, feed: &Feed<'_>) {
        let regions = &mut self.regions;
        // Steps only read these; the plan writes to the arena, the constants and the outputs.
        canonical(&mut self.tables, &feed.tables[..self.plan.feed.tables]);
        regions[Region::TABLES as usize] = Shared::new(self.tables.as_ptr().cast_mut());
        for (i, tensor) in feed.inputs.iter().enumerate() {
            regions[Region::INPUTS as usize + i] = match tensor {
                Tensor::I32(values) => Shared::new(values.as_ptr().cast::<f32>().cast_mut()),
                Tensor::F32(values) => {
                    canonical(&mut self.inputs[i], values);
                    Shared::new(self.inputs[i].as_ptr().cast_mut())
                }
            };
        }
        let params = feed.params.iter().take(self.plan.feed.params.len());
        let states = feed.states.iter().take(self.plan.feed.states.len());
        let fed = params.chain(states).map(|values| Shared::new(values.as_ptr().cast_mut()));
        for (region, start) in regions[Region::PARAMS as usize..].iter_mut().zip(fed) {
            *region = start;
        }
    }
}

/// Does steps, one after the other.
fn perform(pool: &mut Pool, context: &Context<'_>, steps: &[Step]) {
    for step in steps {
        // SAFETY: the regions are those that the plan expects (`check` and `point`), steps run one after the other, and
        // each worker has its own scratch.
        let piece = |worker: usize, piece: usize| unsafe { step.piece(context, worker, piece) };
        match step.pieces.count {
            1 => piece(0, 0),
            count => pool.run(count, &piece),
        }
    }
}

/// Copies numbers from outside, made canonical.
fn canonical(to: &mut Vec<f32>, from: &[f32]) {
    to.clear();
    to.extend(from.iter().map(|&x| from_foreign(x)));
}

/// Compares the lengths of what is fed.
fn lengths(what: &str, expected: &[Option<usize>], found: &[Vec<f32>]) -> Result<(), BackendError> {
    if found.len() < expected.len() {
        return Err(BackendError::Feed(format!("{} {what}s are fed, the graph takes {}", found.len(), expected.len())));
    }
    for (index, (wanted, found)) in expected.iter().zip(found).enumerate() {
        if wanted.is_some_and(|wanted| wanted != found.len()) {
            let (wanted, found) = (wanted.unwrap_or(0), found.len());
            return Err(BackendError::Feed(format!("{what} {index} has {found} elements, the graph takes {wanted}")));
        }
    }
    Ok(())
}

impl Executor for Cpu {
    fn run(&mut self, feed: &Feed<'_>, out: &mut [Vec<f32>]) -> Result<(), BackendError> {
        self.check(feed, out)?;
        for (values, &len) in out.iter_mut().zip(&self.plan.feed.outputs) {
            values.resize(len, 0.0);
        }
        self.point(feed);
        let (params, states) = (self.plan.feed.params.len(), self.plan.feed.states.len());
        let outputs = &mut self.regions[Region::PARAMS as usize + params + states..];
        for (region, values) in outputs.iter_mut().zip(out) {
            *region = Shared::new(values.as_mut_ptr());
        }
        self.execute(false, feed.seed, feed.step)
    }

    fn step(
        &mut self,
        batch: &Batch<'_>,
        params: &mut [Vec<f32>],
        states: &mut [Vec<f32>],
    ) -> Result<f32, BackendError> {
        let expected = &self.plan.feed;
        let counts = [expected.params.len(), expected.states.len()];
        if self.plan.in_place.is_empty() || counts != [params.len(), states.len()] {
            return Err(BackendError::Feed("this is no training step of these parameters and states".into()));
        }
        self.spare.resize(expected.outputs.len(), vec![]);
        self.check(&batch.feed(params, states), &self.spare)?;
        self.point(&batch.feed(params, states));
        let Plan { in_place, feed, .. } = &self.plan;
        let tensors = params.iter_mut().chain(&mut *states).map(|values| Shared::new(values.as_mut_ptr()));
        let (old, new) = self.regions[Region::PARAMS as usize..].split_at_mut(in_place.len() - 1);
        old.iter_mut().zip(tensors).for_each(|(region, start)| *region = start);
        for (i, region) in new.iter_mut().enumerate() {
            *region = if in_place[i] {
                old[i - 1]
            } else {
                self.spare[i].resize(feed.outputs[i], 0.0);
                Shared::new(self.spare[i].as_mut_ptr())
            };
        }
        self.execute(false, batch.seed, batch.step)?;
        let replaced = params.iter_mut().chain(states).zip(&mut self.spare[1..]).zip(&self.plan.in_place[1..]);
        for ((old, new), _) in replaced.filter(|(_, in_place)| !**in_place) {
            std::mem::swap(old, new);
        }
        Ok(self.spare[0].first().copied().unwrap_or_default())
    }
}
