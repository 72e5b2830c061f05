//! Following one track: catching up with peers, fetching bodies, gossiping, each beside the caller.
//!
//! Gossip may be lost, so that one peer after another is asked now and then for its entries and
//! pending records. Start at [`Follower::next`].
//!
//! *Invariant:* nothing here makes the caller wait for a peer, and a bounded number of exchanges goes
//! on at a time, at most one of a kind with a peer.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use cairn_protocol::{Commit, CommitId, DataBlob, Gossip, PeerKey, Signed, Track, TrackId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::fetch::{self, FetchError};
use crate::limits::*;
use crate::{Event, Handle};

/// What came of following.
#[derive(Debug)]
pub enum Followed {
    /// A peer has this record; it passed the stateless gate as far as it has one.
    Heard(Box<Gossip>),
    /// The body that was asked for, or nothing, if no peer has it now.
    Body(CommitId, Option<Box<Signed<Commit>>>),
}

#[derive(Debug)]
enum Message {
    Followed(Followed),
    CaughtUp(PeerKey),
}

/// Follows one track.
#[derive(Debug)]
pub struct Follower {
    handle: Handle,
    track: TrackId,
    messages: mpsc::Receiver<Message>,
    sender: mpsc::Sender<Message>,
    outbox: mpsc::Sender<Gossip>,
    tasks: JoinSet<()>,
    asking: BTreeSet<PeerKey>,
    fetching: BTreeSet<CommitId>,
    last: Option<PeerKey>,
    asked: Instant,
    behind: bool,
}

impl Follower {
    /// Follows `track` over the network of `handle`; inside a tokio runtime.
    pub fn new(handle: Handle, track: TrackId) -> Self {
        let (outbox, mut waiting) = mpsc::channel::<Gossip>(OWN_RECORDS_MAX);
        let (sender, messages) = mpsc::channel(FOLLOWED_MAX);
        let mut tasks = JoinSet::new();
        let publisher = handle.clone();
        tasks.spawn(async move {
            while let Some(gossip) = waiting.recv().await {
                publisher.publish(gossip).await;
            }
        });
        Self {
            handle,
            track,
            messages,
            sender,
            outbox,
            tasks,
            asking: BTreeSet::new(),
            fetching: BTreeSet::new(),
            last: None,
            asked: Instant::now(),
            behind: true,
        }
    }

    /// Peers that are connected now.
    pub fn count(&self) -> usize {
        self.handle.peers().len()
    }

    /// What comes next. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Followed {
        loop {
            match self.messages.recv().await {
                Some(Message::Followed(followed)) => {
                    if let Followed::Body(commit, _) = &followed {
                        self.fetching.remove(commit);
                    }
                    return followed;
                }
                Some(Message::CaughtUp(peer)) => {
                    self.asking.remove(&peer);
                }
                // Not while we hold a sender; then there is nothing to come.
                None => std::future::pending().await,
            }
        }
    }

    /// Gossips a record after those before it; false where too many wait already.
    pub fn publish(&self, gossip: Gossip) -> bool {
        self.outbox.try_send(gossip).is_ok()
    }

    /// Something that was heard says that others are ahead.
    pub fn behind(&mut self) {
        self.behind = true;
    }

    /// Asks the next peer, if it is time. `height` is that of our chain.
    pub fn tick(&mut self, height: u64) {
        while self.tasks.try_join_next().is_some() {}
        if !self.behind && self.asked.elapsed() < ANTI_ENTROPY {
            return;
        }
        // In turn: the first key after the last one asked, else the first of all.
        let peers = self.handle.peers();
        let next = peers.iter().find(|peer| self.last.is_none_or(|last| **peer > last)).or(peers.first());
        if let Some(peer) = next.copied() {
            self.catch_up(peer, height);
        }
    }

    /// Takes over what `peer` has beyond `height`, and its pending records.
    pub fn catch_up(&mut self, peer: PeerKey, height: u64) {
        if self.asking.len() >= CATCHING_UP_MAX || !self.asking.insert(peer) {
            return;
        }
        (self.last, self.asked, self.behind) = (Some(peer), Instant::now(), false);
        let (handle, track, sender) = (self.handle.clone(), self.track, self.sender.clone());
        self.tasks.spawn(async move {
            if let Err(error) = catch_up(&handle, peer, track, height, &sender).await {
                tracing::debug!(%peer, %error, "could not catch up");
            }
            // Whoever follows is gone if nobody listens.
            let _ = sender.send(Message::CaughtUp(peer)).await;
        });
    }

    /// Asks peers for a commit's body.
    pub fn fetch(&mut self, commit: CommitId) {
        if self.fetching.len() >= FETCHING_MAX || !self.fetching.insert(commit) {
            return;
        }
        let (handle, track, sender) = (self.handle.clone(), self.track, self.sender.clone());
        self.tasks.spawn(async move {
            let body = fetch::commit(&handle, &handle.peers(), track, commit).await;
            let body = body.ok().map(Box::new);
            let _ = sender.send(Message::Followed(Followed::Body(commit, body))).await;
        });
    }
}

/// Entries first, since what is pending refers to them; then what other records refer to first.
async fn catch_up(
    handle: &Handle,
    peer: PeerKey,
    track: TrackId,
    height: u64,
    to: &mpsc::Sender<Message>,
) -> Result<(), FetchError> {
    let tip = fetch::tip(handle, peer, track).await?.height;
    let mut from = height.saturating_add(1);
    while from <= tip {
        let page = fetch::entries(handle, peer, track, from).await?;
        let Some(last) = page.last().map(|certified| certified.entry.height) else { break };
        from = last.saturating_add(1);
        for certified in page {
            let _ = to.send(Message::Followed(Followed::Heard(Box::new(Gossip::Entry(certified))))).await;
        }
    }
    let mut pending = fetch::pending(handle, peer, track).await?;
    pending.sort_by_key(|gossip| match gossip {
        Gossip::Proposal(_) => 0,
        Gossip::Commit(_) | Gossip::Ticket(_) => 1,
        Gossip::Entry(_) => 2,
        Gossip::Verdict(_) | Gossip::Candidate(_) | Gossip::Vote(_) => 3,
        Gossip::Idea(_) | Gossip::Reports(_) => 4,
    });
    for gossip in pending {
        let _ = to.send(Message::Followed(Followed::Heard(Box::new(gossip)))).await;
    }
    Ok(())
}

/// The record of a track, asked for until somebody has it.
pub async fn find_track(handle: &Handle, id: TrackId) -> Track {
    loop {
        match fetch::track(handle, &handle.peers(), id).await {
            Ok(track) => return track,
            Err(error) => tracing::debug!(%error, "no peer has the track yet"),
        }
        tokio::time::sleep(FIND_PAUSE).await;
    }
}

/// A track's data, asked for until it lies in the file `into`.
///
/// # Errors
/// The file cannot be written.
pub async fn find_data(handle: &Handle, data: &DataBlob, into: &Path) -> Result<(), FetchError> {
    loop {
        match fetch::blob(handle, &handle.peers(), data.blob, data.bytes, into, &mut |_| {}).await {
            Ok(()) => return Ok(()),
            Err(error @ (FetchError::File { .. } | FetchError::TooLarge { .. })) => return Err(error),
            Err(error) => tracing::debug!(%error, "no peer has the data yet"),
        }
        tokio::time::sleep(FIND_PAUSE).await;
    }
}

/// Does `work` while events are taken by `meanwhile`, so that peers do not wait for us, nor we for them.
///
/// # Errors
/// The network closed.
pub async fn beside<T>(
    work: impl Future<Output = T>,
    events: &mut crate::Events,
    mut meanwhile: impl FnMut(Event),
) -> Result<T, crate::NetError> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            event = events.recv() => meanwhile(event.ok_or(crate::NetError::Closed)?),
        }
    }
}
