//! The language of experiments, from the gate to the traced program.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod source;
mod tracks;
