//! From a graph to kernels, and where their tensors stand.
//!
//! Start at [`Plan::new`]. Nodes become kernels on tensors that have no place yet ([`super::lower`]); when all kernels are
//! known, so is when each tensor lives, and tensors that never live together share a buffer. Buffers, not stretches of one:
//! a kernel may not read and write the same buffer.
//!
//! *Invariant:* two tensors whose lives overlap never share a buffer.

use std::collections::BTreeMap;

use crate::backend::BackendError;
use crate::graph::{DType, Graph, NodeId, Op};
use crate::plan::analysis::{Analysis, Value, is_leaf};
use crate::plan::slices::{self, Slices, Stage, sliced};
use crate::plan::units;

use super::kernel::{Kernel, Place, View};
use super::lower;
use super::{Form, Limits};

/// A graph made ready.
#[derive(Debug)]
pub(super) struct Plan {
    /// Kernels that compute constants, done once.
    pub(super) once: Vec<Kernel>,
    /// Kernels of every run: before the loop over slices of the batch, for each slice, and after the loop.
    pub(super) stages: [Vec<Kernel>; 3],
    /// Number of slices.
    pub(super) slices: usize,
    /// The buffer of each tensor.
    pub(super) buffer_of: Vec<u32>,
    /// Elements of each buffer.
    pub(super) buffers: Vec<usize>,
    /// What is wanted: where it stands after a run.
    pub(super) wanted: Vec<View>,
    /// What the host tells each run.
    pub(super) feed: Feed,
}

/// What the host tells each run. In the buffer of [`Place::Feed`]: the step; its number in the burst of steps; the two
/// words of each stream's key; the tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Feed {
    /// Names of the random streams.
    pub(super) streams: Vec<String>,
    /// Number of tables.
    pub(super) tables: usize,
    /// Type and length of the two parts of the batch, where they are used.
    pub(super) inputs: [Option<(DType, usize)>; 2],
    /// Length of each parameter that the graph names.
    pub(super) params: Vec<Option<usize>>,
    /// Length of each state that the graph names.
    pub(super) states: Vec<Option<usize>>,
}

impl Feed {
    /// Words before the first stream's key.
    const HEAD: usize = 2;

    fn new(graph: &Graph) -> Self {
        let mut feed = Self::default();
        let set = |all: &mut Vec<Option<usize>>, index: u32, len: usize| {
            let index = index as usize;
            all.resize(all.len().max(index + 1), None);
            all[index] = Some(len);
        };
        for node in graph.nodes() {
            let len = node.shape.elements() as usize;
            match &node.op {
                Op::Input(i) => feed.inputs[usize::from(*i)] = Some((node.dtype, len)),
                Op::Param(i) => set(&mut feed.params, *i, len),
                Op::State(i) => set(&mut feed.states, *i, len),
                Op::Table(i) => feed.tables = feed.tables.max(*i as usize + 1),
                Op::Random(_, name) if !feed.streams.contains(name) => feed.streams.push(name.clone()),
                _ => {}
            }
        }
        feed
    }

    /// Words of the buffer.
    pub(super) fn words(&self) -> usize {
        Self::HEAD + 2 * self.streams.len() + self.tables
    }

    fn view(offset: usize, shape: Vec<u32>) -> View {
        View { place: Place::Feed, offset, advance: 0, shape }
    }

    /// Where the step stands, and behind it its number in the burst.
    pub(super) fn step() -> View {
        Self::view(0, vec![Self::HEAD as u32])
    }

    /// Where the two words of a stream's key stand.
    pub(super) fn key(&self, stream: &str) -> View {
        let at = self.streams.iter().position(|name| name == stream).unwrap_or(0);
        Self::view(Self::HEAD + 2 * at, vec![2])
    }

    fn table(&self, table: u32) -> View {
        Self::view(Self::HEAD + 2 * self.streams.len() + table as usize, vec![])
    }
}

/// A tensor that kernels compute.
#[derive(Clone, Copy, Debug)]
struct Tensor {
    len: usize,
    /// Whether it is computed once and kept for ever.
    constant: bool,
    /// Whether it holds one slice of the batch only.
    local: bool,
    /// Whether it is needed until the run's end.
    given: bool,
}

/// A plan under construction: what [`lower`] asks and tells.
pub(super) struct Building<'a, 'g> {
    /// The graph.
    pub(super) analysis: &'a Analysis<'g>,
    /// How it is spread over slices of the batch.
    pub(super) slices: &'a Slices,
    /// How contractions are written.
    pub(super) form: Form,
    /// What the device can do.
    pub(super) limits: Limits,
    /// What the host tells.
    pub(super) feed: Feed,
    /// Place of each root that has one by now.
    places: Vec<Option<Place>>,
    /// Constant tensors of one number: bits and place, with their lengths.
    uniforms: BTreeMap<u32, (Place, usize)>,
    tensors: Vec<Tensor>,
    /// Where a tensor of the unit under way belongs.
    constant: bool,
    stage: Stage,
    once: Vec<Kernel>,
    stages: [Vec<Kernel>; 3],
}

impl Building<'_, '_> {
    /// Adds a kernel to the stage of the unit under way.
    pub(super) fn push(&mut self, kernel: Kernel) {
        if self.constant { self.once.push(kernel) } else { self.stages[self.stage as usize].push(kernel) }
    }

    /// A tensor for this unit only: nothing is known of what it holds.
    pub(super) fn scratch(&mut self, len: usize) -> View {
        self.tensor(len, self.constant, self.stage == Stage::Loop, false)
    }

    /// A tensor that keeps what it holds from slice to slice of the batch.
    pub(super) fn carried(&mut self, len: usize) -> View {
        self.tensor(len, self.constant, false, false)
    }

    fn tensor(&mut self, len: usize, constant: bool, local: bool, given: bool) -> View {
        self.tensors.push(Tensor { len, constant, local, given });
        let place = Place::Tensor((self.tensors.len() - 1) as u32);
        View { place, offset: 0, advance: 0, shape: vec![len as u32] }
    }

    /// Shape of a node, or of a slice of it.
    pub(super) fn shape(&self, id: NodeId, slice: bool) -> Vec<u32> {
        let shape = &self.analysis.node(id).shape;
        if slice { sliced(shape, self.slices.count).0 } else { shape.0.clone() }
    }

    /// A node's value, or a slice of it.
    pub(super) fn view(&mut self, id: NodeId, slice: bool) -> View {
        let shape = self.shape(id, slice);
        let (root, offset) = match self.analysis.values[id as usize] {
            Value::Own => (id, 0),
            Value::View(root, offset) => (root, offset),
            Value::Uniform(bits) => {
                let place = self.uniform(bits, self.analysis.len(id));
                return View { place, offset: 0, advance: 0, shape };
            }
        };
        let (place, base) = self.place(root);
        // Slices of a tensor that is there as a whole follow each other.
        let advance = if slice && !self.is_local(root) { self.analysis.len(id) / self.slices.count } else { 0 };
        View { place, offset: base + offset, advance, shape }
    }

    /// What a unit writes for a node.
    pub(super) fn result(&mut self, id: NodeId) -> View {
        self.view(id, self.slices.is_sliced(id))
    }

    /// Shape of what a unit computes for a node.
    pub(super) fn result_shape(&self, id: NodeId) -> Vec<u32> {
        self.shape(id, self.slices.is_sliced(id))
    }

    /// What a unit reads as a node's operand `k`.
    pub(super) fn operand(&mut self, id: NodeId, k: usize) -> View {
        self.view(self.analysis.node(id).inputs[k], self.slices.takes_slice(self.analysis, id, k))
    }

    /// Whether a node is a sum over all slices of the batch, of each of which the unit does a part.
    pub(super) fn is_sum(&self, id: NodeId) -> bool {
        self.slices.count > 1 && self.slices.is_sum(id)
    }

    /// Where a root stands, and its first element there.
    fn place(&mut self, root: NodeId) -> (Place, usize) {
        let node = self.analysis.node(root);
        match node.op {
            Op::Input(i) => return (Place::Input(i), 0),
            Op::Param(i) => return (Place::Old(i), 0),
            Op::State(i) => return (Place::Old(self.feed.params.len() as u32 + i), 0),
            Op::Table(i) => {
                let view = self.feed.table(i);
                return (view.place, view.offset);
            }
            _ => {}
        }
        let place = self.places[root as usize].unwrap_or_else(|| {
            let constant = self.analysis.constant[root as usize];
            let local = !constant && self.is_local(root);
            let len = self.shape(root, local).iter().map(|&n| n as usize).product();
            let place = self.tensor(len, constant, local, self.analysis.given[root as usize]).place;
            if let Op::Arange = node.op {
                self.once.push(lower::arange(&View { place, offset: 0, advance: 0, shape: vec![len as u32] }));
            }
            place
        });
        self.places[root as usize] = Some(place);
        (place, 0)
    }

    /// A constant tensor of one number.
    fn uniform(&mut self, bits: u32, len: usize) -> Place {
        match self.uniforms.get(&bits) {
            Some(&(place, _)) => {
                if let Place::Tensor(index) = place {
                    let known = &mut self.tensors[index as usize].len;
                    *known = (*known).max(len);
                }
                place
            }
            None => {
                let place = self.tensor(len, true, false, false).place;
                self.uniforms.insert(bits, (place, len));
                place
            }
        }
    }

    /// Whether a value lives only within the loop over slices.
    fn is_local(&self, root: NodeId) -> bool {
        let in_loop = |&user: &NodeId| self.slices.stage(user) == Stage::Loop;
        self.slices.count > 1
            && self.slices.is_sliced(root)
            && !is_leaf(&self.analysis.node(root).op)
            && !self.analysis.given[root as usize]
            && self.analysis.users[root as usize].iter().all(in_loop)
    }
}

impl Plan {
    /// Plans a graph.
    ///
    /// # Errors
    /// It does not fit the device, however small the slices of the batch.
    pub(super) fn new(
        graph: &Graph,
        wanted: &[NodeId],
        fuse: bool,
        micro_batch: Option<u32>,
        form: Form,
        limits: Limits,
    ) -> Result<Self, BackendError> {
        for &id in wanted {
            match graph.nodes().get(id as usize) {
                Some(node) if node.dtype == DType::F32 => {}
                Some(_) => return Err(BackendError::Feed(format!("node {id} is wanted, but holds integers"))),
                None => return Err(BackendError::Feed(format!("node {id} is wanted, but there is no such node"))),
            }
        }
        let analysis = Analysis::new(graph, wanted, fuse);
        let rows = slices::rows(graph);
        let with = |slices: &Slices| Self::of(&analysis, slices, form, limits);
        let cuts = |from: usize| (from..=rows).filter(|&count| rows.is_multiple_of(count));
        if let Some(micro_batch) = micro_batch {
            let most = rows / (micro_batch.max(1) as usize);
            let cut = (2..=most).rev().find_map(|count| Slices::new(&analysis, count));
            return with(&cut.unwrap_or_else(|| Slices::whole(&analysis))).fits(limits);
        }
        // The whole batch at once, or the fewest slices whose tensors the device can hold.
        let whole = with(&Slices::whole(&analysis)).fits(limits);
        let Err(refused) = whole else { return whole };
        let cut = cuts(2).filter_map(|count| Slices::new(&analysis, count));
        cut.map(|slices| with(&slices).fits(limits)).find(Result::is_ok).unwrap_or(Err(refused))
    }

    fn fits(self, limits: Limits) -> Result<Self, BackendError> {
        let all = self.once.iter().chain(self.stages.iter().flatten());
        if let Some(kernel) = all.into_iter().find(|kernel| !kernel.fits()) {
            return Err(BackendError::Resources(format!(
                "the kernel `{}` is beyond what devices offer: {} arguments, {} buffers, {:?} workgroups",
                kernel.label,
                kernel.words.len(),
                kernel.bindings.len(),
                kernel.groups
            )));
        }
        let fed = self.feed.inputs.iter().flatten().map(|&(_, len)| len);
        let state = self.feed.params.iter().chain(&self.feed.states).flatten().copied();
        let longest = 4 * self.buffers.iter().copied().chain(fed).chain(state).max().unwrap_or(0) as u64;
        let all = 4 * self.buffers.iter().sum::<usize>() as u64;
        if longest > limits.binding {
            return Err(BackendError::Resources(format!(
                "a tensor of {longest} bytes is beyond the {} that the device binds; use a smaller batch",
                limits.binding
            )));
        }
        if all > limits.memory {
            return Err(BackendError::Resources(format!(
                "{all} bytes of tensors are beyond the {} that the device may take; use a smaller batch",
                limits.memory
            )));
        }
        Ok(self)
    }

    fn of(analysis: &Analysis<'_>, slices: &Slices, form: Form, limits: Limits) -> Self {
        let units = units::units(analysis, slices);
        let mut building = Building {
            analysis,
            slices,
            form,
            limits,
            feed: Feed::new(analysis.graph),
            places: vec![None; analysis.graph.len()],
            uniforms: BTreeMap::new(),
            tensors: vec![],
            constant: false,
            stage: Stage::Before,
            once: vec![],
            stages: [vec![], vec![], vec![]],
        };
        building.place_outputs();
        for unit in &units {
            let Some(&last) = unit.last() else { continue };
            building.constant = analysis.constant[last as usize];
            building.stage = slices.stage(last);
            lower::unit(&mut building, unit);
        }
        let wanted: Vec<View> = analysis.wanted.iter().map(|&id| building.view(id, false)).collect();
        building.settle(wanted)
    }
}

impl Building<'_, '_> {
    /// A training step's new parameters and states are computed where they belong, unless they are something else as well.
    fn place_outputs(&mut self) {
        let (params, states) = (self.feed.params.len(), self.feed.states.len());
        if self.analysis.wanted.len() != 1 + params + states {
            return;
        }
        let lengths: Vec<Option<usize>> = self.feed.params.iter().chain(&self.feed.states).copied().collect();
        let roots: Vec<Option<NodeId>> = self.analysis.wanted.iter().map(|&id| self.analysis.root(id)).collect();
        for (index, &id) in self.analysis.wanted[1..].iter().enumerate() {
            let Some(root) = self.analysis.root(id) else { continue };
            let len = self.analysis.len(root);
            // What is wanted twice is copied, which no buffer can be within itself.
            let free = roots.iter().filter(|&&other| other == Some(root)).count() == 1
                && self.analysis.is_computed(root)
                && !self.analysis.constant[root as usize]
                && len == self.analysis.len(id)
                && lengths[index] == Some(len);
            if free {
                self.places[root as usize] = Some(Place::New(index as u32));
            }
        }
    }

    /// Gives every tensor its buffer.
    fn settle(mut self, wanted: Vec<View>) -> Plan {
        for (bits, (place, _)) in std::mem::take(&mut self.uniforms) {
            let Place::Tensor(index) = place else { continue };
            let len = self.tensors[index as usize].len;
            // Before the constants that are computed from it.
            self.once.insert(0, lower::fill(&View { place, offset: 0, advance: 0, shape: vec![len as u32] }, bits));
        }
        for view in &wanted {
            if let Place::Tensor(index) = view.place {
                self.tensors[index as usize].given = true;
            }
        }
        let lives = lives(&self.tensors, &self.stages);
        let (buffer_of, buffers) = share(&self.tensors, &lives);
        let Self { once, stages, feed, slices, .. } = self;
        Plan { once, stages, slices: slices.count, buffer_of, buffers, wanted, feed }
    }
}

/// First and last kernel of every run that touches each tensor; none for a constant, or where nothing does.
fn lives(tensors: &[Tensor], stages: &[Vec<Kernel>; 3]) -> Vec<Option<(usize, usize)>> {
    let [before, inside, after] = stages.each_ref().map(Vec::len);
    let (start, end) = (before, before + inside);
    let last = before + inside + after;
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; tensors.len()];
    for (at, kernel) in stages.iter().flatten().enumerate() {
        for binding in &kernel.bindings {
            let Place::Tensor(index) = binding.place else { continue };
            let tensor = tensors[index as usize];
            // In the loop, what is not of one slice alone is there for all slices.
            let whole = (start..end).contains(&at) && !tensor.local;
            let (from, to) = if whole { (start, end.saturating_sub(1)) } else { (at, at) };
            let life = lives[index as usize].get_or_insert((from, to));
            *life = (life.0.min(from), if tensor.given { last } else { life.1.max(to) });
        }
    }
    for (life, tensor) in lives.iter_mut().zip(tensors) {
        if tensor.constant {
            *life = None;
        }
    }
    lives
}

/// The buffer of each tensor, and the elements of each buffer: the longest tensors first, each in the first buffer that
/// has room for it at its time. Constants have one each.
fn share(tensors: &[Tensor], lives: &[Option<(usize, usize)>]) -> (Vec<u32>, Vec<usize>) {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(tensors[at].len));
    let mut buffers: Vec<usize> = vec![];
    let mut taken: Vec<Vec<(usize, usize)>> = vec![];
    let mut buffer_of = vec![0; tensors.len()];
    for at in order {
        let room = lives[at].and_then(|(first, last)| {
            taken
                .iter()
                .position(|lives| !lives.is_empty() && lives.iter().all(|&(from, to)| to < first || last < from))
        });
        let buffer = room.unwrap_or_else(|| {
            buffers.push(tensors[at].len);
            taken.push(vec![]);
            buffers.len() - 1
        });
        taken[buffer].extend(lives[at]);
        buffer_of[at] = buffer as u32;
    }
    (buffer_of, buffers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{Plan, Tensor, share};
    use crate::backend::BackendError;
    use crate::bench::Model;
    use crate::gpu::{Form, Limits};

    #[test]
    fn tensors_that_live_together_have_buffers_of_their_own() {
        let tensor = |len, constant| Tensor { len, constant, local: false, given: false };
        let tensors = [tensor(8, false), tensor(16, false), tensor(4, false), tensor(4, true)];
        let (of, buffers) = share(&tensors, &[Some((0, 1)), Some((2, 3)), Some((1, 2)), None]);
        assert_eq!(of, [0, 0, 1, 2]);
        assert_eq!(buffers, [16, 4, 4]);
    }

    #[test]
    fn a_batch_is_cut_where_the_device_is_too_small_for_it() {
        let program = Model::named("gpt-128").unwrap().program().unwrap();
        let phase = &program.phases[0];
        let plan = |limits| Plan::new(&phase.graph, &phase.wanted(), true, None, Form::Fma, limits);
        let all = Limits { binding: 1 << 40, memory: 1 << 40 };
        let whole = plan(all).unwrap();
        let longest = 4 * whole.buffers.iter().copied().max().unwrap() as u64;
        let bytes = 4 * whole.buffers.iter().sum::<usize>() as u64;
        assert_eq!(whole.slices, 1);
        for limits in [Limits { binding: longest - 1, ..all }, Limits { memory: bytes / 3, ..all }] {
            let cut = plan(limits).unwrap();
            assert!(cut.slices > 1);
            assert!(cut.buffers.iter().all(|&len| 4 * len as u64 <= limits.binding));
            assert!(4 * cut.buffers.iter().sum::<usize>() as u64 <= limits.memory);
        }
        let refused = plan(Limits { binding: 1 << 10, ..all }).unwrap_err();
        assert!(matches!(&refused, BackendError::Resources(why) if why.contains("a smaller batch")), "{refused}");
    }
}
