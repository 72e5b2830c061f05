//! Where every tensor stands: the arena with one offset for each value that lives for a while, the constants, and the
//! caller's own vectors.
//!
//! What lives only within the loop over slices has room for one slice. Values that come from before the loop, or go out of
//! it, keep their places during all of it.
//!
//! *Invariant:* two values whose lives overlap never share an element of the arena.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::graph::{NodeId, Op, Shape};

use super::super::gemm::Packed;
use super::super::memory::{LINE, Place, Region};
use super::replace;
use crate::plan::analysis::{Analysis, Value, is_elementwise, is_leaf};
use crate::plan::slices::{Slices, Stage, sliced};

/// A right operand that is packed for all slices: the tensor (its root, and where it starts there), its rows and columns,
/// and whether it is stored transposed.
type PackedKey = (NodeId, usize, [usize; 2], bool);

/// A tensor as a step sees it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Where it stands.
    pub(super) place: Place,
    /// Its shape, or a slice's.
    pub(super) shape: Shape,
}

impl Seen {
    /// Axis lengths.
    pub(super) fn dims(&self) -> Vec<usize> {
        self.shape.0.iter().map(|&len| len as usize).collect()
    }

    /// Elements.
    pub(super) fn len(&self) -> usize {
        self.shape.elements() as usize
    }
}

/// Places of a graph's values.
#[derive(Debug)]
pub(super) struct Layout<'p, 'g> {
    /// The graph.
    pub(super) analysis: &'p Analysis<'g>,
    /// How it is spread over slices of the batch.
    pub(super) slices: &'p Slices,
    /// Place of each root that has one.
    places: Vec<Option<Place>>,
    /// Whether a root has room for one slice only, by root.
    local: Vec<bool>,
    /// Where sums over all slices keep unfinished chunks, by node.
    unfinished: BTreeMap<NodeId, Place>,
    /// Where right operands are packed, and the first product that uses each.
    pub(super) packed: BTreeMap<PackedKey, (Place, NodeId)>,
    /// Constants that are one number: offset and length, by bits.
    uniforms: BTreeMap<u32, (usize, usize)>,
    /// Outputs that are copied at the end from where their values stand.
    pub(super) copies: Vec<(usize, NodeId)>,
    /// Elements of the arena.
    pub(super) arena: usize,
    /// Elements of the constants.
    pub(super) constants: usize,
    /// Parameters, and states, that the graph names.
    pub(super) leaves: (usize, usize),
    /// Whether a value stands where an operand of its unit stood, by root.
    over_operand: Vec<bool>,
    /// For a training step: which outputs may be written over what they replace.
    pub(super) in_place: Vec<bool>,
}

impl<'p, 'g> Layout<'p, 'g> {
    /// Settles the places of all values of these units.
    pub(super) fn new(analysis: &'p Analysis<'g>, slices: &'p Slices, units: &[Vec<NodeId>]) -> Self {
        let n = analysis.graph.len();
        let mut layout = Self {
            analysis,
            slices,
            places: vec![None; n],
            local: (0..n).map(|id| is_local(analysis, slices, id as NodeId)).collect(),
            unfinished: BTreeMap::new(),
            packed: BTreeMap::new(),
            uniforms: BTreeMap::new(),
            copies: Vec::new(),
            arena: 0,
            constants: 0,
            leaves: (0, 0),
            over_operand: vec![false; n],
            in_place: Vec::new(),
        };
        layout.place_leaves();
        layout.place_outputs();
        layout.place_uniforms();
        layout.place_computed(units);
        layout.in_place = replace::in_place(&layout, units);
        layout
    }

    /// A node's value: a slice of it, or all of it.
    pub(super) fn seen(&self, id: NodeId, slice: bool) -> Seen {
        Seen { place: self.place(id, slice), shape: self.shape(id, slice) }
    }

    /// What a step writes for a node.
    pub(super) fn result(&self, id: NodeId) -> Seen {
        self.seen(id, self.slices.is_sliced(id))
    }

    /// Shape of what a step computes for a node.
    pub(super) fn result_shape(&self, id: NodeId) -> Shape {
        self.shape(id, self.slices.is_sliced(id))
    }

    /// What a step reads as a node's operand `k`.
    pub(super) fn operand(&self, id: NodeId, k: usize) -> Seen {
        self.seen(self.analysis.node(id).inputs[k], self.slices.takes_slice(self.analysis, id, k))
    }

    /// Shape of a node or of a slice of it.
    pub(super) fn shape(&self, id: NodeId, slice: bool) -> Shape {
        let shape = &self.analysis.node(id).shape;
        if slice { sliced(shape, self.slices.count) } else { shape.clone() }
    }

    /// First element of a node's value.
    pub(super) fn place(&self, id: NodeId, slice: bool) -> Place {
        let (root, found) = match self.analysis.values[id as usize] {
            Value::Own => (Some(id), self.places[id as usize]),
            Value::View(root, offset) => {
                (Some(root), self.places[root as usize].map(|place| Place { offset: place.offset + offset, ..place }))
            }
            Value::Uniform(bits) => {
                (None, self.uniforms.get(&bits).map(|&(offset, _)| Place::new(Region::CONSTANTS, offset)))
            }
        };
        // Slices of a tensor that is there as a whole follow each other.
        let whole = root.is_some_and(|root| !self.local[root as usize]);
        let advance = if slice && whole { self.analysis.len(id) / self.slices.count } else { 0 };
        match found {
            Some(place) => Place { advance, ..place },
            None => unreachable!("node {id} is used without a place"),
        }
    }

    /// Whether a value has room for one slice only.
    pub(super) fn is_local(&self, id: NodeId) -> bool {
        self.local[id as usize]
    }

    /// Where a sum over all slices keeps the sum of an unfinished chunk.
    pub(super) fn unfinished(&self, id: NodeId) -> Option<Place> {
        self.unfinished.get(&id).copied()
    }

    /// Where the right operand of a product is packed for all slices, if it is.
    pub(super) fn packed(&self, id: NodeId) -> Option<Place> {
        self.packed_key(id).and_then(|key| self.packed.get(&key)).map(|&(place, _)| place)
    }

    /// A matrix that products in the loop take as a whole.
    fn packed_key(&self, id: NodeId) -> Option<PackedKey> {
        let node = self.analysis.node(id);
        let (Op::MatMul { ta: false, tb }, 2, Stage::Loop) = (&node.op, node.shape.0.len(), self.slices.stage(id))
        else {
            return None;
        };
        let b = node.inputs[1];
        let (root, offset) = match self.analysis.values[b as usize] {
            Value::Own => (b, 0),
            Value::View(root, offset) => (root, offset),
            Value::Uniform(_) => return None,
        };
        let &[rows, columns] = &self.analysis.node(b).shape.0[..] else { return None };
        let [k, n] = if *tb { [columns, rows] } else { [rows, columns] };
        Some((root, offset, [k as usize, n as usize], *tb))
    }

    /// Region of an output.
    pub(super) fn output(&self, index: usize) -> Place {
        let (params, states) = self.leaves;
        Place::new(Region::PARAMS + (params + states + index) as u32, 0)
    }

    /// Where the value stands that a unit's result may be written over, if there is one.
    pub(super) fn replaced(&self, id: NodeId) -> Option<Place> {
        let result = self.result(id).place;
        if self.over_operand[id as usize] {
            return Some(result);
        }
        let index = result.region.checked_sub(self.output(0).region)? as usize;
        let in_place = self.in_place.get(index).copied().unwrap_or(false);
        in_place.then(|| Place::new(Region::PARAMS + index as u32 - 1, 0))
    }

    /// Constants that are one number: place and length.
    pub(super) fn uniforms(&self) -> impl Iterator<Item = (u32, usize, usize)> + '_ {
        self.uniforms.iter().map(|(&bits, &(offset, len))| (bits, offset, len))
    }

    /// Constants `0, 1, …`: offset and length.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let nodes = self.analysis.graph.nodes().iter().zip(&self.places).enumerate();
        nodes.filter_map(|(id, (node, place))| match (&node.op, place) {
            (Op::Arange, Some(place)) => Some((place.offset, self.analysis.len(id as NodeId))),
            _ => None,
        })
    }

    fn place_leaves(&mut self) {
        let nodes = self.analysis.graph.nodes();
        for node in nodes {
            match node.op {
                Op::Param(i) => self.leaves.0 = self.leaves.0.max(i as usize + 1),
                Op::State(i) => self.leaves.1 = self.leaves.1.max(i as usize + 1),
                _ => {}
            }
        }
        for (id, node) in nodes.iter().enumerate().filter(|&(id, _)| self.analysis.needed[id]) {
            let place = match node.op {
                Op::Input(i) => Place::new(Region::INPUTS + u32::from(i), 0),
                Op::Param(i) => Place::new(Region::PARAMS + i, 0),
                Op::State(i) => Place::new(Region::PARAMS + self.leaves.0 as u32 + i, 0),
                Op::Table(i) => Place::new(Region::TABLES, i as usize),
                Op::Arange => self.constant(self.analysis.len(id as NodeId)),
                _ => continue,
            };
            self.places[id] = Some(place);
        }
    }

    fn constant(&mut self, len: usize) -> Place {
        let offset = self.constants;
        self.constants += len.next_multiple_of(LINE);
        Place::new(Region::CONSTANTS, offset)
    }

    /// A wanted value is computed where the caller wants it, unless it stands elsewhere or is wanted twice.
    fn place_outputs(&mut self) {
        for (index, &id) in self.analysis.wanted.iter().enumerate() {
            match self.analysis.values[id as usize] {
                Value::Own | Value::View(_, 0) => {
                    let root = self.analysis.root(id).unwrap_or(id);
                    let free = self.places[root as usize].is_none()
                        && self.analysis.is_computed(root)
                        && !self.analysis.constant[root as usize]
                        && self.analysis.len(root) == self.analysis.len(id);
                    if free {
                        self.places[root as usize] = Some(self.output(index));
                    } else {
                        self.copies.push((index, id));
                    }
                }
                _ => self.copies.push((index, id)),
            }
        }
    }

    /// Numbers that a step must find in memory.
    fn place_uniforms(&mut self) {
        let analysis = self.analysis;
        let mut longest: BTreeMap<u32, usize> = BTreeMap::new();
        let mut note = |id: NodeId, slice: bool| {
            if let Value::Uniform(bits) = analysis.values[id as usize] {
                let len = longest.entry(bits).or_default();
                *len = (*len).max(self.shape(id, slice).elements() as usize);
            }
        };
        for (id, node) in analysis.graph.nodes().iter().enumerate() {
            if analysis.needed[id] && !is_elementwise(&node.op) && !is_leaf(&node.op) {
                for (k, &input) in node.inputs.iter().enumerate() {
                    note(input, self.slices.takes_slice(analysis, id as NodeId, k));
                }
            }
        }
        analysis.wanted.iter().for_each(|&id| note(id, false));
        for (bits, len) in longest {
            let place = self.constant(len);
            self.uniforms.insert(bits, (place.offset, len));
        }
    }

    /// Settles when each value of the arena lives, and gives it a stretch for that long.
    fn place_computed(&mut self, units: &[Vec<NodeId>]) {
        let analysis = self.analysis;
        let mut lives = Lives::new(self, units);
        for (at, unit) in units.iter().enumerate() {
            for &id in unit {
                if self.places[id as usize].is_none() {
                    if analysis.constant[id as usize] {
                        self.places[id as usize] = Some(self.constant(analysis.len(id)));
                    } else {
                        lives.value(self, id, at);
                    }
                }
                if self.slices.is_sum(id) && matches!(analysis.node(id).op, Op::Sum(_)) {
                    lives.during_loop(Content::Unfinished(id), analysis.len(id));
                }
                if let Some(key) = self.packed_key(id)
                    && let Entry::Vacant(entry) = self.packed.entry(key)
                {
                    let [k, n] = key.2;
                    entry.insert((Place::new(Region::ARENA, 0), id));
                    lives.during_loop(Content::Packed(key), Packed::len(k, n));
                }
            }
        }
        let mut arena = Arena::default();
        for (offset, content) in lives.settle(self, units, &mut arena) {
            let place = Place::new(Region::ARENA, offset);
            match content {
                Content::Value(id) => self.places[id as usize] = Some(place),
                Content::Unfinished(id) => {
                    self.unfinished.insert(id, place);
                }
                Content::Packed(key) => {
                    self.packed.entry(key).and_modify(|(to, _)| *to = place);
                }
            }
        }
        self.arena = arena.top;
    }
}

/// Whether a value lives only within the loop over slices.
fn is_local(analysis: &Analysis<'_>, slices: &Slices, id: NodeId) -> bool {
    let in_loop = |&user: &NodeId| slices.stage(user) == Stage::Loop;
    slices.is_sliced(id) && !analysis.given[id as usize] && analysis.users[id as usize].iter().all(in_loop)
}

/// What stands in a stretch of the arena.
#[derive(Clone, Copy, Debug)]
enum Content {
    Value(NodeId),
    Unfinished(NodeId),
    Packed(PackedKey),
}

/// When the contents of the arena are needed, in positions of units.
struct Lives {
    unit_of: Vec<usize>,
    /// First and last unit in the loop, where there is one.
    in_loop: Option<(usize, usize)>,
    /// What begins to live at a unit: elements, last unit (none: to the end).
    begins: Vec<Vec<(usize, Option<usize>, Content)>>,
}

impl Lives {
    fn new(layout: &Layout<'_, '_>, units: &[Vec<NodeId>]) -> Self {
        let mut unit_of = vec![usize::MAX; layout.analysis.graph.len()];
        for (at, unit) in units.iter().enumerate() {
            unit.iter().for_each(|&id| unit_of[id as usize] = at);
        }
        let stage = |unit: &Vec<NodeId>| unit.last().map(|&id| layout.slices.stage(id));
        let first = units.iter().position(|unit| stage(unit) == Some(Stage::Loop));
        let last = units.iter().rposition(|unit| stage(unit) == Some(Stage::Loop));
        Self { unit_of, in_loop: first.zip(last), begins: vec![Vec::new(); units.len()] }
    }

    /// A value that unit `at` computes.
    fn value(&mut self, layout: &Layout<'_, '_>, id: NodeId, at: usize) {
        let (analysis, slices) = (layout.analysis, layout.slices);
        let last = analysis.users[id as usize].iter().map(|&user| self.unit_of[user as usize]).max();
        let given = analysis.given[id as usize];
        // A value that nobody outside of its unit needs stays in a register.
        if last <= Some(at) && !given {
            return;
        }
        let len = layout.shape(id, layout.local[id as usize]).elements() as usize;
        let (mut first, mut last) = (at, last.filter(|_| !given));
        if let Some((start, end)) = self.in_loop
            && !layout.local[id as usize]
        {
            // Every slice adds to what leaves the loop, and reads what comes into it.
            if slices.stage(id) == Stage::Loop {
                first = start;
            }
            last = last.map(|last| if (start..=end).contains(&last) { end } else { last });
        }
        self.begins[first].push((len, last, Content::Value(id)));
    }

    /// Something that is there as long as the loop runs.
    fn during_loop(&mut self, content: Content, len: usize) {
        if let Some((start, end)) = self.in_loop {
            self.begins[start].push((len, Some(end), content));
        }
    }

    /// Gives everything its stretch: a new one or, where it may be written over an operand, that one's.
    fn settle(self, layout: &mut Layout<'_, '_>, units: &[Vec<NodeId>], arena: &mut Arena) -> Vec<(usize, Content)> {
        let mut ending: Vec<Vec<(usize, usize, Content)>> = vec![Vec::new(); self.begins.len()];
        let mut all = Vec::new();
        for (at, begins) in self.begins.into_iter().enumerate() {
            for (len, last, content) in begins {
                let len = len.next_multiple_of(LINE);
                let may = |&(_, old_len, old): &(usize, usize, Content)| match (content, old) {
                    (Content::Value(new), Content::Value(old)) => {
                        old_len == len && replace::in_arena(layout, &units[at], new, old)
                    }
                    _ => false,
                };
                let old = ending[at].iter().position(may).map(|i| ending[at].swap_remove(i));
                if let (Some(_), Content::Value(id)) = (old, content) {
                    layout.over_operand[id as usize] = true;
                }
                let offset = old.map_or_else(|| arena.take(len), |(offset, ..)| offset);
                all.push((offset, content));
                if let Some(last) = last {
                    ending[last].push((offset, len, content));
                }
            }
            for (offset, len, _) in std::mem::take(&mut ending[at]) {
                arena.give(offset, len);
            }
        }
        all
    }
}

/// Offsets that are free; the lowest that fits is taken.
#[derive(Debug, Default)]
struct Arena {
    /// Free stretches below `top`, ascending and apart.
    holes: Vec<(usize, usize)>,
    top: usize,
}

impl Arena {
    fn take(&mut self, len: usize) -> usize {
        if let Some(at) = self.holes.iter().position(|&(_, hole)| hole >= len) {
            let (offset, hole) = self.holes[at];
            if hole == len {
                self.holes.remove(at);
            } else {
                self.holes[at] = (offset + len, hole - len);
            }
            return offset;
        }
        let offset = match self.holes.last() {
            Some(&(offset, hole)) if offset + hole == self.top => {
                self.holes.pop();
                offset
            }
            _ => self.top,
        };
        self.top = offset + len;
        offset
    }

    fn give(&mut self, offset: usize, len: usize) {
        let at = self.holes.partition_point(|&(start, _)| start < offset);
        self.holes.insert(at, (offset, len));
        if let Some(&(next, more)) = self.holes.get(at + 1)
            && offset + len == next
        {
            self.holes[at].1 += more;
            self.holes.remove(at + 1);
        }
        if at > 0 {
            let (before, hole) = self.holes[at - 1];
            if before + hole == offset {
                self.holes[at - 1].1 += self.holes[at].1;
                self.holes.remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arena;

    #[test]
    fn what_is_given_back_is_taken_again_and_joined() {
        let mut arena = Arena::default();
        let [a, b, c] = [16, 32, 16].map(|len| arena.take(len));
        assert_eq!((a, b, c, arena.top), (0, 16, 48, 64));
        arena.give(a, 16);
        assert_eq!(arena.take(32), 64, "the hole is too small");
        arena.give(b, 32);
        assert_eq!(arena.holes, [(0, 48)]);
        assert_eq!(arena.take(40), 0);
        arena.give(64, 32);
        assert_eq!(arena.take(100), 64, "the last hole grows");
        assert_eq!((arena.top, arena.holes), (164, vec![(40, 8)]));
    }
}
