// The number system: see `crate::number`.

// Word 0 of the arguments is 0, which no compiler knows: it must compute `x` as it is written.
fn guard(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) ^ arguments.words[0].x);
}

fn plus(a: f32, b: f32) -> f32 {
    return guard(a + b);
}

fn minus(a: f32, b: f32) -> f32 {
    return guard(a - b);
}

fn times(a: f32, b: f32) -> f32 {
    return guard(a * b);
}

fn magnitude(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) & 0x7fffffffu);
}

fn clamp_magnitude(bits: u32, low: u32, high: u32) -> f32 {
    let magnitude = min(bits & 0x7fffffffu, high);
    return bitcast<f32>(select((bits & 0x80000000u) | magnitude, 0u, magnitude < low));
}

// Below 2^-100 is 0, beyond 2^60 is 2^60.
fn canon(x: f32) -> f32 {
    return clamp_magnitude(bitcast<u32>(x), 0x0d800000u, 0x5d800000u);
}

fn canon_4(x: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(x);
    let magnitude = min(bits & vec4<u32>(0x7fffffffu), vec4<u32>(0x5d800000u));
    let kept = (bits & vec4<u32>(0x80000000u)) | magnitude;
    return bitcast<vec4<f32>>(select(kept, vec4<u32>(0u), magnitude < vec4<u32>(0x0d800000u)));
}

// A contraction's operand: 12 significant bits, 2^-51 to 2^48.
fn round12(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    return clamp_magnitude((bits + 0x7ffu + ((bits >> 12u) & 1u)) & 0xfffff000u, 0x26000000u, 0x57800000u);
}

fn round12_4(x: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(x);
    let rounded = (bits + 0x7ffu + ((bits >> vec4<u32>(12u)) & vec4<u32>(1u))) & vec4<u32>(0xfffff000u);
    let magnitude = min(rounded & vec4<u32>(0x7fffffffu), vec4<u32>(0x57800000u));
    let kept = (rounded & vec4<u32>(0x80000000u)) | magnitude;
    return bitcast<vec4<f32>>(select(kept, vec4<u32>(0u), magnitude < vec4<u32>(0x26000000u)));
}

// Which workgroup, as one number: see `Kernel::groups_of`.
fn linear(group: vec3<u32>) -> u32 {
    return group.y * 32768u + group.x;
}
