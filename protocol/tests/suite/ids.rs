//! Ids: their text, and what they are hashes of.

use std::collections::BTreeSet;

use cairn_protocol::*;
use proptest::prelude::*;

use crate::kit;

#[test]
fn an_id_reads_back_from_its_digits() {
    let id = TrackId(std::array::from_fn(|i| u8::try_from(i * 8).unwrap()));
    let text = id.to_string();
    assert_eq!(text, "0008101820283038404850586068707880889098a0a8b0b8c0c8d0d8e0e8f0f8");
    assert_eq!(text.parse(), Ok(id));
    assert_eq!(text.to_uppercase().parse(), Ok(id));
    assert_eq!(format!("{id:?}"), text);
    assert_eq!(id.short(), "00081018");
}

#[test]
fn other_texts_are_no_ids() {
    let digits = "0".repeat(64);
    let texts = [
        String::new(),
        digits[1..].to_owned(),
        format!("{digits}0"),
        digits.replacen('0', "g", 1),
        digits.replacen("00", "+1", 1),
        digits.replacen("00", "é", 1),
        digits.replacen("000", "0é", 1),
        "é".repeat(32),
        format!(" {}", &digits[1..]),
    ];
    for text in texts {
        let error = text.parse::<CommitId>().unwrap_err();
        assert_eq!(error.to_string(), format!("`{text}` is not 64 hexadecimal digits"));
    }
    let long = "x".repeat(1000).parse::<CommitId>().unwrap_err().to_string();
    assert!(long.len() < 120, "a hostile text is not repeated at length");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reading_an_id_never_panics(text in ".{0,70}") {
        if let Ok(id) = text.parse::<Hash32>() {
            prop_assert_eq!(id.to_string(), text.to_lowercase());
        }
    }
}

#[test]
fn an_id_is_the_hash_of_its_record_in_a_context_of_its_own() {
    fn of<T: Record>(context: &str, record: &T) -> [u8; 32]
    where
        T::Id: Into<Bytes>,
    {
        let id: Bytes = record.id().into();
        assert_eq!(id.0, blake3::derive_key(context, &encode(record)), "{context}");
        id.0
    }
    let chain = kit::chain(4, &[]);
    let commit = kit::commit(&chain, &kit::author(1), kit::BASE - 200, 1);
    let proposal = commit.body.proposal.body.clone();
    let ids = BTreeSet::from([
        of("cairn 1 track", chain.track()),
        of("cairn 1 draft", &commit.body.draft),
        of("cairn 1 commit", &commit.body),
        of("cairn 1 ticket", &kit::ticket(&proposal, 0).body),
        of("cairn 1 proposal", &proposal),
        of("cairn 1 entry", &chain.next(kit::queued(1, 1, 1))),
    ]);
    assert_eq!(ids.len(), 6);
    let empty = TrackId([0; 32]);
    let verdict = Verdict {
        track: empty,
        commit: CommitId([0; 32]),
        verifier: VerifierKey([0; 32]),
        findings: BoundedVec::new(),
    };
    of("cairn 1 verdict", &verdict);
    let author = AuthorKey([0; 32]);
    of(
        "cairn 1 idea",
        &Idea { track: empty, author, title: Text::default(), text: Text::default(), source: Text::default() },
    );
    of("cairn 1 reports", &Reports { track: empty, author, batch: 0, results: BoundedVec::new() });
    let gossip = Gossip::Proposal(commit.body.proposal);
    assert_eq!(gossip.id().0, blake3::derive_key("cairn 1 gossip", &encode(&gossip)));
}

/// Any id, as bytes.
struct Bytes([u8; 32]);
macro_rules! bytes {
    ($($id:ident)*) => { $(impl From<$id> for Bytes { fn from(id: $id) -> Self { Self(id.0) } })* };
}
bytes!(TrackId IdeaId Hash32 ProposalId CommitId EntryId);

#[test]
fn a_signature_is_no_part_of_an_id_but_of_its_gossip() {
    let chain = kit::chain(4, &[]);
    let mut signed =
        Signed::by_author(kit::proposal(&chain, &kit::author(1), &kit::draft(), Hash32([1; 32])), &kit::author(1));
    let (record, gossip) = (signed.id(), Gossip::Proposal(signed.clone()).id());
    signed.signature.0[0] ^= 1;
    assert_eq!(signed.id(), record);
    assert_ne!(Gossip::Proposal(signed).id(), gossip);
}

#[test]
fn a_blob_is_named_by_its_plain_hash() {
    // What `b3sum` prints for an empty file.
    let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    assert_eq!(BlobId::of(b"").to_string(), empty);
    assert_eq!(Seed::numbered(5).0, blake3::derive_key("cairn 1 numbered seed", &5u64.to_be_bytes()));
}

#[test]
fn every_kind_of_gossip_has_one_name_and_one_channel() {
    let chain = kit::chain(4, &[]);
    let track = chain.id();
    let commit = kit::commit(&chain, &kit::author(1), kit::BASE - 200, 1);
    let proposal = commit.body.proposal.clone();
    let ticket = kit::ticket(&proposal.body, 0);
    let author = kit::author(1);
    let idea =
        Idea { track, author: author.public(), title: Text::default(), text: Text::default(), source: Text::default() };
    let reports = Reports { track, author: author.public(), batch: 1, results: BoundedVec::new() };
    let verdict =
        Verdict { track, commit: commit.id(), verifier: kit::verifier(0).public(), findings: BoundedVec::new() };
    let entry = chain.next(kit::queued(1, 1, 1));
    let all = [
        (Gossip::Idea(Signed::by_author(idea, &author)), "idea", "reports"),
        (Gossip::Reports(Signed::by_author(reports, &author)), "reports", "reports"),
        (Gossip::Proposal(proposal), "proposal", "work"),
        (Gossip::Ticket(ticket), "ticket", "work"),
        (Gossip::Commit(commit.header()), "commit-header", "work"),
        (Gossip::Verdict(Signed::by_verifier(verdict, &kit::verifier(0))), "verdict", "work"),
        (Gossip::Candidate(Candidate::sign(entry.clone(), &kit::verifier(0))), "candidate", "chain"),
        (Gossip::Vote(Vote::sign(&entry, &kit::verifier(0))), "vote", "chain"),
        (Gossip::Entry(kit::certified(entry, &[0, 1, 2])), "entry", "chain"),
    ];
    for (gossip, kind, channel) in &all {
        assert_eq!((gossip.kind(), gossip.channel().name(), gossip.track()), (*kind, *channel, track));
        assert_eq!(cairn_protocol::gate::receive(&encode(gossip)).as_ref(), Ok(gossip));
    }
    assert_eq!(Channel::ALL.map(Channel::name), ["work", "chain", "reports"]);
}
