//! Where every tensor stands: the arena with one offset for each value that lives for a while, the constants, and the
//! caller's own vectors.
//!
//! *Invariant:* two values whose lives overlap never share an element of the arena.

use std::collections::BTreeMap;

use crate::graph::{NodeId, Op};

use super::super::memory::{LINE, Place, Region};
use super::analysis::{Analysis, Value, is_elementwise, is_leaf};

/// Places of a graph's values.
#[derive(Debug)]
pub(super) struct Layout<'p, 'g> {
    /// The graph.
    pub(super) analysis: &'p Analysis<'g>,
    /// Place of each root that has one.
    places: Vec<Option<Place>>,
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
}

impl<'p, 'g> Layout<'p, 'g> {
    /// Settles the places of all values of these units.
    pub(super) fn new(analysis: &'p Analysis<'g>, units: &[Vec<NodeId>]) -> Self {
        let n = analysis.graph.len();
        let mut layout = Self {
            analysis,
            places: vec![None; n],
            uniforms: BTreeMap::new(),
            copies: Vec::new(),
            arena: 0,
            constants: 0,
            leaves: (0, 0),
        };
        layout.place_leaves();
        layout.place_outputs();
        layout.place_uniforms();
        layout.place_computed(units);
        layout
    }

    /// First element of a node's value.
    pub(super) fn place(&self, id: NodeId) -> Place {
        let found = match self.analysis.values[id as usize] {
            Value::Own => self.places[id as usize],
            Value::View(root, offset) => {
                self.places[root as usize].map(|place| Place { offset: place.offset + offset, ..place })
            }
            Value::Uniform(bits) => {
                self.uniforms.get(&bits).map(|&(offset, _)| Place { region: Region::CONSTANTS, offset })
            }
        };
        match found {
            Some(place) => place,
            None => unreachable!("node {id} is used without a place"),
        }
    }

    /// Region of an output.
    pub(super) fn output(&self, index: usize) -> Place {
        let (params, states) = self.leaves;
        Place { region: Region::PARAMS + (params + states + index) as u32, offset: 0 }
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
                Op::Input(i) => Place { region: Region::INPUTS + u32::from(i), offset: 0 },
                Op::Param(i) => Place { region: Region::PARAMS + i, offset: 0 },
                Op::State(i) => Place { region: Region::PARAMS + self.leaves.0 as u32 + i, offset: 0 },
                Op::Table(i) => Place { region: Region::TABLES, offset: i as usize },
                Op::Arange => self.constant(self.analysis.len(id as NodeId)),
                _ => continue,
            };
            self.places[id] = Some(place);
        }
    }

    fn constant(&mut self, len: usize) -> Place {
        let offset = self.constants;
        self.constants += len.next_multiple_of(LINE);
        Place { region: Region::CONSTANTS, offset }
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
        let mut note = |id: NodeId| {
            if let Value::Uniform(bits) = analysis.values[id as usize] {
                let len = longest.entry(bits).or_default();
                *len = (*len).max(analysis.len(id));
            }
        };
        for (id, node) in analysis.graph.nodes().iter().enumerate() {
            if analysis.needed[id] && !is_elementwise(&node.op) && !is_leaf(&node.op) {
                node.inputs.iter().for_each(|&input| note(input));
            }
        }
        analysis.wanted.iter().for_each(|&id| note(id));
        for (bits, len) in longest {
            let place = self.constant(len);
            self.uniforms.insert(bits, (place.offset, len));
        }
    }

    fn place_computed(&mut self, units: &[Vec<NodeId>]) {
        let analysis = self.analysis;
        let mut unit_of = vec![usize::MAX; analysis.graph.len()];
        for (at, unit) in units.iter().enumerate() {
            unit.iter().for_each(|&id| unit_of[id as usize] = at);
        }
        let mut ending: Vec<Vec<NodeId>> = vec![Vec::new(); units.len()];
        let mut arena = Arena::default();
        for (at, unit) in units.iter().enumerate() {
            for &id in unit {
                if self.places[id as usize].is_some() {
                    continue;
                }
                let users = &analysis.users[id as usize];
                let last = users.iter().map(|&user| unit_of[user as usize]).max();
                let (len, given) = (analysis.len(id), analysis.given[id as usize]);
                // A value that nobody outside of its unit needs stays in a register.
                if analysis.constant[id as usize] {
                    self.places[id as usize] = Some(self.constant(len));
                } else if last > Some(at) || given {
                    let offset = arena.take(len.next_multiple_of(LINE));
                    self.places[id as usize] = Some(Place { region: Region::ARENA, offset });
                    if let (Some(last), false) = (last, given) {
                        ending[last].push(id);
                    }
                }
            }
            for id in std::mem::take(&mut ending[at]) {
                if let Some(place) = self.places[id as usize] {
                    arena.give(place.offset, analysis.len(id).next_multiple_of(LINE));
                }
            }
        }
        self.arena = arena.top;
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
