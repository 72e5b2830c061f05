//! `cargo xtask exact`: the exactness suite at length, here or for another processor under emulation.

use std::process::Command;

use anyhow::{Context, bail};

/// Random graphs compared, as many as the specification of a backend asks for.
const GRAPHS: &str = "10000";
/// The same under emulation, which is some fifty times slower.
const GRAPHS_EMULATED: &str = "200";
/// Asks the fuzzer of `engine/tests/suite/cpu_fuzz.rs` for this many graphs.
const GRAPHS_VARIABLE: &str = "CAIRN_FUZZ_GRAPHS";

const ARM: &str = "aarch64-unknown-linux-gnu";
/// What building for ARM and running it take: the program, and the Debian packages that bring it.
const ARM_NEEDED: [(&str, &str); 2] = [
    ("qemu-aarch64-static", "qemu-user-static"),
    ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
];
/// Tells cargo and the build scripts how to compile, link and run for ARM.
const ARM_ENVIRONMENT: [(&str, &str); 3] = [
    ("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc"),
    ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc"),
    ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", "qemu-aarch64-static -L /usr/aarch64-linux-gnu"),
];

/// The engine's tests that compare backends: all of them against the reference, trainings against each other, and the
/// golden vectors. Memory, which an emulator does not tell, is not among them.
const ENGINE: [&str; 8] =
    ["cpu::", "cpu_exact", "cpu_fuzz", "cpu_ops", "cpu_slices", "vectors", "run_training", "reference"];

/// Random graphs on a GPU: each takes kernels that no other has.
const GRAPHS_GPU: &str = "200";
/// The same on SwiftShader, which takes seconds to compile a kernel.
const GRAPHS_SWIFTSHADER: &str = "20";
/// Names adapters for `engine/tests/suite/gpu` and `program/tests/suite/gpu.rs`.
const ADAPTER_VARIABLE: &str = "CAIRN_TEST_GPU";
/// Asks for what takes too long for an ordinary run: every track and example.
const ALL_VARIABLE: &str = "CAIRN_TEST_ALL";

pub(crate) fn run(options: &[&str]) -> anyhow::Result<()> {
    let (mut arm, mut gpu, mut graphs, mut adapter) = (false, false, None, None);
    let mut options = options.iter();
    while let Some(&option) = options.next() {
        match option {
            "--arm" => arm = true,
            "--gpu" => gpu = true,
            "--adapter" => adapter = Some(*options.next().context("--adapter needs a part of a name")?),
            "--graphs" => graphs = Some(*options.next().context("--graphs needs a number")?),
            other => bail!("`{other}` is no option of `cargo xtask exact`\n{}", super::USAGE),
        }
    }
    if let Some(graphs) = graphs {
        graphs.parse::<u64>().with_context(|| format!("--graphs {graphs}: a number is needed"))?;
    }
    if adapter.is_some() && !gpu || arm && gpu {
        bail!("--adapter belongs to --gpu, and --gpu and --arm exclude each other\n{}", super::USAGE);
    }
    if gpu {
        return on_gpu(graphs.unwrap_or(GRAPHS_GPU), adapter);
    }
    if arm {
        prepare_arm()?;
    }
    let graphs = graphs.unwrap_or(if arm { GRAPHS_EMULATED } else { GRAPHS });
    let mut environment = vec![(GRAPHS_VARIABLE, graphs)];
    let mut target = vec![];
    if arm {
        environment.extend(ARM_ENVIRONMENT);
        target.extend(["--target", ARM]);
    }
    println!("xtask: {graphs} random graphs");
    let test = ["test", "--release", "--locked", "-p"];
    let engine = [&test[..], &["cairn-engine", "--lib", "--test", "suite"], &target, &["--"], &ENGINE].concat();
    super::cargo(&engine, &environment)?;
    let tracks = [&test[..], &["cairn-program", "--test", "suite"], &target, &["--", "roots"]].concat();
    super::cargo(&tracks, &environment)
}

/// The suite on every Vulkan device, or those of this name; then on SwiftShader, where it is there.
fn on_gpu(graphs: &str, adapter: Option<&str>) -> anyhow::Result<()> {
    let vulkan = super::vulkan::prepare()?;
    let mut environment: Vec<(&str, &str)> = vulkan.iter().map(|(name, value)| (*name, value.as_str())).collect();
    environment.extend([(GRAPHS_VARIABLE, graphs), (ALL_VARIABLE, "1")]);
    environment.extend(adapter.map(|name| (ADAPTER_VARIABLE, name)));
    let suite = |environment: &[(&str, &str)], options: &[&str]| {
        ["cairn-engine", "cairn-program"].into_iter().try_for_each(|package| {
            let test = ["test", "--release", "--locked", "-p", package, "--test", "suite", "--", "gpu"];
            super::cargo(&[&test[..], options].concat(), environment)
        })
    };
    println!("xtask: {graphs} random graphs on each device");
    suite(&environment, &[])?;
    let Some(swiftshader) = super::vulkan::swiftshader().filter(|_| adapter.is_none()) else { return Ok(()) };
    environment.extend(swiftshader);
    environment.push((GRAPHS_VARIABLE, GRAPHS_SWIFTSHADER));
    println!("xtask: on SwiftShader as well, {GRAPHS_SWIFTSHADER} random graphs");
    // One at a time: it takes gigabytes to compile some kernels.
    suite(&environment, &["--test-threads", "1"])
}

/// Installs the compiler's library for ARM, the linker and the emulator.
fn prepare_arm() -> anyhow::Result<()> {
    super::install(&ARM_NEEDED)?;
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let found = Command::new(&rustc).args(["--print", "target-libdir", "--target", ARM]).output();
    let found = found.with_context(|| format!("cannot start {rustc}"))?;
    if std::path::Path::new(String::from_utf8_lossy(&found.stdout).trim()).is_dir() {
        return Ok(());
    }
    println!("xtask: adding Rust's library for {ARM}");
    let added = Command::new("rustup").args(["target", "add", ARM]).status();
    if !added.is_ok_and(|status| status.success()) {
        bail!("Rust's library for {ARM} is missing; install it (`rustup target add {ARM}`) and run this again");
    }
    Ok(())
}
