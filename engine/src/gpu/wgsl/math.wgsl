// Elementary functions: see `crate::math`, step by step.

fn high(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) & 0xfffff000u);
}

fn with_sign(x: f32, of_x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) | (bitcast<u32>(of_x) & 0x80000000u));
}

fn mantissa(x: f32) -> f32 {
    return bitcast<f32>((bitcast<u32>(x) & 0x007fffffu) | 0x3f800000u);
}

fn exponent(x: f32) -> i32 {
    return i32((bitcast<u32>(x) & 0x7fffffffu) >> 23u);
}

fn scale(x: f32, n: i32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) + (bitcast<u32>(n) << 23u));
}

fn recip_mantissa(m: f32) -> f32 {
    var y = plus(1.4117647e+00f, times(-4.7058824e-01f, m));
    y = times(y, minus(2.0, times(m, y)));
    y = high(times(y, minus(2.0, times(m, y))));
    let m1 = high(m);
    let residual = minus(minus(1.0, times(m1, y)), times(minus(m, m1), y));
    return plus(y, times(y, plus(residual, times(residual, residual))));
}

fn c_recip(x: f32) -> f32 {
    let y = scale(recip_mantissa(mantissa(x)), 127 - exponent(x));
    return canon(with_sign(y, x));
}

fn c_div(a: f32, b: f32) -> f32 {
    let m = mantissa(a);
    let n = mantissa(b);
    let r = recip_mantissa(n);
    let q0 = high(times(m, r));
    let n1 = high(n);
    let residual = minus(minus(m, times(n1, q0)), times(minus(n, n1), q0));
    let q = plus(q0, times(residual, r));
    let e = clamp(exponent(q) + exponent(a) - exponent(b), 0, 254);
    var bits = (bitcast<u32>(q) & 0x007fffffu) | (u32(e) << 23u);
    bits = select(bits, 0x5d800000u, (bitcast<u32>(b) & 0x7fffffffu) == 0u);
    bits = select(bits, 0u, (bitcast<u32>(a) & 0x7fffffffu) == 0u);
    return canon(bitcast<f32>(bits | ((bitcast<u32>(a) ^ bitcast<u32>(b)) & 0x80000000u)));
}

// m in [1, 4) where x = m * 4^k.
fn quarter_m(x: f32) -> f32 {
    let e = exponent(x) - 127;
    return bitcast<f32>((bitcast<u32>(x) & 0x007fffffu) | (u32(127 + e - 2 * (e >> 1u)) << 23u));
}

fn quarter_k(x: f32) -> i32 {
    return (exponent(x) - 127) >> 1u;
}

fn rsqrt_estimate(m: f32) -> f32 {
    let half = times(0.5, m);
    var y = bitcast<f32>(0x5f3759dfu - (bitcast<u32>(m) >> 1u));
    y = times(y, minus(1.5, times(times(half, y), y)));
    return times(y, minus(1.5, times(times(half, y), y)));
}

fn c_rsqrt(x: f32) -> f32 {
    let m = quarter_m(x);
    let y0 = high(rsqrt_estimate(m));
    let s = times(y0, y0);
    let m1 = high(m);
    let s1 = high(s);
    let m2 = minus(m, m1);
    let s2 = minus(s, s1);
    let residual =
        minus(minus(minus(1.0, times(m1, s1)), plus(times(m1, s2), times(m2, s1))), times(m2, s2));
    let y = plus(y0, times(y0, times(residual, plus(0.5, times(0.375, residual)))));
    return canon(select(bitcast<f32>(0x5d800000u), scale(y, -quarter_k(x)), x > 0.0));
}

fn c_sqrt(x: f32) -> f32 {
    let m = quarter_m(x);
    let y = rsqrt_estimate(m);
    let half = times(0.5, y);
    let s0 = high(times(m, y));
    let step = times(minus(m, times(s0, s0)), half);
    let s = plus(s0, plus(step, times(times(step, step), half)));
    return canon(select(0.0, scale(s, quarter_k(x)), x > 0.0));
}

fn c_exp(x0: f32) -> f32 {
    var x = select(x0, 43.0, x0 > 43.0);
    x = select(x, -71.0, x < -71.0);
    let t = plus(times(x, 1.442695e+00f), 12582912.0);
    let n = minus(t, 12582912.0);
    let r = minus(minus(x, times(n, 6.933594e-01f)), times(n, -2.1219444e-04f));
    var p = plus(times(1.3837989e-03f, r), 8.3691655e-03f);
    p = plus(times(p, r), 4.1668102e-02f);
    p = plus(times(p, r), 1.6666517e-01f);
    p = plus(times(p, r), 4.9999994e-01f);
    let y = plus(1.0, plus(r, times(times(r, r), p)));
    return canon(scale(y, bitcast<i32>(t) - 0x4b400000));
}

fn c_log(x: f32) -> f32 {
    let offset = bitcast<u32>(x) - 0x3f3504f3u;
    let e = f32(bitcast<i32>(offset) >> 23u);
    let f = minus(bitcast<f32>((offset & 0x007fffffu) + 0x3f3504f3u), 1.0);
    let z = times(f, f);
    var p = plus(times(-7.634676e-02f, f), 1.2762077e-01f);
    p = plus(times(p, f), -1.3160342e-01f);
    p = plus(times(p, f), 1.4201699e-01f);
    p = plus(times(p, f), -1.6623336e-01f);
    p = plus(times(p, f), 2.000123e-01f);
    p = plus(times(p, f), -2.5000823e-01f);
    p = plus(times(p, f), 3.333333e-01f);
    let low = plus(minus(times(times(f, z), p), times(0.5, z)), times(e, -2.1219444e-04f));
    let whole = times(e, 6.933594e-01f);
    let sum = plus(whole, f);
    let lost = plus(minus(whole, sum), f);
    return canon(select(bitcast<f32>(0xdd800000u), plus(sum, plus(lost, low)), x > 0.0));
}

fn c_tanh(x: f32) -> f32 {
    let a = magnitude(x);
    let s = select(a, 1.0, a > 1.0);
    let z = times(s, s);
    var p = plus(times(-4.5545812e-04f, z), 2.5826625e-03f);
    p = plus(times(p, z), -8.264538e-03f);
    p = plus(times(p, z), 2.166354e-02f);
    p = plus(times(p, z), -5.39293e-02f);
    p = plus(times(p, z), 1.3332978e-01f);
    p = plus(times(p, z), -3.3333322e-01f);
    let small = plus(s, times(s, times(z, p)));
    let large = minus(1.0, times(2.0, c_recip(plus(c_exp(plus(a, a)), 1.0))));
    return canon(with_sign(select(large, small, a < 9.0e-01f), x));
}

fn c_sigmoid(x: f32) -> f32 {
    let t = c_exp(-magnitude(x));
    let sum = plus(1.0, t);
    let lost = plus(minus(1.0, sum), t);
    let r0 = c_recip(sum);
    let r = minus(r0, times(times(r0, r0), lost));
    return canon(select(r, times(t, r), x < 0.0));
}

fn c_erf(x: f32) -> f32 {
    let a = magnitude(x);
    let s = select(a, 1.0, a > 1.0);
    let z = times(s, s);
    var p = plus(times(8.5130974e-05f, z), -8.175638e-04f);
    p = plus(times(p, z), 5.203859e-03f);
    p = plus(times(p, z), -2.6860509e-02f);
    p = plus(times(p, z), 1.1283715e-01f);
    p = plus(times(p, z), -3.7612635e-01f);
    p = plus(times(p, z), 1.2837917e-01f);
    let small = plus(s, times(s, p));
    let b = select(a, 4.0, a > 4.0);
    var q = plus(times(-1.9821331e-04f, b), 3.0654357e-03f);
    q = plus(times(q, b), -2.2315027e-02f);
    q = plus(times(q, b), 1.0411336e-01f);
    q = plus(times(q, b), 6.3697636e-01f);
    q = plus(times(q, b), 1.1277971e+00f);
    q = plus(times(q, b), 1.6646381e-04f);
    let large = minus(1.0, c_exp(-q));
    return canon(with_sign(select(large, small, a < 9.0e-01f), x));
}

// Sine of x, or of x + pi/2 where `quarters` is 1.
fn sine(x0: f32, quarters: u32) -> f32 {
    let x = select(x0, 0.0, magnitude(x0) > 1048576.0);
    let t = plus(times(x, 6.3661975e-01f), 12582912.0);
    let n = minus(t, 12582912.0);
    let coarse = times(minus(plus(times(n, 0.0009765625), 12582912.0), 12582912.0), 1024.0);
    let fine = minus(n, coarse);
    var r = minus(x, times(coarse, 1.5706787e+00f));
    r = minus(r, times(fine, 1.5706787e+00f));
    r = minus(r, times(coarse, 1.17614865e-04f));
    r = minus(r, times(fine, 1.17614865e-04f));
    r = minus(r, times(n, 9.920936e-10f));
    let quadrant = bitcast<u32>(t) - 0x4b400000u + quarters;
    let z = times(r, r);
    var p = plus(times(-1.9518094e-04f, z), 8.332188e-03f);
    p = plus(times(p, z), -1.6666655e-01f);
    let s = plus(r, times(r, times(z, p)));
    var q = plus(times(2.4430687e-05f, z), -1.3887301e-03f);
    q = plus(times(q, z), 4.1666646e-02f);
    let c = plus(minus(1.0, times(0.5, z)), times(times(z, z), q));
    let y = select(c, s, (quadrant & 1u) == 0u);
    return canon(bitcast<f32>(bitcast<u32>(y) ^ ((quadrant & 2u) << 30u)));
}

fn c_sin(x: f32) -> f32 {
    return sine(x, 0u);
}

fn c_cos(x: f32) -> f32 {
    return sine(x, 1u);
}
