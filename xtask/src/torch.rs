//! `cargo xtask torch`: the programs of the repository on PyTorch (`python/cairn`), beside the engine.
//!
//! Type-checks the Python package and the programs, lets PyTorch judge the manual's examples of what the language accepts and
//! refuses, then trains each program for some steps both ways and compares the losses. Needs the network once, to install PyTorch into a virtual environment under `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// What the environment is made of.
const PACKAGES: [&str; 3] = ["torch", "numpy", "mypy"];
/// Steps that are compared: further on, differences of rounding grow by themselves.
const STEPS: usize = 24;
/// How far a loss may be from the engine's: at the first step, where only the forward pass differs, and at the others.
const ALLOWED_NATS: [f64; 2] = [1e-3, 1e-2];
/// Seed of all runs.
const SEED: &str = "1";
/// Where programs are that are no baselines; each says in its first comment what it is for: "Track NAME.".
const FOLDERS: [&str; 2] = ["tracks/examples", "python/tests"];
/// One more of them, which the tests of the language trace.
const EVERYTHING: &str = "program/tests/suite/everything.py";

/// Runs the command with its options: `--python PATH` for an environment that is there already.
pub(crate) fn run(options: &[&str]) -> anyhow::Result<()> {
    let python = match options {
        [] => environment()?,
        ["--python", path] => PathBuf::from(path),
        _ => bail!("usage: cargo xtask torch [--python PATH]"),
    };
    let tracks = tracks()?;
    let mut programs: Vec<(&Track, PathBuf)> =
        tracks.iter().map(|track| (track, track.folder.join("train.py"))).collect();
    for program in more()? {
        let name = track_of(&program)?;
        let track = tracks.iter().find(|track| track.folder.ends_with(&name));
        programs.push((track.with_context(|| format!("{}: no track `{name}`", program.display()))?, program));
    }
    check_types(&python, programs.iter().map(|(_, program)| program.as_path()))?;
    judge(&python)?;
    for (track, program) in &programs {
        compare(&python, track, program)?;
    }
    println!("xtask: {} programs on PyTorch are near the engine", programs.len());
    Ok(())
}

/// The interpreter of the environment under `target/`, made when it is not there.
fn environment() -> anyhow::Result<PathBuf> {
    let folder = Path::new("target/torch");
    let python = folder.join("bin/python");
    if !python.exists() {
        println!("xtask: installing {} into {}", PACKAGES.join(", "), folder.display());
        succeed(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    }
    succeed(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES))?;
    Ok(python)
}

/// A shipped track, as far as a run needs it.
struct Track {
    folder: PathBuf,
    converter: String,
    data: PathBuf,
    budget: String,
}

fn tracks() -> anyhow::Result<Vec<Track>> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir("tracks")?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    folders.retain(|folder| folder.join("track.toml").exists());
    folders.sort();
    folders.into_iter().map(Track::read).collect()
}

impl Track {
    fn read(folder: PathBuf) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(folder.join("track.toml"))?;
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
            line.map(|value| value.trim().to_owned()).with_context(|| format!("{}: no {key}", folder.display()))
        };
        let plain = |text: String| text.trim_matches(['"', '[', ']']).to_owned();
        let data = folder.join(plain(value("data")?));
        Ok(Self { converter: plain(value("converter")?), budget: value("budget")?.replace('_', ""), data, folder })
    }
}

/// The programs that are no baselines.
fn more() -> anyhow::Result<Vec<PathBuf>> {
    let mut programs = vec![PathBuf::from(EVERYTHING)];
    for folder in FOLDERS {
        for entry in std::fs::read_dir(folder).with_context(|| folder.to_owned())? {
            programs.push(entry?.path());
        }
    }
    programs.retain(|file| file.extension().is_some_and(|extension| extension == "py"));
    programs.sort();
    Ok(programs)
}

/// The track that a program's first comment names.
fn track_of(program: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(program)?;
    let comment: Vec<&str> = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim).collect();
    let comment = comment.join(" ");
    let name = comment.split_once("Track ").and_then(|(_, rest)| Some(rest.split_once('.')?.0.to_owned()));
    name.with_context(|| format!("{}: its first comment names no track", program.display()))
}

fn check_types<'a>(python: &Path, programs: impl Iterator<Item = &'a Path>) -> anyhow::Result<()> {
    let mypy = || {
        let mut command = Command::new(python);
        command.args(["-m", "mypy", "--strict", "--cache-dir", "target/mypy"]).env("MYPYPATH", "python");
        command
    };
    succeed(mypy().arg("python/cairn"))?;
    for program in programs {
        // Programs need no annotations: what they call is checked.
        succeed(mypy().args(["--allow-untyped-defs", "--allow-untyped-calls"]).arg(program))?;
    }
    Ok(())
}

/// Every example of the manual is accepted there too, and every one that is refused here is refused there.
fn judge(python: &Path) -> anyhow::Result<()> {
    let example = ["run", "--quiet", "--locked", "-p", "cairn-program", "--example", "manual_programs"];
    let file = "target/manual_programs.txt";
    std::fs::write(file, output(Command::new("cargo").args(example))?)?;
    let programs = std::fs::File::open(file)?;
    succeed(Command::new(python).arg("python/check_manual.py").env("PYTHONPATH", "python").stdin(programs))
}

fn compare(python: &Path, track: &Track, program: &Path) -> anyhow::Result<()> {
    let until = STEPS.to_string();
    let engine = output(
        Command::new("cargo")
            .args(["run", "--quiet", "--locked", "-p", "cairn-program", "--example", "losses", "--"])
            .arg(program)
            .args([&track.converter])
            .arg(&track.data)
            .args([&track.budget, SEED, &until]),
    )?;
    let phases =
        engine.lines().next().and_then(|line| Some(line.split_once('[')?.1.split_once(']')?.0.replace(' ', "")));
    let phases = phases.context("the engine says no steps")?;
    let torch = output(
        Command::new(python)
            .args(["-m", "cairn", "run"])
            .arg(program)
            .arg("--track")
            .arg(&track.folder)
            .args(["--seed", SEED, "--steps", &phases, "--until", &until, "--json", "--no-score"])
            .env("PYTHONPATH", "python"),
    )?;
    let (engine, torch) = (losses(&engine), losses(&torch));
    if engine.len() != torch.len() || engine.is_empty() {
        bail!("{}: {} steps by the engine, {} on PyTorch", program.display(), engine.len(), torch.len());
    }
    let apart: Vec<f64> = engine.iter().zip(&torch).map(|(a, b)| (a - b).abs()).collect();
    let most = apart.iter().copied().fold(0.0, f64::max);
    println!("{:<40} first step {:.1e} nats apart, {STEPS} steps at most {most:.1e}", program.display(), apart[0]);
    // Written so that NaN is not near.
    if !(apart[0] <= ALLOWED_NATS[0] && most <= ALLOWED_NATS[1]) {
        bail!("{}: the losses are not near: engine {engine:?}, PyTorch {torch:?}", program.display());
    }
    Ok(())
}

/// The losses of lines such as `{"step": 1, "loss": 3.25}`.
fn losses(lines: &str) -> Vec<f64> {
    let loss = |line: &str| line.split_once("\"loss\": ")?.1.trim_end_matches('}').parse().ok();
    lines.lines().filter_map(loss).collect()
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if status.success() { Ok(()) } else { bail!("{command:?} failed") }
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
