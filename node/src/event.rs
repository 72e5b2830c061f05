//! What a node tells the person who runs it.

use cairn_protocol::{Claim, CommitId, GraphId, ProposalId, Refusal, ReportStatus};

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer connected or left.
    Peers {
        /// Peers now.
        connected: usize,
    },
    /// Entries were fetched.
    Synced {
        /// Height of the chain now.
        height: u64,
    },
    /// A try begins.
    Trying {
        /// What is changed.
        summary: String,
    },
    /// A try ended.
    Tried {
        /// What was changed.
        summary: String,
        /// How it ended.
        status: ReportStatus,
        /// Metric, where it ended well.
        metric: Option<i64>,
        /// Metric − (record − margin): negative is good enough for a claim.
        short: Option<i64>,
        /// Exploration seed.
        seed: u64,
        /// Why it was refused or stopped, or empty.
        note: String,
        /// Real time that it took, in milliseconds.
        took_ms: u64,
    },
    /// Official seeds were asked for.
    Proposed {
        /// The proposal.
        proposal: ProposalId,
        /// What is claimed.
        title: String,
        /// Which attempt.
        attempt: u8,
    },
    /// The official run begins.
    Running {
        /// The proposal.
        proposal: ProposalId,
        /// What is claimed.
        title: String,
    },
    /// A commit was revealed.
    Claimed {
        /// The commit.
        commit: CommitId,
        /// What it changes.
        title: String,
        /// What it claims.
        claim: Claim,
        /// The record that it beats.
        record: Claim,
    },
    /// A claim was dropped.
    GaveUp {
        /// The proposal.
        proposal: ProposalId,
        /// The graph.
        graph: GraphId,
        /// Why.
        why: String,
    },
    /// A commit was queued.
    Queued {
        /// The commit.
        commit: CommitId,
        /// Height of the entry.
        height: u64,
        /// What it claims.
        claim: Claim,
        /// Whether it is this node's.
        mine: bool,
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
        /// Whether it is this node's.
        mine: bool,
    },
    /// A commit was refused.
    Refused {
        /// The commit.
        commit: CommitId,
        /// Height of the entry.
        height: u64,
        /// Why.
        why: Refusal,
        /// Whether it is this node's.
        mine: bool,
    },
    /// There is news of a GPU.
    Gpu {
        /// The device's name; empty where there is none.
        name: String,
        /// What happened.
        status: GpuStatus,
        /// The same in words.
        says: String,
    },
    /// Something went wrong and will be tried again.
    Trouble(String),
}

/// What happened to a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuStatus {
    /// There is none to use.
    None,
    /// It is being measured.
    Examining,
    /// It keeps the arithmetic.
    Passed,
    /// It does not.
    Failed,
    /// It is faster than the processor for the present programs, and does the work.
    Used,
    /// It is not.
    Slower,
    /// It could not do what it should.
    Trouble,
    /// An audit found other bits on the processor: it is not trusted.
    Demoted,
}
