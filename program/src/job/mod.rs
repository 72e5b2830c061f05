//! Job processes: tracing and running foreign programs in a process of their own.
//!
//! The parent re-executes its own binary as `cairn job`, writes one [`Request`], and reads a stream
//! of [`Message`]s. A crash, a memory bomb or a hang costs that one job. Start at [`Job`] for the
//! parent and [`child_main`] for the child.
//!
//! *Invariant:* the child limits itself before it reads a byte of input, and the parent believes
//! nothing of what it says that it cannot check against the request ([`Message`]s are canonical,
//! in order, and inside the request's limits).

mod child;
mod device;
mod measure;
mod parent;
mod task;
mod wire;
mod work;

pub use child::{Report, child_main};
pub use device::{adapters, examine, time};
pub use parent::{Job, JobError, Killer, Outcome};
pub use task::{Allowance, Stopper, perform};
pub use wire::*;
pub use work::work;
