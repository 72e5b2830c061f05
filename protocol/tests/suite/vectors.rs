//! Golden vectors: bytes and ids that other implementations, and later versions of this one, must
//! reproduce. The files are written again, with `CAIRN_WRITE_VECTORS` set, only for a deliberate
//! change of the wire format.

use std::fmt::Write;
use std::path::PathBuf;

use cairn_protocol::*;

use crate::kit;

/// Set to write the files instead of comparing with them.
const WRITE: &str = "CAIRN_WRITE_VECTORS";

const ABOUT: &str = "\
# Golden vectors of the wire format (docs/spec/wire.md). A line is a name and lowercase hexadecimal digits.
# Changed only by `cargo xtask vectors`, together with the specification and the version.
";

/// Lines of one file.
struct Lines(String);

impl Lines {
    fn new(about: &str) -> Self {
        Self(format!("{ABOUT}# {about}\n"))
    }
    fn line(&mut self, name: &str, bytes: &[u8]) {
        writeln!(self.0, "{name} {}", to_hex(bytes)).unwrap();
    }
    fn record<T: Record>(&mut self, name: &str, record: &T)
    where
        T::Id: AsRef<[u8]>,
    {
        self.wire(&format!("{name}.bytes"), record);
        self.line(&format!("{name}.id"), record.id().as_ref());
    }
    fn signed<T: Signable>(&mut self, name: &str, signed: &Signed<T>)
    where
        T::Id: AsRef<[u8]>,
        Signed<T>: Wire,
    {
        signed.verify().unwrap();
        self.record(name, &signed.body);
        self.line(&format!("{name}.statement"), &signed.body.statement());
        self.line(&format!("{name}.signature"), &signed.signature.0);
    }
    fn wire<T: Wire>(&mut self, name: &str, value: &T) {
        let bytes = encode(value);
        decode::<T>(&bytes).unwrap();
        self.line(name, &bytes);
    }
    /// Compares with the file, line by line, or writes it.
    fn hold(self, file: &str) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file);
        if std::env::var_os(WRITE).is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            return std::fs::write(path, self.0).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        for (golden, now) in golden.lines().zip(self.0.lines()) {
            assert_eq!(now, golden, "{file}: `cargo xtask vectors` writes it again, if this change is meant");
        }
        assert_eq!(self.0.lines().count(), golden.lines().count(), "{file} has other lines");
    }
}

/// One value of each record, all about one claim.
struct World {
    chain: ChainState,
    commit: Signed<Commit>,
    idea: Signed<Idea>,
    reports: Signed<Reports>,
    verdict: Signed<Verdict>,
}

fn world() -> World {
    let author = kit::author(1);
    let chain = kit::chain(4, &[]);
    let commit = kit::commit(&chain, &author, kit::BASE - kit::MARGIN, 1);
    let idea = Idea {
        track: chain.id(),
        author: author.public(),
        title: "Warm up".try_into().unwrap(),
        text: "Begin with a small learning rate: ½ of it.".try_into().unwrap(),
        source: "https://example.org/1".try_into().unwrap(),
    };
    let report = |status, metric| Report {
        base: GraphId([8; 32]),
        graph: GraphId([9; 32]),
        summary: "lr 0.01 → 0.02".try_into().unwrap(),
        metric,
        seed: 5,
        status,
        proposer: "knobs".try_into().unwrap(),
    };
    let results = vec![report(ReportStatus::Done, 123), report(ReportStatus::Diverged, -1)];
    let reports =
        Reports { track: chain.id(), author: author.public(), batch: 2, results: results.try_into().unwrap() };
    let findings = vec![
        Judged { item: Item::Segment { seed: 0, segment: 3 }, finding: Finding::Good { proof: Hash32([4; 32]) } },
        Judged { item: Item::Segment { seed: 1, segment: 0 }, finding: Finding::Cannot },
        Judged { item: Item::Evaluation { seed: 1 }, finding: Finding::Bad { found: Hash32([5; 32]) } },
    ];
    let verdict = Verdict {
        track: chain.id(),
        commit: commit.id(),
        verifier: kit::verifier(0).public(),
        findings: findings.try_into().unwrap(),
    };
    World {
        commit,
        idea: Signed::by_author(idea, &author),
        reports: Signed::by_author(reports, &author),
        verdict: Signed::by_verifier(verdict, &kit::verifier(0)),
        chain,
    }
}

impl World {
    /// Entries of every kind; not a chain.
    fn entries(&self) -> Vec<(&'static str, Entry)> {
        let body = &self.commit.body;
        let (commit, proposal, author) = (self.commit.id(), body.proposal.id(), body.author());
        let refused = |why| EntryKind::Refused { commit, why };
        let kinds = [
            ("queued", EntryKind::Queued { commit, proposal, author, claim: body.claim() }),
            ("accepted", EntryKind::Accepted { commit }),
            ("refused.not-a-record", refused(Refusal::NotARecord)),
            ("refused.test-worse", refused(Refusal::TestWorse)),
            ("refused.refuted", refused(Refusal::Refuted(Item::Segment { seed: 1, segment: 15 }))),
            ("refused.skipped", refused(Refusal::Skipped(Item::Evaluation { seed: 1 }))),
            ("roster", EntryKind::Roster { seat: 3, verifier: kit::verifier(9).public() }),
        ];
        kinds.map(|(name, kind)| (name, self.chain.next(kind))).to_vec()
    }
}

#[test]
fn vectors_of_records() {
    let world = world();
    let mut lines = Lines::new("Records: canonical bytes, id, what is signed, signature.");
    lines.record("track", world.chain.track());
    let tip = EntryId([6; 32]);
    let continued = Track { continues: Some(Continues { track: world.chain.id(), tip }), ..kit::track(1) };
    lines.record("track.continued", &continued);
    lines.signed("idea", &world.idea);
    lines.signed("reports", &world.reports);
    lines.record("draft", &world.commit.body.draft);
    let later = Draft { parent: Some(CommitId([1; 32])), idea: None, ..kit::draft() };
    lines.record("draft.with-parent", &later);
    lines.signed("proposal", &world.commit.body.proposal);
    lines.signed("ticket", &kit::ticket(&world.commit.body.proposal.body, 0));
    lines.signed("commit", &world.commit);
    lines.signed("verdict", &world.verdict);
    for (name, entry) in world.entries() {
        lines.record(&format!("entry.{name}"), &entry);
        let vote = Vote::sign(&entry, &kit::verifier(0));
        lines.line(&format!("entry.{name}.vote.statement"), &Vote::statement(entry.height, entry.id()));
        lines.line(&format!("entry.{name}.vote.signature"), &vote.signature.0);
    }
    lines.hold("records.txt");
}

#[test]
fn vectors_of_messages() {
    let world = world();
    let mut lines = Lines::new("Gossip (canonical bytes and id), requests, responses.");
    let (_, entry) = world.entries().remove(0);
    let candidate = Candidate::sign(entry.clone(), &kit::verifier(0));
    let vote = Vote::sign(&entry, &kit::verifier(1));
    let certified = kit::certified(entry.clone(), &[0, 1, 2]);
    let all = [
        Gossip::Idea(world.idea),
        Gossip::Reports(world.reports),
        Gossip::Proposal(world.commit.body.proposal.clone()),
        Gossip::Ticket(kit::ticket(&world.commit.body.proposal.body, 1)),
        Gossip::Commit(world.commit.header()),
        Gossip::Verdict(world.verdict),
        Gossip::Candidate(candidate),
        Gossip::Vote(vote.clone()),
        Gossip::Entry(certified.clone()),
    ];
    for gossip in &all {
        lines.wire(&format!("gossip.{}.bytes", gossip.kind()), gossip);
        lines.line(&format!("gossip.{}.id", gossip.kind()), gossip.id().as_ref());
    }
    lines.wire("vote.bytes", &vote);
    lines.wire("certificate.bytes", &certified.certificate);
    lines.wire("certified-entry.bytes", &certified);
    let (track, commit) = (world.chain.id(), world.commit.id());
    lines.wire("request.tip.bytes", &Request::Tip { track });
    lines.wire("request.entries.bytes", &Request::Entries { track, from: 7, max: 128 });
    lines.wire("request.commit.bytes", &Request::Commit { track, commit });
    lines.wire("request.blob.bytes", &Request::Blob { blob: BlobId::of(b"anna\nbob\n"), offset: 5, len: 4 });
    lines.wire("request.track.bytes", &Request::Track { track });
    lines.wire("request.pending.bytes", &Request::Pending { track, after: Hash32::default() });
    lines.wire("response.tip.bytes", &Response::Tip { height: 1, entry: entry.id() });
    lines.wire("response.entries.bytes", &Response::Entries(vec![certified].try_into().unwrap()));
    lines.wire("response.commit.bytes", &Response::Commit(Box::new(world.commit)));
    lines.wire("response.blob.bytes", &Response::Blob { total: 9, bytes: b"bob\n".to_vec().try_into().unwrap() });
    lines.wire("response.track.bytes", &Response::Track(Box::new(kit::track(1))));
    let records = vec![Gossip::Vote(vote)].try_into().unwrap();
    lines.wire("response.pending.bytes", &Response::Pending { records, more: true });
    lines.wire("response.not-found.bytes", &Response::NotFound);
    lines.wire("response.busy.bytes", &Response::Busy);
    lines.wire("ask-neighbours.bytes", &AskNeighbours { max: 16 });
    let addresses = vec![Text::try_from("/ip4/192.0.2.1/udp/4001/quic-v1").unwrap()].try_into().unwrap();
    let peers = vec![Neighbour { peer: PeerSecret::from_bytes(&[7; 32]).public(), addresses }].try_into().unwrap();
    lines.wire("neighbours.bytes", &Neighbours { peers });
    lines.hold("messages.txt");
}

#[test]
fn vectors_of_what_is_derived() {
    let world = world();
    let body = &world.commit.body;
    let mut lines = Lines::new("Keys, signatures and hashes that are made of records.");
    for number in [1u8, 2] {
        let secret = kit::author(number);
        lines.line(&format!("key.{number}.secret"), &secret.to_bytes());
        lines.line(&format!("key.{number}.public"), secret.public().as_ref());
    }
    let domains = [
        ("reports", Domain::Reports),
        ("idea", Domain::Idea),
        ("proposal", Domain::Proposal),
        ("ticket", Domain::Ticket),
        ("commit", Domain::Commit),
        ("verdict", Domain::Verdict),
        ("candidate", Domain::Candidate),
        ("vote", Domain::Vote),
    ];
    for (name, domain) in domains {
        // Key 1, track 22…22, hash 33…33.
        let signature = kit::author(1).sign(domain, &TrackId([0x22; 32]), &[0x33; 32]);
        lines.line(&format!("signature.{name}"), &signature.0);
    }
    lines.line("commitment", body.proposal.body.commitment.as_ref());
    lines.line("stamp", &body.proposal.body.stamp.to_be_bytes());
    for (j, seed) in body.seeds().iter().enumerate() {
        lines.line(&format!("official-seed.{j}"), seed.as_ref());
    }
    lines.line("numbered-seed.0", Seed::numbered(0).as_ref());
    lines.line("numbered-seed.1337", Seed::numbered(1337).as_ref());
    for (seed, segment, len) in [(0u8, 0u16, 1u64), (0, 0, 2), (0, 1, 63), (1, 15, 1 << 20)] {
        let step = inside_step(kit::verifier(0).public(), world.commit.id(), seed, segment, len);
        lines.line(&format!("inside-step.{seed}.{segment}.{len}"), &step.to_be_bytes());
    }
    lines.line("evaluation.-5.7", evaluation_hash(-5, 7).as_ref());
    lines.line("blob.empty", BlobId::of(b"").as_ref());
    lines.hold("derived.txt");
}
