//! Whom to dial, where and when.
//!
//! Bootstrap addresses are dialled until they answer and again whenever they are lost. Peers that
//! others told about are dialled while there are fewer than wanted.
//!
//! *Invariant:* pure: the time is an argument. Pauses between dials grow; memory is bounded.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cairn_protocol::PeerKey;
use cairn_protocol::ids::hash;
use libp2p::Multiaddr;

use crate::limits::*;

/// What to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dial {
    /// Which entry of the book it is for.
    pub(crate) entry: EntryKey,
    /// The peer, if it is known.
    pub(crate) peer: Option<PeerKey>,
    /// Where.
    pub(crate) addresses: Vec<Multiaddr>,
}

/// An entry of the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EntryKey {
    /// The bootstrap address with this index.
    Bootstrap(usize),
    /// A peer.
    Peer(PeerKey),
}

/// When an entry is dialled next.
#[derive(Debug)]
struct Attempts {
    failures: u32,
    next: Instant,
    dialling: bool,
}

impl Attempts {
    fn new(now: Instant) -> Self {
        Self { failures: 0, next: now, dialling: false }
    }
    fn due(&self, now: Instant) -> bool {
        !self.dialling && self.next <= now
    }
    fn ended(&mut self, salt: &[u8], longest: Duration, now: Instant) {
        self.dialling = false;
        self.next = now + pause(salt, self.failures, longest);
        self.failures = self.failures.saturating_add(1);
    }
}

/// The pause after so many failures: doubling, with up to a quarter more, so that peers which lost
/// the same neighbour do not come back in step.
fn pause(salt: &[u8], failures: u32, longest: Duration) -> Duration {
    let pause = REDIAL_FIRST.saturating_mul(1 << failures.min(16)).min(longest);
    let [draw, ..] = hash("redial", &[salt, &failures.to_be_bytes()]);
    pause + pause / 4 * u32::from(draw) / 256
}

#[derive(Debug)]
struct Bootstrap {
    address: Multiaddr,
    /// As the address says, or as the last connection showed.
    peer: Option<PeerKey>,
    /// Whether the address itself names the peer.
    named: bool,
    attempts: Attempts,
    /// The address is our own.
    own: bool,
}

#[derive(Debug)]
struct Known {
    addresses: Vec<Multiaddr>,
    attempts: Attempts,
}

/// Addresses of peers.
#[derive(Debug)]
pub(crate) struct Book {
    me: PeerKey,
    bootstrap: Vec<Bootstrap>,
    known: BTreeMap<PeerKey, Known>,
}

impl Book {
    /// An empty book of the peer `me`.
    pub(crate) fn new(me: PeerKey) -> Self {
        Self { me, bootstrap: Vec::new(), known: BTreeMap::new() }
    }

    /// Adds a bootstrap address; false if there are too many.
    pub(crate) fn add_bootstrap(&mut self, address: Multiaddr, peer: Option<PeerKey>, now: Instant) -> bool {
        if self.bootstrap.iter().any(|known| known.address == address && known.peer == peer) {
            return true;
        }
        if self.bootstrap.len() >= BOOTSTRAP_MAX {
            return false;
        }
        let own = peer == Some(self.me);
        self.bootstrap.push(Bootstrap { address, peer, named: peer.is_some(), attempts: Attempts::new(now), own });
        true
    }

    /// Notes where `peer` says, or is said, to listen. `connected` tells who must not be forgotten.
    pub(crate) fn learn(
        &mut self,
        peer: PeerKey,
        addresses: impl IntoIterator<Item = Multiaddr>,
        connected: impl Fn(&PeerKey) -> bool,
        now: Instant,
    ) {
        if peer == self.me {
            return;
        }
        let addresses: Vec<_> = addresses.into_iter().take(ADDRESSES_PER_PEER_MAX).collect();
        if addresses.is_empty() {
            return;
        }
        if let Some(known) = self.known.get_mut(&peer) {
            known.addresses = addresses;
            return;
        }
        if self.known.len() >= KNOWN_MAX {
            let strangers = self.known.iter().filter(|(key, _)| !connected(key));
            let Some(worst) = strangers.max_by_key(|(_, known)| known.attempts.failures).map(|(key, _)| *key) else {
                return;
            };
            self.known.remove(&worst);
        }
        self.known.insert(peer, Known { addresses, attempts: Attempts::new(now) });
    }

    /// Whether hearsay about `peer` would add something: its own word is preferred.
    pub(crate) fn is_new(&self, peer: &PeerKey) -> bool {
        !self.known.contains_key(peer)
    }

    /// Where `peer` listens.
    pub(crate) fn addresses(&self, peer: &PeerKey) -> &[Multiaddr] {
        self.known.get(peer).map_or(&[], |known| &known.addresses)
    }

    /// What to dial now. `connected` and `banned` peers are left alone; `peers` are connected.
    pub(crate) fn due(
        &mut self,
        connected: impl Fn(&PeerKey) -> bool,
        banned: impl Fn(&PeerKey) -> bool,
        peers: usize,
        now: Instant,
    ) -> Vec<Dial> {
        let mut dials = Vec::new();
        for (index, entry) in self.bootstrap.iter_mut().enumerate() {
            let skip = entry.own || entry.peer.is_some_and(|peer| connected(&peer) || banned(&peer));
            if skip || dials.len() >= DIALS_AT_ONCE_MAX || !entry.attempts.due(now) {
                continue;
            }
            entry.attempts.dialling = true;
            dials.push(Dial {
                entry: EntryKey::Bootstrap(index),
                peer: entry.peer.filter(|_| entry.named),
                addresses: vec![entry.address.clone()],
            });
        }
        let mut wanted = PEERS_WANTED.saturating_sub(peers);
        for (peer, known) in &mut self.known {
            if wanted == 0 || dials.len() >= DIALS_AT_ONCE_MAX {
                break;
            }
            if connected(peer) || banned(peer) || !known.attempts.due(now) {
                continue;
            }
            wanted -= 1;
            known.attempts.dialling = true;
            let addresses = known.addresses.clone();
            dials.push(Dial { entry: EntryKey::Peer(*peer), peer: Some(*peer), addresses });
        }
        dials
    }

    /// A dial reached `peer`.
    pub(crate) fn reached(&mut self, entry: EntryKey, peer: PeerKey) {
        match entry {
            EntryKey::Bootstrap(index) => {
                if let Some(entry) = self.bootstrap.get_mut(index) {
                    entry.peer = Some(peer);
                    entry.attempts.dialling = false;
                }
            }
            EntryKey::Peer(peer) => {
                if let Some(known) = self.known.get_mut(&peer) {
                    known.attempts.dialling = false;
                }
            }
        }
    }

    /// A dial failed.
    pub(crate) fn failed(&mut self, entry: EntryKey, now: Instant) {
        match entry {
            EntryKey::Bootstrap(index) => {
                if let Some(entry) = self.bootstrap.get_mut(index) {
                    if !entry.named {
                        // Whoever answered there last is gone; somebody else may come.
                        entry.peer = None;
                    }
                    entry.attempts.ended(&self.me.0, REDIAL_BOOTSTRAP_MAX, now);
                }
            }
            EntryKey::Peer(peer) => {
                let Some(known) = self.known.get_mut(&peer) else { return };
                known.attempts.ended(&self.me.0, REDIAL_MAX, now);
                if known.attempts.failures > REDIALS_MAX {
                    self.known.remove(&peer);
                }
            }
        }
    }

    /// A dial reached ourselves: never again.
    pub(crate) fn is_own(&mut self, entry: EntryKey) {
        match entry {
            EntryKey::Bootstrap(index) => {
                if let Some(entry) = self.bootstrap.get_mut(index) {
                    entry.own = true;
                }
            }
            EntryKey::Peer(peer) => {
                self.known.remove(&peer);
            }
        }
    }

    /// The last connection with `peer` ended after `lasted`.
    pub(crate) fn lost(&mut self, peer: PeerKey, lasted: Duration, now: Instant) {
        let me = self.me;
        let note = |attempts: &mut Attempts, longest| {
            if lasted >= STABLE {
                attempts.failures = 0;
            }
            attempts.ended(&me.0, longest, now);
        };
        for entry in self.bootstrap.iter_mut().filter(|entry| entry.peer == Some(peer)) {
            note(&mut entry.attempts, REDIAL_BOOTSTRAP_MAX);
            if !entry.named {
                entry.peer = None;
            }
        }
        if let Some(known) = self.known.get_mut(&peer) {
            note(&mut known.attempts, REDIAL_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(n: u16) -> PeerKey {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        PeerKey(key)
    }
    fn address(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }
    fn nobody(_: &PeerKey) -> bool {
        false
    }

    #[test]
    fn a_bootstrap_address_is_dialled_again_with_growing_pauses_and_for_ever() {
        let (mut book, start) = (Book::new(key(0)), Instant::now());
        assert!(book.add_bootstrap(address(1), None, start));
        let (mut now, mut last) = (start, Duration::ZERO);
        for failures in 0..40 {
            let dials = book.due(nobody, nobody, 0, now);
            let [dial] = dials.as_slice() else { panic!("one dial") };
            assert_eq!((dial.peer, dial.addresses.as_slice()), (None, [address(1)].as_slice()));
            assert_eq!(book.due(nobody, nobody, 0, now), [], "not while it is being dialled");
            book.failed(dial.entry, now);
            let pause = pause(&key(0).0, failures, REDIAL_BOOTSTRAP_MAX);
            assert!(pause >= last.min(REDIAL_BOOTSTRAP_MAX) && pause <= REDIAL_BOOTSTRAP_MAX * 5 / 4);
            assert_eq!(book.due(nobody, nobody, 0, now + pause - Duration::from_nanos(1)), []);
            (now, last) = (now + pause, pause * 4 / 5);
        }
    }

    #[test]
    fn a_lost_peer_comes_back_soon_after_a_long_connection_and_later_after_a_short_one() {
        let (mut book, start) = (Book::new(key(0)), Instant::now());
        book.add_bootstrap(address(1), Some(key(1)), start);
        let long = |book: &mut Book, now| {
            book.lost(key(1), STABLE, now);
            pause(&key(0).0, 0, REDIAL_BOOTSTRAP_MAX)
        };
        let soon = long(&mut book, start);
        assert_eq!(book.due(nobody, nobody, 0, start + soon).len(), 1);
        let mut now = start + soon;
        book.reached(EntryKey::Bootstrap(0), key(1));
        assert_eq!(book.due(|peer| *peer == key(1), nobody, 1, now), []);
        for _ in 0..20 {
            book.lost(key(1), Duration::ZERO, now);
            now += REDIAL_FIRST;
        }
        assert_eq!(book.due(nobody, nobody, 0, now + Duration::from_secs(10)), [], "flapping is slowed down");
    }

    #[test]
    fn peers_are_dialled_while_there_are_too_few_and_never_the_banned() {
        let (mut book, now) = (Book::new(key(0)), Instant::now());
        for n in 0..6 {
            book.learn(key(n), [address(n + 1)], nobody, now);
        }
        assert_eq!(book.due(nobody, nobody, PEERS_WANTED, now), []);
        let dials = book.due(|peer| *peer == key(1), |peer| *peer == key(2), PEERS_WANTED - 2, now);
        let peers: Vec<_> = dials.iter().filter_map(|dial| dial.peer).collect();
        assert_eq!(peers, [key(3), key(4)], "not ourselves, not the connected, not the banned, two");
    }

    #[test]
    fn the_book_is_bounded_and_forgets_strangers_that_never_answer() {
        let (mut book, now) = (Book::new(key(0)), Instant::now());
        book.learn(key(1), [address(1)], nobody, now);
        for n in 2..3 * KNOWN_MAX as u16 {
            book.learn(key(n), (0..100).map(address), |peer| *peer == key(1), now);
        }
        assert_eq!(book.known.len(), KNOWN_MAX);
        assert!(book.known.values().all(|known| known.addresses.len() <= ADDRESSES_PER_PEER_MAX));
        assert_eq!(book.addresses(&key(1)), [address(1)], "the connected stay");
        for _ in 0..=REDIALS_MAX {
            book.failed(EntryKey::Peer(key(1)), now);
        }
        assert!(book.is_new(&key(1)));
        for n in 0..2 * BOOTSTRAP_MAX as u16 {
            assert_eq!(book.add_bootstrap(address(n), None, now), usize::from(n) < BOOTSTRAP_MAX);
        }
    }

    #[test]
    fn our_own_address_is_not_dialled_twice() {
        let (mut book, now) = (Book::new(key(0)), Instant::now());
        book.add_bootstrap(address(1), None, now);
        let entry = book.due(nobody, nobody, 0, now).pop().unwrap().entry;
        book.is_own(entry);
        book.failed(entry, now);
        assert_eq!(book.due(nobody, nobody, 0, now + Duration::from_secs(3600)), []);
    }
}
