//! The command line: every command, its options, its help.
//!
//! *Invariant:* nothing here acts; [`crate::commands`] gives the arguments their meaning.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const AFTER_HELP: &str = "\
Examples:
  cairn demo                                a whole network on this machine, in under three minutes
  cairn run train.py --track names          one experiment; nothing is published
  cairn replay 3fa2                         check an entry yourself, bit for bit
  cairn verifier --track names --listen /ip4/0.0.0.0/udp/4001/quic-v1
  cairn node --track names --peer /ip4/192.0.2.7/udp/4001/quic-v1/p2p/12D3…

Exit codes:
  0    done
  1    something went wrong; the message says what, where and what to do
  2    wrong usage, or the program is refused (diagnostic with line and caret)
  3    a replay refuted the entry
  4    a demo ended without an accepted entry
  5    a run diverged (the message names step and tensor)
  130  interrupted

Every command takes --json; the fields are described in docs/guide/json.md.";

/// Research by a swarm, checked bit for bit.
#[derive(Debug, Parser)]
#[command(name = "cairn", version, styles = STYLES, after_help = AFTER_HELP, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Home directory: configuration, keys, store [default: the platform's data directory]
    #[arg(long, global = true, env = "CAIRN_HOME", value_name = "DIR", hide_env_values = true)]
    pub(crate) home: Option<PathBuf>,
    /// Print JSON: one object, or one a line for streams
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print results and errors only
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Say more; twice for the logs of the network
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A whole network on this machine: verifiers, workers, an observer, a leaderboard
    Demo(Demo),
    /// Donate compute: search for improvements of the joined track
    Node(Node),
    /// Check what others found, and sign the chain
    Verifier(Network),
    /// Tracks that ship with this program and tracks known here
    Tracks,
    /// Pick the research track that other commands mean by default
    Join(Join),
    /// Forget the joined track
    Leave(Leave),
    /// Leaderboard of a track
    Board(Board),
    /// Entries of a track's chain, newest first
    Log(Log),
    /// An entry or commit: what changed, why, what it claims
    Show(Show),
    /// What differs between two programs
    Diff(Diff),
    /// Trace and price a program without running it
    Trace(Trace),
    /// Run one experiment here; nothing is published
    Run(Run),
    /// Recompute an entry and compare every bit
    Replay(Replay),
    /// Make a track of your own
    #[command(subcommand)]
    Track(Track),
    /// Public keys of this home
    Id,
    /// Processor, GPUs, versions, home, disk, keys: what works here
    Doctor(Doctor),
    /// Speed here: products, training steps, price list; also against PyTorch
    Bench(Bench),
    /// Check or rebuild the store
    #[command(subcommand)]
    Store(Store),
    /// Completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// One traced or run program; started by this program itself
    #[command(hide = true)]
    Job {
        /// Bytes of memory
        memory: u64,
        /// Seconds of processor time
        cpu: u64,
    },
    /// A training that is measured in turns with others; started by `bench`
    #[command(hide = true)]
    BenchPeer {
        /// Model, or `baseline:TRACK`
        subject: String,
        /// Threads
        threads: u16,
        /// Number of the GPU and form of its products, as `0:fma`
        #[arg(long)]
        gpu: Option<String>,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cairn demo
  cairn demo --minutes 10 --workers 4 --json
  cairn demo --stay --keep ./demo      # stays until Ctrl-C; homes, keys and chain lie in ./demo

Exit codes: 0 with at least one accepted entry, 4 without one, 130 interrupted.")]
pub(crate) struct Demo {
    /// Track that ships with this program, or a track's folder
    #[arg(long, default_value = "names", value_name = "TRACK")]
    pub(crate) track: String,
    /// Ends after this time at the latest
    #[arg(long, default_value_t = 2.75, value_name = "MINUTES", value_parser = minutes)]
    pub(crate) minutes: f64,
    /// Ends after this many accepted entries
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) entries: u64,
    /// Workers
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: u16,
    /// Verifiers
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=31))]
    pub(crate) verifiers: u16,
    /// Makes the search repeatable as far as timing allows
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Goes on until Ctrl-C instead of ending
    #[arg(long)]
    pub(crate) stay: bool,
    /// Keeps every process's home in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// How to take part in the network.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Ends cleanly on Ctrl-C (exit code 0); a second Ctrl-C ends it at once. Nothing signed is lost.")]
pub(crate) struct Network {
    /// Track: id or prefix, or name of a track known here [default: the joined one]
    #[arg(long, value_name = "TRACK")]
    pub(crate) track: Option<String>,
    /// Address to listen on; may be repeated [default: any free port]
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) listen: Vec<String>,
    /// Peer to connect to; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) peer: Vec<String>,
    /// Processor threads to use [default: all]
    #[arg(long, visible_alias = "cpus", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Ends after this time
    #[arg(long, value_name = "MINUTES", value_parser = minutes)]
    pub(crate) minutes: Option<f64>,
    /// Ends when the standard input does: for a parent process that starts this one
    #[arg(long, hide = true)]
    pub(crate) with_parent: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cairn join names && cairn node --peer /ip4/192.0.2.7/udp/4001/quic-v1/p2p/12D3…
  cairn node --track 3fa2 --cpus 2 --minutes 60
  cairn node --gpu off

A GPU is compared with the processor bit by bit before it is used, and again every hour; see `cairn doctor`.
Ends cleanly on Ctrl-C (exit code 0); a second Ctrl-C ends it at once. Nothing signed is lost.")]
pub(crate) struct Node {
    #[command(flatten)]
    pub(crate) network: Network,
    /// Follows the chain only: no research, no key
    #[arg(long)]
    pub(crate) observe: bool,
    /// GPU to use: a part of its name, `auto` or `off` [default: auto, the fastest real one that keeps every bit]
    #[arg(long, value_name = "NAME|off")]
    pub(crate) gpu: Option<String>,
    /// Seed of the search: makes it repeatable as far as timing allows
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cairn doctor                          real GPUs that were not examined yet are examined: some seconds
  cairn doctor --gpu llvmpipe           a program on the processor that plays a GPU, too
  cairn doctor --gpu Radeon --again     once more, after a driver was mended or an audit caught it
  cairn doctor --gpu off                no driver is loaded")]
pub(crate) struct Doctor {
    /// GPUs to examine: a part of a name, `all`, `auto` (the real ones) or `off`
    #[arg(long, default_value = "auto", value_name = "NAME|all|off")]
    pub(crate) gpu: String,
    /// Examines also those that were examined before
    #[arg(long)]
    pub(crate) again: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// Track: id, or prefix or name of a track known here
    #[arg(value_name = "TRACK")]
    pub(crate) track: String,
    /// Peer that is remembered with it; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) peer: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Leave {
    /// Track to leave [default: the joined one]
    #[arg(value_name = "TRACK")]
    pub(crate) track: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Board {
    /// Track: id or prefix, or name of a track known here [default: the joined one]
    #[arg(value_name = "TRACK")]
    pub(crate) track: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// Track: id or prefix, or name of a track known here [default: the joined one]
    #[arg(value_name = "TRACK")]
    pub(crate) track: Option<String>,
    /// Shows queued and refused commits as well
    #[arg(long)]
    pub(crate) all: bool,
    /// Shows at most this many
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) max: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Entry or commit: id or unique prefix; or `baseline`
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Prints the program itself, and nothing else
    #[arg(long)]
    pub(crate) source: bool,
    /// Track, where `baseline` alone is not clear
    #[arg(long, value_name = "TRACK")]
    pub(crate) track: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cairn diff 3fa2               # against the program that it started from
  cairn diff baseline 3fa2
  cairn diff 3fa2 train.py      # against a file")]
pub(crate) struct Diff {
    /// Entry, commit, `baseline` or file
    #[arg(value_name = "A")]
    pub(crate) a: String,
    /// Entry, commit, `baseline` or file [default: A against its parent]
    #[arg(value_name = "B")]
    pub(crate) b: Option<String>,
    /// Track, where `baseline` alone is not clear
    #[arg(long, value_name = "TRACK")]
    pub(crate) track: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 priced, 2 refused (the diagnostic has line, caret and hint).")]
pub(crate) struct Trace {
    /// The program; `baseline` for the track's own
    #[arg(value_name = "TRAIN.PY")]
    pub(crate) program: PathBuf,
    /// Shipped track, track's folder, or track known here [default: the joined one, else names]
    #[arg(long, value_name = "TRACK")]
    pub(crate) track: Option<String>,
    /// Operations that the run may cost, instead of the track's
    #[arg(long, value_name = "OPS", value_parser = operations)]
    pub(crate) budget: Option<u64>,
}

/// How to run.
#[derive(Clone, Debug, Args)]
pub(crate) struct Backend {
    /// Backend; `reference`, `cpu` and `gpu` give the same bits
    #[arg(long, value_enum, default_value_t = BackendName::Cpu)]
    pub(crate) backend: BackendName,
    /// Threads [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// GPU of --backend gpu: a part of its name [default: the fastest real one]
    #[arg(long, value_name = "NAME")]
    pub(crate) gpu: Option<String>,
    /// Instruction set [default: the best that this processor has]
    #[arg(long, value_enum)]
    pub(crate) isa: Option<IsaName>,
    /// Runs every elementwise operation on its own
    #[arg(long)]
    pub(crate) no_fuse: bool,
    /// Rows of a batch that are computed at a time, where the program allows it [default: what takes least memory
    /// without costing time]
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) micro_batch: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendName {
    /// The definition: scalar and slow
    Reference,
    /// Exact and fast
    Cpu,
    /// Exact, on a GPU that was found to be; measures it on first use
    Gpu,
    /// Near the exact result, on other hardware; not for claims or replays
    Candle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum IsaName {
    /// Portable
    Scalar,
    /// 64-bit ARM
    Neon,
    /// x86-64 with AVX2 and FMA
    Avx2,
    /// x86-64 with AVX-512
    Avx512,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cairn run train.py --track names
  cairn run baseline --track shakespeare-small --seed 7 --threads 2
  cairn run train.py --track names --backend reference --budget 50M
  cairn run baseline --track shakespeare-small --backend gpu

Exit codes: 0 done, 1 failed, 2 refused (diagnostic), 5 diverged (step and tensor), 130 interrupted.")]
pub(crate) struct Run {
    /// The program; `baseline` for the track's own
    #[arg(value_name = "TRAIN.PY")]
    pub(crate) program: PathBuf,
    /// Shipped track, track's folder, or track known here [default: the joined one, else names]
    #[arg(long, value_name = "TRACK")]
    pub(crate) track: Option<String>,
    /// Seed: a number, or the 64 hexadecimal digits of an official one
    #[arg(long, default_value = "1", value_name = "N", value_parser = seed)]
    pub(crate) seed: cairn_protocol::Seed,
    #[command(flatten)]
    pub(crate) backend: Backend,
    /// Operations that the run may cost, instead of the track's
    #[arg(long, value_name = "OPS", value_parser = operations)]
    pub(crate) budget: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 confirmed, 3 refuted, 1 could not be checked (the message says what is missing), 130 interrupted.")]
pub(crate) struct Replay {
    /// Entry or commit: id or unique prefix
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) backend: Backend,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Track {
    /// Checks a track's folder: record, data, baseline
    Check {
        /// The folder
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Measures the baseline over many seeds and writes margin and record with the evidence
    Calibrate(Calibrate),
    /// Makes the record of a track and stores it in this home
    Open(Open),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Writes margin_units and [baseline] into track.toml (comments stay) and the evidence into calibration.json:
margin = 3.09 · sd · √(2/m) · 1.5, rounded up, with m the track's official seeds.")]
pub(crate) struct Calibrate {
    /// The folder
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Seeds to run, 1 to N
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(30..=10_000))]
    pub(crate) seeds: u32,
    /// Runs at a time [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) jobs: Option<u16>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  cairn track open tracks/names --roster 1f0c…,99ab…,42d1…,07e3…

Each verifier prints its key with `cairn id`. The first key is the sequencer.")]
pub(crate) struct Open {
    /// The folder, or the name of a shipped track
    #[arg(value_name = "DIR")]
    pub(crate) dir: String,
    /// Keys of the founding verifiers, in seat order
    #[arg(long, value_name = "KEY,…", value_delimiter = ',', required = true)]
    pub(crate) roster: Vec<cairn_protocol::VerifierKey>,
    /// Key of the track's author [default: this home's]; the same options give the same id in every home
    #[arg(long, value_name = "KEY")]
    pub(crate) owner: Option<cairn_protocol::AuthorKey>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cairn bench                                   products, training steps, memory, hashes: some minutes
  cairn bench --only ops                        real time for each metered operation
  cairn bench --only steps --models gpt-128 --threads 1,2
  cairn bench --against torch --python venv/bin/python --only against
  cairn bench --ops --against torch --markdown  everything, as in docs/performance.md
  cairn bench --gpu                             the GPU beside the processor: products, steps, kernels
  cairn bench --gpu NVIDIA --against torch --device cuda

Numbers are medians with their quartiles. What is compared is measured in turns; still, close other programs first.")]
pub(crate) struct Bench {
    /// Measures these parts only
    #[arg(long, value_enum, value_name = "PART,…", value_delimiter = ',')]
    pub(crate) only: Vec<Part>,
    /// Measures every operation against its price as well
    #[arg(long)]
    pub(crate) ops: bool,
    /// Compares training steps with another system's
    #[arg(long, value_enum)]
    pub(crate) against: Option<Other>,
    /// Python that has PyTorch
    #[arg(long, default_value = "python3", value_name = "FILE")]
    pub(crate) python: String,
    /// Measures this GPU, by a part of its name, and nothing else unless --only or --against ask for it [without NAME: the
    /// best one]
    #[arg(long, num_args = 0..=1, default_missing_value = "", value_name = "NAME")]
    pub(crate) gpu: Option<String>,
    /// PyTorch's device in a comparison with the GPU
    #[arg(long, default_value = "cuda", value_name = "DEVICE", requires = "gpu")]
    pub(crate) device: String,
    /// Leaves torch.compile out
    #[arg(long)]
    pub(crate) no_compile: bool,
    /// Models to train [default: large and tiny ones]
    #[arg(long, value_name = "MODEL,…", value_delimiter = ',')]
    pub(crate) models: Vec<String>,
    /// Numbers of threads [default: 1 and 2]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Vec<u16>,
    /// Measurements of each [default: 9]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) pairs: Option<u16>,
    /// Shows in seconds that everything works; the numbers mean little
    #[arg(long)]
    pub(crate) quick: bool,
    /// Prints the tables as Markdown
    #[arg(long)]
    pub(crate) markdown: bool,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Multiplications and additions a second
    Peak,
    /// Matrix products as a share of the peak
    Products,
    /// Training steps and their memory
    Steps,
    /// State hashes as a share of a run
    Hashes,
    /// Real time for each metered operation
    Ops,
    /// A GPU: peak, products, training steps, kernels
    Gpu,
    /// Training steps of another system
    Against,
}

/// Another system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Other {
    /// PyTorch, eager and compiled
    Torch,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Checks the database, every chain and every data file
    Check,
    /// Derives the leaderboards again from the chains
    Rebuild,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes > 0.0 && minutes <= 1e6 => Ok(minutes),
        _ => Err("a positive number of minutes is needed, such as 2.5".into()),
    }
}

/// `250000000`, `250M`, `2.5e8`, `1G`.
fn operations(text: &str) -> Result<u64, String> {
    let error = || "a number of operations is needed, such as 250000000, 250M or 2.5e8".to_string();
    let (digits, unit) = match text.chars().last() {
        Some('k' | 'K') => (text.get(..text.len() - 1).unwrap_or_default(), 1e3),
        Some('M') => (text.get(..text.len() - 1).unwrap_or_default(), 1e6),
        Some('G') => (text.get(..text.len() - 1).unwrap_or_default(), 1e9),
        Some('T') => (text.get(..text.len() - 1).unwrap_or_default(), 1e12),
        _ => (text, 1.0),
    };
    if unit == 1.0
        && let Ok(operations) = digits.replace('_', "").parse::<u64>()
    {
        return if operations > 0 { Ok(operations) } else { Err(error()) };
    }
    let value = digits.parse::<f64>().map_err(|_| error())? * unit;
    if (1.0..=9e15).contains(&value) { Ok(value.round() as u64) } else { Err(error()) }
}

fn seed(text: &str) -> Result<cairn_protocol::Seed, String> {
    if let Ok(number) = text.parse::<u64>() {
        return Ok(cairn_protocol::Seed::numbered(number));
    }
    text.parse().map_err(|_| "a number, or the 64 hexadecimal digits of an official seed, is needed".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn operations_are_read_with_and_without_units() {
        for (text, want) in
            [("250000000", 250_000_000), ("250M", 250_000_000), ("2.5e8", 250_000_000), ("1G", 1_000_000_000)]
        {
            assert_eq!(operations(text), Ok(want), "{text}");
        }
        for text in ["", "M", "0", "-1", "ten", "1e99"] {
            assert!(operations(text).is_err(), "{text}");
        }
    }
}
