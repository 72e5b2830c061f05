//! The three Ed25519 keys of a home, and signatures.
//!
//! A signature is over domain tag ‖ track ‖ hash, so it is good for one kind of record of one
//! track only. Only strict verification is used: it admits no weak keys and no second encoding.
//!
//! *Invariant:* secrets are never shown by `Debug` and never encoded into a record.

use std::fmt;

use bincode::{Decode, Encode};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Serialize, Serializer};
use std::str::FromStr;

use crate::ids::{CommitId, Hash32, ParseIdError, TrackId, bytes32, hash, to_hex};

fn from_hex(text: &str) -> Result<[u8; 32], ParseIdError> {
    text.parse::<crate::ids::Hash32>().map(|hash| hash.0)
}

bytes32! {
    /// Public key of an author: credit goes to it.
    AuthorKey;
    /// Public key of a verifier: a seat of a roster.
    VerifierKey;
    /// Public key of a peer: its address in the network.
    PeerKey;
}

/// A signature does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not hold")]
pub struct BadSignature;

/// 64 bytes of an Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

/// What kind of statement a signature makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// A batch of reports.
    Reports,
    /// An idea.
    Idea,
    /// A proposal.
    Proposal,
    /// A ticket.
    Ticket,
    /// A commit.
    Commit,
    /// A verdict.
    Verdict,
    /// The sequencer's candidate for the next entry.
    Candidate,
    /// A vote for an entry; q of them are its certificate.
    Vote,
    /// A verifier's key for its audits of a commit: never sent, so that nobody can prepare for it.
    Audit,
}

impl Domain {
    /// The tag, padded to a fixed width so that no tag is another one's prefix.
    fn tag(self) -> [u8; 24] {
        let name: &[u8] = match self {
            Domain::Reports => b"cairn 1 sign reports",
            Domain::Idea => b"cairn 1 sign idea",
            Domain::Proposal => b"cairn 1 sign proposal",
            Domain::Ticket => b"cairn 1 sign ticket",
            Domain::Commit => b"cairn 1 sign commit",
            Domain::Verdict => b"cairn 1 sign verdict",
            Domain::Candidate => b"cairn 1 sign candidate",
            Domain::Vote => b"cairn 1 sign vote",
            Domain::Audit => b"cairn 1 sign audit",
        };
        let mut tag = [0; 24];
        for (to, from) in tag.iter_mut().zip(name) {
            *to = *from;
        }
        tag
    }
}

fn message(domain: Domain, track: &TrackId, hash: &[u8; 32]) -> [u8; 88] {
    let mut out = [0; 88];
    let parts = domain.tag().into_iter().chain(track.0).chain(*hash);
    for (to, from) in out.iter_mut().zip(parts) {
        *to = from;
    }
    out
}

fn verify(
    key: &[u8; 32],
    domain: Domain,
    track: &TrackId,
    hash: &[u8; 32],
    signature: &Signature,
) -> Result<(), BadSignature> {
    VerifyingKey::from_bytes(key)
        .and_then(|key| {
            key.verify_strict(&message(domain, track, hash), &ed25519_dalek::Signature::from_bytes(&signature.0))
        })
        .map_err(|_| BadSignature)
}

/// Defines a secret key and ties it to its public key.
macro_rules! secret {
    ($($(#[$doc:meta])* $secret:ident => $public:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $secret(SigningKey);

        impl $secret {
            /// The key of 32 secret bytes, which must come from the operating system's randomness.
            pub fn from_bytes(bytes: &[u8; 32]) -> Self {
                Self(SigningKey::from_bytes(bytes))
            }
            /// The 32 secret bytes, to be kept in a file that only its owner reads.
            pub fn to_bytes(&self) -> [u8; 32] {
                self.0.to_bytes()
            }
            /// The public key.
            pub fn public(&self) -> $public {
                $public(self.0.verifying_key().to_bytes())
            }
            /// Signs `hash` as a statement of kind `domain` about `track`.
            pub fn sign(&self, domain: Domain, track: &TrackId, hash: &[u8; 32]) -> Signature {
                Signature(self.0.sign(&message(domain, track, hash)).to_bytes())
            }
        }

        impl fmt::Debug for $secret {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "secret of {}", self.public())
            }
        }

        impl $public {
            /// Checks a signature by this key, strictly.
            pub fn verify(&self, domain: Domain, track: &TrackId, hash: &[u8; 32], signature: &Signature) -> Result<(), BadSignature> {
                verify(&self.0, domain, track, hash, signature)
            }
        }
    )*};
}

secret! {
    /// Secret of an author; may be copied to all machines of a person.
    AuthorSecret => AuthorKey;
    /// Secret of a verifier; lives in one home only.
    VerifierSecret => VerifierKey;
    /// Secret of a peer; one for each home.
    PeerSecret => PeerKey;
}

impl VerifierSecret {
    /// Key of this verifier's audit of `commit`: nobody else can compute it, and nobody is told.
    pub fn audit_key(&self, track: &TrackId, commit: &CommitId) -> Hash32 {
        Hash32(hash("audit key", &[&self.sign(Domain::Audit, track, &commit.0).0]))
    }
}
