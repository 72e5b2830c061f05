//! Exact training: a static graph of tensor operations, differentiated, priced and run so that every
//! machine gets the same bits. The rules are in `docs/spec/arithmetic.md`.
//!
//! Start reading at [`graph`] (what an experiment is), then [`mod@reference`] (what each operation means), then
//! [`run`] (a whole training).
//!
//! *Invariant:* nothing here opens a socket, reads a clock to decide a value, or depends on thread count.

pub mod backend;
pub mod bench;
#[cfg(feature = "candle")]
pub mod candle;
pub mod cpu;
pub mod data;
pub mod gpu;
pub mod grad;
pub mod graph;
pub mod math;
pub mod number;
pub mod oracle;
mod plan;
pub mod price;
pub mod random;
pub mod reference;
pub mod run;
