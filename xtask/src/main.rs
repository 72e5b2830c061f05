//! What `cargo` alone cannot do, as `cargo xtask COMMAND`.

use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

mod exact;
mod torch;
mod vulkan;

const USAGE: &str = "usage: cargo xtask COMMAND

  test      install what the tests need (Debian packages, as root or through sudo), then run every test
  exact     compare every backend with the reference, bit for bit, on 10,000 random graphs and whole trainings, in release
            [--graphs N] another number of random graphs
            [--arm] for 64-bit ARM, under qemu (installs a cross compiler and qemu); 200 graphs unless told
            [--gpu] on every Vulkan device of this machine, three steps of every track and example included (installs a
            software device); 200 graphs unless told; [--adapter NAME] on those whose names have this in them
  torch     train the programs of the repository on PyTorch too, and compare (installs it under target/)
            [--python PATH] with an environment that has torch, numpy and mypy already
  vectors   write the golden vectors of records and arithmetic again, after a deliberate change
  manual    write the operations of docs/guide/train-py.md again, after a change of their rows";

/// What a test runs besides cargo: the program, and the Debian packages that bring it.
const NEEDED: [(&str, &str); 1] = [("python3", "python3-minimal")];

/// Told to the tests that own golden vectors: write them instead of comparing.
const WRITE_VECTORS: &str = "CAIRN_WRITE_VECTORS";
/// Told to the test that owns the manual's operations.
const WRITE_MANUAL: &str = "CAIRN_WRITE_MANUAL";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["test"] => {
            install(&NEEDED)?;
            let vulkan = vulkan::prepare()?;
            let environment: Vec<(&str, &str)> = vulkan.iter().map(|(name, value)| (*name, value.as_str())).collect();
            cargo(&["test", "--workspace", "--locked"], &environment)
        }
        ["exact", ref options @ ..] => exact::run(options),
        ["torch", ref options @ ..] => torch::run(options),
        ["vectors"] => {
            let test = ["test", "--locked", "-p", "cairn-protocol", "-p", "cairn-engine", "vectors"];
            cargo(&test, &[(WRITE_VECTORS, "1")])
        }
        ["manual"] => {
            let test = ["test", "--locked", "-p", "cairn-program", "--test", "suite", "the_manual_has_the_operations"];
            cargo(&test, &[(WRITE_MANUAL, "1")])
        }
        ["--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}

/// Installs the Debian packages whose programs are missing, and says so.
fn install(needed: &[(&str, &'static str)]) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        needed.iter().filter(|(program, _)| !runs(program)).flat_map(|(_, packages)| packages.split(' ')).collect();
    install_packages(&missing)
}

/// Installs Debian packages, and says so.
fn install_packages(missing: &[&str]) -> anyhow::Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let sudo: &[&str] = if is_root() { &[] } else { &["sudo"] };
    println!("xtask: this needs {}; installing with {}apt-get", missing.join(", "), sudo.join(" "));
    for step in [vec!["update", "-qq"], [&["install", "-y", "-qq", "--no-install-recommends"], missing].concat()] {
        let words = [sudo, &["apt-get"], &step].concat();
        let status = Command::new(words[0]).args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive").status();
        let done = status.as_ref().is_ok_and(std::process::ExitStatus::success);
        if !done {
            bail!("`{}` failed; install {} by hand and run this again", words.join(" "), missing.join(", "));
        }
    }
    Ok(())
}

fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Runs the same cargo that runs this.
fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let status = Command::new(&cargo)
        .args(arguments)
        .envs(environment.iter().copied())
        .status()
        .with_context(|| format!("cannot start {cargo}; is Rust installed?"))?;
    if !status.success() {
        bail!("`cargo {}` failed ({status})", arguments.join(" "));
    }
    Ok(())
}
