//! A home with a chain: board, log, show, diff, replay. The commits in it were really run, or forged in one place.

use cairn_protocol::{
    AuthorSecret, Certificate, CertifiedEntry, ChainState, Commit, CommitId, Draft, EntryKind, GraphId, Hash32,
    Proposal, Researcher, Run, SeatSignature, Signed, Text, Ticket, Track, VerifierSecret, Vote, commitment,
    official_seeds,
};
use cairn_store::Store;
use serde_json::Value;

use crate::support::{Home, has};

const CHANGED: (&str, &str) = ("LR = 1e-2 ", "LR = 2e-2 ");

/// A home whose store holds a track with one verifier.
struct World {
    home: Home,
    dir: String,
    author: AuthorSecret,
    verifier: VerifierSecret,
    store: Store,
    chain: ChainState,
}

impl World {
    fn new() -> Self {
        let home = Home::new();
        let dir = home.small_track().to_str().unwrap().to_string();
        let verifier = VerifierSecret::from_bytes(&[7; 32]);
        home.json(&["track", "open", &dir, "--roster", &verifier.public().to_string()]);
        let store = Store::open(&home.path().join("home")).unwrap();
        let track: Track = store.tracks().unwrap().pop().unwrap();
        let chain = ChainState::new(track);
        Self { home, dir, author: AuthorSecret::from_bytes(&[8; 32]), verifier, store, chain }
    }

    fn source(&self) -> String {
        let baseline = self.chain.track().baseline.source.to_string();
        assert!(baseline.contains(CHANGED.0));
        baseline.replace(CHANGED.0, CHANGED.1)
    }

    /// A commit that was run officially; `forge` may change its runs before it is signed.
    fn commit(&self, salt: u8, forge: impl FnOnce(&mut Vec<Run>)) -> Signed<Commit> {
        let file = self.home.file("train.py", &self.source());
        let program = file.to_str().unwrap();
        let graph = self.home.json(&["trace", program, "--track", &self.dir])["graph"].as_str().unwrap().to_string();
        let draft = Draft {
            parent: None,
            source: Text::try_from(self.source()).unwrap(),
            graph: graph.parse::<GraphId>().unwrap(),
            title: Text::truncated("LR 1e-2 → 2e-2"),
            why: Text::truncated("a higher rate learns faster\u{1b}[31m"),
            idea: None,
            researcher: Researcher {
                kind: Text::truncated("test"),
                model: Text::default(),
                program: Hash32::default(),
            },
        };
        let salt = Hash32([salt; 32]);
        let proposal = Proposal {
            track: self.chain.id(),
            author: self.author.public(),
            commitment: commitment(self.author.public(), &draft, salt),
            roster_height: 0,
            ticketers: vec![self.verifier.public()].try_into().unwrap(),
            stamp: 0,
        };
        let proposal = Signed::by_author(proposal.stamp(), &self.author);
        let ticket = Ticket { track: self.chain.id(), proposal: proposal.id(), ticketer: self.verifier.public() };
        let tickets = vec![Signed::by_verifier(ticket, &self.verifier).signature];
        let seeds = official_seeds(proposal.id(), &tickets, usize::from(self.chain.track().seeds));
        let mut runs: Vec<Run> = seeds
            .iter()
            .map(|seed| {
                let ran = self.home.json(&["run", program, "--track", &self.dir, "--seed", &seed.to_string()]);
                let leaf = |leaf: &Value| leaf.as_str().unwrap().parse::<Hash32>().unwrap();
                let leaves: Vec<Hash32> = ran["leaves"].as_array().unwrap().iter().map(leaf).collect();
                Run {
                    metric: ran["metric_units"].as_i64().unwrap(),
                    test: ran["test_metric_units"].as_i64().unwrap(),
                    leaves: leaves.try_into().unwrap(),
                }
            })
            .collect();
        forge(&mut runs);
        let (tickets, runs) = (tickets.try_into().unwrap(), runs.try_into().unwrap());
        Signed::by_author(Commit { proposal, tickets, salt, draft, runs, effort: 5 }, &self.author)
    }

    fn append(&mut self, kind: EntryKind) {
        let entry = self.chain.next(kind);
        let vote = Vote::sign(&entry, &self.verifier);
        vote.verify().unwrap();
        let votes = vec![SeatSignature { seat: 0, signature: vote.signature }].try_into().unwrap();
        let certified = CertifiedEntry { entry, certificate: Certificate { votes } };
        self.chain.apply(&certified).unwrap();
        self.store.append(&[certified]).unwrap();
    }

    fn queue(&mut self, commit: &Signed<Commit>) -> CommitId {
        self.store.put_commit(commit, 1).unwrap();
        let (id, body) = (commit.id(), &commit.body);
        let (proposal, author, claim) = (body.proposal.id(), body.author(), body.claim());
        self.append(EntryKind::Queued { commit: id, proposal, author, claim });
        id
    }
}

#[test]
fn an_accepted_commit_is_shown_compared_and_confirmed() {
    let mut world = World::new();
    let commit = world.commit(1, |_| {});
    let id = world.queue(&commit);
    world.append(EntryKind::Accepted { commit: id });
    let entry = world.chain.head().unwrap().entry.to_string();
    let home = &world.home;

    // The store is still open for writing: readers work beside it.
    let board = home.json(&["board", "small"]);
    has(&board, &["track", "head", "entries"]);
    assert_eq!(board["head"]["id"], entry.as_str());
    let row = &board["entries"][0];
    has(row, &["height", "id", "commit", "author", "metric", "improvement", "confirmed_by"]);
    assert_eq!((row["height"].as_u64(), row["confirmed_by"].as_u64()), (Some(2), Some(1)));
    assert_eq!(row["metric"], board["head"]["metric"]);
    assert!(row["improvement"].as_f64().unwrap() > 0.0);

    let log = home.run(&["log"]);
    assert!(log.out.contains(&entry[..8]) && log.out.contains("LR 1e-2 → 2e-2"), "{}", log.all());
    assert!(!log.out.contains('\u{1b}'), "a stranger's text obeyed by the terminal");
    assert_eq!(home.run(&["log", "--all", "--json"]).out.lines().count(), 2);
    assert_eq!(home.run(&["log", "--all", "--json", "-n", "1"]).out.lines().count(), 1);

    for named in [&entry[..8], &id.to_string()[..8]] {
        let shown = home.json(&["show", named]);
        assert_eq!(shown["commit"], id.to_string().as_str());
        assert_eq!((shown["status"].as_str(), shown["parent"].as_str()), (Some("accepted"), Some("baseline")));
        assert_eq!(shown["runs"].as_array().unwrap().len(), 3);
    }
    assert_eq!(home.run(&["show", &entry[..8], "--source"]).out, world.source());

    let diff = home.run(&["diff", &entry[..8]]);
    assert!(
        diff.out.contains(&format!("-{}", CHANGED.0)) && diff.out.contains(&format!("+{}", CHANGED.1)),
        "{}",
        diff.out
    );
    let diff = home.json(&["diff", "baseline", &entry[..8]]);
    assert!(diff["equal"] == false && diff["diff"].as_str().unwrap().contains("@@"), "{diff}");
    assert_eq!(home.json(&["diff", &entry[..8], &id.to_string()])["equal"], true);

    let replayed = home.json(&["replay", &entry[..8]]);
    has(&replayed, &["verdict", "metric_units", "segments_checked", "seconds"]);
    assert_eq!((replayed["verdict"].as_str(), replayed["segments_checked"].as_u64()), (Some("confirmed"), Some(48)));
    assert_eq!(replayed["metric_units"].as_i64(), Some(commit.body.claim().metric));
    let people = home.run(&["replay", &id.to_string()[..8], "--threads", "1", "--isa", "scalar"]);
    assert!(people.code == 0 && people.out.starts_with("confirmed: "), "{}", people.all());

    let ran = home.run(&["replay", "zz"]);
    assert!(ran.code == 2 && ran.err.contains("hexadecimal"), "{}", ran.all());
    let nobody = if entry.starts_with('0') { "1" } else { "0" }.repeat(40);
    assert_eq!(home.run(&["show", &nobody]).code, 2);
}

#[test]
fn a_forged_commit_is_refuted_with_its_place() {
    let mut world = World::new();
    let bit = world.commit(2, |runs| {
        let mut leaves = runs[1].leaves.to_vec();
        leaves[5].0[31] ^= 1;
        runs[1].leaves = leaves.try_into().unwrap();
    });
    let metric = world.commit(3, |runs| runs[2].metric -= 1);
    for (commit, words) in [(bit, "seed 1, segment 5"), (metric, "seed 2: the metric")] {
        let id = world.queue(&commit).to_string();
        let ran = world.home.run(&["replay", &id[..10], "--json"]);
        assert_eq!(ran.code, 3, "{}", ran.all());
        let verdict = ran.last();
        assert_eq!(verdict["verdict"], "refuted");
        assert!(verdict["why"].as_str().unwrap().contains(words), "{verdict}");
        assert!(world.home.run(&["replay", &id[..10]]).out.starts_with("refuted: "));
    }
    // A ticket that was never signed changes the seeds: nothing needs to be run to refute that.
    let mut commit = world.commit(4, |_| {});
    let mut tickets = commit.body.tickets.to_vec();
    tickets[0].0[0] ^= 1;
    commit.body.tickets = tickets.try_into().unwrap();
    let commit = Signed::by_author(commit.body, &world.author);
    let id = world.queue(&commit).to_string();
    let ran = world.home.run(&["replay", &id[..10], "--json"]);
    assert_eq!((ran.code, ran.last()["segments_checked"].as_u64()), (3, Some(0)), "{}", ran.all());
}

#[test]
fn a_body_that_is_not_here_is_said_to_be_missing() {
    let mut world = World::new();
    let commit = world.commit(5, |_| {});
    let (id, body) = (commit.id(), &commit.body);
    let queued =
        EntryKind::Queued { commit: id, proposal: body.proposal.id(), author: body.author(), claim: body.claim() };
    world.append(queued);
    for command in ["show", "replay", "diff"] {
        let ran = world.home.run(&[command, &id.to_string()[..8]]);
        assert_eq!(ran.code, 1, "{command}: {}", ran.all());
        assert!(ran.err.contains("is not") && ran.err.contains("cairn node"), "{command}: {}", ran.err);
    }
}
