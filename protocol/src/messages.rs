//! What peers say to each other: gossip, and requests with their responses.
//!
//! *Invariant:* every message is a canonical, bounded record; pages are bounded in items and bytes.

use bincode::{Decode, Encode};

use crate::bounded::{BoundedBytes, BoundedVec, Text};
use crate::codec::{Wire, encode};
use crate::ids::*;
use crate::keys::{BadSignature, Domain, PeerKey, Signature, VerifierKey, VerifierSecret};
use crate::limits::*;
use crate::records::*;

/// The sequencer's candidate for the next entry, signed by it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Candidate {
    /// The entry.
    pub entry: Entry,
    /// Who proposes it.
    pub sequencer: VerifierKey,
    /// The sequencer's signature over the entry's id.
    pub signature: Signature,
}

impl Candidate {
    /// Proposes `entry`.
    pub fn sign(entry: Entry, secret: &VerifierSecret) -> Self {
        let signature = secret.sign(Domain::Candidate, &entry.track, &entry.id().0);
        Self { entry, sequencer: secret.public(), signature }
    }
    /// Checks the signature.
    pub fn verify(&self) -> Result<(), BadSignature> {
        self.sequencer.verify(Domain::Candidate, &self.entry.track, &self.entry.id().0, &self.signature)
    }
}

/// The gossip channels of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Channel {
    /// Proposals, tickets, commit headers, verdicts.
    Work,
    /// Candidates, votes, certified entries.
    Chain,
    /// Ideas and reports.
    Reports,
}

impl Channel {
    /// All channels.
    pub const ALL: [Channel; 3] = [Channel::Work, Channel::Chain, Channel::Reports];
    /// Name, for topics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Channel::Work => "work",
            Channel::Chain => "chain",
            Channel::Reports => "reports",
        }
    }
}

/// A gossiped record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Gossip {
    /// An idea.
    Idea(Signed<Idea>),
    /// A batch of reports.
    Reports(Signed<Reports>),
    /// A proposal.
    Proposal(Signed<Proposal>),
    /// A ticket.
    Ticket(Signed<Ticket>),
    /// A commit's header; the body is fetched.
    Commit(CommitHeader),
    /// A verdict.
    Verdict(Signed<Verdict>),
    /// A candidate for the next entry.
    Candidate(Candidate),
    /// A vote for an entry.
    Vote(Vote),
    /// An entry with its certificate.
    Entry(CertifiedEntry),
}

impl Gossip {
    /// The track it belongs to.
    pub fn track(&self) -> TrackId {
        match self {
            Gossip::Idea(idea) => idea.body.track,
            Gossip::Reports(reports) => reports.body.track,
            Gossip::Proposal(proposal) => proposal.body.track,
            Gossip::Ticket(ticket) => ticket.body.track,
            Gossip::Commit(header) => header.track,
            Gossip::Verdict(verdict) => verdict.body.track,
            Gossip::Candidate(candidate) => candidate.entry.track,
            Gossip::Vote(vote) => vote.track,
            Gossip::Entry(certified) => certified.entry.track,
        }
    }

    /// The channel it belongs on.
    pub fn channel(&self) -> Channel {
        match self {
            Gossip::Idea(_) | Gossip::Reports(_) => Channel::Reports,
            Gossip::Proposal(_) | Gossip::Ticket(_) | Gossip::Commit(_) | Gossip::Verdict(_) => Channel::Work,
            Gossip::Candidate(_) | Gossip::Vote(_) | Gossip::Entry(_) => Channel::Chain,
        }
    }

    /// Name of the kind, for stores and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Gossip::Idea(_) => "idea",
            Gossip::Reports(_) => "reports",
            Gossip::Proposal(_) => "proposal",
            Gossip::Ticket(_) => "ticket",
            Gossip::Commit(_) => "commit-header",
            Gossip::Verdict(_) => "verdict",
            Gossip::Candidate(_) => "candidate",
            Gossip::Vote(_) => "vote",
            Gossip::Entry(_) => "entry",
        }
    }

    /// Hash of the whole message: for deduplication and for paging.
    pub fn id(&self) -> Hash32 {
        Hash32(hash("gossip", &[&encode(self)]))
    }
}

impl Wire for Gossip {
    const BYTES_MAX: usize = GOSSIP_BYTES_MAX;
}

/// A question to one peer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Where the peer's chain ends.
    Tip {
        /// The track.
        track: TrackId,
    },
    /// Entries from a height on.
    Entries {
        /// The track.
        track: TrackId,
        /// First height wanted.
        from: u64,
        /// Most entries wanted, at most [`ENTRIES_PAGE_MAX`].
        max: u16,
    },
    /// The body of a commit.
    Commit {
        /// The track.
        track: TrackId,
        /// The commit.
        commit: CommitId,
    },
    /// A piece of a blob.
    Blob {
        /// The blob.
        blob: BlobId,
        /// First byte wanted.
        offset: u64,
        /// Bytes wanted, at most [`CHUNK_BYTES_MAX`].
        len: u32,
    },
    /// A track's record.
    Track {
        /// The track.
        track: TrackId,
    },
    /// Records that are not on the chain yet: proposals, tickets, headers, verdicts, candidate,
    /// votes, recent reports; in ascending order of [`Gossip::id`].
    Pending {
        /// The track.
        track: TrackId,
        /// Only ids greater than this one; zeros to begin.
        after: Hash32,
    },
}

impl Wire for Request {
    const BYTES_MAX: usize = REQUEST_BYTES_MAX;
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Response {
    /// End of the chain.
    Tip {
        /// Its height.
        height: u64,
        /// The last entry; the track's id at height 0.
        entry: EntryId,
    },
    /// Entries in ascending height.
    Entries(BoundedVec<CertifiedEntry, ENTRIES_PAGE_MAX>),
    /// A commit's body.
    Commit(Box<Signed<Commit>>),
    /// A piece of a blob.
    Blob {
        /// Size of the whole blob.
        total: u64,
        /// The piece.
        bytes: BoundedBytes<CHUNK_BYTES_MAX>,
    },
    /// A track's record.
    Track(Box<Track>),
    /// Pending records in ascending order of id.
    Pending {
        /// The records.
        records: BoundedVec<Gossip, PENDING_PAGE_MAX>,
        /// Whether more follow the last one.
        more: bool,
    },
    /// The peer does not have it.
    NotFound,
    /// The peer is busy; ask again later.
    Busy,
}

impl Wire for Response {
    const BYTES_MAX: usize = RESPONSE_BYTES_MAX;
}

/// A question to a peer about the peers it is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AskNeighbours {
    /// Most peers wanted, at most [`NEIGHBOURS_MAX`].
    pub max: u16,
}

impl Wire for AskNeighbours {
    const BYTES_MAX: usize = REQUEST_BYTES_MAX;
}

/// A peer and where it listens, as another peer says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Neighbour {
    /// The peer.
    pub peer: PeerKey,
    /// Its multiaddresses, without `/p2p/`.
    pub addresses: BoundedVec<Text<ADDRESS_BYTES_MAX>, NEIGHBOUR_ADDRESSES_MAX>,
}

/// Peers that a peer is connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Neighbours {
    /// The peers.
    pub peers: BoundedVec<Neighbour, NEIGHBOURS_MAX>,
}

impl Wire for Neighbours {
    const BYTES_MAX: usize = NEIGHBOURS_BYTES_MAX;
}
