//! A worker that claims the track's own baseline, honestly or with one lie: a real peer on real sockets.
//!
//! `adversary KIND TRACK PEER...` says `{"event":"ended","outcome":…}` when the chain has settled its claim, or when
//! the claim was not even queued within the time that honest ones need.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cairn_engine::backend::{Kind as Backend, Options};
use cairn_engine::data::Dataset;
use cairn_engine::run::{Control, Finished, Watch, train};
use cairn_net::{Event, Events, Handle, fetch};
use cairn_program::{Limits, TraceContext, trace};
use cairn_protocol::chain::Status;
use cairn_protocol::*;
use serde_json::json;

/// Time for an honest claim to be queued, several times over.
const PATIENCE: Duration = Duration::from_secs(40);
/// Time between two looks at what peers have.
const LOOK: Duration = Duration::from_millis(500);

/// What it lies about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    Nothing,
    OneBitOfALeaf,
    TheMetric,
    TheTrace,
    ATicket,
}

impl Lie {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "honest" => Lie::Nothing,
            "bit_flip" => Lie::OneBitOfALeaf,
            "forge_metric" => Lie::TheMetric,
            "forge_trace" => Lie::TheTrace,
            "forge_ticket" => Lie::ATicket,
            _ => return None,
        })
    }

    fn told_in(self, tickets: &mut [Signature], runs: &mut [Run]) -> anyhow::Result<()> {
        let first = runs.first_mut().context("no runs")?;
        match self {
            Lie::Nothing => {}
            Lie::OneBitOfALeaf => {
                let mut leaves = first.leaves.to_vec();
                leaves.get_mut(7).context("no such leaf")?.0[13] ^= 0x10;
                first.leaves = leaves.try_into()?;
            }
            Lie::TheMetric => runs.iter_mut().for_each(|run| run.metric -= 1 << 20),
            Lie::TheTrace => {
                for (j, run) in (0u8..).zip(runs) {
                    let invented = (0u8..).take(run.leaves.len()).map(|i| Hash32(hash("invented", &[&[j, i]])));
                    run.leaves = invented.collect::<Vec<_>>().try_into()?;
                }
            }
            Lie::ATicket => tickets.first_mut().context("no tickets")?.0[40] ^= 1,
        }
        Ok(())
    }
}

struct Silent;

impl Watch for Silent {
    fn step(&mut self, _: u64, _: u64, _: f32) -> Control {
        Control::Continue
    }
    fn segment(&mut self, _: u16, _: Hash32, _: Option<Hash32>) -> Control {
        Control::Continue
    }
}

/// The network as this worker sees it.
struct Worker {
    handle: Handle,
    events: Events,
    chain: ChainState,
    author: AuthorSecret,
    commit: Option<Signed<Commit>>,
}

impl Worker {
    async fn meet(author: AuthorSecret, track: TrackId, peers: Vec<String>) -> anyhow::Result<Self> {
        let secret = PeerSecret::from_bytes(&hash("adversary's peer", &[&author.public().0]));
        let mut config = cairn_net::Config::new(secret);
        (config.bootstrap, config.tracks) = (peers.clone(), vec![track]);
        let (handle, mut events) = cairn_net::spawn(config)?;
        while handle.peers().len() < peers.len() {
            events.recv().await.context("the network closed")?;
        }
        let record = fetch::track(&handle, &handle.peers(), track).await?;
        Ok(Self { handle, events, chain: ChainState::new(record), author, commit: None })
    }

    /// Takes what peers have: entries to follow, tickets as a result.
    async fn look(&mut self) -> anyhow::Result<Vec<Signed<Ticket>>> {
        let mut tickets = Vec::new();
        for peer in self.handle.peers() {
            let from = self.chain.height() + 1;
            for certified in fetch::entries(&self.handle, peer, self.chain.id(), from).await.unwrap_or_default() {
                self.chain.apply(&certified)?;
            }
            let pending = fetch::pending(&self.handle, peer, self.chain.id()).await.unwrap_or_default();
            tickets.extend(pending.into_iter().filter_map(|gossip| match gossip {
                Gossip::Ticket(ticket) => Some(ticket),
                _ => None,
            }));
        }
        Ok(tickets)
    }

    /// Answers peers for a while.
    async fn serve(&mut self) {
        let until = tokio::time::Instant::now() + LOOK;
        while let Ok(Some(event)) = tokio::time::timeout_at(until, self.events.recv()).await {
            if let Event::Asked { request, reply, .. } = event {
                reply.send(match (&request, &self.commit) {
                    (Request::Commit { commit, .. }, Some(mine)) if *commit == mine.id() => {
                        Response::Commit(Box::new(mine.clone()))
                    }
                    _ => Response::NotFound,
                });
            }
        }
    }

    async fn tickets(&mut self, proposal: &Signed<Proposal>) -> anyhow::Result<Vec<Signature>> {
        let end = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < end {
            self.handle.publish(Gossip::Proposal(proposal.clone())).await;
            self.serve().await;
            let heard = self.look().await?;
            let ticket = |key: &VerifierKey| {
                heard.iter().find(|t| t.body.proposal == proposal.id() && t.body.ticketer == *key).map(|t| t.signature)
            };
            if let Some(all) = proposal.body.ticketers.iter().map(ticket).collect() {
                return Ok(all);
            }
        }
        bail!("no tickets within {PATIENCE:?}")
    }

    async fn settled(&mut self, commit: CommitId) -> anyhow::Result<Option<Status>> {
        let header = self.commit.as_ref().context("no commit")?.header();
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.handle.publish(Gossip::Commit(header.clone())).await;
            self.serve().await;
            self.look().await?;
            match self.chain.status(commit) {
                Some(Status::Queued) => {}
                None if tokio::time::Instant::now() >= end => return Ok(None),
                None => {}
                settled => return Ok(settled),
            }
        }
    }
}

/// The official runs of the track's own baseline.
async fn official(worker: &Worker, folder: &Path, seeds: &[Seed]) -> anyhow::Result<Vec<Run>> {
    let track = worker.chain.track();
    let blob = track.data.first().context("no data")?;
    let file = folder.join("data");
    fetch::blob(&worker.handle, &worker.handle.peers(), blob.blob, blob.bytes, &file, &mut |_| {}).await?;
    let data = Dataset::load(&track.converter, &std::fs::read(&file)?)?;
    let context = TraceContext {
        data: data.spec().clone(),
        budget: track.budget,
        memory: track.memory,
        parameters: track.parameters,
        literal_bits: u64::from(track.literal_bits),
    };
    let traced = trace(&track.baseline.source, &context, &Limits::default())?;
    ensure!(traced.graph == track.baseline.graph, "the baseline has another graph here");
    let options = Options { kind: Backend::Cpu, threads: 1, isa: None, fuse: true, micro_batch: None };
    let run = |seed: &Seed| -> anyhow::Result<Run> {
        let Finished { metric, test, leaves, .. } =
            train(&traced.program, &data, seed, track.segments, &options, &mut Silent)?;
        Ok(Run { metric, test, leaves: leaves.try_into()? })
    };
    seeds.iter().map(run).collect()
}

async fn claim(lie: Lie, track: TrackId, peers: Vec<String>) -> anyhow::Result<serde_json::Value> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let folder = tempfile::tempdir()?;
    let mut worker = Worker::meet(AuthorSecret::from_bytes(&key), track, peers).await?;
    worker.look().await?;
    let (author, salt) = (worker.author.public(), Hash32(hash("adversary's salt", &[&key])));
    let draft = Draft {
        parent: None,
        source: worker.chain.track().baseline.source.clone(),
        graph: worker.chain.track().baseline.graph,
        title: Text::truncated("The baseline as it stands"),
        why: Text::default(),
        idea: None,
        researcher: Researcher { kind: Text::truncated("person"), model: Text::default(), program: Hash32([0; 32]) },
    };
    let quorum = worker.chain.quorum().votes;
    let proposal = Proposal {
        track,
        author,
        commitment: commitment(author, &draft, salt),
        roster_height: worker.chain.height(),
        ticketers: worker.chain.roster().iter().take(quorum).copied().collect::<Vec<_>>().try_into()?,
        stamp: 0,
    };
    let proposal = Signed::by_author(proposal.stamp(), &worker.author);
    let mut tickets = worker.tickets(&proposal).await?;
    let seeds = official_seeds(proposal.id(), &tickets, usize::from(worker.chain.track().seeds));
    let mut runs = official(&worker, folder.path(), &seeds).await?;
    lie.told_in(&mut tickets, &mut runs)?;
    let body = Commit { proposal, tickets: tickets.try_into()?, salt, draft, runs: runs.try_into()?, effort: 1 };
    let commit = Signed::by_author(body, &worker.author);
    let (id, claimed) = (commit.id(), commit.body.claim());
    worker.commit = Some(commit);
    let status = worker.settled(id).await?;
    worker.handle.close().await;
    let outcome = match status {
        None => "not queued",
        Some(Status::Accepted) => "accepted",
        Some(_) => "refused",
    };
    Ok(json!({
        "event": "ended", "outcome": outcome, "status": status, "commit": id,
        "metric_units": claimed.metric, "height": worker.chain.height(),
    }))
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [kind, track, peers @ ..] = &words[..] else {
        bail!("usage: adversary KIND TRACK PEER...");
    };
    let lie = Lie::named(kind).with_context(|| format!("no adversary is called {kind}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(claim(lie, track.parse()?, peers.to_vec()))?;
    println!("{ended}");
    Ok(())
}
