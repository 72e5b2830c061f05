//! What the rest of the program holds of the network: a handle, events, replies.
//!
//! *Invariant:* every channel is bounded; every wait has a deadline.

use std::sync::Arc;
use std::time::Duration;

use cairn_protocol::codec::encode;
use cairn_protocol::limits::GOSSIP_BYTES_MAX;
use cairn_protocol::{Gossip, PeerKey, Request, Response, gate};
use libp2p::Multiaddr;
use libp2p::gossipsub::IdentTopic;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::NetError;
use crate::behaviour::topic;

/// Something that happened on the network.
// Most events are gossip: a box for each would cost more than the room in a bounded channel.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Event {
    /// A gossiped record that passed the stateless gate; it was forwarded already.
    Gossip {
        /// Who handed it to us; not who made it.
        from: PeerKey,
        /// The record.
        gossip: Gossip,
    },
    /// A peer asks.
    Asked {
        /// Who.
        from: PeerKey,
        /// What.
        request: Request,
        /// Takes the answer; dropping it refuses to answer.
        reply: Reply,
    },
    /// A peer connected: it can be asked, and gossip goes both ways from now on. What was gossiped
    /// before is had by asking.
    Connected(PeerKey),
    /// The last connection with a peer ended.
    Disconnected(PeerKey),
    /// We listen on this address, `/p2p/` included.
    Listening(String),
}

/// Events, in order.
pub type Events = mpsc::Receiver<Event>;

/// Takes the answer to one request. Late answers are dropped.
#[derive(Debug)]
pub struct Reply(pub(crate) oneshot::Sender<Response>);

impl Reply {
    /// Answers.
    pub fn send(self, response: Response) {
        // The asker may be gone by now.
        let _ = self.0.send(response);
    }
}

/// Why a request has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The peer is not connected.
    #[error("the peer is not connected")]
    NotConnected,
    /// The peer did not answer in time.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The connection ended, or the peer refused to answer.
    #[error("the peer did not answer")]
    Refused,
    /// The answer is no canonical response.
    #[error("the peer's answer is not a canonical response")]
    Malformed,
    /// The network was closed.
    #[error("the network is closed")]
    Closed,
}

/// What the handle asks of the network's task.
#[derive(Debug)]
pub(crate) enum Command {
    Publish { topic: IdentTopic, data: Vec<u8> },
    Ask { peer: PeerKey, request: Request, answer: oneshot::Sender<Result<Response, AskError>> },
    Dial(Multiaddr),
    Fault(PeerKey),
    Close(oneshot::Sender<()>),
}

/// Speaks to the network. Cheap to clone; the network closes with its last handle.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) me: PeerKey,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) peers: watch::Receiver<Vec<PeerKey>>,
    pub(crate) asking: Arc<Semaphore>,
    pub(crate) patience: Duration,
}

impl Handle {
    /// Our own key.
    pub fn me(&self) -> PeerKey {
        self.me
    }

    /// The peers that are connected now, in the order of their keys.
    pub fn peers(&self) -> Vec<PeerKey> {
        self.peers.borrow().clone()
    }

    /// Gossips a record to whoever follows its track. Without peers it waits a little for some; who
    /// comes later learns of it by asking.
    ///
    /// A record that peers would hold against us is not sent.
    pub async fn publish(&self, gossip: Gossip) {
        let data = encode(&gossip);
        if let Err(error) = gate::stateless(&gossip) {
            tracing::error!(kind = gossip.kind(), %error, "an own record is invalid and was not sent");
            return;
        }
        if data.len() > GOSSIP_BYTES_MAX {
            tracing::error!(kind = gossip.kind(), bytes = data.len(), "an own record is too long and was not sent");
            return;
        }
        let topic = topic(gossip.track(), gossip.channel());
        // A closed network gossips nothing.
        let _ = self.commands.send(Command::Publish { topic, data }).await;
    }

    /// Asks a connected peer.
    ///
    /// # Errors
    /// When there is no canonical response within the deadline.
    pub async fn ask(&self, peer: PeerKey, request: Request) -> Result<Response, AskError> {
        let exchange = async {
            let _turn = self.asking.acquire().await.map_err(|_| AskError::Closed)?;
            let (answer, answered) = oneshot::channel();
            let command = Command::Ask { peer, request, answer };
            self.commands.send(command).await.map_err(|_| AskError::Closed)?;
            answered.await.map_err(|_| AskError::Closed)?
        };
        tokio::time::timeout(self.patience, exchange).await.unwrap_or(Err(AskError::Timeout))
    }

    /// Keeps dialling a multiaddress, as if it had been a bootstrap address.
    ///
    /// # Errors
    /// When it is no multiaddress.
    pub async fn dial(&self, address: String) -> Result<(), NetError> {
        let parsed = address.parse().map_err(|_| NetError::Address(address))?;
        self.commands.send(Command::Dial(parsed)).await.map_err(|_| NetError::Closed)
    }

    /// Says goodbye and closes all connections; returns when that is done.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Close(done)).await.is_ok() {
            // Either word means that the task is over.
            let _ = closed.await;
        }
    }

    /// Holds against `peer` that it sent what cannot be right.
    pub(crate) async fn fault(&self, peer: PeerKey) {
        let _ = self.commands.send(Command::Fault(peer)).await;
    }
}
