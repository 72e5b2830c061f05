//! Any GPU, the same bits: a graph as WGSL kernels, through wgpu (Vulkan, Metal, Direct3D 12).
//!
//! Start at [`Gpu`], the executor. [`device`] opens adapters and waits for them, [`plan`] makes a graph ready, [`lower`]
//! writes its kernels with what [`kernel`] and [`wgsl`] offer. `docs/spec/arithmetic.md` has the rules that make a
//! kernel's bits those of [`mod@crate::reference`]; whether a device keeps them is measured by [`gate`]
//! before it counts.
//!
//! *Invariant:* the host waits for the device only where it needs its numbers, and never for ever.

mod device;
mod executor;
pub mod gate;
mod kernel;
mod lower;
mod peak;
mod plan;
mod wgsl;

pub use device::{Adapter, AdapterKind, adapters, find, keep_pipelines_in};
pub use executor::{Cost, Gpu};
pub use peak::{Peak, peak};

use crate::backend::BackendError;
use crate::graph::{Graph, NodeId};

/// How a contraction's sum of products is written. On a device that keeps the rules all forms give the same bits; which
/// of them it keeps, and which is fastest, is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// `a * b + c`, as the device likes.
    Plain,
    /// `fma(a, b, c)`.
    Fma,
    /// `a * b + c` behind an exclusive or with an unknown zero, so that no sum can be reordered.
    Barrier,
}

impl Form {
    /// All forms, in the order of how much they ask of a device.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Fma, Self::Barrier];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Fma => "fma",
            Self::Barrier => "barrier",
        }
    }

    /// The form of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.name() == name)
    }
}

/// A device and how it is used; no option changes a bit of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Index into [`adapters`].
    pub adapter: u8,
    /// How contractions are written.
    pub form: Form,
}

/// What a device can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of one binding.
    pub(crate) binding: u64,
    /// Bytes of all tensors of a plan.
    pub(crate) memory: u64,
}

impl Limits {
    /// What every device of WebGPU's default limits has.
    const LEAST: Self = Self { binding: 128 << 20, memory: u64::MAX };
}

/// Name and WGSL text of every kernel that a run of `graph` takes, in order, without any device: for translations, counts
/// and fingerprints.
///
/// # Errors
/// `wanted` is not of this graph, or a tensor is beyond WebGPU's default limits.
pub fn texts(graph: &Graph, wanted: &[NodeId], form: Form) -> Result<Vec<(&'static str, String)>, BackendError> {
    let plan = plan::Plan::new(graph, wanted, true, None, form, Limits::LEAST)?;
    let kernels = plan.once.iter().chain(plan.stages.iter().flatten());
    Ok(kernels.map(|kernel| (kernel.label, kernel.source())).collect())
}
