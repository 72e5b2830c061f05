//! Random nodes: each element from its own position in its stream, so that any split gives the same numbers.
//!
//! A block gives two elements: [`LANES`] blocks are computed at a time, and both words of each are used.

use std::ops::Range;

use crate::graph::Random;
use crate::random::{self, Stream};

use super::isa::Kernel;
use super::lanes::LANES;
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
        let Self { kind, stream, step, first, mut to } = self;
        let mut index = first;
        while !to.is_empty() {
            let group = match kind {
                Random::Uniform => uniforms(&stream, step, index >> 1),
                Random::Normal => normals(&stream, step, index >> 1),
            };
            // The first element may be the second of its pair.
            let skipped = index as usize & 1;
            let len = to.len().min(2 * LANES - skipped);
            let (now, later) = to.split_at_mut(len);
            now.copy_from_slice(&group[skipped..skipped + len]);
            (to, index) = (later, index.wrapping_add(len as u32));
        }
    }
}

/// The blocks of [`LANES`] pairs from `pair` on: their first and their second words.
#[inline(always)]
fn blocks(stream: &Stream, step: u32, pair: u32) -> [[u32; LANES]; 2] {
    let mut words = [[0; LANES]; 2];
    let [first, second] = &mut words;
    for (i, (first, second)) in (0..).zip(first.iter_mut().zip(second)) {
        [*first, *second] = stream.block(step, pair.wrapping_add(i));
    }
    words
}

/// The elements of [`LANES`] pairs, in order.
#[inline(always)]
fn interleaved([even, odd]: [[f32; LANES]; 2]) -> [f32; 2 * LANES] {
    let mut all = [0.0; 2 * LANES];
    for (pair, (even, odd)) in all.as_chunks_mut::<2>().0.iter_mut().zip(even.into_iter().zip(odd)) {
        *pair = [even, odd];
    }
    all
}

#[inline(always)]
fn uniforms(stream: &Stream, step: u32, pair: u32) -> [f32; 2 * LANES] {
    interleaved(blocks(stream, step, pair).map(|words| words.map(random::uniform)))
}

#[inline(always)]
fn normals(stream: &Stream, step: u32, pair: u32) -> [f32; 2 * LANES] {
    let [first, second] = blocks(stream, step, pair);
    let [mut even, mut odd] = [[0.0; LANES]; 2];
    for ((first, second), (even, odd)) in first.into_iter().zip(second).zip(even.iter_mut().zip(&mut odd)) {
        [*even, *odd] = random::normals([first, second]);
    }
    interleaved([even, odd])
}
