//! The most that a thread of this processor multiplies and adds: what products are measured against.
//!
//! *Invariant:* the loops touch registers only, with as many independent sums as hide the latency of an operation.

use std::hint::black_box;
use std::time::Instant;

use super::isa::Level;
use crate::backend::{BackendError, Isa};

/// Independent sums: two operations a cycle of four cycles' latency need 8.
const SUMS: usize = 12;
/// Rounds of a burst, some tens of microseconds: too short to be interrupted often.
const ROUNDS: usize = 16384;

/// Floating-point operations a second of one thread that does nothing but multiply and add on the widest registers of
/// an instruction set: the fastest of the bursts of about `seconds`. The portable loop multiplies and adds separately, as its products do.
///
/// # Errors
/// The processor lacks the instruction set.
pub fn fma_peak(isa: Isa, seconds: f64) -> Result<f64, BackendError> {
    let level = Level::new(Some(isa))?;
    let start = Instant::now();
    let mut fastest = 0f64;
    while fastest == 0.0 || start.elapsed().as_secs_f64() < seconds {
        let burst = Instant::now();
        let operations = rounds(level);
        fastest = fastest.max(operations as f64 / burst.elapsed().as_secs_f64().max(1e-9));
    }
    Ok(fastest)
}

/// [`ROUNDS`] rounds; the operations that they were.
fn rounds(level: Level) -> usize {
    let lanes = match level.isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            // SAFETY: a `Level` exists only for instruction sets that this processor has.
            unsafe { avx512(black_box(1.0)) };
            16
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            // SAFETY: as above.
            unsafe { avx2(black_box(1.0)) };
            8
        }
        _ => {
            portable(black_box(1.0));
            4
        }
    };
    2 * lanes * SUMS * ROUNDS
}

/// A loop of [`SUMS`] fused multiplications and additions on registers of one width.
#[cfg(target_arch = "x86_64")]
macro_rules! fused {
    ($name:ident, $features:literal, $set:ident, $fma:ident) => {
        #[target_feature(enable = $features)]
        fn $name(start: f32) {
            use std::arch::x86_64::{$fma, $set};
            let (x, y) = ($set(start), $set(0.5 * start));
            let mut sums = [x; SUMS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = $fma(*sum, y, x);
                }
            }
            black_box(sums);
        }
    };
}

#[cfg(target_arch = "x86_64")]
fused!(avx512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps);
#[cfg(target_arch = "x86_64")]
fused!(avx2, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps);

/// As wide as the registers that every processor of the architecture has.
fn portable(start: f32) {
    let (x, y) = (start, 0.5 * start);
    let mut sums = [[x; 4]; SUMS];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = sum.map(|sum| sum * y + x);
        }
    }
    black_box(sums);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cpu::available;

    #[test]
    fn every_instruction_set_has_a_peak() {
        for isa in available() {
            let peak = fma_peak(isa, 0.01).unwrap();
            assert!(peak > 1e7, "{isa:?}: {peak}");
        }
    }
}
