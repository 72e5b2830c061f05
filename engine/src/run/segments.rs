//! The trace of a run: where its segments end, the hashes there, and the root over them.

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
    /// First step of the segment.
    start: u64,
    /// Steps after which the state inside the segment is hashed; none before the segment has begun.
    wanted: Option<Option<u64>>,
    inside: Option<Hash32>,
}

impl Trace {
    pub(super) fn new(steps: u64, segments: u16) -> Self {
        Self { leaves: Vec::new(), steps, segments, segment: 0, start: 0, wanted: None, inside: None }
    }

    /// Notes the state after a step.
    pub(super) fn after(&mut self, program: &Program, state: &State, watch: &mut dyn Watch) -> Control {
        let end = segment_end(self.segment, self.segments, self.steps);
        let (segment, start) = (self.segment, self.start);
        let wanted = *self.wanted.get_or_insert_with(|| watch.inside(segment, end - start).map(|after| start + after));
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
        (self.segment, self.start, self.wanted) = (segment + 1, end, None);
        let goes_on = watch.segment(segment, leaf, self.inside.take());
        if self.segment < self.segments && goes_on == Control::Continue {
            watch.before(self.segment, state);
        }
        goes_on
    }
}
