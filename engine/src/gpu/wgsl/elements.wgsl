// Elementwise operations: see `crate::reference::elementwise`. Each ends in `canon`.

fn c_add(a: f32, b: f32) -> f32 {
    return canon(a + b);
}

fn c_sub(a: f32, b: f32) -> f32 {
    return canon(a - b);
}

fn c_mul(a: f32, b: f32) -> f32 {
    return canon(a * b);
}

fn c_max(a: f32, b: f32) -> f32 {
    return select(a, b, a < b);
}

fn c_min(a: f32, b: f32) -> f32 {
    return select(a, b, b < a);
}

fn c_neg(x: f32) -> f32 {
    return canon(-x);
}

// Compilers make other operations of such choices, which may give -0: `canon` has the last word.
fn c_relu(x: f32) -> f32 {
    return canon(select(0.0, x, x > 0.0));
}

fn c_sign(x: f32) -> f32 {
    return canon(select(select(0.0, -1.0, x < 0.0), 1.0, x > 0.0));
}

fn nearest(x: f32) -> f32 {
    let a = magnitude(x);
    let rounded = minus(plus(a, 8388608.0), 8388608.0);
    return with_sign(select(a, rounded, a < 8388608.0), x);
}

fn c_round(x: f32) -> f32 {
    return canon(nearest(x));
}

fn c_floor(x: f32) -> f32 {
    let rounded = nearest(x);
    return canon(select(rounded, minus(rounded, 1.0), rounded > x));
}

fn c_round_bf16(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    return canon(bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u));
}

fn to_float(x: i32) -> f32 {
    return f32(clamp(x, -16777215, 16777215));
}

fn to_int(x: f32) -> i32 {
    let a = c_min(magnitude(x), 16777216.0);
    let small = bitcast<u32>(plus(a, 8388608.0)) - 0x4b000000u;
    let bits = bitcast<u32>(a);
    let large = (0x00800000u + (bits & 0x007fffffu)) << ((bits >> 23u) & 1u);
    let whole = bitcast<i32>(select(large, small, a < 8388608.0));
    return select(whole, -whole, x < 0.0);
}

fn mask(holds: bool) -> f32 {
    return select(0.0, 1.0, holds);
}
