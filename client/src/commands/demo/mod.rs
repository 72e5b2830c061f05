//! `cairn demo`: a whole network on this machine, in real processes with homes of their own, over loopback.
//!
//! Start at [`run`]. The processes are `cairn verifier` and `cairn node`, nothing else; what they say with `--json` is
//! all that the demo knows of them.
//!
//! *Invariant:* when the demo is gone, so are its processes and its temporary folder, however it went.

mod homes;
mod process;
mod story;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cairn_protocol::{Record, Track};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use self::homes::{Homes, copy_store};
use self::process::{Heard, Processes, Role};
use self::story::Story;
use crate::cli::Demo;
use crate::commands::participate::paint;
use crate::commands::{board, track};
use crate::context::{Context, processors};
use crate::failure::{Code, Failure};
use crate::home::Home;
use crate::output::{Stage, Tone};
use crate::tracks::{self, Definition};
use crate::{events, format};

/// Time in which a process must say where it listens.
const START: Duration = Duration::from_secs(30);
/// Any free port, on this machine only.
const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";

/// How the demo came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Enough,
    Time,
    Interrupted,
}

/// A demo under way.
struct Show<'a> {
    context: &'a Context,
    options: &'a Demo,
    started: Instant,
    stage: Stage,
    story: Story,
    processes: Processes<'a>,
    heard: mpsc::Receiver<Heard>,
    /// Where each verifier listens, by the number of its process.
    addresses: BTreeMap<usize, String>,
}

pub(crate) fn run(context: &Context, options: &Demo) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let definition = definition(options)?;
    let homes = Homes::create(options.keep.as_deref())?;
    let opened = open(context, options, &homes, &definition)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (story, end, count) = runtime.block_on(async {
        let (processes, heard) = Processes::new(&homes);
        let stage = context.ui.stage();
        let story = Story::default();
        let mut show = Show { context, options, started, stage, story, processes, heard, addresses: BTreeMap::new() };
        let result = show.perform(&opened).await;
        let Show { processes, stage, story, .. } = show;
        drop(stage);
        let count = processes.all.len();
        processes.end().await;
        result.map(|end| (story, end, count))
    })?;
    close(context, options, &homes, &opened, &story, end, count, started)
}

/// The track that is researched.
fn definition(options: &Demo) -> anyhow::Result<Definition> {
    tracks::offline(&options.track)?.ok_or_else(|| {
        let shipped: Vec<&str> = Definition::shipped_names().collect();
        Failure::usage(
            format!("no track `{}` ships with this program", options.track),
            format!("choose one of {}, or name a track's folder, such as ./my-track", shipped.join(", ")),
        )
    })
}

fn verifier(place: u16) -> String {
    format!("verifier {place}")
}

/// Makes the verifiers' keys and opens the track with them, in the home of each.
fn open(context: &Context, options: &Demo, homes: &Homes, definition: &Definition) -> anyhow::Result<Track> {
    let of = |place| homes.of(&verifier(place));
    let mut roster = Vec::new();
    for place in 1..=options.verifiers {
        of(place).create()?;
        roster.push(of(place).keys().verifier()?.public());
    }
    // The first verifier's home stands in for ours, which stays as it is.
    let inside = Context { home: of(1), ..context.clone() };
    let owner = inside.home.keys().author()?.public();
    let track = track::record(&inside, definition, owner, &roster)?;
    for place in 1..=options.verifiers {
        track::store(&mut of(place).writer()?, &track, definition)?;
    }
    Ok(track)
}

impl Show<'_> {
    /// Starts everything and listens until it is over.
    async fn perform(&mut self, track: &Track) -> anyhow::Result<End> {
        let id = track.id().to_string();
        self.say(&format!(
            "{} {}: record {} (baseline), margin {}",
            track.name,
            track.id().short(),
            format::metric(track.baseline.metric),
            format::metric(track.margin)
        ));
        let threads = processors();
        let (verifiers, workers) = (self.options.verifiers, self.options.workers);
        for place in 1..=verifiers {
            let mut arguments = self.arguments("verifier", &id, threads / verifiers.max(1));
            arguments.extend(self.peers());
            self.start(verifier(place), Role::Verifier, &arguments)?;
            // The first one's address is what the others need; they are started together.
            if place == 1 && !self.listening(1).await? {
                return Ok(End::Interrupted);
            }
        }
        if !self.listening(usize::from(verifiers)).await? {
            return Ok(End::Interrupted);
        }
        for place in 1..=workers {
            let mut arguments = self.arguments("node", &id, threads / (workers + 1));
            arguments.extend(self.peers());
            if let Some(seed) = self.options.seed {
                let seed = seed.wrapping_mul(1000).wrapping_add(u64::from(place));
                arguments.extend(["--seed".into(), seed.to_string()]);
            }
            self.start(format!("worker {place}"), Role::Worker, &arguments)?;
        }
        let mut arguments = self.arguments("node", &id, 1);
        arguments.push("--observe".into());
        arguments.extend(self.peers());
        self.start("observer".into(), Role::Observer, &arguments)?;
        self.say(&format!(
            "{}, {} and an observer run on this machine",
            format::count(u64::from(verifiers), "verifier", "verifiers"),
            format::count(u64::from(workers), "worker", "workers")
        ));
        self.listen().await
    }

    fn arguments(&self, command: &str, track: &str, threads: u16) -> Vec<String> {
        let threads = threads.max(1).to_string();
        let mut arguments =
            [command, "--track", track, "--listen", LISTEN, "--threads", &threads].map(String::from).to_vec();
        if command == "node" {
            // Its programs are small, and every home is new: each would measure the same device first.
            arguments.extend(["--gpu", "off"].map(String::from));
        }
        arguments
    }

    fn peers(&self) -> Vec<String> {
        self.addresses.values().flat_map(|address| ["--peer".to_string(), address.clone()]).collect()
    }

    fn start(&mut self, name: String, role: Role, arguments: &[String]) -> anyhow::Result<()> {
        self.stage.status(&name, "starts");
        let pid = self.processes.start(name.clone(), role, arguments)?;
        self.context.ui.object(&json!({ "event": "started", "process": name, "pid": pid, "seconds": self.seconds() }));
        Ok(())
    }

    /// Waits until so many processes said where they listen; false when the demo is interrupted first.
    async fn listening(&mut self, wanted: usize) -> anyhow::Result<bool> {
        let mut stop = self.context.interrupt.receiver();
        let deadline = tokio::time::Instant::now() + START;
        while self.addresses.len() < wanted {
            tokio::select! {
                heard = self.heard.recv() => if let Some(heard) = heard { self.hear(heard)?; },
                _ = stop.wait_for(|stop| *stop) => return Ok(false),
                () = tokio::time::sleep_until(deadline) => anyhow::bail!(
                    "only {} of {wanted} verifiers came up within {} s",
                    self.addresses.len(),
                    START.as_secs()
                ),
            }
        }
        Ok(true)
    }

    /// Listens until there is enough to show, or the time is over.
    async fn listen(&mut self) -> anyhow::Result<End> {
        let mut stop = self.context.interrupt.receiver();
        let deadline = self.started + Duration::from_secs_f64(self.options.minutes * 60.0);
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                heard = self.heard.recv() => if let Some(heard) = heard { self.hear(heard)?; },
                _ = stop.wait_for(|stop| *stop) => return Ok(End::Interrupted),
                _ = tick.tick() => {}
            }
            if !self.options.stay && self.story.accepted >= self.options.entries {
                return Ok(End::Enough);
            }
            if !self.options.stay && Instant::now() >= deadline {
                return Ok(End::Time);
            }
            self.status(deadline);
        }
    }

    fn status(&mut self, deadline: Instant) {
        let left = match self.options.stay {
            true => "until Ctrl-C".to_string(),
            false => format!("{} left", format::duration(deadline.saturating_duration_since(Instant::now()))),
        };
        let text = format!(
            "{}, {}, {}; {left}",
            format::count(self.story.tries, "try", "tries"),
            format::count(self.story.claims, "claim", "claims"),
            format::count(self.story.accepted, "entry", "entries")
        );
        self.stage.status("network", &text);
    }

    /// Takes what a process says.
    fn hear(&mut self, heard: Heard) -> anyhow::Result<()> {
        let Some(process) = self.processes.all.get_mut(heard.process) else { return Ok(()) };
        let (name, role) = (process.name.clone(), process.role);
        let Some(event) = heard.event else {
            process.alive = false;
            return self.lost(heard.process, &name, role);
        };
        if let (Role::Verifier, Some("listening")) = (role, event.get("event").and_then(Value::as_str))
            && let Some(address) = event.get("address").and_then(Value::as_str)
        {
            // It may listen on several; one is enough.
            self.addresses.entry(heard.process).or_insert_with(|| address.to_string());
        }
        self.story.take(role, &event);
        self.context.ui.object(&named(&event, &name, self.seconds()));
        let line = events::line(&event);
        if Story::worth_showing(role, &event) {
            let text = paint(&self.context.ui, &line);
            self.say(&format!("{} {text}", self.context.ui.paint(Tone::Name, format!("{name:10}"))));
        } else {
            self.stage.status(&name, &line.text);
        }
        Ok(())
    }

    /// A process ended by itself: the network goes on as long as it can.
    fn lost(&mut self, process: usize, name: &str, role: Role) -> anyhow::Result<()> {
        let errors = match self.processes.errors(process) {
            none if none.is_empty() => "it said nothing; was it killed?".to_string(),
            errors => errors,
        };
        let dead = |role| self.processes.all.iter().filter(|process| process.role == role && !process.alive).count();
        let enough = match role {
            // The first one is the sequencer: nothing is ordered without it.
            Role::Verifier => process != 0 && dead(role) <= usize::from((self.options.verifiers - 1) / 3),
            Role::Worker => dead(role) < usize::from(self.options.workers),
            Role::Observer => false,
        };
        // One that never came up will not come up on a second try.
        let came_up = role != Role::Verifier || self.addresses.contains_key(&process);
        anyhow::ensure!(enough && came_up, "{name} ended early: {errors}");
        self.context.ui.object(&json!({ "event": "ended", "process": name, "seconds": self.seconds() }));
        self.stage.line(&self.context.ui.paint(Tone::Bad, format!("{name} ended early: {errors}")));
        Ok(())
    }

    fn say(&self, text: &str) {
        let time = self.context.ui.paint(Tone::Dim, format!("{:6.1} s", self.seconds()));
        self.stage.line(&format!("{time} {text}"));
    }

    fn seconds(&self) -> f64 {
        format::seconds(self.started.elapsed())
    }
}

/// The event with the process that it came from.
fn named(event: &Value, process: &str, seconds: f64) -> Value {
    let mut event = event.clone();
    if let Value::Object(fields) = &mut event {
        fields.insert("process".into(), process.into());
        // An event's own `seconds` says how long something took, which is another thing.
        fields.insert("at".into(), seconds.into());
    }
    event
}

/// Shows what came of it, and says how to look at it.
#[expect(clippy::too_many_arguments, reason = "called once; they are what a demo is made of")]
fn close(
    context: &Context,
    options: &Demo,
    homes: &Homes,
    track: &Track,
    story: &Story,
    end: End,
    processes: usize,
    started: Instant,
) -> anyhow::Result<ExitCode> {
    let ui = &context.ui;
    let observer = homes.of("observer");
    let (mut rows, mut refused, mut reported) = (Vec::new(), 0, 0);
    if let Some(store) = observer.reader_if_any()?
        && store.track(track.id())?.is_some()
    {
        rows = store.leaderboard(track.id())?;
        refused = store.chain(track.id())?.refused();
        reported = store.results_count(track.id())?;
        if !ui.json {
            ui.result("");
            board::show(ui, &store, track, &rows)?;
        }
    }
    let kept = if rows.is_empty() { None } else { keep(context, homes, &observer) };
    if let (Some(home), Some(best)) = (&kept, rows.last()) {
        ui.result(format!(
            "\nCheck any entry yourself, bit for bit:\n  cairn replay {} --home {}",
            best.entry.short(),
            home.root().display()
        ));
        ui.result(format!("What it changed:\n  cairn show {} --home {}", best.entry.short(), home.root().display()));
    }
    if options.keep.is_some() {
        ui.note(format!("homes, keys and chain: {}", observer.root().parent().unwrap_or(observer.root()).display()));
    }
    let margin = format::nats(track.margin);
    let nothing = rows.is_empty();
    if nothing {
        ui.result(format!("{}: {}", ui.paint(Tone::Bad, "no entry was accepted"), story.why_nothing(margin)));
        ui.note("more time often helps: cairn demo --minutes 10");
    }
    ui.object(&json!({
        "event": "summary",
        "track": track.id(),
        "name": track.name.as_str(),
        "entries": rows.len(),
        "reports": story.tries,
        "reports_stored": reported,
        "claims": story.claims,
        "refused": refused,
        "baseline": format::nats(track.baseline.metric),
        "head_metric": format::nats(rows.last().map_or(track.baseline.metric, |row| row.metric)),
        "margin": margin,
        "best_try": story.best.as_ref().map(|best| json!({
            "summary": best.summary,
            "metric": best.metric,
            "short": best.short,
        })),
        "why": nothing.then(|| story.why_nothing(margin)),
        "home": kept.as_ref().map(|home| home.root().to_path_buf()),
        "processes": processes,
        "seconds": format::seconds(started.elapsed()),
    }));
    Ok(match end {
        End::Interrupted if !options.stay => {
            ui.note("interrupted");
            Code::Interrupted.into()
        }
        _ if nothing => Code::NoEntry.into(),
        _ => ExitCode::SUCCESS,
    })
}

/// Where the chain can be looked at after the demo.
fn keep(context: &Context, homes: &Homes, observer: &Home) -> Option<Home> {
    if homes.kept() {
        return Some(observer.clone());
    }
    let last = Home::at(context.home.root().join("demo"));
    let copied = context.home.create().and_then(|()| copy_store(observer, &last)).context("the chain is not kept");
    match copied {
        Ok(()) => Some(last),
        Err(error) => {
            context.ui.warn(format!("{error:#}; use --keep DIR"));
            None
        }
    }
}
