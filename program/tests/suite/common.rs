//! What the tests share: contexts, and tracing with readable failures.

use cairn_engine::data::DataSpec;
use cairn_program::{Diagnostic, Limits, TraceContext, Traced, evaluate_text, trace};

pub(crate) const NAMES: &str = include_str!("../../../tracks/names/train.py");
pub(crate) const SHAKESPEARE: &str = include_str!("../../../tracks/shakespeare-small/train.py");

/// A text of 256 tokens, contexts up to 1024.
pub(crate) fn text() -> TraceContext {
    TraceContext {
        data: DataSpec::text(256, 1024, 55_770, 55_770),
        budget: 500_000_000_000,
        memory: 1 << 30,
        parameters: 100_000_000,
        literal_bits: 65_536,
    }
}

/// Rows of 16 positions, 27 tokens.
pub(crate) fn rows() -> TraceContext {
    TraceContext {
        data: DataSpec::rows(27, 16, [20_000, 20_000], [2_949, 2_950]),
        budget: 20_000_000_000,
        memory: 1 << 28,
        parameters: 100_000,
        literal_bits: 16_384,
    }
}

pub(crate) fn traced(source: &str, context: &TraceContext) -> Traced {
    match trace(source, context, &Limits::default()) {
        Ok(traced) => traced,
        Err(diagnostic) => panic!("{}", diagnostic.render(source, "train.py")),
    }
}

pub(crate) fn refused(source: &str, context: &TraceContext) -> Diagnostic {
    match trace(source, context, &Limits::default()) {
        Ok(_) => panic!("this must be refused:\n{source}"),
        Err(diagnostic) => *diagnostic,
    }
}

/// Text of the variable `result`, or the kind of the refusal.
pub(crate) fn evaluated(source: &str) -> String {
    match evaluate_text(source, &Limits::default()) {
        Ok(text) => text,
        Err(diagnostic) => diagnostic.kind.name().to_owned(),
    }
}

/// A program around a model's body, over rows of 16 positions; `h` is [4, 16, 8] floats.
pub(crate) fn model(body: &str) -> String {
    let indented: String = body.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "import cairn\nfrom cairn import *\nimport math\nBATCH = 4\ndef model(x):\n    h = embedding(x, param('wte', (27, 8)))\n{indented}    return h @ param('head', (8, 27))\n"
    )
    .replace("from cairn import *\n", &format!("from cairn import {ALL}\n"))
}

/// Every operation that the tests name.
const ALL: &str = "param, embedding, softmax, log_softmax, rms_norm, layer_norm, rope, attention, cross_entropy, relu, gelu, \
    silu, softplus, exp, log, sqrt, rsqrt, tanh, sigmoid, erf, sin, cos, sign, floor, where, maximum, minimum, clip, dropout, \
    uniform, normal, one_hot, argmax, take, stack, concat, cat, chunk, split, pad, arange, full, zeros, ones, full_like, \
    zeros_like, ones_like, mean, var, logsumexp, reshape, transpose, permute, broadcast_to, flatten, squeeze, unsqueeze, \
    stop_gradient, einsum, to_float, round_to, linear, is_training, matmul, reciprocal, conv1d, conv2d, \
    max_pool2d, avg_pool2d, cumsum, gather, scatter_add, topk, sort, argsort, flip, roll, tril, triu, masked_fill, to_int";

/// Small seeded generator: the standard library has none, and quality does not matter.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    pub(crate) fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}
