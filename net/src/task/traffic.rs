//! Gossip and requests: checked, handed on, answered.

use std::time::Instant;

use cairn_protocol::{PeerKey, Request, Response, gate};
use libp2p::gossipsub::{self, IdentTopic, Message, MessageAcceptance, MessageId, PublishError, TopicHash};
use libp2p::request_response::{self, InboundFailure, OutboundFailure, ResponseChannel};
use libp2p::{PeerId, futures::FutureExt};
use tokio::sync::oneshot;

use super::{Served, Task, Unsent};
use crate::address;
use crate::behaviour::topic;
use crate::codec::Frame;
use crate::handle::{AskError, Event, Reply};
use crate::limits::*;

impl Task {
    pub(super) fn publish(&mut self, topic: IdentTopic, data: Vec<u8>) {
        match self.swarm.behaviour_mut().gossip.publish(topic.clone(), data.clone()) {
            // "Duplicate": it went round a moment ago.
            Ok(_) | Err(PublishError::Duplicate) => {}
            Err(PublishError::NoPeersSubscribedToTopic) => {
                if self.outbox.len() >= OUTBOX_MAX {
                    self.outbox.pop_front();
                }
                self.outbox.push_back(Unsent { until: Instant::now() + OUTBOX_PATIENCE, topic, data });
            }
            Err(error) => tracing::warn!(%error, "an own record was not sent"),
        }
    }

    /// Sends what waited for a listener to this topic.
    fn publish_waiting(&mut self, listened: &TopicHash) {
        let (ready, waiting): (Vec<_>, Vec<_>) =
            self.outbox.drain(..).partition(|unsent| unsent.topic.hash() == *listened);
        self.outbox.extend(waiting);
        for unsent in ready {
            self.publish(unsent.topic, unsent.data);
        }
    }

    pub(super) fn on_gossip_event(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                self.on_gossip(propagation_source, &message_id, &message);
            }
            gossipsub::Event::Subscribed { peer_id, topic, .. } => {
                if let Some(peer) = address::peer_key(&peer_id) {
                    self.is_ready(&peer);
                }
                self.publish_waiting(&topic);
            }
            gossipsub::Event::SlowPeer { peer_id, .. } => tracing::debug!(%peer_id, "a peer is slow to take gossip"),
            _ => {}
        }
    }

    fn on_gossip(&mut self, source: PeerId, id: &MessageId, message: &Message) {
        let Some(peer) = address::peer_key(&source) else { return };
        let allowed = self.peers.get_mut(&peer).is_some_and(|known| known.bucket.take(Instant::now()));
        let checked = match gate::receive(&message.data) {
            _ if !allowed => None,
            Ok(gossip) if topic(gossip.track(), gossip.channel()).hash() == message.topic => Some(Ok(gossip)),
            Ok(_) => Some(Err("a record on a topic that is not its own".to_owned())),
            Err(error) => Some(Err(error.to_string())),
        };
        let acceptance = match &checked {
            None => MessageAcceptance::Ignore,
            Some(Ok(_)) => MessageAcceptance::Accept,
            Some(Err(_)) => MessageAcceptance::Reject,
        };
        // False where the message has left the cache meanwhile: then it is not forwarded.
        let _ = self.swarm.behaviour_mut().gossip.report_message_validation_result(id, &source, acceptance);
        match checked {
            None => tracing::debug!(%peer, "gossip above the peer's rate is ignored"),
            Some(Err(why)) => self.fault(peer, &why),
            Some(Ok(gossip)) => {
                if !self.hand_on(Event::Gossip { from: peer, gossip }) {
                    tracing::warn!("the driver is behind: a gossiped record was dropped");
                }
            }
        }
    }

    pub(super) fn ask(&mut self, peer: PeerKey, request: Request, answer: oneshot::Sender<Result<Response, AskError>>) {
        match address::peer_id(&peer).filter(|_| self.peers.contains_key(&peer)) {
            Some(id) => {
                let request = self.swarm.behaviour_mut().ask.send_request(&id, Ok(request));
                self.asked.insert(request, answer);
            }
            None => {
                // The asker may have stopped waiting.
                let _ = answer.send(Err(AskError::NotConnected));
            }
        }
    }

    pub(super) fn on_ask_event(&mut self, event: request_response::Event<Frame<Request>, Frame<Response>>) {
        use request_response::{Event, Message};
        match event {
            Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.on_request(peer, request, channel);
            }
            Event::Message { peer, message: Message::Response { request_id, response }, .. } => {
                if response.is_err()
                    && let Some(peer) = address::peer_key(&peer)
                {
                    self.fault(peer, "a response that is no record");
                }
                self.answered(request_id, response.map_err(|_| AskError::Malformed));
            }
            Event::OutboundFailure { request_id, error, .. } => {
                tracing::debug!(%error, "a request failed");
                let error = match error {
                    OutboundFailure::Timeout => AskError::Timeout,
                    OutboundFailure::DialFailure => AskError::NotConnected,
                    OutboundFailure::ConnectionClosed
                    | OutboundFailure::UnsupportedProtocols
                    | OutboundFailure::Io(_) => AskError::Refused,
                };
                self.answered(request_id, Err(error));
            }
            Event::InboundFailure { error: InboundFailure::Io(error), .. } => {
                tracing::debug!(%error, "a response was not sent");
            }
            Event::InboundFailure { .. } | Event::ResponseSent { .. } => {}
        }
    }

    fn answered(&mut self, request: request_response::OutboundRequestId, response: Result<Response, AskError>) {
        if let Some(answer) = self.asked.remove(&request) {
            // The asker may have stopped waiting.
            let _ = answer.send(response);
        }
    }

    fn on_request(&mut self, id: PeerId, request: Frame<Request>, channel: ResponseChannel<Frame<Response>>) {
        let Some(peer) = address::peer_key(&id) else { return };
        let request = match request {
            Ok(request) => request,
            Err(error) => return self.fault(peer, &error.to_string()),
        };
        // Whoever asks takes part.
        self.is_ready(&peer);
        let of_peer = self.serving_of.get(&peer).copied().unwrap_or_default();
        if of_peer >= SERVING_PER_PEER_MAX || self.serving.len() >= SERVING_MAX {
            return self.respond(channel, Response::Busy);
        }
        let (reply, replied) = oneshot::channel();
        if !self.hand_on(Event::Asked { from: peer, request, reply: Reply(reply) }) {
            return self.respond(channel, Response::Busy);
        }
        self.serving_of.insert(peer, of_peer + 1);
        let patience = self.request_timeout;
        let served = async move {
            let response = tokio::time::timeout(patience, replied).await.ok().and_then(Result::ok);
            Served { peer, channel, response }
        };
        self.serving.push(served.boxed());
    }

    pub(super) fn on_served(&mut self, Served { peer, channel, response }: Served) {
        if let Some(count) = self.serving_of.get_mut(&peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.serving_of.remove(&peer);
            }
        }
        // Without a response the channel is dropped, and the asker learns that it is refused.
        if let Some(response) = response {
            self.respond(channel, response);
        }
    }

    fn respond(&mut self, channel: ResponseChannel<Frame<Response>>, response: Response) {
        // The asker may be gone by now.
        let _ = self.swarm.behaviour_mut().ask.send_response(channel, Ok(response));
    }
}
