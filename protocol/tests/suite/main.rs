//! Integration tests of the protocol, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod arbitrary;
mod bounds;
mod chain;
mod claims;
mod encoding;
mod gate;
mod ids;
mod kit;
mod layout;
mod settlement;
mod signatures;
mod vectors;
