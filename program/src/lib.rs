//! The `train.py` front end: from the bytes of an experiment's source to what the engine can run, and the job
//! processes in which foreign programs are traced and run.
//!
//! A source passes the gate (`source`), is parsed, lowered to an own syntax tree (`lower`, `ast`), and evaluated
//! (`machine`, `builtin`), which builds graphs (`tensor`, `optimise`); [`trace()`] puts them together and prices them.
//! Start there, or at [`knobs()`] for what a searcher may vary.
//!
//! *Invariant:* every refusal is a [`Diagnostic`] that depends on the source and the named limits alone, never on the
//! machine, the clock or the allocator.

mod ast;
mod builtin;
mod diagnostic;
mod fault;
pub mod job;
mod knobs;
mod limits;
mod lower;
mod machine;
mod manual;
mod optimise;
mod source;
mod tensor;
mod trace;
mod value;

pub use diagnostic::{Diagnostic, Frame, Kind};
pub use knobs::{Hint, KNOBS_MAX, Knob, KnobValue, knobs};
pub use limits::Limits;
pub use manual::{Operation, Place, Section, manual, operations};
pub use source::{NESTING_MAX, SOURCE_BYTES_MAX};
pub use trace::{TraceContext, Traced, evaluate_text, trace};
