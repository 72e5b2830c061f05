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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use cairn_program::job::{RunSummary, TraceSummary};
    use cairn_protocol::limits::SEGMENTS;
    use cairn_protocol::{
        AuthorKey, Commitment, Draft, GraphId, Proposal, Researcher, Run, Signature, Signed, Text, TrackId,
    };

    use super::*;

    const GRAPH: GraphId = GraphId([7; 32]);

    fn leaf(seed: u8, segment: u16) -> Hash32 {
        Hash32(hash("test leaf", &[&[seed], &segment.to_be_bytes()]))
    }

    fn claim() -> Commit {
        let run = |seed| Run {
            metric: 100 + i64::from(seed),
            test: 200,
            leaves: (0..SEGMENTS).map(|segment| leaf(seed, segment)).collect::<Vec<_>>().try_into().unwrap(),
        };
        let proposal = Proposal {
            track: TrackId::default(),
            author: AuthorKey::default(),
            commitment: Commitment::default(),
            roster_height: 0,
            ticketers: Default::default(),
            stamp: 0,
        };
        let researcher = Researcher { kind: Text::default(), model: Text::default(), program: Hash32::default() };
        Commit {
            proposal: Signed { body: proposal, signature: Signature([0; 64]) },
            tickets: Default::default(),
            salt: Hash32::default(),
            draft: Draft {
                parent: None,
                source: Text::default(),
                graph: GRAPH,
                title: Text::default(),
                why: Text::default(),
                idea: None,
                researcher,
            },
            runs: (0..3).map(run).collect::<Vec<_>>().try_into().unwrap(),
            effort: 1,
        }
    }

    fn traced(graph: GraphId) -> TraceSummary {
        TraceSummary {
            graph,
            nodes: 1,
            metered_step: 1,
            steps: 160,
            metered: 1,
            peak_bytes: 1,
            fuel: 1,
            literal_bits: 1,
        }
    }

    fn done(graph: GraphId) -> Outcome {
        Outcome::Done { traced: traced(graph), runs: Vec::new(), inside: Vec::new() }
    }

    /// What an honest job says of the true runs, until the judge has heard enough.
    fn listen(judge: &mut Judge<'_>, until: Item) -> bool {
        for (seed, run) in (0u8..).zip(claim().runs.iter()) {
            for (segment, leaf) in (0u16..).zip(run.leaves.iter()) {
                if (Item::Segment { seed, segment }) == until {
                    return true;
                }
                if !judge.hear(&Message::Segment { seed, segment, leaf: *leaf, inside: Hash32([1; 32]) }) {
                    return false;
                }
            }
            let result =
                RunSummary { metric: run.metric, test: run.test, leaves: run.leaves.clone(), root: Hash32::default() };
            if (Item::Evaluation { seed }) == until {
                return true;
            }
            if !judge.hear(&Message::Ran { seed, result }) {
                return false;
            }
        }
        true
    }

    const NEVER: Item = Item::Evaluation { seed: 99 };

    fn bad(findings: &[Judged]) -> Vec<Item> {
        findings
            .iter()
            .filter(|judged| matches!(judged.finding, Finding::Bad { .. }))
            .map(|judged| judged.item)
            .collect()
    }

    fn ascending(findings: &[Judged]) -> bool {
        findings.windows(2).all(|pair| pair[0].item < pair[1].item)
    }

    #[test]
    fn an_honest_claim_is_good_in_every_item() {
        let claim = claim();
        let mut judge = Judge::new(&claim);
        assert!(listen(&mut judge, NEVER));
        let findings = judge.findings(&done(GRAPH));
        assert_eq!(findings.len(), 3 * (usize::from(SEGMENTS) + 1));
        assert!(ascending(&findings) && bad(&findings).is_empty());
        assert_eq!(findings[0].finding, Finding::Good { proof: Hash32([1; 32]) });
        assert_eq!(cannot(&claim).len(), findings.len());
        assert!(ascending(&cannot(&claim)));
    }

    #[test]
    fn one_flipped_bit_of_a_leaf_or_a_metric_ends_the_replay_there() {
        for (seed, segment) in [(0u8, 0u16), (1, 11), (2, 15)] {
            let mut claim = claim();
            let mut runs = claim.runs.to_vec();
            let mut leaves = runs[usize::from(seed)].leaves.to_vec();
            leaves[usize::from(segment)].0[31] ^= 1;
            runs[usize::from(seed)].leaves = leaves.try_into().unwrap();
            claim.runs = runs.try_into().unwrap();
            let mut judge = Judge::new(&claim);
            assert!(!listen(&mut judge, NEVER));
            let findings = judge.found();
            assert_eq!(bad(&findings), [Item::Segment { seed, segment }]);
            assert!(ascending(&findings));
        }
        for change in [|run: &mut Run| run.metric -= 1, |run: &mut Run| run.test -= 1] {
            let mut claim = claim();
            let mut runs = claim.runs.to_vec();
            change(&mut runs[1]);
            claim.runs = runs.try_into().unwrap();
            let mut judge = Judge::new(&claim);
            assert!(!listen(&mut judge, NEVER));
            assert_eq!(bad(&judge.found()), [Item::Evaluation { seed: 1 }]);
        }
    }

    #[test]
    fn a_run_that_cannot_exist_refutes_the_first_item_it_does_not_reach() {
        let claim = claim();
        let diverged = |seed| Outcome::Diverged { traced: traced(GRAPH), at: (seed, 30, "loss".into()) };
        let refused = Outcome::Refused(Box::new(cairn_program::job::Refusal {
            kind: Text::truncated("SyntaxError"),
            message: Text::default(),
            hint: Text::default(),
            line: 1,
            column: 1,
            rendered: Text::default(),
        }));
        let first = Item::Segment { seed: 0, segment: 0 };
        for (until, outcome, item) in [
            (first, refused, first),
            (NEVER, done(GraphId([8; 32])), first),
            (Item::Segment { seed: 1, segment: 3 }, diverged(1), Item::Segment { seed: 1, segment: 3 }),
            (Item::Segment { seed: 2, segment: 0 }, diverged(2), Item::Segment { seed: 2, segment: 0 }),
            (Item::Evaluation { seed: 0 }, diverged(0), Item::Evaluation { seed: 0 }),
        ] {
            let mut judge = Judge::new(&claim);
            assert!(listen(&mut judge, until));
            let findings = judge.findings(&outcome);
            assert_eq!(bad(&findings), [item], "{outcome:?}");
            assert!(ascending(&findings));
        }
    }

    #[test]
    fn a_leak_refutes_the_evaluation_of_a_run_that_agrees_in_every_leaf() {
        let claim = claim();
        let run = claim.runs.first().unwrap();
        let mut judge = Judge::new(&claim);
        for (segment, leaf) in (0u16..).zip(run.leaves.iter()) {
            assert!(judge.hear(&Message::Segment { seed: 0, segment, leaf: *leaf, inside: *leaf }));
        }
        assert!(judge.hear(&Message::Leaked { seed: 0, window: 3, cut: 9 }));
        let result =
            RunSummary { metric: run.metric, test: run.test, leaves: run.leaves.clone(), root: Hash32::default() };
        assert!(!judge.hear(&Message::Ran { seed: 0, result }), "the replay need not go on");
        let bad: Vec<Item> = judge
            .found()
            .into_iter()
            .filter(|judged| matches!(judged.finding, Finding::Bad { .. }))
            .map(|judged| judged.item)
            .collect();
        assert_eq!(bad, [Item::Evaluation { seed: 0 }]);
    }
}
