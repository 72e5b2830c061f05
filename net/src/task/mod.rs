//! The one task that owns the swarm: commands in, events out.
//!
//! `peers.rs` keeps connections, `traffic.rs` carries gossip and requests.
//!
//! *Invariant:* the loop never waits for the driver. What the driver is to know of connections is
//! the difference between what it was told and what is, so it survives a full channel; gossip and
//! requests do not, since both can be had again.

mod peers;
mod traffic;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use cairn_protocol::{PeerKey, Response};
use libp2p::futures::StreamExt;
use libp2p::futures::future::BoxFuture;
use libp2p::futures::stream::FuturesUnordered;
use libp2p::gossipsub::IdentTopic;
use libp2p::request_response::{OutboundRequestId, ResponseChannel};
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, Swarm};
use tokio::sync::{mpsc, oneshot, watch};

use crate::address;
use crate::behaviour::Behaviour;
use crate::book::{Book, Dial, EntryKey};
use crate::codec::Frame;
use crate::faults::{Consequence, Faults};
use crate::handle::{AskError, Command, Event};
use crate::limits::*;
use crate::rate::Bucket;

/// A connection.
struct Link {
    /// The address at its other end.
    remote: Multiaddr,
    /// Pings in a row without an answer.
    pings_lost: u32,
}

/// A connected peer.
struct Peer {
    since: Instant,
    connections: BTreeMap<ConnectionId, Link>,
    /// Whether its gossip reaches us and ours it, as far as we know: then the driver is told, so that
    /// what it asks for at that moment and what is gossiped from then on leave no gap.
    ready: bool,
    /// What it may still hand us.
    bucket: Bucket,
    /// When it is asked for its neighbours next, and how often it was.
    next_exchange: Instant,
    exchanges: usize,
}

/// A request that waits for the driver's reply.
struct Served {
    peer: PeerKey,
    channel: ResponseChannel<Frame<Response>>,
    response: Option<Response>,
}

/// An own record that waits for a listener.
struct Unsent {
    until: Instant,
    topic: IdentTopic,
    data: Vec<u8>,
}

pub(crate) struct Task {
    swarm: Swarm<Behaviour>,
    events: mpsc::Sender<Event>,
    peers_now: watch::Sender<Vec<PeerKey>>,
    request_timeout: Duration,
    book: Book,
    faults: Faults,
    peers: BTreeMap<PeerKey, Peer>,
    /// Peers that the driver believes connected.
    told: BTreeSet<PeerKey>,
    /// Listen addresses that the driver is still to be told.
    untold: VecDeque<String>,
    dialling: HashMap<ConnectionId, EntryKey>,
    asked: HashMap<OutboundRequestId, oneshot::Sender<Result<Response, AskError>>>,
    serving: FuturesUnordered<BoxFuture<'static, Served>>,
    serving_of: BTreeMap<PeerKey, usize>,
    outbox: VecDeque<Unsent>,
    /// Dials whose names are being looked up; at most one for each bootstrap address.
    looking_up: FuturesUnordered<BoxFuture<'static, Dial>>,
}

impl Task {
    pub(crate) fn new(
        swarm: Swarm<Behaviour>,
        me: PeerKey,
        events: mpsc::Sender<Event>,
        peers_now: watch::Sender<Vec<PeerKey>>,
        request_timeout: Duration,
    ) -> Self {
        Self {
            swarm,
            events,
            peers_now,
            request_timeout,
            book: Book::new(me),
            faults: Faults::default(),
            peers: BTreeMap::new(),
            told: BTreeSet::new(),
            untold: VecDeque::new(),
            dialling: HashMap::new(),
            asked: HashMap::new(),
            serving: FuturesUnordered::new(),
            serving_of: BTreeMap::new(),
            outbox: VecDeque::new(),
            looking_up: FuturesUnordered::new(),
        }
    }

    /// Runs until the network is closed or nobody holds its other ends.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Command>, bootstrap: Vec<Multiaddr>) {
        for address in bootstrap {
            self.add_bootstrap(address);
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let events = self.events.clone();
        let done = loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm(event),
                command = inbox.recv() => match command {
                    None => break None,
                    Some(Command::Close(done)) => break Some(done),
                    Some(command) => self.on_command(command),
                },
                Some(served) = self.serving.next(), if !self.serving.is_empty() => self.on_served(served),
                Some(dial) = self.looking_up.next(), if !self.looking_up.is_empty() => self.dial(dial),
                _ = tick.tick() => self.on_tick(),
                () = events.closed() => break None,
            }
        };
        self.say_goodbye().await;
        if let Some(done) = done {
            // Sockets first. Whoever closed the network may have stopped waiting.
            drop(self);
            let _ = done.send(());
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Publish { topic, data } => self.publish(topic, data),
            Command::Ask { peer, request, answer } => self.ask(peer, request, answer),
            Command::Dial(address) => self.add_bootstrap(address),
            Command::Fault(peer) => self.fault(peer, "an answer that cannot be right"),
            // Ends the loop before it comes here.
            Command::Close(_) => {}
        }
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        for peer in self.faults.expire(now) {
            self.unblock(&peer);
        }
        self.outbox.retain(|unsent| unsent.until > now);
        self.make_ready(now);
        self.dial_due(now);
        self.exchange_due(now);
        self.tell();
    }

    /// Tells the driver what it does not know yet of our connections; false if there is no room.
    fn tell(&mut self) -> bool {
        while let Some(address) = self.untold.pop_front() {
            if let Err(error) = self.events.try_send(Event::Listening(address)) {
                if let Event::Listening(address) = error.into_inner() {
                    self.untold.push_front(address);
                }
                return false;
            }
        }
        let gone = self.told.iter().filter(|peer| !self.peers.contains_key(peer)).map(|peer| (*peer, false));
        let ready = self.peers.iter().filter(|(_, peer)| peer.ready).map(|(peer, _)| peer);
        let come = ready.filter(|peer| !self.told.contains(peer)).map(|peer| (*peer, true));
        for (peer, connected) in gone.chain(come).collect::<Vec<_>>() {
            let event = if connected { Event::Connected(peer) } else { Event::Disconnected(peer) };
            if self.events.try_send(event).is_err() {
                return false;
            }
            if connected {
                self.told.insert(peer);
            } else {
                self.told.remove(&peer);
            }
        }
        true
    }

    /// Hands the driver an event, after all that it must know first; false if there is no room.
    fn hand_on(&mut self, event: Event) -> bool {
        self.tell() && self.events.try_send(event).is_ok()
    }

    /// Holds a fault against a peer.
    fn fault(&mut self, peer: PeerKey, what: &str) {
        tracing::debug!(%peer, what, "a peer's fault");
        if let Consequence::Banned { forgiven } = self.faults.fault(peer, Instant::now()) {
            tracing::info!(%peer, what, "a peer is banned for a while");
            if let Some(id) = address::peer_id(&peer) {
                self.swarm.behaviour_mut().blocked.block_peer(id);
            }
            if let Some(other) = forgiven {
                self.unblock(&other);
            }
        }
    }

    fn unblock(&mut self, peer: &PeerKey) {
        if let Some(id) = address::peer_id(peer) {
            self.swarm.behaviour_mut().blocked.unblock_peer(id);
        }
    }

    async fn say_goodbye(&mut self) {
        for id in self.swarm.connected_peers().copied().collect::<Vec<_>>() {
            // Only "not connected" can go wrong, which is what we want.
            let _ = self.swarm.disconnect_peer_id(id);
        }
        let swarm = &mut self.swarm;
        let closing = async {
            while swarm.connected_peers().next().is_some() {
                swarm.select_next_some().await;
            }
        };
        // A peer that does not hear us will notice by itself.
        let _ = tokio::time::timeout(GOODBYE, closing).await;
    }
}
