//! Exact training: a static graph of tensor operations, differentiated, priced and run so that every
//! machine gets the same bits. The rules are in `docs/spec/arithmetic.md`.
//!
//! Start reading at [`graph`] (what an experiment is), then [`reference`] (what each operation means).
//!
//! *Invariant:* nothing here opens a socket, reads a clock to decide a value, or depends on thread count.

pub mod graph;
