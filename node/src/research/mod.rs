//! Research: what to try next, and what is worth a claim.
//!
//! Start at [`Search`], which decides; `knobs` proposes changes of the program's own constants by the
//! `model` of what worked, in the [`Space`] read from the source; [`Pace`] stops runs that are behind.
//!
//! *Invariant:* pure and seeded: no clock, no I/O, no randomness of its own.

mod knobs;
mod model;
mod pace;
mod random;
mod search;
mod space;
pub mod summary;

pub use pace::{Curve, Pace};
pub use search::{Ended, Goal, Head, KIND, Search, Try, report};
pub use space::{Literals, Space};
