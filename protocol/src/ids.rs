//! Hashes and the ids made of them.
//!
//! A hash is BLAKE3 in key-derivation mode with the context `cairn 1 <record>`, so that the same
//! bytes as two kinds of record have two ids.
//!
//! *Invariant:* an id is a hash of canonical bytes and of nothing else.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Serialize, Serializer};

/// 32 bytes are not written as 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not 64 hexadecimal digits")]
pub struct ParseIdError(String);

/// Lowercase hexadecimal digits of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(text: &str) -> Result<[u8; 32], ParseIdError> {
    let error = || ParseIdError(text.chars().take(80).collect());
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return Err(error());
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| error())?;
        if !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(error());
        }
        *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
    }
    Ok(out)
}

/// Defines a 32-byte value that is shown as hexadecimal digits.
macro_rules! bytes32 {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
            /// The first eight hexadecimal digits, for people.
            pub fn short(&self) -> String {
                self.to_string().chars().take(8).collect()
            }
        }
        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }
        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                from_hex(text).map(Self)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
pub(crate) use bytes32;

bytes32! {
    /// Any other hash: a state, a leaf, a proof.
    Hash32;
    /// Hash of a track's record: the id of the track.
    TrackId;
    /// Hash of a proposal.
    ProposalId;
    /// Hash of a commit.
    CommitId;
    /// Hash of an entry of a chain; the entry before the first one is the track itself.
    EntryId;
    /// Hash of a graph (the engine's canonical bytes): names an experiment.
    GraphId;
    /// Plain BLAKE3 of a file's bytes.
    BlobId;
    /// Hash of an idea.
    IdeaId;
    /// What a proposal binds without showing it.
    Commitment;
    /// An official seed.
    Seed;
}

/// Hash of `parts`, one after another, under the context `cairn 1 <record>`.
///
/// The parts are not delimited: callers give fixed widths, or one variable part at the end.
pub fn hash(record: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(&format!("cairn 1 {record}"));
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

impl Seed {
    /// The seed that people call by a number: what exploration and `cairn run --seed` use.
    pub fn numbered(number: u64) -> Self {
        Self(hash("numbered seed", &[&number.to_be_bytes()]))
    }
}

impl BlobId {
    /// The id of a blob with these bytes: plain BLAKE3, what `b3sum` prints.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}
