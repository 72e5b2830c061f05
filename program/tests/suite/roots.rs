//! The shipped tracks' trace roots, as `calibration.json` pins them: a change of bits is always deliberate.

use std::path::Path;

use cairn_engine::backend::{Isa, Kind, Options};
use cairn_engine::cpu::available;
use cairn_engine::data::Dataset;
use cairn_engine::run::{Control, Watch, train};
use cairn_program::{Limits, TraceContext, trace};
use cairn_protocol::{Hash32, Seed};

/// Run once on the best instruction set, again on every other one.
const SMALL: &str = "names";
const LARGE: &str = "shakespeare-small";

/// Watches nothing.
struct Unwatched;

impl Watch for Unwatched {
    fn step(&mut self, _: u64, _: u64, _: f32) -> Control {
        Control::Continue
    }

    fn segment(&mut self, _: u16, _: Hash32, _: Option<Hash32>) -> Control {
        Control::Continue
    }
}

/// A shipped track: what its files say.
pub(crate) struct Track {
    source: String,
    data: Dataset,
    context: TraceContext,
    segments: u16,
    pinned: serde_json::Value,
}

impl Track {
    pub(crate) fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tracks").join(name);
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        let record: toml::Table = read("track.toml").parse().unwrap();
        let number = |key: &str| record[key].as_integer().unwrap();
        let file = record["data"][0].as_str().unwrap();
        let data = Dataset::load(record["converter"].as_str().unwrap(), &std::fs::read(folder.join(file)).unwrap());
        let data = data.unwrap();
        let context = TraceContext {
            data: data.spec().clone(),
            budget: number("budget") as u64,
            memory: number("memory_bytes") as u64,
            parameters: number("parameters") as u64,
            literal_bits: number("literal_bits") as u64,
        };
        let pinned = serde_json::from_str(&read("calibration.json")).unwrap();
        Self { source: read("train.py"), data, context, segments: number("segments") as u16, pinned }
    }

    pub(crate) fn root_is_pinned(&self, options: &Options) {
        let traced = trace(&self.source, &self.context, &Limits::default()).unwrap();
        assert_eq!(traced.graph.to_string(), self.pinned["graph"].as_str().unwrap());
        let run = &self.pinned["runs"][0];
        let seed = Seed::numbered(run["seed"].as_u64().unwrap());
        let found = train(&traced.program, &self.data, &seed, self.segments, options, &mut Unwatched).unwrap();
        assert_eq!(found.root.to_string(), run["trace_root"].as_str().unwrap(), "{options:?}");
        assert_eq!(found.metric, run["metric_units"].as_i64().unwrap());
        assert_eq!(found.test, run["test_units"].as_i64().unwrap());
    }
}

fn cpu(threads: usize, isa: Option<Isa>, fuse: bool) -> Options {
    Options { kind: Kind::Cpu, threads, isa, fuse, micro_batch: None }
}

#[test]
fn names_has_its_root_on_every_instruction_set() {
    let track = Track::open(SMALL);
    for isa in available() {
        track.root_is_pinned(&cpu(1, Some(isa), isa != Isa::Scalar));
    }
    track.root_is_pinned(&cpu(2, None, true));
}

#[test]
fn shakespeare_has_its_root() {
    Track::open(LARGE).root_is_pinned(&cpu(2, None, true));
}
