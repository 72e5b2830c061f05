//! Random nodes: each element from its own position in its stream, so that any split gives the same numbers.
//!
//! A block gives two elements: [`LANES`] blocks are computed at a time, and both words of each are used.

use std::ops::Range;

use crate::graph::Random;
use crate::math;
use crate::number::canon;
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

/// The elements of [`LANES`] pairs from `pair` on. Loops of one function over arrays: those are what becomes vectors.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn uniforms(stream: &Stream, step: u32, pair: u32) -> [f32; 2 * LANES] {
    let mut all = [0.0; 2 * LANES];
    for i in 0..LANES {
        let [first, second] = stream.block(step, pair.wrapping_add(i as u32));
        all[2 * i] = random::uniform(first);
        all[2 * i + 1] = random::uniform(second);
    }
    all
}

/// As [`uniforms`]; see [`random::normals`] for the arithmetic.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn normals(stream: &Stream, step: u32, pair: u32) -> [f32; 2 * LANES] {
    let [mut radius, mut angle] = [[0.0; LANES]; 2];
    for i in 0..LANES {
        let [first, second] = stream.block(step, pair.wrapping_add(i as u32));
        radius[i] = random::unit(first);
        angle[i] = random::angle(second);
    }
    for radius in &mut radius {
        *radius = random::radius(*radius);
    }
    let [mut cos, mut sin] = [angle; 2];
    for cos in &mut cos {
        *cos = math::cos(*cos);
    }
    for sin in &mut sin {
        *sin = math::sin(*sin);
    }
    let mut all = [0.0; 2 * LANES];
    for i in 0..LANES {
        all[2 * i] = canon(radius[i] * cos[i]);
        all[2 * i + 1] = canon(radius[i] * sin[i]);
    }
    all
}
