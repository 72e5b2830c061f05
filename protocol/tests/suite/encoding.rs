//! The canonical encoding, for every type that travels or is hashed.

use bincode::de::{BorrowDecode, BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use cairn_protocol::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use crate::arbitrary::Arb;

/// Values of each type, in each property.
const CASES: u32 = 12;
/// Bits flipped of one value; of longer ones, a spread of so many.
const FLIPS_MAX: usize = 512;

fn check<S: Strategy>(cases: u32, values: S, test: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(24), ..Config::default() };
    let result = TestRunner::new(config).run(&values, |value| {
        test(value);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// All that holds for any value of a type.
fn holds<T: Wire + Arb + PartialEq>() {
    check(CASES, T::arb(), |value: T| {
        let bytes = encode(&value);
        assert!(bytes.len() <= T::BYTES_MAX);
        assert_eq!(decode::<T>(&bytes), Ok(value));
        every_flip_is_another_value::<T>(&bytes);
        every_truncation_is_refused::<T>(&bytes);
        whatever_follows_is_refused::<T>(&bytes);
    });
    let garbage = proptest::collection::vec(any::<u8>(), 0..300);
    check(10 * CASES, garbage, |bytes| is_canonical_or_refused::<T>(&bytes));
    // Small numbers look like tags and lengths, so that more of the decoder is reached.
    let structured = proptest::collection::vec(prop_oneof![8 => Just(0u8), 2 => 0u8..9, 1 => any::<u8>()], 0..600);
    check(10 * CASES, structured, |bytes| is_canonical_or_refused::<T>(&bytes));
    let over = vec![0; T::BYTES_MAX + 1];
    assert_eq!(decode::<T>(&over).err(), Some(CodecError::TooLong { got: over.len(), max: T::BYTES_MAX }));
}

fn is_canonical_or_refused<T: Wire>(bytes: &[u8]) {
    if let Ok(value) = decode::<T>(bytes) {
        assert_eq!(encode(&value), bytes);
    }
}

fn every_flip_is_another_value<T: Wire + PartialEq>(bytes: &[u8]) {
    let value = decode::<T>(bytes).unwrap();
    let bits = bytes.len() * 8;
    for bit in (0..bits).step_by(bits.div_ceil(FLIPS_MAX).max(1)) {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = decode::<T>(&flipped) {
            assert!(other != value, "bit {bit} is in no field");
            assert_eq!(encode(&other), flipped, "bit {bit}");
        }
    }
}

fn every_truncation_is_refused<T: Wire>(bytes: &[u8]) {
    for len in (0..bytes.len()).step_by(bytes.len().div_ceil(FLIPS_MAX).max(1)) {
        assert!(matches!(decode::<T>(&bytes[..len]), Err(CodecError::Malformed(_))), "cut to {len} bytes");
    }
}

fn whatever_follows_is_refused<T: Wire>(bytes: &[u8]) {
    for (tail, len) in [(&[0u8][..], 1), (&[0xff; 7], 7), (bytes, bytes.len())] {
        let long = [bytes, tail].concat();
        let error = decode::<T>(&long).err();
        let too_long = CodecError::TooLong { got: long.len(), max: T::BYTES_MAX };
        let want = if long.len() > T::BYTES_MAX { too_long } else { CodecError::Trailing(len) };
        assert_eq!(error, Some(want));
    }
}

macro_rules! every_type {
    ($($test:ident: $type:ty;)*) => {
        $(#[test] fn $test() { holds::<$type>(); })*
    };
}
every_type! {
    track: Track;
    idea: Idea;
    reports: Reports;
    proposal: Proposal;
    ticket: Ticket;
    draft: Draft;
    commit: Commit;
    verdict: Verdict;
    entry: Entry;
    vote: Vote;
    certificate: Certificate;
    certified_entry: CertifiedEntry;
    commit_header: CommitHeader;
    signed_idea: Signed<Idea>;
    signed_reports: Signed<Reports>;
    signed_proposal: Signed<Proposal>;
    signed_ticket: Signed<Ticket>;
    signed_commit: Signed<Commit>;
    signed_verdict: Signed<Verdict>;
    gossip: Gossip;
    request: Request;
    response: Response;
    ask_neighbours: AskNeighbours;
    neighbours: Neighbours;
}

/// A type of the test alone, to reach what no record reaches.
#[derive(Debug, PartialEq, Encode, Decode)]
struct Claims {
    items: BoundedVec<[u8; 4096], { u32::MAX as usize }>,
}

impl Wire for Claims {
    const BYTES_MAX: usize = 64;
}

#[derive(Debug, PartialEq, Encode, Decode)]
struct ClaimsBytes {
    bytes: BoundedBytes<{ u32::MAX as usize }>,
}

impl Wire for ClaimsBytes {
    const BYTES_MAX: usize = 64;
}

#[test]
fn a_length_without_bytes_behind_it_allocates_nothing() {
    // 16 TiB of items: had they been reserved, the process would have been aborted.
    assert!(matches!(decode::<Claims>(&[0xff; 4]), Err(CodecError::Malformed(_))));
    assert!(matches!(decode::<Claims>(&[0xff; 64]), Err(CodecError::Malformed(_))));
    assert!(matches!(decode::<ClaimsBytes>(&[0xff; 4]), Err(CodecError::Malformed(_))));
    assert!(matches!(decode::<ClaimsBytes>(&[0xff; 64]), Err(CodecError::Malformed(_))));
}

#[test]
fn a_length_is_refused_at_the_bound_of_its_field() {
    let entries = |len: u32| [&1u32.to_be_bytes()[..], &len.to_be_bytes()].concat();
    let refused = |bytes: &[u8]| match decode::<Response>(bytes) {
        Err(CodecError::Malformed(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(refused(&entries(129)).contains("at most 128"), "above the bound");
    assert!(refused(&entries(u32::MAX)).contains("at most 128"), "far above the bound");
    assert!(!refused(&entries(128)).contains("at most"), "allowed, but nothing follows");
    let blob = |len: u32| [&3u32.to_be_bytes()[..], &[0; 8], &len.to_be_bytes()].concat();
    assert!(refused(&blob(262_145)).contains("at most 262144"));
    assert!(!refused(&blob(262_144)).contains("at most"));
}

/// Ignores seven of its eight bits: has 128 encodings of one value.
#[derive(Debug, PartialEq)]
struct Sloppy(u8);

impl Encode for Sloppy {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.encode(encoder)
    }
}

impl Decode<()> for Sloppy {
    fn decode<D: Decoder<Context = ()>>(decoder: &mut D) -> Result<Self, DecodeError> {
        u8::decode(decoder).map(|byte| Self(byte & 1))
    }
}

impl<'de> BorrowDecode<'de, ()> for Sloppy {
    fn borrow_decode<D: BorrowDecoder<'de, Context = ()>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

impl Wire for Sloppy {
    const BYTES_MAX: usize = 1;
}

#[test]
fn a_second_encoding_of_a_value_is_refused() {
    assert_eq!(decode::<Sloppy>(&[1]), Ok(Sloppy(1)));
    for byte in 2..=255 {
        assert_eq!(decode::<Sloppy>(&[byte]), Err(CodecError::NotCanonical));
    }
}

/// The largest value of a type fits its limit, so that nothing valid is too long to send.
fn fits<T: Wire>(name: &str, value: &T) -> usize {
    let bytes = encode(value);
    assert!(bytes.len() <= T::BYTES_MAX, "{name}: {} of {} bytes", bytes.len(), T::BYTES_MAX);
    assert!(decode::<T>(&bytes).is_ok(), "{name}");
    bytes.len()
}

fn text<const N: usize>() -> Text<N> {
    "x".repeat(N).try_into().unwrap()
}

fn full<T: Clone, const N: usize>(item: T) -> BoundedVec<T, N> {
    vec![item; N].try_into().unwrap()
}

#[test]
fn the_largest_values_fit_their_limits() {
    let (signature, key) = (Signature([0; 64]), VerifierKey([0; 32]));
    let author = AuthorKey([0; 32]);
    let track = Track {
        name: text(),
        title: text(),
        description: text(),
        converter: text(),
        data: full(DataBlob { blob: BlobId([0; 32]), bytes: 0 }),
        baseline: Baseline { source: text(), graph: GraphId([0; 32]), metric: 0, test: 0 },
        roster: full(key),
        continues: Some(Continues { track: TrackId([0; 32]), tip: EntryId([0; 32]) }),
        ..crate::kit::track(1)
    };
    fits("track", &track);
    let idea = Idea { track: TrackId([0; 32]), author, title: text(), text: text(), source: text() };
    let report = Report {
        base: GraphId([0; 32]),
        graph: GraphId([0; 32]),
        summary: text(),
        metric: 0,
        seed: 0,
        status: ReportStatus::Done,
        proposer: text(),
    };
    let reports = Reports { track: TrackId([0; 32]), author, batch: 0, results: full(report) };
    let proposal = Proposal {
        track: TrackId([0; 32]),
        author,
        commitment: Commitment([0; 32]),
        roster_height: 0,
        ticketers: full(key),
        stamp: 0,
    };
    let judged =
        Judged { item: Item::Segment { seed: 0, segment: 0 }, finding: Finding::Bad { found: Hash32([0; 32]) } };
    let verdict = Verdict { track: TrackId([0; 32]), commit: CommitId([0; 32]), verifier: key, findings: full(judged) };
    let draft = Draft {
        parent: Some(CommitId([0; 32])),
        source: text(),
        graph: GraphId([0; 32]),
        title: text(),
        why: text(),
        idea: Some(IdeaId([0; 32])),
        researcher: Researcher { kind: text(), model: text(), program: Hash32([0; 32]) },
    };
    fits("draft", &draft);
    let commit = Commit {
        proposal: Signed { body: proposal.clone(), signature },
        tickets: full(signature),
        salt: Hash32([0; 32]),
        draft,
        runs: full(Run { metric: 0, test: 0, leaves: full(Hash32([0; 32])) }),
        effort: 0,
    };
    fits("commit", &commit);
    let claim = Claim { metric: 0, test: 0 };
    let (commit_id, proposal_id) = (CommitId([0; 32]), ProposalId([0; 32]));
    let entry = Entry {
        track: TrackId([0; 32]),
        height: 0,
        previous: EntryId([0; 32]),
        kind: EntryKind::Queued { commit: commit_id, proposal: proposal_id, author, claim },
    };
    let votes = full(SeatSignature { seat: 0, signature });
    let certified = CertifiedEntry { entry, certificate: Certificate { votes } };
    fits("entry", &certified);
    let gossip = [
        Gossip::Idea(Signed { body: idea, signature }),
        Gossip::Reports(Signed { body: reports, signature }),
        Gossip::Proposal(Signed { body: proposal, signature }),
        Gossip::Verdict(Signed { body: verdict, signature }),
        Gossip::Entry(certified.clone()),
    ];
    let largest = gossip.iter().max_by_key(|gossip| fits(gossip.kind(), *gossip)).unwrap();
    fits("pending", &Response::Pending { records: full(largest.clone()), more: true });
    fits("entries", &Response::Entries(full(certified)));
    fits("body", &Response::Commit(Box::new(Signed { body: commit, signature })));
    fits("track", &Response::Track(Box::new(track)));
    let bytes = vec![0; limits::CHUNK_BYTES_MAX].try_into().unwrap();
    fits("blob", &Response::Blob { total: 0, bytes });
    let neighbour = Neighbour { peer: PeerKey([0; 32]), addresses: full(text()) };
    fits("neighbours", &Neighbours { peers: full(neighbour) });
}
