//! The verifier: tickets, gate, queue, replay, verdicts, ordering.
//!
//! Start at [`machine`], which decides everything; [`ordering`] makes the chain's next entry;
//! [`driver`] connects it with network, disk and job processes.
//!
//! *Invariant:* nothing is signed that was not stored first.

pub mod driver;
pub mod machine;
pub mod ordering;

pub use machine::{Event, Input, Machine, Output};
