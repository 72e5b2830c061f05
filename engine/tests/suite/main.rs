//! Integration tests of the engine, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod canonical;
mod programs;
