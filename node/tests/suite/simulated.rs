//! Workers and observers in a seeded network in memory, with loss, delays, restarts and silent verifiers.
//!
//! The verifiers are one stand-in that tickets, queues and settles by the rules of `cairn_protocol`; every
//! record travels as bytes through the real codec and gate.

use std::collections::{BTreeMap, BTreeSet};

use cairn_node::event::Event;
use cairn_node::machine::{ATTEMPTS_MAX, InFlight, Input, Machine, Output};
use cairn_protocol::*;

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
const TICK_MS: u64 = 250;

fn verifier(seat: u64) -> VerifierSecret {
    VerifierSecret::from_bytes(&hash("test verifier", &[&seat.to_be_bytes()]))
}

fn author(number: u64) -> AuthorSecret {
    AuthorSecret::from_bytes(&hash("test author", &[&number.to_be_bytes()]))
}

fn track() -> Track {
    let roster: Vec<VerifierKey> = (0..4).map(|seat| verifier(seat).public()).collect();
    let baseline =
        Baseline { source: "gain 0".try_into().unwrap(), graph: GraphId([7; 32]), metric: BASE + 9, test: BASE + 9 };
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
        data: vec![DataBlob { blob: BlobId::of(b"data"), bytes: 4 }].try_into().unwrap(),
        baseline,
        owner: author(0).public(),
        roster: roster.try_into().unwrap(),
        continues: None,
    };
    gate::track(&track).unwrap();
    track
}

/// What a run of `source` with `seed` gives.
fn truth(source: &str, seed: &Seed) -> Run {
    let gain: i64 = source.strip_prefix("gain ").and_then(|g| g.parse().ok()).unwrap_or(0);
    let metric = BASE - gain + i64::from(seed.0[0]) % 10;
    let leaves: Vec<Hash32> =
        (0u8..16).map(|j| Hash32(hash("test leaf", &[source.as_bytes(), &seed.0, &[j]]))).collect();
    Run { metric, test: metric, leaves: leaves.try_into().unwrap() }
}

fn draft(source: &str) -> Draft {
    Draft {
        parent: None,
        source: source.try_into().unwrap(),
        graph: GraphId(hash("test graph", &[source.as_bytes()])),
        title: "better".try_into().unwrap(),
        why: Text::default(),
        idea: None,
        researcher: Researcher { kind: "test".try_into().unwrap(), model: Text::default(), program: Hash32::default() },
    }
}

fn result(number: u64) -> Report {
    Report {
        base: GraphId([7; 32]),
        graph: GraphId(hash("test graph", &[&number.to_be_bytes()])),
        summary: "LR 1 → 2".try_into().unwrap(),
        metric: BASE,
        seed: number,
        status: ReportStatus::Done,
        proposer: "test".try_into().unwrap(),
    }
}

/// What a node's disk holds.
#[derive(Default, Clone)]
struct Disk {
    entries: Vec<CertifiedEntry>,
    records: Vec<Gossip>,
    bodies: BTreeMap<CommitId, Signed<Commit>>,
    claim: Option<Vec<u8>>,
    batch: u64,
}

struct Node {
    secret: Option<AuthorSecret>,
    machine: Machine,
    disk: Disk,
    life: u64,
    /// Gains that its research finds, one after the other.
    finds: Vec<&'static str>,
    heads: Vec<CommitId>,
    events: Vec<Event>,
}

#[expect(clippy::large_enum_variant, reason = "test traffic, consumed at once")]
enum Message {
    Bytes(Vec<u8>),
    Body(Box<Signed<Commit>>),
    Own(u64, Input),
}

/// The verifiers together: what q honest ones would do.
struct World {
    chain: ChainState,
    entries: Vec<CertifiedEntry>,
    silent: BTreeSet<VerifierKey>,
    tickets: BTreeMap<(ProposalId, VerifierKey), Gossip>,
    waiting: Vec<Signed<Commit>>,
}

impl World {
    fn append(&mut self, kind: EntryKind) -> Gossip {
        let entry = self.chain.next(kind);
        let votes: Vec<SeatSignature> = (0..3u8)
            .map(|seat| SeatSignature { seat, signature: Vote::sign(&entry, &verifier(seat.into())).signature })
            .collect();
        let certified = CertifiedEntry { entry, certificate: Certificate { votes: votes.try_into().unwrap() } };
        self.chain.apply(&certified).unwrap();
        self.entries.push(certified.clone());
        Gossip::Entry(certified)
    }

    fn ticket(&mut self, proposal: &Signed<Proposal>) {
        assert_eq!(gate::with_chain(&Gossip::Proposal(proposal.clone()), &self.chain), Ok(()));
        for seat in 0..4 {
            let secret = verifier(seat);
            let ticketer = secret.public();
            if proposal.body.ticketers.contains(&ticketer) && !self.silent.contains(&ticketer) {
                let ticket = Ticket { track: self.chain.id(), proposal: proposal.id(), ticketer };
                let ticket = Gossip::Ticket(Signed::by_verifier(ticket, &secret));
                self.tickets.insert((proposal.id(), ticketer), ticket);
            }
        }
    }

    /// Queues and settles one step further.
    fn settle(&mut self) -> Option<Gossip> {
        if let Some(queued) = self.chain.queue().front().cloned() {
            let why = settle::refused_unreplayed(self.chain.track(), &self.chain.record(), &queued.claim);
            let commit = queued.commit;
            let kind = why.map_or(EntryKind::Accepted { commit }, |why| EntryKind::Refused { commit, why });
            return Some(self.append(kind));
        }
        let body = self.waiting.pop()?.body;
        let (commit, proposal) = (body.id(), body.proposal.id());
        let queued = EntryKind::Queued { commit, proposal, author: body.author(), claim: body.claim() };
        (!self.chain.revealed(proposal)).then(|| self.append(queued))
    }
}

struct Sim {
    rng: Rng,
    now: u64,
    loss_percent: u64,
    world: World,
    nodes: Vec<Node>,
    mail: BTreeMap<(u64, u64), (usize, Message)>,
    sent: u64,
    /// Commits that were ever revealed of a proposal.
    revealed: BTreeMap<ProposalId, BTreeSet<CommitId>>,
    proposals: BTreeMap<AuthorKey, BTreeSet<ProposalId>>,
    batches: BTreeMap<(AuthorKey, u64), Hash32>,
}

impl Sim {
    fn new(seed: u64, loss_percent: u64) -> Self {
        let world = World {
            chain: ChainState::new(track()),
            entries: Vec::new(),
            silent: BTreeSet::new(),
            tickets: BTreeMap::new(),
            waiting: Vec::new(),
        };
        Self {
            rng: Rng(seed),
            now: 1_000_000,
            loss_percent,
            world,
            nodes: Vec::new(),
            mail: BTreeMap::new(),
            sent: 0,
            revealed: BTreeMap::new(),
            proposals: BTreeMap::new(),
            batches: BTreeMap::new(),
        }
    }

    fn node(&mut self, secret: Option<AuthorSecret>, finds: &[&'static str]) {
        let machine = Machine::new(ChainState::new(track()), secret.clone(), None, 0, [], self.now);
        let (finds, disk) = (finds.iter().rev().copied().collect(), Disk::default());
        self.nodes.push(Node { secret, machine, disk, life: 0, finds, heads: Vec::new(), events: Vec::new() });
    }

    fn lossy(&mut self, to: usize, message: Message) {
        if self.rng.below(100) >= self.loss_percent {
            self.sent += 1;
            let delay = 5 + self.rng.below(200);
            self.mail.insert((self.now + delay, self.sent), (to, message));
        }
    }

    fn own(&mut self, at: usize, delay: u64, input: Input) {
        self.sent += 1;
        self.mail.insert((self.now + delay, self.sent), (at, Message::Own(self.nodes[at].life, input)));
    }

    fn gossip(&mut self, from: Option<usize>, gossip: &Gossip) {
        for to in (0..self.nodes.len()).filter(|to| Some(*to) != from) {
            self.lossy(to, Message::Bytes(encode(gossip)));
        }
    }

    fn random(&mut self) -> [u8; 32] {
        hash("test random", &[&self.rng.next().to_be_bytes()])
    }

    fn step(&mut self, at: usize, input: Input) {
        let random = self.random();
        for output in self.nodes[at].machine.step(input, self.now, random) {
            self.perform(at, output);
        }
    }

    fn perform(&mut self, at: usize, output: Output) {
        let node = &mut self.nodes[at];
        match output {
            Output::Store(gossip) => {
                if matches!(gossip, Gossip::Reports(_)) {
                    node.disk.batch = node.machine.batch();
                }
                node.disk.records.push(gossip);
            }
            Output::StoreCommit(body) => {
                node.disk.bodies.insert(body.id(), *body);
            }
            Output::Append(entry) => node.disk.entries.push(entry),
            Output::Persist(claim) => node.disk.claim = claim.map(|claim| encode(&*claim)),
            Output::Publish(gossip) => self.published(at, gossip),
            Output::FetchCommit(id) => {
                let body = self.nodes.iter().find_map(|node| node.disk.bodies.get(&id).cloned());
                if let Some(body) = body {
                    self.lossy(at, Message::Body(Box::new(body)));
                }
            }
            Output::Sync { .. } => self.anti_entropy(at),
            Output::RunOfficial { proposal, draft, seeds } => {
                let runs = Ok(seeds.iter().map(|seed| truth(&draft.source, seed)).collect());
                let delay = 500 + self.rng.below(3000);
                self.own(at, delay, Input::Official { proposal, runs });
            }
            Output::StopOfficial(_) => {}
            Output::Head(commit) => node.heads.push(commit),
            Output::Event(event) => node.events.push(event),
        }
    }

    fn published(&mut self, at: usize, gossip: Gossip) {
        let disk = self.nodes[at].disk.clone();
        assert!(disk.records.contains(&gossip), "published before it was stored: {gossip:?}");
        let claim = disk.claim.as_ref().map(|bytes| decode::<InFlight>(bytes).unwrap());
        match &gossip {
            Gossip::Proposal(proposal) => {
                let kept = claim.expect("a claim is kept before it is proposed");
                assert_eq!(kept.proposal, *proposal);
                self.proposals.entry(proposal.body.author).or_default().insert(proposal.id());
                if self.rng.below(100) >= self.loss_percent {
                    self.world.ticket(proposal);
                }
            }
            Gossip::Commit(header) => {
                assert!(!claim.expect("a claim is kept until it is settled").runs.is_empty());
                let body = disk.bodies[&header.commit].clone();
                assert_eq!(gate::commit(&body, &self.world.chain), Ok(()));
                self.revealed.entry(header.proposal).or_default().insert(header.commit);
                let known = self.world.chain.status(header.commit).is_some() || self.world.waiting.contains(&body);
                if !known && self.rng.below(100) >= self.loss_percent {
                    self.world.waiting.insert(0, body);
                }
            }
            Gossip::Reports(reports) => {
                let key = (reports.body.author, reports.body.batch);
                let before = self.batches.insert(key, gossip.id());
                assert!(before.is_none_or(|id| id == gossip.id()), "two batches of one number");
            }
            other => panic!("a node says nothing like {other:?}"),
        }
        self.gossip(Some(at), &gossip);
    }

    fn anti_entropy(&mut self, at: usize) {
        let height = self.nodes[at].machine.chain().height() as usize;
        let entries: Vec<Gossip> = self.world.entries.iter().skip(height).cloned().map(Gossip::Entry).collect();
        let tickets: Vec<Gossip> = self.world.tickets.values().cloned().collect();
        if self.rng.below(100) >= self.loss_percent {
            for gossip in entries.into_iter().chain(tickets) {
                self.step(at, Input::Gossip(gossip));
            }
        }
    }

    /// Kills a node and starts it again from its disk; answers to its past life are lost.
    fn restart(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let mut chain = ChainState::new(track());
        node.disk.entries.iter().for_each(|entry| chain.apply(entry).unwrap());
        let claim = node.disk.claim.as_ref().map(|bytes| decode(bytes).unwrap());
        let on_chain = chain.accepted().iter().map(|row| row.commit).chain(chain.queue().iter().map(|q| q.commit));
        let missing: Vec<CommitId> = on_chain.filter(|id| !node.disk.bodies.contains_key(id)).collect();
        node.life += 1;
        node.machine = Machine::new(chain, node.secret.clone(), claim, node.disk.batch, missing, self.now);
    }

    fn run(&mut self, for_ms: u64, restarts: bool, done: impl Fn(&Sim) -> bool) {
        let until = self.now + for_ms;
        let mut next_tick = self.now;
        let mut tries = 0;
        while self.now < until && !done(self) {
            let due = self.mail.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            if due < next_tick {
                let ((at, _), (to, message)) = self.mail.pop_first().unwrap();
                self.now = at;
                self.deliver(to, message);
                continue;
            }
            self.now = next_tick;
            next_tick += TICK_MS;
            for at in 0..self.nodes.len() {
                if restarts && self.rng.below(20) == 0 {
                    self.restart(at);
                }
                tries += 1;
                self.research(at, tries);
                self.step(at, Input::Tick);
                if self.rng.below(4) == 0 {
                    self.anti_entropy(at);
                }
            }
            if self.rng.below(4) == 0
                && let Some(entry) = self.world.settle()
            {
                self.gossip(None, &entry);
            }
        }
        for (proposal, commits) in &self.revealed {
            assert_eq!(commits.len(), 1, "two commits of proposal {proposal}");
        }
    }

    /// The driver's part: finds wait until no claim is under way.
    fn research(&mut self, at: usize, tries: u64) {
        self.step(at, Input::Tried(Box::new(result(tries))));
        if self.nodes[at].machine.claiming() {
            return;
        }
        if let Some(source) = self.nodes[at].finds.pop() {
            self.step(at, Input::Found { draft: Box::new(draft(source)), effort: 3 });
        }
    }

    fn deliver(&mut self, to: usize, message: Message) {
        match message {
            Message::Bytes(bytes) => self.step(to, Input::Gossip(gate::receive(&bytes).unwrap())),
            Message::Body(body) => self.step(to, Input::Commit(body)),
            Message::Own(life, input) if life == self.nodes[to].life => self.step(to, input),
            Message::Own(..) => {}
        }
    }

    fn quiet(&self) -> bool {
        let idle = |node: &Node| node.finds.is_empty() && !node.machine.claiming();
        let whole = |node: &Node| {
            let accepted = node.machine.chain().accepted();
            node.machine.chain().tip() == self.world.chain.tip()
                && accepted.iter().all(|row| node.disk.bodies.contains_key(&row.commit))
                && node.heads.last() == accepted.last().map(|row| &row.commit)
        };
        self.nodes.iter().all(|node| idle(node) && whole(node))
            && self.world.chain.queue().is_empty()
            && self.world.waiting.is_empty()
    }
}

#[test]
fn claims_are_carried_to_the_board_despite_losses_and_everybody_follows() {
    for seed in 0..12 {
        let mut sim = Sim::new(seed, 20);
        sim.node(Some(author(1)), &["gain 3000", "gain 9000"]);
        sim.node(Some(author(2)), &["gain 6000"]);
        sim.node(None, &[]);
        sim.run(600_000, false, Sim::quiet);
        assert!(sim.quiet(), "seed {seed}");
        let board = sim.world.chain.accepted();
        assert_eq!(board.last().unwrap().author, author(1).public(), "seed {seed}");
        assert!(board.last().unwrap().claim.metric <= BASE - 9000 + 9, "seed {seed}");
        let accepted = sim.nodes[0].events.iter().filter(|e| matches!(e, Event::Accepted { mine: true, .. })).count();
        assert_eq!(accepted, board.iter().filter(|row| row.author == author(1).public()).count(), "seed {seed}");
    }
}

#[test]
fn restarts_at_any_moment_go_on_with_the_same_claim() {
    let mut restarts = 0;
    for seed in 0..15 {
        let mut sim = Sim::new(seed, 15);
        sim.node(Some(author(1)), &["gain 3000", "gain 9000"]);
        sim.node(Some(author(2)), &["gain 6000"]);
        sim.node(None, &[]);
        sim.run(1_800_000, true, Sim::quiet);
        assert!(sim.quiet(), "seed {seed}");
        assert!(sim.world.chain.record().metric <= BASE - 9000 + 9, "seed {seed}: a find was lost");
        restarts += sim.nodes.iter().map(|node| node.life).sum::<u64>();
    }
    assert!(restarts > 100, "only {restarts} restarts: the test shows nothing");
}

#[test]
fn a_silent_verifier_is_left_out_and_two_end_the_claim() {
    for seed in 0..6 {
        let mut sim = Sim::new(seed, 10);
        sim.world.silent = BTreeSet::from([verifier(seed % 4).public()]);
        sim.node(Some(author(1)), &["gain 5000"]);
        sim.run(600_000, false, Sim::quiet);
        // One of four may be left out, by chance; three attempts may all name it.
        let gave_up = sim.nodes[0].events.iter().any(|event| matches!(event, Event::GaveUp { .. }));
        assert_eq!(sim.world.chain.accepted().len(), usize::from(!gave_up), "seed {seed}");

        let mut sim = Sim::new(seed, 10);
        sim.world.silent = BTreeSet::from([verifier(0).public(), verifier(1).public()]);
        sim.node(Some(author(1)), &["gain 5000"]);
        sim.run(600_000, false, Sim::quiet);
        assert!(sim.nodes[0].events.iter().any(|event| matches!(event, Event::GaveUp { .. })), "seed {seed}");
        assert_eq!(sim.proposals[&author(1).public()].len(), usize::from(ATTEMPTS_MAX), "seed {seed}");
        assert_eq!(sim.nodes[0].disk.claim, None, "seed {seed}");
    }
}

#[test]
fn a_claim_that_fails_officially_is_never_revealed() {
    let mut sim = Sim::new(1, 10);
    sim.node(Some(author(1)), &["gain 500", "gain 5000"]);
    sim.run(600_000, false, Sim::quiet);
    assert!(sim.nodes[0].events.iter().any(|event| matches!(event, Event::GaveUp { .. })));
    assert_eq!(sim.revealed.len(), 1);
    assert_eq!(sim.world.chain.accepted().len(), 1);
    assert_eq!(sim.world.chain.refused(), 0);
}

#[test]
fn reports_are_batched_by_the_minute_and_numbered_without_gaps() {
    let mut sim = Sim::new(3, 0);
    sim.node(Some(author(1)), &[]);
    sim.node(None, &[]);
    sim.run(5 * 60_000, false, |_| false);
    let numbers: Vec<u64> = sim.batches.keys().map(|(_, batch)| *batch).collect();
    assert!((4..=5).contains(&numbers.len()), "{numbers:?}");
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    assert!(sim.batches.keys().all(|(who, _)| *who == author(1).public()), "an observer reports nothing");
}
