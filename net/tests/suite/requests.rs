//! Requests are answered, refused or given up on; never more at once than the limits say.

use std::time::Duration;

use cairn_net::limits::SERVING_PER_PEER_MAX;
use cairn_net::{AskError, Event};
use cairn_protocol::{EntryId, Request, Response};
use tokio::sync::mpsc;

use crate::kit::*;

fn tip(height: u64) -> Response {
    Response::Tip { height, entry: EntryId([height as u8; 32]) }
}
/// Answers the next request.
async fn answer(peer: &mut Peer, response: Response) {
    let reply = peer.until(|event| if let Event::Asked { reply, .. } = event { Some(reply) } else { None }).await;
    reply.send(response);
}
const ASK: Request = Request::Tip { track: TRACK };

#[tokio::test]
async fn a_request_is_answered_in_both_directions() {
    for listen in [TCP, QUIC] {
        let mut a = Peer::start(config(1, &[listen], &[])).await;
        let mut b = Peer::silent(config(2, &[], &[&a.address]));
        a.connected(key(2)).await;
        b.connected(key(1)).await;
        let b = b.serve(|_| Some(tip(2)));
        assert_eq!(a.handle.ask(key(2), ASK).await, Ok(tip(2)));
        a.serve(|request| Some(if request == ASK { tip(1) } else { Response::NotFound }));
        assert_eq!(b.ask(key(1), ASK).await, Ok(tip(1)));
    }
}

#[tokio::test]
async fn a_dropped_reply_refuses_and_an_unknown_peer_is_not_connected() {
    let a = Peer::start(config(1, &[TCP], &[])).await;
    let mut b = Peer::silent(config(2, &[], &[&a.address]));
    b.connected(key(1)).await;
    let mut a = a;
    let (got, ()) =
        tokio::join!(b.handle.ask(key(1), ASK), a.until(|event| matches!(event, Event::Asked { .. }).then_some(())),);
    assert_eq!(got, Err(AskError::Refused));
    assert_eq!(b.handle.ask(key(3), ASK).await, Err(AskError::NotConnected));
    assert_eq!(b.handle.ask(key(2), ASK).await, Err(AskError::NotConnected));
    b.handle.close().await;
    assert_eq!(b.handle.ask(key(1), ASK).await, Err(AskError::Closed));
}

#[tokio::test]
async fn a_request_that_nobody_answers_is_given_up_at_the_deadline() {
    let mut a = Peer::start(config(1, &[TCP], &[])).await;
    let hurried = cairn_net::Config { request_timeout: Duration::from_millis(200), ..config(2, &[], &[&a.address]) };
    let mut b = Peer::silent(hurried);
    b.connected(key(1)).await;
    let (got, reply) = tokio::join!(
        b.handle.ask(key(1), ASK),
        a.until(|event| if let Event::Asked { reply, .. } = event { Some(reply) } else { None }),
    );
    assert_eq!(got, Err(AskError::Timeout));
    reply.send(tip(1));
    let (got, ()) = tokio::join!(b.handle.ask(key(1), ASK), answer(&mut a, tip(2)),);
    assert_eq!(got, Ok(tip(2)), "a late answer goes nowhere");
}

#[tokio::test]
async fn one_peer_cannot_keep_more_than_its_share_of_requests_open() {
    let mut a = Peer::start(config(1, &[TCP], &[])).await;
    let mut b = Peer::silent(config(2, &[], &[&a.address]));
    b.connected(key(1)).await;
    let extra = 8;
    let (answers, mut answered) = mpsc::unbounded_channel();
    for _ in 0..SERVING_PER_PEER_MAX + extra {
        let (handle, answers) = (b.handle.clone(), answers.clone());
        tokio::spawn(async move { answers.send(handle.ask(key(1), ASK).await).unwrap() });
    }
    let mut replies = Vec::new();
    while replies.len() < SERVING_PER_PEER_MAX {
        replies.push(a.until(|event| if let Event::Asked { reply, .. } = event { Some(reply) } else { None }).await);
    }
    // The others are told that we are busy, while all these are still open.
    for _ in 0..extra {
        assert_eq!(answered.recv().await.unwrap(), Ok(Response::Busy));
    }
    replies.into_iter().for_each(|reply| reply.send(tip(1)));
    for _ in 0..SERVING_PER_PEER_MAX {
        assert_eq!(answered.recv().await.unwrap(), Ok(tip(1)));
    }
    // The share is free again.
    let (got, ()) = tokio::join!(b.handle.ask(key(1), ASK), answer(&mut a, tip(2)),);
    assert_eq!(got, Ok(tip(2)));
}
