//! The `train.py` front end: from the bytes of an experiment's source to what the engine can run, and the job
//! processes in which foreign programs are traced and run.
//!
//! Start at [`knobs()`]; `source` is the gate that every source passes before the parser's own recursion could hurt.
//!
//! *Invariant:* every refusal is a [`Diagnostic`] that depends on the source and the named limits alone, never on the
//! machine, the clock or the allocator.

mod diagnostic;
pub mod job;
mod knobs;
mod source;

pub use diagnostic::{Diagnostic, Kind};
pub use knobs::{Hint, KNOBS_MAX, Knob, KnobValue, knobs};
pub use source::{NESTING_MAX, SOURCE_BYTES_MAX};
