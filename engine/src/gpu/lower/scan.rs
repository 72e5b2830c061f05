//! Running sums along an axis.
//!
//! *Invariant:* a line is summed in its own order, in blocks from +0, the blocks before it as one carry.

use crate::graph::NodeId;
use crate::reference::reduce::CHUNK;

use super::super::kernel::{Kernel, View};
use super::super::plan::Building;
use super::LANES;
use super::index::{around, nested};

/// Lengths of a scan as words of a kernel, and the place of each invocation: line `first`, block `block`.
struct Lines {
    len: String,
    blocks: String,
    inner: String,
    /// Distance from an element to the next one of its line.
    step: String,
    /// First element of a line, counted from its lowest place.
    start: String,
}

impl Lines {
    /// One invocation for each block of each line; lines beside each other first.
    fn new(kernel: &mut Kernel, [outer, len, inner]: [usize; 3], reverse: bool) -> Self {
        let blocks = len.div_ceil(CHUNK);
        kernel.each(outer * blocks * inner);
        kernel.work = (4 * outer * len * inner) as u64;
        let step = if reverse { (inner as u32).wrapping_neg() } else { inner as u32 };
        let lines = Self {
            len: kernel.arg(len),
            blocks: kernel.arg(blocks),
            inner: kernel.arg(inner),
            step: kernel.arg(step as usize),
            start: kernel.arg(if reverse { (len - 1) * inner } else { 0 }),
        };
        let Self { len, blocks, inner, step, start } = &lines;
        kernel.code(&format!(
            "let blocks = i / {inner};
let outer = blocks / {blocks};
let block = blocks - outer * {blocks};
let begin = block * 256u;
let count = min(256u, {len} - begin);
var at = outer * {len} * {inner} + i % {inner} + {start} + begin * {step};
var sum = 0.0;"
        ));
        lines
    }
}

pub(super) fn cumsum(building: &mut Building<'_, '_>, id: NodeId, axis: u8, reverse: bool) {
    let (from, to) = (building.operand(id, 0), building.result(id));
    let axes = around(&to, axis);
    let [outer, len, inner] = axes;
    let blocks = len.div_ceil(CHUNK);
    let sums = (blocks > 1).then(|| building.scratch(outer * blocks * inner));
    if let Some(sums) = &sums {
        building.push(block_sums(&from, sums, axes, reverse));
    }
    building.push(running_sums(&from, sums.as_ref(), &to, axes, reverse));
}

fn block_sums(from: &View, sums: &View, axes: [usize; 3], reverse: bool) -> Kernel {
    let mut kernel = Kernel::new("cumsum blocks", [LANES, 1, 1]);
    let lines = Lines::new(&mut kernel, axes, reverse);
    let (from, sums) = (kernel.read(from), kernel.write(sums));
    kernel.code(&format!(
        "for (var k = 0u; k < count; k++) {{
    sum = plus(sum, {});
    at += {};
}}
{} = sum;",
        from.at("at"),
        lines.step,
        sums.at("i")
    ));
    kernel
}

fn running_sums(from: &View, sums: Option<&View>, to: &View, axes: [usize; 3], reverse: bool) -> Kernel {
    let mut kernel = Kernel::new("cumsum", [LANES, 1, 1]);
    let lines = Lines::new(&mut kernel, axes, reverse);
    kernel.code("var carry = 0.0;");
    if let Some(sums) = sums {
        let sums = kernel.read(sums);
        let before = sums.at(format!("i - (block - k) * {}", lines.inner));
        kernel.code(&nested("k", "block", &format!("carry = plus(carry, {before});")));
    }
    let (from, to) = (kernel.read(from), kernel.write(to));
    kernel.code(&format!(
        "for (var k = 0u; k < count; k++) {{
    sum = plus(sum, {});
    {} = canon(carry + sum);
    at += {};
}}",
        from.at("at"),
        to.at("at"),
        lines.step
    ));
    kernel
}
