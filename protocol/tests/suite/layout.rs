//! Bytes written by hand from `docs/spec/wire.md`: they bind the specification to the code.

use cairn_protocol::*;

/// Bytes, one field after another.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    fn u8(self, value: u8) -> Self {
        self.raw(&[value])
    }
    fn u16(self, value: u16) -> Self {
        self.raw(&value.to_be_bytes())
    }
    fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }
    fn u64(self, value: u64) -> Self {
        self.raw(&value.to_be_bytes())
    }
    fn i64(self, value: i64) -> Self {
        self.raw(&value.to_be_bytes())
    }
    fn text(self, text: &str) -> Self {
        self.u32(u32::try_from(text.len()).unwrap()).raw(text.as_bytes())
    }
    fn ids(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self, |fields, byte| fields.raw(&[*byte; 32]))
    }
}

fn fields() -> Fields {
    Fields::default()
}

#[track_caller]
fn same<T: Wire + PartialEq + std::fmt::Debug>(value: &T, by_hand: Fields) {
    assert_eq!(to_hex(&encode(value)), to_hex(&by_hand.0));
    assert_eq!(decode::<T>(&by_hand.0).as_ref(), Ok(value));
}

#[test]
fn a_track_is_its_fields_in_order() {
    let track = Track {
        version: 1,
        arithmetic: 2,
        name: "n".try_into().unwrap(),
        title: "ti".try_into().unwrap(),
        description: "déf".try_into().unwrap(),
        kind: TrackKind::Train,
        budget: 3,
        memory: 4,
        parameters: 5,
        source_bytes: 6,
        literal_bits: 7,
        seeds: 8,
        segments: 9,
        margin: -10,
        converter: "c".try_into().unwrap(),
        data: vec![DataBlob { blob: BlobId([11; 32]), bytes: 12 }].try_into().unwrap(),
        baseline: Baseline { source: "s".try_into().unwrap(), graph: GraphId([13; 32]), metric: 14, test: -15 },
        owner: AuthorKey([16; 32]),
        roster: vec![VerifierKey([17; 32]), VerifierKey([18; 32])].try_into().unwrap(),
        continues: Some(Continues { track: TrackId([19; 32]), tip: EntryId([20; 32]) }),
    };
    let start = || fields().u16(1).u16(2).text("n").text("ti").text("déf").u32(0).u64(3).u64(4).u64(5).u32(6).u32(7);
    let rest = |start: Fields| {
        let rules = start.u8(8).u16(9).i64(-10).text("c").u32(1).ids(&[11]).u64(12);
        rules.text("s").ids(&[13]).i64(14).i64(-15).ids(&[16]).u32(2).ids(&[17, 18])
    };
    same(&track, rest(start()).u8(1).ids(&[19, 20]));
    same(&Track { continues: None, ..track }, rest(start()).u8(0));
}

#[test]
fn ideas_and_reports_are_their_fields_in_order() {
    let idea = Idea {
        track: TrackId([1; 32]),
        author: AuthorKey([2; 32]),
        title: "t".try_into().unwrap(),
        text: "xx".try_into().unwrap(),
        source: Text::default(),
    };
    let idea_bytes = || fields().ids(&[1, 2]).text("t").text("xx").text("");
    same(&idea, idea_bytes());
    let signed = Signed { body: idea, signature: Signature([9; 64]) };
    same(&signed, idea_bytes().raw(&[9; 64]));
    same(&Gossip::Idea(signed), fields().u32(0).raw(&idea_bytes().0).raw(&[9; 64]));
    for (tag, status) in [ReportStatus::Done, ReportStatus::Stopped, ReportStatus::Diverged, ReportStatus::Refused]
        .into_iter()
        .enumerate()
    {
        let report = Report {
            base: GraphId([3; 32]),
            graph: GraphId([4; 32]),
            summary: "lr 1 → 2".try_into().unwrap(),
            metric: 5,
            seed: 6,
            status,
            proposer: "knobs".try_into().unwrap(),
        };
        let results = vec![report].try_into().unwrap();
        let reports = Reports { track: TrackId([1; 32]), author: AuthorKey([2; 32]), batch: 8, results };
        let head = fields().ids(&[1, 2]).u64(8).u32(1).ids(&[3, 4]).text("lr 1 → 2").i64(5).u64(6);
        same(&reports, head.u32(u32::try_from(tag).unwrap()).text("knobs"));
    }
}

#[test]
fn a_claim_is_its_fields_in_order() {
    let proposal = Proposal {
        track: TrackId([1; 32]),
        author: AuthorKey([2; 32]),
        commitment: Commitment([3; 32]),
        roster_height: 4,
        ticketers: vec![VerifierKey([5; 32])].try_into().unwrap(),
        stamp: 6,
    };
    let proposal_bytes = fields().ids(&[1, 2, 3]).u64(4).u32(1).ids(&[5]).u64(6).0;
    same(&proposal, fields().raw(&proposal_bytes));
    let ticket = Ticket { track: TrackId([1; 32]), proposal: ProposalId([7; 32]), ticketer: VerifierKey([5; 32]) };
    same(&ticket, fields().ids(&[1, 7, 5]));
    let draft = Draft {
        parent: None,
        source: "s".try_into().unwrap(),
        graph: GraphId([8; 32]),
        title: "t".try_into().unwrap(),
        why: "w".try_into().unwrap(),
        idea: Some(IdeaId([9; 32])),
        researcher: Researcher {
            kind: "k".try_into().unwrap(),
            model: "m".try_into().unwrap(),
            program: Hash32([10; 32]),
        },
    };
    let tail = |start: Fields| start.text("s").ids(&[8]).text("t").text("w").u8(1).ids(&[9]);
    let draft_bytes = tail(fields().u8(0)).text("k").text("m").ids(&[10]).0;
    same(&draft, fields().raw(&draft_bytes));
    let later = Draft { parent: Some(CommitId([11; 32])), ..draft.clone() };
    same(&later, tail(fields().u8(1).ids(&[11])).text("k").text("m").ids(&[10]));
    let commit = Commit {
        proposal: Signed { body: proposal, signature: Signature([12; 64]) },
        tickets: vec![Signature([13; 64])].try_into().unwrap(),
        salt: Hash32([14; 32]),
        draft,
        runs: vec![Run { metric: 15, test: -16, leaves: vec![Hash32([17; 32])].try_into().unwrap() }]
            .try_into()
            .unwrap(),
        effort: 18,
    };
    let head = fields().raw(&proposal_bytes).raw(&[12; 64]).u32(1).raw(&[13; 64]).ids(&[14]).raw(&draft_bytes);
    same(&commit, head.u32(1).i64(15).i64(-16).u32(1).ids(&[17]).u64(18));
    let header = CommitHeader {
        track: TrackId([1; 32]),
        author: AuthorKey([2; 32]),
        commit: CommitId([3; 32]),
        proposal: ProposalId([4; 32]),
        signature: Signature([5; 64]),
    };
    same(&header, fields().ids(&[1, 2, 3, 4]).raw(&[5; 64]));
}

#[test]
fn a_verdict_is_its_fields_in_order() {
    let findings = vec![
        Judged { item: Item::Segment { seed: 1, segment: 2 }, finding: Finding::Good { proof: Hash32([3; 32]) } },
        Judged { item: Item::Segment { seed: 1, segment: 4 }, finding: Finding::Cannot },
        Judged { item: Item::Evaluation { seed: 0 }, finding: Finding::Bad { found: Hash32([5; 32]) } },
    ];
    let verdict = Verdict {
        track: TrackId([6; 32]),
        commit: CommitId([7; 32]),
        verifier: VerifierKey([8; 32]),
        findings: findings.try_into().unwrap(),
    };
    let head = fields().ids(&[6, 7, 8]).u32(3).u32(0).u8(1).u16(2).u32(0).ids(&[3]);
    same(&verdict, head.u32(0).u8(1).u16(4).u32(2).u32(1).u8(0).u32(1).ids(&[5]));
}

/// An entry of each kind, with what follows its tag.
fn entry_kinds() -> Vec<(EntryKind, Fields)> {
    let commit = CommitId([1; 32]);
    let claim = Claim { metric: -4, test: 5 };
    let queued = EntryKind::Queued { commit, proposal: ProposalId([2; 32]), author: AuthorKey([3; 32]), claim };
    let refused = |why| EntryKind::Refused { commit, why };
    vec![
        (queued, fields().u32(0).ids(&[1, 2, 3]).i64(-4).i64(5)),
        (EntryKind::Accepted { commit }, fields().u32(1).ids(&[1])),
        (refused(Refusal::NotARecord), fields().u32(2).ids(&[1]).u32(0)),
        (refused(Refusal::TestWorse), fields().u32(2).ids(&[1]).u32(1)),
        (
            refused(Refusal::Refuted(Item::Segment { seed: 6, segment: 7 })),
            fields().u32(2).ids(&[1]).u32(2).u32(0).u8(6).u16(7),
        ),
        (refused(Refusal::Skipped(Item::Evaluation { seed: 8 })), fields().u32(2).ids(&[1]).u32(3).u32(1).u8(8)),
        (EntryKind::Roster { seat: 9, verifier: VerifierKey([10; 32]) }, fields().u32(3).u8(9).ids(&[10])),
    ]
}

#[test]
fn the_chain_is_its_fields_in_order() {
    for (kind, kind_bytes) in entry_kinds() {
        let entry = Entry { track: TrackId([11; 32]), height: 12, previous: EntryId([13; 32]), kind };
        let bytes = fields().ids(&[11]).u64(12).ids(&[13]).raw(&kind_bytes.0).0;
        same(&entry, fields().raw(&bytes));
        let votes = vec![SeatSignature { seat: 14, signature: Signature([15; 64]) }];
        let certificate = Certificate { votes: votes.try_into().unwrap() };
        same(&certificate, fields().u32(1).u8(14).raw(&[15; 64]));
        let certified = CertifiedEntry { entry: entry.clone(), certificate };
        let certified_bytes = fields().raw(&bytes).u32(1).u8(14).raw(&[15; 64]).0;
        same(&certified, fields().raw(&certified_bytes));
        same(&Gossip::Entry(certified), fields().u32(8).raw(&certified_bytes));
        let candidate = Candidate { entry, sequencer: VerifierKey([16; 32]), signature: Signature([17; 64]) };
        same(&Gossip::Candidate(candidate), fields().u32(6).raw(&bytes).ids(&[16]).raw(&[17; 64]));
    }
    let vote = Vote {
        track: TrackId([1; 32]),
        height: 2,
        entry: EntryId([3; 32]),
        verifier: VerifierKey([4; 32]),
        signature: Signature([5; 64]),
    };
    let vote_bytes = fields().ids(&[1]).u64(2).ids(&[3, 4]).raw(&[5; 64]).0;
    same(&vote, fields().raw(&vote_bytes));
    same(&Gossip::Vote(vote), fields().u32(7).raw(&vote_bytes));
}

#[test]
fn requests_and_responses_are_their_fields_in_order() {
    let track = TrackId([1; 32]);
    same(&Request::Tip { track }, fields().u32(0).ids(&[1]));
    same(&Request::Entries { track, from: 2, max: 3 }, fields().u32(1).ids(&[1]).u64(2).u16(3));
    same(&Request::Commit { track, commit: CommitId([4; 32]) }, fields().u32(2).ids(&[1, 4]));
    same(&Request::Blob { blob: BlobId([5; 32]), offset: 6, len: 7 }, fields().u32(3).ids(&[5]).u64(6).u32(7));
    same(&Request::Track { track }, fields().u32(4).ids(&[1]));
    same(&Request::Pending { track, after: Hash32([8; 32]) }, fields().u32(5).ids(&[1, 8]));

    same(&Response::Tip { height: 1, entry: EntryId([2; 32]) }, fields().u32(0).u64(1).ids(&[2]));
    same(&Response::Entries(BoundedVec::new()), fields().u32(1).u32(0));
    let bytes = vec![1, 2, 3].try_into().unwrap();
    same(&Response::Blob { total: 4, bytes }, fields().u32(3).u64(4).u32(3).raw(&[1, 2, 3]));
    let track = crate::kit::track(4);
    let track_bytes = encode(&track);
    same(&Response::Track(Box::new(track)), fields().u32(4).raw(&track_bytes));
    for more in [false, true] {
        let pending = Response::Pending { records: BoundedVec::new(), more };
        same(&pending, fields().u32(5).u32(0).u8(u8::from(more)));
    }
    same(&Response::NotFound, fields().u32(6));
    same(&Response::Busy, fields().u32(7));

    same(&AskNeighbours { max: 3 }, fields().u16(3));
    let addresses = vec![Text::try_from("/ip4/1.2.3.4/tcp/5").unwrap()].try_into().unwrap();
    let peers = vec![Neighbour { peer: PeerKey([6; 32]), addresses }].try_into().unwrap();
    same(&Neighbours { peers }, fields().u32(1).ids(&[6]).u32(1).text("/ip4/1.2.3.4/tcp/5"));
}

#[track_caller]
fn refused<T: Wire + std::fmt::Debug>(by_hand: Fields) {
    let got = decode::<T>(&by_hand.0);
    assert!(matches!(got, Err(CodecError::Malformed(_))), "{got:?}");
}

#[test]
fn tags_that_name_nothing_are_refused() {
    refused::<Gossip>(fields().u32(9).raw(&[0; 400]));
    refused::<Gossip>(fields().u32(u32::MAX).raw(&[0; 400]));
    refused::<Request>(fields().u32(6).raw(&[0; 64]));
    refused::<Response>(fields().u32(8));
    let entry = |tag| fields().ids(&[1]).u64(1).ids(&[2]).u32(tag);
    refused::<Entry>(entry(4).raw(&[0; 200]));
    refused::<Entry>(entry(2).ids(&[3]).u32(4).raw(&[0; 8]));
    refused::<Entry>(entry(2).ids(&[3]).u32(3).u32(2).u8(0));
    let finding = |item, finding| fields().ids(&[1, 2, 3]).u32(1).u32(item).u8(0).u32(finding);
    assert!(decode::<Verdict>(&finding(1, 2).0).is_ok());
    refused::<Verdict>(finding(2, 2));
    refused::<Verdict>(finding(1, 3));
    let report = |status| fields().ids(&[1, 2]).u64(0).u32(1).ids(&[3, 4]).text("").i64(0).u64(0).u32(status).text("");
    assert!(decode::<Reports>(&report(3).0).is_ok());
    refused::<Reports>(report(4));
}

#[test]
fn booleans_and_options_are_zero_or_one() {
    let pending = |more| fields().u32(5).u32(0).u8(more);
    let draft = |parent| fields().u8(parent).text("").ids(&[1]).text("").text("").u8(0).text("").text("").ids(&[2]);
    assert!(decode::<Response>(&pending(1).0).is_ok());
    assert!(decode::<Draft>(&draft(0).0).is_ok());
    for byte in 2..=255 {
        refused::<Response>(pending(byte));
        refused::<Draft>(draft(byte));
    }
}

#[test]
fn texts_are_utf8() {
    let idea =
        |title: &[u8]| fields().ids(&[1, 2]).u32(u32::try_from(title.len()).unwrap()).raw(title).text("").text("");
    assert!(decode::<Idea>(&idea("é".as_bytes()).0).is_ok());
    // A lone continuation, an overlong slash, a surrogate, a cut character, beyond Unicode.
    for title in [&b"\x80"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xc3", b"\xf4\x90\x80\x80"] {
        refused::<Idea>(idea(title));
    }
}

#[test]
fn a_field_longer_than_its_type_is_refused() {
    let idea = |title: usize, text: usize, source: usize| {
        let of = |len| "a".repeat(len);
        fields().ids(&[1, 2]).text(&of(title)).text(&of(text)).text(&of(source))
    };
    assert!(decode::<Idea>(&idea(120, 2048, 512).0).is_ok());
    for over in [idea(121, 2048, 512), idea(120, 2049, 512), idea(120, 2048, 513)] {
        refused::<Idea>(over);
    }
    let proposal = |named: u8| {
        let keys: Vec<u8> = (0..named).collect();
        fields().ids(&[1, 2, 3]).u64(0).u32(u32::from(named)).ids(&keys).u64(0)
    };
    assert!(decode::<Proposal>(&proposal(21).0).is_ok());
    refused::<Proposal>(proposal(22));
}
