//! Tracks: shipped in the binary, in a folder, or known in the home; and the rules that a program is under.
//!
//! Start at [`rules`] for commands that run programs, at [`known`] for commands about a chain.

mod definition;
mod file;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use cairn_protocol::{Record, Track, TrackId};
use cairn_store::Store;

pub(crate) use definition::Definition;

use crate::failure::Failure;
use crate::home::Home;

/// The rules that a program is under, and where its data are.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) name: String,
    pub(crate) converter: String,
    pub(crate) data: PathBuf,
    pub(crate) budget: u64,
    pub(crate) memory: u64,
    pub(crate) parameters: u64,
    pub(crate) source_bytes: u32,
    pub(crate) literal_bits: u64,
    pub(crate) baseline: String,
}

impl Rules {
    /// The rules of a track that is not open.
    pub(crate) fn of_definition(track: &Definition, home: &Home) -> anyhow::Result<Self> {
        let file = &track.file;
        Ok(Self {
            name: file.name.clone(),
            converter: file.converter.clone(),
            data: track.data_path(home)?,
            budget: file.budget,
            memory: file.memory_bytes,
            parameters: file.parameters,
            source_bytes: file.source_bytes,
            literal_bits: file.literal_bits.into(),
            baseline: track.program.clone(),
        })
    }

    /// The rules of an open track.
    pub(crate) fn of_record(track: &Track, home: &Home, store: &Store) -> anyhow::Result<Self> {
        Ok(Self {
            name: track.name.to_string(),
            converter: track.converter.to_string(),
            data: data_of(track, home, store)?,
            budget: track.budget,
            memory: track.memory,
            parameters: track.parameters,
            source_bytes: track.source_bytes,
            literal_bits: track.literal_bits.into(),
            baseline: track.baseline.source.to_string(),
        })
    }
}

/// The file with an open track's data.
fn data_of(track: &Track, home: &Home, store: &Store) -> anyhow::Result<PathBuf> {
    let [data] = &track.data[..] else {
        return Err(Failure::advice(
            format!("track {} has {} data files; this version reads exactly one", track.name, track.data.len()),
            "use a newer cairn",
        ));
    };
    if store.blobs().has(data.blob) {
        return Ok(store.blobs().path(data.blob));
    }
    match Definition::shipped_data(data.blob) {
        Some(bytes) => home.cached(bytes),
        None => Err(Failure::advice(
            format!("the data of track {} ({}) are not in {}", track.name, data.blob.short(), home.root().display()),
            "run `cairn node --track … --peer …` once: it fetches them from its peers",
        )),
    }
}

/// The rules that `named` means, or those of the joined track, or those of `names`.
pub(crate) fn rules(home: &Home, named: Option<&str>) -> anyhow::Result<Rules> {
    let Some(named) = named else {
        return match (home.config()?.joined.first(), home.reader_if_any()?) {
            (Some(joined), Some(store)) => Rules::of_record(&known_in(home, &store, joined)?, home, &store),
            (Some(joined), None) => Err(unknown(home, joined)),
            (None, _) => rules(home, Some("names")),
        };
    };
    if let Some(track) = offline(named)? {
        return Rules::of_definition(&track, home);
    }
    let store = home.reader_if_any()?.ok_or_else(|| unknown(home, named))?;
    Rules::of_record(&known_in(home, &store, named)?, home, &store)
}

/// The definition that `named` means: a folder, or a shipped track.
pub(crate) fn offline(named: &str) -> anyhow::Result<Option<Definition>> {
    let path = Path::new(named);
    if named.contains(['/', '\\']) || path.join("track.toml").is_file() {
        return Definition::folder(path).map(Some);
    }
    Definition::shipped(named).transpose()
}

/// The open track that `named` means: id, unique prefix of one, or name; by default the joined track, or the only one.
pub(crate) fn known(home: &Home, store: &Store, named: Option<&str>) -> anyhow::Result<Track> {
    let joined = home.config()?.joined;
    if let Some(named) = named.or(joined.first().map(String::as_str)) {
        return known_in(home, store, named);
    }
    let mut all = store.tracks()?;
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(Failure::advice(
            format!("no track is known in {}", home.root().display()),
            "run `cairn node --track ID --peer ADDRESS`, or open a track with `cairn track open`",
        )),
        (Some(_), false) => Err(Failure::usage(
            "several tracks are known here",
            "name one, or `cairn join` it; `cairn tracks` lists them",
        )),
    }
}

fn known_in(home: &Home, store: &Store, named: &str) -> anyhow::Result<Track> {
    let wanted = named.to_ascii_lowercase();
    let all = store.tracks()?;
    let mut found: Vec<&Track> = all.iter().filter(|track| track.name.as_str() == named).collect();
    if found.is_empty() && !wanted.is_empty() {
        found = all.iter().filter(|track| track.id().to_string().starts_with(&wanted)).collect();
    }
    match found[..] {
        [one] => Ok(one.clone()),
        [] => Err(unknown(home, named)),
        _ => {
            let ids: Vec<String> = found.iter().map(|track| track.id().short()).collect();
            Err(Failure::usage(format!("`{named}` may mean the tracks {}", ids.join(", ")), "give more of the id"))
        }
    }
}

/// The id that `named` means, also of a track whose record is still to be fetched.
pub(crate) fn id(home: &Home, named: Option<&str>) -> anyhow::Result<TrackId> {
    let joined = home.config()?.joined;
    let named = named.or(joined.first().map(String::as_str));
    if let Some(id) = named.and_then(|named| TrackId::from_str(named).ok()) {
        return Ok(id);
    }
    match (home.reader_if_any()?, named) {
        (Some(store), named) => known(home, &store, named).map(|track| track.id()),
        (None, Some(named)) => Err(unknown(home, named)),
        (None, None) => Err(Failure::usage(
            "no track is joined",
            "name one with --track ID, or `cairn join ID`; whoever runs the track tells its id",
        )),
    }
}

fn unknown(home: &Home, named: &str) -> anyhow::Error {
    let what = format!("no track `{named}` is known in {}", home.root().display());
    let shipped: Vec<&str> = Definition::shipped_names().collect();
    let hint = if shipped.contains(&named) {
        format!(
            "`{named}` ships with this program but nobody opened it here: `cairn track open {named} --roster KEY,…`, or give the id of an open one"
        )
    } else {
        format!(
            "give a track's whole id, or one of the shipped tracks ({}); `cairn tracks` lists what is known",
            shipped.join(", ")
        )
    };
    Failure::usage(what, hint)
}
