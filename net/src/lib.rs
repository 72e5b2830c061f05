//! The peer-to-peer layer: gossip, requests, blobs. The only crate that knows libp2p.
//!
//! [`spawn`] starts it; a [`Handle`] speaks to it; [`Event`]s come from it; [`fetch`] asks peers for
//! what one wants to have and checks what they say. Start reading at `task.rs`.
//!
//! *Invariant:* whatever a peer sends, nothing here panics, grows without limit or waits for ever;
//! only records that pass `gate::stateless` are forwarded or handed on.

use std::sync::Arc;
use std::time::Duration;

use cairn_protocol::{PeerKey, PeerSecret, TrackId};
use libp2p::Multiaddr;
use tokio::sync::{Semaphore, mpsc, watch};

mod address;
mod behaviour;
mod book;
mod codec;
mod faults;
pub mod fetch;
pub mod follow;
mod handle;
pub mod limits;
mod rate;
mod task;

pub use handle::{AskError, Event, Events, Handle, Reply};

use limits::*;

/// What a network is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The peer's secret: its address in the network.
    pub secret: PeerSecret,
    /// Multiaddresses to listen on, such as `/ip4/0.0.0.0/tcp/0` and `/ip4/0.0.0.0/udp/0/quic-v1`.
    pub listen: Vec<String>,
    /// Multiaddresses of peers to begin with; `/p2p/ID` at the end names the peer that must answer.
    pub bootstrap: Vec<String>,
    /// The tracks whose gossip is followed.
    pub tracks: Vec<TrackId>,
    /// Time for one exchange of request and response, [`REQUEST_TIMEOUT`] unless there is a reason.
    pub request_timeout: Duration,
}

impl Config {
    /// A network that listens nowhere and follows nothing, to be filled in.
    pub fn new(secret: PeerSecret) -> Self {
        Self { secret, listen: Vec::new(), bootstrap: Vec::new(), tracks: Vec::new(), request_timeout: REQUEST_TIMEOUT }
    }
}

/// Why the network does not start or does not do something.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Not a multiaddress.
    #[error("`{0}` is not a multiaddress; one looks like /ip4/1.2.3.4/tcp/4001 or /ip4/1.2.3.4/udp/4001/quic-v1")]
    Address(String),
    /// Cannot listen.
    #[error("cannot listen on {address}: {why}; is the port in use by another process?")]
    Listen {
        /// Where.
        address: String,
        /// What the system says.
        why: String,
    },
    /// Too many of something in the configuration.
    #[error("{got} {what}, at most {max} are possible")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        got: usize,
        /// How many are possible.
        max: usize,
    },
    /// The parts of the network do not fit together.
    #[error("cannot set up the network: {0}")]
    Setup(String),
    /// The network was closed.
    #[error("the network is closed")]
    Closed,
}

/// The public address of the peer with this key at `address`: `address/p2p/ID`.
///
/// # Errors
/// When `address` is no multiaddress or the key is no point of the curve.
pub fn full_address(address: &str, peer: &PeerKey) -> Result<String, NetError> {
    let bad = || NetError::Address(address.to_owned());
    let parsed: Multiaddr = address.parse().map_err(|_| bad())?;
    let id = address::peer_id(peer).ok_or_else(bad)?;
    Ok(parsed.with(libp2p::multiaddr::Protocol::P2p(id)).to_string())
}

fn at_most(what: &'static str, got: usize, max: usize) -> Result<(), NetError> {
    if got > max { Err(NetError::TooMany { what, got, max }) } else { Ok(()) }
}

/// Whether nobody listens on a TCP address yet.
///
/// libp2p shares its ports, so that two nodes on one port would silently take turns.
fn port_is_free(address: &Multiaddr) -> std::io::Result<()> {
    match (address::ip(address), address.iter().nth(1)) {
        (Some(ip), Some(libp2p::multiaddr::Protocol::Tcp(port))) if port != 0 => {
            std::net::TcpListener::bind((ip, port)).map(drop)
        }
        _ => Ok(()),
    }
}

/// Starts the network on the current tokio runtime.
///
/// It ends when it is closed, when the last handle is dropped, or when the events are dropped.
///
/// # Errors
/// When an address is malformed or cannot be listened on.
pub fn spawn(config: Config) -> Result<(Handle, Events), NetError> {
    at_most("tracks", config.tracks.len(), TRACKS_MAX)?;
    at_most("listen addresses", config.listen.len(), LISTEN_MAX)?;
    at_most("bootstrap addresses", config.bootstrap.len(), BOOTSTRAP_MAX)?;
    let parse = |address: &String| address.parse::<Multiaddr>().map_err(|_| NetError::Address(address.clone()));
    let bootstrap = config.bootstrap.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let keys = address::keypair(&config.secret).map_err(|error| NetError::Setup(error.to_string()))?;
    let mut swarm = behaviour::swarm(keys, &config.tracks, config.request_timeout)?;
    for address in &config.listen {
        let parsed = parse(address)?;
        let failed = |why: String| NetError::Listen { address: address.clone(), why };
        port_is_free(&parsed).map_err(|error| failed(error.to_string()))?;
        swarm.listen_on(parsed).map_err(|error| failed(error.to_string()))?;
    }

    let me = config.secret.public();
    let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
    let (events, outbox) = mpsc::channel(EVENTS_MAX);
    let (peers_now, peers) = watch::channel(Vec::new());
    let task = task::Task::new(swarm, me, events, peers_now, config.request_timeout);
    tokio::spawn(task.run(inbox, bootstrap));
    let asking = Arc::new(Semaphore::new(ASKING_MAX));
    Ok((Handle { me, commands, peers, asking, patience: config.request_timeout + REQUEST_GRACE }, outbox))
}
