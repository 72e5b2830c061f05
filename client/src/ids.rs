//! Entries and commits by a short prefix of their id.
//!
//! *Invariant:* a prefix that means two things is an error that names them, never a guess.

use cairn_protocol::{CommitId, EntryId, EntryKind, Record, Track};
use cairn_store::Store;

use crate::failure::Failure;
use crate::home::Home;
use crate::tracks;

/// Digits that are shown at least.
const SHOWN_MIN: usize = 8;

/// What an id means.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The track.
    pub(crate) track: Track,
    /// The commit; none for the track's baseline.
    pub(crate) commit: Option<CommitId>,
    /// The entry that settled it (or queued it, when it is not settled).
    pub(crate) entry: Option<EntryId>,
}

/// One thing that has an id.
#[derive(Clone, Debug)]
struct Known {
    id: String,
    track: usize,
    commit: CommitId,
}

/// Every entry and commit of a home.
#[derive(Debug)]
pub(crate) struct Ids {
    tracks: Vec<Track>,
    all: Vec<Known>,
    settled: Vec<(CommitId, EntryId)>,
}

impl Ids {
    /// Reads what is in the store.
    pub(crate) fn read(store: &Store) -> anyhow::Result<Self> {
        let tracks = store.tracks()?;
        let (mut all, mut settled) = (Vec::new(), Vec::new());
        for (place, track) in tracks.iter().enumerate() {
            let id = track.id();
            let mut from = 1;
            loop {
                let page = store.entries(id, from, usize::MAX)?;
                for certified in &page {
                    from = certified.entry.height.saturating_add(1);
                    let Some(commit) = certified.entry.kind.commit() else { continue };
                    let entry = certified.entry.id();
                    all.push(Known { id: entry.to_string(), track: place, commit });
                    if matches!(certified.entry.kind, EntryKind::Queued { .. }) {
                        all.push(Known { id: commit.to_string(), track: place, commit });
                    }
                    settled.push((commit, entry));
                }
                if page.is_empty() {
                    break;
                }
            }
            let queued: std::collections::BTreeSet<CommitId> = settled.iter().map(|(commit, _)| *commit).collect();
            let bodies = store.commits(id)?.into_iter().filter(|commit| !queued.contains(commit));
            all.extend(bodies.map(|commit| Known { id: commit.to_string(), track: place, commit }));
        }
        Ok(Self { tracks, all, settled })
    }

    /// The entry or commit whose id begins with `prefix`.
    pub(crate) fn find(&self, prefix: &str) -> anyhow::Result<Target> {
        let wanted = prefix.to_ascii_lowercase();
        if wanted.is_empty() || wanted.len() > 64 || !wanted.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Failure::usage(
                format!("`{prefix}` is not an id: hexadecimal digits are needed"),
                "`cairn log` and `cairn board` show the ids; a unique prefix is enough",
            ));
        }
        let found: Vec<&Known> = self.all.iter().filter(|known| known.id.starts_with(&wanted)).collect();
        let Some(first) = found.first() else {
            return Err(Failure::usage(
                format!("no entry or commit here begins with {prefix}"),
                "`cairn log` shows the ids; --home names another home; `cairn node` fetches what is new",
            ));
        };
        if let Some(other) = found.iter().find(|known| known.commit != first.commit) {
            return Err(Failure::usage(
                format!("{prefix} is the beginning of {} and of {}", self.shorten(&first.id), self.shorten(&other.id)),
                "give more digits",
            ));
        }
        let track = self.tracks.get(first.track).cloned().ok_or_else(|| anyhow::anyhow!("the track is not here"))?;
        Ok(Target { track, commit: Some(first.commit), entry: self.entry_of(first.commit) })
    }

    /// The last entry about a commit.
    pub(crate) fn entry_of(&self, commit: CommitId) -> Option<EntryId> {
        self.settled.iter().rev().find(|(of, _)| *of == commit).map(|(_, entry)| *entry)
    }

    /// As many digits of `id` as no other id of the home begins with, at least eight.
    pub(crate) fn shorten(&self, id: &str) -> String {
        let shared = |other: &str| id.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        let longest = self.all.iter().filter(|known| known.id != id).map(|known| shared(&known.id)).max().unwrap_or(0);
        id.chars().take((longest + 1).max(SHOWN_MIN)).collect()
    }
}

/// What `named` means: `baseline` (of the track that `track` names), or an id.
pub(crate) fn target(
    home: &Home,
    store: &Store,
    ids: &Ids,
    named: &str,
    track: Option<&str>,
) -> anyhow::Result<Target> {
    if named == "baseline" {
        return Ok(Target { track: tracks::known(home, store, track)?, commit: None, entry: None });
    }
    ids.find(named)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ids(all: &[(&str, u8)]) -> Ids {
        let all = all.iter().map(|(id, commit)| Known { id: (*id).into(), track: 0, commit: CommitId([*commit; 32]) });
        Ids { tracks: Vec::new(), all: all.collect(), settled: Vec::new() }
    }

    #[test]
    fn an_id_is_shown_as_long_as_it_must_be() {
        let ids = ids(&[("aabbccddeeff00", 1), ("aabbccddee1100", 2), ("bb00000000", 3)]);
        assert_eq!(ids.shorten("aabbccddeeff00"), "aabbccddeef");
        assert_eq!(ids.shorten("bb00000000"), "bb000000");
    }

    #[test]
    fn a_prefix_of_two_things_is_refused_and_both_are_named() {
        let ids = ids(&[("aabbccddeeff00", 1), ("aabbccddee1100", 2)]);
        let message = ids.find("aa").unwrap_err().to_string();
        assert!(message.contains("aabbccddeef") && message.contains("aabbccddee1"), "{message}");
        assert!(ids.find("ab").unwrap_err().to_string().contains("no entry or commit"));
        assert!(ids.find("xyz").unwrap_err().to_string().contains("not an id"));
    }
}
