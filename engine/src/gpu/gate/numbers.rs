//! Numbers that hurt: what a compiler, a fast-math mode or a sloppy unit would get wrong.
//!
//! *Invariant:* all are canonical, and depend on stream and draw alone.

use crate::number::from_foreign;

/// What an operand holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// Every exponent with directed fractions first; then zeros, the smallest and the largest, neighbours, pairs that
    /// cancel, places where functions change their course, and plain numbers.
    Hostile,
    /// Against operand `k`, element by element: the same, its negative, a neighbour, a multiple, or hostile.
    Against(usize),
    /// For contractions: numbers that round, tie and cancel, of exponents whose sums stay finite; now and then hostile.
    Factor,
    /// -2 to 2.
    Plain,
    /// Small halves, so that there are ties.
    Halves,
}

/// Places where an elementary function changes its course: powers of two on the scale of exp, multiples of π / 4,
/// bounds of saturation, halves.
const CORNERS: [f32; 24] = [
    std::f32::consts::LN_2,
    0.346_573_6,
    41.588_83,
    -69.314_72,
    88.722_84,
    9.010_913,
    4.0,
    0.5,
    1.5,
    2.5,
    std::f32::consts::PI,
    std::f32::consts::FRAC_PI_2,
    std::f32::consts::FRAC_PI_4,
    2.356_194_5,
    201.061_93,
    8_388_607.5,
    8_388_608.0,
    16_777_216.0,
    1.0,
    std::f32::consts::SQRT_2,
    std::f32::consts::FRAC_1_SQRT_2,
    3.0,
    0.333_333_34,
    1e-6,
];
/// Fractions at which rounding to 24, 12 or 8 bits ties or carries.
const FRACTIONS: [u32; 14] =
    [0, 1, 2, 0x7ff, 0x800, 0x801, 0xfff, 0x1800, 0x7fff, 0x8000, 0x8001, 0x40_0000, 0x7f_f800, 0x7f_ffff];
/// Numbers of every exponent, sign and directed fraction.
const DIRECTED: usize = 256 * 2 * FRACTIONS.len();

/// A generator of numbers: SplitMix64.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(stream: u64, draw: u32) -> Self {
        Self(stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(draw) << 40))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Numbers for an operand, `others` being those before it.
    pub(super) fn tensor(&mut self, values: Values, len: usize, others: &[Vec<f32>]) -> Vec<f32> {
        let mut last = 1.0;
        (0..len)
            .map(|i| {
                let x = match values {
                    Values::Hostile if i < DIRECTED && len > 2 * DIRECTED => directed(i),
                    Values::Hostile => self.hostile(last),
                    Values::Against(k) => self.against(others[k].get(i).copied().unwrap_or_default()),
                    Values::Factor => self.factor(last),
                    Values::Plain => self.plain(),
                    Values::Halves => (self.plain() * 4.0).round() * 0.5,
                };
                last = from_foreign(x);
                last
            })
            .collect()
    }

    /// -2 to 2, of any fraction.
    fn plain(&mut self) -> f32 {
        (self.next() >> 40) as f32 * 2f32.powi(-22) - 2.0
    }

    /// Any fraction, exponents `least` to `most`, any sign.
    fn scaled(&mut self, least: i32, most: i32) -> f32 {
        let bits = self.next();
        let exponent = least + ((bits >> 32) % (most - least + 1) as u64) as i32;
        f32::from_bits((bits as u32 & 0x807f_ffff) | (((exponent + 127) as u32) << 23))
    }

    fn hostile(&mut self, last: f32) -> f32 {
        let kind = self.next();
        let sign = if kind >> 63 == 0 { 1.0 } else { -1.0 };
        match kind % 20 {
            0 => 0.0,
            1 => self.scaled(-100, -90),
            2 => self.scaled(50, 60),
            3 => sign * 2f32.powi(60),
            4 => -last,
            5 => f32::from_bits(last.to_bits() ^ 1),
            6 => (self.plain() * 4.0).round() * 0.5,
            7 => self.scaled(-30, 20),
            8 => self.plain() * 40.0,
            9..=11 => {
                let corner = CORNERS[(kind >> 8) as usize % CORNERS.len()];
                let off = (kind >> 16) as u32 % 9;
                sign * f32::from_bits((corner.to_bits() + off).saturating_sub(4))
            }
            12 => f32::from_bits(kind as u32 & 0xffff_f000 | 0x800),
            13 => self.scaled(-64, 64),
            _ => self.plain(),
        }
    }

    fn against(&mut self, other: f32) -> f32 {
        let kind = self.next();
        match kind % 12 {
            0 => other,
            1 => -other,
            2 => f32::from_bits(other.to_bits() ^ 1),
            3 => -f32::from_bits(other.to_bits().wrapping_add(1)),
            4 => other * 2f32.powi(((kind >> 8) % 49) as i32 - 24),
            // Half a unit of the last place, and about it: sums tie.
            5 => f32::from_bits((other.to_bits() & 0x7f80_0000).saturating_sub(24 << 23) | ((kind >> 32) as u32 & 3)),
            6 => self.scaled(-100, 60),
            7..=9 => self.plain(),
            _ => self.hostile(other),
        }
    }

    fn factor(&mut self, last: f32) -> f32 {
        let kind = self.next();
        match kind % 64 {
            0..=3 => -last,
            4 | 5 => 0.0,
            6..=9 => f32::from_bits((self.scaled(-3, 3).to_bits() & 0xffff_f000) | 0x800),
            10..=19 => self.scaled(-12, 12),
            20..=23 => self.scaled(-52, 20),
            24 if kind >> 57 == 0 => self.hostile(last),
            _ => self.plain(),
        }
    }

    /// Indices: of those below `below` mostly, and now and then outside.
    pub(super) fn indices(&mut self, below: u32, len: usize) -> Vec<i32> {
        let below = u64::from(below.max(1));
        (0..len)
            .map(|_| {
                let bits = self.next();
                match bits % 64 {
                    0 => -1,
                    1 => below as i32,
                    2 if bits >> 60 == 0 => i32::MIN,
                    2 if bits >> 60 == 1 => i32::MAX,
                    _ => ((bits >> 8) % below) as i32,
                }
            })
            .collect()
    }

    /// Any integers, small ones more often.
    pub(super) fn integers(&mut self, len: usize) -> Vec<i32> {
        (0..len)
            .map(|_| {
                let bits = self.next();
                (bits as i32) >> ((bits >> 32) % 32)
            })
            .collect()
    }
}

/// The numbers of every exponent.
fn directed(i: usize) -> f32 {
    let (top, fraction) = (i / FRACTIONS.len(), FRACTIONS[i % FRACTIONS.len()]);
    f32::from_bits(((top as u32) << 23) | fraction)
}

#[cfg(test)]
mod tests {
    use super::{DIRECTED, Numbers, Values};
    use crate::number::is_canonical;

    #[test]
    fn numbers_are_canonical_and_of_every_exponent() {
        let mut before: Vec<Vec<f32>> = vec![];
        for values in [Values::Hostile, Values::Against(0), Values::Factor, Values::Plain, Values::Halves] {
            let tensor = Numbers::new(3, 1).tensor(values, 4 * DIRECTED, &before);
            assert!(tensor.iter().all(|&x| is_canonical(x)), "{values:?}");
            assert_eq!(tensor, Numbers::new(3, 1).tensor(values, 4 * DIRECTED, &before), "{values:?}");
            before.push(tensor);
        }
        let exponents = before[0].iter().map(|x| x.to_bits() >> 23).collect::<std::collections::BTreeSet<_>>();
        // Both signs of 2^-100 to 2^60, and zero.
        assert_eq!(exponents.len(), 2 * 161 + 1);
        let pairs = before[0].iter().zip(&before[1]);
        assert!(pairs.filter(|(a, b)| **a == -**b && **a != 0.0).count() > DIRECTED / 8, "some cancel");
    }
}
