//! A bucket of tokens: so many at once, so many a second.
//!
//! *Invariant:* pure: the time is an argument.

use std::time::Instant;

use crate::limits::{GOSSIP_BURST, GOSSIP_PER_SECOND};

/// What one peer may still hand us.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Tokens, in thousandths.
    milli: u64,
    since: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(now: Instant) -> Self {
        Self { milli: u64::from(GOSSIP_BURST) * 1000, since: now }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let elapsed_ms = u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        if elapsed_ms > 0 {
            let gained = elapsed_ms.saturating_mul(u64::from(GOSSIP_PER_SECOND));
            self.milli = self.milli.saturating_add(gained).min(u64::from(GOSSIP_BURST) * 1000);
            self.since = now;
        }
        match self.milli.checked_sub(1000) {
            Some(left) => {
                self.milli = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_passes_and_then_only_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let passed = |bucket: &mut Bucket, now| (0..3 * GOSSIP_BURST).filter(|_| bucket.take(now)).count() as u32;
        assert_eq!(passed(&mut bucket, start), GOSSIP_BURST);
        assert_eq!(passed(&mut bucket, start + Duration::from_secs(1)), GOSSIP_PER_SECOND);
        assert_eq!(passed(&mut bucket, start + Duration::from_secs(3600)), GOSSIP_BURST);
    }
}
