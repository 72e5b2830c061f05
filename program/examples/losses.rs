//! Every loss of a run, one JSON object a line, to compare other implementations with: first the steps of each phase, then
//! each step's loss, then the scores in nats.
//!
//! `cargo run --release -p cairn-program --example losses -- train.py CONVERTER DATA BUDGET SEED [UNTIL]`
//!
//! With UNTIL the run ends after so many steps, without scores.

use std::error::Error;

use cairn_engine::backend::{Kind, Options};
use cairn_engine::data::Dataset;
use cairn_engine::run::{Control, METRIC_ONE, RunError, Watch, train};
use cairn_program::{Limits, TraceContext, trace};
use cairn_protocol::limits::SEGMENTS;
use cairn_protocol::{Hash32, Seed};

struct Printed {
    until: u64,
}

impl Watch for Printed {
    fn step(&mut self, step: u64, _: u64, loss: f32) -> Control {
        println!("{{\"step\": {step}, \"loss\": {loss}}}");
        if step < self.until { Control::Continue } else { Control::Stop }
    }

    fn segment(&mut self, _: u16, _: Hash32, _: Option<Hash32>) -> Control {
        Control::Continue
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, converter, data, budget, seed, until @ ..] = &arguments[..] else {
        return Err("arguments: train.py CONVERTER DATA BUDGET SEED [UNTIL]".into());
    };
    let source = std::fs::read_to_string(source)?;
    let data = Dataset::load(converter, &std::fs::read(data)?)?;
    let context = TraceContext {
        data: data.spec().clone(),
        budget: budget.parse()?,
        memory: u64::MAX,
        parameters: u64::MAX,
        literal_bits: u64::MAX,
    };
    let traced = trace(&source, &context, &Limits::default()).map_err(|why| why.render(&source, "train.py"))?;
    println!("{{\"phases\": {:?}}}", traced.program.steps);
    let options = Options { kind: Kind::Cpu, threads: 1, isa: None, fuse: true, micro_batch: None };
    let seed = Seed::numbered(seed.parse()?);
    let until = match until.first() {
        Some(until) => until.parse()?,
        None => u64::MAX,
    };
    match train(&traced.program, &data, &seed, SEGMENTS, &options, &mut Printed { until }) {
        Ok(found) => {
            let nats = |units: i64| units as f64 / METRIC_ONE as f64;
            println!("{{\"metric\": {}, \"test_metric\": {}}}", nats(found.metric), nats(found.test));
            Ok(())
        }
        Err(RunError::Stopped) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
