//! The node's thin driver: sockets, disk, clock, randomness and job processes around the pure machine and
//! the search.
//!
//! Start at [`run`]. One loop owns store and machine; what takes time (exchanges with peers, official
//! runs, exploration) happens beside it and comes back as messages.
//!
//! *Invariant:* outputs are performed in order, and what is signed is on the disk before it is published:
//! a store that fails ends the node.

mod device;
mod explore;
mod memory;
mod official;
mod prepare;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cairn_net::NetError;
use cairn_net::follow::{Followed, Follower};
use cairn_program::job::Stopper;
use cairn_protocol::{
    AuthorSecret, Claim, CommitId, Gossip, GraphId, PeerSecret, ProposalId, Report, Request, Response, Run, TrackId,
    hash, settle,
};
use cairn_store::{Device, Store};
use tokio::sync::{mpsc, watch};

use crate::event::Event;
use crate::machine::{Input, Machine, Output};
use crate::research::{Goal, Head, Search};
use device::Finding;
pub use device::Gpu;
use explore::{Candidate, Explorer, Order};
use memory::{Memory, Shown};
use official::{Official, Workshop};
use prepare::{Ready, prepare};

/// Interval of the machine's ticks.
const TICK: Duration = Duration::from_millis(250);
/// Messages of jobs that wait for the loop; more make them wait.
const INBOX_MAX: usize = 256;
/// Events that wait for a slow listener; beyond them the oldest is dropped.
const TOLD_MAX: usize = 4096;
/// How long the network may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);
/// Batches of reports that a search starts with.
const BATCHES_READ: usize = 512;
/// Records stored between looks at how many there are.
const TRIM_EVERY: usize = 256;

/// How the search is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether runs that are far behind are stopped early.
    pub early_stop: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { early_stop: true }
    }
}

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Home directory: store and blobs.
    pub home: PathBuf,
    /// The binary that is executed again as `job`.
    pub exe: PathBuf,
    /// The track.
    pub track: TrackId,
    /// Who is credited; an observer has none.
    pub author: Option<AuthorSecret>,
    /// Key of the peer.
    pub peer: PeerSecret,
    /// Multiaddresses to listen on.
    pub listen: Vec<String>,
    /// Multiaddresses of peers to begin with.
    pub bootstrap: Vec<String>,
    /// Threads of a run.
    pub threads: u16,
    /// Which GPU to use.
    pub gpu: Gpu,
    /// Whether to search for improvements.
    pub research: bool,
    /// Seed of the search; the system's randomness without one.
    pub seed: Option<u64>,
    /// How the search is done.
    pub proposer: Options,
}

/// What a running node tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It listens on this address.
    Listening(String),
    /// So many peers are connected now.
    Peers(usize),
    /// What its machine and its research tell.
    Machine(Event),
    /// Something went wrong and will be tried again.
    Trouble(String),
}

/// Why a node ends before it is stopped.
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
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Random(getrandom::Error),
    /// A bug.
    #[error("the driver ended unexpectedly: {0}")]
    Ended(String),
}

/// What jobs tell the loop.
#[derive(Debug)]
enum Message {
    /// An official run ended.
    Official { proposal: ProposalId, graph: GraphId, runs: Result<Vec<Run>, String> },
    /// A try ended.
    Tried(Box<Report>),
    /// A change is worth a claim.
    Found(Candidate),
    /// A device was measured.
    Device(Box<Device>),
    /// A device was caught by an audit.
    Demoted { adapter: String, why: String },
    /// For people.
    Event(Event),
    /// For people.
    Trouble(String),
}

/// Runs a node until `stop` is true or dropped. Ends within two seconds after that.
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

fn random() -> Result<[u8; 32], DriverError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(DriverError::Random)?;
    Ok(bytes)
}

struct Driver {
    config: Config,
    store: Store,
    machine: Machine,
    clock: Clock,
    tell: Tell,
    peers: Follower,
    workshop: Workshop,
    official: Official,
    /// Ends the search for a device.
    finding: Arc<Stopper>,
    explorer: Option<Explorer>,
    /// A head that the explorer has no place for yet.
    head: Option<(Head, Goal)>,
    /// What the explorer aims at.
    goal: Goal,
    /// What the claim under way is expected to reach.
    expected: Option<Claim>,
    /// The best change that waits for the present claim to end.
    candidate: Option<Candidate>,
    inbox: mpsc::Receiver<Message>,
    /// Inputs that performing an output gave rise to.
    next: VecDeque<Input>,
    shown: Shown,
    stored: usize,
    told_height: u64,
}

impl Driver {
    fn new(
        config: Config,
        mut store: Store,
        handle: cairn_net::Handle,
        ready: Ready,
        tell: Tell,
    ) -> Result<Self, DriverError> {
        let clock = Clock::new();
        let (outbox, inbox) = mpsc::channel(INBOX_MAX);
        let workshop = Workshop::new(config.exe.clone(), config.threads, &ready, outbox.clone());
        let mut memory = Memory::load(&store, config.track)?;
        let shown = Shown::load(&mut store, config.track, &memory.chain)?;
        // Who runs nothing needs no device.
        let device = Finding::new(&config, &store, clock.now_ms(), outbox)?;
        let finding = device.stopper.clone();
        if config.author.is_some() {
            device.start(workshop.devices.clone()).map_err(DriverError::Thread)?;
        }
        let explorer = if config.research && config.author.is_some() {
            let search = search(&config, &store, &memory)?;
            let started = Explorer::start(workshop.clone(), search, config.proposer.early_stop);
            Some(started.map_err(DriverError::Thread)?)
        } else {
            None
        };
        let missing = std::mem::take(&mut memory.missing);
        let Memory { chain, claim, batch, .. } = memory;
        let machine = Machine::new(chain, config.author.clone(), claim, batch, missing, clock.now_ms());
        let peers = Follower::new(handle, config.track);
        let goal = Goal { record: machine.chain().record(), margin: machine.chain().track().margin };
        Ok(Self {
            goal,
            expected: None,
            told_height: machine.chain().height(),
            config,
            store,
            machine,
            clock,
            tell,
            peers,
            workshop,
            official: Official::default(),
            finding,
            explorer,
            head: None,
            candidate: None,
            inbox,
            next: VecDeque::new(),
            shown,
            stored: 0,
        })
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
        self.official.stop_all();
        self.finding.stop();
        if let Some(explorer) = &self.explorer {
            explorer.stop();
        }
        result
    }

    fn network(&mut self, event: cairn_net::Event) -> Result<(), DriverError> {
        match event {
            cairn_net::Event::Gossip { gossip, .. } => return self.step(Input::Gossip(gossip)),
            cairn_net::Event::Asked { request, reply, .. } => reply.send(self.answer(&request)),
            cairn_net::Event::Connected(peer) => {
                self.tell.peers(self.peers.count());
                self.peers.catch_up(peer, self.machine.chain().height());
            }
            cairn_net::Event::Disconnected(_) => self.tell.peers(self.peers.count()),
            cairn_net::Event::Listening(address) => self.tell.tell(Told::Listening(address)),
        }
        Ok(())
    }

    fn answer(&mut self, request: &Request) -> Response {
        if let Request::Pending { track, after } = request
            && *track == self.config.track
        {
            return self.shown.page(*after);
        }
        self.store.answer(request).unwrap_or_else(|error| {
            self.tell.tell(Told::Trouble(error.to_string()));
            Response::NotFound
        })
    }

    fn message(&mut self, message: Message) -> Result<(), DriverError> {
        match message {
            Message::Official { proposal, graph, runs } => {
                if let Ok(runs) = &runs {
                    self.order(Order::Official(graph, runs.clone()));
                }
                return self.step(Input::Official { proposal, runs });
            }
            Message::Tried(report) => return self.step(Input::Tried(report)),
            Message::Found(found) => {
                if self.candidate.as_ref().is_none_or(|best| found.metric < best.metric) {
                    self.candidate = Some(found);
                }
                return self.claim();
            }
            Message::Device(device) => self.store.put_device(&device)?,
            Message::Demoted { adapter, why } => {
                let now_ms = self.clock.now_ms();
                let known = self.store.devices()?;
                for device in known.iter().filter(|known| known.adapter == adapter) {
                    self.store.demote_device(&adapter, device.shaders, &why, now_ms)?;
                }
            }
            Message::Event(event) => self.tell.tell(Told::Machine(event)),
            Message::Trouble(what) => self.tell.tell(Told::Trouble(what)),
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), DriverError> {
        self.tell.flush();
        let height = self.machine.chain().height();
        if height != self.told_height {
            self.told_height = height;
            self.tell.tell(Told::Machine(Event::Synced { height }));
        }
        self.peers.tick(height);
        self.send_head();
        self.step(Input::Tick)?;
        self.claim()?;
        let goal = self.goal_now();
        if goal != self.goal && self.head.is_none() {
            self.goal = goal;
            self.order(Order::Aim(goal));
        }
        Ok(())
    }

    /// Claims the change that waits, when no other claim is under way and it still beats the record. While
    /// the queue holds a better claim it waits on: that one may be refused.
    fn claim(&mut self) -> Result<(), DriverError> {
        if self.machine.claiming() {
            return Ok(());
        }
        let Some(found) = self.candidate.take() else { return Ok(()) };
        let claim = Claim { metric: found.metric, test: found.test };
        let (chain, queued) = (self.machine.chain(), self.goal_now().record);
        let beats = |record: &Claim| settle::refused_unreplayed(chain.track(), record, &claim).is_none();
        if !beats(&chain.record()) {
            return Ok(());
        }
        if !beats(&queued) {
            self.candidate = Some(found);
            return Ok(());
        }
        self.expected = Some(claim);
        self.step(Input::Found { draft: found.draft, effort: found.effort })
    }

    /// The record that there will be when every claim that is known is settled as claimed.
    fn goal_now(&self) -> Goal {
        let chain = self.machine.chain();
        let better = |record: Claim, claim: Claim| match settle::refused_unreplayed(chain.track(), &record, &claim) {
            None => claim,
            Some(_) => record,
        };
        let queued = chain.queue().iter().map(|queued| queued.claim).fold(chain.record(), better);
        let own = self.expected.filter(|_| self.machine.claiming());
        Goal { record: own.map_or(queued, |own| better(queued, own)), margin: chain.track().margin }
    }

    fn step(&mut self, input: Input) -> Result<(), DriverError> {
        self.next.push_back(input);
        while let Some(input) = self.next.pop_front() {
            for output in self.machine.step(input, self.clock.now_ms(), random()?) {
                self.perform(output)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, output: Output) -> Result<(), DriverError> {
        let (track, now_ms) = (self.config.track, self.clock.now_ms());
        match output {
            Output::Store(gossip) => self.keep(gossip)?,
            Output::StoreCommit(body) => {
                self.store.put_commit(&body, now_ms)?;
                self.order(Order::Know(body.body.draft.graph, body.body.draft.source.to_string()));
            }
            Output::Append(certified) => {
                self.store.append(&[certified])?;
                self.shown.forget_settled(self.machine.chain());
            }
            Output::Persist(claim) => {
                memory::persist(&mut self.store, track, claim.as_deref())?;
                if claim.is_none() {
                    self.shown.forget_proposals();
                }
            }
            Output::Publish(gossip) => {
                if !self.peers.publish(gossip) {
                    self.tell
                        .tell(Told::Trouble("the network is slow: a record was not gossiped; peers will ask".into()));
                }
            }
            Output::FetchCommit(id) => match self.store.commit(id)? {
                Some(body) => self.next.push_back(Input::Commit(Box::new(body))),
                None => self.peers.fetch(id),
            },
            Output::Sync { .. } => self.peers.behind(),
            Output::RunOfficial { proposal, draft, seeds } => {
                self.official.start(&self.workshop, proposal, draft, seeds);
            }
            Output::StopOfficial(proposal) => self.official.stop(proposal),
            Output::Head(commit) => self.new_head(commit)?,
            Output::Event(event) => {
                if let Event::Claimed { claim, .. } = &event {
                    self.expected = Some(*claim);
                }
                self.tell.tell(Told::Machine(event));
            }
        }
        Ok(())
    }

    fn keep(&mut self, gossip: Gossip) -> Result<(), DriverError> {
        let (track, now_ms) = (self.config.track, self.clock.now_ms());
        let me = self.config.author.as_ref().map(AuthorSecret::public);
        if let Gossip::Reports(batch) = &gossip
            && Some(batch.body.author) == me
        {
            memory::put_batch(&mut self.store, track, &self.machine)?;
        }
        if !self.store.put_gossip(&gossip, now_ms)? {
            return Ok(());
        }
        self.shown.add(&gossip);
        self.stored = self.stored.saturating_add(1);
        if self.stored.is_multiple_of(TRIM_EVERY) {
            memory::trim(&mut self.store, track)?;
        }
        if let Gossip::Reports(batch) = gossip
            && Some(batch.body.author) != me
        {
            self.order(Order::Reports(batch.body.results.into_inner(), false));
        }
        Ok(())
    }

    fn new_head(&mut self, commit: CommitId) -> Result<(), DriverError> {
        // Without its body the machine asks for it, and says the same again when it is here.
        let Some(body) = self.store.commit(commit)? else { return Ok(()) };
        let draft = &body.body.draft;
        let head = Head { parent: Some(commit), source: draft.source.to_string(), graph: draft.graph };
        let chain = self.machine.chain();
        self.goal = Goal { record: chain.record(), margin: chain.track().margin };
        self.head = Some((head, self.goal));
        self.send_head();
        Ok(())
    }

    fn send_head(&mut self) {
        if let (Some(explorer), Some((head, goal))) = (&self.explorer, &self.head)
            && explorer.order(Order::Head(head.clone(), *goal))
        {
            self.head = None;
        }
    }

    fn order(&self, order: Order) {
        if let Some(explorer) = &self.explorer
            && !explorer.order(order)
        {
            // The search works without; the reports are in the store for the next start.
            tracing::debug!("the search is busy and missed something");
        }
    }
}

/// The search as far as the store remembers it.
fn search(config: &Config, store: &Store, memory: &Memory) -> Result<Search, DriverError> {
    let chain = &memory.chain;
    let goal = Goal { record: chain.record(), margin: chain.track().margin };
    let me = config.author.as_ref().map(AuthorSecret::public);
    let seed = match config.seed {
        Some(seed) => seed.to_be_bytes(),
        None => random()?.first_chunk().copied().unwrap_or_default(),
    };
    // Workers who were given the same seed still go different ways.
    let mixed = hash("search seed", &[&seed, &me.unwrap_or_default().0]);
    let mut search = Search::new(u64::from_be_bytes(mixed.first_chunk().copied().unwrap_or_default()), goal);
    let baseline = &chain.track().baseline;
    let mut head = Head { parent: None, source: baseline.source.to_string(), graph: baseline.graph };
    search.know(head.graph, &head.source);
    for row in chain.accepted() {
        if let Some(body) = store.commit(row.commit)? {
            let draft = body.body.draft;
            head = Head { parent: Some(row.commit), source: draft.source.to_string(), graph: draft.graph };
            search.know(head.graph, &head.source);
        }
    }
    search.start(head, goal);
    memory.claimed.iter().for_each(|graph| search.claimed(*graph));
    let batches = store.gossip(config.track, "reports", usize::MAX)?;
    for gossip in batches.iter().skip(batches.len().saturating_sub(BATCHES_READ)) {
        if let Gossip::Reports(batch) = gossip {
            let own = Some(batch.body.author) == me;
            batch.body.results.iter().for_each(|report| search.hear(report, own));
        }
    }
    Ok(search)
}
