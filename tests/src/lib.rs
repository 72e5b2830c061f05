//! What the end-to-end tests share: the real binary, real homes, real processes.
//!
//! *Invariant:* nothing here imitates a part of the product; every process is `cairn` itself or an adversary that speaks
//! its protocol over real sockets.

mod network;
mod process;

pub use network::{Network, fast_track};
pub use process::{Home, Running, binary};
