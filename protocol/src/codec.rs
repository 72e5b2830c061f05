//! The one canonical encoding: bincode 2, big-endian, fixed-width integers.
//!
//! [`decode`] is bounded by the record's own limit, consumes the whole input, and accepts only
//! bytes that re-encode to themselves, so one value has one encoding and one hash.
//!
//! *Invariant:* decoding never panics and never allocates more than a small multiple of the input.
//! No other module names bincode's functions.

use bincode::config::{BigEndian, Configuration, Fixint, Limit};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use bincode::{Decode, Encode};

use crate::limits::RESPONSE_BYTES_MAX;

/// Bytes that bincode itself may claim while decoding; each record's own limit is at most this.
const CLAIM_BYTES_MAX: usize = 2 * RESPONSE_BYTES_MAX;

const CONFIG: Configuration<BigEndian, Fixint, Limit<CLAIM_BYTES_MAX>> =
    bincode::config::standard().with_big_endian().with_fixed_int_encoding().with_limit::<CLAIM_BYTES_MAX>();

/// A type with one canonical encoding of bounded size.
///
/// Implementors hold fixed-width integers, booleans, byte arrays, bounded vectors and strings,
/// options and enums: their encoding cannot fail.
pub trait Wire: Encode + Decode<()> {
    /// Largest encoding, in bytes.
    const BYTES_MAX: usize;
}

/// Why bytes are not a canonical record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// More bytes than the record may have.
    #[error("{got} bytes, more than the {max} that this record may have")]
    TooLong {
        /// Bytes given.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The bytes are no encoding of the type.
    #[error("not a record of this type: {0}")]
    Malformed(String),
    /// Bytes follow the record.
    #[error("{0} bytes follow the record")]
    Trailing(usize),
    /// The value has another, canonical encoding.
    #[error("not the canonical encoding of its value")]
    NotCanonical,
}

/// A writer that cannot fail.
struct Bytes(Vec<u8>);

impl Writer for Bytes {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// The canonical bytes of `value`.
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    let mut out = Bytes(Vec::new());
    match bincode::encode_into_writer(value, &mut out, CONFIG) {
        Ok(()) => out.0,
        // Not reachable from input: the writer never fails and our types have no failing encoder.
        Err(error) => unreachable!("encoding an own type failed: {error}"),
    }
}

/// The value of canonical `bytes`, or why they are not canonical.
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > T::BYTES_MAX {
        return Err(CodecError::TooLong { got: bytes.len(), max: T::BYTES_MAX });
    }
    let (value, used) =
        bincode::decode_from_slice::<T, _>(bytes, CONFIG).map_err(|error| CodecError::Malformed(error.to_string()))?;
    if used != bytes.len() {
        return Err(CodecError::Trailing(bytes.len().saturating_sub(used)));
    }
    if encode(&value) != bytes {
        return Err(CodecError::NotCanonical);
    }
    Ok(value)
}
