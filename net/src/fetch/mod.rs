//! What one wants of peers, asked for and checked: tips, entries, commits, tracks, pending records,
//! blobs.
//!
//! *Invariant:* everything a peer answers is hostile until it is checked here as far as it can be
//! without a chain: hashes, signatures, order, bounds. A peer whose answer cannot be right is
//! faulted. Certificates need the chain's roster and are the caller's to check.

mod blob;
mod records;

pub use blob::blob;
pub use records::{Tip, commit, entries, pending, tip, track};

use cairn_protocol::{PeerKey, Request, Response};

use crate::limits::{BUSY_PAUSE, BUSY_RETRIES};
use crate::{AskError, Handle};

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No answer came.
    #[error("peer {peer}: {why}", peer = .peer.short())]
    Ask {
        /// Who was asked.
        peer: PeerKey,
        /// What came instead.
        why: AskError,
    },
    /// The peer does not have it.
    #[error("peer {} does not have it", .0.short())]
    NotFound(PeerKey),
    /// The peer stayed busy.
    #[error("peer {} is busy", .0.short())]
    Busy(PeerKey),
    /// The peer's answer cannot be right.
    #[error("peer {peer} answered with {what}", peer = .peer.short())]
    Lied {
        /// Who answered.
        peer: PeerKey,
        /// What is wrong.
        what: &'static str,
    },
    /// There was nobody to ask.
    #[error("there is no peer to ask")]
    NoPeers,
    /// The caller wants more than anybody may send.
    #[error("{got} bytes are wanted, at most {max} are possible")]
    TooLarge {
        /// Bytes wanted.
        got: u64,
        /// Bytes possible.
        max: u64,
    },
    /// The file to fetch into.
    #[error("cannot write {path}: {why}")]
    File {
        /// Its path.
        path: String,
        /// What the system says.
        why: std::io::Error,
    },
}

/// Asks one peer, again after a pause while it is busy.
async fn ask(handle: &Handle, peer: PeerKey, request: Request) -> Result<Response, FetchError> {
    let mut pause = BUSY_PAUSE;
    for _ in 0..=BUSY_RETRIES {
        match handle.ask(peer, request.clone()).await {
            Ok(Response::Busy) => tokio::time::sleep(pause).await,
            Ok(Response::NotFound) => return Err(FetchError::NotFound(peer)),
            Ok(response) => return Ok(response),
            Err(why) => return Err(FetchError::Ask { peer, why }),
        }
        pause *= 2;
    }
    Err(FetchError::Busy(peer))
}

/// Faults the peer and says why.
async fn lied(handle: &Handle, peer: PeerKey, what: &'static str) -> FetchError {
    handle.fault(peer).await;
    FetchError::Lied { peer, what }
}
