//! Records, canonical encoding, ids, signatures and settlement of the Cairn network.
//!
//! Start at [`records`] for what peers say, [`gate`] for what makes it valid, [`chain`] and
//! [`settle`] for what follows from it, [`messages`] for how it travels.
//!
//! *Invariant:* no I/O, no clock, no randomness, no async, no float, no hash-map order. Every
//! function here gives the same answer on every machine.

pub mod bounded;
pub mod chain;
pub mod codec;
pub mod gate;
pub mod ids;
pub mod keys;
pub mod limits;
pub mod messages;
pub mod records;
pub mod settle;

pub use bounded::{BoundedBytes, BoundedVec, Text};
pub use chain::{ChainError, ChainState};
pub use codec::{CodecError, Wire, decode, encode};
pub use gate::GateError;
pub use ids::*;
pub use keys::{
    AuthorKey, AuthorSecret, BadSignature, Domain, PeerKey, PeerSecret, Signature, VerifierKey, VerifierSecret,
};
pub use messages::{AskNeighbours, Candidate, Channel, Gossip, Neighbour, Neighbours, Request, Response};
pub use records::*;
