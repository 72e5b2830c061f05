//! The worker: a pure machine, a research loop and its proposers, and a thin driver.
//!
//! Start at [`machine`] for the life of a claim, at [`research`] for how improvements are found.
//!
//! *Invariant:* foreign programs are traced and run in job processes only.

pub mod event;
pub mod machine;
pub mod research;
