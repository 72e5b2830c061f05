//! Verifiers in a seeded network in memory, with loss, delays, restarts and liars.
//!
//! Every record travels as bytes through the real codec and gate. Traces and replays are computed
//! by [`truth`], a stand-in for the engine that is just as deterministic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use cairn_protocol::chain::Status;
use cairn_protocol::settle;
use cairn_protocol::*;
use cairn_verifier::{Input, Machine, Output};

/// A small seeded generator: SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

const MARGIN: i64 = 1000;
const BASE: i64 = 1_000_000;

/// What a run of `source` with `seed` really gives.
fn truth(source: &str, seed: &Seed) -> Run {
    let gain: i64 = source.strip_prefix("gain ").and_then(|g| g.parse().ok()).unwrap_or(0);
    let noise = i64::from(seed.0[0]) % 10;
    let leaves: Vec<Hash32> =
        (0u8..16).map(|j| Hash32(hash("test leaf", &[source.as_bytes(), &seed.0, &[j]]))).collect();
    Run { metric: BASE - gain + noise, test: BASE - gain + noise, leaves: leaves.try_into().unwrap() }
}

fn honest_findings(commit: &Signed<Commit>) -> Vec<Judged> {
    let (body, mut segments, mut evaluations) = (&commit.body, Vec::new(), Vec::new());
    for (j, (seed, claimed)) in (0u8..).zip(body.seeds().iter().zip(&body.runs)) {
        let run = truth(&body.draft.source, seed);
        for (i, (leaf, claimed)) in (0u16..).zip(run.leaves.iter().zip(&claimed.leaves)) {
            let finding = if leaf == claimed {
                Finding::Good { proof: Hash32(hash("test inside", &[&leaf.0])) }
            } else {
                Finding::Bad { found: *leaf }
            };
            segments.push(Judged { item: Item::Segment { seed: j, segment: i }, finding });
        }
        let found = evaluation_hash(run.metric, run.test);
        let good = found == evaluation_hash(claimed.metric, claimed.test);
        let finding = if good { Finding::Good { proof: found } } else { Finding::Bad { found } };
        evaluations.push(Judged { item: Item::Evaluation { seed: j }, finding });
    }
    segments.extend(evaluations);
    segments
}

/// How a verifier judges.
#[derive(Clone, Copy, PartialEq)]
enum Judge {
    Honest,
    YesMan,
    CryWolf,
    Mute,
}

fn findings(judge: Judge, commit: &Signed<Commit>) -> Option<Vec<Judged>> {
    let mut all = honest_findings(commit);
    for judged in &mut all {
        match judge {
            Judge::Honest => {}
            Judge::YesMan => judged.finding = Finding::Good { proof: Hash32([1; 32]) },
            Judge::CryWolf => judged.finding = Finding::Bad { found: Hash32([2; 32]) },
            Judge::Mute => return None,
        }
    }
    Some(all)
}

fn verifier_secret(seat: usize) -> VerifierSecret {
    VerifierSecret::from_bytes(&hash("test verifier", &[&(seat as u64).to_be_bytes()]))
}

fn author_secret(number: u64) -> AuthorSecret {
    AuthorSecret::from_bytes(&hash("test author", &[&number.to_be_bytes()]))
}

fn test_track(seats: usize) -> Track {
    let roster: Vec<VerifierKey> = (0..seats).map(|seat| verifier_secret(seat).public()).collect();
    let blob = DataBlob { blob: BlobId::of(b"data"), bytes: 4 };
    let track = Track {
        version: limits::WIRE_VERSION,
        arithmetic: limits::ARITHMETIC_VERSION,
        name: "test".try_into().unwrap(),
        title: "A test".try_into().unwrap(),
        description: Text::default(),
        kind: TrackKind::Train,
        budget: 1_000_000,
        memory: 1 << 20,
        parameters: 1000,
        source_bytes: 16 * 1024,
        literal_bits: 4096,
        seeds: 3,
        segments: 16,
        margin: MARGIN,
        converter: "names".try_into().unwrap(),
        data: vec![blob].try_into().unwrap(),
        baseline: Baseline {
            source: "gain 0".try_into().unwrap(),
            graph: GraphId([7; 32]),
            metric: BASE + 9,
            test: BASE + 9,
        },
        owner: author_secret(0).public(),
        roster: roster.try_into().unwrap(),
        continues: None,
    };
    gate::track(&track).unwrap();
    track
}

/// A change to a commit's content before its author signs it.
type Tamper = fn(&mut Commit);

/// An author who makes one commit.
struct Worker {
    secret: AuthorSecret,
    proposal: Signed<Proposal>,
    draft: Draft,
    salt: Hash32,
    tickets: BTreeMap<VerifierKey, Signature>,
    tamper: Option<Tamper>,
    start_ms: u64,
    commit: Option<Signed<Commit>>,
}

impl Worker {
    fn new(track: &Track, number: u64, source: &str, start_ms: u64, tamper: Option<Tamper>) -> Self {
        let secret = author_secret(number);
        let draft = Draft {
            parent: None,
            source: source.try_into().unwrap(),
            graph: GraphId(hash("test graph", &[source.as_bytes()])),
            title: "better".try_into().unwrap(),
            why: Text::default(),
            idea: None,
            researcher: Researcher {
                kind: "test".try_into().unwrap(),
                model: Text::default(),
                program: Hash32([0; 32]),
            },
        };
        let salt = Hash32(hash("test salt", &[&number.to_be_bytes()]));
        let q = settle::quorum(track.seats()).votes;
        // The last q seats: not always the same as the sequencer's.
        let ticketers = track.roster[track.seats() - q..].to_vec();
        let proposal = Proposal {
            track: track.id(),
            author: secret.public(),
            commitment: commitment(secret.public(), &draft, salt),
            roster_height: 0,
            ticketers: ticketers.try_into().unwrap(),
            stamp: 0,
        }
        .stamp();
        let proposal = Signed::by_author(proposal, &secret);
        Self { secret, proposal, draft, salt, tickets: BTreeMap::new(), tamper, start_ms, commit: None }
    }

    fn hear(&mut self, gossip: &Gossip) {
        if let Gossip::Ticket(ticket) = gossip
            && ticket.body.proposal == self.proposal.id()
        {
            self.tickets.insert(ticket.body.ticketer, ticket.signature);
        }
        if self.commit.is_none() && self.tickets.len() == self.proposal.body.ticketers.len() {
            let tickets: Vec<Signature> = self.proposal.body.ticketers.iter().map(|t| self.tickets[t]).collect();
            let seeds = official_seeds(self.proposal.id(), &tickets, 3);
            let runs: Vec<Run> = seeds.iter().map(|seed| truth(&self.draft.source, seed)).collect();
            let mut commit = Commit {
                proposal: self.proposal.clone(),
                tickets: tickets.try_into().unwrap(),
                salt: self.salt,
                draft: self.draft.clone(),
                runs: runs.try_into().unwrap(),
                effort: 1,
            };
            if let Some(tamper) = self.tamper {
                tamper(&mut commit);
            }
            self.commit = Some(Signed::by_author(commit, &self.secret));
        }
    }
}

/// What a verifier's disk holds.
#[derive(Default, Clone)]
struct Disk {
    entries: Vec<CertifiedEntry>,
    records: Vec<Gossip>,
    bodies: Vec<Signed<Commit>>,
}

#[expect(clippy::large_enum_variant, reason = "test traffic, consumed at once")]
enum Message {
    Bytes(Vec<u8>),
    Body(Box<Signed<Commit>>),
    Own(u64, Input),
    Entries(Vec<CertifiedEntry>),
}

struct Sim {
    track: Track,
    rng: Rng,
    now: u64,
    loss_percent: u64,
    judges: Vec<Judge>,
    machines: Vec<Machine>,
    lives: Vec<u64>,
    disks: Vec<Disk>,
    workers: Vec<Worker>,
    mail: BTreeMap<(u64, u64), (usize, Message)>,
    sent: u64,
    votes: BTreeMap<(VerifierKey, u64), BTreeSet<EntryId>>,
    unsound: BTreeSet<CommitId>,
    /// Whether a peer that answers first hands out bodies with another signature.
    forged_signatures: bool,
}

impl Sim {
    fn new(seats: usize, seed: u64, loss_percent: u64) -> Self {
        let track = test_track(seats);
        let machines = (0..seats)
            .map(|seat| Machine::restore(ChainState::new(track.clone()), verifier_secret(seat), vec![], vec![], 0))
            .collect();
        Self {
            track,
            rng: Rng(seed),
            now: 0,
            loss_percent,
            judges: vec![Judge::Honest; seats],
            machines,
            lives: vec![0; seats],
            disks: vec![Disk::default(); seats],
            workers: Vec::new(),
            mail: BTreeMap::new(),
            sent: 0,
            votes: BTreeMap::new(),
            unsound: BTreeSet::new(),
            forged_signatures: false,
        }
    }

    fn worker(&mut self, number: u64, source: &str, start_ms: u64, tamper: Option<Tamper>) {
        self.workers.push(Worker::new(&self.track, number, source, start_ms, tamper));
    }

    fn post(&mut self, to: usize, delay: u64, message: Message) {
        self.sent += 1;
        self.mail.insert((self.now + delay, self.sent), (to, message));
    }

    fn lossy(&mut self, to: usize, message: Message) {
        if self.rng.below(100) >= self.loss_percent {
            let delay = 5 + self.rng.below(200);
            self.post(to, delay, message);
        }
    }

    fn gossip(&mut self, from: Option<usize>, gossip: &Gossip) {
        for to in (0..self.machines.len()).filter(|to| Some(*to) != from) {
            self.lossy(to, Message::Bytes(encode(gossip)));
        }
        for worker in &mut self.workers {
            worker.hear(gossip);
        }
    }

    fn step(&mut self, at: usize, input: Input) {
        let outputs = self.machines[at].step(input, self.now);
        let stored_first = |disk: &Disk, gossip: &Gossip| disk.records.contains(gossip);
        for output in outputs {
            match output {
                Output::Store(gossip) => self.disks[at].records.push(gossip),
                Output::StoreCommit(body) => self.disks[at].bodies.push(*body),
                Output::Append(entry) => self.disks[at].entries.push(entry),
                Output::Publish(gossip) => {
                    if let Gossip::Vote(vote) = &gossip {
                        self.votes.entry((vote.verifier, vote.height)).or_default().insert(vote.entry);
                    }
                    assert!(
                        matches!(gossip, Gossip::Entry(_)) || stored_first(&self.disks[at], &gossip),
                        "published before it was stored: {gossip:?}"
                    );
                    self.gossip(Some(at), &gossip);
                }
                Output::FetchCommit(id) => {
                    let body = self.workers.iter().filter_map(|w| w.commit.clone()).find(|c| c.id() == id);
                    if let Some(body) = body {
                        if self.forged_signatures {
                            let forged = Signed { signature: Signature([7; 64]), ..body.clone() };
                            self.post(at, 0, Message::Body(Box::new(forged)));
                        }
                        self.lossy(at, Message::Body(Box::new(body)));
                    }
                }
                Output::Trace(body) => {
                    let result =
                        if body.body.draft.source.contains("unsound") { Err("unsound".into()) } else { Ok(()) };
                    let life = self.lives[at];
                    self.post(at, 20, Message::Own(life, Input::Traced { commit: body.id(), result }));
                }
                Output::Replay(body) => {
                    if let Some(findings) = findings(self.judges[at], &body) {
                        let (life, delay) = (self.lives[at], 500 + self.rng.below(500));
                        self.post(at, delay, Message::Own(life, Input::Replayed { commit: body.id(), findings }));
                    }
                }
                Output::StopReplay(_) => {}
                Output::Sync { .. } => self.anti_entropy(at),
                Output::Event(cairn_verifier::Event::Unsound { commit, .. }) => {
                    self.unsound.insert(commit);
                }
                Output::Event(_) => {}
            }
        }
    }

    /// `at` asks one other for entries and pending records.
    fn anti_entropy(&mut self, at: usize) {
        let others = self.machines.len() as u64;
        let peer = self.rng.below(others) as usize;
        let height = self.machines[at].chain().height() as usize;
        let entries: Vec<_> = self.disks[peer].entries.iter().skip(height).cloned().collect();
        if !entries.is_empty() {
            self.lossy(at, Message::Entries(entries));
        }
        for gossip in self.machines[peer].pending() {
            self.lossy(at, Message::Bytes(encode(&gossip)));
        }
    }

    /// Kills a verifier and starts it again from its disk; answers to its past life are lost.
    fn restart(&mut self, at: usize) {
        let disk = self.disks[at].clone();
        let mut chain = ChainState::new(self.track.clone());
        for entry in &disk.entries {
            chain.apply(entry).unwrap();
        }
        self.lives[at] += 1;
        self.machines[at] = Machine::restore(chain, verifier_secret(at), disk.records, disk.bodies, self.now);
    }

    /// Runs until `done` or the time is over.
    fn run(&mut self, until_ms: u64, restarts: bool, done: impl Fn(&Sim) -> bool) {
        let mut next_tick = 0;
        while self.now < until_ms && !done(self) {
            let due = self.mail.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            if due < next_tick {
                let ((at, _), (to, message)) = self.mail.pop_first().unwrap();
                self.now = at;
                self.deliver(to, message);
                continue;
            }
            self.now = next_tick;
            next_tick += 250;
            for at in 0..self.machines.len() {
                if restarts && self.rng.below(6) == 0 {
                    self.restart(at);
                }
                self.step(at, Input::Tick);
                if self.rng.below(4) == 0 {
                    self.anti_entropy(at);
                }
            }
            let say: Vec<Gossip> = self
                .workers
                .iter()
                .filter(|w| w.start_ms <= self.now)
                .map(|w| match &w.commit {
                    None => Gossip::Proposal(w.proposal.clone()),
                    Some(commit) => Gossip::Commit(commit.header()),
                })
                .collect();
            say.iter().for_each(|gossip| self.gossip(None, gossip));
            let pending: Vec<Gossip> = self.machines.iter().flat_map(Machine::pending).collect();
            self.workers.iter_mut().for_each(|w| pending.iter().for_each(|gossip| w.hear(gossip)));
        }
        for ((verifier, height), entries) in &self.votes {
            assert_eq!(entries.len(), 1, "{verifier} voted for two entries at height {height}");
        }
    }

    fn deliver(&mut self, to: usize, message: Message) {
        match message {
            Message::Bytes(bytes) => {
                if let Ok(gossip) = gate::receive(&bytes) {
                    self.step(to, Input::Gossip(gossip));
                }
            }
            Message::Body(body) => self.step(to, Input::Commit(body)),
            Message::Own(life, input) if life == self.lives[to] => self.step(to, input),
            Message::Own(..) => {}
            Message::Entries(entries) => {
                for entry in entries {
                    self.step(to, Input::Gossip(Gossip::Entry(entry)));
                }
            }
        }
    }

    fn commit(&self, worker: usize) -> CommitId {
        self.workers[worker].commit.as_ref().expect("the worker got its tickets").id()
    }

    fn everywhere(&self, worker: usize) -> Option<Status> {
        let id = self.workers[worker].commit.as_ref()?.id();
        let status = self.machines[0].chain().status(id)?;
        let same = self.machines.iter().all(|m| m.chain().status(id) == Some(status));
        (same && status != Status::Queued).then_some(status)
    }

    fn one_chain(&self) {
        let longest = self.disks.iter().max_by_key(|disk| disk.entries.len()).unwrap();
        for disk in &self.disks {
            for (a, b) in disk.entries.iter().zip(&longest.entries) {
                assert_eq!(a.entry, b.entry, "two chains");
            }
        }
    }
}

fn settle_one(
    seats: usize,
    seed: u64,
    source: &str,
    tamper: Option<Tamper>,
    judges: &[Judge],
) -> (Sim, Option<Status>) {
    let mut sim = Sim::new(seats, seed, 20);
    sim.judges[..judges.len()].copy_from_slice(judges);
    sim.worker(1, source, 0, tamper);
    sim.run(120_000, false, |sim| sim.everywhere(0).is_some());
    sim.one_chain();
    let status = sim.everywhere(0);
    (sim, status)
}

#[test]
fn an_honest_record_is_accepted_despite_losses() {
    for (seats, seeds) in [(1, 3), (2, 3), (4, 12), (7, 4)] {
        for seed in 0..seeds {
            let (sim, status) = settle_one(seats, seed, "gain 5000", None, &[]);
            assert_eq!(status, Some(Status::Accepted), "{seats} seats, seed {seed}");
            let head = sim.machines[0].chain().head().unwrap();
            assert_eq!(head.claim, sim.workers[0].commit.as_ref().unwrap().body.claim());
            assert_eq!(head.credit, BASE + 9 - head.claim.metric);
        }
    }
}

#[test]
fn a_forged_metric_is_refused() {
    let tamper: Tamper = |commit| {
        let mut runs = commit.runs.to_vec();
        runs.iter_mut().for_each(|run| run.metric -= 1);
        commit.runs = runs.try_into().unwrap();
    };
    for seed in 0..6 {
        let (sim, status) = settle_one(4, seed, "gain 5000", Some(tamper), &[]);
        assert_eq!(status, Some(Status::Refused(Refusal::Refuted(Item::Evaluation { seed: 0 }))), "seed {seed}");
        assert!(sim.machines[0].chain().head().is_none());
    }
}

#[test]
fn one_flipped_bit_of_one_leaf_is_refused() {
    let tamper: Tamper = |commit| {
        let mut runs = commit.runs.to_vec();
        let mut leaves = runs[1].leaves.to_vec();
        leaves[11].0[31] ^= 1;
        runs[1].leaves = leaves.try_into().unwrap();
        commit.runs = runs.try_into().unwrap();
    };
    for seed in 0..6 {
        let (_, status) = settle_one(4, seed, "gain 5000", Some(tamper), &[]);
        let item = Item::Segment { seed: 1, segment: 11 };
        assert_eq!(status, Some(Status::Refused(Refusal::Refuted(item))), "seed {seed}");
    }
}

#[test]
fn a_changed_ticket_or_draft_is_never_queued() {
    let tampers: [Tamper; 4] = [
        |commit| {
            let mut tickets = commit.tickets.to_vec();
            tickets[0].0[5] ^= 1;
            commit.tickets = tickets.try_into().unwrap();
        },
        |commit| {
            let mut tickets = commit.tickets.to_vec();
            tickets.swap(0, 1);
            commit.tickets = tickets.try_into().unwrap();
        },
        |commit| commit.draft.source = "gain 9000".try_into().unwrap(),
        |commit| commit.salt.0[0] ^= 1,
    ];
    for (number, tamper) in tampers.into_iter().enumerate() {
        let mut sim = Sim::new(4, number as u64, 5);
        sim.worker(1, "gain 5000", 0, Some(tamper));
        sim.run(20_000, false, |_| false);
        assert!(sim.unsound.contains(&sim.commit(0)), "tamper {number}");
        assert!(sim.machines.iter().all(|m| m.chain().height() == 0), "tamper {number}");
    }
}

#[test]
fn a_body_with_a_forged_signature_does_not_discredit_the_commit() {
    let mut sim = Sim::new(4, 8, 10);
    sim.forged_signatures = true;
    sim.worker(1, "gain 5000", 0, None);
    sim.run(60_000, false, |sim| sim.everywhere(0).is_some());
    assert_eq!(sim.everywhere(0), Some(Status::Accepted));
}

#[test]
fn an_unsound_program_is_never_queued_and_blocks_nobody() {
    let mut sim = Sim::new(4, 3, 10);
    sim.worker(1, "unsound", 0, None);
    sim.worker(2, "gain 5000", 1000, None);
    sim.run(60_000, false, |sim| sim.everywhere(1).is_some());
    assert_eq!(sim.everywhere(1), Some(Status::Accepted));
    assert_eq!(sim.machines[0].chain().status(sim.commit(0)), None);
}

#[test]
fn liars_up_to_f_change_nothing() {
    use Judge::*;
    let forged: Tamper = |commit| {
        let mut runs = commit.runs.to_vec();
        runs[0].leaves = vec![Hash32([9; 32]); 16].try_into().unwrap();
        commit.runs = runs.try_into().unwrap();
    };
    for seat in 0..4 {
        for liar in [YesMan, CryWolf, Mute] {
            let mut judges = [Honest; 4];
            judges[seat] = liar;
            let (_, status) = settle_one(4, seat as u64, "gain 5000", None, &judges);
            assert_eq!(status, Some(Status::Accepted), "seat {seat}");
            let (_, status) = settle_one(4, seat as u64, "gain 5000", Some(forged), &judges);
            let item = Item::Segment { seed: 0, segment: 0 };
            assert_eq!(status, Some(Status::Refused(Refusal::Refuted(item))), "seat {seat}");
        }
    }
}

#[test]
fn a_claim_within_the_margin_is_refused_without_replay() {
    let (_, status) = settle_one(4, 0, "gain 900", None, &[Judge::Mute; 4]);
    assert_eq!(status, Some(Status::Refused(Refusal::NotARecord)));
}

#[test]
fn two_workers_settle_in_queue_order_against_the_record_of_their_turn() {
    for seed in 0..8 {
        let mut sim = Sim::new(4, seed, 10);
        sim.worker(1, "gain 5000", 0, None);
        sim.worker(2, "gain 5500", 100, None);
        sim.run(120_000, false, |sim| sim.everywhere(0).is_some() && sim.everywhere(1).is_some());
        sim.one_chain();
        let accepted = sim.machines[0].chain().accepted();
        // Their gains differ by less than the margin: whoever is first wins alone or both improve.
        assert_eq!(accepted.len(), 1, "seed {seed}");
        let loser = usize::from(accepted[0].commit == sim.commit(0));
        assert_eq!(sim.everywhere(loser), Some(Status::Refused(Refusal::NotARecord)), "seed {seed}");
    }
}

#[test]
fn restarts_at_any_moment_lose_nothing_and_never_sign_twice() {
    let mut restarts = 0;
    for seed in 0..25 {
        let mut sim = Sim::new(4, seed, 15);
        sim.worker(1, "gain 5000", 0, None);
        sim.worker(2, "gain 9000", 4000, None);
        sim.run(240_000, true, |sim| sim.everywhere(0).is_some() && sim.everywhere(1).is_some());
        sim.one_chain();
        assert_eq!(sim.everywhere(1), Some(Status::Accepted), "seed {seed}");
        restarts += sim.lives.iter().sum::<u64>();
    }
    assert!(restarts > 100, "only {restarts} restarts: the test shows nothing");
}
