//! Measuring: how fast products, operations and training steps are on this machine.
//!
//! The parts: [`Product`] against the processor's peak, [`prices`] of operations against their real time, and a
//! [`Trainer`] of the [`Model`]s that other systems are compared on. `cairn bench` and `cargo bench` show them.
//!
//! *Invariant:* what is compared is measured in turns (A B A B), so that a change of the machine's speed meets both; a
//! result is a median with its quartiles. Nothing here changes what is computed.

mod builder;
mod models;
mod prices;
mod product;
mod trainer;

use std::time::Instant;

use crate::backend::{Kind, Options};

pub use models::{Activation, Gpt, Mlp, Model, Norm, Positions};
pub use prices::{Case, Priced, cases, prices};
pub use product::{Product, Share, gpu_speed, shares};
pub use trainer::{Steps, Trainer};

/// The cpu backend on so many threads, everything else as it is for everybody.
pub fn options(threads: usize) -> Options {
    Options { kind: Kind::Cpu, threads: threads.max(1), isa: None, fuse: true, micro_batch: None }
}

/// A median and its quartiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Half of the values are below.
    pub median: f64,
    /// A quarter of the values is below.
    pub low: f64,
    /// A quarter of the values is above.
    pub high: f64,
}

impl Spread {
    /// Of these values; zeros if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| match sorted.len() {
            0 => 0.0,
            len => sorted[((len - 1) as f64 * share).round() as usize],
        };
        Self { median: at(0.5), low: at(0.25), high: at(0.75) }
    }
}

/// Seconds of one call of `f`: the mean over as many calls as fill about `seconds`, after one that warms up.
pub(crate) fn seconds_of<E>(seconds: f64, mut f: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let start = Instant::now();
    f()?;
    let first = start.elapsed().as_secs_f64().max(1e-9);
    let times = ((seconds / first).ceil() as usize).clamp(1, 1 << 20);
    let start = Instant::now();
    for _ in 0..times {
        f()?;
    }
    Ok(start.elapsed().as_secs_f64() / times as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_spread_is_the_middle_and_the_quartiles() {
        let spread = Spread::of([5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(spread, Spread { median: 3.0, low: 2.0, high: 4.0 });
        assert_eq!(Spread::of([7.0]), Spread { median: 7.0, low: 7.0, high: 7.0 });
    }

    #[test]
    fn the_time_of_a_call_is_a_mean_over_many() {
        let mut calls = 0;
        let time = seconds_of(0.01, || {
            calls += 1;
            std::hint::black_box((0..1000u32).map(std::hint::black_box).sum::<u32>());
            Ok::<_, ()>(())
        });
        assert!(calls > 10 && time.unwrap() > 0.0);
    }
}
