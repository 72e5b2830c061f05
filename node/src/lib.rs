//! The worker: a pure machine, a research loop and its proposers, and a thin driver.
//!
//! Start at [`machine`] for the life of a claim, at [`research`] for how improvements are found;
//! [`driver`] connects them with network, disk and job processes.
//!
//! *Invariant:* foreign programs are traced and run in job processes only.

pub mod driver;
pub mod event;
pub mod machine;
pub mod research;
