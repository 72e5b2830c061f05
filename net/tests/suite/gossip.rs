//! Gossip spreads, and only what is valid.

use crate::kit::*;

/// A – B – C: A and C know B only, and do not listen where the other could dial.
async fn spreads_through_the_middle(listen: &str) {
    let mut b = Peer::start(config(2, &[listen], &[])).await;
    let via_b = [b.address.as_str()];
    let mut a = Peer { ..spawned(config(1, &[], &via_b)) };
    let mut c = Peer { ..spawned(config(3, &[], &via_b)) };
    // Published before anybody is connected: no error, and it arrives.
    a.handle.publish(idea(1)).await;
    assert_eq!(c.gossip().await, (key(2), idea(1)));
    assert_eq!(b.gossip().await, (key(1), idea(1)));
    c.handle.publish(large(2)).await;
    assert_eq!(a.gossip().await, (key(2), large(2)));
    assert_eq!(a.handle.peers(), [key(2)]);
    assert_eq!(b.handle.peers().len(), 2);
}

fn spawned(config: cairn_net::Config) -> Peer {
    let (handle, events) = cairn_net::spawn(config).unwrap();
    Peer { handle, events, address: String::new() }
}

#[tokio::test]
async fn a_record_spreads_through_a_middle_peer_over_tcp() {
    spreads_through_the_middle(TCP).await;
}

#[tokio::test]
async fn a_record_spreads_through_a_middle_peer_over_quic() {
    spreads_through_the_middle(QUIC).await;
}
