//! The records that peers sign, hash and keep.
//!
//! Start at [`Track`], then [`Commit`], [`Verdict`] and [`Entry`]. What each field means on the
//! wire stands in `docs/spec/wire.md`; what makes a record valid stands in [`crate::gate`].
//!
//! *Invariant:* metrics, margins and credit are `i64` in units of 2⁻²⁴, and lower is better.

use bincode::{Decode, Encode};
use serde::Serialize;

use crate::bounded::{BoundedVec, Text};
use crate::codec::{Wire, encode};
use crate::ids::*;
use crate::keys::*;
use crate::limits::*;

/// How results of a track are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub enum TrackKind {
    /// Re-run one training and compare bits.
    Train,
}

/// One raw data file of a track.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct DataBlob {
    /// BLAKE3 of the file.
    pub blob: BlobId,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The program that the track's owner wrote, and what it reaches.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Baseline {
    /// The whole `train.py`.
    pub source: Text<SOURCE_BYTES_MAX>,
    /// Its graph.
    pub graph: GraphId,
    /// Worst metric over the owner's seeds: the first record.
    pub metric: i64,
    /// Worst test metric over the owner's seeds.
    pub test: i64,
}

/// A research track: data, rules and founding roster. Its hash is the track's id.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Track {
    /// [`WIRE_VERSION`].
    pub version: u16,
    /// [`ARITHMETIC_VERSION`].
    pub arithmetic: u16,
    /// Short name: lowercase letters, digits and `-`.
    pub name: Text<NAME_BYTES_MAX>,
    /// One line.
    pub title: Text<TITLE_BYTES_MAX>,
    /// What is researched, on which data, what a result would mean.
    pub description: Text<DESCRIPTION_BYTES_MAX>,
    /// How results are verified.
    pub kind: TrackKind,
    /// Operations that one run may cost, evaluation included.
    pub budget: u64,
    /// Bytes of memory that one run may need.
    pub memory: u64,
    /// Parameters that a program may have.
    pub parameters: u64,
    /// Bytes of source that a program may have.
    pub source_bytes: u32,
    /// Bits of information that a program's literals may hold.
    pub literal_bits: u32,
    /// Number m of official seeds.
    pub seeds: u8,
    /// Number S of trace segments of one run.
    pub segments: u16,
    /// Margin δ by which a claim must beat the record.
    pub margin: i64,
    /// Name of the rule that turns the data blobs into examples (`names`, `bytes`).
    pub converter: Text<NAME_BYTES_MAX>,
    /// The raw data.
    pub data: BoundedVec<DataBlob, TRACK_BLOBS_MAX>,
    /// Where research starts.
    pub baseline: Baseline,
    /// Who opened the track.
    pub owner: AuthorKey,
    /// The founding verifiers, in seat order; seat 0 is the sequencer.
    pub roster: BoundedVec<VerifierKey, ROSTER_MAX>,
    /// The track and tip that this one continues.
    pub continues: Option<Continues>,
}

/// The past of a continued track.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Continues {
    /// The old track.
    pub track: TrackId,
    /// Its last entry.
    pub tip: EntryId,
}

/// A research idea for others to try.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Idea {
    /// The track it is meant for.
    pub track: TrackId,
    /// Who had it.
    pub author: AuthorKey,
    /// One line.
    pub title: Text<TITLE_BYTES_MAX>,
    /// A paragraph.
    pub text: Text<TEXT_BYTES_MAX>,
    /// Where it comes from, or empty.
    pub source: Text<LINK_BYTES_MAX>,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportStatus {
    /// It ran to its end.
    Done,
    /// It was stopped because it fell behind.
    Stopped,
    /// A number left the finite range.
    Diverged,
    /// It was refused before it ran.
    Refused,
}

/// One unverified result.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Report {
    /// Graph of the program it started from.
    pub base: GraphId,
    /// Graph that was run.
    pub graph: GraphId,
    /// What was changed: `param old → new`.
    pub summary: Text<SUMMARY_BYTES_MAX>,
    /// The metric, where the run ended.
    pub metric: i64,
    /// The seed, as a number.
    pub seed: u64,
    /// How it ended.
    pub status: ReportStatus,
    /// Kind of proposer.
    pub proposer: Text<NAME_BYTES_MAX>,
}

/// A batch of unverified results of one worker: the network's memory of what was tried.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Reports {
    /// The track.
    pub track: TrackId,
    /// Who ran them.
    pub author: AuthorKey,
    /// Counts the author's batches, so that equal batches differ.
    pub batch: u64,
    /// The results.
    pub results: BoundedVec<Report, REPORTS_MAX>,
}

/// Opens a claim without revealing it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Proposal {
    /// The track.
    pub track: TrackId,
    /// Who will be credited.
    pub author: AuthorKey,
    /// H(author ‖ draft hash ‖ salt).
    pub commitment: Commitment,
    /// Height whose roster the ticketers are from.
    pub roster_height: u64,
    /// Exactly q members of the roster, in seat order: named before any ticket is known.
    pub ticketers: BoundedVec<VerifierKey, TICKETS_MAX>,
    /// Number that makes the stamp's hash begin with [`STAMP_ZERO_BITS`] zero bits.
    pub stamp: u64,
}

/// A verifier's contribution to the official seeds of a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Ticket {
    /// The track.
    pub track: TrackId,
    /// The proposal.
    pub proposal: ProposalId,
    /// The named ticketer that signs.
    pub ticketer: VerifierKey,
}

/// Who or what found a change.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Researcher {
    /// Kind (`knobs`, `person`, `agent`, …).
    pub kind: Text<NAME_BYTES_MAX>,
    /// Model, or empty.
    pub model: Text<TITLE_BYTES_MAX>,
    /// Hash of its `program.md`, or zeros.
    pub program: Hash32,
}

/// What a proposal's commitment binds: the change itself, without its results.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Draft {
    /// The commit that the change started from; none for the track's baseline.
    pub parent: Option<CommitId>,
    /// The whole program.
    pub source: Text<SOURCE_BYTES_MAX>,
    /// Its graph.
    pub graph: GraphId,
    /// One line.
    pub title: Text<TITLE_BYTES_MAX>,
    /// Why it should help.
    pub why: Text<TEXT_BYTES_MAX>,
    /// The idea that it follows.
    pub idea: Option<IdeaId>,
    /// Who found it.
    pub researcher: Researcher,
}

/// What one official run reached.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Run {
    /// The validation metric.
    pub metric: i64,
    /// The test metric.
    pub test: i64,
    /// Hash of the state at the end of each segment.
    pub leaves: BoundedVec<Hash32, { SEGMENTS as usize }>,
}

/// A claim that a program beats the record: complete, so that anyone can recompute it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Commit {
    /// The proposal that opened the claim.
    pub proposal: Signed<Proposal>,
    /// The q tickets, in the order of the proposal's ticketers.
    #[serde(skip)]
    pub tickets: BoundedVec<Signature, TICKETS_MAX>,
    /// Opens the commitment.
    pub salt: Hash32,
    /// The change.
    pub draft: Draft,
    /// One official run for each seed.
    pub runs: BoundedVec<Run, SEEDS_MAX>,
    /// Runs that the search took, as its author says.
    pub effort: u64,
}

impl Commit {
    /// The track.
    pub fn track(&self) -> TrackId {
        self.proposal.body.track
    }
    /// Who is credited.
    pub fn author(&self) -> AuthorKey {
        self.proposal.body.author
    }
    /// What the commit claims.
    pub fn claim(&self) -> Claim {
        Claim {
            metric: self.runs.iter().map(|run| run.metric).max().unwrap_or(i64::MAX),
            test: self.runs.iter().map(|run| run.test).max().unwrap_or(i64::MAX),
        }
    }
    /// The official seeds, in order.
    pub fn seeds(&self) -> Vec<Seed> {
        official_seeds(self.proposal.id(), &self.tickets, self.runs.len())
    }
}

/// The official seeds: seed j = H(proposal id ‖ tickets in order ‖ j).
pub fn official_seeds(proposal: ProposalId, tickets: &[Signature], count: usize) -> Vec<Seed> {
    let mut joined = Vec::with_capacity(32 + tickets.len() * 64);
    joined.extend_from_slice(&proposal.0);
    tickets.iter().for_each(|ticket| joined.extend_from_slice(&ticket.0));
    (0..).take(count).map(|j: u32| Seed(hash("official seed", &[&joined, &j.to_be_bytes()]))).collect()
}

/// The worst of the official runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Claim {
    /// Worst metric.
    pub metric: i64,
    /// Worst test metric.
    pub test: i64,
}

/// Announces a commit; its body is fetched by id. The signature is the commit's own.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CommitHeader {
    /// The track.
    pub track: TrackId,
    /// Who signed.
    pub author: AuthorKey,
    /// Hash of the body.
    pub commit: CommitId,
    /// The proposal that it reveals.
    pub proposal: ProposalId,
    /// The commit's signature ([`CommitHeader::statement`]).
    pub signature: Signature,
}

/// One thing to verify of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
pub enum Item {
    /// A segment of the run with one seed.
    Segment {
        /// Index of the seed.
        seed: u8,
        /// Index of the segment.
        segment: u16,
    },
    /// The evaluation at the end of the run with one seed.
    Evaluation {
        /// Index of the seed.
        seed: u8,
    },
}

/// What a verifier found.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub enum Finding {
    /// The claim holds.
    Good {
        /// Hash of a state strictly inside the segment, or of the evaluation's result.
        proof: Hash32,
    },
    /// The claim does not hold.
    Bad {
        /// The leaf, or hash of the evaluation's result, that was computed instead.
        found: Hash32,
    },
    /// It could not be verified here.
    Cannot,
}

/// Findings about one item.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Judged {
    /// The item.
    pub item: Item,
    /// The finding.
    pub finding: Finding,
}

/// A verifier's signed findings about a commit: items in ascending order, each once.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Verdict {
    /// The track.
    pub track: TrackId,
    /// The commit.
    pub commit: CommitId,
    /// Who replayed.
    pub verifier: VerifierKey,
    /// The findings.
    pub findings: BoundedVec<Judged, VERDICT_ITEMS_MAX>,
}

/// The step strictly inside a segment of `len` steps whose state proves a replay: in 1..len.
///
/// A segment of one step has no inside; its end (1) stands in.
pub fn inside_step(verifier: VerifierKey, commit: CommitId, seed: u8, segment: u16, len: u64) -> u64 {
    let digest = hash("inside step", &[&verifier.0, &commit.0, &[seed], &segment.to_be_bytes()]);
    let draw = digest.iter().take(8).fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
    match len.checked_sub(1) {
        None | Some(0) => len,
        Some(inside) => 1 + draw % inside,
    }
}

/// Hash of an evaluation's result.
pub fn evaluation_hash(metric: i64, test: i64) -> Hash32 {
    Hash32(hash("evaluation", &[&metric.to_be_bytes(), &test.to_be_bytes()]))
}

/// Why a queued commit was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub enum Refusal {
    /// Its claim did not beat the record by the margin when its turn came.
    NotARecord,
    /// Its test metric was worse than the record's by more than the margin.
    TestWorse,
    /// f+1 verifiers refuted this item.
    Refuted(Item),
    /// q verifiers could not verify this item.
    Skipped(Item),
}

/// What an entry does.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub enum EntryKind {
    /// A commit takes its place in the queue.
    Queued {
        /// The commit.
        commit: CommitId,
        /// The proposal that it reveals.
        proposal: ProposalId,
        /// Who is credited.
        author: AuthorKey,
        /// What it claims.
        claim: Claim,
    },
    /// The first commit of the queue is the new record.
    Accepted {
        /// The commit.
        commit: CommitId,
    },
    /// The first commit of the queue is refused.
    Refused {
        /// The commit.
        commit: CommitId,
        /// Why.
        why: Refusal,
    },
    /// A roster member's seat passes to another key.
    Roster {
        /// The seat.
        seat: u8,
        /// Its new holder.
        verifier: VerifierKey,
    },
}

impl EntryKind {
    /// The commit it is about.
    pub fn commit(&self) -> Option<CommitId> {
        match self {
            EntryKind::Queued { commit, .. } | EntryKind::Accepted { commit } | EntryKind::Refused { commit, .. } => {
                Some(*commit)
            }
            EntryKind::Roster { .. } => None,
        }
    }
}

/// One link of a track's hash chain.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Entry {
    /// The track.
    pub track: TrackId,
    /// Height; the first entry has height 1.
    pub height: u64,
    /// The entry before; the track's id before the first.
    pub previous: EntryId,
    /// What it does.
    pub kind: EntryKind,
}

/// One roster member's signature for an entry at a height: it is over H(height ‖ entry), so that
/// nobody can pass a vote off as one for another height.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Vote {
    /// The track.
    pub track: TrackId,
    /// Height of the entry.
    pub height: u64,
    /// The entry.
    pub entry: EntryId,
    /// Who votes.
    pub verifier: VerifierKey,
    /// The signature.
    pub signature: Signature,
}

/// A signature by the holder of a seat.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SeatSignature {
    /// Index into the roster.
    pub seat: u8,
    /// The vote's signature ([`Vote::statement`]).
    pub signature: Signature,
}

/// At least q votes for one entry, in ascending seat order. Never part of a hash: the set of
/// signers differs between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Certificate {
    /// The signatures.
    pub votes: BoundedVec<SeatSignature, ROSTER_MAX>,
}

/// An entry and its certificate, side by side.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CertifiedEntry {
    /// The entry.
    pub entry: Entry,
    /// Its certificate.
    pub certificate: Certificate,
}

/// A record whose signer stands in its body.
pub trait Record: Wire + Clone {
    /// The record's id.
    type Id: From<[u8; 32]>;
    /// Name in the hash context.
    const NAME: &'static str;
    /// The id: hash of the canonical bytes.
    fn id(&self) -> Self::Id {
        Self::Id::from(hash(Self::NAME, &[&encode(self)]))
    }
}

/// A record that somebody signs.
pub trait Signable: Record {
    /// Domain of the signature.
    const DOMAIN: Domain;
    /// The track it belongs to.
    fn track(&self) -> TrackId;
    /// Public key of the signer.
    fn signer(&self) -> [u8; 32];
    /// What is signed: the record's hash, unless the record says otherwise.
    fn statement(&self) -> [u8; 32] {
        hash(Self::NAME, &[&encode(self)])
    }
}

/// A record and its signer's signature over its hash.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Signed<T> {
    /// The record.
    pub body: T,
    /// The signature.
    #[serde(skip)]
    pub signature: Signature,
}

impl<T: Signable> Signed<T> {
    /// Signs as an author.
    pub fn by_author(body: T, secret: &AuthorSecret) -> Self {
        let signature = secret.sign(T::DOMAIN, &body.track(), &body.statement());
        Self { body, signature }
    }
    /// Signs as a verifier.
    pub fn by_verifier(body: T, secret: &VerifierSecret) -> Self {
        let signature = secret.sign(T::DOMAIN, &body.track(), &body.statement());
        Self { body, signature }
    }
    /// Checks the signature.
    pub fn verify(&self) -> Result<(), BadSignature> {
        let (track, statement) = (self.body.track(), self.body.statement());
        AuthorKey(self.body.signer()).verify(T::DOMAIN, &track, &statement, &self.signature)
    }
    /// The record's id; the signature is no part of it.
    pub fn id(&self) -> T::Id {
        self.body.id()
    }
}

impl<T: Wire> Wire for Signed<T> {
    const BYTES_MAX: usize = T::BYTES_MAX + 64;
}

/// Ties record types to their names, ids, limits and signers.
macro_rules! records {
    ($($type:ident, $name:literal, $id:ident, $max:expr;)*) => {$(
        impl Wire for $type { const BYTES_MAX: usize = $max; }
        impl Record for $type { type Id = $id; const NAME: &'static str = $name; }
    )*};
}
records! {
    Track, "track", TrackId, TRACK_BYTES_MAX;
    Idea, "idea", IdeaId, GOSSIP_BYTES_MAX;
    Reports, "reports", Hash32, GOSSIP_BYTES_MAX;
    Proposal, "proposal", ProposalId, GOSSIP_BYTES_MAX;
    Ticket, "ticket", Hash32, GOSSIP_BYTES_MAX;
    Draft, "draft", Hash32, COMMIT_BYTES_MAX;
    Commit, "commit", CommitId, COMMIT_BYTES_MAX;
    Verdict, "verdict", Hash32, GOSSIP_BYTES_MAX;
    Entry, "entry", EntryId, ENTRY_BYTES_MAX;
}

macro_rules! signable {
    ($($type:ident, $domain:ident, $signer:ident;)*) => {$(
        impl Signable for $type {
            const DOMAIN: Domain = Domain::$domain;
            fn track(&self) -> TrackId { self.track }
            fn signer(&self) -> [u8; 32] { self.$signer.0 }
        }
    )*};
}
signable! {
    Idea, Idea, author;
    Reports, Reports, author;
    Proposal, Proposal, author;
    Ticket, Ticket, ticketer;
    Verdict, Verdict, verifier;
}

impl Signable for Commit {
    const DOMAIN: Domain = Domain::Commit;
    fn track(&self) -> TrackId {
        self.proposal.body.track
    }
    fn signer(&self) -> [u8; 32] {
        self.proposal.body.author.0
    }
    fn statement(&self) -> [u8; 32] {
        CommitHeader::statement(self.id(), self.proposal.id())
    }
}

impl Wire for Vote {
    const BYTES_MAX: usize = GOSSIP_BYTES_MAX;
}
impl Wire for Certificate {
    const BYTES_MAX: usize = ENTRY_BYTES_MAX;
}
impl Wire for CertifiedEntry {
    const BYTES_MAX: usize = ENTRY_BYTES_MAX;
}
impl Wire for CommitHeader {
    const BYTES_MAX: usize = GOSSIP_BYTES_MAX;
}

impl Signed<Commit> {
    /// The header that announces this commit.
    pub fn header(&self) -> CommitHeader {
        CommitHeader {
            track: self.body.track(),
            author: self.body.author(),
            commit: self.id(),
            proposal: self.body.proposal.id(),
            signature: self.signature,
        }
    }
}

impl CommitHeader {
    /// What an author signs: H(commit ‖ proposal), so that a header that names another proposal
    /// than its commit does not hold.
    pub fn statement(commit: CommitId, proposal: ProposalId) -> [u8; 32] {
        hash("commit statement", &[&commit.0, &proposal.0])
    }
    /// Checks the author's signature.
    pub fn verify(&self) -> Result<(), BadSignature> {
        let statement = Self::statement(self.commit, self.proposal);
        self.author.verify(Domain::Commit, &self.track, &statement, &self.signature)
    }
}

impl Vote {
    /// What a vote signs: H(height ‖ entry).
    pub fn statement(height: u64, entry: EntryId) -> [u8; 32] {
        hash("vote statement", &[&height.to_be_bytes(), &entry.0])
    }
    /// Votes for `entry`.
    pub fn sign(entry: &Entry, secret: &VerifierSecret) -> Self {
        let id = entry.id();
        let signature = secret.sign(Domain::Vote, &entry.track, &Self::statement(entry.height, id));
        Self { track: entry.track, height: entry.height, entry: id, verifier: secret.public(), signature }
    }
    /// Checks the signature.
    pub fn verify(&self) -> Result<(), BadSignature> {
        let statement = Self::statement(self.height, self.entry);
        self.verifier.verify(Domain::Vote, &self.track, &statement, &self.signature)
    }
}

/// The commitment of a proposal: H(author ‖ draft hash ‖ salt).
pub fn commitment(author: AuthorKey, draft: &Draft, salt: Hash32) -> Commitment {
    Commitment(hash("commitment", &[&author.0, &draft.id().0, &salt.0]))
}

impl Proposal {
    fn stamped(&self) -> [u8; 32] {
        hash("proposal without stamp", &[&encode(&Proposal { stamp: 0, ..self.clone() })])
    }

    /// Whether the stamp's work was done.
    pub fn stamp_holds(&self) -> bool {
        stamp_zeros(&self.stamped(), self.stamp) >= STAMP_ZERO_BITS
    }

    /// Does the stamp's work: about 2^[`STAMP_ZERO_BITS`] hashes.
    pub fn stamp(mut self) -> Self {
        let stamped = self.stamped();
        self.stamp = 0;
        while stamp_zeros(&stamped, self.stamp) < STAMP_ZERO_BITS {
            self.stamp = self.stamp.wrapping_add(1);
        }
        self
    }
}

fn stamp_zeros(stamped: &[u8; 32], number: u64) -> u32 {
    let digest = hash("stamp", &[stamped, &number.to_be_bytes()]);
    let head = digest.iter().take(8).fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
    head.leading_zeros()
}

impl Track {
    /// Verifiers n of the founding roster.
    pub fn seats(&self) -> usize {
        self.roster.len()
    }
}
