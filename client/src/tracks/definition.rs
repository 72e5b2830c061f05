//! A track before it is opened: its folder, on disk or in the binary.
//!
//! *Invariant:* a definition has no roster and hence no id; [`Definition::record`] gives it both.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cairn_engine::data::{DataSpec, Dataset};
use cairn_protocol::limits::{ARITHMETIC_VERSION, SOURCE_BYTES_MAX, WIRE_VERSION};
use cairn_protocol::{AuthorKey, Baseline, BlobId, DataBlob, GraphId, Text, Track, TrackKind, VerifierKey, gate};

use super::file::{Kind, TrackFile};
use crate::failure::Failure;
use crate::home::Home;

/// A track that ships in the binary.
struct Shipped {
    name: &'static str,
    track: &'static str,
    program: &'static str,
    data: &'static [u8],
}

/// Every shipped track, by name.
const SHIPPED: [Shipped; 2] = [
    Shipped {
        name: "names",
        track: include_str!("../../../tracks/names/track.toml"),
        program: include_str!("../../../tracks/names/train.py"),
        data: include_bytes!("../../../tracks/names/data/names.txt"),
    },
    Shipped {
        name: "shakespeare-small",
        track: include_str!("../../../tracks/shakespeare-small/track.toml"),
        program: include_str!("../../../tracks/shakespeare-small/train.py"),
        data: include_bytes!("../../../tracks/shakespeare-small/data/input.txt"),
    },
];

/// Where the data are.
#[derive(Clone, Debug)]
enum Data {
    Shipped(&'static [u8]),
    File(PathBuf),
}

/// A track that can be opened.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    /// What `track.toml` says.
    pub(crate) file: TrackFile,
    /// The baseline's source.
    pub(crate) program: String,
    /// For messages.
    pub(crate) place: PathBuf,
    data: Data,
}

impl Definition {
    /// Names of the shipped tracks.
    pub(crate) fn shipped_names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|shipped| shipped.name)
    }

    /// The shipped track of this name.
    pub(crate) fn shipped(name: &str) -> Option<anyhow::Result<Self>> {
        let shipped = SHIPPED.iter().find(|shipped| shipped.name == name)?;
        let place = PathBuf::from(format!("tracks/{name}"));
        let file = TrackFile::parse(shipped.track, &place.join("track.toml"));
        Some(file.map(|file| Self { file, program: shipped.program.into(), place, data: Data::Shipped(shipped.data) }))
    }

    /// The data of a shipped track, if one has these.
    pub(crate) fn shipped_data(blob: BlobId) -> Option<&'static [u8]> {
        SHIPPED.iter().map(|shipped| shipped.data).find(|data| BlobId::of(data) == blob)
    }

    /// The track in the folder `dir`.
    pub(crate) fn folder(dir: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            match fs::read_to_string(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Failure::advice(
                    format!("{} is not there", path.display()),
                    "a track is a folder with track.toml, train.py and its data; `cairn tracks` lists the shipped ones",
                )),
                other => other.with_context(|| format!("cannot read {}", path.display())),
            }
        };
        let file = TrackFile::parse(&read("track.toml")?, &dir.join("track.toml"))?;
        let [data] = &file.data[..] else {
            return Err(Failure::advice(
                format!("{}: {} data files; this version reads exactly one", dir.display(), file.data.len()),
                "name one file of the folder in `data`",
            ));
        };
        let data = Data::File(inside(dir, data)?);
        let program = read("train.py")?;
        Ok(Self { file, program, place: dir.to_path_buf(), data })
    }

    /// The raw data.
    pub(crate) fn data(&self) -> anyhow::Result<Vec<u8>> {
        match &self.data {
            Data::Shipped(bytes) => Ok(bytes.to_vec()),
            Data::File(path) => fs::read(path).with_context(|| format!("cannot read the data {}", path.display())),
        }
    }

    /// A file with the raw data, for jobs to read.
    pub(crate) fn data_path(&self, home: &Home) -> anyhow::Result<PathBuf> {
        match &self.data {
            Data::Shipped(bytes) => home.cached(bytes),
            Data::File(path) => Ok(std::path::absolute(path)?),
        }
    }

    /// What tracing needs to know of the data.
    pub(crate) fn data_spec(&self) -> anyhow::Result<DataSpec> {
        let raw = self.data()?;
        let set = Dataset::load(&self.file.converter, &raw)
            .map_err(|e| Failure::advice(format!("the data of {}: {e}", self.place.display()), DATA_HINT))?;
        Ok(set.spec().clone())
    }

    /// The track's record; its hash is the track's id.
    ///
    /// # Errors
    /// A field breaks a limit, or two contradict each other.
    pub(crate) fn record(&self, graph: GraphId, owner: AuthorKey, roster: &[VerifierKey]) -> anyhow::Result<Track> {
        let file = &self.file;
        let raw = self.data()?;
        let long = |field: &str, error: cairn_protocol::bounded::TooLong| {
            Failure::advice(format!("{}: `{field}` has {error}", self.place.display()), "shorten it")
        };
        let data = DataBlob { blob: BlobId::of(&raw), bytes: raw.len() as u64 };
        let track = Track {
            version: WIRE_VERSION,
            arithmetic: ARITHMETIC_VERSION,
            name: text("name", &file.name, long)?,
            title: text("title", &file.title, long)?,
            description: text("description", &file.description, long)?,
            kind: match file.kind {
                Kind::Train => TrackKind::Train,
            },
            budget: file.budget,
            memory: file.memory_bytes,
            parameters: file.parameters,
            source_bytes: file.source_bytes,
            literal_bits: file.literal_bits,
            seeds: file.seeds,
            segments: file.segments,
            margin: file.margin_units,
            converter: text("converter", &file.converter, long)?,
            data: vec![data].try_into().map_err(|e| long("data", e))?,
            baseline: Baseline {
                source: text::<SOURCE_BYTES_MAX>("train.py", &self.program, long)?,
                graph,
                metric: file.baseline.metric_units,
                test: file.baseline.test_units,
            },
            owner,
            roster: roster.to_vec().try_into().map_err(|e| long("roster", e))?,
            continues: None,
        };
        gate::track(&track).map_err(|e| {
            let uncalibrated = file.margin_units == 0;
            let hint = if uncalibrated { "run `cairn track calibrate` on it first" } else { "correct track.toml" };
            Failure::advice(format!("{}: {e}", self.place.display()), hint)
        })?;
        Ok(track)
    }
}

const DATA_HINT: &str = "the converters and what they read are described in docs/spec/run.md";

fn text<const N: usize>(
    field: &str,
    value: &str,
    long: impl Fn(&str, cairn_protocol::bounded::TooLong) -> anyhow::Error,
) -> anyhow::Result<Text<N>> {
    Text::try_from(value).map_err(|e| long(field, e))
}

/// A file of the folder, named by a plain relative path.
fn inside(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let plain = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if name.is_empty() || !plain {
        return Err(Failure::advice(
            format!("{}: `{name}` is not a file of the folder", dir.join("track.toml").display()),
            "name the data by a path inside the folder, such as data/input.txt",
        ));
    }
    Ok(dir.join(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shipped_tracks_are_whole() {
        for name in Definition::shipped_names() {
            let track = Definition::shipped(name).unwrap().unwrap();
            assert_eq!(track.file.name, name);
            assert!(track.data_spec().unwrap().classes > 0);
            assert!(track.program.len() <= track.file.source_bytes as usize);
        }
        assert!(Definition::shipped("no-such").is_none());
    }

    #[test]
    fn data_outside_the_folder_are_refused() {
        for name in ["", "/etc/passwd", "../secret", "data/../../x"] {
            assert!(inside(Path::new("t"), name).is_err(), "{name}");
        }
        assert_eq!(inside(Path::new("t"), "data/a.txt").unwrap(), Path::new("t/data/a.txt"));
    }

    #[test]
    fn a_record_of_an_uncalibrated_track_is_refused_with_advice() {
        let mut track = Definition::shipped("names").unwrap().unwrap();
        track.file.margin_units = 0;
        let error = track.record(GraphId([0; 32]), AuthorKey([0; 32]), &[VerifierKey([1; 32])]).unwrap_err();
        let Some(Failure::Advice { hint, .. }) = error.downcast_ref() else { panic!("{error:?}") };
        assert!(hint.contains("calibrate"), "{hint}");
    }
}
