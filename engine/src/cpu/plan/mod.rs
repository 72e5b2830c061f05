//! From a graph to steps: what is computed when, by what, and where it stands.
//!
//! Start at [`Plan::new`]: [`analysis`] tells what each value is, [`units`] which nodes run together, [`layout`]
//! where the values stand, [`lower`] what a step does.
//!
//! *Invariant:* everything a step needs is settled here; running a plan allocates nothing and decides nothing.

mod analysis;
mod chain;
mod layout;
mod lower;
mod units;

use crate::backend::BackendError;
use crate::graph::{DType, Graph, NodeId, Op};

use self::analysis::Analysis;
use self::layout::Layout;
use super::isa::Level;
use super::memory::Buffer;
use super::step::{Sharing, Step};

/// A graph made ready.
#[derive(Debug)]
pub(super) struct Plan {
    /// Steps that compute constants, done once.
    pub(super) once: Vec<Step>,
    /// Steps of every run.
    pub(super) steps: Vec<Step>,
    /// Values that never change; those of `once` are not computed yet.
    pub(super) constants: Buffer,
    /// Elements of the arena.
    pub(super) arena: usize,
    /// Elements of scratch that each thread needs.
    pub(super) scratch: usize,
    /// What a feed must hold.
    pub(super) feed: Expected,
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
        fuse: bool,
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
        let analysis = Analysis::new(graph, wanted, fuse);
        let units = units::units(&analysis);
        let layout = Layout::new(&analysis, &units);
        let constants = constants(&layout)?;
        let (mut once, mut steps) = (Vec::new(), Vec::new());
        for unit in &units {
            let constant = unit.iter().all(|&id| analysis.constant[id as usize]);
            let to = if constant { &mut once } else { &mut steps };
            to.extend(lower::unit(&layout, unit, sharing, level).into_iter().map(|work| Step::new(work, sharing)));
        }
        steps.extend(lower::copies(&layout).map(|work| Step::new(work, sharing)));
        let scratch = once.iter().chain(&steps).map(Step::scratch).max().unwrap_or(0);
        Ok(Self { once, steps, constants, arena: layout.arena, scratch, feed: expected(graph, wanted) })
    }
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
