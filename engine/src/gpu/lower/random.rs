//! Random nodes: each element from its own position in its stream, so that any split gives the same numbers.

use crate::graph::{NodeId, Random};

use super::super::kernel::{Kernel, Word};
use super::super::plan::{Building, Feed};
use super::chain::LANES;

/// One invocation for each block of two elements; in a slice of odd length the first may lack its first.
pub(super) fn lower(building: &mut Building<'_, '_>, id: NodeId, kind: Random, name: &str) {
    let to = building.result(id);
    let len = to.len();
    let advance = if building.slices.is_sliced(id) { len as u32 } else { 0 };
    let mut kernel = Kernel::new("random", [LANES, 1, 1]);
    kernel.each(len / 2 + 1);
    kernel.work = 64 * len as u64;
    let (key, step) = (kernel.read_words(&building.feed.key(name)), kernel.read_words(&Feed::step()));
    let to = kernel.write(&to);
    let (n, first) = (kernel.arg(len), kernel.word(Word::Slice { first: 0, advance }));
    let function = match kind {
        Random::Uniform => "random_uniforms",
        Random::Normal => "random_normals",
    };
    kernel.code(&format!(
        "let first = {first};
let pair = (first >> 1u) + i;
let two = {function}(vec2<u32>({}, {}), {}, pair);
let at = 2u * pair - first;
if (at < {n}) {{ {} = two.x; }}
if (at + 1u < {n}) {{ {} = two.y; }}",
        key.at("0u"),
        key.at("1u"),
        step.at("0u"),
        to.at("at"),
        to.at("at + 1u"),
    ));
    building.push(kernel);
}
