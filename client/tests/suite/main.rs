//! The real binary, from outside: what it prints, how it ends, what it leaves behind.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bench;
mod demo;
mod gpus;
mod home;
mod programs;
mod record;
mod support;
mod tracks;
mod usage;
