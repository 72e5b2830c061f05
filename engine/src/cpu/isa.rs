//! Which instruction set the loops run on: found at run time, so that one portable binary serves every machine.
//!
//! A loop is a [`Kernel`]: plain Rust that is compiled once per instruction set, from the same source, with nothing
//! that could reorder its arithmetic. So the bits agree by construction and only the width differs.
//!
//! *Invariant:* a [`Level`] exists only for instruction sets that this processor has.

use crate::backend::{BackendError, Isa};

/// An instruction set that was found on this processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level(Isa);

/// The instruction sets that this processor has, slowest first.
pub fn available() -> Vec<Isa> {
    #[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(unused_mut))]
    let mut all = vec![Isa::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            all.push(Isa::Avx2);
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                all.push(Isa::Avx512);
            }
        }
    }
    // Part of the architecture: Rust's own baseline has it.
    #[cfg(target_arch = "aarch64")]
    all.push(Isa::Neon);
    all
}

impl Level {
    /// The level that was asked for, or the best one.
    pub(super) fn new(wanted: Option<Isa>) -> Result<Self, BackendError> {
        let has = available();
        match wanted {
            None => Ok(Self(has.last().copied().unwrap_or(Isa::Scalar))),
            Some(isa) if has.contains(&isa) => Ok(Self(isa)),
            Some(isa) => Err(BackendError::Isa(isa, has)),
        }
    }

    /// The instruction set.
    pub(super) fn isa(self) -> Isa {
        self.0
    }

    /// Runs a loop as compiled for this level.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            // NEON is in the baseline that `kernel.run` is compiled for.
            Isa::Scalar | Isa::Neon => kernel.run(),
            // SAFETY: a `Level` exists only for instruction sets that this processor has.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512(kernel) },
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => kernel.run(),
        }
    }
}

/// A loop that is compiled once per instruction set. `run` must be `#[inline(always)]`, and so must all it calls,
/// or the calls fall back to the portable instructions (slower, never different).
pub(super) trait Kernel {
    /// What the loop gives.
    type Output;
    /// The loop.
    fn run(self) -> Self::Output;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}
