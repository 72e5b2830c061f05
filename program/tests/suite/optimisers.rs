//! Optimisers: one step of each against its formula in plain arithmetic, through the f64 oracle.

use cairn_engine::backend::{Feed, Tensor};
use cairn_engine::oracle;
use cairn_program::Traced;
use cairn_protocol::Seed;

use crate::common::{rows, traced};

/// Two parameters in an objective whose gradients are easy: 0.5·Σ(w − 3)² + Σ b·1.
fn program(rest: &str) -> String {
    format!(
        "from cairn import param, embedding, adamw, sgd, lion, muon, group, optimiser, phase, sqrt, where, clip_by_global_norm\n\
         BATCH = 2\n\
         def model(x):\n    \
             w = param('w', (4, 6))\n    \
             b = param('b', (6,))\n    \
             return embedding(x, param('e', (27, 27))) + w.sum() * 0 + b.sum() * 0\n\
         def loss(x, y):\n    \
             w, b = param('w', (4, 6)), param('b', (6,))\n    \
             return 0.5 * ((w - 3.0) ** 2).sum() + b.sum() + model(x).sum() * 0\n{rest}"
    )
}

fn w(i: usize) -> f64 {
    (i as f64 - 10.0) / 8.0
}

/// After one step at `step` with all states at 0.25: new w, b, and the states in order.
fn step(traced: &Traced, step: usize) -> Vec<Vec<f64>> {
    let (program, phase) = (&traced.program, &traced.program.phases[0]);
    let params: Vec<Vec<f32>> = program
        .params
        .iter()
        .map(|param| (0..param.shape.elements() as usize).map(|i| w(i) as f32).collect())
        .collect();
    let states: Vec<Vec<f32>> =
        program.states.iter().map(|state| vec![0.25; state.shape.elements() as usize]).collect();
    let tables: Vec<f32> = program.tables.iter().map(|table| table[step]).collect();
    let tokens = Tensor::I32(vec![1; 32]);
    let seed = Seed([0; 32]);
    let feed = Feed {
        inputs: [&tokens, &tokens],
        params: &params,
        states: &states,
        tables: &tables,
        seed: &seed,
        step: step as u64,
    };
    let wanted = [&phase.params_out[..], &phase.states_out[..]].concat();
    oracle::evaluate(&phase.graph, &feed, &wanted)
}

fn assert_close(got: &[f64], expected: impl Fn(usize) -> f64, what: &str) {
    for (i, got) in got.iter().enumerate() {
        let expected = expected(i);
        assert!((got - expected).abs() < 2e-6 * (1.0 + expected.abs()), "{what}[{i}]: {got} {expected}");
    }
}

#[test]
fn adamw_is_adamw() {
    let source =
        program("def optimizer():\n    return [group('*', adamw(lr=0.1, betas=(0.9, 0.95), weight_decay=0.2))]\n");
    let traced = traced(&source, &rows());
    assert_eq!(
        traced.program.states.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
        ["w/m", "w/v", "b/m", "b/v", "e/m", "e/v"]
    );
    let out = step(&traced, 4);
    let new = |p: f64, g: f64| {
        let (m, v) = (0.9 * 0.25 + 0.1 * g, 0.95 * 0.25 + 0.05 * g * g);
        let (mh, vh) = (m / (1.0 - 0.9f64.powi(5)), v / (1.0 - 0.95f64.powi(5)));
        p * (1.0 - 0.1 * 0.2) - 0.1 * mh / (vh.sqrt() + 1e-8)
    };
    assert_close(&out[0], |i| new(w(i), w(i) - 3.0), "w");
    assert_close(&out[1], |i| new(w(i), 1.0), "b");
    assert_close(&out[4], |i| 0.95 * 0.25 + 0.05 * (w(i) - 3.0).powi(2), "w/v");
}

#[test]
fn sgd_and_lion_are_sgd_and_lion() {
    let source = program(
        "def optimizer():\n    return [group('w', sgd(lr=0.1, momentum=0.9, weight_decay=0.5, nesterov=True)), group('b', lion(lr=0.01, weight_decay=0.1)), group('*', sgd())]\n",
    );
    let out = step(&traced(&source, &rows()), 0);
    let velocity = |i: usize| 0.9 * 0.25 + (w(i) - 3.0 + 0.5 * w(i));
    assert_close(&out[0], |i| w(i) - 0.1 * (w(i) - 3.0 + 0.5 * w(i) + 0.9 * velocity(i)), "w");
    assert_close(&out[3], velocity, "w/m");
    assert_close(&out[1], |i| w(i) * (1.0 - 0.01 * 0.1) - 0.01 * (0.9f64 * 0.25 + 0.1).signum(), "b");
    assert_close(&out[4], |_| 0.99 * 0.25 + 0.01, "b/m");
}

#[test]
fn muon_gives_a_matrix_of_nearly_equal_singular_values_and_vectors_to_adamw() {
    let source = program("def optimizer():\n    return [group('*', muon(lr=1.0, momentum=0.0, nesterov=False))]\n");
    let traced = traced(&source, &rows());
    assert_eq!(traced.program.states.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["w/m", "b/m", "b/v", "e/m"]);
    let out = step(&traced, 0);
    let update: Vec<f64> = (0..24).map(|i| w(i) - out[0][i]).collect();
    // The gradient has rank 2, so U has two singular values near sqrt(6/4) and the trace of UUᵀ is about twice their square.
    let norm: f64 = update.iter().map(|u| u * u).sum();
    assert!((2.0 * 1.5 * 0.4..2.0 * 1.5 * 1.6).contains(&norm), "{norm}");
}

#[test]
fn an_optimiser_of_ones_own_has_states_numbers_and_the_step() {
    let source = program(
        "def update(p, g, s, t):\n    \
             m = t.beta * s['m'] + (1 - t.beta) * g\n    \
             return p - t.lr * m * (1.0 + t.step), {'m': m, 'n': s['n'] * 2.0}\n\
         def rate(step, steps):\n    return 0.5 if step < 3 else 0.25\n\
         def optimizer():\n    return [group('*', optimiser(update, state=['m', 'n'], lr=rate, beta=0.75))]\n",
    );
    let traced = traced(&source, &rows());
    assert_eq!(traced.program.states.len(), 6);
    let out = step(&traced, 5);
    let m = |i: usize| 0.75 * 0.25 + 0.25 * (w(i) - 3.0);
    assert_close(&out[0], |i| w(i) - 0.25 * m(i) * 6.0, "w");
    assert_close(&out[3], m, "w/m");
    assert_close(&out[4], |_| 0.5, "w/n");
}

#[test]
fn branching_on_a_step_scalar_is_refused() {
    let source = program(
        "def update(p, g, s, t):\n    if t.step > 3:\n        return p, s\n    return p - g, s\n\
         def optimizer():\n    return [group('*', optimiser(update, state=[]))]\n",
    );
    let diagnostic = crate::common::refused(&source, &rows());
    assert!(diagnostic.kind == cairn_program::Kind::Type && diagnostic.hint.unwrap().contains("where"));
}

#[test]
fn gradients_are_clipped_by_their_norm_together() {
    let source = program(
        "def grad_transform(grads):\n    return clip_by_global_norm(grads, 2.0)\n\
         def optimizer():\n    return [group('*', sgd(lr=1.0))]\n",
    );
    let out = step(&traced(&source, &rows()), 0);
    let norm = ((0..24).map(|i| (w(i) - 3.0).powi(2)).sum::<f64>() + 6.0).sqrt();
    assert_close(&out[0], |i| w(i) - (w(i) - 3.0) * 2.0 / norm, "w");
    assert_close(&out[1], |i| w(i) - 2.0 / norm, "b");
}

#[test]
fn phases_share_parameters_and_states_and_divide_the_budget() {
    let source = program("PHASES = [phase(share=1, batch=2), phase(share=3, batch=8)]\n");
    let program = traced(&source, &rows()).program;
    assert_eq!(program.phases.iter().map(|p| (p.share_ppm, p.batch)).collect::<Vec<_>>(), [(250_000, 2), (750_000, 8)]);
    assert!(program.steps.len() == 2 && program.steps.iter().all(|&steps| steps > 0));
    for phase in &program.phases {
        assert_eq!((phase.params_out.len(), phase.states_out.len()), (program.params.len(), program.states.len()));
    }
}
