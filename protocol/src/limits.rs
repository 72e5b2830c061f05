//! Every limit of the records and of the exchanges between peers, with its unit and its reason.
//!
//! *Invariant:* nothing that a peer can make grow is without a limit here. A limit that bounds a
//! hashed or signed record is part of the wire format: changing it changes what is valid.

/// Version of the records; the first field of a track, so that every id depends on it.
pub const WIRE_VERSION: u16 = 1;
/// Version of the arithmetic (`docs/spec/arithmetic.md`) that this build computes.
pub const ARITHMETIC_VERSION: u16 = 1;

/// Trace segments S of one run: a forger is refuted after 1/S of the work, and S hashes are small.
pub const SEGMENTS: u16 = 16;
/// Largest number m of official seeds: more would only cost the network replays.
pub const SEEDS_MAX: usize = 8;
/// Largest roster, in verifiers: 31 fit a `u32` mask, and votes grow with n².
pub const ROSTER_MAX: usize = 31;
/// Largest quorum q of the largest roster (n − ⌊(n−1)/3⌋), in tickets.
pub const TICKETS_MAX: usize = 21;

/// A program's source, in bytes: a readable training program is a tenth of this.
pub const SOURCE_BYTES_MAX: usize = 16 * 1024;
/// A short name (track, researcher kind), in bytes.
pub const NAME_BYTES_MAX: usize = 32;
/// A title, in bytes: one line.
pub const TITLE_BYTES_MAX: usize = 120;
/// A free text (why, idea), in bytes: a paragraph or two.
pub const TEXT_BYTES_MAX: usize = 2 * 1024;
/// A track's description, in bytes: a page.
pub const DESCRIPTION_BYTES_MAX: usize = 4 * 1024;
/// A link, in bytes.
pub const LINK_BYTES_MAX: usize = 512;
/// The summary of one report, in bytes: a handful of changed constants.
pub const SUMMARY_BYTES_MAX: usize = 96;
/// Results in one batch of reports: a minute of the fastest worker on the smallest track.
pub const REPORTS_MAX: usize = 64;
/// Data blobs of one track.
pub const TRACK_BLOBS_MAX: usize = 8;
/// Size of one data blob, in bytes: what a volunteer downloads without asking.
pub const BLOB_BYTES_MAX: u64 = 4 << 30;

/// Items of one verdict: every (seed, segment) and one evaluation for each seed.
pub const VERDICT_ITEMS_MAX: usize = SEEDS_MAX * (SEGMENTS as usize + 1);

/// An encoded track, in bytes: source, description and roster.
pub const TRACK_BYTES_MAX: usize = 32 * 1024;
/// An encoded commit, in bytes: source, texts, 21 tickets, 8 runs of 16 leaves.
pub const COMMIT_BYTES_MAX: usize = 32 * 1024;
/// A gossiped record, in bytes: everybody forwards it, so it stays small.
pub const GOSSIP_BYTES_MAX: usize = 16 * 1024;
/// An encoded entry with its certificate, in bytes.
pub const ENTRY_BYTES_MAX: usize = 4 * 1024;
/// A request, in bytes: ids and numbers only.
pub const REQUEST_BYTES_MAX: usize = 1024;
/// A response, in bytes: one page of entries or records, or one chunk of a blob.
pub const RESPONSE_BYTES_MAX: usize = 1024 * 1024;
/// One chunk of a blob, in bytes: ten a second on a slow line, and one is cheap to lose.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// Entries in one page of a chain.
pub const ENTRIES_PAGE_MAX: usize = 128;
/// Records in one page of pending records.
pub const PENDING_PAGE_MAX: usize = 32;

/// Peers in one answer about neighbours: enough to join a mesh of six many times over.
pub const NEIGHBOURS_MAX: usize = 32;
/// Addresses of one neighbour: two transports on a few interfaces.
pub const NEIGHBOUR_ADDRESSES_MAX: usize = 8;
/// One address of a peer (a multiaddress as text), in bytes.
pub const ADDRESS_BYTES_MAX: usize = 128;
/// An answer about neighbours, in bytes.
pub const NEIGHBOURS_BYTES_MAX: usize = 40 * 1024;

/// Leading zero bits of a proposal's stamp: about 65,000 hashes, some tens of milliseconds, so
/// that a flood of proposals costs its sender far more than the check costs us.
pub const STAMP_ZERO_BITS: u32 = 16;

/// Open (not yet revealed) proposals that a verifier gives tickets to, for one author.
pub const OPEN_PROPOSALS_PER_AUTHOR_MAX: usize = 4;
/// Proposals a verifier remembers for a track: a bound on memory, oldest forgotten first.
pub const PROPOSALS_MAX: usize = 4096;
/// Tickets a machine remembers for a track.
pub const TICKETS_KEPT_MAX: usize = PROPOSALS_MAX * TICKETS_MAX;
/// Commits that wait in the queue or to be queued before a verifier stops issuing tickets.
pub const QUEUE_MAX: usize = 64;
/// Commit bodies a machine holds before they are queued.
pub const PENDING_COMMITS_MAX: usize = 256;
/// Milliseconds for which an unrevealed proposal counts as open, besides the time that its official
/// runs may take: fetching tickets and revealing takes seconds. Policy only, never validity.
pub const PROPOSAL_OPEN_MS: u64 = 15 * 1000;
/// Operations a millisecond of the slowest worker that policy waits for.
pub const PROPOSAL_OPERATIONS_PER_MS: u64 = 1_000_000;
/// Time in milliseconds that a revealed commit may hold back tickets before policy gives up on it
/// (its body may never arrive): a verifier's patience, never validity.
pub const REVEAL_WAIT_MS: u64 = 10 * 1000;
/// Interval in milliseconds after which unanswered requests and own votes are sent again.
pub const RESEND_MS: u64 = 2 * 1000;
/// Ideas kept for a track, oldest forgotten first.
pub const IDEAS_MAX: usize = 1024;
