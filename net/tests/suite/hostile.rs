//! A peer that speaks the protocols and lies, against honest ones.

use std::io;
use std::time::{Duration, Instant};

use cairn_net::AskError;
use cairn_net::limits::{FAULTS_BEFORE_BAN, GOSSIP_BURST, GOSSIP_PER_SECOND};
use cairn_protocol::limits::{GOSSIP_BYTES_MAX, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX};
use cairn_protocol::{Channel, EntryId, Request, Response, Wire, encode};
use libp2p::futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::gossipsub::{IdentTopic, MessageAuthenticity, PublishError, ValidationMode};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder, gossipsub, identify, noise, ping, tcp, yamux};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::kit::*;

/// Writes bytes as they are, and reads frames without a look at them.
#[derive(Clone, Default)]
struct Raw;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut len = [0; 4];
        io.read_exact(&mut len).await?;
        let mut bytes = vec![0; u32::from_be_bytes(len) as usize];
        io.read_exact(&mut bytes).await?;
        Ok(bytes)
    }
    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io.take(1024).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }
    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await?;
        io.flush().await
    }
    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await?;
        io.flush().await
    }
}

#[derive(NetworkBehaviour)]
struct Hostile {
    gossip: gossipsub::Behaviour,
    ask: request_response::Behaviour<Raw>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

fn topic(channel: Channel) -> IdentTopic {
    IdentTopic::new(format!("/cairn/1/{TRACK}/{}", channel.name()))
}

fn hostile(n: u8) -> Swarm<Hostile> {
    let key = libp2p::identity::Keypair::ed25519_from_bytes(secret(n).to_bytes()).unwrap();
    SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| {
            let config = gossipsub::ConfigBuilder::default()
                .protocol_id_prefix("/cairn/1/gossip")
                .validation_mode(ValidationMode::Anonymous)
                .message_id_fn(|message| message.data.clone().into())
                .max_transmit_size(1 << 20)
                .build()
                .unwrap();
            let mut gossip: gossipsub::Behaviour =
                gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config).unwrap();
            Channel::ALL.into_iter().for_each(|channel| assert!(gossip.subscribe(&topic(channel)).unwrap()));
            let ask = [(StreamProtocol::new("/cairn/1/ask"), ProtocolSupport::Full)];
            Hostile {
                gossip,
                ask: request_response::Behaviour::new(ask, request_response::Config::default()),
                identify: identify::Behaviour::new(identify::Config::new("/cairn/1".to_owned(), key.public())),
                ping: ping::Behaviour::default(),
            }
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build()
}

async fn until<T>(swarm: &mut Swarm<Hostile>, mut pick: impl FnMut(SwarmEvent<HostileEvent>) -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = pick(swarm.select_next_some().await) {
                return found;
            }
        }
    };
    timeout(PATIENCE, wait).await.expect("it takes too long")
}

async fn dial(swarm: &mut Swarm<Hostile>, address: &str) {
    swarm.dial(address.parse::<Multiaddr>().unwrap()).unwrap();
    until(swarm, |event| matches!(event, SwarmEvent::ConnectionEstablished { .. }).then_some(())).await;
}

/// Publishes, as soon as somebody listens.
async fn publish(swarm: &mut Swarm<Hostile>, channel: Channel, data: Vec<u8>) {
    loop {
        match swarm.behaviour_mut().gossip.publish(topic(channel), data.clone()) {
            Err(PublishError::NoPeersSubscribedToTopic) => {
                until(swarm, |event| {
                    matches!(event, SwarmEvent::Behaviour(HostileEvent::Gossip(gossipsub::Event::Subscribed { .. })))
                        .then_some(())
                })
                .await;
            }
            done => break drop(done.unwrap()),
        }
    }
}

/// Runs the swarm until the other side ends the connection.
async fn until_dropped(swarm: &mut Swarm<Hostile>) {
    until(swarm, |event| matches!(event, SwarmEvent::ConnectionClosed { num_established: 0, .. }).then_some(())).await;
}

/// Runs the swarm beside the test.
fn run(mut swarm: Swarm<Hostile>) {
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

/// Messages that no honest peer sends.
fn invalid_gossip() -> Vec<(Channel, Vec<u8>)> {
    let good = encode(&idea(1));
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    vec![
        (Channel::Reports, encode(&forged(1))),
        (Channel::Reports, flipped),
        (Channel::Reports, [good.as_slice(), &[0]].concat()),
        (Channel::Reports, vec![0xff; 100]),
        (Channel::Reports, Vec::new()),
        // Valid, on the wrong channel.
        (Channel::Work, good),
        (Channel::Chain, vec![7; GOSSIP_BYTES_MAX + 1]),
    ]
}

#[tokio::test]
async fn invalid_records_are_not_forwarded_and_their_sender_is_banned() {
    let mut b = Peer::start(config(2, &[TCP], &[])).await;
    let mut c = Peer::silent(config(3, &[], &[&b.address]));
    c.connected(key(2)).await;
    for (n, (channel, data)) in (10..).zip(invalid_gossip()) {
        let mut a = hostile(n);
        dial(&mut a, &b.address).await;
        b.connected(key(n)).await;
        for i in 0..FAULTS_BEFORE_BAN as usize {
            // Each time another message, so that none is a duplicate.
            let mut data = data.clone();
            match channel {
                Channel::Work => data = encode(&idea(100 * u64::from(n) + i as u64)),
                _ if data.is_empty() => data = vec![0; i],
                _ => data[8] ^= i as u8,
            }
            publish(&mut a, channel, data).await;
        }
        until_dropped(&mut a).await;
        b.disconnected(key(n)).await;
        // It may come back when the ban is over, not before.
        dial(&mut a, &b.address).await;
        until_dropped(&mut a).await;
        assert!(!b.handle.peers().contains(&key(n)));
    }
    b.handle.publish(idea(5)).await;
    assert_eq!(c.gossip().await, (key(2), idea(5)), "the first record that C ever hears");
    assert_eq!(b.handle.peers(), [key(3)]);
}

#[tokio::test]
async fn a_gossip_message_above_the_limit_harms_nobody_else() {
    let mut b = Peer::start(config(2, &[TCP], &[])).await;
    let mut c = Peer::silent(config(3, &[], &[&b.address]));
    c.connected(key(2)).await;
    let mut a = hostile(10);
    dial(&mut a, &b.address).await;
    publish(&mut a, Channel::Reports, vec![0; 500_000]).await;
    run(a);
    c.handle.publish(large(1)).await;
    assert_eq!(b.gossip().await, (key(3), large(1)));
    b.handle.publish(large(2)).await;
    assert_eq!(c.gossip().await, (key(2), large(2)));
}

#[tokio::test]
async fn garbage_requests_ban_their_sender_and_kill_nobody() {
    let tip = Response::Tip { height: 1, entry: EntryId([1; 32]) };
    let mut b = Peer::start(config(2, &[TCP], &[])).await;
    let mut c = Peer::silent(config(3, &[], &[&b.address]));
    c.connected(key(2)).await;
    let good = encode(&Request::Tip { track: TRACK });
    let faults = [
        u32::MAX.to_be_bytes().to_vec(),
        (REQUEST_BYTES_MAX as u32 + 1).to_be_bytes().to_vec(),
        frame(&[0xff; 64]),
        frame(&[]),
        frame(&[good.as_slice(), &[0]].concat()),
    ];
    // A line that is cut is no fault: it may be the network's.
    let cut = frame(&good)[..20].to_vec();
    for (n, bytes) in (10..).zip(faults) {
        let mut a = hostile(n);
        dial(&mut a, &b.address).await;
        b.connected(key(n)).await;
        let id = *a.connected_peers().next().unwrap();
        for bytes in std::iter::once(&cut).chain(std::iter::repeat_n(&bytes, FAULTS_BEFORE_BAN as usize)) {
            a.behaviour_mut().ask.send_request(&id, bytes.clone());
        }
        until_dropped(&mut a).await;
        b.disconnected(key(n)).await;
    }
    b.serve({
        let tip = tip.clone();
        move |_| Some(tip.clone())
    });
    assert_eq!(c.handle.ask(key(2), Request::Tip { track: TRACK }).await, Ok(tip));
}

#[tokio::test]
async fn garbage_responses_are_errors_and_ban_their_sender() {
    let valid = encode(&Response::NotFound);
    let cases = [
        (vec![0xff; 8], AskError::Malformed),
        (u32::MAX.to_be_bytes().to_vec(), AskError::Malformed),
        (frame(&[0xff; 64]), AskError::Malformed),
        (frame(&[valid.as_slice(), &[1]].concat()), AskError::Malformed),
        ((RESPONSE_BYTES_MAX as u32).to_be_bytes().to_vec(), AskError::Refused),
    ];
    assert_eq!(Response::BYTES_MAX, RESPONSE_BYTES_MAX);
    for (n, (bytes, want)) in (10..).zip(cases) {
        let mut b = Peer::start(config(2, &[TCP], &[])).await;
        let mut a = hostile(n);
        dial(&mut a, &b.address).await;
        b.connected(key(n)).await;
        let (asked, mut heard) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let event = a.select_next_some().await;
                if let SwarmEvent::Behaviour(HostileEvent::Ask(request_response::Event::Message {
                    message: request_response::Message::Request { channel, .. },
                    ..
                })) = event
                {
                    a.behaviour_mut().ask.send_response(channel, bytes.clone()).unwrap();
                    asked.send(()).await.unwrap();
                }
            }
        });
        let faults = if want == AskError::Malformed { FAULTS_BEFORE_BAN } else { 1 };
        for _ in 0..faults {
            let got = b.handle.ask(key(n), Request::Tip { track: TRACK }).await;
            assert_eq!(got, Err(want));
            heard.recv().await.unwrap();
        }
        if want == AskError::Malformed {
            b.disconnected(key(n)).await;
        }
    }
}

#[tokio::test]
async fn a_peer_of_another_network_is_dropped() {
    let b = Peer::start(config(2, &[TCP], &[])).await;
    let mut a = hostile(10);
    a.behaviour_mut().identify =
        identify::Behaviour::new(identify::Config::new("/other/1".to_owned(), a_key(10).public()));
    dial(&mut a, &b.address).await;
    until_dropped(&mut a).await;
    let gone = async {
        while !b.handle.peers().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("it stays");
}

fn a_key(n: u8) -> libp2p::identity::Keypair {
    libp2p::identity::Keypair::ed25519_from_bytes(secret(n).to_bytes()).unwrap()
}

#[tokio::test]
async fn a_flood_of_valid_records_is_cut_to_the_peers_rate() {
    const FLOOD: u32 = 3_000;
    let mut b = Peer::start(config(2, &[TCP], &[])).await;
    let address = b.address.clone();
    let begun = Instant::now();
    // All the while, what comes through is taken and counted.
    let (marker, end) = (large(1), large(1));
    let counting = tokio::spawn(async move {
        let mut flooded = 0;
        while b.gossip().await.1 != end {
            flooded += 1;
        }
        flooded
    });
    let mut a = hostile(10);
    dial(&mut a, &address).await;
    for n in 0..FLOOD {
        publish(&mut a, Channel::Reports, encode(&idea(u64::from(n)))).await;
        if n % 50 == 0 {
            // Lets the swarm send.
            let _ = timeout(Duration::from_millis(1), a.select_next_some()).await;
        }
    }
    run(a);
    let mut c = Peer::silent(config(3, &[], &[&address]));
    c.connected(key(2)).await;
    c.handle.publish(marker).await;
    // The honest record comes through; of the flood, the burst and what the time allowed.
    let flooded: u32 = counting.await.unwrap();
    let seconds = u32::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!(flooded <= GOSSIP_BURST + GOSSIP_PER_SECOND * seconds, "{flooded} records in {seconds} s");
}
