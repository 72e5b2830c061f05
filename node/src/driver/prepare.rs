//! Before the machine starts: the track's record and its data, from peers where they are missing.
//!
//! *Invariant:* what is fetched is stored only if it hashes to what was asked for.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use cairn_net::{Event, Events, Handle, follow};
use cairn_protocol::{Response, Track, TrackId};
use cairn_store::{Error, Store};

use super::{DriverError, Tell, Told};

/// What a node needs besides its keys.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) track: Track,
    /// File with the raw data.
    pub(super) data: PathBuf,
}

/// Waits until track and data are here; none where the track has no data.
pub(super) async fn prepare(
    id: TrackId,
    home: &Path,
    store: &mut Store,
    handle: &Handle,
    heard: &mut Events,
    tell: &mut Tell,
) -> Result<Option<Ready>, DriverError> {
    let track = match store.track(id)? {
        Some(track) => track,
        None => {
            let found = follow::find_track(handle, id);
            let track = follow::beside(found, heard, |event| meanwhile(event, store, handle, tell)).await?;
            store.put_track(&track)?;
            track
        }
    };
    let incoming = home.join("incoming");
    for data in track.data.iter().filter(|data| store.blobs().size(data.blob) != Some(data.bytes)) {
        fs::create_dir_all(&incoming).map_err(|source| Error::Io { path: incoming.clone(), source })?;
        let part = incoming.join(data.blob.to_string());
        let io = |source| Error::Io { path: part.clone(), source };
        let found = follow::find_data(handle, data, &part);
        follow::beside(found, heard, |event| meanwhile(event, store, handle, tell)).await??;
        store.blobs().put_from(&mut File::open(&part).map_err(io)?, Some(data.blob))?;
        fs::remove_file(&part).map_err(io)?;
    }
    let data = track.data.first().map(|data| store.blobs().path(data.blob));
    Ok(data.map(|data| Ready { track, data }))
}

fn meanwhile(event: Event, store: &Store, handle: &Handle, tell: &mut Tell) {
    match event {
        Event::Listening(address) => tell.tell(Told::Listening(address)),
        Event::Connected(_) | Event::Disconnected(_) => tell.peers(handle.peers().len()),
        Event::Asked { request, reply, .. } => reply.send(store.answer(&request).unwrap_or(Response::NotFound)),
        // The machine asks for what it missed when it starts.
        Event::Gossip { .. } => {}
    }
}
