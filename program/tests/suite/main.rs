//! The language of experiments, from the gate to the traced program.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod attacks;
mod averages;
mod common;
mod cpython;
mod differential;
mod examples;
mod gpu;
mod identity;
mod language;
mod manual;
mod mutants;
mod operations;
mod optimisers;
mod refused;
mod roots;
mod shim;
mod source;
mod tracks;
mod trains;
