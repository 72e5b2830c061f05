//! Peers to test with.

use std::time::Duration;

use cairn_net::{Config, Event, Events, Handle, NetError, spawn};
use cairn_protocol::{
    AuthorSecret, BoundedVec, Gossip, Idea, PeerKey, PeerSecret, Report, ReportStatus, Reports, Request, Response,
    Signature, Signed, Text, TrackId,
};
use tokio::time::timeout;

/// Longer than anything here may take, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const TRACK: TrackId = TrackId([9; 32]);
pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

pub fn secret(n: u8) -> PeerSecret {
    PeerSecret::from_bytes(&[n; 32])
}
pub fn key(n: u8) -> PeerKey {
    secret(n).public()
}
pub fn config(n: u8, listen: &[&str], bootstrap: &[&str]) -> Config {
    Config {
        listen: listen.iter().map(ToString::to_string).collect(),
        bootstrap: bootstrap.iter().map(ToString::to_string).collect(),
        tracks: vec![TRACK],
        ..Config::new(secret(n))
    }
}

/// A running network and its events.
pub struct Peer {
    pub handle: Handle,
    pub events: Events,
    /// Where it listens.
    pub address: String,
}

impl Peer {
    /// Starts a peer that listens.
    pub async fn start(config: Config) -> Peer {
        Peer::silent(config).listening().await
    }

    /// Starts a peer at an address that the system may need a moment to take back.
    pub async fn restart(config: Config) -> Peer {
        let spawned = async {
            loop {
                match spawn(config.clone()) {
                    Ok((handle, events)) => break Peer { handle, events, address: String::new() },
                    Err(NetError::Listen { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        timeout(PATIENCE, spawned).await.expect("the address stays in use").listening().await
    }

    async fn listening(self) -> Peer {
        let mut peer = self;
        peer.address = peer
            .until(|event| match event {
                Event::Listening(address) => Some(address),
                _ => None,
            })
            .await;
        peer
    }

    /// Starts a peer that listens nowhere.
    pub fn silent(config: Config) -> Peer {
        let (handle, events) = spawn(config).unwrap();
        Peer { handle, events, address: String::new() }
    }

    /// Waits for the first event that `pick` takes; the others are dropped.
    pub async fn until<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("the network ended");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, wait).await.expect("it takes too long")
    }

    pub async fn connected(&mut self, who: PeerKey) {
        self.until(|event| matches!(event, Event::Connected(peer) if peer == who).then_some(())).await;
    }
    pub async fn disconnected(&mut self, who: PeerKey) {
        self.until(|event| matches!(event, Event::Disconnected(peer) if peer == who).then_some(())).await;
    }
    pub async fn gossip(&mut self) -> (PeerKey, Gossip) {
        self.until(|event| match event {
            Event::Gossip { from, gossip } => Some((from, gossip)),
            _ => None,
        })
        .await
    }

    /// Answers requests with `answer` until it gives none; then closes.
    pub fn serve(mut self, mut answer: impl FnMut(Request) -> Option<Response> + Send + 'static) -> Handle {
        let handle = self.handle.clone();
        tokio::spawn(async move {
            while let Some(event) = self.events.recv().await {
                if let Event::Asked { request, reply, .. } = event {
                    match answer(request) {
                        Some(response) => reply.send(response),
                        None => return self.handle.close().await,
                    }
                }
            }
        });
        handle
    }
}

/// A client that is connected to peers 1 to n, which answer with these functions.
pub async fn client_of(servers: Vec<Box<dyn FnMut(Request) -> Option<Response> + Send>>) -> Peer {
    let mut addresses = Vec::new();
    for (n, answer) in (1..).zip(servers) {
        let server = Peer::start(config(n, &[if n % 2 == 0 { QUIC } else { TCP }], &[])).await;
        addresses.push(server.address.clone());
        server.serve(answer);
    }
    let bootstrap: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut client = Peer::silent(config(100, &[], &bootstrap));
    for _ in &bootstrap {
        client.until(|event| matches!(event, Event::Connected(_)).then_some(())).await;
    }
    client
}

/// A valid record, another one for each number.
pub fn idea(n: u64) -> Gossip {
    let author = AuthorSecret::from_bytes(&[1; 32]);
    let body = Idea {
        track: TRACK,
        author: author.public(),
        title: Text::try_from(format!("idea {n}")).unwrap(),
        text: Text::default(),
        source: Text::default(),
    };
    Gossip::Idea(Signed::by_author(body, &author))
}

/// A record whose signature does not hold.
pub fn forged(n: u64) -> Gossip {
    let Gossip::Idea(signed) = idea(n) else { unreachable!() };
    Gossip::Idea(Signed { signature: Signature([7; 64]), ..signed })
}

/// A valid record close to the largest that may be gossiped.
pub fn large(n: u64) -> Gossip {
    let author = AuthorSecret::from_bytes(&[2; 32]);
    let report = Report {
        base: [1; 32].into(),
        graph: [2; 32].into(),
        summary: Text::try_from("x".repeat(96)).unwrap(),
        metric: 1,
        seed: n,
        status: ReportStatus::Done,
        proposer: Text::try_from("p".repeat(32)).unwrap(),
    };
    let results = BoundedVec::try_from(vec![report; 64]).unwrap();
    Gossip::Reports(Signed::by_author(Reports { track: TRACK, author: author.public(), batch: n, results }, &author))
}
