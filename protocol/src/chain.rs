//! The chain of one track: entries in, leaderboard and queue out.
//!
//! *Invariant:* the state is a function of the track and its entries; certificates are checked on
//! the way in and enter nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;

use crate::ids::{CommitId, EntryId, ProposalId, TrackId};
use crate::keys::{AuthorKey, Domain, VerifierKey};
use crate::records::{Certificate, CertifiedEntry, Claim, Entry, EntryKind, Record, Refusal, Track, Vote};
use crate::settle::{self, Quorum};

/// Why an entry does not follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Another track's entry.
    #[error("the entry is of track {0}, not of this one")]
    Track(TrackId),
    /// Not the next height.
    #[error("height {got} where {want} is next")]
    Height {
        /// Height of the entry.
        got: u64,
        /// Next height.
        want: u64,
    },
    /// It does not link to the tip.
    #[error("it follows {got}, and the tip is {want}")]
    Previous {
        /// What it links to.
        got: EntryId,
        /// The tip.
        want: EntryId,
    },
    /// The commit or its proposal was queued before.
    #[error("commit {0} or its proposal was queued before")]
    Repeated(CommitId),
    /// The commit is not the first of the queue.
    #[error("commit {0} is not the first of the queue")]
    NotFirst(CommitId),
    /// The claim does not allow this outcome.
    #[error("the claim of commit {0} does not allow this outcome")]
    Outcome(CommitId),
    /// The seat does not exist or the key has one.
    #[error("no such seat, or the key has a seat")]
    Seat,
    /// The certificate lacks valid votes.
    #[error("the certificate has {got} valid votes in seat order, {want} are needed")]
    Certificate {
        /// Valid votes.
        got: usize,
        /// Votes needed.
        want: usize,
    },
}

/// A commit in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Queued {
    /// Height of its `Queued` entry.
    pub height: u64,
    /// The commit.
    pub commit: CommitId,
    /// The proposal that it revealed.
    pub proposal: ProposalId,
    /// Who is credited.
    pub author: AuthorKey,
    /// What it claims.
    pub claim: Claim,
}

/// One row of the leaderboard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// Height of the entry.
    pub height: u64,
    /// The entry.
    pub entry: EntryId,
    /// The commit.
    pub commit: CommitId,
    /// Who is credited.
    pub author: AuthorKey,
    /// The confirmed metrics.
    pub claim: Claim,
    /// Old record − new record, in units of 2⁻²⁴.
    pub credit: i64,
}

/// Where a commit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It waits in the queue.
    Queued,
    /// It became the record.
    Accepted,
    /// It was refused.
    Refused(Refusal),
}

/// The state of one track's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainState {
    track: Track,
    id: TrackId,
    rosters: Vec<(u64, Vec<VerifierKey>)>,
    height: u64,
    tip: EntryId,
    record: Claim,
    queue: VecDeque<Queued>,
    proposals: BTreeSet<ProposalId>,
    commits: BTreeMap<CommitId, Status>,
    accepted: Vec<Accepted>,
}

impl ChainState {
    /// The empty chain of `track`.
    pub fn new(track: Track) -> Self {
        let id = track.id();
        Self {
            rosters: vec![(0, track.roster.to_vec())],
            height: 0,
            tip: EntryId(id.0),
            record: Claim { metric: track.baseline.metric, test: track.baseline.test },
            queue: VecDeque::new(),
            proposals: BTreeSet::new(),
            commits: BTreeMap::new(),
            accepted: Vec::new(),
            track,
            id,
        }
    }

    /// The track.
    pub fn track(&self) -> &Track {
        &self.track
    }
    /// The track's id.
    pub fn id(&self) -> TrackId {
        self.id
    }
    /// Height of the last entry; 0 without entries.
    pub fn height(&self) -> u64 {
        self.height
    }
    /// The last entry; the track's id without entries.
    pub fn tip(&self) -> EntryId {
        self.tip
    }
    /// The record to beat.
    pub fn record(&self) -> Claim {
        self.record
    }
    /// Commits that wait, in the order in which they are settled.
    pub fn queue(&self) -> &VecDeque<Queued> {
        &self.queue
    }
    /// The leaderboard, oldest entry first.
    pub fn accepted(&self) -> &[Accepted] {
        &self.accepted
    }
    /// The last accepted commit.
    pub fn head(&self) -> Option<&Accepted> {
        self.accepted.last()
    }
    /// Where a commit stands, if the chain knows it.
    pub fn status(&self, commit: CommitId) -> Option<Status> {
        self.commits.get(&commit).copied()
    }
    /// Whether the proposal was revealed on the chain.
    pub fn revealed(&self, proposal: ProposalId) -> bool {
        self.proposals.contains(&proposal)
    }
    /// Number of refused commits.
    pub fn refused(&self) -> usize {
        self.commits.values().filter(|status| matches!(status, Status::Refused(_))).count()
    }
    /// The roster now, in seat order.
    pub fn roster(&self) -> &[VerifierKey] {
        self.rosters.last().map_or(&[], |(_, roster)| roster)
    }
    /// The roster after the entry of `height`, if the chain is that high.
    pub fn roster_at(&self, height: u64) -> Option<&[VerifierKey]> {
        if height > self.height {
            return None;
        }
        self.rosters.iter().rev().find(|(from, _)| *from <= height).map(|(_, roster)| roster.as_slice())
    }
    /// The quorum of the roster now.
    pub fn quorum(&self) -> Quorum {
        settle::quorum(self.roster().len())
    }
    /// An entry that follows the tip.
    pub fn next(&self, kind: EntryKind) -> Entry {
        Entry { track: self.id, height: self.height.saturating_add(1), previous: self.tip, kind }
    }

    fn first(&self, commit: CommitId) -> Result<&Queued, ChainError> {
        self.queue.front().filter(|queued| queued.commit == commit).ok_or(ChainError::NotFirst(commit))
    }

    /// Whether `entry` may follow the tip, as far as the chain alone can tell.
    pub fn check(&self, entry: &Entry) -> Result<(), ChainError> {
        if entry.track != self.id {
            return Err(ChainError::Track(entry.track));
        }
        let want = self.height.saturating_add(1);
        if entry.height != want {
            return Err(ChainError::Height { got: entry.height, want });
        }
        if entry.previous != self.tip {
            return Err(ChainError::Previous { got: entry.previous, want: self.tip });
        }
        match &entry.kind {
            EntryKind::Queued { commit, proposal, .. } => {
                if self.commits.contains_key(commit) || self.proposals.contains(proposal) {
                    return Err(ChainError::Repeated(*commit));
                }
            }
            EntryKind::Accepted { commit } => {
                let queued = self.first(*commit)?;
                if settle::refused_unreplayed(&self.track, &self.record, &queued.claim).is_some() {
                    return Err(ChainError::Outcome(*commit));
                }
            }
            EntryKind::Refused { commit, why } => {
                let queued = self.first(*commit)?;
                let holds = match (settle::refused_unreplayed(&self.track, &self.record, &queued.claim), why) {
                    (Some(reason), why) => reason == *why,
                    (None, Refusal::Refuted(item) | Refusal::Skipped(item)) => settle::has_item(&self.track, *item),
                    (None, Refusal::NotARecord | Refusal::TestWorse) => false,
                };
                if !holds {
                    return Err(ChainError::Outcome(*commit));
                }
            }
            EntryKind::Roster { seat, verifier } => {
                if usize::from(*seat) >= self.roster().len() || self.roster().contains(verifier) {
                    return Err(ChainError::Seat);
                }
            }
        }
        Ok(())
    }

    /// Whether the certificate holds q valid votes of the present roster for `entry`.
    pub fn check_certificate(&self, entry: &Entry, certificate: &Certificate) -> Result<(), ChainError> {
        let statement = Vote::statement(entry.height, entry.id());
        let (roster, want) = (self.roster(), self.quorum().votes);
        let mut last = None;
        let mut got = 0;
        for vote in &certificate.votes {
            let in_order = last.is_none_or(|last| vote.seat > last);
            last = Some(vote.seat);
            let holds = roster
                .get(usize::from(vote.seat))
                .is_some_and(|key| key.verify(Domain::Vote, &self.id, &statement, &vote.signature).is_ok());
            if !(in_order && holds) {
                return Err(ChainError::Certificate { got, want });
            }
            got += 1;
        }
        if got < want { Err(ChainError::Certificate { got, want }) } else { Ok(()) }
    }

    /// Appends a certified entry, or leaves the state as it was.
    pub fn apply(&mut self, certified: &CertifiedEntry) -> Result<(), ChainError> {
        let entry = &certified.entry;
        self.check(entry)?;
        self.check_certificate(entry, &certified.certificate)?;
        self.height = entry.height;
        self.tip = entry.id();
        match &entry.kind {
            EntryKind::Queued { commit, proposal, author, claim } => {
                self.commits.insert(*commit, Status::Queued);
                self.proposals.insert(*proposal);
                self.queue.push_back(Queued {
                    height: entry.height,
                    commit: *commit,
                    proposal: *proposal,
                    author: *author,
                    claim: *claim,
                });
            }
            EntryKind::Accepted { commit } => {
                if let Some(queued) = self.queue.pop_front() {
                    self.commits.insert(*commit, Status::Accepted);
                    self.accepted.push(Accepted {
                        height: entry.height,
                        entry: self.tip,
                        commit: *commit,
                        author: queued.author,
                        claim: queued.claim,
                        credit: settle::credit(&queued.claim, &self.record),
                    });
                    self.record = queued.claim;
                }
            }
            EntryKind::Refused { commit, why } => {
                self.queue.pop_front();
                self.commits.insert(*commit, Status::Refused(*why));
            }
            EntryKind::Roster { seat, verifier } => {
                let mut roster = self.roster().to_vec();
                if let Some(holder) = roster.get_mut(usize::from(*seat)) {
                    *holder = *verifier;
                }
                self.rosters.push((entry.height, roster));
            }
        }
        Ok(())
    }
}
