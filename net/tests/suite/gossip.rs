//! Gossip spreads from peer to peer.

use crate::kit::*;

/// A – B – C: A and C know B only, and do not listen where the other could dial.
async fn spreads_through_the_middle(listen: &str) {
    let mut b = Peer::start(config(2, &[listen], &[])).await;
    let via_b = [b.address.as_str()];
    let mut a = Peer::silent(config(1, &[], &via_b));
    let mut c = Peer::silent(config(3, &[], &via_b));
    // Published before anybody is connected: no error, and it arrives.
    a.handle.publish(idea(1)).await;
    assert_eq!(c.gossip().await, (key(2), idea(1)));
    assert_eq!(b.gossip().await, (key(1), idea(1)));
    c.handle.publish(large(2)).await;
    assert_eq!(a.gossip().await, (key(2), large(2)));
    assert_eq!(a.handle.peers(), [key(2)]);
    assert_eq!(b.handle.peers().len(), 2);
}

#[tokio::test]
async fn a_record_spreads_through_a_middle_peer_over_tcp() {
    spreads_through_the_middle(TCP).await;
}

#[tokio::test]
async fn a_record_spreads_through_a_middle_peer_over_quic() {
    spreads_through_the_middle(QUIC).await;
}

#[tokio::test]
async fn publishing_alone_is_no_error_and_waits_for_the_first_listener() {
    let mut a = Peer::start(config(1, &[TCP], &[])).await;
    for n in 0..3 {
        a.handle.publish(idea(n)).await;
    }
    let mut b = Peer::silent(config(2, &[], &[&a.address]));
    for n in 0..3 {
        assert_eq!(b.gossip().await, (key(1), idea(n)));
    }
    b.handle.publish(idea(3)).await;
    assert_eq!(a.gossip().await, (key(2), idea(3)));
}

#[tokio::test]
async fn large_records_in_quick_succession_all_arrive() {
    let mut a = Peer::start(config(1, &[TCP], &[])).await;
    let b = Peer::silent(config(2, &[], &[&a.address]));
    for n in 0..30 {
        b.handle.publish(large(n)).await;
    }
    let mut heard = Vec::new();
    for _ in 0..30 {
        heard.push(a.gossip().await.1);
    }
    heard.sort_by_key(|gossip| match gossip {
        cairn_protocol::Gossip::Reports(reports) => reports.body.batch,
        _ => u64::MAX,
    });
    assert_eq!(heard, (0..30).map(large).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_own_record_that_is_invalid_or_too_long_is_not_sent() {
    let a = Peer::start(config(1, &[TCP], &[])).await;
    let mut b = Peer::silent(config(2, &[], &[&a.address]));
    a.handle.publish(forged(1)).await;
    a.handle.publish(idea(2)).await;
    assert_eq!(b.gossip().await, (key(1), idea(2)), "the valid one is the first to come");
    assert_eq!(b.handle.peers(), [key(1)], "and nobody was banned");
}
