//! Settlement: quorums, the rules of a claim, the count of verdicts, outcomes.

use cairn_protocol::settle::*;
use cairn_protocol::*;
use proptest::prelude::*;

use crate::kit::{self, BASE, BASE_TEST, MARGIN};

const COMMIT: CommitId = CommitId([1; 32]);
const RECORD: Claim = Claim { metric: BASE, test: BASE_TEST };
const CLAIM: Claim = Claim { metric: BASE - MARGIN, test: BASE_TEST };
const SEGMENT: Item = Item::Segment { seed: 0, segment: 0 };
const LAST: Item = Item::Evaluation { seed: 1 };

/// A track of two seeds with two segments, thus six items.
fn track() -> Track {
    Track { segments: 2, ..kit::track(4) }
}

#[test]
fn quorums_of_all_rosters() {
    // seats n, faulty f, votes q, confirmations f + 1
    let table = [
        (1, 0, 1, 1),
        (2, 0, 2, 1),
        (3, 0, 3, 1),
        (4, 1, 3, 2),
        (5, 1, 4, 2),
        (6, 1, 5, 2),
        (7, 2, 5, 3),
        (10, 3, 7, 4),
        (13, 4, 9, 5),
        (30, 9, 21, 10),
        (31, 10, 21, 11),
    ];
    for (seats, faulty, votes, confirmations) in table {
        let quorum = quorum(seats);
        assert_eq!(quorum, Quorum { seats, faulty, votes });
        assert_eq!(quorum.confirmations(), confirmations);
    }
    for seats in 1..=limits::ROSTER_MAX {
        let Quorum { faulty, votes, .. } = quorum(seats);
        assert!(2 * votes - seats > faulty, "two quorums share an honest member");
        assert!(votes <= limits::TICKETS_MAX && seats > 3 * faulty);
    }
}

#[test]
fn a_claim_beats_the_record_by_the_margin_or_not_at_all() {
    // claim, record, margin, beats
    let table = [
        (900, 1000, 100, true),
        (901, 1000, 100, false),
        (1000, 1000, 1, false),
        (999, 1000, 1, true),
        (-1100, -1000, 100, true),
        (-1099, -1000, 100, false),
        (i64::MIN, i64::MAX, 1, true),
        (i64::MAX, i64::MAX, 1, false),
        // Below the smallest number nothing fits.
        (i64::MIN, i64::MIN, 1, false),
        (i64::MIN, i64::MIN + 1, 1, true),
        (i64::MIN, i64::MIN + 99, 100, false),
    ];
    for (claim, record, margin, want) in table {
        let of = |metric| Claim { metric, test: 0 };
        assert_eq!(beats(&of(claim), &of(record), margin), want, "{claim} against {record} by {margin}");
    }
}

#[test]
fn the_test_metric_may_be_worse_by_the_margin() {
    // claim, record, margin, holds
    let table = [
        (1000, 1000, 100, true),
        (1100, 1000, 100, true),
        (1101, 1000, 100, false),
        (0, 1000, 100, true),
        (i64::MAX, i64::MAX, 100, true),
        (i64::MAX, i64::MAX - 100, 100, true),
        (i64::MAX, i64::MAX - 101, 100, false),
    ];
    for (claim, record, margin, want) in table {
        let of = |test| Claim { metric: 0, test };
        assert_eq!(test_holds(&of(claim), &of(record), margin), want, "{claim} against {record} by {margin}");
    }
}

#[test]
fn credit_is_what_the_record_falls_by() {
    for (old, new, want) in [(1000, 900, 100), (5, -5, 10), (-5, -7, 2), (i64::MAX, i64::MIN, i64::MAX)] {
        let of = |metric| Claim { metric, test: 0 };
        assert_eq!(credit(&of(new), &of(old)), want);
    }
}

#[test]
fn some_claims_are_refused_without_replay() {
    // below the record, above its test metric, refusal
    let table = [
        (MARGIN, 0, None),
        (MARGIN, MARGIN, None),
        (MARGIN, MARGIN + 1, Some(Refusal::TestWorse)),
        (MARGIN - 1, 0, Some(Refusal::NotARecord)),
        // Not a record is said first.
        (0, MARGIN + 1, Some(Refusal::NotARecord)),
    ];
    for (below, above, want) in table {
        let claim = Claim { metric: BASE - below, test: BASE_TEST + above };
        assert_eq!(refused_unreplayed(&track(), &RECORD, &claim), want);
        let all_good = verdicts(&["ggg"; 6]);
        let tally = tally(4, &all_good);
        let outcome = outcome(&track(), quorum(4), &RECORD, &claim, &tally);
        assert_eq!(outcome, want.map_or(Outcome::Accept, Outcome::Refuse));
        for why in refusals() {
            let holds = refusal_holds(&track(), quorum(4), &RECORD, &claim, &tally, why);
            assert_eq!(holds, want == Some(why), "{why:?}");
        }
    }
}

fn refusals() -> Vec<Refusal> {
    let items = || items(&track());
    let of_items = items().map(Refusal::Refuted).chain(items().map(Refusal::Skipped));
    of_items.chain([Refusal::NotARecord, Refusal::TestWorse]).collect()
}

#[test]
fn a_commit_has_an_item_for_each_segment_and_each_evaluation() {
    let all: Vec<Item> = items(&track()).collect();
    let segment = |seed, segment| Item::Segment { seed, segment };
    let evaluation = |seed| Item::Evaluation { seed };
    assert_eq!(all, [segment(0, 0), segment(0, 1), segment(1, 0), segment(1, 1), evaluation(0), evaluation(1)]);
    assert!(all.is_sorted() && all.iter().all(|item| has_item(&track(), *item)));
    for other in [segment(0, 2), segment(2, 0), evaluation(2), segment(255, 65535), evaluation(255)] {
        assert!(!has_item(&track(), other), "{other:?}");
    }
    let largest = Track { seeds: 8, segments: 16, ..kit::track(4) };
    assert_eq!(items(&largest).count(), limits::VERDICT_ITEMS_MAX);
}

fn finding(letter: char) -> Option<Finding> {
    match letter {
        'g' => Some(Finding::Good { proof: Hash32([1; 32]) }),
        'h' => Some(Finding::Good { proof: Hash32([2; 32]) }),
        'b' => Some(Finding::Bad { found: Hash32([1; 32]) }),
        'c' => Some(Finding::Cannot),
        '.' => None,
        other => panic!("no finding is called {other}"),
    }
}

fn verdict(seat: u8, findings: Vec<(Item, Finding)>) -> Verdict {
    let findings: Vec<Judged> = findings.into_iter().map(|(item, finding)| Judged { item, finding }).collect();
    Verdict {
        track: track().id(),
        commit: COMMIT,
        verifier: kit::verifier(seat).public(),
        findings: findings.try_into().unwrap(),
    }
}

/// A verdict of each seat; `columns` holds the findings about each item, one letter for each seat.
fn verdicts(columns: &[&str]) -> Vec<Verdict> {
    let seats = columns.iter().map(|column| column.len()).max().unwrap_or(0);
    (0..seats)
        .map(|seat| {
            let said = items(&track())
                .zip(columns)
                .filter_map(|(item, column)| Some((item, finding(column.chars().nth(seat)?)?)))
                .collect();
            verdict(u8::try_from(seat).unwrap(), said)
        })
        .collect()
}

fn tally(seats: u8, verdicts: &[Verdict]) -> Tally {
    Tally::new(COMMIT, &kit::roster(seats), verdicts)
}

#[test]
fn outcomes() {
    let (refuted, skipped) =
        (|item| Outcome::Refuse(Refusal::Refuted(item)), |item| Outcome::Refuse(Refusal::Skipped(item)));
    let segment = |seed, segment| Item::Segment { seed, segment };
    // Seats, then what each seat found about each of the six items: four segments, two evaluations.
    let table: [(u8, [&str; 6], Outcome); 22] = [
        // Of four seats one may lie: two confirm, three decide.
        (4, ["gg"; 6], Outcome::Accept),
        (4, ["ggbc"; 6], Outcome::Accept),
        (4, ["gg", "gg", "gg", "gg", "gg", "g."], Outcome::Open),
        (4, ["g.", "gg", "gg", "gg", "gg", "gg"], Outcome::Open),
        (4, [".gg.", "g..g", "gg..", "..gg", ".g.g", "g.g."], Outcome::Accept),
        (4, ["", "", "", "", "", ""], Outcome::Open),
        // Different proofs are for their verifiers to be exposed by, not for the count.
        (4, ["gh"; 6], Outcome::Accept),
        (4, ["ggb", "gg", "gg", "gg", "gg", "gg"], Outcome::Accept),
        (4, ["ggbb", "gg", "gg", "gg", "gg", "gg"], refuted(SEGMENT)),
        (4, ["gg", "gg", "gg", "gg", "gg", "ggbb"], refuted(LAST)),
        (4, ["gg", "bb", "gg", "bb", "gg", "gg"], refuted(segment(0, 1))),
        (4, ["..b", "..b", "..b", "..b", "..b", "..b"], Outcome::Open),
        // One refutation of this and one of that are two words, not two witnesses.
        (4, ["gbg", "ggb", "gg", "gg", "gg", "gg"], Outcome::Accept),
        (4, ["ccc", "gg", "gg", "gg", "gg", "gg"], skipped(SEGMENT)),
        (4, ["cc", "gg", "gg", "gg", "gg", "gg"], Outcome::Open),
        (4, ["cc", "cc", "cc", "cc", "cc", "cc"], Outcome::Open),
        (4, ["gg", "gg", "ccc", "bb", "gg", "gg"], skipped(segment(1, 0))),
        (4, ["gg", "gg", "bb", "ccc", "gg", "gg"], refuted(segment(1, 0))),
        // One seat decides alone.
        (1, ["g"; 6], Outcome::Accept),
        (1, ["g", "g", "g", "g", "g", "b"], refuted(LAST)),
        (1, ["g", "c", "g", "g", "g", "g"], skipped(segment(0, 1))),
        // Of seven seats two may lie: three confirm, five decide.
        (7, ["ggg", "ggg", "ggg", "bbggg", "cccc..g", "ggg"], Outcome::Open),
    ];
    for (seats, columns, want) in table {
        let tally = tally(seats, &verdicts(&columns));
        let quorum = quorum(usize::from(seats));
        assert_eq!(outcome(&track(), quorum, &RECORD, &CLAIM, &tally), want, "{seats} seats {columns:?}");
        // A refusal that is another one than the sequencer's first may hold too; what is no refusal may not.
        let holding: Vec<Refusal> = refusals()
            .into_iter()
            .filter(|why| refusal_holds(&track(), quorum, &RECORD, &CLAIM, &tally, *why))
            .collect();
        match want {
            Outcome::Refuse(why) => assert!(holding.contains(&why), "{seats} seats {columns:?}"),
            Outcome::Accept | Outcome::Open => assert_eq!(holding, [], "{seats} seats {columns:?}"),
        }
    }
}

#[test]
fn a_refusal_must_name_what_was_refuted() {
    let tally = tally(4, &verdicts(&["bb", "ccc", "gg", "gg", "gg", "gg"]));
    let holding: Vec<Refusal> = refusals()
        .into_iter()
        .filter(|why| refusal_holds(&track(), quorum(4), &RECORD, &CLAIM, &tally, *why))
        .collect();
    let skipped = Refusal::Skipped(Item::Segment { seed: 0, segment: 1 });
    assert_eq!(holding, [Refusal::Refuted(SEGMENT), skipped]);
    // Refuted by everybody, but no item of this track.
    let nowhere = Item::Evaluation { seed: 9 };
    let said = (0..4).map(|seat| verdict(seat, vec![(nowhere, finding('b').unwrap())])).collect::<Vec<_>>();
    let tally = self::tally(4, &said);
    assert_eq!(tally.of(nowhere).bad, 4);
    assert!(!refusal_holds(&track(), quorum(4), &RECORD, &CLAIM, &tally, Refusal::Refuted(nowhere)));
    assert_eq!(outcome(&track(), quorum(4), &RECORD, &CLAIM, &tally), Outcome::Open);
}

#[test]
fn only_distinct_members_count() {
    let good = |seat| verdict(seat, vec![(SEGMENT, finding('g').unwrap())]);
    let counted = |verdicts: &[Verdict]| tally(4, verdicts).of(SEGMENT).good;
    assert_eq!(counted(&[good(0), good(1)]), 2);
    assert_eq!(counted(&[good(0), good(0), good(0)]), 1, "the same said again");
    assert_eq!(counted(&[good(0), good(4)]), 1, "seat 4 is not of this roster");
    assert_eq!(counted(&[good(0), Verdict { commit: CommitId([2; 32]), ..good(1) }]), 1, "of another commit");
    assert_eq!(tally(4, &[]).of(SEGMENT), Count::default());
}

#[test]
fn who_contradicts_himself_says_nothing() {
    // What seat 0 says about one item in one verdict after another; good, bad, cannot.
    let table = [
        ("g", (1, 0, 0)),
        ("gg", (1, 0, 0)),
        ("gb", (0, 0, 0)),
        ("bg", (0, 0, 0)),
        ("bb", (0, 1, 0)),
        ("gc", (0, 0, 0)),
        ("cc", (0, 0, 1)),
        // Nor does a third word make it true again.
        ("gbg", (0, 0, 0)),
        ("gbb", (0, 0, 0)),
        // Two proofs of one segment: one of them is invented.
        ("gh", (0, 0, 0)),
    ];
    for (letters, (good, bad, cannot)) in table {
        let said: Vec<Verdict> =
            letters.chars().map(|letter| verdict(0, vec![(SEGMENT, finding(letter).unwrap())])).collect();
        assert_eq!(tally(4, &said).of(SEGMENT), Count { good, bad, cannot }, "{letters}");
        // The same inside one verdict, which no gate lets pass.
        let at_once = letters.chars().map(|letter| (SEGMENT, finding(letter).unwrap())).collect();
        assert_eq!(tally(4, &[verdict(0, at_once)]).of(SEGMENT), Count { good, bad, cannot }, "{letters} at once");
    }
    // The other items of the same member stand.
    let said = [
        verdict(0, vec![(SEGMENT, finding('g').unwrap()), (LAST, finding('g').unwrap())]),
        verdict(0, vec![(SEGMENT, finding('b').unwrap())]),
    ];
    assert_eq!(tally(4, &said).of(LAST).good, 1);
}

/// Findings of a seat about some items: (item, letter), where an item may come twice.
fn any_verdicts() -> impl Strategy<Value = Vec<Verdict>> {
    let said = (0usize..6, prop_oneof![4 => Just('g'), 1 => Just('h'), 2 => Just('b'), 2 => Just('c')]);
    let verdict = (0u8..6, proptest::collection::vec(said, 0..7)).prop_map(|(seat, said)| {
        let all: Vec<Item> = items(&track()).collect();
        verdict(seat, said.into_iter().map(|(item, letter)| (all[item], finding(letter).unwrap())).collect())
    });
    proptest::collection::vec(verdict, 0..12)
}

fn decided(verdicts: &[Verdict]) -> (Tally, Outcome) {
    let tally = tally(4, verdicts);
    let outcome = outcome(&track(), quorum(4), &RECORD, &CLAIM, &tally);
    (tally, outcome)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_verdicts_does_not_matter(
        (verdicts, shuffled) in any_verdicts().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        prop_assert_eq!(decided(&verdicts), decided(&shuffled));
    }

    #[test]
    fn verdicts_said_twice_or_by_strangers_change_nothing(verdicts in any_verdicts(), again in any::<prop::sample::Index>()) {
        let mut more = verdicts.clone();
        if !verdicts.is_empty() {
            more.push(again.get(&verdicts).clone());
        }
        let members: Vec<VerifierKey> = kit::roster(4);
        let known: Vec<Verdict> = verdicts.iter().filter(|v| members.contains(&v.verifier)).cloned().collect();
        prop_assert_eq!(decided(&verdicts), decided(&more));
        prop_assert_eq!(decided(&verdicts), decided(&known));
    }

    #[test]
    fn one_liar_of_four_neither_accepts_nor_refuses(verdicts in any_verdicts(), liar in 0u8..4) {
        let liar = kit::verifier(liar).public();
        let alone: Vec<Verdict> = verdicts.into_iter().filter(|verdict| verdict.verifier == liar).collect();
        prop_assert_eq!(decided(&alone).1, Outcome::Open);
    }

    #[test]
    fn one_liar_of_four_does_not_stop_three_honest(verdicts in any_verdicts(), liar in 0u8..4) {
        let key = kit::verifier(liar).public();
        let mut all: Vec<Verdict> = verdicts.into_iter().filter(|verdict| verdict.verifier == key).collect();
        for seat in (0..4).filter(|seat| *seat != liar) {
            all.push(verdict(seat, items(&track()).map(|item| (item, finding('g').unwrap())).collect()));
        }
        prop_assert_eq!(decided(&all).1, Outcome::Accept);
    }

    #[test]
    fn an_outcome_is_what_its_refusal_says(verdicts in any_verdicts()) {
        let (tally, outcome) = decided(&verdicts);
        let holds = refusals().into_iter().find(|why| refusal_holds(&track(), quorum(4), &RECORD, &CLAIM, &tally, *why));
        match outcome {
            Outcome::Refuse(why) => prop_assert!(refusal_holds(&track(), quorum(4), &RECORD, &CLAIM, &tally, why)),
            Outcome::Accept => {
                prop_assert_eq!(holds, None);
                prop_assert!(items(&track()).all(|item| tally.of(item).good >= 2));
            }
            Outcome::Open => {
                prop_assert_eq!(holds, None);
                prop_assert!(items(&track()).any(|item| tally.of(item).good < 2));
            }
        }
    }
}
