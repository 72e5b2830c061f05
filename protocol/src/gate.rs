//! What makes a record valid: cheap, pure checks in the order in which a peer makes them.
//!
//! [`stateless`] needs the record alone; a failure there is its sender's fault. [`with_chain`] and
//! [`commit`] need the chain; a failure there may be our own ignorance, so nobody is punished.
//!
//! *Invariant:* validity never depends on a clock, on a queue or on any verifier's policy.

use crate::chain::ChainState;
use crate::codec::{CodecError, decode};
use crate::ids::{ProposalId, TrackId};
use crate::keys::{BadSignature, Domain};
use crate::limits::*;
use crate::messages::Gossip;
use crate::records::*;
use crate::settle;

/// Why a record is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// Not canonical bytes.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A signature does not hold.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// The stamp's work was not done.
    #[error("the proposal's stamp does not hold")]
    Stamp,
    /// A verdict's items are not in ascending order.
    #[error("the verdict's items are not in ascending order, each once")]
    Order,
    /// Another track's record.
    #[error("the record is of track {0}, not of this one")]
    Track(TrackId),
    /// The proposal names a height that this chain does not have.
    #[error("roster height {0} is above our chain")]
    RosterHeight(u64),
    /// The proposal's ticketers are not q members of the roster in seat order.
    #[error("the ticketers of proposal {0} are not {1} roster members in seat order")]
    Ticketers(ProposalId, usize),
    /// The signer has no seat.
    #[error("the signer has no seat in the roster")]
    NoSeat,
    /// The signer is not the sequencer.
    #[error("the signer is not the sequencer")]
    NotSequencer,
    /// The verdict names an item that the track does not have.
    #[error("the verdict names an item that the track does not have")]
    Item,
    /// The commit does not have one ticket of each named ticketer.
    #[error("{got} tickets where {want} are needed")]
    Tickets {
        /// Tickets given.
        got: usize,
        /// Tickets needed.
        want: usize,
    },
    /// The commitment does not open.
    #[error("the commitment does not open to this draft and salt")]
    Commitment,
    /// The number of runs or leaves is not the track's.
    #[error("{got} {what} where the track has {want}")]
    Count {
        /// What is counted.
        what: &'static str,
        /// Number given.
        got: usize,
        /// Number needed.
        want: usize,
    },
    /// The source is longer than the track allows.
    #[error("{got} bytes of source where the track allows {max}")]
    Source {
        /// Bytes given.
        got: usize,
        /// Bytes allowed.
        max: u32,
    },
    /// A track's own fields contradict each other or this build.
    #[error("the track's {0}")]
    BadTrack(&'static str),
}

/// Decodes gossip and makes the stateless checks: what the network does before it forwards.
pub fn receive(bytes: &[u8]) -> Result<Gossip, GateError> {
    let gossip = decode::<Gossip>(bytes)?;
    stateless(&gossip)?;
    Ok(gossip)
}

/// Checks that need the record alone.
pub fn stateless(gossip: &Gossip) -> Result<(), GateError> {
    match gossip {
        Gossip::Idea(idea) => idea.verify()?,
        Gossip::Reports(reports) => reports.verify()?,
        Gossip::Proposal(proposal) => check_proposal(proposal)?,
        Gossip::Ticket(ticket) => ticket.verify()?,
        Gossip::Commit(header) => header.verify()?,
        Gossip::Verdict(verdict) => {
            let items = verdict.body.findings.iter().map(|judged| judged.item);
            if items.clone().zip(items.skip(1)).any(|(a, b)| a >= b) {
                return Err(GateError::Order);
            }
            verdict.verify()?;
        }
        Gossip::Candidate(candidate) => candidate.verify()?,
        Gossip::Vote(vote) => vote.verify()?,
        // The certificate needs the chain's roster.
        Gossip::Entry(_) => {}
    }
    Ok(())
}

fn check_proposal(proposal: &Signed<Proposal>) -> Result<(), GateError> {
    // One hash first, then the costlier signature.
    if !proposal.body.stamp_holds() {
        return Err(GateError::Stamp);
    }
    Ok(proposal.verify()?)
}

/// Checks that need the chain, for a record that passed [`stateless`].
pub fn with_chain(gossip: &Gossip, chain: &ChainState) -> Result<(), GateError> {
    if gossip.track() != chain.id() {
        return Err(GateError::Track(gossip.track()));
    }
    match gossip {
        Gossip::Proposal(proposal) => ticketers(&proposal.body, chain),
        Gossip::Ticket(ticket) => seat(chain, &ticket.body.ticketer.0),
        Gossip::Verdict(verdict) => {
            seat(chain, &verdict.body.verifier.0)?;
            if verdict.body.findings.iter().any(|judged| !settle::has_item(chain.track(), judged.item)) {
                return Err(GateError::Item);
            }
            Ok(())
        }
        Gossip::Vote(vote) => seat(chain, &vote.verifier.0),
        Gossip::Candidate(candidate) if chain.roster().first() != Some(&candidate.sequencer) => {
            Err(GateError::NotSequencer)
        }
        Gossip::Idea(_) | Gossip::Reports(_) | Gossip::Commit(_) | Gossip::Candidate(_) | Gossip::Entry(_) => Ok(()),
    }
}

fn seat(chain: &ChainState, key: &[u8; 32]) -> Result<(), GateError> {
    if chain.roster().iter().any(|member| member.0 == *key) { Ok(()) } else { Err(GateError::NoSeat) }
}

fn ticketers(proposal: &Proposal, chain: &ChainState) -> Result<(), GateError> {
    let roster = chain.roster_at(proposal.roster_height).ok_or(GateError::RosterHeight(proposal.roster_height))?;
    let want = settle::quorum(roster.len()).votes;
    let mut seats = roster.iter();
    // Each ticketer is found after the one before it: distinct and in seat order.
    let in_order = proposal.ticketers.iter().all(|ticketer| seats.any(|member| member == ticketer));
    if proposal.ticketers.len() == want && in_order { Ok(()) } else { Err(GateError::Ticketers(proposal.id(), want)) }
}

/// Checks a whole commit, all but its trace and its runs.
pub fn commit(signed: &Signed<Commit>, chain: &ChainState) -> Result<(), GateError> {
    let (commit, track) = (&signed.body, chain.track());
    if commit.track() != chain.id() {
        return Err(GateError::Track(commit.track()));
    }
    let source = commit.draft.source.len();
    if source > track.source_bytes as usize {
        return Err(GateError::Source { got: source, max: track.source_bytes });
    }
    let count = |what, got, want| {
        if got == want { Ok(()) } else { Err(GateError::Count { what, got, want }) }
    };
    count("runs", commit.runs.len(), usize::from(track.seeds))?;
    for run in &commit.runs {
        count("leaves", run.leaves.len(), usize::from(track.segments))?;
    }
    let proposal = &commit.proposal.body;
    if commitment(proposal.author, &commit.draft, commit.salt) != proposal.commitment {
        return Err(GateError::Commitment);
    }
    ticketers(proposal, chain)?;
    if commit.tickets.len() != proposal.ticketers.len() {
        return Err(GateError::Tickets { got: commit.tickets.len(), want: proposal.ticketers.len() });
    }
    check_proposal(&commit.proposal)?;
    let id = commit.proposal.id();
    for (ticketer, signature) in proposal.ticketers.iter().zip(&commit.tickets) {
        let ticket = Ticket { track: chain.id(), proposal: id, ticketer: *ticketer };
        ticketer.verify(Domain::Ticket, &chain.id(), &ticket.id().0, signature)?;
    }
    Ok(signed.verify()?)
}

/// Checks a track's own fields.
pub fn track(track: &Track) -> Result<(), GateError> {
    let bad = |holds: bool, what| {
        if holds { Ok(()) } else { Err(GateError::BadTrack(what)) }
    };
    bad(track.version == WIRE_VERSION, "version is not this build's")?;
    bad(track.arithmetic == ARITHMETIC_VERSION, "arithmetic is not this build's")?;
    let name = track.name.as_str();
    bad(
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
        "name has other characters than a-z, 0-9 and -",
    )?;
    bad((1..=SEEDS_MAX).contains(&usize::from(track.seeds)), "number of seeds is not 1 to 8")?;
    bad(track.segments == SEGMENTS, "number of segments is not 16")?;
    bad(track.margin > 0, "margin is not positive")?;
    bad((1..=SOURCE_BYTES_MAX).contains(&(track.source_bytes as usize)), "source limit is not 1 to 16384 bytes")?;
    bad(track.baseline.source.len() <= track.source_bytes as usize, "baseline is longer than its source limit")?;
    bad(track.data.iter().all(|blob| blob.bytes <= BLOB_BYTES_MAX), "data are larger than 4 GiB a file")?;
    bad(!track.data.is_empty(), "data are missing")?;
    bad(!track.roster.is_empty(), "roster is empty")?;
    let mut keys = track.roster.to_vec();
    keys.sort_unstable();
    keys.dedup();
    bad(keys.len() == track.roster.len(), "roster names a verifier twice")
}
