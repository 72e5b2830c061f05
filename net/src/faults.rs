//! Who sent what cannot be right, and who is banned for it.
//!
//! *Invariant:* pure: the time is an argument. Only faults that need no state to see are counted,
//! since anything else may be our own ignorance. Memory is bounded; a ban always ends.

use std::collections::BTreeMap;
use std::time::Instant;

use cairn_protocol::PeerKey;

use crate::limits::{BAN, FAULT_MEMORY, FAULTS_BEFORE_BAN, FAULTY_MAX};

/// Faults of peers and the bans that follow.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Faults, and when the first of them was.
    counts: BTreeMap<PeerKey, (u32, Instant)>,
    /// When a ban began.
    bans: BTreeMap<PeerKey, Instant>,
}

/// What follows from a fault.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// It was noted.
    Noted,
    /// The peer is banned now; where the table was full, another one's ban ends early.
    Banned {
        /// Whose ban ends.
        forgiven: Option<PeerKey>,
    },
}

impl Faults {
    /// Counts a fault of `peer`.
    pub(crate) fn fault(&mut self, peer: PeerKey, now: Instant) -> Consequence {
        let (count, _) = self.counts.entry(peer).or_insert((0, now));
        *count = count.saturating_add(1);
        if *count < FAULTS_BEFORE_BAN {
            forget_oldest(&mut self.counts, |(_, since)| *since);
            return Consequence::Noted;
        }
        self.counts.remove(&peer);
        self.bans.insert(peer, now);
        Consequence::Banned { forgiven: forget_oldest(&mut self.bans, |since| *since) }
    }

    /// Whether `peer` is banned.
    pub(crate) fn is_banned(&self, peer: &PeerKey) -> bool {
        self.bans.contains_key(peer)
    }

    /// Forgets old faults and gives the peers whose bans have ended.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<PeerKey> {
        self.counts.retain(|_, (_, since)| now.saturating_duration_since(*since) < FAULT_MEMORY);
        let over = |since: &Instant| now.saturating_duration_since(*since) >= BAN;
        let ended = self.bans.iter().filter(|(_, since)| over(since)).map(|(peer, _)| *peer).collect();
        self.bans.retain(|_, since| !over(since));
        ended
    }
}

fn forget_oldest<V>(table: &mut BTreeMap<PeerKey, V>, since: impl Fn(&V) -> Instant) -> Option<PeerKey> {
    if table.len() <= FAULTY_MAX {
        return None;
    }
    let oldest = table.iter().min_by_key(|(_, value)| since(value)).map(|(peer, _)| *peer)?;
    table.remove(&oldest);
    Some(oldest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn peer(n: u32) -> PeerKey {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        PeerKey(key)
    }

    #[test]
    fn the_named_number_of_faults_bans_and_time_forgives() {
        let (mut faults, start) = (Faults::default(), Instant::now());
        for _ in 1..FAULTS_BEFORE_BAN {
            assert_eq!(faults.fault(peer(1), start), Consequence::Noted);
        }
        assert!(!faults.is_banned(&peer(1)));
        assert_eq!(faults.fault(peer(1), start), Consequence::Banned { forgiven: None });
        assert!(faults.is_banned(&peer(1)) && !faults.is_banned(&peer(2)));
        assert_eq!(faults.expire(start + BAN - Duration::from_millis(1)), []);
        assert_eq!(faults.expire(start + BAN), [peer(1)]);
        assert!(!faults.is_banned(&peer(1)));
    }

    #[test]
    fn faults_far_apart_do_not_add_up() {
        let (mut faults, start) = (Faults::default(), Instant::now());
        for n in 0..4 * FAULTS_BEFORE_BAN {
            let now = start + FAULT_MEMORY * n;
            faults.expire(now);
            assert_eq!(faults.fault(peer(1), now), Consequence::Noted);
        }
    }

    #[test]
    fn a_crowd_of_faulty_peers_takes_bounded_memory() {
        let (mut faults, start) = (Faults::default(), Instant::now());
        for n in 0..2 * FAULTY_MAX as u32 {
            let now = start + Duration::from_millis(u64::from(n));
            let mut last = Consequence::Noted;
            for _ in 0..FAULTS_BEFORE_BAN {
                last = faults.fault(peer(n), now);
            }
            let forgiven = n.checked_sub(FAULTY_MAX as u32).map(peer);
            assert_eq!(last, Consequence::Banned { forgiven });
            faults.fault(peer(n), now);
            assert!(faults.bans.len() <= FAULTY_MAX && faults.counts.len() <= FAULTY_MAX);
        }
    }
}
