//! What a verifier keeps on its disk, and what of it a restart needs.
//!
//! *Invariant:* a record that the chain has settled is forgotten; verdicts stay as evidence.

use std::collections::BTreeMap;

use cairn_protocol::chain::Status;
use cairn_protocol::limits::PENDING_COMMITS_MAX;
use cairn_protocol::{ChainState, Commit, EntryKind, Gossip, Hash32, Response, Signed, TrackId, VerifierSecret};
use cairn_store::{Error, Store, pending_page};

use crate::machine::Machine;

/// Kinds of records that a verifier works with.
const KINDS: [&str; 6] = ["proposal", "ticket", "commit-header", "verdict", "candidate", "vote"];
/// Proposals that a restart remembers, newest first; who waits longer proposes anew.
const PROPOSALS_KEPT: usize = 512;

/// The machine as it was when the process ended.
pub(super) fn restore(
    store: &mut Store,
    track: TrackId,
    secret: VerifierSecret,
    now_ms: u64,
) -> Result<Machine, Error> {
    let chain = store.chain(track)?;
    let mut kept = Vec::new();
    for kind in KINDS {
        let records = store.gossip(track, kind, usize::MAX)?;
        let surplus = if kind == "proposal" { records.len().saturating_sub(PROPOSALS_KEPT) } else { 0 };
        let old = records.iter().take(surplus).cloned();
        let (over, open): (Vec<Gossip>, Vec<Gossip>) =
            records.iter().skip(surplus).cloned().partition(|record| settled(record, &chain));
        let gone: Vec<Gossip> = old.chain(over).filter(|record| !matches!(record, Gossip::Verdict(_))).collect();
        store.remove_all(&gone)?;
        kept.extend(open);
    }
    let bodies = open_bodies(store, track, &chain)?;
    Ok(Machine::restore(chain, secret, kept, bodies, now_ms))
}

fn open_bodies(store: &Store, track: TrackId, chain: &ChainState) -> Result<Vec<Signed<Commit>>, Error> {
    let open = |status| matches!(status, None | Some(Status::Queued));
    let mut ids = store.commits(track)?;
    ids.retain(|id| open(chain.status(*id)));
    let surplus = ids.len().saturating_sub(PENDING_COMMITS_MAX);
    let mut bodies = Vec::new();
    for id in ids.into_iter().skip(surplus) {
        bodies.extend(store.commit(id)?);
    }
    Ok(bodies)
}

fn settled(record: &Gossip, chain: &ChainState) -> bool {
    let over = |commit| chain.status(commit).is_some_and(|status| status != Status::Queued);
    match record {
        Gossip::Proposal(proposal) => chain.revealed(proposal.id()),
        Gossip::Ticket(ticket) => chain.revealed(ticket.body.proposal),
        Gossip::Commit(header) => over(header.commit),
        Gossip::Verdict(verdict) => over(verdict.body.commit),
        Gossip::Candidate(candidate) => candidate.entry.height <= chain.height(),
        Gossip::Vote(vote) => vote.height <= chain.height(),
        Gossip::Entry(_) | Gossip::Idea(_) | Gossip::Reports(_) => true,
    }
}

/// Forgets what an entry that was appended has settled.
pub(super) fn forget(store: &mut Store, chain: &ChainState, decided: &EntryKind) -> Result<(), Error> {
    let kinds: &[&str] = match decided {
        EntryKind::Queued { .. } => &["proposal", "ticket", "candidate", "vote"],
        EntryKind::Accepted { .. } | EntryKind::Refused { .. } => &["commit-header", "candidate", "vote"],
        EntryKind::Roster { .. } => &["candidate", "vote"],
    };
    let mut over = Vec::new();
    for kind in kinds {
        over.extend(store.gossip(chain.id(), kind, usize::MAX)?.into_iter().filter(|record| settled(record, chain)));
    }
    store.remove_all(&over)
}

/// The machine's pending records in the order in which peers page through them.
#[derive(Default)]
pub(super) struct Pending(Option<BTreeMap<Hash32, Gossip>>);

impl Pending {
    /// What was gathered is no longer the newest.
    pub(super) fn outdated(&mut self) {
        self.0 = None;
    }

    pub(super) fn page(&mut self, machine: &Machine, after: Hash32) -> Response {
        let gather = || machine.pending().into_iter().map(|gossip| (gossip.id(), gossip)).collect();
        pending_page(self.0.get_or_insert_with(gather), after)
    }
}
