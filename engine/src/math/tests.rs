//! Errors against f64, in units of 2^-24 of the true value, and the listed results.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::number::is_canonical;

/// Canonical inputs: every exponent with directed and scattered fractions, both signs.
fn inputs(scattered: u32) -> impl Iterator<Item = f32> {
    (27..=187u32).flat_map(move |e| {
        let directed = [0, 1, 2, 0x7ff, 0x800, 0xfff, 0x1000, 0x3504f3, 0x3504f4, 0x7f_f000, 0x7f_fffe, 0x7f_ffff];
        let rest = (0..scattered).map(move |i| (e * scattered + i).wrapping_mul(0x9e37_79b9) >> 9);
        let signs = move |fraction: u32| [(e << 23) | fraction, SIGN | (e << 23) | fraction];
        directed.into_iter().chain(rest).flat_map(signs).map(f32::from_bits).map(canon)
    })
}

/// Largest error in units of 2^-24, relative to the true value, which saturates as `canon` does.
fn worst(points: impl Iterator<Item = (f32, f64)>) -> f64 {
    let mut worst = 0.0f64;
    for (got, want) in points {
        assert!(is_canonical(got), "{got:e}");
        let want = want.clamp(-(2f64.powi(60)), 2f64.powi(60));
        // At the edge of the number system either neighbour is right.
        if want.abs() < 2f64.powi(-100) * (1.0 + 1e-6) {
            assert!(f64::from(got).abs() <= 2f64.powi(-100) * (1.0 + 1e-6), "{got:e} for {want:e}");
        } else {
            worst = worst.max((f64::from(got) - want).abs() / want.abs() * 16_777_216.0);
        }
    }
    worst
}

/// A function, its f64 counterpart, the inputs it is measured on, the error allowed.
type Case = (&'static str, fn(f32) -> f32, fn(f64) -> f64, fn(f32) -> bool, f64);

#[test]
fn errors_stay_within_their_bounds() {
    let all: fn(f32) -> bool = |_| true;
    let positive: fn(f32) -> bool = |x| x > 0.0;
    let nonzero: fn(f32) -> bool = |x| x != 0.0;
    let cases: &[Case] = &[
        ("recip", recip, |x| 1.0 / x, nonzero, 1.01),
        ("sqrt", sqrt, libm::sqrt, positive, 1.1),
        ("rsqrt", rsqrt, |x| 1.0 / libm::sqrt(x), positive, 1.1),
        ("exp", exp, libm::exp, all, 2.0),
        ("log", log, libm::log, positive, 2.0),
        ("tanh", tanh, libm::tanh, all, 2.0),
        ("sigmoid", sigmoid, |x| 1.0 / (1.0 + libm::exp(-x)), all, 3.0),
        ("erf", erf, libm::erf, all, 2.0),
        ("sin", sin, libm::sin, |x| x.abs() <= 3.2, 2.0),
        ("cos", cos, libm::cos, |x| x.abs() <= 1.5, 2.0),
    ];
    for (name, f, oracle, domain, bound) in cases {
        let dense = (0..400_000u32).map(|i| (i as f32 - 200_000.0) * 1.234_567e-4 * (1.0 + i as f32 * 1e-7));
        let points = inputs(500).chain(dense.map(canon)).filter(|&x| domain(x));
        let error = worst(points.map(|x| (f(x), oracle(f64::from(x)))));
        println!("{name}: {error:.3} units of 2^-24");
        assert!(error <= *bound, "{name}: {error:.3} > {bound}");
    }
}

#[test]
fn quotients_are_nearly_correctly_rounded() {
    let numerators: Vec<f32> = inputs(3).collect();
    let mut index = 0usize;
    let error = worst(inputs(500).filter(|&b| b != 0.0).flat_map(|b| {
        index += 1;
        let (i, n) = (index, numerators.len());
        [i % n, (i * 31) % n, (i * 977) % n].map(|k| numerators[k]).map(|a| (div(a, b), f64::from(a) / f64::from(b)))
    }));
    println!("div: {error:.3} units of 2^-24");
    assert!(error <= 1.01, "{error}");
}

#[test]
fn angles_up_to_2_20_are_reduced_without_loss() {
    let mut error = 0.0f64;
    for i in 0..600_000u32 {
        let x = (i.wrapping_mul(0x9e37_79b9) as i32) as f32 * 2f32.powi(-11) * (1.0 / (1 + i % 50) as f32);
        let pairs = [(sin(x), libm::sin(f64::from(x))), (cos(x), libm::cos(f64::from(x)))];
        error = pairs.iter().fold(error, |e, (got, want)| e.max((f64::from(*got) - want).abs() * 16_777_216.0));
    }
    println!("sin, cos up to 2^20: {error:.3} units of 2^-24, absolute");
    assert!(error <= 2.0, "{error}");
}

#[test]
fn results_that_do_not_exist_are_the_listed_ones() {
    let huge = 2f32.powi(60);
    let table: &[(&str, f32, f32)] = &[
        ("recip(0)", recip(0.0), huge),
        ("recip(2^60)", recip(huge), 2f32.powi(-60)),
        ("recip(-2^-100)", recip(-2f32.powi(-100)), -huge),
        ("1 / 0", div(1.0, 0.0), huge),
        ("-1 / 0", div(-1.0, 0.0), -huge),
        ("0 / 0", div(0.0, 0.0), 0.0),
        ("0 / -5", div(0.0, -5.0), 0.0),
        ("2^60 / 2^-100", div(huge, -2f32.powi(-100)), -huge),
        ("2^-100 / 2^60", div(2f32.powi(-100), huge), 0.0),
        ("6 / 3", div(6.0, 3.0), 2.0),
        ("sqrt(0)", sqrt(0.0), 0.0),
        ("sqrt(-1)", sqrt(-1.0), 0.0),
        ("sqrt(9)", sqrt(9.0), 3.0),
        ("rsqrt(0)", rsqrt(0.0), huge),
        ("rsqrt(-4)", rsqrt(-4.0), huge),
        ("rsqrt(0.25)", rsqrt(0.25), 2.0),
        ("log(0)", log(0.0), -huge),
        ("log(-1)", log(-1.0), -huge),
        ("log(1)", log(1.0), 0.0),
        ("exp(0)", exp(0.0), 1.0),
        ("exp(2^60)", exp(huge), huge),
        ("exp(-2^60)", exp(-huge), 0.0),
        ("exp(41.6)", exp(41.6), huge),
        ("exp(-69.4)", exp(-69.4), 0.0),
        ("tanh(2^60)", tanh(huge), 1.0),
        ("tanh(-2^60)", tanh(-huge), -1.0),
        ("tanh(0)", tanh(0.0), 0.0),
        ("sigmoid(2^60)", sigmoid(huge), 1.0),
        ("sigmoid(-2^60)", sigmoid(-huge), 0.0),
        ("sigmoid(0)", sigmoid(0.0), 0.5),
        ("erf(2^60)", erf(huge), 1.0),
        ("erf(-4)", erf(-4.0), -1.0),
        ("erf(0)", erf(0.0), 0.0),
        ("sin(2^60)", sin(huge), 0.0),
        ("cos(2^60)", cos(huge), 1.0),
        ("cos(0)", cos(0.0), 1.0),
        ("sin(0)", sin(0.0), 0.0),
    ];
    for (what, got, want) in table {
        assert_eq!(got.to_bits(), want.to_bits(), "{what}: {got:e}, not {want:e}");
    }
}

#[test]
fn no_input_leads_outside_the_number_system() {
    let functions = [exp, log, tanh, sigmoid, erf, sin, cos, rsqrt, sqrt, recip];
    for x in inputs(100).chain([0.0]) {
        for f in functions {
            assert!(is_canonical(f(x)), "{x:e}");
        }
        for y in [0.0, 1.0, -3.5, x, 2f32.powi(60), -2f32.powi(-100)] {
            assert!(is_canonical(div(x, y)) && is_canonical(div(y, x)), "{x:e} {y:e}");
        }
    }
}
