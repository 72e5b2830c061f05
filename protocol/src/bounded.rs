//! Vectors, byte strings and texts whose length is bounded by their type.
//!
//! *Invariant:* a value longer than its bound cannot exist, and decoding checks the length before
//! it reads or allocates anything. The length is a `u32` on the wire.

use std::fmt;
use std::ops::Deref;

use bincode::de::read::Reader;
use bincode::de::{BorrowDecode, BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use serde::{Serialize, Serializer};

/// A value is longer than its type allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{got} items or bytes, at most {max} are allowed")]
pub struct TooLong {
    /// Length given.
    pub got: usize,
    /// Length allowed.
    pub max: usize,
}

fn check(got: usize, max: usize) -> Result<(), TooLong> {
    if got > max { Err(TooLong { got, max }) } else { Ok(()) }
}

fn encode_len<E: Encoder>(len: usize, encoder: &mut E) -> Result<(), EncodeError> {
    u32::try_from(len).map_err(|_| EncodeError::Other("length above u32"))?.encode(encoder)
}

fn decode_len<D: Decoder>(max: usize, decoder: &mut D) -> Result<usize, DecodeError> {
    let len = u32::decode(decoder)? as usize;
    check(len, max).map_err(|error| DecodeError::OtherString(error.to_string()))?;
    Ok(len)
}

/// At most `N` items.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoundedVec<T, const N: usize>(Vec<T>);

impl<T, const N: usize> BoundedVec<T, N> {
    /// The empty vector.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends an item, unless the vector is full.
    pub fn push(&mut self, item: T) -> Result<(), TooLong> {
        check(self.0.len() + 1, N)?;
        self.0.push(item);
        Ok(())
    }

    /// The items.
    pub fn into_inner(self) -> Vec<T> {
        self.0
    }
}

impl<T, const N: usize> Default for BoundedVec<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> TryFrom<Vec<T>> for BoundedVec<T, N> {
    type Error = TooLong;
    fn try_from(items: Vec<T>) -> Result<Self, TooLong> {
        check(items.len(), N)?;
        Ok(Self(items))
    }
}

impl<T, const N: usize> Deref for BoundedVec<T, N> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'a, T, const N: usize> IntoIterator for &'a BoundedVec<T, N> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: fmt::Debug, const N: usize> fmt::Debug for BoundedVec<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Serialize, const N: usize> Serialize for BoundedVec<T, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<T: Encode, const N: usize> Encode for BoundedVec<T, N> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        encode_len(self.0.len(), encoder)?;
        self.0.iter().try_for_each(|item| item.encode(encoder))
    }
}

impl<C, T: Decode<C>, const N: usize> Decode<C> for BoundedVec<T, N> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let len = decode_len(N, decoder)?;
        // Grown item by item: a length without bytes behind it allocates nothing.
        let mut items = Vec::new();
        for _ in 0..len {
            items.push(T::decode(decoder)?);
        }
        Ok(Self(items))
    }
}

impl<'de, C, T: Decode<C>, const N: usize> BorrowDecode<'de, C> for BoundedVec<T, N> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

fn decode_bytes<D: Decoder>(max: usize, decoder: &mut D) -> Result<Vec<u8>, DecodeError> {
    let len = decode_len(max, decoder)?;
    decoder.claim_bytes_read(len)?;
    // Read in pieces, so that a large claimed length allocates only what really follows.
    const PIECE_BYTES: usize = 4096;
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let start = bytes.len();
        bytes.resize(len.min(start + PIECE_BYTES), 0);
        if let Some(piece) = bytes.get_mut(start..) {
            decoder.reader().read(piece)?;
        }
    }
    Ok(bytes)
}

/// At most `N` bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BoundedBytes<const N: usize>(Vec<u8>);

impl<const N: usize> BoundedBytes<N> {
    /// The bytes.
    pub fn into_inner(self) -> Vec<u8> {
        self.0
    }
}

impl<const N: usize> TryFrom<Vec<u8>> for BoundedBytes<N> {
    type Error = TooLong;
    fn try_from(bytes: Vec<u8>) -> Result<Self, TooLong> {
        check(bytes.len(), N)?;
        Ok(Self(bytes))
    }
}

impl<const N: usize> Deref for BoundedBytes<N> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> fmt::Debug for BoundedBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<const N: usize> Encode for BoundedBytes<N> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        encode_len(self.0.len(), encoder)?;
        encoder.writer().write(&self.0)
    }
}

impl<C, const N: usize> Decode<C> for BoundedBytes<N> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        decode_bytes(N, decoder).map(Self)
    }
}

impl<'de, C, const N: usize> BorrowDecode<'de, C> for BoundedBytes<N> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

/// A text of at most `N` bytes of UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text<const N: usize>(String);

impl<const N: usize> Text<N> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As much of `text` as fits, cut at a character: for texts that programs write.
    pub fn truncated(text: &str) -> Self {
        Self(
            text.chars()
                .scan(0, |used, c| {
                    *used += c.len_utf8();
                    (*used <= N).then_some(c)
                })
                .collect(),
        )
    }
}

impl<const N: usize> TryFrom<String> for Text<N> {
    type Error = TooLong;
    fn try_from(text: String) -> Result<Self, TooLong> {
        check(text.len(), N)?;
        Ok(Self(text))
    }
}

impl<const N: usize> TryFrom<&str> for Text<N> {
    type Error = TooLong;
    fn try_from(text: &str) -> Result<Self, TooLong> {
        Self::try_from(text.to_owned())
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const N: usize> Serialize for Text<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<const N: usize> Encode for Text<N> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        encode_len(self.0.len(), encoder)?;
        encoder.writer().write(self.0.as_bytes())
    }
}

impl<C, const N: usize> Decode<C> for Text<N> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        String::from_utf8(decode_bytes(N, decoder)?).map(Self).map_err(|_| DecodeError::Other("text is not UTF-8"))
    }
}

impl<'de, C, const N: usize> BorrowDecode<'de, C> for Text<N> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}
