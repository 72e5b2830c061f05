//! Numbers, elementwise operations, random streams.

use std::f32::consts;
use std::fmt::Write as _;

use cairn_engine::backend::Tensor;
use cairn_engine::graph::{Binary, Init, Param, Random, Shape, Unary};
use cairn_engine::number::{canon, from_foreign, round12};
use cairn_engine::random;
use cairn_protocol::{Seed, to_hex};

use super::{SEED, STEP, Source, Vector, line};

/// Bits at the edges of the format, of the number system and of the operands' range.
fn edges() -> Vec<u32> {
    let exponents = [0, 1, 26, 27, 28, 75, 76, 77, 126, 127, 174, 175, 176, 186, 187, 188, 254, 255];
    let fractions = [0, 1, 0x7ff, 0x800, 0x801, 0x17ff, 0x1800, 0x1801, 0x7f_f7ff, 0x7f_f800, 0x7f_ffff];
    let all = exponents.iter().flat_map(|e| fractions.iter().map(move |f| (e << 23) | f));
    all.flat_map(|bits| [bits, bits | 0x8000_0000]).collect()
}

/// `canon`, `round12` and `foreign`, on bits.
pub(super) fn numbers() -> String {
    let mut source = Source::new("numbers");
    let random: Vec<u32> = (0..500).map(|_| source.bits()).collect();
    let all = [edges(), random].concat();
    let mut text = String::new();
    type Rule = (&'static str, fn(f32) -> f32);
    let rules: [Rule; 3] = [("foreign", from_foreign), ("canon", canon), ("round12", |x| round12(canon(x)))];
    for (name, rule) in rules {
        let bits: Vec<u32> =
            all.iter().copied().filter(|&b| name == "foreign" || !f32::from_bits(b).is_nan()).collect();
        let shape = Shape(vec![bits.len() as u32]);
        writeln!(text, "op Number rule={name}").unwrap();
        line(&mut text, "in", &shape, &Tensor::I32(bits.iter().map(|&b| b as i32).collect()));
        line(&mut text, "out", &shape, &Tensor::F32(bits.iter().map(|&b| rule(f32::from_bits(b))).collect()));
    }
    text
}

/// Canonical numbers at which something happens.
fn directed() -> Vec<f32> {
    let positive = [
        0.0,
        0.25,
        0.5,
        1.0,
        1.5,
        2.0,
        2.5,
        3.0,
        4.0,
        0.346_573_6,
        consts::LN_2,
        consts::FRAC_1_SQRT_2,
        consts::FRAC_PI_4,
        0.9,
        f32::from_bits(0x3f66_6665),
        consts::FRAC_PI_2,
        consts::PI,
        consts::TAU,
        0.999_999_94,
        1.000_000_1,
        consts::SQRT_2,
        41.588_83,
        41.59,
        43.0,
        69.314_72,
        69.4,
        71.0,
        87.0,
        4_194_303.5,
        8_388_607.5,
        8_388_608.0,
        16_777_216.0,
        1_048_576.0,
        1_048_576.1,
        804.25,
        805.0,
        1e6,
        3.999_999_8,
        4.000_000_5,
        1.175e-9,
        5.9e-8,
        3.4e-4,
    ];
    let powers = [-100, -99, -51, -50, -24, -23, -12, 20, 22, 23, 24, 48, 59, 60].map(|n| 2f32.powi(n));
    let above = powers.map(|x| from_foreign(f32::from_bits(x.to_bits() + 1)));
    let below = powers.map(|x| from_foreign(f32::from_bits(x.to_bits() - 1)));
    let all = positive.into_iter().chain(powers).chain(above).chain(below);
    all.flat_map(|x| [x, from_foreign(-x)]).collect()
}

pub(super) fn unary() -> Vec<Vector> {
    use Unary::*;
    let floats =
        [Neg, Exp, Log, Sqrt, Rsqrt, Recip, Tanh, Sigmoid, Erf, Sin, Cos, Relu, Abs, Sign, Floor, Round, RoundBf16];
    let vector = |op| {
        let mut source = Source::new(&format!("{op:?}"));
        let mut values = directed();
        values.extend((0..120).map(|_| source.wide()));
        values.extend((0..180).map(|_| source.near()));
        values.extend((0..80).map(|_| source.near() * 16.0));
        let shape = Shape(vec![values.len() as u32]);
        Vector::new(&format!("{op:?}"), vec![(shape, Tensor::F32(values))], |g, x| g.unary(op, x[0]))
    };
    let ints = vec![0, 1, -1, 7, (1 << 24) - 2, (1 << 24) - 1, 1 << 24, (1 << 24) + 1, -(1 << 24), i32::MAX, i32::MIN];
    let ints = (Shape(vec![ints.len() as u32]), Tensor::I32(ints));
    let to_float = Vector::new("ToFloat", vec![ints], |g, x| g.unary(ToFloat, x[0]));
    // Integers pass as floats, so those that saturate are tested elsewhere.
    let to_int = vector(ToInt);
    let (_, Tensor::F32(values)) = &to_int.operands[0] else { unreachable!("ToInt takes floats") };
    let values: Vec<f32> = values.iter().copied().filter(|x| x.abs() < 16_777_215.0).collect();
    let operands = vec![(Shape(vec![values.len() as u32]), Tensor::F32(values))];
    let to_int = Vector::new("ToInt", operands, |g, x| g.unary(ToInt, x[0]));
    floats.into_iter().map(vector).chain([to_float, to_int]).collect()
}

pub(super) fn binary() -> Vec<Vector> {
    use Binary::*;
    let mut vectors = vec![];
    for op in [Add, Sub, Mul, Div, Max, Min, Lt, Le, Eq] {
        let name = format!("{op:?}");
        let mut source = Source::new(&name);
        let left = directed();
        // Each directed number meets another one, itself, its neighbour and a random one.
        let n = left.len();
        let mut pairs: Vec<(f32, f32)> = (0..n).map(|i| (left[i], left[(i * 7 + 3) % n])).collect();
        pairs.extend(left.iter().map(|&x| (x, x)));
        pairs.extend(left.iter().map(|&x| (x, from_foreign(f32::from_bits(x.to_bits() ^ 1)))));
        pairs.extend(left.iter().map(|&x| (x, source.wide())));
        pairs.extend((0..200).map(|_| (source.near(), source.near())));
        pairs.extend((0..100).map(|_| (source.wide(), source.wide())));
        let shape = Shape(vec![pairs.len() as u32]);
        let (a, b) = pairs.into_iter().unzip();
        let operands = vec![(shape.clone(), Tensor::F32(a)), (shape, Tensor::F32(b))];
        vectors.push(Vector::new(&name, operands, |g, x| g.binary(op, x[0], x[1])));
        let operands = vec![source.floats(&[3, 1, 5]), source.floats(&[4, 1])];
        vectors.push(Vector::new(&name, operands, |g, x| g.binary(op, x[0], x[1])));
    }
    let mut source = Source::new("comparisons of integers");
    for op in [Lt, Le, Eq] {
        let operands = vec![source.ints(&[4, 1], 3), source.ints(&[9], 3)];
        vectors.push(Vector::new(&format!("{op:?}"), operands, |g, x| g.binary(op, x[0], x[1])));
    }
    let operands = vec![source.floats(&[2, 1, 8]), source.floats(&[3, 1]), source.floats(&[])];
    vectors.push(Vector::new("Where", operands, |g, x| g.where_(x[0], x[1], x[2])));
    let operands = vec![source.floats(&[2, 1, 8]), source.ints(&[3, 1], 9), source.ints(&[], 9)];
    vectors.push(Vector::new("Where", operands, |g, x| g.where_(x[0], x[1], x[2])));
    vectors
}

fn hex(seed: &Seed) -> String {
    to_hex(seed.as_bytes())
}

pub(super) fn random() -> Vec<Vector> {
    let cases = [
        (Random::Uniform, "dropout", vec![40]),
        (Random::Uniform, "7", vec![3, 3]),
        (Random::Normal, "noise", vec![7, 9]),
        (Random::Normal, "a-name-that-is-longer-than-one-block-of-the-hash-function-so-that-two-are-needed", vec![5]),
    ];
    let vector = |(kind, name, shape): (Random, &str, Vec<u32>)| {
        let axes: Vec<String> = shape.iter().map(u32::to_string).collect();
        let seed = hex(&SEED);
        let title = format!("Random kind={kind:?} name={name} seed={seed} step={STEP} shape={}", axes.join("x"));
        Vector::new(&title, vec![], |g, _| g.random(kind, name, Shape(shape)))
    };
    cases.into_iter().map(vector).collect()
}

/// Starting values of parameters.
pub(super) fn init() -> String {
    let mut text = String::new();
    let seed = Seed(std::array::from_fn(|i| 255 - 7 * i as u8));
    for (kind, init, value) in [
        ("Constant", Init::Constant as fn(u32) -> Init, 1.0f32),
        ("Normal", Init::Normal, 0.02),
        ("Uniform", Init::Uniform, 0.125),
    ] {
        let shape = Shape(vec![9, 7]);
        let param =
            Param { name: "block0.up".into(), shape: shape.clone(), init: init(value.to_bits()), tag: String::new() };
        let values = random::init(&param, &seed);
        let (bits, seed) = (value.to_bits(), hex(&seed));
        writeln!(text, "op Init kind={kind} name=block0.up seed={seed} value={bits:08x} shape=9x7").unwrap();
        line(&mut text, "out", &shape, &Tensor::F32(values));
    }
    text
}
