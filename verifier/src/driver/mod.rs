//! The verifier's thin driver: sockets, disk, clock and job processes around the pure machine.
//!
//! Start at [`run`]. One loop owns store and machine; what takes time (exchanges with peers, jobs)
//! happens beside it and comes back as messages.
//!
//! *Invariant:* outputs are performed in order, and a record is on the disk before it is published: a
//! store that fails ends the verifier.

mod jobs;
mod judge;
mod memory;
mod prepare;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cairn_net::NetError;
use cairn_net::follow::{Followed, Follower};
use cairn_protocol::{Gossip, PeerSecret, Request, Response, TrackId, VerifierSecret};
use cairn_store::Store;
use tokio::sync::{mpsc, watch};

use crate::machine::{Event, Input, Machine, Output};
use jobs::Jobs;
use prepare::{Ready, prepare};

/// Interval of the machine's ticks.
const TICK: Duration = Duration::from_millis(250);
/// Messages of jobs that wait for the loop; more make them wait.
const INBOX_MAX: usize = 256;
/// Events that wait for a slow listener; beyond them the oldest is dropped.
const TOLD_MAX: usize = 4096;
/// How long the network may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

/// What a verifier is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Home directory: store and blobs.
    pub home: PathBuf,
    /// The binary that is executed again as `job`.
    pub exe: PathBuf,
    /// The track.
    pub track: TrackId,
    /// Key of the verifier's seat.
    pub secret: VerifierSecret,
    /// Key of the peer.
    pub peer: PeerSecret,
    /// Multiaddresses to listen on.
    pub listen: Vec<String>,
    /// Multiaddresses of peers to begin with.
    pub bootstrap: Vec<String>,
    /// Threads of a replay.
    pub threads: u16,
}

/// What a running verifier tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It listens on this address.
    Listening(String),
    /// So many peers are connected now.
    Peers(usize),
    /// What its machine tells.
    Machine(Event),
    /// Something went wrong and will be tried again.
    Trouble(String),
}

/// Why a verifier ends before it is stopped.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The home's store.
    #[error(transparent)]
    Store(#[from] cairn_store::Error),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The track's data could not be taken over.
    #[error(transparent)]
    Fetch(#[from] cairn_net::fetch::FetchError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// A bug.
    #[error("the driver ended unexpectedly: {0}")]
    Ended(String),
}

/// What jobs tell the loop.
#[derive(Debug)]
enum Message {
    /// For the machine.
    Input(Box<Input>),
    /// For people.
    Trouble(String),
}

/// Runs a verifier until `stop` is true or dropped. Ends within two seconds after that.
///
/// # Errors
/// The home cannot be opened or written, or the network cannot listen.
pub async fn run(config: Config, events: mpsc::Sender<Told>, stop: watch::Receiver<bool>) -> Result<(), DriverError> {
    let runtime = tokio::runtime::Handle::current();
    // On a thread of its own, so that waiting for the disk holds up nobody else.
    let driver = tokio::task::spawn_blocking(move || runtime.block_on(drive(config, Tell::new(events), stop)));
    driver.await.map_err(|error| DriverError::Ended(error.to_string()))?
}

async fn drive(config: Config, mut tell: Tell, mut stop: watch::Receiver<bool>) -> Result<(), DriverError> {
    let mut store = Store::open(&config.home)?;
    let mut net = cairn_net::Config::new(config.peer.clone());
    (net.listen, net.bootstrap, net.tracks) = (config.listen.clone(), config.bootstrap.clone(), vec![config.track]);
    let (handle, mut heard) = cairn_net::spawn(net)?;
    let ready = tokio::select! {
        ready = prepare(config.track, &config.home, &mut store, &handle, &mut heard, &mut tell) => ready?,
        () = stopped(&mut stop) => None,
    };
    let result = match ready {
        Some(ready) => Driver::new(config, store, handle.clone(), ready, tell)?.run(heard, &mut stop).await,
        None => Ok(()),
    };
    // Peers notice a lost connection as well.
    let _ = tokio::time::timeout(GOODBYE, handle.close()).await;
    result
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone cannot stop us any more: that is a stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Tells events without ever waiting for the listener.
struct Tell {
    events: mpsc::Sender<Told>,
    waiting: VecDeque<Told>,
    peers: Option<usize>,
}

impl Tell {
    fn new(events: mpsc::Sender<Told>) -> Self {
        Self { events, waiting: VecDeque::new(), peers: None }
    }

    fn tell(&mut self, told: Told) {
        if self.waiting.len() >= TOLD_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(told);
        self.flush();
    }

    /// Tells how many peers are connected, where that changed.
    fn peers(&mut self, connected: usize) {
        if self.peers.replace(connected) != Some(connected) {
            self.tell(Told::Peers(connected));
        }
    }

    fn flush(&mut self) {
        while let Some(told) = self.waiting.pop_front() {
            match self.events.try_send(told) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(told)) => return self.waiting.push_front(told),
                Err(mpsc::error::TrySendError::Closed(_)) => return self.waiting.clear(),
            }
        }
    }
}

/// Milliseconds since 1970 that never go back while the process lives.
struct Clock {
    started: Instant,
    started_ms: u64,
}

impl Clock {
    fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_ms: u64::try_from(since.as_millis()).unwrap_or(0) }
    }

    fn now_ms(&self) -> u64 {
        self.started_ms.saturating_add(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

struct Driver {
    track: TrackId,
    store: Store,
    machine: Machine,
    clock: Clock,
    tell: Tell,
    peers: Follower,
    jobs: Jobs,
    inbox: mpsc::Receiver<Message>,
    /// Inputs that performing an output gave rise to.
    next: VecDeque<Input>,
    pending: memory::Pending,
}

impl Driver {
    fn new(
        config: Config,
        store: Store,
        handle: cairn_net::Handle,
        ready: Ready,
        tell: Tell,
    ) -> Result<Self, DriverError> {
        let clock = Clock::new();
        let (outbox, inbox) = mpsc::channel(INBOX_MAX);
        let jobs = Jobs::start(&config, &ready, outbox).map_err(DriverError::Thread)?;
        let mut store = store;
        let machine = memory::restore(&mut store, config.track, config.secret.clone(), clock.now_ms())?;
        let peers = Follower::new(handle, config.track);
        let pending = memory::Pending::default();
        let next = VecDeque::new();
        Ok(Self { track: config.track, store, machine, clock, tell, peers, jobs, inbox, next, pending })
    }

    async fn run(mut self, mut heard: cairn_net::Events, stop: &mut watch::Receiver<bool>) -> Result<(), DriverError> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.tell.peers(self.peers.count());
        let result = loop {
            let step = tokio::select! {
                () = stopped(stop) => break Ok(()),
                event = heard.recv() => match event {
                    Some(event) => self.network(event),
                    None => break Err(DriverError::Net(NetError::Closed)),
                },
                followed = self.peers.next() => match followed {
                    Followed::Heard(gossip) => self.step(Input::Gossip(*gossip)),
                    Followed::Body(_, Some(body)) => self.step(Input::Commit(body)),
                    Followed::Body(_, None) => Ok(()),
                },
                message = self.inbox.recv() => match message {
                    Some(message) => self.message(message),
                    None => Ok(()),
                },
                _ = ticks.tick() => self.tick(),
            };
            if let Err(error) = step {
                break Err(error);
            }
        };
        self.jobs.stop();
        result
    }

    fn network(&mut self, event: cairn_net::Event) -> Result<(), DriverError> {
        match event {
            cairn_net::Event::Gossip { gossip, .. } => self.step(Input::Gossip(gossip)),
            cairn_net::Event::Asked { request, reply, .. } => {
                reply.send(self.answer(&request));
                Ok(())
            }
            cairn_net::Event::Connected(peer) => {
                self.tell.peers(self.peers.count());
                self.peers.catch_up(peer, self.machine.chain().height());
                Ok(())
            }
            cairn_net::Event::Disconnected(_) => {
                self.tell.peers(self.peers.count());
                Ok(())
            }
            cairn_net::Event::Listening(address) => {
                self.tell.tell(Told::Listening(address));
                Ok(())
            }
        }
    }

    fn answer(&mut self, request: &Request) -> Response {
        if let Request::Pending { track, after } = request
            && *track == self.track
        {
            return self.pending.page(&self.machine, *after);
        }
        self.store.answer(request).unwrap_or_else(|error| {
            self.tell.tell(Told::Trouble(error.to_string()));
            Response::NotFound
        })
    }

    fn message(&mut self, message: Message) -> Result<(), DriverError> {
        match message {
            Message::Input(input) => self.step(*input),
            Message::Trouble(what) => {
                self.tell.tell(Told::Trouble(what));
                Ok(())
            }
        }
    }

    fn tick(&mut self) -> Result<(), DriverError> {
        self.tell.flush();
        self.pending.outdated();
        self.peers.tick(self.machine.chain().height());
        self.step(Input::Tick)
    }

    fn step(&mut self, input: Input) -> Result<(), DriverError> {
        self.next.push_back(input);
        while let Some(input) = self.next.pop_front() {
            for output in self.machine.step(input, self.clock.now_ms()) {
                self.perform(output)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, output: Output) -> Result<(), DriverError> {
        let now_ms = self.clock.now_ms();
        match output {
            Output::Store(gossip) => {
                self.store.put_gossip(&gossip, now_ms)?;
            }
            Output::StoreCommit(body) => {
                self.store.put_commit(&body, now_ms)?;
            }
            Output::Append(certified) => {
                let decided = certified.entry.kind.clone();
                self.store.append(&[certified])?;
                memory::forget(&mut self.store, self.machine.chain(), &decided)?;
            }
            Output::Publish(gossip) => self.publish(gossip),
            Output::FetchCommit(id) => match self.store.commit(id)? {
                Some(body) => self.next.push_back(Input::Commit(Box::new(body))),
                None => self.peers.fetch(id),
            },
            Output::Trace(body) => self.jobs.trace(body),
            Output::Replay(body) => self.jobs.replay(body),
            Output::StopReplay(commit) => self.jobs.stop_replay(commit),
            Output::Sync { .. } => self.peers.behind(),
            Output::Event(event) => self.tell.tell(Told::Machine(event)),
        }
        Ok(())
    }

    fn publish(&mut self, gossip: Gossip) {
        if !self.peers.publish(gossip) {
            self.tell.tell(Told::Trouble("the network is slow: a record was not gossiped, peers will ask".into()));
        }
    }
}
