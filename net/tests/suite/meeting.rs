//! Peers find each other, lose each other and find each other again.

use std::collections::BTreeSet;

use cairn_net::{Event, NetError, full_address, spawn};
use cairn_protocol::Gossip;

use crate::kit::*;

async fn comes_back(listen: &str) {
    let mut a = Peer::start(config(1, &[listen], &[])).await;
    let mut b = Peer::silent(config(2, &[], &[&a.address]));
    b.connected(key(1)).await;
    a.connected(key(2)).await;
    let address = a.address.split("/p2p/").next().unwrap().to_owned();
    a.handle.close().await;
    b.disconnected(key(1)).await;
    assert!(b.handle.peers().is_empty());
    // The same peer at the same address.
    let mut a = Peer::restart(config(1, &[&address], &[])).await;
    b.connected(key(1)).await;
    a.connected(key(2)).await;
    b.handle.publish(idea(1)).await;
    assert_eq!(a.gossip().await, (key(2), idea(1)));
}

#[tokio::test]
async fn a_restarted_peer_is_found_again_over_tcp() {
    comes_back(TCP).await;
}

#[tokio::test]
async fn a_restarted_peer_is_found_again_over_quic() {
    comes_back(QUIC).await;
}

#[tokio::test]
async fn a_bootstrap_peer_may_start_last_be_named_by_host_and_come_without_its_id() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let mut a = Peer::silent(config(1, &[], &[&format!("/dns4/localhost/tcp/{port}")]));
    drop(held);
    let mut b = Peer::start(config(2, &[&format!("/ip4/127.0.0.1/tcp/{port}")], &[])).await;
    a.connected(key(2)).await;
    b.connected(key(1)).await;
    assert_eq!(full_address(&format!("/ip4/127.0.0.1/tcp/{port}"), &key(2)).unwrap(), b.address);
}

#[tokio::test]
async fn an_address_that_another_peer_answers_at_is_not_the_named_peer() {
    let a = Peer::start(config(1, &[TCP], &[])).await;
    let bare = a.address.split("/p2p/").next().unwrap();
    let mut b = Peer::silent(config(2, &[], &[&full_address(bare, &key(3)).unwrap()]));
    b.handle.dial(a.address.clone()).await.unwrap();
    b.connected(key(1)).await;
    assert_eq!(b.handle.peers(), [key(1)], "reached under its own name only");
}

#[tokio::test]
async fn peers_of_peers_connect_and_outlive_the_one_that_introduced_them() {
    const PEERS: u8 = 20;
    let listen = [TCP, QUIC];
    let hub = Peer::start(config(1, &listen, &[])).await;
    let mut peers = Vec::new();
    for n in 2..=PEERS {
        // All behind one address, over either transport.
        peers.push(Peer::start(config(n, &[listen[usize::from(n % 2)]], &[&hub.address])).await);
    }
    // Each of them meets all others, and is left with them when the first one goes.
    for peer in &mut peers {
        let mut met = BTreeSet::new();
        while met.len() < usize::from(PEERS) - 1 {
            met.insert(peer.until(|event| if let Event::Connected(peer) = event { Some(peer) } else { None }).await);
        }
    }
    hub.handle.close().await;
    for peer in &mut peers {
        peer.disconnected(key(1)).await;
        assert_eq!(peer.handle.peers().len(), usize::from(PEERS) - 2);
    }
    for (n, peer) in (0..).zip(&peers) {
        peer.handle.publish(idea(n)).await;
    }
    let wanted: Vec<Gossip> = (0..peers.len() as u64).map(idea).collect();
    for (own, peer) in peers.iter_mut().enumerate() {
        let mut heard = Vec::new();
        while heard.len() < wanted.len() - 1 {
            heard.push(peer.gossip().await.1);
        }
        for (n, gossip) in wanted.iter().enumerate() {
            let times = heard.iter().filter(|other| *other == gossip).count();
            assert_eq!(times, usize::from(n != own), "peer {own} hears record {n}");
        }
    }
}

#[tokio::test]
async fn a_network_that_is_dropped_ends_and_frees_its_port() {
    let a = Peer::start(config(1, &[TCP], &[])).await;
    let address = a.address.split("/p2p/").next().unwrap().to_owned();
    let error = spawn(config(2, &[&address], &[])).map(|_| ()).unwrap_err();
    assert!(matches!(&error, NetError::Listen { address: at, .. } if *at == address), "{error}");
    let mut b = Peer::silent(config(3, &[], &[&a.address]));
    b.connected(key(1)).await;
    drop(a);
    b.disconnected(key(1)).await;
    Peer::restart(config(4, &[&address], &[])).await;
}

#[tokio::test]
async fn what_is_no_address_is_refused_by_name() {
    for (listen, bootstrap) in [(&["nonsense"][..], &[][..]), (&[][..], &["127.0.0.1:80"][..])] {
        let error = spawn(config(1, listen, bootstrap)).map(|_| ()).unwrap_err();
        assert!(matches!(error, NetError::Address(_)), "{error}");
    }
    let a = Peer::silent(config(1, &[], &[]));
    assert!(matches!(a.handle.dial("x".to_owned()).await, Err(NetError::Address(_))));
    let crowd = vec!["/ip4/127.0.0.1/tcp/1"; 100];
    assert!(matches!(spawn(config(1, &crowd, &[])), Err(NetError::TooMany { got: 100, .. })));
}
