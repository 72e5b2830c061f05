//! Traced programs train: the engine takes them as they are.

use cairn_engine::backend::{Kind, Options};
use cairn_engine::data::Dataset;
use cairn_engine::run::{Control, Watch, train};
use cairn_program::{Limits, TraceContext, trace};
use cairn_protocol::{Hash32, Seed};

use crate::common::NAMES;

/// Names of a made-up language: consonant and vowel in turn.
pub(crate) fn data() -> Dataset {
    let (consonants, vowels) = (b"bdfgklmnprst", b"aeiou");
    let mut names = String::new();
    for i in 0..600usize {
        let mut n = i * 7919 + 13;
        for _ in 0..2 + i % 3 {
            names.push(char::from(consonants[n % 12]));
            names.push(char::from(vowels[n / 12 % 5]));
            n = n / 3 + i;
        }
        names.push('\n');
    }
    Dataset::load("names", names.as_bytes()).unwrap()
}

struct Losses(Vec<f32>);

impl Watch for Losses {
    fn step(&mut self, _: u64, _: u64, loss: f32) -> Control {
        self.0.push(loss);
        Control::Continue
    }

    fn segment(&mut self, _: u16, _: Hash32, _: Option<Hash32>) -> Control {
        Control::Continue
    }
}

#[test]
fn programs_learn() {
    let data = data();
    let context = TraceContext {
        data: data.spec().clone(),
        budget: 1_500_000_000,
        memory: 1 << 28,
        parameters: 100_000,
        literal_bits: 16_384,
    };
    let everything = include_str!("everything.py");
    for source in [NAMES, everything] {
        let traced = match trace(source, &context, &Limits::default()) {
            Ok(traced) => traced,
            Err(diagnostic) => panic!("{}", diagnostic.render(source, "train.py")),
        };
        let options = Options { kind: Kind::Cpu, threads: 1, isa: None, fuse: true, micro_batch: None };
        let mut losses = Losses(Vec::new());
        let finished = train(&traced.program, &data, &Seed([1; 32]), 16, &options, &mut losses).unwrap();
        let (first, metric) = (losses.0[0], finished.metric as f64 / f64::from(1 << 24));
        println!("{} steps: {first} -> {metric}", traced.steps);
        assert_eq!(losses.0.len() as u64, traced.steps);
        assert!(metric < 2.6 && first > 3.0, "{first} {metric}");
    }
}
