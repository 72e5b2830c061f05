//! A whole training of a bigram model: trace, metric, divergence, stopping. Its gradient is written by hand, so that
//! these tests stand on the runner alone.

use cairn_engine::backend::{Kind, Options};
use cairn_engine::data::Dataset;
use cairn_engine::graph::{Binary, DType, Graph, Init, NodeId, Param, Phase, Program, RowOp, Shape, StateVar};
use cairn_engine::run::{
    Control, Finished, METRIC_MAX, METRIC_ONE, RunError, State, Watch, fixed_point, segment_end, trace_root, train,
};
use cairn_protocol::{Hash32, Seed};

use crate::cpu_exact::options;
use crate::programs::{Gpt, gpt};

pub(crate) const VOCAB: u32 = 256;
pub(crate) const SEED: Seed = Seed([7; 32]);
pub(crate) const OPTIONS: Options =
    Options { kind: Kind::Reference, threads: 1, isa: None, fuse: false, micro_batch: None };

/// Every text below repeats this, so that a bigram model can learn it.
pub(crate) const PHRASE: &[u8] = b"to be or not to be, that is the question: ";

pub(crate) fn text() -> Dataset {
    Dataset::load("bytes", &PHRASE.repeat(30)).unwrap()
}

fn shape(axes: &[u32]) -> Shape {
    Shape(axes.to_vec())
}

/// One step of momentum descent: m' = 0.5·m + g, w' = w − lr²·m' (squared, so that a schedule can leave the number system).
fn phase(share_ppm: u32, batch: u32, context: u32) -> Phase {
    let mut g = Graph::default();
    let table = g.param(0, shape(&[VOCAB, VOCAB])).unwrap();
    let momentum = g.state(0, shape(&[VOCAB, VOCAB])).unwrap();
    let x = g.input(0, shape(&[batch, context]), DType::I32).unwrap();
    let y = g.input(1, shape(&[batch, context]), DType::I32).unwrap();
    let logits = g.embedding(table, x).unwrap();
    let losses = g.row(RowOp::CrossEntropy, &[logits, y]).unwrap();
    let scale = g.full((1.0 / (batch * context) as f32).to_bits(), Shape::default()).unwrap();
    let scales = g.broadcast_to(scale, shape(&[batch, context])).unwrap();
    let sum = g.sum(losses, &[0, 1]).unwrap();
    let sum = g.reshape(sum, Shape::default()).unwrap();
    let loss = g.binary(Binary::Mul, sum, scale).unwrap();
    let dlogits = g.row(RowOp::CrossEntropyGrad, &[logits, y, scales]).unwrap();
    let gradient = g.embedding_grad(x, dlogits, VOCAB).unwrap();
    let half = g.full(0.5f32.to_bits(), Shape::default()).unwrap();
    let kept = g.binary(Binary::Mul, momentum, half).unwrap();
    let momentum = g.binary(Binary::Add, kept, gradient).unwrap();
    let lr = g.table(0).unwrap();
    let change = g.binary(Binary::Mul, momentum, lr).unwrap();
    let change = g.binary(Binary::Mul, change, lr).unwrap();
    let table = g.binary(Binary::Sub, table, change).unwrap();
    Phase { share_ppm, batch, context, graph: g, loss, params_out: vec![table], states_out: vec![momentum] }
}

/// Two phases with other batches and contexts; `lr` at every step.
pub(crate) fn bigram(steps: [u32; 2], lr: f32) -> Program {
    let mut eval = Graph::default();
    let table = eval.param(0, shape(&[VOCAB, VOCAB])).unwrap();
    let x = eval.input(0, shape(&[3, 6]), DType::I32).unwrap();
    let output: NodeId = eval.embedding(table, x).unwrap();
    Program {
        params: vec![Param {
            name: "bigram".into(),
            shape: shape(&[VOCAB, VOCAB]),
            init: Init::Normal(0.01f32.to_bits()),
            tag: String::new(),
        }],
        states: vec![StateVar { name: "bigram/m".into(), shape: shape(&[VOCAB, VOCAB]) }],
        phases: vec![phase(500_000, 4, 8), phase(500_000, 2, 6)],
        eval,
        eval_batch: 3,
        output,
        table_names: vec!["lr".into()],
        tables: vec![vec![lr; (steps[0] + steps[1]) as usize]],
        steps: steps.to_vec(),
    }
}

/// Records what it is told; stops after a step or segment if asked to.
#[derive(Default)]
pub(crate) struct Follow {
    pub(crate) losses: Vec<f32>,
    pub(crate) segments: Vec<(u16, Hash32, Option<Hash32>)>,
    pub(crate) lengths: Vec<u64>,
    pub(crate) inside: Option<u64>,
    pub(crate) stop_after_step: Option<u64>,
    pub(crate) stop_after_segment: Option<u16>,
}

fn stop(when: bool) -> Control {
    if when { Control::Stop } else { Control::Continue }
}

impl Watch for Follow {
    fn step(&mut self, step: u64, _steps: u64, loss: f32) -> Control {
        self.losses.push(loss);
        assert_eq!(self.losses.len() as u64, step);
        stop(self.stop_after_step == Some(step))
    }
    fn inside(&mut self, _segment: u16, steps: u64) -> Option<u64> {
        self.lengths.push(steps);
        self.inside
    }
    fn segment(&mut self, segment: u16, leaf: Hash32, inside: Option<Hash32>) -> Control {
        self.segments.push((segment, leaf, inside));
        stop(self.stop_after_segment == Some(segment))
    }
}

fn run(program: &Program, segments: u16, watch: &mut Follow) -> Result<Finished, RunError> {
    train(program, &text(), &SEED, segments, &OPTIONS, watch)
}

#[test]
fn a_training_learns_and_repeats_bit_for_bit() {
    let program = bigram([30, 20], 2.0);
    let (mut first, mut second) = (Follow::default(), Follow::default());
    let done = run(&program, 16, &mut first).unwrap();
    assert_eq!(done, run(&program, 16, &mut second).unwrap());
    assert_eq!(first.losses, second.losses);
    assert_eq!((first.losses.len(), done.leaves.len()), (50, 16));
    let nats = |units: i64| units as f64 / METRIC_ONE as f64;
    assert!((f64::from(first.losses[0]) - 256f64.ln()).abs() < 0.05, "starts near uniform: {}", first.losses[0]);
    assert!(nats(done.metric) < 4.0 && nats(done.test) < 4.0, "{} {}", nats(done.metric), nats(done.test));
    let told: Vec<Hash32> = first.segments.iter().map(|(_, leaf, _)| *leaf).collect();
    assert_eq!((told, trace_root(&done.leaves)), (done.leaves.clone(), done.root));
    let other = train(&program, &text(), &Seed([8; 32]), 16, &OPTIONS, &mut Follow::default()).unwrap();
    assert!(other.root != done.root && other.metric != done.metric, "another seed, another run");
}

#[test]
fn the_trace_is_pinned() {
    let done = run(&bigram([10, 7], 2.0), 4, &mut Follow::default()).unwrap();
    let pinned = "14ce2ee6578db244f3aed22ac5cc7d421ef8271056c7544074cd93d8bdf82564 40684110 40778203";
    assert_eq!(format!("{} {} {}", done.root, done.metric, done.test), pinned);
}

#[test]
fn segments_end_where_the_formula_says() {
    let ends = |steps| (0..16).map(|segment| segment_end(segment, 16, steps)).collect::<Vec<u64>>();
    assert_eq!(ends(16), (1..=16).collect::<Vec<u64>>());
    assert_eq!(ends(20), [1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18, 20]);
    let mut watch = Follow::default();
    run(&bigram([11, 9], 2.0), 16, &mut watch).unwrap();
    assert_eq!(watch.lengths, [1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 2]);
}

#[test]
fn the_hash_inside_a_segment_is_that_of_the_state_there() {
    let program = bigram([12, 8], 2.0);
    let steps = |segments, inside| {
        let mut watch = Follow { inside, ..Follow::default() };
        run(&program, segments, &mut watch).unwrap();
        watch.segments
    };
    // Leaves of 20 segments are the states after every step.
    let every: Vec<Hash32> = steps(20, None).iter().map(|(_, leaf, _)| *leaf).collect();
    for (segment, leaf, inside) in steps(4, Some(3)) {
        let start = usize::from(segment) * 5;
        assert_eq!((leaf, inside), (every[start + 4], Some(every[start + 2])));
    }
    for (segment, leaf, inside) in steps(20, Some(1)) {
        assert_eq!((leaf, inside), (every[usize::from(segment)], Some(leaf)), "the only step stands in");
    }
    assert!(steps(4, Some(9)).iter().all(|(.., inside)| inside.is_none()), "beyond the segment there is no inside");
}

#[test]
fn a_state_hash_sees_every_bit_name_and_shape() {
    let program = bigram([10, 10], 1.0);
    let state = State::new(&program, &SEED);
    let hash = state.hash(&program);
    let mut flipped = state.clone();
    flipped.optimiser[0][9] = f32::from_bits(1 << 23);
    assert_ne!(flipped.hash(&program), hash);
    let mut flipped = state.clone();
    flipped.params[0][65_535] = f32::from_bits(flipped.params[0][65_535].to_bits() ^ 1);
    assert_ne!(flipped.hash(&program), hash);
    let later = State { step: 1, ..state.clone() };
    assert_ne!(later.hash(&program), hash);
    let mut renamed = program.clone();
    renamed.states[0].name = "bigram/v".into();
    assert_ne!(state.hash(&renamed), hash);
    let mut reshaped = program.clone();
    reshaped.params[0].shape = shape(&[128, 512]);
    assert_ne!(state.hash(&reshaped), hash);
}

#[test]
fn a_diverging_run_names_step_and_tensor() {
    // 2^80 times a gradient of 2^-5 and more leaves the number system at once.
    let diverged = run(&bigram([10, 10], 2.0f32.powi(40)), 16, &mut Follow::default());
    assert_eq!(diverged, Err(RunError::Diverged { step: 1, tensor: "bigram".into() }));
    let mut late = bigram([10, 10], 1.0);
    late.tables[0][6] = 2.0f32.powi(40);
    let mut watch = Follow::default();
    let diverged = run(&late, 16, &mut watch);
    assert_eq!(diverged, Err(RunError::Diverged { step: 7, tensor: "bigram".into() }));
    assert_eq!(watch.losses.len(), 6, "a diverged step is not reported as done");
    assert!(diverged.unwrap_err().to_string().contains("after step 7, bigram is out of range"));
}

#[test]
fn whoever_watches_can_stop_a_run() {
    let program = bigram([10, 10], 1.0);
    let mut watch = Follow { stop_after_step: Some(5), ..Follow::default() };
    assert_eq!(run(&program, 16, &mut watch), Err(RunError::Stopped));
    assert_eq!((watch.losses.len(), watch.segments.len()), (5, 3));
    let mut watch = Follow { stop_after_segment: Some(1), ..Follow::default() };
    assert_eq!(run(&program, 16, &mut watch), Err(RunError::Stopped));
    assert_eq!((watch.losses.len(), watch.segments.len()), (2, 2));
}

#[test]
fn a_program_whose_parts_do_not_fit_is_refused() {
    let good = bigram([10, 10], 1.0);
    let refused = |change: &dyn Fn(&mut Program)| {
        let mut program = good.clone();
        change(&mut program);
        matches!(run(&program, 16, &mut Follow::default()), Err(RunError::Program(_) | RunError::Data(_)))
    };
    assert!(!refused(&|_| ()));
    assert!(refused(&|program| program.steps = vec![10, 5]), "fewer steps than segments");
    assert!(refused(&|program| program.steps = vec![20]), "steps of a phase missing");
    assert!(refused(&|program| program.steps = vec![1 << 20, 1]), "too many steps");
    assert!(refused(&|program| program.tables[0].truncate(19)), "a short schedule");
    assert!(refused(&|program| program.phases[1].states_out.clear()), "a state missing");
    assert!(refused(&|program| program.params[0].shape = shape(&[128, 512])), "another shape");
    assert!(refused(&|program| program.phases[0].loss = program.phases[0].params_out[0]), "no scalar loss");
    assert!(refused(&|program| program.phases[0].context = 0), "no such context");
    assert!(refused(&|program| program.eval_batch = 4), "outputs of other rows");
}

#[test]
fn the_metric_is_fixed_point_and_bounded() {
    assert_eq!(fixed_point(0.0), 0);
    assert_eq!(fixed_point(1.0), METRIC_ONE);
    assert_eq!(fixed_point(f32::from_bits(1.0f32.to_bits() + 1)), METRIC_ONE + 2);
    assert_eq!(fixed_point(1.5 * 2.0f32.powi(-24)), 1, "rounded down");
    assert_eq!(fixed_point(-1.0), 0);
    assert_eq!(fixed_point(2.0f32.powi(10)), METRIC_MAX);
    assert_eq!(fixed_point(2.0f32.powi(60)), METRIC_MAX);
}

/// Every backend, instruction set and number of threads runs the same training.
#[test]
fn a_gpt_has_one_trace_on_every_backend() {
    let sizes = Gpt { vocab: VOCAB, batch: 3, context: 12, steps: 18, ..Gpt::TINY };
    let program = gpt(&sizes);
    let run = |options: &Options| train(&program, &text(), &SEED, 4, options, &mut Follow::default()).unwrap();
    let reference = run(&OPTIONS);
    let pinned = "466f02dd9dd5250be1f14820ee2056632dc755fd5268da2599e58147ec6c7ccf 61575144 61960603";
    assert_eq!(format!("{} {} {}", reference.root, reference.metric, reference.test), pinned);
    for options in options() {
        assert_eq!(run(&options), reference, "{options:?}");
    }
}

/// Whatever the micro-batch, a run has one trace.
#[test]
fn a_gpt_has_one_trace_in_slices() {
    let program = gpt(&Gpt { vocab: VOCAB, batch: 4, context: 256, steps: 4, ..Gpt::TINY });
    let data = Dataset::load("bytes", &PHRASE.repeat(100)).unwrap();
    let run = |options: &Options| train(&program, &data, &SEED, 4, options, &mut Follow::default()).unwrap();
    let all = options().zip([None, Some(1), Some(2), Some(4)].into_iter().cycle());
    let mut runs = all.map(|(options, micro_batch)| Options { micro_batch, ..options });
    let want = run(&runs.next().unwrap());
    for options in runs {
        assert_eq!(run(&options), want, "{options:?}");
    }
}
