//! The gates: one case at least for each reason to refuse a record.

use cairn_protocol::gate::{self, GateError};
use cairn_protocol::*;

use crate::kit::{self, BASE, MARGIN};

const BAD: GateError = GateError::Signature(BadSignature);

fn good_commit(chain: &ChainState) -> Signed<Commit> {
    kit::commit(chain, &kit::author(1), BASE - MARGIN, 1)
}

fn verdict_of(chain: &ChainState, items: &[Item]) -> Signed<Verdict> {
    let findings: Vec<Judged> = items.iter().map(|item| Judged { item: *item, finding: Finding::Cannot }).collect();
    let body = Verdict {
        track: chain.id(),
        commit: CommitId([1; 32]),
        verifier: kit::verifier(0).public(),
        findings: findings.try_into().unwrap(),
    };
    Signed::by_verifier(body, &kit::verifier(0))
}

#[test]
fn bytes_that_are_no_gossip_are_not_received() {
    let chain = kit::chain(4, &[]);
    let bytes = encode(&Gossip::Commit(good_commit(&chain).header()));
    assert!(gate::receive(&bytes).is_ok());
    let long = [&bytes[..], &[0]].concat();
    assert_eq!(gate::receive(&long), Err(GateError::Codec(CodecError::Trailing(1))));
    let huge = vec![0; limits::GOSSIP_BYTES_MAX + 1];
    let too_long = CodecError::TooLong { got: huge.len(), max: limits::GOSSIP_BYTES_MAX };
    assert_eq!(gate::receive(&huge), Err(GateError::Codec(too_long)));
    assert!(matches!(gate::receive(&[]), Err(GateError::Codec(CodecError::Malformed(_)))));
}

#[test]
fn every_gossiped_signature_is_checked() {
    let chain = kit::chain(4, &[]);
    let commit = good_commit(&chain);
    let author = kit::author(1);
    let empty = Text::default;
    let idea = Idea {
        track: chain.id(),
        author: author.public(),
        title: empty(),
        text: Text::default(),
        source: Text::default(),
    };
    let reports = Reports { track: chain.id(), author: author.public(), batch: 1, results: BoundedVec::new() };
    let entry = chain.next(kit::queued(1, 1, 1));
    let ticket = kit::ticket(&commit.body.proposal.body, 0);
    let all = [
        Gossip::Idea(Signed::by_author(idea, &author)),
        Gossip::Reports(Signed::by_author(reports, &author)),
        Gossip::Proposal(commit.body.proposal.clone()),
        Gossip::Ticket(ticket),
        Gossip::Commit(commit.header()),
        Gossip::Verdict(verdict_of(&chain, &[Item::Evaluation { seed: 0 }])),
        Gossip::Candidate(Candidate::sign(entry.clone(), &kit::verifier(0))),
        Gossip::Vote(Vote::sign(&entry, &kit::verifier(0))),
    ];
    for mut gossip in all {
        assert_eq!(gate::stateless(&gossip), Ok(()), "{}", gossip.kind());
        let signature = match &mut gossip {
            Gossip::Idea(signed) => &mut signed.signature,
            Gossip::Reports(signed) => &mut signed.signature,
            Gossip::Proposal(signed) => &mut signed.signature,
            Gossip::Ticket(signed) => &mut signed.signature,
            Gossip::Commit(header) => &mut header.signature,
            Gossip::Verdict(signed) => &mut signed.signature,
            Gossip::Candidate(candidate) => &mut candidate.signature,
            Gossip::Vote(vote) => &mut vote.signature,
            Gossip::Entry(_) => panic!("an entry is signed by its certificate"),
        };
        signature.0[7] ^= 1;
        assert_eq!(gate::stateless(&gossip), Err(BAD), "{}", gossip.kind());
        assert_eq!(gate::receive(&encode(&gossip)), Err(BAD), "{}", gossip.kind());
    }
}

#[test]
fn a_proposal_needs_its_stamp() {
    let chain = kit::chain(4, &[]);
    let stamped = good_commit(&chain).body.proposal.body;
    let unstamped = Proposal { stamp: stamped.stamp.wrapping_add(1), ..stamped };
    assert!(!unstamped.stamp_holds());
    let signed = Signed::by_author(unstamped, &kit::author(1));
    assert_eq!(gate::stateless(&Gossip::Proposal(signed)), Err(GateError::Stamp));
}

#[test]
fn a_verdict_names_each_item_once_in_order() {
    let chain = kit::chain(4, &[]);
    let segment = |seed, segment| Item::Segment { seed, segment };
    let evaluation = |seed| Item::Evaluation { seed };
    let table: [(&[Item], Result<(), GateError>); 8] = [
        (&[], Ok(())),
        (&[segment(0, 0), segment(0, 1), segment(1, 0), evaluation(0), evaluation(1)], Ok(())),
        (&[segment(1, 15), evaluation(0)], Ok(())),
        (&[segment(0, 1), segment(0, 0)], Err(GateError::Order)),
        (&[segment(1, 0), segment(0, 1)], Err(GateError::Order)),
        (&[evaluation(0), segment(1, 15)], Err(GateError::Order)),
        (&[evaluation(0), evaluation(0)], Err(GateError::Order)),
        (&[segment(0, 0), segment(0, 2), segment(0, 1)], Err(GateError::Order)),
    ];
    for (items, want) in table {
        let verdict = Gossip::Verdict(verdict_of(&chain, items));
        assert_eq!(gate::stateless(&verdict), want, "{items:?}");
    }
}

#[test]
fn records_of_another_track_and_of_strangers_are_refused() {
    let (chain, elsewhere) = (kit::chain(4, &[]), kit::chain(5, &[]));
    let with_chain = |gossip: &Gossip| gate::with_chain(gossip, &chain);
    let foreign = Gossip::Vote(Vote::sign(&elsewhere.next(kit::queued(1, 1, 1)), &kit::verifier(0)));
    assert_eq!(with_chain(&foreign), Err(GateError::Track(elsewhere.id())));
    assert_eq!(gate::commit(&good_commit(&elsewhere), &chain), Err(GateError::Track(elsewhere.id())));

    let (entry, proposal) = (chain.next(kit::queued(1, 1, 1)), good_commit(&chain).body.proposal.body);
    for (seat, want) in [(0, Ok(())), (3, Ok(())), (4, Err(GateError::NoSeat))] {
        assert_eq!(with_chain(&Gossip::Vote(Vote::sign(&entry, &kit::verifier(seat)))), want);
        assert_eq!(with_chain(&Gossip::Ticket(kit::ticket(&proposal, seat))), want);
        let mut verdict = verdict_of(&chain, &[]);
        verdict.body.verifier = kit::verifier(seat).public();
        assert_eq!(with_chain(&Gossip::Verdict(verdict)), want);
    }
    for (seat, want) in [(0, Ok(())), (1, Err(GateError::NotSequencer)), (4, Err(GateError::NotSequencer))] {
        assert_eq!(with_chain(&Gossip::Candidate(Candidate::sign(entry.clone(), &kit::verifier(seat)))), want);
    }
    assert_eq!(with_chain(&Gossip::Commit(good_commit(&chain).header())), Ok(()));
    assert_eq!(with_chain(&Gossip::Entry(kit::certified(entry, &[0, 1, 2]))), Ok(()));
}

#[test]
fn a_verdict_names_items_of_the_track() {
    let chain = kit::chain(4, &[]);
    let segment = |seed, segment| Item::Segment { seed, segment };
    let evaluation = |seed| Item::Evaluation { seed };
    let refused = Err(GateError::Item);
    let table = [
        (segment(1, 15), Ok(())),
        (segment(0, 16), refused.clone()),
        (segment(2, 0), refused.clone()),
        (evaluation(1), Ok(())),
        (evaluation(2), refused),
    ];
    for (item, want) in table {
        let verdict = Gossip::Verdict(verdict_of(&chain, &[item]));
        assert_eq!(gate::with_chain(&verdict, &chain), want, "{item:?}");
    }
}

#[test]
fn ticketers_are_q_members_in_seat_order_at_their_height() {
    let newcomer = kit::verifier(50).public();
    // At height 1 seat 3 passes to another key.
    let chain = kit::chain(4, &[EntryKind::Roster { seat: 3, verifier: newcomer }]);
    let old = kit::roster(4);
    let refused = |proposal: &Proposal| Err(GateError::Ticketers(proposal.id(), 3));
    let table: [(&str, u64, Vec<VerifierKey>, bool); 12] = [
        ("the first three", 1, vec![old[0], old[1], old[2]], true),
        ("with a gap", 1, vec![old[0], old[2], newcomer], true),
        ("the old roster at its height", 0, vec![old[1], old[2], old[3]], true),
        ("the newcomer before its time", 0, vec![old[1], old[2], newcomer], false),
        ("the retired one after its time", 1, vec![old[1], old[2], old[3]], false),
        ("too few", 1, vec![old[0], old[1]], false),
        ("too many", 1, vec![old[0], old[1], old[2], newcomer], false),
        ("none", 1, vec![], false),
        ("out of order", 1, vec![old[1], old[0], old[2]], false),
        ("one twice", 1, vec![old[0], old[0], old[1]], false),
        ("a stranger", 1, vec![old[0], old[1], kit::verifier(60).public()], false),
        ("one at every place", 1, vec![old[2], old[2], old[2]], false),
    ];
    for (name, roster_height, named, holds) in table {
        let proposal =
            Proposal { roster_height, ticketers: named.try_into().unwrap(), ..good_commit(&chain).body.proposal.body };
        let want = if holds { Ok(()) } else { refused(&proposal) };
        let gossip = Gossip::Proposal(Signed::by_author(proposal, &kit::author(1)));
        assert_eq!(gate::with_chain(&gossip, &chain), want, "{name}");
    }
    let above = Proposal { roster_height: 2, ..good_commit(&chain).body.proposal.body };
    let gossip = Gossip::Proposal(Signed::by_author(above, &kit::author(1)));
    assert_eq!(gate::with_chain(&gossip, &chain), Err(GateError::RosterHeight(2)));
}

#[test]
fn a_good_commit_passes() {
    for seats in [1, 4, 7] {
        let chain = kit::chain(seats, &[]);
        assert_eq!(gate::commit(&good_commit(&chain), &chain), Ok(()));
    }
    // It goes on being valid when the chain grows.
    let commit = good_commit(&kit::chain(4, &[]));
    let grown = kit::chain(4, &[kit::queued(1, BASE - 500, 0), EntryKind::Accepted { commit: CommitId([1; 32]) }]);
    assert_eq!(gate::commit(&commit, &grown), Ok(()));
}

#[test]
fn a_spoilt_commit_is_refused_for_what_is_wrong_with_it() {
    let chain = kit::chain(4, &[]);
    let count = |what, got, want| GateError::Count { what, got, want };
    type Spoil = fn(&mut Commit);
    let table: Vec<(&str, Spoil, GateError)> = vec![
        ("a run too few", |c| c.runs = c.runs[..1].to_vec().try_into().unwrap(), count("runs", 1, 2)),
        ("a run too many", |c| c.runs.push(c.runs[0].clone()).unwrap(), count("runs", 3, 2)),
        ("no runs", |c| c.runs = BoundedVec::new(), count("runs", 0, 2)),
        (
            "a leaf too few",
            |c| c.runs = vec![c.runs[0].clone(), kit::run(1, 1, 15)].try_into().unwrap(),
            count("leaves", 15, 16),
        ),
        ("another salt", |c| c.salt.0[0] ^= 1, GateError::Commitment),
        ("another title", |c| c.draft.title = "Mine".try_into().unwrap(), GateError::Commitment),
        ("another source", |c| c.draft.source = "pass".try_into().unwrap(), GateError::Commitment),
        ("another author", |c| c.proposal.body.author = kit::author(2).public(), GateError::Commitment),
        (
            "a ticket too few",
            |c| c.tickets = c.tickets[..2].to_vec().try_into().unwrap(),
            GateError::Tickets { got: 2, want: 3 },
        ),
        ("a ticket too many", |c| c.tickets.push(c.tickets[0]).unwrap(), GateError::Tickets { got: 4, want: 3 }),
        ("another stamp", |c| c.proposal.body.stamp ^= 1, GateError::Stamp),
        ("a stolen proposal", |c| c.proposal.signature.0[0] ^= 1, BAD),
        ("a changed ticket", |c| c.tickets = changed(&c.tickets, |tickets| tickets[2].0[0] ^= 1), BAD),
        ("tickets in another order", |c| c.tickets = changed(&c.tickets, |tickets| tickets.swap(0, 1)), BAD),
        ("a ticket twice", |c| c.tickets = changed(&c.tickets, |tickets| tickets[1] = tickets[0]), BAD),
        (
            "a ticket for another proposal",
            |c| {
                let other = Proposal { stamp: 0, ..c.proposal.body.clone() };
                c.tickets = changed(&c.tickets, |tickets| tickets[0] = kit::ticket(&other, 0).signature);
            },
            BAD,
        ),
    ];
    for (name, spoil, want) in table {
        let mut body = good_commit(&chain).body;
        spoil(&mut body);
        // The author signs what is spoilt: only the reason named stands against it.
        let signed = Signed::by_author(body, &kit::author(1));
        assert_eq!(gate::commit(&signed, &chain), Err(want), "{name}");
    }
}

fn changed(tickets: &[Signature], change: impl Fn(&mut [Signature])) -> BoundedVec<Signature, { limits::TICKETS_MAX }> {
    let mut tickets = tickets.to_vec();
    change(&mut tickets);
    tickets.try_into().unwrap()
}

#[test]
fn a_changed_result_needs_its_authors_signature() {
    let chain = kit::chain(4, &[]);
    let mut commit = good_commit(&chain);
    commit.body.effort += 1;
    assert_eq!(gate::commit(&commit, &chain), Err(BAD));
    let mut commit = good_commit(&chain);
    commit.body.runs = vec![kit::run(1, 1, 16), kit::run(1, 1, 16)].try_into().unwrap();
    assert_eq!(gate::commit(&commit, &chain), Err(BAD));
    // Nor may another sign it.
    let stolen = Signed::by_author(good_commit(&chain).body, &kit::author(2));
    assert_eq!(gate::commit(&stolen, &chain), Err(BAD));
}

#[test]
fn a_commit_keeps_to_its_tracks_limit_of_source_and_height() {
    let small = ChainState::new(Track { source_bytes: 30, ..kit::track(4) });
    let len = kit::draft().source.len();
    assert_eq!(len, 31);
    assert_eq!(gate::commit(&good_commit(&small), &small), Err(GateError::Source { got: len, max: 30 }));
    let enough = ChainState::new(Track { source_bytes: 31, ..kit::track(4) });
    assert_eq!(gate::commit(&good_commit(&enough), &enough), Ok(()));

    let chain = kit::chain(4, &[]);
    let mut early = good_commit(&chain).body;
    early.proposal.body.roster_height = 1;
    assert_eq!(gate::commit(&Signed::by_author(early, &kit::author(1)), &chain), Err(GateError::RosterHeight(1)));
    let mut few = good_commit(&chain).body;
    few.proposal.body.ticketers = BoundedVec::new();
    let id = few.proposal.id();
    assert_eq!(gate::commit(&Signed::by_author(few, &kit::author(1)), &chain), Err(GateError::Ticketers(id, 3)));
}

#[test]
fn a_tracks_own_fields_agree() {
    assert_eq!(gate::track(&kit::track(1)), Ok(()));
    assert_eq!(gate::track(&kit::track(31)), Ok(()));
    type Change = fn(&mut Track);
    let good: Vec<(&str, Change)> = vec![
        ("one seed", |t| t.seeds = 1),
        ("eight seeds", |t| t.seeds = 8),
        ("the smallest margin", |t| t.margin = 1),
        ("the largest source", |t| t.source_bytes = 16384),
        ("a baseline as long as allowed", |t| t.source_bytes = u32::try_from(t.baseline.source.len()).unwrap()),
        ("digits and a dash", |t| t.name = "a-9".try_into().unwrap()),
        ("a blob of 4 GiB", |t| t.data = blobs(4 << 30)),
    ];
    for (name, change) in good {
        let mut track = kit::track(4);
        change(&mut track);
        assert_eq!(gate::track(&track), Ok(()), "{name}");
    }
    let bad: Vec<(Change, &str)> = vec![
        (|t| t.version = 0, "version"),
        (|t| t.version += 1, "version"),
        (|t| t.arithmetic += 1, "arithmetic"),
        (|t| t.name = Text::default(), "name"),
        (|t| t.name = "Names".try_into().unwrap(), "name"),
        (|t| t.name = "na mes".try_into().unwrap(), "name"),
        (|t| t.name = "../up".try_into().unwrap(), "name"),
        (|t| t.name = "n\u{e4}mes".try_into().unwrap(), "name"),
        (|t| t.seeds = 0, "number of seeds"),
        (|t| t.seeds = 9, "number of seeds"),
        (|t| t.segments = 15, "number of segments"),
        (|t| t.segments = 17, "number of segments"),
        (|t| t.margin = 0, "margin"),
        (|t| t.margin = -1, "margin"),
        (|t| t.source_bytes = 0, "source limit"),
        (|t| t.source_bytes = 16385, "source limit"),
        (|t| t.source_bytes = u32::try_from(t.baseline.source.len()).unwrap() - 1, "baseline is longer"),
        (|t| t.data = blobs((4 << 30) + 1), "data are larger"),
        (|t| t.data = BoundedVec::new(), "data are missing"),
        (|t| t.roster = BoundedVec::new(), "roster is empty"),
        (|t| t.roster = [kit::roster(4), kit::roster(1)].concat().try_into().unwrap(), "roster names a verifier twice"),
    ];
    for (change, want) in bad {
        let mut track = kit::track(4);
        change(&mut track);
        match gate::track(&track) {
            Err(GateError::BadTrack(what)) => assert!(what.starts_with(want), "{what}, not {want}"),
            other => panic!("{other:?} where its {want} is wrong"),
        }
    }
}

fn blobs(bytes: u64) -> BoundedVec<DataBlob, { limits::TRACK_BLOBS_MAX }> {
    vec![DataBlob { blob: BlobId([1; 32]), bytes }].try_into().unwrap()
}
