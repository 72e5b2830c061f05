//! Records, fetched and checked.

use cairn_protocol::codec::encode;
use cairn_protocol::limits::ENTRIES_PAGE_MAX;
use cairn_protocol::{
    CertifiedEntry, Commit, CommitId, EntryId, Gossip, Hash32, PeerKey, Record, Request, Response, Signed, Track,
    TrackId, gate,
};

use super::{FetchError, ask, lied};
use crate::Handle;
use crate::limits::{PENDING_BYTES_MAX, PENDING_MAX};

const OTHER: &str = "an answer to another question";

/// Where a peer's chain ends, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Height of the last entry; 0 without entries.
    pub height: u64,
    /// The last entry; the track's id without entries.
    pub entry: EntryId,
}

/// The end of the peer's chain of `track`.
///
/// # Errors
/// When there is no answer, the peer does not follow the track, or the answer cannot be right.
pub async fn tip(handle: &Handle, peer: PeerKey, track: TrackId) -> Result<Tip, FetchError> {
    match ask(handle, peer, Request::Tip { track }).await? {
        Response::Tip { height: 0, entry } if entry.0 != track.0 => {
            Err(lied(handle, peer, "an empty chain that does not begin with its track").await)
        }
        Response::Tip { height, entry } => Ok(Tip { height, entry }),
        _ => Err(lied(handle, peer, OTHER).await),
    }
}

/// One page of entries of `track`, from height `from` on: consecutive, each linked to the one
/// before it in the page. Empty at the end of the peer's chain.
///
/// # Errors
/// When there is no answer, or the answer cannot be right.
pub async fn entries(
    handle: &Handle,
    peer: PeerKey,
    track: TrackId,
    from: u64,
) -> Result<Vec<CertifiedEntry>, FetchError> {
    let max = u16::try_from(ENTRIES_PAGE_MAX).unwrap_or(u16::MAX);
    let page = match ask(handle, peer, Request::Entries { track, from, max }).await? {
        Response::Entries(page) => page.into_inner(),
        _ => return Err(lied(handle, peer, OTHER).await),
    };
    match check_entries(&page, track, from) {
        Ok(()) => Ok(page),
        Err(what) => Err(lied(handle, peer, what).await),
    }
}

fn check_entries(page: &[CertifiedEntry], track: TrackId, from: u64) -> Result<(), &'static str> {
    let mut previous = None;
    for (want, CertifiedEntry { entry, .. }) in (from..).zip(page) {
        if entry.track != track {
            return Err("entries of another track");
        }
        if entry.height != want {
            return Err("entries that are not the next ones");
        }
        if previous.is_some_and(|previous| previous != entry.previous) {
            return Err("entries that are no chain");
        }
        previous = Some(entry.id());
    }
    Ok(())
}

/// The body of a commit, from whichever of `peers` has it: its hash and its author's signature hold.
///
/// # Errors
/// When none of the peers has it; the error is the last one's.
pub async fn commit(
    handle: &Handle,
    peers: &[PeerKey],
    track: TrackId,
    id: CommitId,
) -> Result<Signed<Commit>, FetchError> {
    let mut last = FetchError::NoPeers;
    for peer in peers {
        match commit_of(handle, *peer, track, id).await {
            Ok(found) => return Ok(found),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn commit_of(handle: &Handle, peer: PeerKey, track: TrackId, id: CommitId) -> Result<Signed<Commit>, FetchError> {
    match ask(handle, peer, Request::Commit { track, commit: id }).await? {
        Response::Commit(found) => match check_commit(&found, track, id) {
            Ok(()) => Ok(*found),
            Err(what) => Err(lied(handle, peer, what).await),
        },
        _ => Err(lied(handle, peer, OTHER).await),
    }
}

fn check_commit(found: &Signed<Commit>, track: TrackId, id: CommitId) -> Result<(), &'static str> {
    if found.id() != id {
        Err("a commit with another hash")
    } else if found.body.track() != track {
        Err("a commit to another track")
    } else {
        found.verify().map_err(|_| "a commit whose signature does not hold")
    }
}

/// The record of a track, from whichever of `peers` has it: its hash holds and its fields agree.
///
/// # Errors
/// When none of the peers has it; the error is the last one's.
pub async fn track(handle: &Handle, peers: &[PeerKey], id: TrackId) -> Result<Track, FetchError> {
    let mut last = FetchError::NoPeers;
    for peer in peers {
        match track_of(handle, *peer, id).await {
            Ok(found) => return Ok(found),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn track_of(handle: &Handle, peer: PeerKey, id: TrackId) -> Result<Track, FetchError> {
    match ask(handle, peer, Request::Track { track: id }).await? {
        Response::Track(found) if found.id() == id => match gate::track(&found) {
            Ok(()) => Ok(*found),
            // The track is what its id says; whoever opened it is to blame, not this peer.
            Err(_) => Err(FetchError::Lied { peer, what: "a track whose fields do not agree" }),
        },
        Response::Track(_) => Err(lied(handle, peer, "a track with another hash").await),
        _ => Err(lied(handle, peer, OTHER).await),
    }
}

/// The records of `track` that the peer holds beside its chain, each past the stateless gate. Where
/// there are more than one may take in one go, the first ones.
///
/// # Errors
/// When there is no answer, or an answer cannot be right.
pub async fn pending(handle: &Handle, peer: PeerKey, track: TrackId) -> Result<Vec<Gossip>, FetchError> {
    let (mut found, mut bytes, mut after) = (Vec::new(), 0usize, Hash32::default());
    loop {
        let (page, more) = match ask(handle, peer, Request::Pending { track, after }).await? {
            Response::Pending { records, more } => (records.into_inner(), more),
            _ => return Err(lied(handle, peer, OTHER).await),
        };
        let progress = !page.is_empty();
        for gossip in page {
            let id = gossip.id();
            if let Err(what) = check_pending(&gossip, track, id, after) {
                return Err(lied(handle, peer, what).await);
            }
            (after, bytes) = (id, bytes.saturating_add(encode(&gossip).len()));
            if found.len() >= PENDING_MAX || bytes > PENDING_BYTES_MAX {
                return Ok(found);
            }
            found.push(gossip);
        }
        if !(more && progress) {
            return Ok(found);
        }
    }
}

fn check_pending(gossip: &Gossip, track: TrackId, id: Hash32, after: Hash32) -> Result<(), &'static str> {
    if gossip.track() != track {
        Err("pending records of another track")
    } else if id <= after {
        Err("pending records out of order")
    } else {
        gate::stateless(gossip).map_err(|_| "a pending record that is invalid")
    }
}
