//! Opening a claim: commitment, stamp, tickets, official seeds, inside steps.

use std::collections::BTreeSet;

use cairn_protocol::*;
use proptest::prelude::*;

use crate::kit;

#[test]
fn a_commitment_binds_author_draft_and_salt() {
    let (author, draft, salt) = (kit::author(1).public(), kit::draft(), Hash32([5; 32]));
    let bound = commitment(author, &draft, salt);
    let by_hand = [author.0, draft.id().0, salt.0].concat();
    assert_eq!(bound.0, blake3::derive_key("cairn 1 commitment", &by_hand));
    let changed = [
        Draft { parent: Some(CommitId([0; 32])), ..draft.clone() },
        Draft { source: "def model(x):\n    return 3 * x\n".try_into().unwrap(), ..draft.clone() },
        Draft { graph: GraphId([0; 32]), ..draft.clone() },
        Draft { title: "Thrice".try_into().unwrap(), ..draft.clone() },
        Draft { why: Text::default(), ..draft.clone() },
        Draft { idea: None, ..draft.clone() },
        Draft { researcher: Researcher { program: Hash32([1; 32]), ..draft.researcher.clone() }, ..draft.clone() },
    ];
    let mut all: BTreeSet<Commitment> = changed.iter().map(|draft| commitment(author, draft, salt)).collect();
    all.insert(commitment(kit::author(2).public(), &draft, salt));
    all.insert(commitment(author, &draft, Hash32([6; 32])));
    all.insert(bound);
    assert_eq!(all.len(), changed.len() + 3);
}

#[test]
fn a_stamp_is_work_on_everything_else() {
    let chain = kit::chain(4, &[]);
    let stamped = kit::proposal(&chain, &kit::author(1), &kit::draft(), Hash32([1; 32]));
    assert!(stamped.stamp_holds());
    let bare = blake3::derive_key("cairn 1 proposal without stamp", &encode(&Proposal { stamp: 0, ..stamped.clone() }));
    let zeros = |number: u64| {
        let joined = [&bare[..], &number.to_be_bytes()].concat();
        let digest = blake3::derive_key("cairn 1 stamp", &joined);
        u32::from_be_bytes(digest[..4].try_into().unwrap()).leading_zeros()
    };
    assert!(zeros(stamped.stamp) >= limits::STAMP_ZERO_BITS);
    assert!((0..stamped.stamp).all(|number| zeros(number) < limits::STAMP_ZERO_BITS), "the first that holds");
    // No other proposal can use it.
    let others = [
        Proposal { track: TrackId([0; 32]), ..stamped.clone() },
        Proposal { author: kit::author(2).public(), ..stamped.clone() },
        Proposal { commitment: Commitment([0; 32]), ..stamped.clone() },
        Proposal { roster_height: 1, ..stamped.clone() },
        Proposal { ticketers: BoundedVec::new(), ..stamped.clone() },
        Proposal { stamp: stamped.stamp.wrapping_add(1), ..stamped },
    ];
    assert!(others.iter().all(|other| !other.stamp_holds()));
}

#[test]
fn official_seeds_follow_proposal_tickets_and_place() {
    let (proposal, a, b) = (ProposalId([1; 32]), Signature([2; 64]), Signature([3; 64]));
    let seeds = official_seeds(proposal, &[a, b], 3);
    for (j, seed) in (0u32..).zip(&seeds) {
        let by_hand = [&proposal.0[..], &a.0, &b.0, &j.to_be_bytes()].concat();
        assert_eq!(seed.0, blake3::derive_key("cairn 1 official seed", &by_hand));
    }
    assert_eq!(official_seeds(proposal, &[a, b], 2), seeds[..2], "more seeds leave the first ones alone");
    let others = [
        official_seeds(proposal, &[b, a], 3),
        official_seeds(proposal, &[a], 3),
        official_seeds(ProposalId([9; 32]), &[a, b], 3),
        official_seeds(proposal, &[a, Signature([4; 64])], 3),
        seeds,
    ];
    let distinct: BTreeSet<Seed> = others.iter().flatten().copied().collect();
    assert_eq!(distinct.len(), 15);
}

#[test]
fn a_commits_seeds_are_those_of_its_tickets() {
    let chain = kit::chain(4, &[]);
    let commit = kit::commit(&chain, &kit::author(1), kit::BASE - 200, 1).body;
    assert_eq!(commit.seeds(), official_seeds(commit.proposal.id(), &commit.tickets, 2));
    // Tickets are signatures: the same proposal gets the same ones, so there is nothing to draw again.
    assert_eq!(commit.tickets[1], kit::ticket(&commit.proposal.body, 1).signature);
}

#[test]
fn a_claim_is_the_worst_of_its_runs() {
    let chain = kit::chain(4, &[]);
    let mut commit = kit::commit(&chain, &kit::author(1), kit::BASE - 200, 1).body;
    type Metrics = (i64, i64);
    let cases: [(&[Metrics], Metrics); 5] = [
        (&[(5, 7)], (5, 7)),
        (&[(5, 7), (6, 3)], (6, 7)),
        (&[(1, 9), (2, 8), (3, 7)], (3, 9)),
        (&[(-5, -7), (-6, -3)], (-5, -3)),
        // No runs, no claim: nothing is worse.
        (&[], (i64::MAX, i64::MAX)),
    ];
    for (runs, (metric, test)) in cases {
        let runs: Vec<Run> = runs.iter().map(|(metric, test)| kit::run(*metric, *test, 1)).collect();
        commit.runs = runs.try_into().unwrap();
        assert_eq!(commit.claim(), Claim { metric, test });
    }
}

#[test]
fn an_evaluation_is_hashed_with_both_metrics() {
    let by_hand = [(-5i64).to_be_bytes(), 7i64.to_be_bytes()].concat();
    assert_eq!(evaluation_hash(-5, 7).0, blake3::derive_key("cairn 1 evaluation", &by_hand));
    assert_ne!(evaluation_hash(7, -5), evaluation_hash(-5, 7));
}

#[test]
fn inside_steps_are_inside_and_reach_every_step() {
    let (verifier, commit) = (VerifierKey([1; 32]), CommitId([2; 32]));
    assert_eq!(inside_step(verifier, commit, 0, 0, 0), 0, "no steps");
    assert_eq!(inside_step(verifier, commit, 0, 0, 1), 1, "nothing inside: the end stands in");
    assert_eq!(inside_step(verifier, commit, 0, 0, 2), 1);
    let steps: BTreeSet<u64> = (0..200).map(|segment| inside_step(verifier, commit, 0, segment, 6)).collect();
    assert_eq!(steps, BTreeSet::from([1, 2, 3, 4, 5]));
    let by_hand = [&verifier.0[..], &commit.0, &[3], &4u16.to_be_bytes()].concat();
    let digest = blake3::derive_key("cairn 1 inside step", &by_hand);
    let draw = u64::from_be_bytes(digest[..8].try_into().unwrap());
    assert_eq!(inside_step(verifier, commit, 3, 4, 1000), 1 + draw % 999);
}

#[test]
fn verifiers_prove_with_different_steps() {
    let len = u64::MAX;
    let all: BTreeSet<u64> = (0..40u8)
        .flat_map(|i| {
            let (verifier, commit) = (VerifierKey([0; 32]), CommitId([0; 32]));
            [
                inside_step(VerifierKey([i; 32]), commit, 0, 0, len),
                inside_step(verifier, CommitId([i; 32]), 0, 0, len),
                inside_step(verifier, commit, i, 0, len),
                inside_step(verifier, commit, 0, u16::from(i), len),
            ]
        })
        .collect();
    assert_eq!(all.len(), 4 * 40 - 3, "one of each of the four is the same");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_inside_step_is_strictly_inside(key: [u8; 32], commit: [u8; 32], seed: u8, segment: u16, len in 2u64..) {
        let step = inside_step(VerifierKey(key), CommitId(commit), seed, segment, len);
        prop_assert!((1..len).contains(&step));
    }
}
