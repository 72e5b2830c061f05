//! Counter-based random numbers: Threefry-2x32, keyed by seed, kind and name.
//!
//! A number depends only on its stream, the step and its logical index in the full tensor, so it does not matter who
//! computes it, in what order or on how many machines. Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As
//! Easy as 1, 2, 3", SC 2011.
//!
//! *Invariant:* streams of different names share nothing: adding a parameter moves no other's numbers.

use cairn_protocol::Seed;

use crate::graph::{Init, Param};
use crate::math;
use crate::number::{canon, from_foreign};

/// Threefry-2x32 with 20 rounds: the block of `counter` under `key`.
#[inline(always)]
pub fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let keys = [key[0], key[1], 0x1bd1_1bda ^ key[0] ^ key[1]];
    let mut x = counter[0].wrapping_add(keys[0]);
    let mut y = counter[1].wrapping_add(keys[1]);
    for group in 0..5usize {
        for rotation in ROTATIONS[group % 2] {
            x = x.wrapping_add(y);
            y = y.rotate_left(rotation) ^ x;
        }
        x = x.wrapping_add(keys[(group + 1) % 3]);
        y = y.wrapping_add(keys[(group + 2) % 3]).wrapping_add(group as u32 + 1);
    }
    [x, y]
}

/// One family of random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
}

impl Stream {
    /// The stream of `kind` ("init", "data" or "random") and `name` in a run with this seed.
    ///
    /// Its key is the first 8 bytes of BLAKE3(seed ‖ kind ‖ name), as two little-endian words.
    pub fn new(seed: &Seed, kind: &str, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(seed.as_bytes()).update(kind.as_bytes()).update(name.as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
        Self { key: [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])] }
    }

    /// The key, for backends that compute blocks themselves.
    pub fn key(&self) -> [u32; 2] {
        self.key
    }

    /// The two words of elements `2 * pair` and `2 * pair + 1`.
    #[inline(always)]
    pub fn block(&self, high: u32, pair: u32) -> [u32; 2] {
        threefry(self.key, [pair, high])
    }

    /// 32 random bits for element `index` at step `high`.
    #[inline(always)]
    pub fn word(&self, high: u32, index: u32) -> u32 {
        let [even, odd] = self.block(high, index >> 1);
        if index & 1 == 0 { even } else { odd }
    }

    /// Uniform on [0, 1): the top 24 bits of the word.
    #[inline(always)]
    pub fn uniform(&self, step: u32, index: u32) -> f32 {
        uniform(self.word(step, index))
    }

    /// Standard normal, by Box and Muller: elements 2p and 2p + 1 are the cosine and the sine branch of block p.
    #[inline(always)]
    pub fn normal(&self, step: u32, index: u32) -> f32 {
        let block = self.block(step, index >> 1);
        let [even, odd] = normals(block);
        if index & 1 == 0 { even } else { odd }
    }
}

/// k · 2^-24 with k the top 24 bits of `word`.
#[inline(always)]
pub fn uniform(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// The pair of standard normals of one block: u1 = (k + 1) · 2^-24 from its first word (never 0), u2 from its second;
/// sqrt(-2 ln u1) times cos and sin of 2 pi u2.
#[inline(always)]
pub fn normals(block: [u32; 2]) -> [f32; 2] {
    let (radius, angle) = (radius(unit(block[0])), angle(block[1]));
    [canon(radius * math::cos(angle)), canon(radius * math::sin(angle))]
}

/// (k + 1) · 2^-24 with k the top 24 bits of `word`: on (0, 1].
#[inline(always)]
pub(crate) fn unit(word: u32) -> f32 {
    ((word >> 8) + 1) as f32 * (1.0 / 16_777_216.0)
}

/// sqrt(-2 ln u).
#[inline(always)]
pub(crate) fn radius(u: f32) -> f32 {
    math::sqrt(canon(-2.0 * math::log(u)))
}

/// 2 pi u, u the uniform of `word`.
#[inline(always)]
pub(crate) fn angle(word: u32) -> f32 {
    const TWO_PI: f32 = f32::from_bits(0x40c9_0fdb);
    canon(uniform(word) * TWO_PI)
}

/// Starting values of a parameter, row-major: stream "init" of its name, step 0.
pub fn init(param: &Param, seed: &Seed) -> Vec<f32> {
    let count = u32::try_from(param.shape.elements()).unwrap_or(u32::MAX);
    let stream = Stream::new(seed, "init", &param.name);
    let element = |index| match param.init {
        Init::Constant(bits) => from_foreign(f32::from_bits(bits)),
        Init::Normal(bits) => canon(stream.normal(0, index) * from_foreign(f32::from_bits(bits))),
        Init::Uniform(bits) => {
            let u = stream.uniform(0, index);
            canon(canon(canon(u + u) - 1.0) * from_foreign(f32::from_bits(bits)))
        }
    };
    (0..count).map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::{Stream, init, threefry};
    use crate::graph::{Init, Param, Shape};
    use cairn_protocol::Seed;

    #[test]
    fn threefry_gives_the_published_blocks() {
        // Random123, `kat_vectors`: threefry2x32 20.
        let ones = 0xffff_ffff;
        let table = [
            ([0, 0], [0, 0], [0x6b20_0159, 0x99ba_4efe]),
            ([ones, ones], [ones, ones], [0x1cb9_96fc, 0xbb00_2be7]),
            ([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3], [0xc492_3a9c, 0x483d_f7a0]),
        ];
        for (key, counter, want) in table {
            assert_eq!(threefry(key, counter), want);
        }
    }

    #[test]
    fn streams_differ_by_seed_kind_and_name() {
        let words = |seed: u8, kind, name| Stream::new(&Seed([seed; 32]), kind, name).word(3, 5);
        let all = [words(0, "init", "w"), words(1, "init", "w"), words(0, "data", "w"), words(0, "init", "v")];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b));
        }
    }

    #[test]
    fn an_element_is_its_half_of_the_block_of_its_pair() {
        let stream = Stream::new(&Seed([7; 32]), "random", "dropout");
        for index in [0, 1, 2, 1001, u32::MAX] {
            let block = threefry(stream.key(), [index >> 1, 9]);
            assert_eq!(stream.word(9, index), block[index as usize & 1]);
        }
    }

    #[test]
    fn numbers_have_the_moments_of_their_distribution() {
        let stream = Stream::new(&Seed([1; 32]), "random", "moments");
        let n = 1u32 << 16;
        let moments = |f: &dyn Fn(u32) -> f32| {
            let (mut sum, mut squares) = (0.0f64, 0.0f64);
            for x in (0..n).map(|i| f64::from(f(i))) {
                sum += x;
                squares += x * x;
            }
            (sum / f64::from(n), squares / f64::from(n))
        };
        let (mean, square) = moments(&|i| stream.uniform(0, i));
        assert!((mean - 0.5).abs() < 0.005 && (square - 1.0 / 3.0).abs() < 0.005, "{mean} {square}");
        let (mean, square) = moments(&|i| stream.normal(0, i));
        assert!((mean).abs() < 0.015 && (square - 1.0).abs() < 0.02, "{mean} {square}");
        let (mean, square) = moments(&|i| stream.normal(1, i) * stream.normal(1, i ^ 1));
        assert!((mean).abs() < 0.02 && (square - 1.0).abs() < 0.05, "{mean} {square}");
    }

    #[test]
    fn parameters_start_where_their_init_says() {
        let param = |name: &str, init| Param { name: name.into(), shape: Shape(vec![3, 5]), init, tag: String::new() };
        let seed = Seed([2; 32]);
        assert_eq!(init(&param("g", Init::Constant(1f32.to_bits())), &seed), vec![1.0; 15]);
        let normal = init(&param("w", Init::Normal(0.5f32.to_bits())), &seed);
        let stream = Stream::new(&seed, "init", "w");
        assert_eq!(normal[4], stream.normal(0, 4) * 0.5);
        let uniform = init(&param("w", Init::Uniform(0.25f32.to_bits())), &seed);
        assert!(uniform.iter().all(|x| (-0.25..0.25).contains(x)));
        assert_ne!(normal, init(&param("v", Init::Normal(0.5f32.to_bits())), &seed));
    }
}
