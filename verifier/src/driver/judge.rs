//! From what a replay computes to findings: a comparison of hashes, item by item.
//!
//! *Invariant:* a finding is "good" only where the hash computed here equals the claimed one, and the
//! first one that differs ends the replay: what follows it is refuted already.

use cairn_program::job::{Message, Outcome};
use cairn_protocol::{Commit, Finding, Hash32, Item, Judged, evaluation_hash, hash};

/// Compares a replay with a claim, as it goes.
pub(super) struct Judge<'a> {
    claim: &'a Commit,
    segments: Vec<Judged>,
    evaluations: Vec<Judged>,
    /// What the audit of the seed under way found.
    leak: Option<Hash32>,
    refuted: bool,
}

impl<'a> Judge<'a> {
    pub(super) fn new(claim: &'a Commit) -> Self {
        Self { claim, segments: Vec::new(), evaluations: Vec::new(), leak: None, refuted: false }
    }

    /// Takes what the job says; false when it need not go on.
    pub(super) fn hear(&mut self, said: &Message) -> bool {
        match said {
            Message::Segment { seed, segment, leaf, inside } => {
                let item = Item::Segment { seed: *seed, segment: *segment };
                let claimed = self.claim.runs.get(usize::from(*seed)).and_then(|r| r.leaves.get(usize::from(*segment)));
                let finding = self.compare(claimed == Some(leaf), *leaf, *inside);
                self.segments.push(Judged { item, finding });
            }
            Message::Ran { seed, result } => {
                let found = evaluation_hash(result.metric, result.test);
                let claimed = self.claim.runs.get(usize::from(*seed)).map(|run| evaluation_hash(run.metric, run.test));
                let finding = match self.leak.take() {
                    None => self.compare(claimed == Some(found), found, found),
                    Some(leak) => self.compare(false, leak, leak),
                };
                self.evaluations.push(Judged { item: Item::Evaluation { seed: *seed }, finding });
            }
            Message::Leaked { window, cut, .. } => {
                self.leak = Some(Hash32(hash("leak", &[&window.to_be_bytes(), &cut.to_be_bytes()])));
            }
            _ => {}
        }
        !self.refuted
    }

    fn compare(&mut self, same: bool, found: Hash32, proof: Hash32) -> Finding {
        self.refuted |= !same;
        if same { Finding::Good { proof } } else { Finding::Bad { found } }
    }

    /// The findings so far, in ascending order of item.
    pub(super) fn found(self) -> Vec<Judged> {
        let mut findings = self.segments;
        findings.extend(self.evaluations);
        findings.sort_by_key(|judged| judged.item);
        findings
    }

    /// The findings of a replay that ended with `outcome`.
    pub(super) fn findings(mut self, outcome: &Outcome) -> Vec<Judged> {
        // A run that cannot exist refutes the first item that it does not reach. Everybody finds the same.
        let found = match outcome {
            Outcome::Done { traced, .. } if traced.graph == self.claim.draft.graph => return self.found(),
            Outcome::Done { traced, .. } => Hash32(traced.graph.0),
            Outcome::Refused(refusal) => Hash32(hash("refused", &[refusal.kind.as_bytes()])),
            Outcome::Diverged { at: (seed, step, _), .. } => Hash32(hash("diverged", &[&[*seed], &step.to_be_bytes()])),
        };
        let item = match outcome {
            Outcome::Diverged { .. } => self.next_item(),
            _ => {
                (self.segments, self.evaluations) = (Vec::new(), Vec::new());
                Item::Segment { seed: 0, segment: 0 }
            }
        };
        match item {
            Item::Segment { .. } => self.segments.push(Judged { item, finding: Finding::Bad { found } }),
            Item::Evaluation { .. } => self.evaluations.push(Judged { item, finding: Finding::Bad { found } }),
        }
        self.found()
    }

    fn next_item(&self) -> Item {
        let seed = u8::try_from(self.evaluations.len()).unwrap_or(u8::MAX);
        let segments = self.segments.iter().filter(|j| matches!(j.item, Item::Segment { seed: s, .. } if s == seed));
        let leaves = self.claim.runs.get(usize::from(seed)).map_or(0, |run| run.leaves.len());
        let done = segments.count();
        if done < leaves {
            Item::Segment { seed, segment: u16::try_from(done).unwrap_or(u16::MAX) }
        } else {
            Item::Evaluation { seed }
        }
    }
}

/// Every item, none of which could be verified here.
pub(super) fn cannot(claim: &Commit) -> Vec<Judged> {
    let runs = || (0u8..).zip(claim.runs.iter());
    let segments = runs().flat_map(|(seed, run)| {
        (0u16..).zip(run.leaves.iter()).map(move |(segment, _)| Item::Segment { seed, segment })
    });
    let evaluations = runs().map(|(seed, _)| Item::Evaluation { seed });
    let mut items: Vec<Item> = segments.chain(evaluations).collect();
    items.sort_unstable();
    items.into_iter().map(|item| Judged { item, finding: Finding::Cannot }).collect()
}
