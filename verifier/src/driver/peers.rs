//! Exchanges with peers, each a task of its own: gossip out, catching up, bodies.
//!
//! Gossip may be lost, so that one peer after another is asked now and then for its entries and
//! pending records.
//!
//! *Invariant:* at most one exchange of a kind with a peer, and a bounded number in all.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cairn_net::{Handle, fetch};
use cairn_protocol::{CommitId, Gossip, PeerKey, TrackId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Message;
use crate::machine::Input;

/// Interval between asking one peer and the next, when nothing says that we are behind.
const ANTI_ENTROPY: Duration = Duration::from_secs(2);
/// Peers that are asked at the same time.
const CATCHING_UP_MAX: usize = 4;
/// Bodies that are fetched at the same time.
const FETCHES_MAX: usize = 16;
/// Records that wait to be gossiped.
const OUTBOX_MAX: usize = 1024;

pub(super) struct Peers {
    handle: Handle,
    track: TrackId,
    inbox: mpsc::Sender<Message>,
    outbox: mpsc::Sender<Gossip>,
    tasks: JoinSet<()>,
    asking: BTreeSet<PeerKey>,
    fetching: BTreeSet<CommitId>,
    last: Option<PeerKey>,
    asked: Instant,
    behind: bool,
}

impl Peers {
    pub(super) fn new(handle: Handle, track: TrackId, inbox: mpsc::Sender<Message>) -> Self {
        let (outbox, mut waiting) = mpsc::channel::<Gossip>(OUTBOX_MAX);
        let mut tasks = JoinSet::new();
        let publisher = handle.clone();
        tasks.spawn(async move {
            while let Some(gossip) = waiting.recv().await {
                publisher.publish(gossip).await;
            }
        });
        let (asking, fetching) = (BTreeSet::new(), BTreeSet::new());
        Self { handle, track, inbox, outbox, tasks, asking, fetching, last: None, asked: Instant::now(), behind: true }
    }

    pub(super) fn count(&self) -> usize {
        self.handle.peers().len()
    }

    /// Gossips a record; false where too many wait already.
    pub(super) fn publish(&self, gossip: Gossip) -> bool {
        self.outbox.try_send(gossip).is_ok()
    }

    /// Something that was heard says that others are ahead.
    pub(super) fn behind(&mut self) {
        self.behind = true;
    }

    /// Asks the next peer, if it is time.
    pub(super) fn tick(&mut self, height: u64) {
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
    pub(super) fn catch_up(&mut self, peer: PeerKey, height: u64) {
        if self.asking.len() >= CATCHING_UP_MAX || !self.asking.insert(peer) {
            return;
        }
        (self.last, self.asked, self.behind) = (Some(peer), Instant::now(), false);
        let (handle, track, inbox) = (self.handle.clone(), self.track, self.inbox.clone());
        self.tasks.spawn(async move {
            if let Err(error) = catch_up(&handle, peer, track, height, &inbox).await {
                tracing::debug!(%peer, %error, "could not catch up");
            }
            // The loop that takes these is over if nobody listens.
            let _ = inbox.send(Message::CaughtUp(peer)).await;
        });
    }

    pub(super) fn caught_up(&mut self, peer: PeerKey) {
        self.asking.remove(&peer);
    }

    /// Asks peers for a commit's body.
    pub(super) fn fetch(&mut self, commit: CommitId) {
        if self.fetching.len() >= FETCHES_MAX || !self.fetching.insert(commit) {
            return;
        }
        let (handle, track, inbox) = (self.handle.clone(), self.track, self.inbox.clone());
        self.tasks.spawn(async move {
            let body = fetch::commit(&handle, &handle.peers(), track, commit).await;
            let _ = inbox.send(Message::Body(commit, body.ok().map(Box::new))).await;
        });
    }

    pub(super) fn fetched(&mut self, commit: CommitId) {
        self.fetching.remove(&commit);
    }

    pub(super) fn stop(&mut self) {
        self.tasks.abort_all();
    }
}

/// Entries first, since what is pending refers to them; then what other records refer to first.
async fn catch_up(
    handle: &Handle,
    peer: PeerKey,
    track: TrackId,
    height: u64,
    inbox: &mpsc::Sender<Message>,
) -> Result<(), fetch::FetchError> {
    let hear = async |gossip| {
        let _ = inbox.send(Message::Input(Box::new(Input::Gossip(gossip)))).await;
    };
    let (tip, _) = fetch::tip(handle, peer, track).await?;
    let mut from = height.saturating_add(1);
    while from <= tip {
        let page = fetch::entries(handle, peer, track, from).await?;
        let Some(last) = page.last().map(|certified| certified.entry.height) else { break };
        from = last.saturating_add(1);
        for certified in page {
            hear(Gossip::Entry(certified)).await;
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
        hear(gossip).await;
    }
    Ok(())
}
