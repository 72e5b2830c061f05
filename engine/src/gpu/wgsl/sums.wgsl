// Sums in the order of the row rule: see `crate::reference::reduce`.

fn plus4(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(a + b) ^ vec4<u32>(arguments.words[0].x));
}

// The sum of 16 lanes: 0 to 3 in `a`, 4 to 7 in `b`, 8 to 11 in `c`, the rest in `d`.
fn lane_tree(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> f32 {
    let four = plus4(plus4(a, c), plus4(b, d));
    return plus(plus(four.x, four.z), plus(four.y, four.w));
}
