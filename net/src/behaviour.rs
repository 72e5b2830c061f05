//! The libp2p behaviours that this network is made of, and their settings.
//!
//! *Invariant:* limits come first: they can only deny. Gossip is anonymous, because its records
//! sign themselves, and goes nowhere before it is validated.

use std::collections::HashSet;
use std::time::Duration;

use cairn_protocol::ids::hash;
use cairn_protocol::limits::GOSSIP_BYTES_MAX;
use cairn_protocol::{AskNeighbours, Channel, Neighbours, Request, Response, TrackId};
use libp2p::gossipsub::{
    IdentTopic, IdentityTransform, MaxCountSubscriptionFilter, MessageAuthenticity, MessageId, TopicHash,
    ValidationMode, WhitelistSubscriptionFilter,
};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, allow_block_list, connection_limits, gossipsub, identify, noise, ping, tcp,
    yamux,
};

use crate::NetError;
use crate::codec::Frames;
use crate::limits::*;

/// Name and version of the whole: peers of another one are no peers.
pub(crate) const PROTOCOL: &str = "/cairn/1";
const GOSSIP: &str = "/cairn/1/gossip";
const ASK: StreamProtocol = StreamProtocol::new("/cairn/1/ask");
const NEIGHBOURS: StreamProtocol = StreamProtocol::new("/cairn/1/neighbours");

pub(crate) type Gossipsub = gossipsub::Behaviour<IdentityTransform, Filter>;
type Filter = MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>;

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(crate) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) gossip: Gossipsub,
    pub(crate) ask: request_response::Behaviour<Frames<Request, Response>>,
    pub(crate) neighbours: request_response::Behaviour<Frames<AskNeighbours, Neighbours>>,
}

/// The topic of a track's channel.
pub(crate) fn topic(track: TrackId, channel: Channel) -> IdentTopic {
    IdentTopic::new(format!("{PROTOCOL}/{track}/{}", channel.name()))
}

/// The topics of `tracks`.
pub(crate) fn topics(tracks: &[TrackId]) -> impl Iterator<Item = IdentTopic> {
    tracks.iter().flat_map(|track| Channel::ALL.map(|channel| topic(*track, channel)))
}

fn gossip(tracks: &[TrackId]) -> Result<Gossipsub, NetError> {
    let config = gossipsub::ConfigBuilder::default()
        .protocol_id_prefix(GOSSIP)
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        // The record's own id: the same record is the same message, whoever sends it.
        .message_id_fn(|message| MessageId::from(hash("gossip", &[&message.data]).to_vec()))
        .max_transmit_size(GOSSIP_BYTES_MAX + GOSSIP_FRAME_BYTES)
        .duplicate_cache_time(SEEN)
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_initial_delay(HEARTBEAT_DELAY)
        .mesh_n(MESH_WANTED)
        .mesh_n_low(MESH_LOW)
        .mesh_n_high(MESH_HIGH)
        .mesh_outbound_min(MESH_OUTGOING_MIN)
        // In a small network the publisher may be in nobody's mesh yet.
        .flood_publish(true)
        .connection_handler_queue_len(GOSSIP_QUEUE_MAX)
        .build()
        .map_err(|error| NetError::Setup(error.to_string()))?;
    let topics: HashSet<TopicHash> = topics(tracks).map(|topic| topic.hash()).collect();
    let filter = MaxCountSubscriptionFilter {
        filter: WhitelistSubscriptionFilter(topics),
        max_subscribed_topics: TOPICS_MAX,
        max_subscriptions_per_request: SUBSCRIPTIONS_PER_MESSAGE_MAX,
    };
    let mut gossip = Gossipsub::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter)
        .map_err(|error| NetError::Setup(error.to_owned()))?;
    for topic in self::topics(tracks) {
        gossip.subscribe(&topic).map_err(|error| NetError::Setup(error.to_string()))?;
    }
    Ok(gossip)
}

fn requests(timeout: Duration) -> request_response::Config {
    request_response::Config::default().with_request_timeout(timeout).with_max_concurrent_streams(REQUEST_STREAMS_MAX)
}

fn behaviour(key: &Keypair, tracks: &[TrackId], request_timeout: Duration) -> Result<Behaviour, NetError> {
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_INCOMING_MAX))
        .with_max_pending_outgoing(Some(PENDING_OUTGOING_MAX))
        .with_max_established_incoming(Some(INCOMING_MAX))
        .with_max_established_outgoing(Some(OUTGOING_MAX))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX));
    let identify = identify::Config::new(PROTOCOL.to_owned(), key.public())
        .with_agent_version(concat!("cairn/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_push_listen_addr_updates(true)
        .with_cache_size(0);
    Ok(Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        blocked: allow_block_list::Behaviour::default(),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT)),
        gossip: gossip(tracks)?,
        ask: request_response::Behaviour::new([(ASK, ProtocolSupport::Full)], requests(request_timeout)),
        neighbours: request_response::Behaviour::new([(NEIGHBOURS, ProtocolSupport::Full)], requests(request_timeout)),
    })
}

/// A swarm over TCP and QUIC that listens nowhere yet.
pub(crate) fn swarm(key: Keypair, tracks: &[TrackId], request_timeout: Duration) -> Result<Swarm<Behaviour>, NetError> {
    let setup = |error: &dyn std::fmt::Display| NetError::Setup(error.to_string());
    let swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|error| setup(&error))?
        .with_quic_config(|mut config| {
            config.max_idle_timeout = QUIC_SILENCE_MS;
            config.keep_alive_interval = QUIC_KEEP_ALIVE;
            config
        })
        .with_behaviour(|key| behaviour(key, tracks, request_timeout).map_err(Box::from))
        .map_err(|error| setup(&error))?
        .with_swarm_config(|config| {
            config.with_idle_connection_timeout(IDLE).with_max_negotiating_inbound_streams(NEGOTIATING_STREAMS_MAX)
        })
        .build();
    Ok(swarm)
}
