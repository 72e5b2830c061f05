//! From a graph to steps: what is computed when, by what, and where it stands.
//!
//! Start at [`Plan::new`]: [`crate::plan`] tells what each value is and what runs together, [`layout`] where the values
//! stand, [`replace`] what may be written over, [`lower`] what a step does.
//!
//! *Invariant:* everything a step needs is settled here; running a plan allocates nothing and decides nothing.

mod chain;
mod layout;
mod lower;
mod replace;

use crate::backend::{BackendError, Options};
use crate::graph::{DType, Graph, NodeId, Op};

use self::layout::Layout;
use super::gemm::CHUNK;
use super::isa::Level;
use super::memory::Buffer;
use super::step::{Sharing, Step};
use crate::plan::analysis::Analysis;
use crate::plan::slices::{Slices, Stage};
use crate::plan::{slices, units};

/// Elements of an arena that is not worth cutting the batch for: it fits a second-level cache.
const ARENA_SMALL: usize = 1 << 18;

/// A graph made ready.
#[derive(Debug)]
pub(super) struct Plan {
    /// Steps that compute constants, done once.
    pub(super) once: Vec<Step>,
    /// Steps of every run: before the loop over slices of the batch, for each slice, and after the loop.
    pub(super) steps: [Vec<Step>; 3],
    /// Number of slices.
    pub(super) slices: usize,
    /// Values that never change; those of `once` are not computed yet.
    pub(super) constants: Buffer,
    /// Elements of the arena.
    pub(super) arena: usize,
    /// Elements of scratch that each thread needs.
    pub(super) scratch: usize,
    /// What a feed must hold.
    pub(super) feed: Expected,
    /// For a training step: which outputs may be written over what they replace. Empty for another graph.
    pub(super) in_place: Vec<bool>,
}

/// What a feed must hold: nothing, or something of this length.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// The two inputs.
    pub(super) inputs: [Option<(DType, usize)>; 2],
    /// Length of each parameter that the graph names.
    pub(super) params: Vec<Option<usize>>,
    /// Length of each state that the graph names.
    pub(super) states: Vec<Option<usize>>,
    /// Number of tables.
    pub(super) tables: usize,
    /// Length of each output.
    pub(super) outputs: Vec<usize>,
}

impl Plan {
    /// Plans a graph.
    pub(super) fn new(
        graph: &Graph,
        wanted: &[NodeId],
        options: &Options,
        sharing: Sharing,
        level: Level,
    ) -> Result<Self, BackendError> {
        for &id in wanted {
            match graph.nodes().get(id as usize) {
                Some(node) if node.dtype == DType::F32 => {}
                Some(_) => return Err(BackendError::Feed(format!("node {id} is wanted, but holds integers"))),
                None => return Err(BackendError::Feed(format!("node {id} is wanted, but there is no such node"))),
            }
        }
        let analysis = Analysis::new(graph, wanted, options.fuse);
        let slices = choose(&analysis, options.micro_batch, sharing);
        let units = units::units(&analysis, &slices);
        let layout = Layout::new(&analysis, &slices, &units);
        let constants = constants(&layout)?;
        let step = |work| Step::new(work, sharing);
        let (mut once, mut steps) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
        for unit in &units {
            let Some(&id) = unit.last() else { continue };
            let to = if analysis.constant[id as usize] { &mut once } else { &mut steps[slices.stage(id) as usize] };
            to.extend(lower::unit(&layout, unit, sharing, level).into_iter().map(step));
        }
        steps[Stage::Before as usize].extend(lower::packing(&layout).map(step));
        steps[Stage::After as usize].extend(lower::copies(&layout).map(step));
        let scratch = once.iter().chain(steps.iter().flatten()).map(Step::scratch).max().unwrap_or(0);
        let (arena, slices) = (layout.arena, slices.count);
        let (feed, in_place) = (expected(graph, wanted), layout.in_place.clone());
        Ok(Self { once, steps, slices, constants, arena, scratch, feed, in_place })
    }
}

/// How the batch is cut: into slices of about `micro_batch` rows, or so that what lives between the nodes is small.
fn choose(analysis: &Analysis<'_>, micro_batch: Option<u32>, sharing: Sharing) -> Slices {
    let rows = slices::rows(analysis.graph);
    if let Some(micro_batch) = micro_batch {
        let most = rows / (micro_batch.max(1) as usize);
        let cut = (2..=most).rev().find_map(|count| Slices::new(analysis, count));
        return cut.unwrap_or_else(|| Slices::whole(analysis));
    }
    let arena = |slices: &Slices| Layout::new(analysis, slices, &units::units(analysis, slices)).arena;
    let mut best = Slices::whole(analysis);
    let mut least = arena(&best);
    for count in (2..=rows).filter(|&count| rows.is_multiple_of(count)) {
        if least <= ARENA_SMALL {
            break;
        }
        let Some(slices) = Slices::new(analysis, count) else { continue };
        if slices.rows_of_products(analysis).is_some_and(|rows| rows < CHUNK * sharing.threads) {
            break;
        }
        let arena = arena(&slices);
        if arena < least {
            (best, least) = (slices, arena);
        }
    }
    best
}

/// The constants that need no computing.
fn constants(layout: &Layout<'_, '_>) -> Result<Buffer, BackendError> {
    let buffer = Buffer::new(layout.constants)?;
    let all = super::memory::Shared::new(buffer.start());
    for (bits, offset, len) in layout.uniforms() {
        // SAFETY: the layout gave each constant its own stretch of the buffer, which nobody else sees yet.
        unsafe { all.write_int(offset, len) }.fill(bits.cast_signed());
    }
    for (offset, len) in layout.ranges() {
        // SAFETY: as above.
        let to = unsafe { all.write_int(offset, len) };
        to.iter_mut().zip(0..).for_each(|(to, i)| *to = i);
    }
    Ok(buffer)
}

fn expected(graph: &Graph, wanted: &[NodeId]) -> Expected {
    let mut feed = Expected::default();
    let set = |all: &mut Vec<Option<usize>>, index: u32, len: usize| {
        let index = index as usize;
        all.resize(all.len().max(index + 1), None);
        all[index] = Some(len);
    };
    for node in graph.nodes() {
        let len = node.shape.elements() as usize;
        match node.op {
            Op::Input(i) => feed.inputs[usize::from(i)] = Some((node.dtype, len)),
            Op::Param(i) => set(&mut feed.params, i, len),
            Op::State(i) => set(&mut feed.states, i, len),
            Op::Table(i) => feed.tables = feed.tables.max(i as usize + 1),
            _ => {}
        }
    }
    feed.outputs = wanted.iter().map(|&id| graph.nodes()[id as usize].shape.elements() as usize).collect();
    feed
}
