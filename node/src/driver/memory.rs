//! What a node keeps on its disk, and what of it peers and a restart need.
//!
//! *Invariant:* the claim under way, the number of the next batch and the graphs that were claimed are
//! written before anything that was signed for them is published.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cairn_protocol::chain::Status;
use cairn_protocol::limits::IDEAS_MAX;
use cairn_protocol::{ChainState, CommitId, Gossip, GraphId, Hash32, Response, TrackId, decode, encode};
use cairn_store::{Error, Store, pending_page};

use crate::machine::{InFlight, Machine};

/// Batches of reports kept for a track, oldest forgotten first: a day of a hundred workers is not needed to search.
const BATCHES_KEPT: usize = 1024;
/// Graphs that were claimed which a restart remembers.
const CLAIMED_KEPT: usize = 1024;
/// Batches of reports that peers are shown.
const BATCHES_SHOWN: usize = 256;

fn key(what: &str, track: TrackId) -> String {
    format!("{what}/{track}")
}

/// Everything a node's machine needs to go on where it ended.
pub(super) struct Memory {
    pub(super) chain: ChainState,
    pub(super) claim: Option<InFlight>,
    pub(super) batch: u64,
    /// Commits on the chain whose bodies are not here.
    pub(super) missing: Vec<CommitId>,
    pub(super) claimed: BTreeSet<GraphId>,
}

impl Memory {
    pub(super) fn load(store: &Store, track: TrackId) -> Result<Self, Error> {
        let chain = store.chain(track)?;
        // A claim of another version is as good as none.
        let claim = store.get(&key("claim", track))?.and_then(|bytes| decode::<InFlight>(&bytes).ok());
        let batch = store.get(&key("batch", track))?.and_then(|bytes| bytes.try_into().ok());
        let claimed = store.get(&key("claimed", track))?.unwrap_or_default();
        let claimed = claimed.chunks_exact(32).filter_map(|id| id.try_into().ok().map(GraphId)).collect();
        let mut missing = Vec::new();
        let on_chain = chain.accepted().iter().map(|row| row.commit).chain(chain.queue().iter().map(|q| q.commit));
        for commit in on_chain {
            if store.commit(commit)?.is_none() {
                missing.push(commit);
            }
        }
        Ok(Self { chain, claim, batch: batch.map_or(0, u64::from_be_bytes), missing, claimed })
    }
}

/// Remembers the claim under way, or that there is none.
pub(super) fn persist(store: &mut Store, track: TrackId, claim: Option<&InFlight>) -> Result<(), Error> {
    let Some(claim) = claim else {
        store.remove(&key("claim", track))?;
        // Nobody needs the proposals of a claim that is over.
        let proposals = store.gossip(track, "proposal", usize::MAX)?;
        return store.remove_all(&proposals);
    };
    store.put(&key("claim", track), &encode(claim))?;
    let graph = claim.draft.graph;
    let mut claimed = store.get(&key("claimed", track))?.unwrap_or_default();
    if claimed.chunks_exact(32).any(|known| known == graph.0) {
        return Ok(());
    }
    claimed.extend_from_slice(&graph.0);
    let surplus = (claimed.len() / 32).saturating_sub(CLAIMED_KEPT).saturating_mul(32);
    store.put(&key("claimed", track), claimed.get(surplus..).unwrap_or_default())
}

/// Remembers the number of the next batch of reports.
pub(super) fn put_batch(store: &mut Store, track: TrackId, machine: &Machine) -> Result<(), Error> {
    store.put(&key("batch", track), &machine.batch().to_be_bytes())
}

/// Forgets the oldest of what has no end by itself.
pub(super) fn trim(store: &mut Store, track: TrackId) -> Result<(), Error> {
    for (kind, kept) in [("reports", BATCHES_KEPT), ("idea", IDEAS_MAX), ("proposal", IDEAS_MAX)] {
        let records = store.gossip(track, kind, usize::MAX)?;
        let surplus = records.len().saturating_sub(kept);
        store.remove_all(records.get(..surplus).unwrap_or_default())?;
    }
    Ok(())
}

/// Records beside the chain that peers may have missed.
#[derive(Default)]
pub(super) struct Shown {
    records: BTreeMap<Hash32, Gossip>,
    /// Ids of the batches of reports and of the ideas, oldest first.
    batches: VecDeque<Hash32>,
    ideas: VecDeque<Hash32>,
}

impl Shown {
    pub(super) fn load(store: &mut Store, track: TrackId, chain: &ChainState) -> Result<Self, Error> {
        let mut shown = Self::default();
        trim(store, track)?;
        for kind in ["proposal", "commit-header", "idea", "reports"] {
            store.gossip(track, kind, usize::MAX)?.iter().for_each(|record| shown.add(record));
        }
        shown.forget_settled(chain);
        Ok(shown)
    }

    /// Shows one more record; of proposals only the newest, which is that of the claim under way.
    pub(super) fn add(&mut self, gossip: &Gossip) {
        let id = gossip.id();
        if matches!(gossip, Gossip::Proposal(_)) {
            self.forget_proposals();
        }
        let (line, most) = match gossip {
            Gossip::Reports(_) => (Some(&mut self.batches), BATCHES_SHOWN),
            Gossip::Idea(_) => (Some(&mut self.ideas), IDEAS_MAX),
            Gossip::Proposal(_) | Gossip::Commit(_) => (None, 0),
            // Verifiers show these.
            _ => return,
        };
        if self.records.insert(id, gossip.clone()).is_none()
            && let Some(line) = line
        {
            line.push_back(id);
            if line.len() > most
                && let Some(oldest) = line.pop_front()
            {
                self.records.remove(&oldest);
            }
        }
    }

    pub(super) fn forget_proposals(&mut self) {
        self.records.retain(|_, record| !matches!(record, Gossip::Proposal(_)));
    }

    pub(super) fn forget_settled(&mut self, chain: &ChainState) {
        self.records.retain(|_, record| match record {
            Gossip::Proposal(proposal) => !chain.revealed(proposal.id()),
            Gossip::Commit(header) => matches!(chain.status(header.commit), None | Some(Status::Queued)),
            _ => true,
        });
    }

    pub(super) fn page(&self, after: Hash32) -> Response {
        pending_page(&self.records, after)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use cairn_protocol::{
        AuthorKey, AuthorSecret, Commitment, Draft, Proposal, Report, ReportStatus, Reports, Researcher, Signed, Text,
    };

    use super::*;

    const TRACK: TrackId = TrackId([3; 32]);

    fn proposal(number: u64) -> Signed<Proposal> {
        let secret = AuthorSecret::from_bytes(&[1; 32]);
        let body = Proposal {
            track: TRACK,
            author: secret.public(),
            commitment: Commitment([9; 32]),
            roster_height: number,
            ticketers: Default::default(),
            stamp: 0,
        };
        Signed::by_author(body, &secret)
    }

    fn claim(number: u64) -> InFlight {
        let mut graph = [0; 32];
        graph[..8].copy_from_slice(&number.to_be_bytes());
        InFlight {
            proposal: proposal(number),
            salt: Hash32([2; 32]),
            draft: Draft {
                parent: None,
                source: Text::truncated("LR = 1"),
                graph: GraphId(graph),
                title: Text::default(),
                why: Text::default(),
                idea: None,
                researcher: Researcher { kind: Text::default(), model: Text::default(), program: Hash32::default() },
            },
            effort: 4,
            tickets: Default::default(),
            runs: Default::default(),
            attempts: 1,
        }
    }

    fn reports(batch: u64) -> Gossip {
        let result = Report {
            base: GraphId::default(),
            graph: GraphId::default(),
            summary: Text::default(),
            metric: 0,
            seed: batch,
            status: ReportStatus::Done,
            proposer: Text::default(),
        };
        let secret = AuthorSecret::from_bytes(&[1; 32]);
        let body =
            Reports { track: TRACK, author: AuthorKey::default(), batch, results: vec![result].try_into().unwrap() };
        Gossip::Reports(Signed::by_author(body, &secret))
    }

    fn read(store: &Store, what: &str) -> Vec<u8> {
        store.get(&key(what, TRACK)).unwrap().unwrap_or_default()
    }

    #[test]
    fn a_claim_is_remembered_until_it_is_over_and_its_graph_for_long() {
        let home = tempfile::tempdir().unwrap();
        let mut store = Store::open(home.path()).unwrap();
        for number in 0..CLAIMED_KEPT as u64 + 5 {
            store.put_gossip(&Gossip::Proposal(proposal(number)), number).unwrap();
            persist(&mut store, TRACK, Some(&claim(number))).unwrap();
            persist(&mut store, TRACK, Some(&claim(number))).unwrap();
            assert_eq!(decode::<InFlight>(&read(&store, "claim")).unwrap(), claim(number));
            if number % 16 == 0 {
                persist(&mut store, TRACK, None).unwrap();
                assert!(read(&store, "claim").is_empty());
                assert!(store.gossip(TRACK, "proposal", 9).unwrap().is_empty());
            }
        }
        let claimed = read(&store, "claimed");
        assert_eq!(claimed.len(), CLAIMED_KEPT * 32, "each once, the oldest forgotten");
        assert_eq!(claimed[..32], claim(5).draft.graph.0);
    }

    #[test]
    fn peers_are_shown_the_newest_proposal_and_a_bounded_number_of_batches() {
        let mut shown = Shown::default();
        shown.add(&Gossip::Proposal(proposal(1)));
        shown.add(&Gossip::Proposal(proposal(2)));
        let batches = BATCHES_SHOWN as u64 + 7;
        (0..batches).for_each(|batch| shown.add(&reports(batch)));
        (0..batches).for_each(|batch| shown.add(&reports(batch.max(20))));
        assert_eq!(shown.records.len(), BATCHES_SHOWN + 1);
        assert!(shown.records.contains_key(&Gossip::Proposal(proposal(2)).id()));
        assert!(
            shown.records.contains_key(&reports(batches - 1).id()) && !shown.records.contains_key(&reports(6).id())
        );
        shown.forget_proposals();
        assert_eq!(shown.records.len(), BATCHES_SHOWN);
    }

    #[test]
    fn old_reports_make_room() {
        let home = tempfile::tempdir().unwrap();
        let mut store = Store::open(home.path()).unwrap();
        for number in 0..BATCHES_KEPT as u64 + 3 {
            store.put_gossip(&reports(number), number).unwrap();
        }
        trim(&mut store, TRACK).unwrap();
        let kept = store.gossip(TRACK, "reports", usize::MAX).unwrap();
        assert_eq!(kept.len(), BATCHES_KEPT);
        assert_eq!(kept.first(), Some(&reports(3)));
        assert_eq!(store.results_count(TRACK).unwrap(), BATCHES_KEPT as u64);
    }
}
