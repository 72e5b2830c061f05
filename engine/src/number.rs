//! The closed number system: `canon`, operand rounding, saturation (`docs/spec/arithmetic.md`).
//!
//! Floats of a graph are +0 and the `f32` of magnitude 2^-100 to 2^60. NaN, infinity, -0 and subnormals do not exist.
//!
//! *Invariant:* everything here looks at bits only, without a branch, so that loops over it become vector code.

/// Sign bit.
pub const SIGN: u32 = 0x8000_0000;
/// All bits but the sign.
pub const MAGNITUDE: u32 = 0x7fff_ffff;
/// Bits of 2^-100, the smallest magnitude but 0.
pub const TINY_BITS: u32 = 27 << 23;
/// Bits of 2^60, the largest magnitude: what an overflow saturates to.
pub const HUGE_BITS: u32 = 187 << 23;
/// 2^60.
pub const HUGE: f32 = f32::from_bits(HUGE_BITS);
/// Bits of 2^-51, the smallest magnitude of a contraction's operand but 0.
pub const OPERAND_TINY_BITS: u32 = 76 << 23;
/// Bits of 2^48, the largest magnitude of a contraction's operand.
pub const OPERAND_HUGE_BITS: u32 = 175 << 23;

/// Bits of infinity: above it are the NaN.
const INFINITY_BITS: u32 = 0x7f80_0000;

/// Magnitudes below `low` become +0, those above `high` become `high`.
#[inline(always)]
fn clamp_magnitude(x: f32, low: u32, high: u32) -> f32 {
    let bits = x.to_bits();
    let (magnitude, sign) = (bits & MAGNITUDE, bits & SIGN);
    let magnitude = if magnitude > high { high } else { magnitude };
    f32::from_bits(if magnitude < low { 0 } else { sign | magnitude })
}

/// The canonical value: |x| < 2^-100 becomes +0, |x| > 2^60 becomes ±2^60. Ends every primitive float node.
///
/// Operations on canonical values never give NaN; see [`from_foreign`] for data that may hold one.
#[inline(always)]
pub fn canon(x: f32) -> f32 {
    clamp_magnitude(x, TINY_BITS, HUGE_BITS)
}

/// A contraction's operand: rounded to 12 significant bits, nearest, ties to even; after that |x| < 2^-51 becomes +0
/// and |x| > 2^48 becomes ±2^48. The product of two operands is exact in `f32`.
#[inline(always)]
pub fn round12(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7ff + ((bits >> 12) & 1)) & 0xffff_f000;
    clamp_magnitude(f32::from_bits(rounded), OPERAND_TINY_BITS, OPERAND_HUGE_BITS)
}

/// A number from outside, made canonical: NaN becomes 0.
#[inline(always)]
pub fn from_foreign(x: f32) -> f32 {
    if x.to_bits() & MAGNITUDE > INFINITY_BITS { 0.0 } else { canon(x) }
}

/// Whether `x` belongs to the number system.
pub fn is_canonical(x: f32) -> bool {
    from_foreign(x).to_bits() == x.to_bits()
}

/// f32(1/n): the factor of a mean over `n` elements. The quotient of 1 and `n` in f64, rounded to f32.
pub fn inverse_count(n: u64) -> f32 {
    from_foreign((1.0 / n as f64) as f32)
}

#[cfg(test)]
mod tests {
    use super::{canon, from_foreign, inverse_count, is_canonical, round12};

    /// Every exponent and sign with directed and scattered fractions.
    fn patterns() -> impl Iterator<Item = u32> {
        (0..=511u32).flat_map(|top| {
            let directed = [0, 1, 0x7ff, 0x800, 0x801, 0xfff, 0x17ff, 0x1800, 0x1801, 0x7f_f7ff, 0x7f_f800, 0x7f_ffff];
            let scattered = (0..64u32).map(move |i| (top * 64 + i).wrapping_mul(0x9e37_79b9) & 0x7f_ffff);
            directed.into_iter().chain(scattered).map(move |fraction| (top << 23) | fraction)
        })
    }

    #[test]
    fn canon_removes_what_does_not_exist_and_keeps_the_rest() {
        let table: &[(f32, f32)] = &[
            (-0.0, 0.0),
            (f32::MIN_POSITIVE, 0.0),
            (-f32::from_bits(1), 0.0),
            (f32::INFINITY, 2f32.powi(60)),
            (f32::MIN, -2f32.powi(60)),
            (2f32.powi(-100), 2f32.powi(-100)),
            (-2f32.powi(-101) * 1.999, 0.0),
            (-2f32.powi(60), -2f32.powi(60)),
            (1.5, 1.5),
        ];
        for &(x, want) in table {
            assert_eq!(canon(x).to_bits(), want.to_bits(), "canon({x:e})");
        }
        for x in patterns().map(f32::from_bits).filter(|x| !x.is_nan()) {
            let y = canon(x);
            assert_eq!(canon(y).to_bits(), y.to_bits());
            let magnitude = f64::from(x.abs());
            let want = if magnitude < 2f64.powi(-100) { 0.0 } else { magnitude.min(2f64.powi(60)) };
            assert_eq!(f64::from(y).abs(), want, "{x:e}");
            assert!(y == 0.0 || (y < 0.0) == (x < 0.0));
            assert!(is_canonical(y));
        }
        assert_eq!(from_foreign(f32::NAN).to_bits(), 0);
        assert_eq!(from_foreign(-f32::NAN).to_bits(), 0);
        assert_eq!(from_foreign(f32::NEG_INFINITY), -2f32.powi(60));
        assert!(!is_canonical(-0.0) && !is_canonical(f32::NAN) && !is_canonical(f32::MIN_POSITIVE));
    }

    #[test]
    fn round12_is_the_nearest_operand() {
        for x in patterns().map(f32::from_bits).filter(|x| !x.is_nan()).map(canon) {
            let y = round12(x);
            assert_eq!(y.to_bits() & 0xfff, 0, "{x:e} keeps 12 bits");
            assert_eq!(round12(y).to_bits(), y.to_bits());
            // Nearest, ties to even, in f64 where the twelfth bit is a unit.
            let exponent = libm::floor(libm::log2(f64::from(x.abs()).max(1e-300))) as i32;
            let unit = libm::exp2(f64::from(exponent - 11));
            let rounded = libm::rint(f64::from(x) / unit) * unit;
            let want = if rounded.abs() < 2f64.powi(-51) { 0.0 } else { rounded };
            assert_eq!(f64::from(y), want.clamp(-(2f64.powi(48)), 2f64.powi(48)), "{x:e}");
        }
    }

    #[test]
    fn products_of_operands_are_exact() {
        let operands: Vec<f32> = patterns().step_by(97).map(|u| round12(from_foreign(f32::from_bits(u)))).collect();
        for &a in &operands {
            for &b in &operands {
                assert_eq!(f64::from(a * b), f64::from(a) * f64::from(b));
            }
        }
    }

    #[test]
    fn inverse_counts() {
        assert_eq!(inverse_count(4), 0.25);
        assert_eq!(inverse_count(3).to_bits(), 0x3eaa_aaab);
        assert_eq!(inverse_count(0), 2f32.powi(60));
    }
}
