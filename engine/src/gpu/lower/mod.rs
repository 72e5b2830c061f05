//! From a unit of nodes to the kernels that compute it: one file for each family of operations.
//!
//! Every kernel computes what [`mod@crate::reference`] says, in the same order, `canon` after each primitive step.

mod attention;
mod chain;
mod contract;
mod conv;
mod fault;
mod index;
mod lanes;
mod moves;
mod operand;
mod product;
mod random;
mod reduce;
mod rows;
mod scan;
mod tile;

use crate::graph::{NodeId, Op};
use crate::plan::analysis::is_elementwise;

use super::kernel::{Kernel, View};
use super::plan::{Building, Feed};

/// Invocations of a workgroup where nothing asks for another number.
pub(super) const LANES: u32 = 64;

/// Lowers a unit: one node, a chain of elementwise nodes, or the gradients of one attention.
pub(super) fn unit(building: &mut Building<'_, '_>, unit: &[NodeId]) {
    let Some(&id) = unit.first() else { return };
    let node = building.analysis.node(id);
    match &node.op {
        op if is_elementwise(op) => chain::lower(building, unit),
        Op::MatMul { ta, tb } => contract::lower(building, id, *ta, *tb),
        Op::Conv2d(options) => conv::forward(building, id, *options),
        Op::Conv2dInputGrad(options) => conv::input_grad(building, id, *options),
        Op::Conv2dWeightGrad(options) => conv::weight_grad(building, id, *options),
        Op::Attention(options) => attention::forward(building, id, options),
        Op::AttentionGrad(options, _) => attention::backward(building, unit, options),
        Op::Row(op) => rows::lower(building, id, *op),
        Op::Rope { base, inverse } => rows::rope(building, id, *base, *inverse),
        Op::Sum(axes) => reduce::sum(building, id, axes),
        Op::Max(axes) => reduce::max(building, id, axes),
        Op::ArgMax => reduce::argmax(building, id),
        Op::TopK(k) => reduce::topk(building, id, *k),
        Op::CumSum { axis, reverse } => scan::cumsum(building, id, *axis, *reverse),
        Op::Embedding => index::embedding(building, id),
        Op::EmbeddingGrad(rows) => index::embedding_grad(building, id, *rows),
        Op::Take => index::take(building, id),
        Op::TakeGrad(n) => index::take_grad(building, id, *n),
        Op::Gather(axis) => index::gather(building, id, *axis),
        Op::ScatterAdd { axis, len } => index::scatter_add(building, id, *axis, *len),
        Op::Permute(perm) => moves::permute(building, id, perm),
        Op::Slice { axis, start } => moves::slice(building, id, *axis, *start),
        Op::Pad { axis, before, .. } => moves::pad(building, id, *axis, *before),
        Op::Concat(axis) => moves::concat(building, id, *axis),
        Op::Random(kind, name) => random::lower(building, id, *kind, name),
        // Leaves and other names of a value are computed by nobody; the rest is elementwise.
        Op::Input(_)
        | Op::Param(_)
        | Op::State(_)
        | Op::Table(_)
        | Op::Full(_)
        | Op::FullInt(_)
        | Op::Arange
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Where
        | Op::StopGradient
        | Op::Reshape
        | Op::BroadcastTo => {}
    }
    fault::spoil(building, unit);
}

/// 0, 1, 2, …
pub(super) fn arange(to: &View) -> Kernel {
    let mut kernel = Kernel::new("arange", [LANES, 1, 1]);
    kernel.each(to.len());
    let to = kernel.write_ints(to);
    kernel.code(&format!("{} = i32(i);", to.at("i")));
    kernel
}

/// The same word everywhere.
pub(super) fn fill(to: &View, bits: u32) -> Kernel {
    let mut kernel = Kernel::new("fill", [LANES, 1, 1]);
    kernel.each(to.len());
    let word = kernel.arg(bits as usize);
    let to = kernel.write_words(to);
    kernel.code(&format!("{} = {word};", to.at("i")));
    kernel
}

/// What a step led to: the bits of its loss, and the first element of `part` (whose first element is number `first` of the
/// whole state) that stands at the end of the number system.
pub(super) fn report(part: &View, first: usize, loss: &View, told: &View) -> Kernel {
    /// Elements of one invocation.
    const EACH: usize = 4;
    let mut kernel = Kernel::new("report", [LANES, 1, 1]);
    let groups = part.len().div_ceil(LANES as usize * EACH);
    kernel.groups_of(groups as u64);
    let (part_len, first) = (kernel.arg(part.len()), kernel.arg(first));
    let (step, loss) = (kernel.read_words(&Feed::step()), kernel.read_words(loss));
    let (part, told) = (kernel.read_words(part), kernel.write_atomic(told));
    let number = step.at("1u");
    kernel.code(&format!(
        "let begin = linear(group) * {size}u + lane;
if (begin == 0u && {first} == 0u) {{ atomicStore(&{loss_to}, {loss}); }}
for (var k = 0u; k < {EACH}u; k++) {{
    let at = begin + k * {LANES}u;
    if (at < {part_len}) {{
        if (({element} & 0x7fffffffu) >= 0x5d800000u) {{ atomicMin(&{first_to}, {first} + at); }}
    }}
}}",
        size = LANES as usize * EACH,
        loss = loss.at("0u"),
        loss_to = told.at(format!("2u * {number}")),
        first_to = told.at(format!("2u * {number} + 1u")),
        element = part.at("at"),
    ));
    kernel.work = 2 * groups as u64 * u64::from(LANES) * EACH as u64;
    kernel
}
