//! The node's pure parts: research and the machine.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod research;
mod simulated;
