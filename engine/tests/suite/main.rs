//! Integration tests of the engine, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod audit;
mod bench;
mod candle;
mod candle_backend;
mod canonical;
mod cases;
mod closeness;
mod cpu_exact;
mod cpu_fuzz;
mod cpu_memory;
mod cpu_ops;
mod cpu_slices;
mod gpu;
mod gradients;
mod misfits;
mod price;
mod programs;
mod random_graphs;
mod reference;
mod run_data;
mod run_training;
mod vectors;
