//! Settlement: what verdicts and claims mean, as pure functions.
//!
//! *Invariant:* an outcome depends on the track, the record, the claim and the verdicts only, and
//! never on the order in which verdicts came.

use std::collections::BTreeMap;

use crate::ids::CommitId;
use crate::keys::VerifierKey;
use crate::records::{Claim, Finding, Item, Refusal, Track, Verdict};

/// The numbers of a roster of n seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Seats n.
    pub seats: usize,
    /// Seats f that may be faulty: ⌊(n − 1) / 3⌋.
    pub faulty: usize,
    /// Votes q = n − f that decide.
    pub votes: usize,
}

/// The quorum of a roster of `seats`.
pub fn quorum(seats: usize) -> Quorum {
    let faulty = seats.saturating_sub(1) / 3;
    Quorum { seats, faulty, votes: seats.saturating_sub(faulty) }
}

impl Quorum {
    /// Confirmations that settle an item: f + 1, so that one of them is honest.
    pub fn confirmations(&self) -> usize {
        self.faulty + 1
    }
}

/// Whether `claim` beats `record` by the margin: claim ≤ record − δ.
pub fn beats(claim: &Claim, record: &Claim, margin: i64) -> bool {
    record.metric.checked_sub(margin).is_some_and(|limit| claim.metric <= limit)
}

/// The test rule: the test metric is no worse than the record's by more than the margin.
pub fn test_holds(claim: &Claim, record: &Claim, margin: i64) -> bool {
    claim.test <= record.test.saturating_add(margin)
}

/// Credit of an accepted claim: old record − new record, in units of 2⁻²⁴.
pub fn credit(claim: &Claim, record: &Claim) -> i64 {
    record.metric.saturating_sub(claim.metric)
}

/// Why a claim is refused before any replay, if it is.
pub fn refused_unreplayed(track: &Track, record: &Claim, claim: &Claim) -> Option<Refusal> {
    if !beats(claim, record, track.margin) {
        Some(Refusal::NotARecord)
    } else if !test_holds(claim, record, track.margin) {
        Some(Refusal::TestWorse)
    } else {
        None
    }
}

/// Every item of a commit to `track`, in ascending order.
pub fn items(track: &Track) -> impl Iterator<Item = Item> + use<> {
    let (seeds, segments) = (track.seeds, track.segments);
    (0..seeds)
        .flat_map(move |seed| (0..segments).map(move |segment| Item::Segment { seed, segment }))
        .chain((0..seeds).map(|seed| Item::Evaluation { seed }))
}

/// Whether the commit to `track` has this item.
pub fn has_item(track: &Track, item: Item) -> bool {
    match item {
        Item::Segment { seed, segment } => seed < track.seeds && segment < track.segments,
        Item::Evaluation { seed } => seed < track.seeds,
    }
}

/// Findings about one item, counted over distinct roster members who say one thing about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Confirmations.
    pub good: usize,
    /// Refutations.
    pub bad: usize,
    /// Those that could not say.
    pub cannot: usize,
}

/// All findings about one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<Item, Count>);

impl Tally {
    /// Counts the verdicts about `commit` by members of `roster`. A member who says two different
    /// things about an item says nothing about it: the count is the same in whatever order, and
    /// however often, verdicts come.
    pub fn new<'a>(commit: CommitId, roster: &[VerifierKey], verdicts: impl IntoIterator<Item = &'a Verdict>) -> Self {
        let mut said: BTreeMap<(Item, VerifierKey), Option<&Finding>> = BTreeMap::new();
        for verdict in verdicts {
            if verdict.commit != commit || !roster.contains(&verdict.verifier) {
                continue;
            }
            for judged in &verdict.findings {
                let finding = Some(&judged.finding);
                let before = said.entry((judged.item, verdict.verifier)).or_insert(finding);
                *before = (*before).filter(|before| Some(*before) == finding);
            }
        }
        let mut counts: BTreeMap<Item, Count> = BTreeMap::new();
        for ((item, _), finding) in said {
            let count = counts.entry(item).or_default();
            match finding {
                Some(Finding::Good { .. }) => count.good += 1,
                Some(Finding::Bad { .. }) => count.bad += 1,
                Some(Finding::Cannot) => count.cannot += 1,
                None => {}
            }
        }
        Self(counts)
    }

    /// The count of one item.
    pub fn of(&self, item: Item) -> Count {
        self.0.get(&item).copied().unwrap_or_default()
    }
}

/// What is to become of the first commit of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// More verdicts are needed.
    Open,
    /// It is the new record.
    Accept,
    /// It is refused.
    Refuse(Refusal),
}

/// Whether the entry's stated refusal holds.
pub fn refusal_holds(
    track: &Track,
    quorum: Quorum,
    record: &Claim,
    claim: &Claim,
    tally: &Tally,
    why: Refusal,
) -> bool {
    match (refused_unreplayed(track, record, claim), why) {
        (Some(reason), why) => reason == why,
        (None, Refusal::Refuted(item)) => has_item(track, item) && tally.of(item).bad >= quorum.confirmations(),
        (None, Refusal::Skipped(item)) => has_item(track, item) && tally.of(item).cannot >= quorum.votes,
        (None, Refusal::NotARecord | Refusal::TestWorse) => false,
    }
}

/// The outcome for the first commit of the queue.
pub fn outcome(track: &Track, quorum: Quorum, record: &Claim, claim: &Claim, tally: &Tally) -> Outcome {
    if let Some(why) = refused_unreplayed(track, record, claim) {
        return Outcome::Refuse(why);
    }
    let mut all_good = true;
    for item in items(track) {
        let count = tally.of(item);
        if count.bad >= quorum.confirmations() {
            return Outcome::Refuse(Refusal::Refuted(item));
        }
        if count.cannot >= quorum.votes {
            return Outcome::Refuse(Refusal::Skipped(item));
        }
        all_good &= count.good >= quorum.confirmations();
    }
    if all_good { Outcome::Accept } else { Outcome::Open }
}
