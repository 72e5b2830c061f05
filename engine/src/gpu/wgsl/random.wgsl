// Threefry-2x32 with 20 rounds, and the numbers made of it: see `crate::random`.

fn turned(x: u32, by: u32) -> u32 {
    return (x << by) | (x >> (32u - by));
}

fn threefry(key: vec2<u32>, counter: vec2<u32>) -> vec2<u32> {
    let third = 0x1bd11bdau ^ key.x ^ key.y;
    var x = counter.x + key.x;
    var y = counter.y + key.y;
    x += y; y = turned(y, 13u) ^ x; x += y; y = turned(y, 15u) ^ x;
    x += y; y = turned(y, 26u) ^ x; x += y; y = turned(y, 6u) ^ x;
    x += key.y; y += third + 1u;
    x += y; y = turned(y, 17u) ^ x; x += y; y = turned(y, 29u) ^ x;
    x += y; y = turned(y, 16u) ^ x; x += y; y = turned(y, 24u) ^ x;
    x += third; y += key.x + 2u;
    x += y; y = turned(y, 13u) ^ x; x += y; y = turned(y, 15u) ^ x;
    x += y; y = turned(y, 26u) ^ x; x += y; y = turned(y, 6u) ^ x;
    x += key.x; y += key.y + 3u;
    x += y; y = turned(y, 17u) ^ x; x += y; y = turned(y, 29u) ^ x;
    x += y; y = turned(y, 16u) ^ x; x += y; y = turned(y, 24u) ^ x;
    x += key.y; y += third + 4u;
    x += y; y = turned(y, 13u) ^ x; x += y; y = turned(y, 15u) ^ x;
    x += y; y = turned(y, 26u) ^ x; x += y; y = turned(y, 6u) ^ x;
    x += third; y += key.x + 5u;
    return vec2<u32>(x, y);
}

fn uniform_of(word: u32) -> f32 {
    return times(f32(word >> 8u), 0.000000059604644775390625);
}

// Elements `2 * pair` and `2 * pair + 1` of the full tensor.
fn random_uniforms(key: vec2<u32>, step: u32, pair: u32) -> vec2<f32> {
    let block = threefry(key, vec2<u32>(pair, step));
    return vec2<f32>(uniform_of(block.x), uniform_of(block.y));
}

fn random_normals(key: vec2<u32>, step: u32, pair: u32) -> vec2<f32> {
    let block = threefry(key, vec2<u32>(pair, step));
    let unit = times(f32((block.x >> 8u) + 1u), 0.000000059604644775390625);
    let radius = c_sqrt(canon(times(-2.0, c_log(unit))));
    let angle = canon(times(uniform_of(block.y), 6.2831855e+00f));
    return vec2<f32>(canon(times(radius, c_cos(angle))), canon(times(radius, c_sin(angle))));
}
