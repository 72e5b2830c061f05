//! `track.toml`: a track's record as people write it.
//!
//! *Invariant:* an unknown key is an error that names the nearest known one; numbers are whole and in the unit that their
//! name says.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::home::suggestion;

/// What `track.toml` says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrackFile {
    /// Lowercase letters, digits and `-`.
    pub(crate) name: String,
    /// One line.
    pub(crate) title: String,
    /// A page.
    pub(crate) description: String,
    /// How results are verified.
    pub(crate) kind: Kind,
    /// Rule that turns the data into examples.
    pub(crate) converter: String,
    /// Files of the folder.
    pub(crate) data: Vec<String>,
    /// Operations of one run.
    pub(crate) budget: u64,
    /// Memory of one run.
    pub(crate) memory_bytes: u64,
    /// Parameters of a program.
    pub(crate) parameters: u64,
    /// Length of a program.
    pub(crate) source_bytes: u32,
    /// Information in a program's literals.
    pub(crate) literal_bits: u32,
    /// Official seeds.
    pub(crate) seeds: u8,
    /// Trace segments.
    pub(crate) segments: u16,
    /// Margin of the record, in 2^-24 nats.
    pub(crate) margin_units: i64,
    /// What the baseline reaches.
    pub(crate) baseline: Reached,
}

/// How results of the track are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Re-run one training and compare bits.
    Train,
}

/// Metrics in 2^-24 nats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reached {
    /// Validation metric.
    pub(crate) metric_units: i64,
    /// Test metric.
    pub(crate) test_units: i64,
}

const KEYS: [&str; 15] = [
    "name",
    "title",
    "description",
    "kind",
    "converter",
    "data",
    "budget",
    "memory_bytes",
    "parameters",
    "source_bytes",
    "literal_bits",
    "seeds",
    "segments",
    "margin_units",
    "baseline",
];
const BASELINE_KEYS: [&str; 2] = ["metric_units", "test_units"];

impl TrackFile {
    /// Reads the text of the file at `path`, which is named in messages.
    pub(crate) fn parse(text: &str, path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let fix = "correct the file; the shipped tracks are examples, `cairn tracks` lists them";
        let table: toml::Table = text.parse().map_err(|e| Failure::advice(format!("{shown}: {e}"), fix))?;
        let unknown = |table: &toml::Table, known: &[&str], of: &str| match table
            .keys()
            .find(|key| !known.contains(&key.as_str()))
        {
            Some(key) => Err(Failure::advice(format!("{shown}: unknown key `{of}{key}`"), suggestion(key, known))),
            None => Ok(()),
        };
        unknown(&table, &KEYS, "")?;
        if let Some(toml::Value::Table(baseline)) = table.get("baseline") {
            unknown(baseline, &BASELINE_KEYS, "baseline.")?;
        }
        toml::from_str(text).map_err(|e| Failure::advice(format!("{shown}: {e}"), fix))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<TrackFile, (String, String)> {
        TrackFile::parse(text, Path::new("track.toml")).map_err(|error| match error.downcast_ref() {
            Some(Failure::Advice { what, hint, .. }) => (what.clone(), hint.clone()),
            _ => panic!("{error:?}"),
        })
    }

    #[test]
    fn a_shipped_file_reads() {
        let text = include_str!("../../../tracks/names/track.toml");
        let file = parse(text).unwrap();
        assert_eq!((file.name.as_str(), file.segments, file.kind), ("names", 16, Kind::Train));
    }

    #[test]
    fn unknown_and_missing_keys_are_named() {
        let text = include_str!("../../../tracks/names/track.toml");
        let (what, hint) = parse(&text.replace("budget =", "buget =")).unwrap_err();
        assert_eq!((what.as_str(), hint.as_str()), ("track.toml: unknown key `buget`", "did you mean `budget`?"));
        let (what, hint) = parse(&text.replace("test_units", "test_unit")).unwrap_err();
        assert_eq!(what, "track.toml: unknown key `baseline.test_unit`");
        assert_eq!(hint, "did you mean `test_units`?");
        let (what, _) = parse(&text.replace("seeds = 3", "")).unwrap_err();
        assert!(what.contains("missing field `seeds`"), "{what}");
        let (what, _) = parse(&text.replace("seeds = 3", "seeds = -3")).unwrap_err();
        assert!(what.contains("seeds"), "{what}");
    }
}
