//! The programs of `tracks/examples` and of the guides train with the real engine and learn.

use std::path::{Path, PathBuf};

use cairn_engine::backend::{Kind, Options};
use cairn_engine::data::Dataset;
use cairn_engine::price;
use cairn_engine::run::{Control, Finished, Watch, train};
use cairn_program::{KnobValue, Limits, TraceContext, Traced, knobs, trace};
use cairn_protocol::{Hash32, Seed};

/// Every example and the track that it is for.
pub(crate) const EXAMPLES: [(&str, &str); 9] = [
    ("adamw", "shakespeare-small"),
    ("cnn", "shakespeare-small"),
    ("gpt", "shakespeare-small"),
    ("gru", "names"),
    ("lion", "shakespeare-small"),
    ("mixer", "shakespeare-small"),
    ("mlp", "names"),
    ("muon", "shakespeare-small"),
    ("sgd", "shakespeare-small"),
];
/// Rows of a batch here: enough to learn from in a second.
const ROWS: i64 = 4;
/// Bytes of the text: its evaluation would cost more than the training otherwise.
const TEXT_BYTES: usize = 40_000;
/// Steps that the budget is for.
const STEPS: u64 = 48;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tracks").join(name)
}

/// The beginning of a track's data, and its rules but for the budget.
pub(crate) fn small(track: &str) -> (Dataset, TraceContext) {
    let record: toml::Table = std::fs::read_to_string(folder(track).join("track.toml")).unwrap().parse().unwrap();
    let number = |key: &str| record[key].as_integer().unwrap() as u64;
    let mut raw = std::fs::read(folder(track).join(record["data"][0].as_str().unwrap())).unwrap();
    raw.truncate(TEXT_BYTES);
    raw.truncate(raw.iter().rposition(|&byte| byte == b'\n').unwrap() + 1);
    let data = Dataset::load(record["converter"].as_str().unwrap(), &raw).unwrap();
    let context = TraceContext {
        data: data.spec().clone(),
        budget: number("budget"),
        memory: number("memory_bytes"),
        parameters: number("parameters"),
        literal_bits: number("literal_bits"),
    };
    (data, context)
}

/// The source with another value of a constant.
fn with(source: &str, name: &str, value: i64) -> String {
    let knob = knobs(source).unwrap().into_iter().find(|knob| knob.name == name).unwrap();
    assert!(matches!(knob.value, KnobValue::Int(_)), "{name}");
    format!("{}{value}{}", &source[..knob.range.start], &source[knob.range.end..])
}

fn traced(source: &str, context: &TraceContext) -> Traced {
    match trace(source, context, &Limits::default()) {
        Ok(traced) => traced,
        Err(diagnostic) => panic!("{}", diagnostic.render(source, "train.py")),
    }
}

#[derive(Default)]
struct Losses(Vec<f32>);

impl Watch for Losses {
    fn step(&mut self, _: u64, _: u64, loss: f32) -> Control {
        self.0.push(loss);
        Control::Continue
    }

    fn segment(&mut self, _: u16, _: Hash32, _: Option<Hash32>) -> Control {
        Control::Continue
    }

    fn audit(&mut self) -> Option<Hash32> {
        Some(Hash32([5; 32]))
    }
}

/// Trains for about so many steps; the first losses and what was reached. No output may look ahead.
pub(crate) fn trained(source: &str, track: &str, steps: u64) -> (Vec<f32>, Finished) {
    let (data, mut context) = small(track);
    context.budget = 1 << 42;
    let program = traced(source, &context).program;
    let last = program.phases.last().unwrap().context;
    let evaluation = price::evaluation(&program.eval, program.output, context.data.evaluation_batches(last));
    let dearest = program.phases.iter().map(|phase| price::graph(&phase.graph)).max().unwrap();
    context.budget = evaluation + dearest * steps;
    let program = traced(source, &context).program;
    let options = Options { kind: Kind::Cpu, threads: 1, isa: None, fuse: true, micro_batch: None };
    let mut losses = Losses::default();
    let finished = train(&program, &data, &Seed([1; 32]), 16, &options, &mut losses).unwrap();
    assert_eq!(finished.leak, None);
    (losses.0, finished)
}

fn learns(name: &str) {
    let (_, track) = EXAMPLES.iter().find(|(example, _)| *example == name).unwrap();
    let source = std::fs::read_to_string(folder("examples").join(format!("{name}.py"))).unwrap();
    let (losses, finished) = trained(&with(&source, "BATCH", ROWS), track, STEPS);
    let (first, metric) = (losses[0], finished.metric as f32 / (1 << 24) as f32);
    println!("{name}: {} steps, {first} -> {metric}", losses.len());
    assert!(metric < first - 0.5, "{name}: {first} -> {metric}");
}

#[test]
fn every_example_is_whole_on_its_track() {
    let mut files: Vec<String> = std::fs::read_dir(folder("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".py").map(str::to_owned))
        .collect();
    files.sort();
    assert_eq!(files, EXAMPLES.map(|(name, _)| name));
    let readme = std::fs::read_to_string(folder("examples").join("README.md")).unwrap();
    for (name, track) in EXAMPLES {
        let source = std::fs::read_to_string(folder("examples").join(format!("{name}.py"))).unwrap();
        assert!(source.lines().take(2).any(|line| line.contains(track)), "{name} says its track");
        assert!(readme.contains(&format!("`{name}.py`")), "{name} is in the table");
        // All rules of the shipped track hold as they are.
        let traced = traced(&source, &small(track).1);
        assert!(traced.steps >= 64, "{name}: {} steps", traced.steps);
    }
}

#[test]
fn the_four_optimisers_share_one_model() {
    let model = |name: &str| {
        let source = std::fs::read_to_string(folder("examples").join(format!("{name}.py"))).unwrap();
        let from = source.find("DEPTH = ").unwrap();
        let to = source.find("# What follows differs.").unwrap();
        source[from..to].to_owned()
    };
    for other in ["adamw", "lion", "muon"] {
        assert_eq!(model(other), model("sgd"), "{other}");
    }
}

#[test]
fn recurrent_and_windowed_models_learn() {
    learns("gru");
    learns("mlp");
}

#[test]
fn transformers_learn() {
    learns("gpt");
}

#[test]
fn convolutions_learn() {
    learns("cnn");
}

/// The page of operations that no example needs.
#[test]
fn moving_ordering_and_counting_learn() {
    let (losses, finished) = trained(include_str!("shapes.py"), "shakespeare-small", 2 * STEPS);
    let metric = finished.metric as f32 / (1 << 24) as f32;
    assert!(metric < losses[0] - 1.0, "{} -> {metric}", losses[0]);
}

#[test]
fn mixers_learn() {
    learns("mixer");
}

#[test]
fn sgd_and_lion_learn() {
    learns("sgd");
    learns("lion");
}

#[test]
fn adamw_and_muon_learn() {
    learns("adamw");
    learns("muon");
}
