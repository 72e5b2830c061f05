//! The chain: what may follow, what certificates prove, what comes of it.

use cairn_protocol::chain::{Accepted, Queued, Status};
use cairn_protocol::*;
use proptest::prelude::*;

use crate::kit::{self, BASE, BASE_TEST, MARGIN, append, certified, chain, queued};

fn accepted(number: u8) -> EntryKind {
    EntryKind::Accepted { commit: id(number) }
}

fn refused(number: u8, why: Refusal) -> EntryKind {
    EntryKind::Refused { commit: id(number), why }
}

fn id(number: u8) -> CommitId {
    CommitId([number; 32])
}

const SEGMENT: Item = Item::Segment { seed: 0, segment: 0 };

#[test]
fn an_empty_chain_begins_with_its_track() {
    let (track, chain) = (kit::track(4), chain(4, &[]));
    assert_eq!(chain.id(), track.id());
    assert_eq!((chain.height(), chain.tip()), (0, EntryId(track.id().0)));
    assert_eq!(chain.record(), Claim { metric: BASE, test: BASE_TEST });
    assert_eq!((chain.queue().len(), chain.accepted().len(), chain.refused()), (0, 0, 0));
    assert_eq!(chain.roster(), kit::roster(4));
    assert_eq!(chain.head(), None);
    assert_eq!(chain.track(), &track);
}

#[test]
fn a_leaderboard_grows_in_the_order_of_the_queue() {
    let good = BASE - MARGIN;
    let mut chain = chain(4, &[queued(1, good, BASE_TEST), queued(2, good - MARGIN, BASE_TEST + MARGIN)]);
    let waiting: Vec<(u64, CommitId)> = chain.queue().iter().map(|queued| (queued.height, queued.commit)).collect();
    assert_eq!(waiting, [(1, id(1)), (2, id(2))]);
    assert_eq!((chain.status(id(1)), chain.status(id(3))), (Some(Status::Queued), None));
    assert!(chain.revealed(ProposalId([1; 32])) && !chain.revealed(ProposalId([3; 32])));

    append(&mut chain, accepted(1)).unwrap();
    assert_eq!(chain.record(), Claim { metric: good, test: BASE_TEST });
    assert_eq!(chain.status(id(1)), Some(Status::Accepted));
    append(&mut chain, accepted(2)).unwrap();
    let row = Accepted {
        height: 4,
        entry: chain.tip(),
        commit: id(2),
        author: kit::author(2).public(),
        claim: Claim { metric: good - MARGIN, test: BASE_TEST + MARGIN },
        credit: MARGIN,
    };
    assert_eq!(chain.head(), Some(&row));
    assert_eq!(chain.accepted().iter().map(|row| row.credit).collect::<Vec<_>>(), [MARGIN, MARGIN]);
    assert!(chain.queue().is_empty());

    let hopeless = Claim { metric: BASE, test: BASE_TEST };
    append(&mut chain, queued(3, hopeless.metric, hopeless.test)).unwrap();
    let expected = Queued {
        height: 5,
        commit: id(3),
        proposal: ProposalId([3; 32]),
        author: kit::author(3).public(),
        claim: hopeless,
    };
    assert_eq!(chain.queue().front(), Some(&expected));
    append(&mut chain, refused(3, Refusal::NotARecord)).unwrap();
    assert_eq!(chain.status(id(3)), Some(Status::Refused(Refusal::NotARecord)));
    assert_eq!((chain.height(), chain.refused(), chain.accepted().len()), (6, 1, 2));
    assert_eq!(chain.record().metric, good - MARGIN, "a refusal leaves the record alone");
}

#[test]
fn only_an_entry_that_links_to_the_tip_follows() {
    let chain = chain(4, &[queued(1, BASE - MARGIN, BASE_TEST)]);
    let next = chain.next(accepted(1));
    assert_eq!(chain.check(&next), Ok(()));
    let other = TrackId([9; 32]);
    assert_eq!(chain.check(&Entry { track: other, ..next.clone() }), Err(ChainError::Track(other)));
    for got in [0, 1, 3, u64::MAX] {
        assert_eq!(chain.check(&Entry { height: got, ..next.clone() }), Err(ChainError::Height { got, want: 2 }));
    }
    let (got, want) = (EntryId(chain.id().0), chain.tip());
    assert_eq!(chain.check(&Entry { previous: got, ..next }), Err(ChainError::Previous { got, want }));
}

#[test]
fn what_an_entry_may_do() {
    let good = BASE - MARGIN;
    let first_good = [queued(1, good, BASE_TEST)];
    let hopeless = [queued(1, good + 1, BASE_TEST)];
    let test_worse = [queued(1, good, BASE_TEST + MARGIN + 1)];
    let settled = [queued(1, good, BASE_TEST), accepted(1)];
    let two = [queued(1, good, BASE_TEST), queued(2, good - MARGIN, BASE_TEST)];
    let overtaken = [queued(1, good, BASE_TEST), queued(2, good, BASE_TEST), accepted(1)];
    let evaluation = |seed| Item::Evaluation { seed };
    let segment = |seed, segment| Item::Segment { seed, segment };
    let same_proposal = EntryKind::Queued {
        commit: id(2),
        proposal: ProposalId([1; 32]),
        author: kit::author(2).public(),
        claim: Claim { metric: 0, test: 0 },
    };
    let seat = |seat, key: VerifierKey| EntryKind::Roster { seat, verifier: key };
    let newcomer = kit::verifier(50).public();
    /// A name, the entries before, the entry, what comes of it.
    type Case<'a> = (&'a str, &'a [EntryKind], EntryKind, Result<(), ChainError>);
    let table: Vec<Case<'_>> = vec![
        ("a first commit", &[], queued(1, good, BASE_TEST), Ok(())),
        ("a claim that cannot win may queue", &[], queued(1, i64::MAX, i64::MAX), Ok(())),
        ("a commit twice", &first_good, queued(1, good, BASE_TEST), Err(ChainError::Repeated(id(1)))),
        ("a proposal twice", &first_good, same_proposal, Err(ChainError::Repeated(id(2)))),
        ("a settled commit again", &settled, queued(1, good, BASE_TEST), Err(ChainError::Repeated(id(1)))),
        ("the first of the queue", &two, accepted(1), Ok(())),
        ("the second, though it is better", &two, accepted(2), Err(ChainError::NotFirst(id(2)))),
        ("the second refused", &two, refused(2, Refusal::Refuted(SEGMENT)), Err(ChainError::NotFirst(id(2)))),
        ("nothing in the queue", &[], accepted(1), Err(ChainError::NotFirst(id(1)))),
        ("nothing to refuse", &[], refused(1, Refusal::NotARecord), Err(ChainError::NotFirst(id(1)))),
        ("accepted twice", &settled, accepted(1), Err(ChainError::NotFirst(id(1)))),
        ("no record accepted", &hopeless, accepted(1), Err(ChainError::Outcome(id(1)))),
        ("no record refused", &hopeless, refused(1, Refusal::NotARecord), Ok(())),
        ("no record, another reason", &hopeless, refused(1, Refusal::TestWorse), Err(ChainError::Outcome(id(1)))),
        ("no record, not replayed", &hopeless, refused(1, Refusal::Refuted(SEGMENT)), Err(ChainError::Outcome(id(1)))),
        ("no record, not skipped", &hopeless, refused(1, Refusal::Skipped(SEGMENT)), Err(ChainError::Outcome(id(1)))),
        ("worse on test accepted", &test_worse, accepted(1), Err(ChainError::Outcome(id(1)))),
        ("worse on test refused", &test_worse, refused(1, Refusal::TestWorse), Ok(())),
        ("overtaken by the one before", &overtaken, accepted(2), Err(ChainError::Outcome(id(2)))),
        ("overtaken and refused", &overtaken, refused(2, Refusal::NotARecord), Ok(())),
        ("a record called none", &first_good, refused(1, Refusal::NotARecord), Err(ChainError::Outcome(id(1)))),
        ("a good test called worse", &first_good, refused(1, Refusal::TestWorse), Err(ChainError::Outcome(id(1)))),
        ("refuted", &first_good, refused(1, Refusal::Refuted(segment(1, 15))), Ok(())),
        ("refuted at the evaluation", &first_good, refused(1, Refusal::Refuted(evaluation(1))), Ok(())),
        ("skipped", &first_good, refused(1, Refusal::Skipped(evaluation(0))), Ok(())),
        ("no such seed", &first_good, refused(1, Refusal::Refuted(evaluation(2))), Err(ChainError::Outcome(id(1)))),
        ("no such segment", &first_good, refused(1, Refusal::Skipped(segment(0, 16))), Err(ChainError::Outcome(id(1)))),
        ("a seat passes on", &[], seat(3, newcomer), Ok(())),
        ("no such seat", &[], seat(4, newcomer), Err(ChainError::Seat)),
        ("a key with a seat", &[], seat(3, kit::verifier(0).public()), Err(ChainError::Seat)),
        ("its own key", &[], seat(3, kit::verifier(3).public()), Err(ChainError::Seat)),
    ];
    for (name, before, kind, want) in table {
        let mut chain = chain(4, before);
        assert_eq!(chain.check(&chain.next(kind.clone())), want, "{name}");
        let was = chain.clone();
        assert_eq!(append(&mut chain, kind), want, "{name}");
        assert_eq!(chain == was, want.is_err(), "{name}: a refused entry leaves the chain as it was");
    }
}

#[test]
fn a_certificate_needs_q_valid_votes_in_seat_order() {
    let too_few = |got| Err(ChainError::Certificate { got, want: 3 });
    let table: [(&[u8], Result<(), ChainError>); 12] = [
        (&[0, 1, 2], Ok(())),
        (&[1, 2, 3], Ok(())),
        (&[0, 2, 3], Ok(())),
        (&[0, 1, 2, 3], Ok(())),
        (&[], too_few(0)),
        (&[0], too_few(1)),
        (&[1, 3], too_few(2)),
        (&[0, 0, 1], too_few(1)),
        (&[0, 1, 1, 2], too_few(2)),
        (&[1, 0, 2], too_few(1)),
        (&[0, 1, 4], too_few(2)),
        (&[255, 0, 1], too_few(0)),
    ];
    for (seats, want) in table {
        let mut chain = chain(4, &[]);
        let entry = certified(chain.next(queued(1, 1, 1)), seats);
        assert_eq!(chain.check_certificate(&entry.entry, &entry.certificate), want, "{seats:?}");
        assert_eq!(chain.apply(&entry), want, "{seats:?}");
        assert_eq!(chain.height(), u64::from(want.is_ok()));
    }
}

#[test]
fn a_certificate_is_for_one_entry_by_the_holders_of_the_seats() {
    let chain = chain(4, &[]);
    let right = certified(chain.next(queued(1, 1, 1)), &[0, 1, 2]);
    let check = |certificate: &Certificate| chain.check_certificate(&right.entry, certificate);
    let wrong = |got| Err(ChainError::Certificate { got, want: 3 });
    assert_eq!(check(&right.certificate), Ok(()));
    let with = |at: usize, vote: SeatSignature| {
        let mut votes = right.certificate.votes.to_vec();
        votes[at] = vote;
        Certificate { votes: votes.try_into().unwrap() }
    };
    // Seat 2's place, signed by seat 3.
    let other_key = SeatSignature { seat: 2, signature: Vote::sign(&right.entry, &kit::verifier(3)).signature };
    assert_eq!(check(&with(2, other_key)), wrong(2));
    // A vote for another entry, for another height, in another domain.
    let other = chain.next(queued(2, 1, 1));
    let for_another = SeatSignature { seat: 0, signature: Vote::sign(&other, &kit::verifier(0)).signature };
    assert_eq!(check(&with(0, for_another)), wrong(0));
    let entry = right.entry.id();
    let higher = kit::verifier(0).sign(Domain::Vote, &chain.id(), &Vote::statement(2, entry));
    assert_eq!(check(&with(0, SeatSignature { seat: 0, signature: higher })), wrong(0));
    let candidate = Candidate::sign(right.entry.clone(), &kit::verifier(0));
    assert_eq!(check(&with(0, SeatSignature { seat: 0, signature: candidate.signature })), wrong(0));
    // One wrong vote spoils a certificate that would do without it: it has one form only.
    let surplus = certified(right.entry.clone(), &[0, 1, 2, 9]);
    assert_eq!(check(&surplus.certificate), wrong(3));
    // And the certificate of one entry does not carry another.
    assert_eq!(chain.check_certificate(&other, &right.certificate), wrong(0));
}

#[test]
fn a_roster_changes_for_what_follows() {
    let mut chain = chain(4, &[queued(1, BASE - MARGIN, BASE_TEST)]);
    let newcomer = kit::verifier(50);
    // The old holder votes for the change, and for nothing after it.
    append(&mut chain, EntryKind::Roster { seat: 0, verifier: newcomer.public() }).unwrap();
    assert_eq!(chain.roster()[0], newcomer.public());
    assert_eq!(chain.roster()[1..], kit::roster(4)[1..]);
    let entry = chain.next(accepted(1));
    let old = certified(entry.clone(), &[0, 1, 2]);
    assert_eq!(chain.apply(&old), Err(ChainError::Certificate { got: 0, want: 3 }));
    let mut votes = old.certificate.votes.to_vec();
    votes[0].signature = Vote::sign(&entry, &newcomer).signature;
    let new = CertifiedEntry { entry, certificate: Certificate { votes: votes.try_into().unwrap() } };
    assert_eq!(chain.apply(&new), Ok(()));
    // Each height remembers its roster.
    let founding = kit::roster(4);
    for (height, first) in [(0, founding[0]), (1, founding[0]), (2, newcomer.public()), (3, newcomer.public())] {
        assert_eq!(chain.roster_at(height).map(|roster| roster[0]), Some(first), "height {height}");
    }
    assert_eq!(chain.roster_at(4), None);
}

#[test]
fn certificates_enter_nothing() {
    let (mut one, mut other) = (chain(4, &[]), chain(4, &[]));
    let entry = one.next(queued(1, 1, 1));
    one.apply(&certified(entry.clone(), &[0, 1, 2])).unwrap();
    other.apply(&certified(entry, &[1, 2, 3])).unwrap();
    assert_eq!(one, other);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 32, ..ProptestConfig::default() })]

    /// Whatever is queued, each commit is settled once, in order, and the record falls by its credit.
    #[test]
    fn a_settled_queue_adds_up(claims in proptest::collection::vec((0i64..1000, 0i64..300), 1..12)) {
        let mut chain = chain(1, &[]);
        for (number, (below, above)) in (1u8..).zip(&claims) {
            append(&mut chain, queued(number, BASE - below, BASE_TEST + above)).unwrap();
        }
        for number in (1u8..).take(claims.len()) {
            let claim = chain.queue().front().unwrap().claim;
            let record = chain.record();
            if let Some(why) = settle::refused_unreplayed(chain.track(), &record, &claim) {
                prop_assert_eq!(append(&mut chain, accepted(number)), Err(ChainError::Outcome(id(number))));
                append(&mut chain, refused(number, why)).unwrap();
                prop_assert_eq!(chain.record(), record);
            } else {
                append(&mut chain, accepted(number)).unwrap();
                prop_assert!(chain.record().metric <= record.metric - MARGIN);
                prop_assert!(chain.record().test <= record.test + MARGIN);
            }
        }
        let credit: i64 = chain.accepted().iter().map(|row| row.credit).sum();
        prop_assert_eq!(credit, BASE - chain.record().metric);
        prop_assert_eq!(chain.accepted().len() + chain.refused(), claims.len());
        prop_assert!(chain.queue().is_empty());
    }
}
