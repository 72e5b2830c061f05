//! A network of real processes on loopback: verifiers, and whoever joins them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::process::{Home, Running};

/// How long a process may take to say where it listens, on a busy machine.
const START: Duration = Duration::from_secs(60);

/// The folder of a track like `names` whose runs take a tenth of a second, and whose first record is `slack` nats worse
/// than what its baseline reaches, so that the baseline itself can be claimed.
pub fn fast_track(folder: &Path, slack: f64) -> anyhow::Result<PathBuf> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tracks/names");
    let track = folder.join("names-fast");
    fs::create_dir_all(track.join("data"))?;
    for file in ["train.py", "program.md", "README.md", "data/names.txt"] {
        fs::copy(shipped.join(file), track.join(file)).with_context(|| file.to_string())?;
    }
    let mut table: toml::Table = fs::read_to_string(shipped.join("track.toml"))?.parse()?;
    let units = |nats: f64| toml::Value::Integer((nats * f64::from(1 << 24)) as i64);
    table.insert("name".into(), "names-fast".into());
    table.insert("budget".into(), toml::Value::Integer(FAST_BUDGET));
    table.insert("margin_units".into(), units(0.005));
    let mut baseline = toml::Table::new();
    for metric in ["metric_units", "test_units"] {
        baseline.insert(metric.into(), units(FAST_BASELINE + slack));
    }
    table.insert("baseline".into(), toml::Value::Table(baseline));
    fs::write(track.join("track.toml"), table.to_string())?;
    Ok(track)
}

/// Operations of a run of [`fast_track`]: some tens of steps.
const FAST_BUDGET: i64 = 3_000_000_000;
/// Nats that the baseline reaches there, at worst.
const FAST_BASELINE: f64 = 2.9;

/// Verifiers of one track.
#[derive(Debug)]
pub struct Network {
    /// The track's id.
    pub track: String,
    /// Each verifier's home, in seat order.
    pub homes: Vec<Home>,
    /// Each verifier's process, in seat order.
    pub verifiers: Vec<Running>,
    /// Where each listens.
    pub addresses: Vec<String>,
}

impl Network {
    /// Opens the track in `folder` with a roster of `seats` verifiers and starts them.
    pub fn start(folder: &Path, seats: usize) -> anyhow::Result<Self> {
        let homes = (0..seats).map(|_| Home::new()).collect::<anyhow::Result<Vec<_>>>()?;
        let keys =
            homes.iter().map(|home| text(&home.json(&["id"])?, "verifier")).collect::<anyhow::Result<Vec<String>>>()?;
        let (folder, roster) = (folder.to_str().context("path")?, keys.join(","));
        let mut track = String::new();
        for home in &homes {
            track = text(&home.json(&["track", "open", folder, "--roster", &roster])?, "track")?;
        }
        let mut network = Self { track, homes, verifiers: Vec::new(), addresses: Vec::new() };
        for seat in 0..seats {
            let (verifier, address) = network.spawn(seat)?;
            network.verifiers.push(verifier);
            network.addresses.push(address);
        }
        Ok(network)
    }

    fn spawn(&self, seat: usize) -> anyhow::Result<(Running, String)> {
        let mut arguments = vec!["verifier", "--track", &self.track, "--threads", "1"];
        // A restarted verifier comes back where the others know it.
        let listen = self.addresses.get(seat).map_or("/ip4/127.0.0.1/tcp/0", String::as_str);
        let listen = listen.split("/p2p/").next().unwrap_or(listen);
        arguments.extend(["--listen", listen]);
        for (other, address) in self.addresses.iter().enumerate() {
            if other != seat {
                arguments.extend(["--peer", address]);
            }
        }
        let verifier = self.homes.get(seat).context("no such seat")?.start(&arguments)?;
        let listening = verifier.wait_for("a verifier listens", START, |line| line["event"] == "listening")?;
        Ok((verifier, text(&listening, "address")?))
    }

    /// Kills a verifier as `kill -9` does.
    pub fn kill(&mut self, seat: usize) -> anyhow::Result<()> {
        self.verifiers.get_mut(seat).context("no such seat")?.kill()
    }

    /// Starts a killed verifier again, in its home and at its address.
    pub fn restart(&mut self, seat: usize) -> anyhow::Result<()> {
        let (verifier, address) = self.spawn(seat)?;
        ensure!(self.verifiers.len() > seat, "no such seat");
        self.verifiers[seat] = verifier;
        self.addresses[seat] = address;
        Ok(())
    }

    /// Starts `cairn node` in `home`, connected with every verifier.
    pub fn node(&self, home: &Home, more: &[&str]) -> anyhow::Result<Running> {
        let mut arguments = vec!["node", "--track", &self.track, "--listen", "/ip4/127.0.0.1/tcp/0", "--threads", "1"];
        for address in &self.addresses {
            arguments.extend(["--peer", address]);
        }
        home.start(&[&arguments, more].concat())
    }

    /// The leaderboard in `home`.
    pub fn board(&self, home: &Home) -> anyhow::Result<Value> {
        home.json(&["board", &self.track])
    }
}

fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    value[field].as_str().map(str::to_string).with_context(|| format!("no `{field}` in {value}"))
}
