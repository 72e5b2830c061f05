//! Keys, tracks, commits and certificates to test with.

use cairn_protocol::*;

/// Margin of the track.
pub(crate) const MARGIN: i64 = 100;
/// Metric of the baseline.
pub(crate) const BASE: i64 = 10_000;
/// Test metric of the baseline.
pub(crate) const BASE_TEST: i64 = 11_000;

pub(crate) fn author(number: u8) -> AuthorSecret {
    AuthorSecret::from_bytes(&[number; 32])
}

/// The secret of the verifier in seat `number` of a roster of [`roster`].
pub(crate) fn verifier(number: u8) -> VerifierSecret {
    VerifierSecret::from_bytes(&[number.wrapping_add(100); 32])
}

pub(crate) fn roster(seats: u8) -> Vec<VerifierKey> {
    (0..seats).map(|seat| verifier(seat).public()).collect()
}

/// A valid track with `seats` verifiers.
pub(crate) fn track(seats: u8) -> Track {
    Track {
        version: limits::WIRE_VERSION,
        arithmetic: limits::ARITHMETIC_VERSION,
        name: "names".try_into().unwrap(),
        title: "Names, one letter at a time".try_into().unwrap(),
        description: "What a small model learns of 32,033 names.".try_into().unwrap(),
        kind: TrackKind::Train,
        budget: 1_000_000_000,
        memory: 64 << 20,
        parameters: 100_000,
        source_bytes: 8192,
        literal_bits: 4096,
        seeds: 2,
        segments: limits::SEGMENTS,
        margin: MARGIN,
        converter: "names".try_into().unwrap(),
        data: vec![DataBlob { blob: BlobId::of(b"anna\nbob\n"), bytes: 9 }].try_into().unwrap(),
        baseline: Baseline {
            source: "def model(x):\n    return x\n".try_into().unwrap(),
            graph: GraphId([7; 32]),
            metric: BASE,
            test: BASE_TEST,
        },
        owner: author(9).public(),
        roster: roster(seats).try_into().unwrap(),
        continues: None,
    }
}

pub(crate) fn draft() -> Draft {
    Draft {
        parent: None,
        source: "def model(x):\n    return 2 * x\n".try_into().unwrap(),
        graph: GraphId([8; 32]),
        title: "Twice as much".try_into().unwrap(),
        why: "Two is more than one.".try_into().unwrap(),
        idea: Some(IdeaId([3; 32])),
        researcher: Researcher {
            kind: "knobs".try_into().unwrap(),
            model: Text::default(),
            program: Hash32::default(),
        },
    }
}

/// A stamped proposal of `draft` that names the first q seats of the chain's roster.
pub(crate) fn proposal(chain: &ChainState, by: &AuthorSecret, draft: &Draft, salt: Hash32) -> Proposal {
    let named = chain.roster().iter().take(chain.quorum().votes).copied().collect::<Vec<_>>();
    Proposal {
        track: chain.id(),
        author: by.public(),
        commitment: commitment(by.public(), draft, salt),
        roster_height: chain.height(),
        ticketers: named.try_into().unwrap(),
        stamp: 0,
    }
    .stamp()
}

/// The ticket of the verifier in `seat`.
pub(crate) fn ticket(proposal: &Proposal, seat: u8) -> Signed<Ticket> {
    let secret = verifier(seat);
    Signed::by_verifier(Ticket { track: proposal.track, proposal: proposal.id(), ticketer: secret.public() }, &secret)
}

pub(crate) fn run(metric: i64, test: i64, leaves: u16) -> Run {
    let leaves: Vec<Hash32> =
        (0..leaves).map(|j| Hash32(hash("test leaf", &[&metric.to_be_bytes(), &j.to_be_bytes()]))).collect();
    Run { metric, test, leaves: leaves.try_into().unwrap() }
}

/// A valid commit to `chain`, whose runs all reach `metric` and the baseline's test metric.
pub(crate) fn commit(chain: &ChainState, by: &AuthorSecret, metric: i64, salt: u8) -> Signed<Commit> {
    let (draft, salt) = (draft(), Hash32([salt; 32]));
    let proposal = proposal(chain, by, &draft, salt);
    let seats = u8::try_from(proposal.ticketers.len()).unwrap();
    let tickets: Vec<Signature> = (0..seats).map(|seat| ticket(&proposal, seat).signature).collect();
    let runs = (0..chain.track().seeds).map(|_| run(metric, BASE_TEST, chain.track().segments)).collect::<Vec<_>>();
    let body = Commit {
        proposal: Signed::by_author(proposal, by),
        tickets: tickets.try_into().unwrap(),
        salt,
        draft,
        runs: runs.try_into().unwrap(),
        effort: 17,
    };
    Signed::by_author(body, by)
}

/// `entry` with the votes of `seats`, in the order given.
pub(crate) fn certified(entry: Entry, seats: &[u8]) -> CertifiedEntry {
    let votes: Vec<SeatSignature> = seats
        .iter()
        .map(|seat| SeatSignature { seat: *seat, signature: Vote::sign(&entry, &verifier(*seat)).signature })
        .collect();
    CertifiedEntry { entry, certificate: Certificate { votes: votes.try_into().unwrap() } }
}

/// An entry that queues a commit made up of `number`, with a claim of `metric` and `test`.
pub(crate) fn queued(number: u8, metric: i64, test: i64) -> EntryKind {
    EntryKind::Queued {
        commit: CommitId([number; 32]),
        proposal: ProposalId([number; 32]),
        author: author(number).public(),
        claim: Claim { metric, test },
    }
}

/// A chain of `seats` verifiers after entries of these `kinds`.
pub(crate) fn chain(seats: u8, kinds: &[EntryKind]) -> ChainState {
    let mut chain = ChainState::new(track(seats));
    kinds.iter().for_each(|kind| append(&mut chain, kind.clone()).unwrap());
    chain
}

/// Appends an entry that the first q seats certify.
pub(crate) fn append(chain: &mut ChainState, kind: EntryKind) -> Result<(), ChainError> {
    let seats: Vec<u8> = (0u8..).take(chain.quorum().votes).collect();
    chain.apply(&certified(chain.next(kind), &seats))
}
