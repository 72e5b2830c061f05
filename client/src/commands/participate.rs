//! `cairn node` and `cairn verifier`: taking part in the network.
//!
//! *Invariant:* the drivers own sockets, store and jobs; here is only what a person sets and sees.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use cairn_protocol::TrackId;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::cli::{Network, Node};
use crate::context::{Context, own_binary, processors};
use crate::events;
use crate::output::{Stage, Tone, Ui};
use crate::tracks;

/// Events that wait to be shown; more make the driver wait.
const EVENTS_MAX: usize = 256;
/// Time after which a driver that was asked to end is left alone.
const PATIENCE: Duration = Duration::from_millis(1900);
/// Listened on when nobody says where.
const LISTEN: [&str; 2] = ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0"];

/// What a node and a verifier have in common.
struct Place {
    track: TrackId,
    listen: Vec<String>,
    bootstrap: Vec<String>,
    threads: u16,
}

/// What the options and the configuration say together.
fn place(context: &Context, options: &Network) -> anyhow::Result<Place> {
    let config = context.home.config()?;
    let track = tracks::id(&context.home, options.track.as_deref())?;
    let listen = [&options.listen, &config.listen].into_iter().find(|list| !list.is_empty()).cloned();
    let mut bootstrap = options.peer.clone();
    bootstrap.extend(config.peers);
    Ok(Place {
        track,
        listen: listen.unwrap_or_else(|| LISTEN.map(String::from).to_vec()),
        bootstrap,
        threads: options.threads.or(config.threads).unwrap_or_else(processors),
    })
}

pub(crate) fn node(context: &Context, options: &Node) -> anyhow::Result<ExitCode> {
    let place = place(context, &options.network)?;
    let gpu = options.gpu.clone().or(context.home.config()?.gpu);
    context.home.create()?;
    let keys = context.home.keys();
    let config = cairn_node::driver::Config {
        home: context.home.root().to_path_buf(),
        exe: own_binary()?,
        track: place.track,
        author: if options.observe { None } else { Some(keys.author()?) },
        peer: keys.peer()?,
        listen: place.listen,
        bootstrap: place.bootstrap,
        threads: place.threads,
        gpu: cairn_node::driver::Gpu::of(gpu.as_deref().unwrap_or("auto")),
        research: !options.observe,
        seed: options.seed,
        proposer: cairn_node::driver::Options::default(),
    };
    let (sender, told) = mpsc::channel(EVENTS_MAX);
    let driver = |stop| cairn_node::driver::run(config, sender, stop);
    participate(context, &options.network, "node", driver, told, |told| match told {
        cairn_node::driver::Told::Listening(address) => events::listening(&address),
        cairn_node::driver::Told::Peers(connected) => events::peers(connected),
        cairn_node::driver::Told::Machine(event) => events::node(&event),
        cairn_node::driver::Told::Trouble(what) => events::trouble(&what),
    })
}

pub(crate) fn verifier(context: &Context, options: &Network) -> anyhow::Result<ExitCode> {
    let place = place(context, options)?;
    context.home.create()?;
    let keys = context.home.keys();
    // Held to the end: one key, one process.
    let _lock = keys.lock_verifier()?;
    let config = cairn_verifier::driver::Config {
        home: context.home.root().to_path_buf(),
        exe: own_binary()?,
        track: place.track,
        secret: keys.verifier()?,
        peer: keys.peer()?,
        listen: place.listen,
        bootstrap: place.bootstrap,
        threads: place.threads,
    };
    let (sender, told) = mpsc::channel(EVENTS_MAX);
    let driver = |stop| cairn_verifier::driver::run(config, sender, stop);
    participate(context, options, "verifier", driver, told, |told| match told {
        cairn_verifier::driver::Told::Listening(address) => events::listening(&address),
        cairn_verifier::driver::Told::Peers(connected) => events::peers(connected),
        cairn_verifier::driver::Told::Machine(event) => events::verifier(&event),
        cairn_verifier::driver::Told::Trouble(what) => events::trouble(&what),
    })
}

/// Runs a driver until it ends, is stopped, or its time is over, and shows what it tells.
fn participate<T, F, E>(
    context: &Context,
    options: &Network,
    name: &str,
    driver: impl FnOnce(watch::Receiver<bool>) -> F,
    mut told: mpsc::Receiver<T>,
    value: impl Fn(T) -> Value,
) -> anyhow::Result<ExitCode>
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    if options.with_parent {
        context.interrupt.with_parent().context("cannot watch the parent process")?;
    }
    logs(&context.ui);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut stop = context.interrupt.receiver();
    let mut stage = context.ui.stage();
    let limit = options.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let ended = runtime.block_on(async {
        let mut driver = tokio::spawn(driver(context.interrupt.receiver()));
        let time_over = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(time_over);
        let mut ending = false;
        loop {
            tokio::select! {
                event = told.recv() => match event {
                    Some(event) => show(&context.ui, &mut stage, name, &value(event)),
                    // The driver let go of its events: it is ending.
                    None => break,
                },
                _ = &mut time_over, if !ending => {
                    ending = true;
                    context.interrupt.stop();
                }
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        tokio::select! {
            joined = &mut driver => Some(joined),
            () = tokio::time::sleep(PATIENCE), if context.interrupt.stopped() => None,
            // What is still told while it ends would otherwise make it wait.
            () = async { while let Some(event) = told.recv().await { show(&context.ui, &mut stage, name, &value(event)); } std::future::pending().await } => None,
        }
    });
    drop(stage);
    runtime.shutdown_background();
    match ended {
        Some(joined) => joined.context("the driver panicked")??,
        None => tracing::warn!("the driver did not end in time and was left alone"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows one event.
fn show(ui: &Ui, stage: &mut Stage, name: &str, event: &Value) {
    ui.object(event);
    let line = events::line(event);
    if line.passing {
        stage.status(name, &line.text);
    } else if !ui.json {
        stage.line(&paint(ui, &line));
    }
}

/// A line in its tone.
pub(crate) fn paint(ui: &Ui, line: &events::Line) -> String {
    match line.good {
        Some(true) => ui.paint(Tone::Good, &line.text),
        Some(false) => ui.paint(Tone::Bad, &line.text),
        None => line.text.clone(),
    }
}

/// Logs of the libraries, to the error stream: warnings by default, more with `-v`.
fn logs(ui: &Ui) {
    let level = match (ui.quiet, ui.verbose) {
        (true, _) => "error",
        (_, 0) => "cairn=warn,cairn_node=warn,cairn_verifier=warn,cairn_net=error,error",
        (_, 1) => "cairn=info,cairn_node=info,cairn_verifier=info,cairn_net=info,warn",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_new(level).unwrap_or_default();
    // A second call finds the first one's subscriber, which is as good.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
