//! Operations: shapes, and what they compute, against formulas in plain arithmetic through the f64 oracle.

use cairn_engine::backend::{Feed, Tensor};
use cairn_engine::graph::Op;
use cairn_program::Traced;
use cairn_protocol::Seed;

use crate::common::{model, rows, traced};

#[test]
fn shapes_are_those_of_pytorch_and_numpy() {
    for (expression, shape) in [
        ("h", "(4, 16, 8)"),
        ("h[0]", "(16, 8)"),
        ("h[-1, 2:5]", "(3, 8)"),
        ("h[..., 0]", "(4, 16)"),
        ("h[:, None, 1:, :4]", "(4, 1, 15, 4)"),
        ("h[None]", "(1, 4, 16, 8)"),
        ("h[..., None]", "(4, 16, 8, 1)"),
        ("h[:, :-1]", "(4, 15, 8)"),
        ("h[:, -3:]", "(4, 3, 8)"),
        ("h[:, ::2]", "(4, 8, 8)"),
        ("h[:, 1::3]", "(4, 5, 8)"),
        ("h[::3, 2:15:5, -1]", "(2, 3)"),
        ("h[:, ::100]", "(4, 1, 8)"),
        ("h[:, 15:0:-20]", "(4, 1, 8)"),
        ("x[:, ::5]", "(4, 4)"),
        ("h[:, arange(5)]", "(4, 5, 8)"),
        ("h[0, x]", "(4, 16, 8)"),
        ("h[1:, 2:, x[0]]", "(3, 14, 16)"),
        ("h[..., x, 0]", "(4, 4, 16)"),
        ("h[:, None, x]", "(4, 1, 4, 16, 8)"),
        ("h[0, 0][x]", "(4, 16)"),
        ("h[x]", "(4, 16, 16, 8)"),
        ("h.reshape(4, -1)", "(4, 128)"),
        ("h.view(-1)", "(512,)"),
        ("reshape(h, (2, 2, 16, 8))", "(2, 2, 16, 8)"),
        ("h.reshape([64, 8])", "(64, 8)"),
        ("h.transpose(1, 2)", "(4, 8, 16)"),
        ("h.transpose(-1, 0)", "(8, 16, 4)"),
        ("h.permute(2, 0, 1)", "(8, 4, 16)"),
        ("permute(h, (2, 0, 1))", "(8, 4, 16)"),
        ("h.mT", "(4, 8, 16)"),
        ("h[0].T", "(8, 16)"),
        ("h.sum()", "()"),
        ("h.sum(-1)", "(4, 16)"),
        ("h.sum(dim=1, keepdim=True)", "(4, 1, 8)"),
        ("h.mean(axis=(0, 2))", "(16,)"),
        ("h.mean(axis=(0, 2), keepdims=True)", "(1, 16, 1)"),
        ("h.max(dim=0)", "(16, 8)"),
        ("h.min()", "()"),
        ("h.var(-1, correction=0)", "(4, 16)"),
        ("h.logsumexp(dim=-1)", "(4, 16)"),
        ("argmax(h, dim=-1)", "(4, 16)"),
        ("argmax(h, -1, keepdim=True)", "(4, 16, 1)"),
        ("argmax(h, dim=1)", "(4, 8)"),
        ("argmax(h, dim=0, keepdim=True)", "(1, 16, 8)"),
        ("argmax(h)", "()"),
        ("h.argmax(keepdim=True)", "(1, 1, 1)"),
        ("h @ zeros(8, 5)", "(4, 16, 5)"),
        ("h @ h.transpose(1, 2)", "(4, 16, 16)"),
        ("h[0, 0] @ zeros(8, 5)", "(5,)"),
        ("h @ zeros(8)", "(4, 16)"),
        ("h[0, 0] @ h[0, 1]", "()"),
        ("linear(h, zeros(8, 5), zeros(5))", "(4, 16, 5)"),
        ("stack([h, h], dim=1)", "(4, 2, 16, 8)"),
        ("stack([h, h], dim=-1)", "(4, 16, 8, 2)"),
        ("concat([h, h], dim=-1)", "(4, 16, 16)"),
        ("cat((h, h))", "(8, 16, 8)"),
        ("chunk(h, 4, dim=-1)[1]", "(4, 16, 2)"),
        ("split(h, 3, dim=-1)[2]", "(4, 16, 2)"),
        ("split(h, [1, 7], dim=2)[1]", "(4, 16, 7)"),
        ("h.squeeze()", "(4, 16, 8)"),
        ("h[:, :1].squeeze(1)", "(4, 8)"),
        ("h.unsqueeze(-1)", "(4, 16, 8, 1)"),
        ("h.flatten(1)", "(4, 128)"),
        ("h.expand(3, -1, -1, -1)", "(3, 4, 16, 8)"),
        ("broadcast_to(1.0, (2, 3))", "(2, 3)"),
        ("pad(h, 1, 2)", "(4, 16, 11)"),
        ("pad(h, 1, 0, dim=1)", "(4, 17, 8)"),
        ("one_hot(x, 27)", "(4, 16, 27)"),
        ("take(h, x)", "(4, 16)"),
        ("param('e', (27, 3))[x]", "(4, 16, 3)"),
        ("x < 3", "(4, 16)"),
        ("(x == x) * 1.0", "(4, 16)"),
        ("to_float(x) / 3", "(4, 16)"),
        ("softmax(h, dim=1)", "(4, 16, 8)"),
        ("rope(h)", "(4, 16, 8)"),
        (
            "attention(h.reshape(4, 16, 2, 4).transpose(1, 2), zeros(4, 1, 16, 4), ones(4, 1, 16, 4), causal=True)",
            "(4, 2, 16, 4)",
        ),
        ("where(h > 0, h, 0.0)", "(4, 16, 8)"),
        ("cross_entropy(h, x)", "()"),
        ("cross_entropy(h, x, reduction='none')", "(4, 16)"),
        ("einsum('btc,cd->btd', h, zeros(8, 5))", "(4, 16, 5)"),
        ("einsum('btc, bsc -> bts', h, h)", "(4, 16, 16)"),
        ("einsum('btc->cb', h)", "(8, 4)"),
        ("einsum('btc->', h)", "()"),
        ("einsum('aba->ba', h[..., :4])", "(16, 4)"),
        ("einsum('aaba,ac->bc', h[:, :4, None, :4], zeros(4, 3))", "(1, 3)"),
        ("einsum('btc,d->dtbc', h, ones(3))", "(3, 16, 4, 8)"),
        ("arange(5)", "(5,)"),
        ("full((2, 3), 0.5)", "(2, 3)"),
        ("zeros_like(h)", "(4, 16, 8)"),
        ("conv2d(h[:, None], zeros(3, 1, 5, 3))", "(4, 3, 12, 6)"),
        ("conv2d(h[:, None], zeros(3, 1, 5, 3), zeros(3), stride=(3, 2), padding=(2, 1))", "(4, 3, 6, 4)"),
        ("conv2d(h[:, None], zeros(3, 1, 4, 3), padding='same', dilation=(1, 2))", "(4, 3, 16, 8)"),
        ("conv2d(h.reshape(4, 4, 8, 4), zeros(6, 2, 3, 3), groups=2, padding='valid')", "(4, 6, 6, 2)"),
        ("conv1d(h, zeros(5, 16, 3))", "(4, 5, 6)"),
        ("conv1d(h, zeros(16, 1, 3), padding=2, dilation=2, groups=16, bias=zeros(16))", "(4, 16, 8)"),
        ("conv1d(h, zeros(5, 16, 2), padding='same')", "(4, 5, 8)"),
        ("max_pool2d(h[None], (3, 2))", "(1, 4, 5, 4)"),
        ("avg_pool2d(h[None], 2, stride=2)", "(1, 4, 8, 4)"),
        ("h.cumsum(0)", "(4, 16, 8)"),
        ("gather(h, 2, x[..., None])", "(4, 16, 1)"),
        ("gather(x, dim=1, index=x[:, :3])", "(4, 3)"),
        ("zeros(4, 27).scatter_add(1, x, ones(4, 16))", "(4, 27)"),
        ("topk(h, 3)[0]", "(4, 16, 3)"),
        ("topk(h, 3, dim=1, largest=False)[1]", "(4, 3, 8)"),
        ("sort(h, dim=0)[1]", "(4, 16, 8)"),
        ("argsort(h, descending=True)", "(4, 16, 8)"),
        ("flip(h, (0, 2))", "(4, 16, 8)"),
        ("roll(x, -1, dims=1)", "(4, 16)"),
        ("tril(ones(16, 16))", "(16, 16)"),
        ("embedding(x % 3 + 1, zeros(4, 2))", "(4, 16, 2)"),
        ("embedding(where(x > 3, x, 0), zeros(4, 2))", "(4, 16, 2)"),
        ("embedding(maximum(-x, -3) + 3, zeros(4, 2))", "(4, 16, 2)"),
        ("embedding((h[..., 0] * 3).long().clamp(0, 3), zeros(4, 2))", "(4, 16, 2)"),
        ("one_hot(arange(27)[x], 27)", "(4, 16, 27)"),
        ("h.size()", "size (4, 16, 8)"),
    ] {
        let body = match shape.strip_prefix("size ") {
            Some(shape) => format!("if is_training():\n    assert {expression} == {shape}"),
            None => format!("if is_training():\n    got = ({expression}).shape\n    assert got == {shape}, str(got)"),
        };
        traced(&model(&body), &rows());
    }
    traced(
        &model(
            "if is_training():\n    assert len(h) == 4 and h.ndim == 3 and h.size(1) == 16 and h.numel() == 512 and h.dim() == 3",
        ),
        &rows(),
    );
}

/// The values of `h` in the evaluation graph, in f64, where `h` is [4, 16, 8] cut from evaluation rows.
fn oracle(traced: &Traced) -> Vec<f64> {
    let program = &traced.program;
    let params: Vec<Vec<f32>> = program
        .params
        .iter()
        .map(|param| {
            let n = param.shape.elements() as usize;
            (0..n).map(|i| if param.name == "head" { head(i) } else { weight(i) }).collect()
        })
        .collect();
    let rows = program.eval_batch as usize;
    let tokens = Tensor::I32((0..rows * 16).map(|i| (i % 27) as i32).collect());
    let feed =
        Feed { inputs: [&tokens, &tokens], params: &params, states: &[], tables: &[], seed: &Seed([0; 32]), step: 0 };
    let out = cairn_engine::oracle::evaluate(&program.eval, &feed, &[program.output]);
    out[0].to_vec()
}

fn weight(i: usize) -> f32 {
    ((i * 37 % 101) as f32 - 50.0) / 25.0
}

/// The head is [8, 27] with ones on its diagonal: the first eight outputs are `h` itself.
fn head(i: usize) -> f32 {
    if i / 27 == i % 27 { 1.0 } else { 0.0 }
}

#[test]
fn composites_compute_their_formulas() {
    // Names with their formula over a row x of eight numbers, element i.
    type Formula = fn(&[f64], usize) -> f64;
    fn most(x: &[f64]) -> f64 {
        x.iter().copied().fold(f64::MIN, f64::max)
    }
    fn ranked(x: &[f64]) -> Vec<f64> {
        let mut sorted = x.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
    fn mean_of(x: &[f64]) -> f64 {
        x.iter().sum::<f64>() / x.len() as f64
    }
    fn erf(x: f64) -> f64 {
        // Abramowitz & Stegun would do; the series converges for the arguments here.
        let mut term = x;
        let mut sum = x;
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }
    let cases: &[(&str, Formula)] = &[
        ("h", |x, i| x[i]),
        ("h + 1", |x, i| x[i] + 1.0),
        ("1.0 - h", |x, i| 1.0 - x[i]),
        ("2 / (h + 5)", |x, i| 2.0 / (x[i] + 5.0)),
        ("-h", |x, i| -x[i]),
        ("h ** 2", |x, i| x[i] * x[i]),
        ("h ** 3", |x, i| x[i].powi(3)),
        ("h ** 5", |x, i| x[i].powi(5)),
        ("(h * h + 1) ** -2", |x, i| (x[i] * x[i] + 1.0).powi(-2)),
        ("(h * h) ** 0.5", |x, i| x[i].abs()),
        ("(h * h + 1) ** -0.5", |x, i| (x[i] * x[i] + 1.0).sqrt().recip()),
        ("(h * h + 1) ** 1.7", |x, i| (x[i] * x[i] + 1.0).powf(1.7)),
        ("2 ** h", |x, i| x[i].exp2()),
        ("(h * h + 1) ** h", |x, i| (x[i] * x[i] + 1.0).powf(x[i])),
        ("h ** 0", |_, _| 1.0),
        ("h // 1", |x, i| x[i].floor()),
        ("h % 0.75", |x, i| x[i].rem_euclid(0.75)),
        ("silu(h)", |x, i| x[i] / (1.0 + (-x[i]).exp())),
        ("softplus(h)", |x, i| x[i].exp().ln_1p()),
        ("gelu(h)", |x, i| 0.5 * x[i] * (1.0 + erf(x[i] / 2f64.sqrt()))),
        ("gelu(h, approximate='tanh')", |x, i| {
            0.5 * x[i] * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x[i] + 0.044715 * x[i].powi(3))).tanh())
        }),
        ("clip(h, -0.5, 0.75)", |x, i| x[i].clamp(-0.5, 0.75)),
        ("h.clamp(min=0.1)", |x, i| x[i].max(0.1)),
        ("maximum(h, 0.3) + minimum(h, 0.3)", |x, i| x[i] + 0.3),
        ("where(h > 0.21, h, -1.0)", |x, i| if x[i] > 0.21 { x[i] } else { -1.0 }),
        ("h * (h >= 0) + h * (h != h)", |x, i| x[i].max(0.0)),
        ("h + h.mean(-1, keepdim=True)", |x, i| x[i] + mean_of(x)),
        ("h + h.sum(dim=-1).unsqueeze(-1)", |x, i| x[i] + x.iter().sum::<f64>()),
        ("h - h.max(-1, keepdim=True)", |x, i| x[i] - most(x)),
        ("h - h.min(-1, keepdim=True)", |x, i| x[i] - x.iter().copied().fold(f64::MAX, f64::min)),
        ("h - h.logsumexp(-1, keepdim=True)", |x, i| x[i] - x.iter().map(|v| v.exp()).sum::<f64>().ln()),
        ("h * 0 + h.var(-1, correction=1, keepdim=True)", |x, _| {
            x.iter().map(|v| (v - mean_of(x)).powi(2)).sum::<f64>() / 7.0
        }),
        ("h * 0 + var(h, -1, unbiased=False, keepdim=True)", |x, _| {
            x.iter().map(|v| (v - mean_of(x)).powi(2)).sum::<f64>() / 8.0
        }),
        ("softmax(h)", |x, i| x[i].exp() / x.iter().map(|v| v.exp()).sum::<f64>()),
        ("log_softmax(h, dim=-1)", |x, i| x[i] - x.iter().map(|v| v.exp()).sum::<f64>().ln()),
        ("rms_norm(h, 2.0)", |x, i| 2.0 * x[i] / (x.iter().map(|v| v * v).sum::<f64>() / 8.0 + 1e-6).sqrt()),
        ("layer_norm(h, 2.0, 0.5)", |x, i| {
            let var = x.iter().map(|v| (v - mean_of(x)).powi(2)).sum::<f64>() / 8.0;
            2.0 * (x[i] - mean_of(x)) / (var + 1e-5).sqrt() + 0.5
        }),
        ("concat([h[..., 4:], h[..., :4]], dim=-1)", |x, i| x[(i + 4) % 8]),
        ("pad(h[..., 2:6], 1, 3)", |x, i| if (1..5).contains(&i) { x[i + 1] } else { 0.0 }),
        ("concat([h[..., ::3], h[..., 1::3], h[..., 2::3]], dim=-1)", |x, i| x[[0, 3, 6, 1, 4, 7, 2, 5][i]]),
        ("concat([h[..., ::2], h[..., 1::2]], dim=-1)", |x, i| x[[0, 2, 4, 6, 1, 3, 5, 7][i]]),
        ("pad(h[..., 1:6:4], 0, 6)", |x, i| if i < 2 { x[1 + 4 * i] } else { 0.0 }),
        ("h[..., argmax(to_float(arange(8))[:, None] == 7 - to_float(arange(8)), dim=1)]", |x, i| x[7 - i]),
        ("h * one_hot(argmax(h.mT, dim=1), 8)", |x, i| if x[i] == most(x) { x[i] } else { 0.0 }),
        ("h * 0 + einsum('rtcc->rtc', h.unsqueeze(-1) * one_hot(arange(8), 8))", |x, i| x[i]),
        ("cumsum(h, -1)", |x, i| x[..=i].iter().sum()),
        ("flip(h, -1)", |x, i| x[7 - i]),
        ("flip(flip(h, (0, 1)), (1, 0))", |x, i| x[i]),
        ("roll(h, 3, -1)", |x, i| x[(i + 5) % 8]),
        ("roll(h, -3, -1)", |x, i| x[(i + 3) % 8]),
        ("sort(h, -1)[0]", |x, i| ranked(x)[i]),
        ("sort(h, dim=-1, descending=True)[0]", |x, i| ranked(x)[7 - i]),
        ("pad(topk(h, 3)[0], 0, 5)", |x, i| if i < 3 { ranked(x)[7 - i] } else { 0.0 }),
        ("pad(topk(h, 2, largest=False)[0], 3, 3)", |x, i| if i == 3 || i == 4 { ranked(x)[i - 3] } else { 0.0 }),
        ("gather(h, -1, argsort(h))", |x, i| ranked(x)[i]),
        ("(h * 0).scatter_add(2, to_int(to_float(arange(8))[None, None] + h * 0), h)", |x, i| x[i]),
        ("h * 0 + tril(ones(8, 8), -1).sum(1)", |_, i| i as f64),
        ("h * 0 + triu(ones(8, 8), 2).sum(1)", |_, i| (6.0 - i as f64).max(0.0)),
        ("h.masked_fill(h < 0.1, 3.0)", |x, i| if x[i] < 0.1 { 3.0 } else { x[i] }),
        ("h * 0 + to_float(to_int(h * 4))", |x, i| (x[i] * 4.0).round_ties_even()),
        ("h * 0 + to_float((h * 4).long())", |x, i| (x[i] * 4.0).trunc()),
        ("h * 0 + to_float(arange(8) * 3 - 5)", |_, i| 3.0 * i as f64 - 5.0),
        ("h * 0 + to_float((arange(8) * 3 - 5) // 4)", |_, i| ((3.0 * i as f64 - 5.0) / 4.0).floor()),
        ("h * 0 + to_float((arange(8) * 3 - 5) % 4)", |_, i| (3.0 * i as f64 - 5.0).rem_euclid(4.0)),
        ("h * 0 + to_float(where(arange(8) > 3, -arange(8), 2))", |_, i| if i > 3 { -(i as f64) } else { 2.0 }),
        ("h * 0 + to_float(minimum(arange(8), 5) + maximum(arange(8), 5))", |_, i| 5.0 + i as f64),
        ("h * 0 + to_float(flip(arange(8), 0)[arange(8)])", |_, i| 7.0 - i as f64),
        // A kernel of 1, 2, 4 over the last axis, one row at a time.
        (
            "conv2d(h.unsqueeze(1), stack([ones(1), ones(1) * 2, ones(1) * 4], dim=-1).reshape(1, 1, 1, 3), padding=(0, 1)).squeeze(1)",
            |x, i| {
                let at = |j: usize| if (1..=8).contains(&j) { x[j - 1] } else { 0.0 };
                at(i) + 2.0 * at(i + 1) + 4.0 * at(i + 2)
            },
        ),
        ("conv1d(pad(h.reshape(-1, 1, 8), 2, 0), full((1, 1, 3), 0.5), full((1,), 3.0)).reshape(h.shape)", |x, i| {
            x[i.saturating_sub(2)..=i].iter().sum::<f64>() * 0.5 + 3.0
        }),
        ("concat([max_pool2d(h[None], (1, 2)), avg_pool2d(h[None], (1, 2))], dim=-1)[0]", |x, i| {
            let (a, b) = (x[2 * (i % 4)], x[2 * (i % 4) + 1]);
            if i < 4 { a.max(b) } else { (a + b) / 2.0 }
        }),
        ("stack(chunk(h, 2, dim=-1), dim=-1).flatten(-2)", |x, i| x[i / 2 + 4 * (i % 2)]),
        ("h @ one_hot(arange(8), 8)", |x, i| x[i]),
        ("h * one_hot(argmax(h, dim=-1), 8)", |x, i| if x[i] == most(x) { x[i] } else { 0.0 }),
        ("h * 0 + take(h, argmax(h, dim=-1)).unsqueeze(-1)", |x, _| most(x)),
        ("einsum('rtc,cd->rtd', h, one_hot(arange(8), 8))", |x, i| x[i]),
        ("einsum('rtc,c->rtc', h, to_float(arange(8)))", |x, i| x[i] * i as f64),
        ("h + einsum('rtc->rt', h).unsqueeze(-1)", |x, i| x[i] + x.iter().sum::<f64>()),
        ("einsum('rtc,ctr->rtc', h, h.permute(2, 1, 0))", |x, i| x[i] * x[i]),
        ("h * 0 + einsum('rtc,rtc->tr', h, h).T.unsqueeze(-1)", |x, _| x.iter().map(|v| v * v).sum()),
        ("sum([h, h, h])", |x, i| 3.0 * x[i]),
        ("dropout(h, 0.5)", |x, i| x[i]),
        ("h + stop_gradient(h)", |x, i| 2.0 * x[i]),
        ("h * reciprocal(h + 3)", |x, i| x[i] / (x[i] + 3.0)),
        ("h * 0 + (to_float(x) + 1.0).unsqueeze(-1) * 0 + 7", |_, _| 7.0),
    ];
    let base = oracle(&traced(&model(""), &rows()));
    for (expression, formula) in cases {
        let got = oracle(&traced(&model(&format!("h = {expression}")), &rows()));
        for position in 0..64 {
            let x = &base[position * 27..position * 27 + 8];
            for i in 0..8 {
                let (got, expected) = (got[position * 27 + i], formula(x, i));
                let close = (got - expected).abs() <= 1e-6 * (1.0 + expected.abs());
                assert!(close, "{expression}: {got} {expected} at {position}, {i}");
            }
        }
    }
}

#[test]
fn dropout_and_training_differ_from_evaluation() {
    let traced = traced(&model("h = dropout(h, 0.25)\nif is_training():\n    h = h * 2.0"), &rows());
    let random = |nodes: &[cairn_engine::graph::Node]| nodes.iter().filter(|n| matches!(n.op, Op::Random(..))).count();
    assert_eq!(random(traced.program.phases[0].graph.nodes()), 1);
    assert_eq!(random(traced.program.eval.nodes()), 0);
}

#[test]
fn a_number_is_one_node_however_often_it_is_used() {
    let traced = traced(&model("for i in range(5):\n    h = h * 0.5 + 0.5"), &rows());
    let fulls = traced.program.eval.nodes().iter().filter(|node| matches!(node.op, Op::Full(_))).count();
    assert_eq!(fulls, 1);
}

/// Bodies that compute the same `h` in two ways.
const TWO_WAYS: &[(&str, &str, &str)] = &[
    (
        "a sliding window",
        "q = h.reshape(-1, 16, 2, 4).transpose(1, 2)\nh = attention(q, q, q, causal=True, window=3).transpose(1, 2).reshape(h.shape)",
        "q = h.reshape(-1, 16, 2, 4).transpose(1, 2)\ni, j = arange(16)[:, None], arange(16)[None]\n\
         s = (q @ q.mT / 2.0).masked_fill((j <= i) * (i - j < 3) == 0, -1e9)\n\
         h = (softmax(s) @ q).transpose(1, 2).reshape(h.shape)",
    ),
    (
        "a soft cap on scores",
        "q = h.reshape(-1, 16, 2, 4).transpose(1, 2)\nh = attention(q, q, q, soft_cap=0.5, scale=1.0).transpose(1, 2).reshape(h.shape)",
        "q = h.reshape(-1, 16, 2, 4).transpose(1, 2)\nh = (softmax(0.5 * tanh(q @ q.mT / 0.5)) @ q).transpose(1, 2).reshape(h.shape)",
    ),
    (
        "grouped heads",
        "q, k = h.reshape(-1, 16, 2, 4).transpose(1, 2), h[:, None, :, :4]\nh = attention(q, k, k, causal=True).transpose(1, 2).reshape(h.shape)",
        "q, k = h.reshape(-1, 16, 2, 4).transpose(1, 2), h[:, None, :, :4].expand(-1, 2, -1, -1)\n\
         h = attention(q, k, k, causal=True).transpose(1, 2).reshape(h.shape)",
    ),
    (
        "a causal convolution",
        "w = param('w', (8, 8, 3))\nh = conv1d(pad(h.transpose(1, 2), 4, 0), w, dilation=2).transpose(1, 2)",
        "w = param('w', (8, 8, 3))\np = pad(h, 4, 0, dim=1)\nh = sum(p[:, 2 * i : 2 * i + 16] @ w[:, :, i].T for i in range(3))",
    ),
    (
        "a convolution of one pixel",
        "w = param('w', (8, 8, 1, 1))\nh = conv2d(h.permute(0, 2, 1)[..., None], w).squeeze(-1).permute(0, 2, 1)",
        "h = h @ param('w', (8, 8, 1, 1)).reshape(8, 8).T",
    ),
    ("a running sum", "h = h.cumsum(1)", "h = tril(ones(16, 16)) @ h"),
    (
        "a recurrence",
        "y, states = h[:, 0] * 0, []\nfor t in range(16):\n    y = 0.5 * y + h[:, t]\n    states.append(y)\nh = stack(states, dim=1)",
        "apart = tril(arange(16)[:, None] - arange(16)[None])\nh = tril(exp(apart * math.log(0.5))) @ h",
    ),
    ("rows of a table", "h = h + param('t', (27, 8))[x]", "h = h + one_hot(x, 27) @ param('t', (27, 8))"),
    ("elements by id", "h = h * gather(h, -1, x.unsqueeze(-1) % 8)", "h = h * take(h, x % 8).unsqueeze(-1)"),
    (
        "sums at ids",
        "h = h + (h * 0)[:, :1, :].scatter_add(1, x[:, :, None].expand(-1, -1, 8) * 0, h)",
        "h = h + h.sum(dim=1, keepdim=True)",
    ),
    ("the second largest", "h = h * topk(h, 2)[0][..., 1:]", "h = h * sort(h, dim=-1)[0][..., -2:-1]"),
    (
        "a best expert",
        "g, e = topk(h[..., :3], 1)\nh = h + (g[..., None, None] * one_hot(e, 3).unsqueeze(-1) * h[..., None, None, :]).sum((-2, -3))",
        "h = h + h[..., :3].max(-1, keepdim=True) * h",
    ),
];

#[test]
fn what_can_be_written_in_two_ways_is_the_same() {
    for (what, one, other) in TWO_WAYS {
        let [one, other] = [one, other].map(|body| oracle(&traced(&model(body), &rows())));
        assert!(one.iter().any(|x| x.abs() > 1e-3), "{what}");
        for (i, (one, other)) in one.iter().zip(&other).enumerate() {
            assert!((one - other).abs() <= 1e-6 * (1.0 + one.abs()), "{what}: {one} {other} at {i}");
        }
    }
}

#[test]
fn objectives_of_ones_own_compute_their_formulas() {
    // Logits are rows of one table; two of the four rows' targets are padding.
    let source = "from cairn import param, embedding, cross_entropy, maximum\nBATCH = 4\n\
                  def model(x):\n    return embedding(x, param('t', (27, 27)))\n\
                  def loss(x, y):\n    logits = model(x)\n    spread = logits.logsumexp(dim=-1)\n    scored = y >= 0\n    \
                  even = ((spread - logits.mean(-1)) * scored).sum() / maximum(scored.sum(), 1.0)\n    \
                  return 0.9 * cross_entropy(logits, y) + 0.1 * even + 0.01 * (spread ** 2).mean()\n";
    let program = traced(source, &rows()).program;
    let table: Vec<f32> = (0..27 * 27).map(weight).collect();
    let tokens: Vec<i32> = (0..64).map(|i| i * 5 % 27).collect();
    let targets: Vec<i32> = (0..64).map(|i| if i % 32 < 16 { i * 7 % 27 } else { -1 }).collect();
    let (input, target) = (Tensor::I32(tokens.clone()), Tensor::I32(targets.clone()));
    let states: Vec<Vec<f32>> = program.states.iter().map(|_| vec![0.0; 27 * 27]).collect();
    let tables: Vec<f32> = program.tables.iter().map(|table| table[0]).collect();
    let (params, seed) = (vec![table.clone()], Seed([0; 32]));
    let feed =
        Feed { inputs: [&input, &target], params: &params, states: &states, tables: &tables, seed: &seed, step: 0 };
    let phase = &program.phases[0];
    let got = cairn_engine::oracle::evaluate(&phase.graph, &feed, &[phase.loss])[0][0];
    let (mut entropy, mut even, mut square, mut count) = (0.0, 0.0, 0.0, 0.0);
    for (&token, &target) in tokens.iter().zip(&targets) {
        let row: Vec<f64> = (0..27).map(|i| f64::from(table[token as usize * 27 + i])).collect();
        let spread = row.iter().map(|x| x.exp()).sum::<f64>().ln();
        square += spread * spread / 64.0;
        if target >= 0 {
            entropy += spread - row[target as usize];
            even += spread - row.iter().sum::<f64>() / 27.0;
            count += 1.0;
        }
    }
    let expected = 0.9 * entropy / count + 0.1 * even / count + 0.01 * square;
    assert!((got - expected).abs() < 1e-6, "{got} {expected}");
}
