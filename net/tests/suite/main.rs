//! The network over real sockets on loopback: one binary, one module for each topic.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod blobs;
mod gossip;
mod hostile;
mod kit;
mod meeting;
mod records;
mod requests;
