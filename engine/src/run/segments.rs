//! The trace of a run: where its segments end, the hashes there, and the root over them.

use std::collections::VecDeque;

use cairn_protocol::{Hash32, hash};

use super::state::State;
use super::{Control, Watch};
use crate::graph::Program;

/// Steps done at the end of segment `segment` (counted from 0) of `segments`: ⌊(segment + 1) · steps / segments⌋.
pub fn segment_end(segment: u16, segments: u16, steps: u64) -> u64 {
    (u64::from(segment) + 1).saturating_mul(steps) / u64::from(segments.max(1))
}

/// Hash over the leaves, in order.
pub fn trace_root(leaves: &[Hash32]) -> Hash32 {
    let parts: Vec<&[u8]> = leaves.iter().map(|leaf| leaf.0.as_slice()).collect();
    Hash32(hash("trace", &parts))
}

/// The trace of a run that is under way.
pub(super) struct Trace {
    pub(super) leaves: Vec<Hash32>,
    steps: u64,
    segments: u16,
    segment: u16,
    /// Of this segment and, where its steps have begun, later ones: steps after which the state inside is hashed.
    wanted: VecDeque<Option<u64>>,
    inside: Option<Hash32>,
}

impl Trace {
    pub(super) fn new(steps: u64, segments: u16) -> Self {
        Self { leaves: Vec::new(), steps, segments, segment: 0, wanted: VecDeque::new(), inside: None }
    }

    /// Steps done at the end of a segment.
    fn end(&self, segment: u16) -> u64 {
        segment_end(segment, self.segments, self.steps)
    }

    /// After how many steps the state inside a segment, this or a later one, is to be hashed.
    fn wanted(&mut self, segment: u16, watch: &mut dyn Watch) -> Option<u64> {
        while self.wanted.len() <= usize::from(segment - self.segment) {
            let next = self.segment + self.wanted.len() as u16;
            let start = next.checked_sub(1).map_or(0, |before| self.end(before));
            let end = self.end(next);
            self.wanted.push_back(watch.inside(next, end - start).map(|after| start + after));
        }
        self.wanted.get(usize::from(segment - self.segment)).copied().flatten()
    }

    /// The first number of steps beyond `done` after which the state is needed.
    pub(super) fn next_stop(&mut self, done: u64, watch: &mut dyn Watch) -> u64 {
        let segment = (self.segment..self.segments).find(|&segment| self.end(segment) > done);
        let Some(segment) = segment else { return self.steps };
        let end = self.end(segment);
        self.wanted(segment, watch).filter(|&inside| inside > done).map_or(end, |inside| inside.min(end))
    }

    /// The segment that ends after so many steps, if it is the current one.
    pub(super) fn ends_at(&self, done: u64) -> Option<u16> {
        (self.end(self.segment) == done).then_some(self.segment)
    }

    /// Notes the state after a step.
    pub(super) fn after(&mut self, program: &Program, state: &State, watch: &mut dyn Watch) -> Control {
        let (segment, end) = (self.segment, self.end(self.segment));
        let wanted = self.wanted(segment, watch);
        if wanted == Some(state.step) {
            self.inside = Some(state.hash(program));
        }
        if state.step < end {
            return Control::Continue;
        }
        let leaf = match self.inside {
            // Already hashed: the only step of the segment is its inside.
            Some(hash) if wanted == Some(end) => hash,
            _ => state.hash(program),
        };
        self.leaves.push(leaf);
        self.segment += 1;
        self.wanted.pop_front();
        watch.segment(segment, leaf, self.inside.take())
    }
}
