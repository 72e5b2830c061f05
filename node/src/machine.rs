//! The worker as a pure machine: `step(input, now_ms, random) -> outputs`.
//!
//! It follows the chain, and carries one claim at a time through proposal, tickets, official run,
//! reveal and settlement. Without a key it is an observer: it follows and claims nothing.
//!
//! *Invariant:* no I/O, clock or randomness of its own; a claim is persisted (`Output::Persist`)
//! before anything signed for it is published, so that a restart goes on with the same claim.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use cairn_protocol::chain::Status;
use cairn_protocol::limits::{COMMIT_BYTES_MAX, GOSSIP_BYTES_MAX, RESEND_MS, SEEDS_MAX, TICKETS_MAX};
use cairn_protocol::{
    AuthorKey, AuthorSecret, BoundedVec, CertifiedEntry, ChainState, Claim, Commit, CommitId, Draft, Entry, EntryKind,
    Gossip, Hash32, Proposal, ProposalId, Refusal, Report, Reports, Run, Seed, Signature, Signed, VerifierKey, Wire,
    commitment, gate, official_seeds, settle,
};

use crate::event::Event;

/// Time in milliseconds after which other ticketers are named, when tickets are missing.
pub const TICKETS_WAIT_MS: u64 = 45 * 1000;
/// Proposals made for one claim before it is given up.
pub const ATTEMPTS_MAX: u8 = 3;
/// Time in milliseconds after which a revealed commit that nobody queues is given up.
pub const QUEUE_WAIT_MS: u64 = 30 * 60 * 1000;
/// Time in milliseconds between batches of reports: one batch per node and minute at most.
pub const REPORTS_MS: u64 = 60 * 1000;
/// Bodies of commits that are asked for at a time.
const FETCHES_MAX: usize = 16;
/// Reports that wait for the next batch; more are dropped, oldest first.
const REPORTS_WAITING_MAX: usize = 4 * cairn_protocol::limits::REPORTS_MAX;

/// What happens to the machine.
#[expect(clippy::large_enum_variant, reason = "consumed at once, never kept in a collection")]
#[derive(Clone, Debug)]
pub enum Input {
    /// A record that passed [`gate::stateless`].
    Gossip(Gossip),
    /// A commit's body, whose hash is what was asked for.
    Commit(Box<Signed<Commit>>),
    /// Research found a change that is worth an official run, after so many runs.
    Found {
        /// The change.
        draft: Box<Draft>,
        /// Runs that the search took.
        effort: u64,
    },
    /// An official run came to its end.
    Official {
        /// For this proposal.
        proposal: ProposalId,
        /// One run for each seed, or why there is none.
        runs: Result<Vec<Run>, String>,
    },
    /// A try ended, well or badly.
    Tried(Box<Report>),
    /// Time passed.
    Tick,
}

/// What the machine asks for, to be done in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Store a record durably.
    Store(Gossip),
    /// Store a commit's body durably.
    StoreCommit(Box<Signed<Commit>>),
    /// Store an entry of the chain durably.
    Append(CertifiedEntry),
    /// Remember the claim under way, or that there is none.
    Persist(Option<Box<InFlight>>),
    /// Publish a record.
    Publish(Gossip),
    /// Ask peers for a commit's body.
    FetchCommit(CommitId),
    /// Peers are ahead: fetch entries from this height on.
    Sync {
        /// First height that is missing.
        from: u64,
    },
    /// Run this program once for each seed, on an exact backend.
    RunOfficial {
        /// The proposal that the seeds belong to.
        proposal: ProposalId,
        /// The program.
        draft: Box<Draft>,
        /// The seeds.
        seeds: Vec<Seed>,
    },
    /// The official run is no longer wanted.
    StopOfficial(ProposalId),
    /// There is a new record: research starts from this commit now.
    Head(CommitId),
    /// Something worth telling.
    Event(Event),
}

/// A claim under way: all that must survive a restart.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct InFlight {
    /// The proposal.
    pub proposal: Signed<Proposal>,
    /// Opens its commitment.
    pub salt: Hash32,
    /// The change.
    pub draft: Draft,
    /// Runs that the search took.
    pub effort: u64,
    /// Tickets so far, in the order of the proposal's ticketers.
    pub tickets: BoundedVec<Option<Signature>, TICKETS_MAX>,
    /// The official runs, when they are done.
    pub runs: BoundedVec<Run, SEEDS_MAX>,
    /// Proposals made for this claim, this one included.
    pub attempts: u8,
}

impl Wire for InFlight {
    const BYTES_MAX: usize = 2 * COMMIT_BYTES_MAX + GOSSIP_BYTES_MAX;
}

impl InFlight {
    fn all_tickets(&self) -> Option<Vec<Signature>> {
        self.tickets.iter().copied().collect()
    }

    fn commit(&self, secret: &AuthorSecret) -> Option<Signed<Commit>> {
        let tickets = BoundedVec::try_from(self.all_tickets()?).ok()?;
        let body = Commit {
            proposal: self.proposal.clone(),
            tickets,
            salt: self.salt,
            draft: self.draft.clone(),
            runs: self.runs.clone(),
            effort: self.effort,
        };
        (!self.runs.is_empty()).then(|| Signed::by_author(body, secret))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asking,
    Running,
    Revealed(CommitId),
}

#[derive(Debug)]
struct Active {
    claim: InFlight,
    stage: Stage,
    since_ms: u64,
    sent_ms: u64,
}

/// A worker (or, without a key, an observer) of one track.
#[derive(Debug)]
pub struct Machine {
    chain: ChainState,
    author: Option<AuthorSecret>,
    active: Option<Active>,
    waiting: Vec<Report>,
    batch: u64,
    reported_ms: u64,
    wanted: BTreeMap<CommitId, u64>,
    /// Own commits in the queue.
    own: BTreeSet<CommitId>,
}

impl Machine {
    /// A machine on a stored chain: `claim` is what was persisted last, `batch` the number of the
    /// next batch of reports, `missing` the commits on the chain whose bodies are not here.
    pub fn new(
        chain: ChainState,
        author: Option<AuthorSecret>,
        claim: Option<InFlight>,
        batch: u64,
        missing: impl IntoIterator<Item = CommitId>,
        now_ms: u64,
    ) -> Self {
        let active = claim.map(|claim| Active { claim, stage: Stage::Asking, since_ms: now_ms, sent_ms: 0 });
        let me = author.as_ref().map(AuthorSecret::public);
        let own = chain.queue().iter().filter(|queued| Some(queued.author) == me).map(|queued| queued.commit).collect();
        Self {
            own,
            chain,
            author,
            active,
            waiting: Vec::new(),
            batch,
            reported_ms: now_ms,
            wanted: missing.into_iter().map(|commit| (commit, 0)).collect(),
        }
    }

    /// The chain as this node knows it.
    pub fn chain(&self) -> &ChainState {
        &self.chain
    }

    /// Whether a claim is under way.
    pub fn claiming(&self) -> bool {
        self.active.is_some()
    }

    /// Number of the next batch of reports.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    fn me(&self) -> Option<AuthorKey> {
        self.author.as_ref().map(AuthorSecret::public)
    }

    /// One step.
    pub fn step(&mut self, input: Input, now_ms: u64, random: [u8; 32]) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Gossip(gossip) => self.hear(gossip, now_ms, &mut out),
            Input::Commit(body) => self.hear_body(body, &mut out),
            Input::Found { draft, effort } => self.found(*draft, effort, now_ms, random, &mut out),
            Input::Official { proposal, runs } => self.official(proposal, runs, now_ms, &mut out),
            Input::Tried(report) => self.tried(*report),
            Input::Tick => self.tick(now_ms, random, &mut out),
        }
        self.advance(now_ms, &mut out);
        out
    }

    fn hear(&mut self, gossip: Gossip, now_ms: u64, out: &mut Vec<Output>) {
        if gate::with_chain(&gossip, &self.chain).is_err() {
            return;
        }
        match gossip {
            Gossip::Reports(_) | Gossip::Idea(_) | Gossip::Verdict(_) => out.push(Output::Store(gossip)),
            Gossip::Ticket(ticket) => {
                self.hear_ticket(ticket.body.proposal, ticket.body.ticketer, ticket.signature, out)
            }
            Gossip::Entry(certified) => self.hear_entry(certified, now_ms, out),
            // Others settle these; a height ahead of ours still tells that we are behind.
            Gossip::Candidate(candidate) => self.behind(candidate.entry.height, out),
            Gossip::Vote(vote) => self.behind(vote.height, out),
            Gossip::Proposal(_) | Gossip::Commit(_) => {}
        }
    }

    fn behind(&self, height: u64, out: &mut Vec<Output>) {
        let next = self.chain.height().saturating_add(1);
        if height > next {
            out.push(Output::Sync { from: next });
        }
    }

    fn hear_entry(&mut self, certified: CertifiedEntry, now_ms: u64, out: &mut Vec<Output>) {
        self.behind(certified.entry.height, out);
        if self.chain.apply(&certified).is_err() {
            return;
        }
        let entry = certified.entry.clone();
        out.push(Output::Append(certified));
        self.tell(&entry, now_ms, out);
    }

    fn tell(&mut self, entry: &Entry, now_ms: u64, out: &mut Vec<Output>) {
        let me = self.me();
        let mine = |author| Some(author) == me;
        match &entry.kind {
            EntryKind::Queued { commit, author, claim, .. } => {
                if self.wanted.len() < FETCHES_MAX {
                    out.push(Output::FetchCommit(*commit));
                }
                self.wanted.insert(*commit, now_ms);
                if mine(*author) {
                    self.own.insert(*commit);
                }
                let queued =
                    Event::Queued { commit: *commit, height: entry.height, claim: *claim, mine: mine(*author) };
                out.push(Output::Event(queued));
            }
            EntryKind::Accepted { commit } => {
                self.own.remove(commit);
                if let Some(row) = self.chain.head() {
                    let (claim, credit) = (row.claim, row.credit);
                    let height = entry.height;
                    let accepted = Event::Accepted { commit: *commit, height, claim, credit, mine: mine(row.author) };
                    out.push(Output::Event(accepted));
                    out.push(Output::Head(*commit));
                }
            }
            EntryKind::Refused { commit, why } => {
                let mine = self.own.remove(commit);
                out.push(Output::Event(Event::Refused { commit: *commit, height: entry.height, why: *why, mine }));
            }
            EntryKind::Roster { .. } => {}
        }
    }

    fn hear_body(&mut self, body: Box<Signed<Commit>>, out: &mut Vec<Output>) {
        let id = body.id();
        if self.wanted.remove(&id).is_some() && gate::commit(&body, &self.chain).is_ok() {
            out.push(Output::StoreCommit(body));
            if self.chain.head().is_some_and(|head| head.commit == id) {
                out.push(Output::Head(id));
            }
        }
    }

    fn hear_ticket(&mut self, proposal: ProposalId, ticketer: VerifierKey, ticket: Signature, out: &mut Vec<Output>) {
        let Some(active) = self.active.as_mut().filter(|active| active.stage == Stage::Asking) else { return };
        if active.claim.proposal.id() != proposal {
            return;
        }
        let seat = active.claim.proposal.body.ticketers.iter().position(|named| *named == ticketer);
        let mut tickets = active.claim.tickets.to_vec();
        match seat.and_then(|seat| tickets.get_mut(seat)) {
            Some(place) if place.is_none() => *place = Some(ticket),
            _ => return,
        }
        if let Ok(tickets) = BoundedVec::try_from(tickets) {
            active.claim.tickets = tickets;
            out.push(Output::Persist(Some(Box::new(active.claim.clone()))));
        }
    }

    fn found(&mut self, draft: Draft, effort: u64, now_ms: u64, random: [u8; 32], out: &mut Vec<Output>) {
        if self.active.is_none() {
            self.propose(draft, effort, 1, now_ms, random, out);
        }
    }

    fn propose(
        &mut self,
        draft: Draft,
        effort: u64,
        attempts: u8,
        now_ms: u64,
        random: [u8; 32],
        out: &mut Vec<Output>,
    ) {
        let Some(author) = &self.author else { return };
        let salt = Hash32(random);
        let roster = self.chain.roster();
        let skip = roster.len().saturating_sub(self.chain.quorum().votes);
        // Seats to leave out rotate with the salt, so that one silent member does not stop everybody.
        let offset = usize::from(random.first().copied().unwrap_or(0));
        let left_out = |seat: usize| (seat + offset) % roster.len().max(1) < skip;
        let named: Vec<VerifierKey> =
            roster.iter().enumerate().filter(|(seat, _)| !left_out(*seat)).map(|(_, key)| *key).collect();
        let tickets = BoundedVec::try_from(vec![None; named.len()]);
        let (Ok(ticketers), Ok(tickets)) = (BoundedVec::try_from(named), tickets) else { return };
        let proposal = Proposal {
            track: self.chain.id(),
            author: author.public(),
            commitment: commitment(author.public(), &draft, salt),
            roster_height: self.chain.height(),
            ticketers,
            stamp: 0,
        }
        .stamp();
        let proposal = Signed::by_author(proposal, author);
        out.push(Output::Event(Event::Proposed {
            proposal: proposal.id(),
            title: draft.title.to_string(),
            attempt: attempts,
        }));
        let claim = InFlight { proposal, salt, draft, effort, tickets, runs: BoundedVec::default(), attempts };
        out.push(Output::Persist(Some(Box::new(claim.clone()))));
        self.active = Some(Active { claim, stage: Stage::Asking, since_ms: now_ms, sent_ms: 0 });
    }

    fn official(&mut self, proposal: ProposalId, runs: Result<Vec<Run>, String>, now_ms: u64, out: &mut Vec<Output>) {
        let Some(active) = self.active.as_mut().filter(|active| active.stage == Stage::Running) else { return };
        if active.claim.proposal.id() != proposal {
            return;
        }
        match runs.map(BoundedVec::try_from) {
            Ok(Ok(runs)) if runs.len() == usize::from(self.chain.track().seeds) => {
                active.claim.runs = runs;
                active.since_ms = now_ms;
                active.sent_ms = 0;
                out.push(Output::Persist(Some(Box::new(active.claim.clone()))));
            }
            Ok(_) => self.give_up("the official run gave another number of results than the track wants", out),
            Err(why) => self.give_up(&why, out),
        }
    }

    fn give_up(&mut self, why: &str, out: &mut Vec<Output>) {
        if let Some(active) = self.active.take() {
            let proposal = active.claim.proposal.id();
            let graph = active.claim.draft.graph;
            out.push(Output::Persist(None));
            out.push(Output::StopOfficial(proposal));
            out.push(Output::Event(Event::GaveUp { proposal, graph, why: why.to_string() }));
        }
    }

    fn tried(&mut self, report: Report) {
        if self.author.is_none() {
            return;
        }
        if self.waiting.len() >= REPORTS_WAITING_MAX {
            self.waiting.remove(0);
        }
        self.waiting.push(report);
    }

    fn tick(&mut self, now_ms: u64, random: [u8; 32], out: &mut Vec<Output>) {
        self.report(now_ms, out);
        let asked = |asked_ms: &u64| now_ms.saturating_sub(*asked_ms) >= RESEND_MS;
        for (commit, asked_ms) in self.wanted.iter_mut().filter(|(_, at)| asked(at)).take(FETCHES_MAX) {
            *asked_ms = now_ms;
            out.push(Output::FetchCommit(*commit));
        }
        let Some(active) = &self.active else { return };
        let waited = now_ms.saturating_sub(active.since_ms);
        match active.stage {
            Stage::Asking if waited >= TICKETS_WAIT_MS => {
                let claim = active.claim.clone();
                if claim.attempts >= ATTEMPTS_MAX {
                    self.give_up("too few verifiers issued tickets", out);
                } else {
                    self.propose(claim.draft, claim.effort, claim.attempts.saturating_add(1), now_ms, random, out);
                }
            }
            Stage::Revealed(_) if waited >= QUEUE_WAIT_MS => {
                self.give_up("the verifiers did not queue the commit", out)
            }
            _ => {}
        }
    }

    fn report(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let due = now_ms.saturating_sub(self.reported_ms) >= REPORTS_MS;
        let (Some(author), true, false) = (&self.author, due, self.waiting.is_empty()) else { return };
        self.reported_ms = now_ms;
        let count = self.waiting.len().min(cairn_protocol::limits::REPORTS_MAX);
        let Ok(results) = BoundedVec::try_from(self.waiting.drain(..count).collect::<Vec<_>>()) else { return };
        let reports = Reports { track: self.chain.id(), author: author.public(), batch: self.batch, results };
        self.batch = self.batch.saturating_add(1);
        let gossip = Gossip::Reports(Signed::by_author(reports, author));
        out.push(Output::Store(gossip.clone()));
        out.push(Output::Publish(gossip));
    }

    /// Moves the claim as far as it goes, and sends again what is not answered.
    fn advance(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let Some(active) = &self.active else { return };
        if !active.claim.runs.is_empty() {
            return self.reveal(now_ms, out);
        }
        let Some(tickets) = active.claim.all_tickets() else { return self.ask(now_ms, out) };
        if active.stage == Stage::Asking {
            let proposal = active.claim.proposal.id();
            let draft = Box::new(active.claim.draft.clone());
            let seeds = official_seeds(proposal, &tickets, usize::from(self.chain.track().seeds));
            out.push(Output::Event(Event::Running { proposal, title: draft.title.to_string() }));
            out.push(Output::RunOfficial { proposal, draft, seeds });
            if let Some(active) = &mut self.active {
                active.stage = Stage::Running;
            }
        }
    }

    fn ask(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        if let Some(active) = &mut self.active
            && due(active.sent_ms, now_ms)
        {
            active.sent_ms = now_ms;
            let gossip = Gossip::Proposal(active.claim.proposal.clone());
            out.push(Output::Store(gossip.clone()));
            out.push(Output::Publish(gossip));
        }
    }

    fn reveal(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let (Some(author), Some(active)) = (&self.author, &mut self.active) else { return };
        let Some(commit) = active.claim.commit(author) else { return };
        let (id, claim) = (commit.id(), commit.body.claim());
        match self.chain.status(id) {
            Some(Status::Queued) => {
                active.stage = Stage::Revealed(id);
                return;
            }
            Some(Status::Accepted | Status::Refused(_)) => {
                self.active = None;
                out.push(Output::Persist(None));
                return;
            }
            None => {}
        }
        let (record, track) = (self.chain.record(), self.chain.track());
        if let Some(why) = settle::refused_unreplayed(track, &record, &claim) {
            return self.give_up(&not_a_record(why, &claim, &record, track.margin), out);
        }
        if active.stage != Stage::Revealed(id) {
            active.stage = Stage::Revealed(id);
            active.since_ms = now_ms;
            out.push(Output::Event(Event::Claimed {
                commit: id,
                title: active.claim.draft.title.to_string(),
                claim,
                record,
            }));
            out.push(Output::StoreCommit(Box::new(commit.clone())));
        }
        if due(active.sent_ms, now_ms) {
            active.sent_ms = now_ms;
            let gossip = Gossip::Commit(commit.header());
            out.push(Output::Store(gossip.clone()));
            out.push(Output::Publish(gossip));
        }
    }
}

/// Whether something sent at `sent_ms` (0: never) is to be sent again.
fn due(sent_ms: u64, now_ms: u64) -> bool {
    sent_ms == 0 || now_ms.saturating_sub(sent_ms) >= RESEND_MS
}

fn not_a_record(why: Refusal, claim: &Claim, record: &Claim, margin: i64) -> String {
    let by = match why {
        Refusal::TestWorse => claim.test.saturating_sub(record.test.saturating_add(margin)),
        _ => claim.metric.saturating_sub(record.metric.saturating_sub(margin)),
    };
    let what = if why == Refusal::TestWorse { "test metric" } else { "worst official metric" };
    format!("the {what} misses the record by {by} units of 2^-24")
}
