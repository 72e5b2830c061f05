//! The verifier as a pure machine: `step(input, now_ms) -> outputs`.
//!
//! Tickets by policy, commits gated and queued, the first of the queue replayed, verdicts
//! collected, entries co-signed. The driver owns sockets, disk and processes.
//!
//! *Invariant:* no I/O, clock or randomness; whatever is signed is stored (`Output::Store`) before
//! it is published, and the machine is rebuilt from the stored chain and records alone. The clock
//! serves policy and retries, never validity.

use std::collections::BTreeMap;

use cairn_protocol::chain::{Queued, Status};
use cairn_protocol::limits::*;
use cairn_protocol::settle::{self, Outcome, Tally};
use cairn_protocol::{
    AuthorKey, CertifiedEntry, ChainState, Claim, Commit, CommitHeader, CommitId, Entry, EntryKind, Finding, Gossip,
    Judged, Proposal, ProposalId, Refusal, Signed, Ticket, Track, Verdict, VerifierKey, VerifierSecret, gate,
};

use crate::ordering::{Effect, Ordering};

/// What happens to the machine.
#[expect(clippy::large_enum_variant, reason = "consumed at once, never kept in a collection")]
#[derive(Clone, Debug)]
pub enum Input {
    /// A record that passed `gate::stateless`.
    Gossip(Gossip),
    /// A commit's body.
    Commit(Box<Signed<Commit>>),
    /// The source of a commit was traced: whether its graph and price are what they must be.
    Traced {
        /// The commit.
        commit: CommitId,
        /// Nothing, or why it is not sound.
        result: Result<(), String>,
    },
    /// A replay came to its end.
    Replayed {
        /// The commit.
        commit: CommitId,
        /// Findings in ascending order of item.
        findings: Vec<Judged>,
    },
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
    /// Publish a record.
    Publish(Gossip),
    /// Ask peers for a commit's body.
    FetchCommit(CommitId),
    /// Trace a commit's source and compare graph and budget.
    Trace(Box<Signed<Commit>>),
    /// Replay a commit: every segment and the evaluation of every seed.
    Replay(Box<Signed<Commit>>),
    /// Stop replaying a commit: it was settled.
    StopReplay(CommitId),
    /// Peers are ahead: fetch entries from this height on.
    Sync {
        /// First height that is missing.
        from: u64,
    },
    /// Something worth telling.
    Event(Event),
}

/// What a verifier tells the person who runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A ticket was issued.
    Ticketed {
        /// For this proposal.
        proposal: ProposalId,
        /// Of this author.
        author: AuthorKey,
    },
    /// A commit was revealed.
    Revealed {
        /// The commit.
        commit: CommitId,
        /// Its author.
        author: AuthorKey,
        /// What it claims.
        claim: Claim,
    },
    /// A commit cannot be queued.
    Unsound {
        /// The commit.
        commit: CommitId,
        /// Why.
        why: String,
    },
    /// A commit was queued.
    Queued {
        /// The commit.
        commit: CommitId,
        /// Height of the entry.
        height: u64,
    },
    /// A replay began.
    Replaying {
        /// The commit.
        commit: CommitId,
    },
    /// A verdict was signed.
    Judged {
        /// The commit.
        commit: CommitId,
        /// Confirmed items.
        good: usize,
        /// Refuted items.
        bad: usize,
        /// Items that could not be verified.
        cannot: usize,
    },
    /// A commit is the new record.
    Accepted {
        /// The commit.
        commit: CommitId,
        /// Height of the entry.
        height: u64,
        /// Its metrics.
        claim: Claim,
        /// Old record − new record.
        credit: i64,
    },
    /// A commit was refused.
    Refused {
        /// The commit.
        commit: CommitId,
        /// Height of the entry.
        height: u64,
        /// Why.
        why: Refusal,
    },
}

/// A proposal as a verifier sees it.
#[derive(Debug)]
struct Opened {
    signed: Signed<Proposal>,
    seen_ms: u64,
    arrival: u64,
    tickets: BTreeMap<VerifierKey, Signed<Ticket>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Soundness {
    Unknown,
    Tracing,
    Sound,
    Unsound,
}

/// A revealed commit that the chain has not settled.
#[derive(Debug)]
struct Held {
    header: Option<CommitHeader>,
    body: Option<Box<Signed<Commit>>>,
    seen_ms: u64,
    arrival: u64,
    asked_ms: Option<u64>,
    soundness: Soundness,
    replaying: bool,
}

/// A verifier of one track.
#[derive(Debug)]
pub struct Machine {
    chain: ChainState,
    secret: VerifierSecret,
    me: VerifierKey,
    ordering: Ordering,
    proposals: BTreeMap<ProposalId, Opened>,
    commits: BTreeMap<CommitId, Held>,
    verdicts: BTreeMap<CommitId, BTreeMap<VerifierKey, Signed<Verdict>>>,
    arrivals: u64,
    restoring: bool,
}

impl Machine {
    /// The machine after a restart: the stored chain, then what was stored besides it.
    pub fn restore(
        chain: ChainState,
        secret: VerifierSecret,
        records: Vec<Gossip>,
        bodies: Vec<Signed<Commit>>,
        now_ms: u64,
    ) -> Self {
        let me = secret.public();
        let mut machine = Self {
            chain,
            ordering: Ordering::new(secret.clone()),
            secret,
            me,
            proposals: BTreeMap::new(),
            commits: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            arrivals: 0,
            restoring: true,
        };
        let mut out = Vec::new();
        // Own candidate and vote first: a second signature at one height must not be possible.
        let own = |record: &Gossip| {
            matches!(record, Gossip::Candidate(c) if c.sequencer == me)
                || matches!(record, Gossip::Vote(v) if v.verifier == me)
        };
        let (own, others): (Vec<_>, Vec<_>) = records.into_iter().partition(own);
        // Records of any kind may depend on proposals, which therefore come before the others.
        let (opened, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|r| matches!(r, Gossip::Proposal(_)));
        for record in own.into_iter().chain(opened).chain(others) {
            machine.hear(record, now_ms, &mut out);
        }
        for body in bodies {
            machine.hear_body(Box::new(body), now_ms, &mut out);
        }
        machine.restoring = false;
        machine
    }

    /// The chain as this verifier knows it.
    pub fn chain(&self) -> &ChainState {
        &self.chain
    }

    /// Everything not on the chain yet that a peer may have missed.
    pub fn pending(&self) -> Vec<Gossip> {
        let mut records = Vec::new();
        for opened in self.proposals.values() {
            records.push(Gossip::Proposal(opened.signed.clone()));
            records.extend(opened.tickets.values().cloned().map(Gossip::Ticket));
        }
        records.extend(self.commits.values().filter_map(|held| held.header.clone()).map(Gossip::Commit));
        records.extend(self.verdicts.values().flat_map(|of| of.values().cloned().map(Gossip::Verdict)));
        records.extend(self.ordering.pending());
        records
    }

    /// The body of a commit that is not settled yet.
    pub fn body(&self, commit: CommitId) -> Option<&Signed<Commit>> {
        self.commits.get(&commit).and_then(|held| held.body.as_deref())
    }

    /// One step.
    pub fn step(&mut self, input: Input, now_ms: u64) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Gossip(gossip) => self.hear(gossip, now_ms, &mut out),
            Input::Commit(body) => self.hear_body(body, now_ms, &mut out),
            Input::Traced { commit, result } => self.traced(commit, result, &mut out),
            Input::Replayed { commit, findings } => self.replayed(commit, findings, &mut out),
            Input::Tick => {}
        }
        self.advance(now_ms, &mut out);
        out
    }

    fn arrival(&mut self) -> u64 {
        self.arrivals = self.arrivals.saturating_add(1);
        self.arrivals
    }

    fn hear(&mut self, gossip: Gossip, now_ms: u64, out: &mut Vec<Output>) {
        if gate::with_chain(&gossip, &self.chain).is_err() {
            return;
        }
        match gossip {
            // A verifier needs neither; nodes keep them.
            Gossip::Idea(_) | Gossip::Reports(_) => {}
            Gossip::Proposal(proposal) => self.hear_proposal(proposal, now_ms, out),
            Gossip::Ticket(ticket) => self.hear_ticket(ticket, out),
            Gossip::Commit(header) => self.hear_header(header, now_ms, out),
            Gossip::Verdict(verdict) => self.hear_verdict(verdict, out),
            Gossip::Candidate(candidate) => {
                self.behind(candidate.entry.height, out);
                self.ordering.hear_candidate(candidate, &self.chain);
            }
            Gossip::Vote(vote) => {
                self.behind(vote.height, out);
                self.ordering.hear_vote(vote, &self.chain);
            }
            Gossip::Entry(certified) => {
                self.behind(certified.entry.height, out);
                self.append(certified, false, out);
            }
        }
    }

    fn behind(&self, height: u64, out: &mut Vec<Output>) {
        let next = self.chain.height().saturating_add(1);
        if height > next {
            out.push(Output::Sync { from: next });
        }
    }

    fn store(&self, gossip: Gossip, out: &mut Vec<Output>) {
        if !self.restoring {
            out.push(Output::Store(gossip));
        }
    }

    fn hear_proposal(&mut self, signed: Signed<Proposal>, now_ms: u64, out: &mut Vec<Output>) {
        let id = signed.id();
        if self.proposals.contains_key(&id) || self.chain.revealed(id) {
            return;
        }
        if self.proposals.len() >= PROPOSALS_MAX
            && let Some(oldest) = self.proposals.iter().min_by_key(|(_, opened)| opened.arrival).map(|(id, _)| *id)
        {
            self.proposals.remove(&oldest);
        }
        self.store(Gossip::Proposal(signed.clone()), out);
        let arrival = self.arrival();
        self.proposals.insert(id, Opened { signed, seen_ms: now_ms, arrival, tickets: BTreeMap::new() });
    }

    fn hear_ticket(&mut self, ticket: Signed<Ticket>, out: &mut Vec<Output>) {
        let Some(opened) = self.proposals.get_mut(&ticket.body.proposal) else {
            return;
        };
        if !opened.signed.body.ticketers.contains(&ticket.body.ticketer)
            || opened.tickets.contains_key(&ticket.body.ticketer)
        {
            return;
        }
        opened.tickets.insert(ticket.body.ticketer, ticket.clone());
        self.store(Gossip::Ticket(ticket), out);
    }

    fn hear_header(&mut self, header: CommitHeader, now_ms: u64, out: &mut Vec<Output>) {
        if self.chain.status(header.commit).is_some_and(|status| status != Status::Queued) {
            return;
        }
        if let Some(held) = self.commits.get_mut(&header.commit) {
            if held.header.is_none() {
                held.header = Some(header.clone());
                self.store(Gossip::Commit(header), out);
            }
            return;
        }
        // Only a stamped proposal of the same author opens a place; each proposal opens one.
        let opens =
            self.proposals.get(&header.proposal).is_some_and(|opened| opened.signed.body.author == header.author);
        let taken =
            self.commits.values().any(|held| held.header.as_ref().is_some_and(|h| h.proposal == header.proposal));
        if !opens || taken || !self.make_room() {
            return;
        }
        self.store(Gossip::Commit(header.clone()), out);
        let held = self.new_held(Some(header.clone()), now_ms);
        self.commits.insert(header.commit, held);
    }

    fn new_held(&mut self, header: Option<CommitHeader>, now_ms: u64) -> Held {
        Held {
            header,
            body: None,
            seen_ms: now_ms,
            arrival: self.arrival(),
            asked_ms: None,
            soundness: Soundness::Unknown,
            replaying: false,
        }
    }

    /// Whether one more commit fits, after forgetting one that is not sound or never came.
    fn make_room(&mut self) -> bool {
        if self.commits.len() < PENDING_COMMITS_MAX {
            return true;
        }
        let useless = self
            .commits
            .iter()
            .filter(|(id, held)| {
                self.chain.status(**id).is_none() && (held.soundness == Soundness::Unsound || held.body.is_none())
            })
            .min_by_key(|(_, held)| held.arrival)
            .map(|(id, _)| *id);
        useless.is_some_and(|id| self.commits.remove(&id).is_some())
    }

    fn hear_body(&mut self, signed: Box<Signed<Commit>>, now_ms: u64, out: &mut Vec<Output>) {
        let id = signed.id();
        let status = self.chain.status(id);
        if status.is_some_and(|status| status != Status::Queued) {
            return;
        }
        if !self.commits.contains_key(&id) {
            if status == Some(Status::Queued) {
                let held = self.new_held(None, now_ms);
                self.commits.insert(id, held);
            }
            self.hear(Gossip::Commit(signed.header()), now_ms, out);
        }
        let Some(held) = self.commits.get_mut(&id) else {
            return;
        };
        // The signature is no part of the id: a body with a false one says nothing about the commit.
        if held.body.is_some() || signed.verify().is_err() {
            return;
        }
        if let Err(error) = gate::commit(&signed, &self.chain) {
            // The body hashes to the id, so no other body can be the right one.
            held.soundness = Soundness::Unsound;
            out.push(Output::Event(Event::Unsound { commit: id, why: error.to_string() }));
            return;
        }
        held.body = Some(signed.clone());
        if !self.restoring {
            out.push(Output::Event(Event::Revealed {
                commit: id,
                author: signed.body.author(),
                claim: signed.body.claim(),
            }));
            out.push(Output::StoreCommit(signed));
        }
    }

    fn traced(&mut self, commit: CommitId, result: Result<(), String>, out: &mut Vec<Output>) {
        let Some(held) = self.commits.get_mut(&commit) else {
            return;
        };
        if held.soundness != Soundness::Tracing {
            return;
        }
        held.soundness = match result {
            Ok(()) => Soundness::Sound,
            Err(why) => {
                out.push(Output::Event(Event::Unsound { commit, why }));
                Soundness::Unsound
            }
        };
    }

    fn hear_verdict(&mut self, verdict: Signed<Verdict>, out: &mut Vec<Output>) {
        let commit = verdict.body.commit;
        // Verdicts may overtake the entry that queues their commit.
        if !self.commits.contains_key(&commit) && self.chain.status(commit) != Some(Status::Queued) {
            return;
        }
        let of = self.verdicts.entry(commit).or_default();
        if of.contains_key(&verdict.body.verifier) {
            return;
        }
        of.insert(verdict.body.verifier, verdict.clone());
        self.store(Gossip::Verdict(verdict), out);
    }

    fn judged(&self, commit: CommitId) -> bool {
        self.verdicts.get(&commit).is_some_and(|of| of.contains_key(&self.me))
    }

    fn replayed(&mut self, commit: CommitId, findings: Vec<Judged>, out: &mut Vec<Output>) {
        if let Some(held) = self.commits.get_mut(&commit) {
            held.replaying = false;
        }
        if self.chain.status(commit) != Some(Status::Queued) || self.judged(commit) {
            return;
        }
        let count = |wanted: fn(&Finding) -> bool| findings.iter().filter(|judged| wanted(&judged.finding)).count();
        let event = Event::Judged {
            commit,
            good: count(|finding| matches!(finding, Finding::Good { .. })),
            bad: count(|finding| matches!(finding, Finding::Bad { .. })),
            cannot: count(|finding| matches!(finding, Finding::Cannot)),
        };
        let Ok(findings) = findings.try_into() else {
            return;
        };
        let body = Verdict { track: self.chain.id(), commit, verifier: self.me, findings };
        let signed = Signed::by_verifier(body, &self.secret);
        self.verdicts.entry(commit).or_default().insert(self.me, signed.clone());
        self.sign_and_publish(Gossip::Verdict(signed), out);
        out.push(Output::Event(event));
    }

    fn sign_and_publish(&self, gossip: Gossip, out: &mut Vec<Output>) {
        out.push(Output::Store(gossip.clone()));
        out.push(Output::Publish(gossip));
    }

    /// Does whatever became possible.
    fn advance(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        self.fetch_and_trace(now_ms, out);
        // Each round appends an entry or ends the loop, and only known votes decide entries.
        while self.order(out) {}
        self.fetch_and_trace(now_ms, out);
        self.replay_first(out);
        self.issue_tickets(now_ms, out);
    }

    fn fetch_and_trace(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let unheld: Vec<CommitId> =
            self.chain.queue().iter().map(|queued| queued.commit).filter(|id| !self.commits.contains_key(id)).collect();
        for id in unheld {
            let held = self.new_held(None, now_ms);
            self.commits.insert(id, held);
        }
        for (id, held) in &mut self.commits {
            match &held.body {
                None if held.soundness != Soundness::Unsound
                    && held.asked_ms.is_none_or(|asked| now_ms.saturating_sub(asked) >= RESEND_MS) =>
                {
                    held.asked_ms = Some(now_ms);
                    out.push(Output::FetchCommit(*id));
                }
                Some(body) if held.soundness == Soundness::Unknown && self.chain.status(*id).is_none() => {
                    held.soundness = Soundness::Tracing;
                    out.push(Output::Trace(body.clone()));
                }
                _ => {}
            }
        }
    }

    fn order(&mut self, out: &mut Vec<Output>) -> bool {
        let mut ordering = std::mem::replace(&mut self.ordering, Ordering::new(self.secret.clone()));
        let effects = ordering.drive(&self.chain, || self.next_entry(), |entry| self.agree(entry));
        self.ordering = ordering;
        let mut decided = false;
        for effect in effects {
            match effect {
                Effect::Publish(gossip) => self.sign_and_publish(gossip, out),
                Effect::Decided(certified) => decided |= self.append(certified, true, out),
            }
        }
        decided
    }

    /// The entry that a sequencer proposes: settle the first of the queue, else queue the
    /// commit that came first.
    fn next_entry(&self) -> Option<EntryKind> {
        if let Some(queued) = self.chain.queue().front() {
            let commit = queued.commit;
            match self.outcome(queued) {
                Outcome::Accept => return Some(EntryKind::Accepted { commit }),
                Outcome::Refuse(why) => return Some(EntryKind::Refused { commit, why }),
                Outcome::Open => {}
            }
        }
        let unqueued = |(id, held): &(&CommitId, &Held)| {
            let revealed = held.body.as_ref().is_some_and(|body| self.chain.revealed(body.body.proposal.id()));
            self.chain.status(**id).is_none() && held.soundness == Soundness::Sound && !revealed
        };
        self.commits.iter().filter(unqueued).min_by_key(|(_, held)| held.arrival).and_then(|(id, held)| {
            let body = &held.body.as_ref()?.body;
            Some(EntryKind::Queued {
                commit: *id,
                proposal: body.proposal.id(),
                author: body.author(),
                claim: body.claim(),
            })
        })
    }

    /// Whether a candidate says what is true here.
    fn agree(&self, entry: &Entry) -> bool {
        match &entry.kind {
            EntryKind::Queued { commit, proposal, author, claim } => self
                .commits
                .get(commit)
                .filter(|held| held.soundness == Soundness::Sound)
                .and_then(|held| held.body.as_ref())
                .is_some_and(|signed| {
                    let body = &signed.body;
                    body.proposal.id() == *proposal && body.author() == *author && body.claim() == *claim
                }),
            EntryKind::Accepted { .. } => {
                self.chain.queue().front().is_some_and(|queued| self.outcome(queued) == Outcome::Accept)
            }
            EntryKind::Refused { why, .. } => self.chain.queue().front().is_some_and(|queued| {
                let tally = self.tally(queued.commit);
                settle::refusal_holds(
                    self.chain.track(),
                    self.chain.quorum(),
                    &self.chain.record(),
                    &queued.claim,
                    &tally,
                    *why,
                )
            }),
            // Seats are voted by people; this build has no such vote yet.
            EntryKind::Roster { .. } => false,
        }
    }

    fn tally(&self, commit: CommitId) -> Tally {
        let verdicts = self.verdicts.get(&commit).into_iter().flat_map(|of| of.values().map(|signed| &signed.body));
        Tally::new(commit, self.chain.roster(), verdicts)
    }

    fn outcome(&self, queued: &Queued) -> Outcome {
        let tally = self.tally(queued.commit);
        settle::outcome(self.chain.track(), self.chain.quorum(), &self.chain.record(), &queued.claim, &tally)
    }

    fn append(&mut self, certified: CertifiedEntry, publish: bool, out: &mut Vec<Output>) -> bool {
        if self.chain.apply(&certified).is_err() {
            return false;
        }
        let height = certified.entry.height;
        out.push(Output::Append(certified.clone()));
        match &certified.entry.kind {
            EntryKind::Queued { commit, proposal, .. } => {
                self.proposals.remove(proposal);
                out.push(Output::Event(Event::Queued { commit: *commit, height }));
            }
            EntryKind::Accepted { commit } => {
                self.settled(*commit, out);
                if let Some(head) = self.chain.head() {
                    let (claim, credit) = (head.claim, head.credit);
                    out.push(Output::Event(Event::Accepted { commit: *commit, height, claim, credit }));
                }
            }
            EntryKind::Refused { commit, why } => {
                self.settled(*commit, out);
                out.push(Output::Event(Event::Refused { commit: *commit, height, why: *why }));
            }
            EntryKind::Roster { .. } => {}
        }
        if publish {
            out.push(Output::Publish(Gossip::Entry(certified)));
        }
        true
    }

    fn settled(&mut self, commit: CommitId, out: &mut Vec<Output>) {
        self.verdicts.remove(&commit);
        if self.commits.remove(&commit).is_some_and(|held| held.replaying) {
            out.push(Output::StopReplay(commit));
        }
    }

    fn replay_first(&mut self, out: &mut Vec<Output>) {
        let Some(queued) = self.chain.queue().front() else {
            return;
        };
        let commit = queued.commit;
        let hopeless = settle::refused_unreplayed(self.chain.track(), &self.chain.record(), &queued.claim).is_some();
        if hopeless || self.judged(commit) || !self.chain.roster().contains(&self.me) {
            return;
        }
        let Some(held) = self.commits.get_mut(&commit) else {
            return;
        };
        if let (Some(body), false) = (&held.body, held.replaying) {
            held.replaying = true;
            out.push(Output::Event(Event::Replaying { commit }));
            out.push(Output::Replay(body.clone()));
        }
    }

    /// Policy: tickets to the oldest proposals first, while nothing revealed waits to be queued.
    fn issue_tickets(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let waits = self.commits.iter().any(|(id, held)| {
            self.chain.status(*id).is_none()
                && held.soundness != Soundness::Unsound
                // A body that never comes must not stop the network: patience has an end.
                && now_ms.saturating_sub(held.seen_ms) < REVEAL_WAIT_MS
        });
        if waits || self.chain.queue().len() >= QUEUE_MAX {
            return;
        }
        let mut asking: Vec<(u64, ProposalId)> = self
            .proposals
            .iter()
            .filter(|(_, opened)| {
                opened.signed.body.ticketers.contains(&self.me) && !opened.tickets.contains_key(&self.me)
            })
            .map(|(id, opened)| (opened.arrival, *id))
            .collect();
        asking.sort_unstable();
        for (_, id) in asking {
            self.issue_ticket(id, now_ms, out);
        }
    }

    fn issue_ticket(&mut self, id: ProposalId, now_ms: u64, out: &mut Vec<Output>) {
        let Some(author) = self.proposals.get(&id).map(|opened| opened.signed.body.author) else {
            return;
        };
        let open_ms = open_ms(self.chain.track());
        let open = self
            .proposals
            .values()
            .filter(|opened| {
                opened.signed.body.author == author
                    && opened.tickets.contains_key(&self.me)
                    && now_ms.saturating_sub(opened.seen_ms) < open_ms
            })
            .count();
        if open >= OPEN_PROPOSALS_PER_AUTHOR_MAX {
            return;
        }
        let ticket = Ticket { track: self.chain.id(), proposal: id, ticketer: self.me };
        let signed = Signed::by_verifier(ticket, &self.secret);
        if let Some(opened) = self.proposals.get_mut(&id) {
            opened.tickets.insert(self.me, signed.clone());
        }
        self.sign_and_publish(Gossip::Ticket(signed), out);
        out.push(Output::Event(Event::Ticketed { proposal: id, author }));
    }
}

/// How long a proposal counts as open: policy, from the price of its official runs.
fn open_ms(track: &Track) -> u64 {
    let runs_ms = track.budget.saturating_mul(u64::from(track.seeds)) / PROPOSAL_OPERATIONS_PER_MS;
    PROPOSAL_OPEN_MS.saturating_add(runs_ms)
}
