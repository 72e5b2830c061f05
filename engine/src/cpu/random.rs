//! Random nodes: each element from its own position in its stream, so that any split gives the same numbers.

use std::ops::Range;

use crate::graph::Random;
use crate::random::Stream;

use super::isa::Kernel;
use super::memory::Place;
use super::step::{Context, Pieces, Sharing};

/// Fresh numbers at each step.
#[derive(Debug)]
pub(super) struct Draw {
    /// Distribution.
    pub(super) kind: Random,
    /// Name of the stream.
    pub(super) name: String,
    /// Elements: of a slice, where the tensor is computed slice by slice.
    pub(super) len: usize,
    /// Result.
    pub(super) to: Place,
}

impl Draw {
    /// How elements are shared out.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        Pieces::new(self.len, 16, 64, sharing)
    }

    /// # Safety
    /// As for `Step::piece`.
    pub(super) unsafe fn run(&self, context: &Context<'_>, elements: Range<usize>) {
        let stream = Stream::new(context.seed, "random", &self.name);
        // SAFETY: a piece's elements are its own.
        let to = unsafe { context.at(self.to).write(elements.start, elements.len()) };
        context.level.run(Elements {
            kind: self.kind,
            stream,
            step: context.step as u32,
            first: (context.slice.index * self.len + elements.start) as u32,
            to,
        });
    }
}

struct Elements<'a> {
    kind: Random,
    stream: Stream,
    step: u32,
    first: u32,
    to: &'a mut [f32],
}

impl Kernel for Elements<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { stream, step, first, .. } = self;
        match self.kind {
            Random::Uniform => {
                for (to, i) in self.to.iter_mut().zip(first..) {
                    *to = stream.uniform(step, i);
                }
            }
            Random::Normal => {
                for (to, i) in self.to.iter_mut().zip(first..) {
                    *to = stream.normal(step, i);
                }
            }
        }
    }
}
