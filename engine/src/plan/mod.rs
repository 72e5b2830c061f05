//! What is known of a graph before any backend settles where its values stand: [`analysis`] tells what each value is,
//! [`slices`] which nodes run for each slice of the batch, [`units`] which run together, [`spread`] how broadcasts read.
//!
//! *Invariant:* nothing here depends on a backend.

pub(crate) mod analysis;
pub(crate) mod slices;
pub(crate) mod spread;
pub(crate) mod units;
