//! Connections: made, lost, looked for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use cairn_protocol::limits::NEIGHBOURS_MAX;
use cairn_protocol::{AskNeighbours, Neighbour, Neighbours, PeerKey, Text};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, ping, request_response};

use super::{Peer, Task};
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
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { connection, result: Err(error), .. })) => {
                tracing::debug!(%error, "a connection is dead");
                self.swarm.close_connection(connection);
            }
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
            connections: BTreeMap::new(),
            bucket: Bucket::new(now),
            next_exchange: now,
            exchanges: 0,
        });
        known.connections.insert(connection, remote);
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

    fn peers_changed(&mut self) {
        self.peers_now.send_replace(self.peers.keys().copied().collect());
        self.tell();
    }

    fn drop_peer(&mut self, id: PeerId) {
        // Only "not connected" can go wrong, which is what we want.
        let _ = self.swarm.disconnect_peer_id(id);
    }

    /// The IP address from which a connected peer speaks.
    fn speaks_from(&self, peer: &PeerKey) -> Option<IpAddr> {
        self.peers.get(peer)?.connections.values().find_map(address::ip)
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
            self.dial(dial);
        }
    }

    fn dial(&mut self, Dial { entry, peer, addresses }: Dial) {
        let options = match peer.as_ref().and_then(address::peer_id) {
            Some(id) => {
                let condition = PeerCondition::DisconnectedAndNotDialing;
                DialOpts::peer_id(id).condition(condition).addresses(addresses).build()
            }
            None => match addresses.into_iter().next() {
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
