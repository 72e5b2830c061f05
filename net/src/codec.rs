//! Frames of requests and responses: a big-endian `u32` length and a canonical record.
//!
//! *Invariant:* memory grows with the bytes that really arrive, never with the length claimed, and
//! never beyond the record's own limit. Bytes that are no canonical record are handed on as such,
//! so that they can be held against their sender.

use std::io;
use std::marker::PhantomData;

use cairn_protocol::{CodecError, Wire, decode, encode};
use libp2p::StreamProtocol;
use libp2p::futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::request_response;

/// A record, or why the bytes of its frame are none.
pub(crate) type Frame<T> = Result<T, CodecError>;

/// Bytes read at a time.
const PIECE_BYTES: usize = 16 * 1024;

async fn read<T: Wire>(io: &mut (impl AsyncRead + Unpin + Send)) -> io::Result<Frame<T>> {
    let mut len = [0; 4];
    io.read_exact(&mut len).await?;
    let len = u32::from_be_bytes(len) as usize;
    if len > T::BYTES_MAX {
        return Ok(Err(CodecError::TooLong { got: len, max: T::BYTES_MAX }));
    }
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let start = bytes.len();
        bytes.resize(len.min(start.saturating_add(PIECE_BYTES)), 0);
        if let Some(piece) = bytes.get_mut(start..) {
            io.read_exact(piece).await?;
        }
    }
    Ok(decode(&bytes))
}

async fn write<T: Wire>(io: &mut (impl AsyncWrite + Unpin + Send), frame: Frame<T>) -> io::Result<()> {
    let bytes = encode(&frame.map_err(io::Error::other)?);
    let len = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= T::BYTES_MAX);
    let len = len.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "own record is too long to send"))?;
    io.write_all(&len.to_be_bytes()).await?;
    io.write_all(&bytes).await?;
    io.flush().await
}

/// Reads and writes the frames of one protocol.
pub(crate) struct Frames<Q, R>(PhantomData<fn() -> (Q, R)>);

impl<Q, R> Clone for Frames<Q, R> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}
impl<Q, R> Default for Frames<Q, R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Q: Wire + Send + 'static, R: Wire + Send + 'static> request_response::Codec for Frames<Q, R> {
    type Protocol = StreamProtocol;
    type Request = Frame<Q>;
    type Response = Frame<R>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Frame<Q>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Frame<R>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Frame<Q>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, request).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: Frame<R>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, response).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use cairn_protocol::limits::{REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX};
    use cairn_protocol::{Request, Response, TrackId};
    use libp2p::futures::executor::block_on;
    use libp2p::futures::io::Cursor;

    #[test]
    fn a_frame_is_read_back() {
        let request = Request::Tip { track: TrackId([3; 32]) };
        let mut wire = Vec::new();
        block_on(write(&mut Cursor::new(&mut wire), Ok(request.clone()))).unwrap();
        assert_eq!(wire.get(..4).unwrap(), 36u32.to_be_bytes());
        assert_eq!(block_on(read::<Request>(&mut Cursor::new(&wire))).unwrap(), Ok(request));
    }

    #[test]
    fn a_claimed_length_is_refused_before_anything_is_read() {
        for len in [RESPONSE_BYTES_MAX as u32 + 1, u32::MAX] {
            let got = block_on(read::<Response>(&mut Cursor::new(len.to_be_bytes()))).unwrap();
            assert_eq!(got, Err(CodecError::TooLong { got: len as usize, max: RESPONSE_BYTES_MAX }));
        }
    }

    #[test]
    fn bytes_that_are_no_record_are_told_from_a_cut_line() {
        let garbage = [&8u32.to_be_bytes()[..], &[0xff; 8]].concat();
        assert!(block_on(read::<Request>(&mut Cursor::new(&garbage))).unwrap().is_err());
        let cut = [&(REQUEST_BYTES_MAX as u32).to_be_bytes()[..], &[0; 8]].concat();
        let error = block_on(read::<Request>(&mut Cursor::new(&cut))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
