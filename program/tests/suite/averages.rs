//! `EMA` and `augment`: what training does besides, and what evaluation reads.

use cairn_engine::backend::{Feed, Kind, Options, Tensor};
use cairn_engine::graph::Op;
use cairn_engine::oracle;
use cairn_engine::price;
use cairn_engine::run::{Control, Finished, Watch, train};
use cairn_program::{Limits, TraceContext, trace};
use cairn_protocol::{Hash32, Seed};

use crate::common::{refused, rows, traced};
use crate::trains::data;

const MODEL: &str = "\
from cairn import param, embedding, sgd, adamw, group, phase, concat, optimiser, is_training
BATCH = 4
def model(x):
    return embedding(x, param('e', (27, 8))) @ param('head', (8, 27))
";

fn program(rest: &str) -> String {
    format!("{MODEL}{rest}")
}

#[test]
fn averages_are_states_after_all_others_and_evaluation_reads_them() {
    let plain = traced(&program(""), &rows());
    let traced = traced(&program("EMA = 0.75\n"), &rows());
    let program = &traced.program;
    let names: Vec<&str> = program.states.iter().map(|state| state.name.as_str()).collect();
    assert_eq!(names, ["e/m", "e/v", "head/m", "head/v", "e/ema", "head/ema"]);
    let reads = |op: fn(&Op) -> bool| program.eval.nodes().iter().filter(|node| op(&node.op)).count();
    assert_eq!((reads(|op| matches!(op, Op::State(_))), reads(|op| matches!(op, Op::Param(_)))), (2, 0));
    // Subtract, multiply, add: three nodes for each parameter.
    assert_eq!(traced.metered_step, plain.metered_step + 2 * 3 * price::NODE_MIN);
    // The averages are there throughout.
    let bytes = 4 * 2 * 27 * 8;
    let phase = |program: &cairn_engine::graph::Program| {
        let phase = &program.phases[0];
        let wanted = [&phase.params_out[..], &phase.states_out[..], &[phase.loss]].concat();
        price::peak_bytes(&phase.graph, &wanted)
    };
    assert!(phase(program) >= phase(&plain.program) + bytes, "{} {}", phase(program), phase(&plain.program));
    assert_ne!(traced.graph, plain.graph);
}

#[test]
fn an_average_takes_all_of_the_first_value_and_a_share_of_the_others() {
    for (ema, second) in [
        ("EMA = 0.75\n", 0.25),
        ("def EMA(step, steps):\n    return 0.5 + 0.25 * (step > 0)\n", 0.25),
        ("EMA = lambda step, steps: 1.0\n", 0.0),
    ] {
        let traced = traced(&program(&format!("{ema}def optimizer():\n    return sgd(lr=0.5)\n")), &rows());
        let program = &traced.program;
        let at = program.table_names.iter().position(|name| name.ends_with("1 - EMA")).unwrap();
        assert_eq!(program.tables[at][..2], [1.0, second]);
        let (phase, seed) = (&program.phases[0], Seed([0; 32]));
        let params: Vec<Vec<f32>> =
            program.params.iter().map(|param| vec![0.5; param.shape.elements() as usize]).collect();
        let states: Vec<Vec<f32>> =
            program.states.iter().map(|state| vec![0.125; state.shape.elements() as usize]).collect();
        let tokens = Tensor::I32(vec![1; 64]);
        let tables: Vec<f32> = program.tables.iter().map(|table| table[1]).collect();
        let feed = Feed {
            inputs: [&tokens, &tokens],
            params: &params,
            states: &states,
            tables: &tables,
            seed: &seed,
            step: 1,
        };
        let out = oracle::evaluate(&phase.graph, &feed, &[&phase.params_out[..], &phase.states_out[..]].concat());
        for (news, averages) in out.iter().zip(&out[2..]) {
            for (new, average) in news.iter().zip(averages) {
                let expected = 0.125 + f64::from(second) * (new - 0.125);
                assert!((average - expected).abs() < 1e-9, "{ema}: {average} {expected}");
            }
        }
    }
}

struct Quiet;

impl Watch for Quiet {
    fn step(&mut self, _: u64, _: u64, _: f32) -> Control {
        Control::Continue
    }

    fn segment(&mut self, _: u16, _: Hash32, _: Option<Hash32>) -> Control {
        Control::Continue
    }

    fn audit(&mut self) -> Option<Hash32> {
        Some(Hash32([7; 32]))
    }
}

fn finished(rest: &str) -> Finished {
    finished_by(Kind::Cpu, rest)
}

fn finished_by(kind: Kind, rest: &str) -> Finished {
    let data = data();
    let context = TraceContext {
        data: data.spec().clone(),
        budget: 50_000_000,
        memory: 1 << 28,
        parameters: 100_000,
        literal_bits: 16_384,
    };
    let source = program(rest);
    let traced = match trace(&source, &context, &Limits::default()) {
        Ok(traced) => traced,
        Err(diagnostic) => panic!("{}", diagnostic.render(&source, "train.py")),
    };
    let options = Options { kind, threads: 1, isa: None, fuse: true, micro_batch: None };
    let finished = train(&traced.program, &data, &Seed([1; 32]), 16, &options, &mut Quiet).unwrap();
    assert_eq!(finished.leak, None);
    finished
}

#[test]
fn what_is_scored_are_the_averages() {
    // The rate is above 0 at the first step only, so the parameters stay what they were after it.
    let once = "def lr(step, steps):\n    return 0.5 * (step == 0)\ndef optimizer():\n    return sgd(lr=lr)\n";
    let still = finished(once);
    // The average of the first step is the parameter in every bit, and then stays.
    let moving = "def optimizer():\n    return sgd(lr=0.5)\nEMA = lambda step, steps: 1.0\n";
    let averaged = finished(moving);
    assert_eq!((still.metric, still.test), (averaged.metric, averaged.test));
    assert_eq!(finished_by(Kind::Reference, moving), averaged, "the definition agrees");
    assert_ne!(still.params, averaged.params);
    assert_ne!(finished("def optimizer():\n    return sgd(lr=0.5)\n").metric, averaged.metric);
}

#[test]
fn a_parameter_that_only_a_later_phase_uses_is_averaged_from_the_first_step() {
    let source = program(
        "EMA = 0.5\nPHASES = [phase(batch=4), phase(batch=8)]\n\
         def loss(x, y):\n    from_the_second = model(x).sum() if x.shape[0] == 4 else model(x).sum() * param('late', 1).sum()\n    \
         return from_the_second\n",
    );
    let program = traced(&source, &rows()).program;
    let late = program.states.iter().position(|state| state.name == "late/ema").unwrap();
    for phase in &program.phases {
        let average = &phase.graph.nodes()[phase.states_out[late] as usize];
        assert!(!matches!(average.op, Op::State(_)), "it moves in each phase");
    }
}

#[test]
fn an_optimisers_state_does_not_hide_an_average() {
    let own = "EMA = 0.5\ndef optimizer():\n    return optimiser(lambda p, g, s, t: (p - g, s), state=['ema'])\n";
    assert!(refused(&program(own), &rows()).message.contains("'ema'"));
}

#[test]
fn augmentation_is_for_training_only() {
    let shifted = "def augment(x):\n    return concat([x[:, 1:], x[:, :1]], dim=1)\n";
    let traced = traced(&program(shifted), &rows());
    let joins = |graph: &cairn_engine::graph::Graph| {
        graph.nodes().iter().filter(|node| matches!(node.op, Op::Concat(_))).count()
    };
    assert_eq!((joins(&traced.program.phases[0].graph), joins(&traced.program.eval)), (1, 0));
    // The objective of one's own gets them too.
    let own = "from cairn import cross_entropy\ndef loss(x, y):\n    return cross_entropy(model(x), y)\n";
    assert_eq!(crate::common::traced(&program(&format!("{own}{shifted}")), &rows()).graph, traced.graph);
}
