//! The workspace's end-to-end tests: one binary, one module for each topic.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod architecture;
mod claims;
mod gpu;
mod kills;
