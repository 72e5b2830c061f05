//! A wrong kernel on purpose, so that tests see the gate and the audit catch it.
//!
//! `CAIRN_TEST_GPU_FAULT=OPERATION` or `OPERATION:STEP` (`matmul`, `exp:100`): from that step of a run on, the first
//! number of each result of the operation is one unit of the last place off.
//!
//! *Invariant:* nothing happens in a build without debug assertions. Whoever sets it in one only spoils their own
//! device: it fails the gate, or the audit, and shaders with the fault have a fingerprint of their own.

use std::sync::OnceLock;

use crate::graph::{NodeId, Op};

use super::super::kernel::Kernel;
use super::super::plan::{Building, Feed};

const VARIABLE: &str = "CAIRN_TEST_GPU_FAULT";

struct Fault {
    operation: String,
    /// The first step that is wrong.
    from: usize,
}

fn wanted() -> Option<&'static Fault> {
    static WANTED: OnceLock<Option<Fault>> = OnceLock::new();
    let read = || {
        let text = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty())?;
        let (operation, from) = text.split_once(':').unwrap_or((&text, "0"));
        eprintln!("{VARIABLE}={text}: results of this GPU are wrong on purpose");
        Some(Fault { operation: operation.to_lowercase(), from: from.parse().unwrap_or(0) })
    };
    if cfg!(debug_assertions) { WANTED.get_or_init(read).as_ref() } else { None }
}

/// The operation's name, as it is written: `matmul`, `exp`, `softmax`.
fn name(op: &Op) -> String {
    let text = match op {
        Op::Unary(op) => format!("{op:?}"),
        Op::Binary(op) => format!("{op:?}"),
        Op::Row(op) => format!("{op:?}"),
        op => format!("{op:?}"),
    };
    text.split([' ', '(', '{']).next().unwrap_or_default().to_lowercase()
}

/// Spoils what a unit gave, if that is wanted.
pub(super) fn spoil(building: &mut Building<'_, '_>, unit: &[NodeId]) {
    let Some(fault) = wanted() else { return };
    let Some(&id) = unit.last() else { return };
    if name(&building.analysis.node(id).op) != fault.operation {
        return;
    }
    let result = building.result(id);
    let mut kernel = Kernel::new("fault", [1, 1, 1]);
    let (from, step) = (kernel.arg(fault.from), kernel.read_words(&Feed::step()));
    let word = kernel.write_words(&result).at("0u");
    // A zero becomes the smallest number that there is.
    kernel.code(&format!(
        "if ({} >= {from}) {{ {word} = select({word} ^ 1u, 0x0d800000u, {word} == 0u); }}",
        step.at("0u")
    ));
    building.push(kernel);
}
