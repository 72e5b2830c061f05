//! Connections: made, lost, looked for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use cairn_protocol::limits::NEIGHBOURS_MAX;
use cairn_protocol::{AskNeighbours, Neighbour, Neighbours, PeerKey, Text};
use libp2p::futures::FutureExt;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, ping, request_response};

use super::{Link, Peer, Task};
use crate::address;
use crate::behaviour::{BehaviourEvent, PROTOCOL};
use crate::book::{Dial, EntryKey};
use crate::codec::Frame;
use crate::limits::*;
use crate::rate::Bucket;

impl Task {
    pub(super) fn add_bootstrap(&mut self, address: Multiaddr) {
        let (bare, id) = address::split(address);
        let peer = match id {
            Some(id) => match address::peer_key(&id) {
                Some(peer) => Some(peer),
                None => {
                    tracing::warn!(%bare, %id, "a bootstrap peer that has no Ed25519 key is left out");
                    return;
                }
            },
            None => None,
        };
        if !self.book.add_bootstrap(bare.clone(), peer, Instant::now()) {
            tracing::warn!(%bare, max = BOOTSTRAP_MAX, "too many bootstrap addresses: one is left out");
        }
    }

    pub(super) fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, endpoint.get_remote_address().clone());
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => self.on_closed(peer_id, connection_id),
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(entry) = self.dialling.remove(&connection_id) {
                    self.on_dial_failed(entry, &error);
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Ok(address) = address.with_p2p(*self.swarm.local_peer_id()) {
                    self.untold.push_back(address.to_string());
                    self.untold.truncate(LISTEN_MAX * 16);
                    self.tell();
                }
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(?addresses, ?reason, "no longer listening");
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                self.on_identified(peer_id, info);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.on_ping(&event),
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => self.on_gossip_event(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ask(event)) => self.on_ask_event(event),
            SwarmEvent::Behaviour(BehaviourEvent::Neighbours(event)) => self.on_neighbours_event(event),
            _ => {}
        }
    }

    fn on_connected(&mut self, id: PeerId, connection: ConnectionId, remote: Multiaddr) {
        let entry = self.dialling.remove(&connection);
        let Some(peer) = address::peer_key(&id) else {
            self.drop_peer(id);
            return;
        };
        if let Some(entry) = entry {
            self.book.reached(entry, peer);
        }
        let now = Instant::now();
        let known = self.peers.entry(peer).or_insert_with(|| Peer {
            since: now,
            ready: false,
            connections: BTreeMap::new(),
            bucket: Bucket::new(now),
            next_exchange: now,
            exchanges: 0,
        });
        known.connections.insert(connection, Link { remote, pings_lost: 0 });
        self.peers_changed();
    }

    fn on_closed(&mut self, id: PeerId, connection: ConnectionId) {
        let Some(peer) = address::peer_key(&id) else { return };
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.connections.remove(&connection);
        if known.connections.is_empty() {
            let now = Instant::now();
            let lasted = now.saturating_duration_since(known.since);
            self.peers.remove(&peer);
            self.book.lost(peer, lasted, now);
            self.peers_changed();
        }
    }

    fn on_ping(&mut self, ping::Event { peer, connection, result }: &ping::Event) {
        let peer = address::peer_key(peer).and_then(|peer| self.peers.get_mut(&peer));
        let Some(link) = peer.and_then(|peer| peer.connections.get_mut(connection)) else { return };
        link.pings_lost = match result {
            Ok(_) => 0,
            Err(ping::Failure::Timeout) => link.pings_lost.saturating_add(1),
            Err(_) => PINGS_LOST_MAX,
        };
        if link.pings_lost >= PINGS_LOST_MAX {
            self.swarm.close_connection(*connection);
        }
    }

    fn peers_changed(&mut self) {
        let ready = self.peers.iter().filter(|(_, known)| known.ready).map(|(peer, _)| *peer);
        self.peers_now.send_replace(ready.collect());
        self.tell();
    }

    /// Notes that a peer takes part, and tells the driver.
    pub(super) fn is_ready(&mut self, peer: &PeerKey) {
        if let Some(known) = self.peers.get_mut(peer).filter(|known| !known.ready) {
            known.ready = true;
            self.peers_changed();
        }
    }

    /// Peers that follow none of our tracks are told of after a while: they may have blobs.
    pub(super) fn make_ready(&mut self, now: Instant) {
        let late = |known: &Peer| now.saturating_duration_since(known.since) >= READY_PATIENCE;
        let quiet = self.peers.iter().filter(|(_, known)| !known.ready && late(known)).map(|(peer, _)| *peer);
        for peer in quiet.collect::<Vec<_>>() {
            self.is_ready(&peer);
        }
    }

    fn drop_peer(&mut self, id: PeerId) {
        // Only "not connected" can go wrong, which is what we want.
        let _ = self.swarm.disconnect_peer_id(id);
    }

    /// The IP address from which a connected peer speaks.
    fn speaks_from(&self, peer: &PeerKey) -> Option<IpAddr> {
        self.peers.get(peer)?.connections.values().find_map(|link| address::ip(&link.remote))
    }

    fn on_identified(&mut self, id: PeerId, info: identify::Info) {
        let Some(peer) = address::peer_key(&id) else { return };
        if info.protocol_version != PROTOCOL {
            tracing::debug!(%peer, "a peer of another network or version");
            self.drop_peer(id);
            return;
        }
        let Some(from) = self.speaks_from(&peer) else { return };
        let addresses = info.listen_addrs.into_iter().filter_map(|address| address::dialable(address, from));
        let peers = &self.peers;
        self.book.learn(peer, addresses, |peer| peers.contains_key(peer), Instant::now());
    }

    pub(super) fn dial_due(&mut self, now: Instant) {
        let (peers, faults) = (&self.peers, &self.faults);
        let connected = |peer: &PeerKey| peers.contains_key(peer);
        for dial in self.book.due(connected, |peer| faults.is_banned(peer), peers.len(), now) {
            match dial.addresses.iter().find_map(address::name) {
                Some(name) => self.looking_up.push(look_up(dial, name).boxed()),
                None => self.dial(dial),
            }
        }
    }

    /// Dials; without addresses it counts as failed.
    pub(super) fn dial(&mut self, Dial { entry, peer, addresses }: Dial) {
        let options = match peer.as_ref().and_then(address::peer_id) {
            Some(id) if !addresses.is_empty() => {
                let condition = PeerCondition::DisconnectedAndNotDialing;
                DialOpts::peer_id(id).condition(condition).addresses(addresses).build()
            }
            _ => match addresses.into_iter().next() {
                Some(address) => DialOpts::unknown_peer_id().address(address).build(),
                None => return self.book.failed(entry, Instant::now()),
            },
        };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dialling.insert(connection, entry);
            }
            Err(error) => self.on_dial_failed(entry, &error),
        }
    }

    fn on_dial_failed(&mut self, entry: EntryKey, error: &DialError) {
        tracing::debug!(?entry, %error, "dialling failed");
        match error {
            DialError::LocalPeerId { .. } => self.book.is_own(entry),
            _ => self.book.failed(entry, Instant::now()),
        }
    }

    /// Asks peers for their neighbours, while there are fewer peers than wanted.
    pub(super) fn exchange_due(&mut self, now: Instant) {
        if self.peers.len() >= PEERS_WANTED {
            return;
        }
        for (peer, known) in self.peers.iter_mut().filter(|(_, known)| known.next_exchange <= now) {
            let Some(id) = address::peer_id(peer) else { continue };
            known.exchanges = known.exchanges.saturating_add(1);
            let pause = NEIGHBOURS_PAUSES.get(known.exchanges).or(NEIGHBOURS_PAUSES.last());
            known.next_exchange = now + pause.copied().unwrap_or(IDLE);
            let max = u16::try_from(NEIGHBOURS_MAX).unwrap_or(u16::MAX);
            self.swarm.behaviour_mut().neighbours.send_request(&id, Ok(AskNeighbours { max }));
        }
    }

    fn on_neighbours_event(&mut self, event: request_response::Event<Frame<AskNeighbours>, Frame<Neighbours>>) {
        use request_response::{Event, Message};
        let Event::Message { peer: id, message, .. } = event else { return };
        let Some(peer) = address::peer_key(&id) else { return };
        match message {
            Message::Request { request: Ok(asked), channel, .. } => {
                let allowed = self.peers.get_mut(&peer).is_some_and(|known| known.bucket.take(Instant::now()));
                if allowed {
                    let neighbours = self.neighbours(&peer, usize::from(asked.max));
                    // The asker may be gone by now.
                    let _ = self.swarm.behaviour_mut().neighbours.send_response(channel, Ok(neighbours));
                }
            }
            Message::Response { response: Ok(neighbours), .. } => self.on_neighbours(&peer, neighbours),
            Message::Request { request: Err(_), .. } | Message::Response { response: Err(_), .. } => {
                self.fault(peer, "a frame that is no record");
            }
        }
    }

    /// Connected peers that say where they listen, from the asker on in the order of keys, so that
    /// different askers learn of different ones.
    fn neighbours(&self, asker: &PeerKey, max: usize) -> Neighbours {
        let mut found = Neighbours::default();
        let after = self.peers.keys().filter(|peer| *peer > asker);
        let before = self.peers.keys().filter(|peer| *peer < asker);
        for peer in after.chain(before) {
            if found.peers.len() >= max {
                break;
            }
            let texts = self.book.addresses(peer).iter().filter_map(|address| Text::try_from(address.to_string()).ok());
            let Ok(addresses) = texts.collect::<Vec<_>>().try_into() else { continue };
            let neighbour = Neighbour { peer: *peer, addresses };
            if !neighbour.addresses.is_empty() && found.peers.push(neighbour).is_err() {
                break;
            }
        }
        found
    }

    fn on_neighbours(&mut self, teller: &PeerKey, neighbours: Neighbours) {
        let Some(from) = self.speaks_from(teller) else { return };
        for neighbour in &neighbours.peers {
            // Hearsay never replaces what a peer said of itself.
            if !self.book.is_new(&neighbour.peer) || address::peer_id(&neighbour.peer).is_none() {
                continue;
            }
            let parsed = neighbour.addresses.iter().filter_map(|text| text.parse().ok());
            let addresses = parsed.filter_map(|address| address::dialable(address, from));
            let peers = &self.peers;
            self.book.learn(neighbour.peer, addresses, |peer| peers.contains_key(peer), Instant::now());
        }
    }
}

/// The dial with the addresses that its name stands for; none if it cannot be found.
async fn look_up(dial: Dial, name: String) -> Dial {
    // The port is no part of a name's record; the multiaddress keeps its own.
    let found = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((name.as_str(), 0))).await;
    let ips: Vec<IpAddr> = match found {
        Ok(Ok(found)) => found.map(|socket| socket.ip()).take(ADDRESSES_PER_PEER_MAX).collect(),
        Ok(Err(error)) => {
            tracing::debug!(%name, %error, "a bootstrap peer's name was not found");
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    let addresses =
        dial.addresses.iter().flat_map(|address| ips.iter().filter_map(|ip| address::looked_up(address, *ip)));
    Dial { addresses: addresses.collect(), ..dial }
}
