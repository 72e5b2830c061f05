//! Blobs: chunk by chunk from several peers, resumed where it stopped, hashed at the end.
//!
//! *Invariant:* the file holds a prefix of what peers sent, written in order, so its length is where
//! to go on; nothing of it is believed before the hash of the whole holds. A chunk has no hash of
//! its own, so where a blob of several sources is wrong, it is fetched again from one at a time:
//! then the liar is known.

use std::io;
use std::path::Path;

use cairn_protocol::limits::{BLOB_BYTES_MAX, CHUNK_BYTES_MAX};
use cairn_protocol::{BlobId, PeerKey, Request, Response};
use libp2p::futures::StreamExt;
use libp2p::futures::stream::{self};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::{FetchError, ask, lied};
use crate::Handle;
use crate::limits::CHUNKS_AT_ONCE;

const CHUNK_BYTES: u64 = CHUNK_BYTES_MAX as u64;
/// Bytes hashed at a time.
const HASH_BYTES: usize = 64 * 1024;

/// Fetches `blob`, of `bytes` bytes, into the file `into`, from whichever of `peers` have it.
///
/// What `into` holds already is kept and completed; after a failure it may be given again, also to
/// another process. `progress` hears the bytes that are there. On success the file is the blob.
///
/// # Errors
/// When no peer is left that has it, or the file cannot be written. A file that turned out wrong
/// with all peers is emptied.
pub async fn blob(
    handle: &Handle,
    peers: &[PeerKey],
    blob: BlobId,
    bytes: u64,
    into: &Path,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(), FetchError> {
    if bytes > BLOB_BYTES_MAX {
        return Err(FetchError::TooLarge { got: bytes, max: BLOB_BYTES_MAX });
    }
    let file = |why| FetchError::File { path: into.display().to_string(), why };
    let mut open =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(into).await.map_err(file)?;
    let wanted = Wanted { handle, blob, bytes };

    let held = open.metadata().await.map_err(file)?.len();
    if held > bytes {
        open.set_len(0).await.map_err(file)?;
    }
    let begun_empty = held == 0 || held > bytes;
    let sources = wanted.complete(&mut open, peers, progress).await.map_err(|e| e.at(into))?;
    if hash(&mut open).await.map_err(file)? == blob {
        return Ok(());
    }
    if let ([only], true) = (sources.as_slice(), begun_empty) {
        open.set_len(0).await.map_err(file)?;
        let error = lied(handle, *only, "a blob with another hash").await;
        if peers.len() == 1 {
            return Err(error);
        }
    }
    let mut last = FetchError::NoPeers;
    for peer in peers {
        open.set_len(0).await.map_err(file)?;
        last = match wanted.complete(&mut open, &[*peer], progress).await {
            Ok(_) if hash(&mut open).await.map_err(file)? == blob => return Ok(()),
            Ok(_) => lied(handle, *peer, "a blob with another hash").await,
            Err(error) => error.at(into),
        };
    }
    open.set_len(0).await.map_err(file)?;
    Err(last)
}

/// A failure whose file is still to be named.
enum Failure {
    Fetch(FetchError),
    File(io::Error),
}

impl Failure {
    fn at(self, path: &Path) -> FetchError {
        match self {
            Failure::Fetch(error) => error,
            Failure::File(why) => FetchError::File { path: path.display().to_string(), why },
        }
    }
}

struct Wanted<'a> {
    handle: &'a Handle,
    blob: BlobId,
    bytes: u64,
}

impl Wanted<'_> {
    /// Appends what is missing and gives the peers that it came from.
    async fn complete(
        &self,
        file: &mut File,
        peers: &[PeerKey],
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Vec<PeerKey>, Failure> {
        let mut have = file.seek(io::SeekFrom::End(0)).await.map_err(Failure::File)?;
        progress(have);
        let (mut peers, mut sources, mut last) = (peers.to_vec(), Vec::new(), FetchError::NoPeers);
        while have < self.bytes {
            if peers.is_empty() {
                return Err(Failure::Fetch(last));
            }
            // One round: chunks in order, from the peers in turn, some ahead of the one awaited.
            let offsets = (have..self.bytes).step_by(CHUNK_BYTES_MAX);
            let turns = peers.clone();
            let asked = offsets.zip(turns.into_iter().cycle());
            let mut chunks = stream::iter(asked)
                .map(|(offset, peer)| async move { (peer, self.chunk(peer, offset).await) })
                .buffered(CHUNKS_AT_ONCE);
            while let Some((peer, chunk)) = chunks.next().await {
                match chunk {
                    Ok(chunk) => {
                        file.write_all(&chunk).await.map_err(Failure::File)?;
                        have = have.saturating_add(chunk.len() as u64);
                        progress(have);
                        if !sources.contains(&peer) {
                            sources.push(peer);
                        }
                    }
                    Err(error) => {
                        // On with the others, from this chunk.
                        last = error;
                        peers.retain(|other| *other != peer);
                        break;
                    }
                }
            }
            file.flush().await.map_err(Failure::File)?;
        }
        Ok(sources)
    }

    /// The whole chunk at `offset`.
    async fn chunk(&self, peer: PeerKey, offset: u64) -> Result<Vec<u8>, FetchError> {
        let left = self.bytes.saturating_sub(offset).min(CHUNK_BYTES);
        let len = u32::try_from(left).unwrap_or(u32::MAX);
        match ask(self.handle, peer, Request::Blob { blob: self.blob, offset, len }).await? {
            Response::Blob { total, bytes } if total == self.bytes && bytes.len() as u64 == left => {
                Ok(bytes.into_inner())
            }
            // Not a fault: the size is the word of whoever opened the track.
            Response::Blob { .. } => Err(FetchError::Lied { peer, what: "a blob of another size" }),
            _ => Err(lied(self.handle, peer, "an answer to another question").await),
        }
    }
}

/// The hash of the whole file.
async fn hash(file: &mut File) -> io::Result<BlobId> {
    file.rewind().await?;
    let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; HASH_BYTES]);
    loop {
        let got = file.read(&mut buffer).await?;
        match buffer.get(..got) {
            Some(piece) if !piece.is_empty() => hasher.update(piece),
            _ => return Ok(BlobId(*hasher.finalize().as_bytes())),
        };
    }
}
