//! What parent and child of a job say to each other.
//!
//! *Invariant:* a frame is four bytes of length and that many bytes of canonical encoding, and no
//! frame is read that is longer than its kind allows.

use std::io::{self, Read, Write};

use bincode::{Decode, Encode};
use cairn_protocol::limits::{NAME_BYTES_MAX, SEEDS_MAX, SEGMENTS};
use cairn_protocol::{BoundedVec, CommitId, GraphId, Hash32, Seed, Text, VerifierKey, Wire, decode, encode};

/// Bytes of source that a job accepts: the parser's own limit.
pub const JOB_SOURCE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a path to data.
pub const PATH_BYTES_MAX: usize = 4096;
/// Bytes of a message's text.
pub const MESSAGE_TEXT_BYTES_MAX: usize = 2048;
/// Bytes of what names an adapter and its driver.
pub const ADAPTER_BYTES_MAX: usize = 512;
/// Adapters of one machine.
pub const ADAPTERS_MAX: usize = 16;
/// Backends that are timed at once.
pub const BACKENDS_MAX: usize = 4;
/// Bytes of a diagnostic as it is shown, with the source line and the call stack.
pub const RENDERED_BYTES_MAX: usize = 8192;

/// One question, what it is about, and what it may cost.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Request {
    /// The program and its track; see [`Task::nothing`] for work that needs none.
    pub task: Task,
    /// What to do with it.
    pub work: Work,
}

/// A program and the rules it is under.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Task {
    /// The whole `train.py`.
    pub source: Text<JOB_SOURCE_BYTES_MAX>,
    /// Name of the rule that turns the data into examples.
    pub converter: Text<NAME_BYTES_MAX>,
    /// File with the raw data.
    pub data: Text<PATH_BYTES_MAX>,
    /// Operations that one run may cost.
    pub budget: u64,
    /// Bytes of memory that one run may need.
    pub memory: u64,
    /// Parameters that the program may have.
    pub parameters: u64,
    /// Bits of information in its literals.
    pub literal_bits: u64,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Work {
    /// Trace and price.
    Trace,
    /// Trace, then run once for each seed.
    Run {
        /// The seeds, in order.
        seeds: BoundedVec<Seed, SEEDS_MAX>,
        /// Where to run.
        backend: BackendChoice,
        /// A segment to compute once more, on the processor.
        audit: Option<Audit>,
    },
    /// Trace, then train for some steps on each backend, for the time that they take.
    Time {
        /// The seed.
        seed: Seed,
        /// The backends.
        backends: BoundedVec<BackendChoice, BACKENDS_MAX>,
    },
    /// List the adapters of this machine. Needs no program.
    Adapters,
    /// Measure whether an adapter keeps the arithmetic. Needs no program.
    Examine {
        /// Its key.
        adapter: Text<ADAPTER_BYTES_MAX>,
        /// Directory of compiled pipelines, or empty.
        cache: Text<PATH_BYTES_MAX>,
    },
    /// Trace, run again for each seed, and compare with what was claimed.
    Replay {
        /// The seeds, in order.
        seeds: BoundedVec<Seed, SEEDS_MAX>,
        /// The claimed leaves of each seed.
        claimed: BoundedVec<BoundedVec<Hash32, { SEGMENTS as usize }>, SEEDS_MAX>,
        /// Whose proof steps to hash, of which commit.
        prover: VerifierKey,
        /// The commit.
        commit: CommitId,
        /// Key of the audit of the trained model.
        audit: Hash32,
        /// Where to run.
        backend: BackendChoice,
    },
}

/// One segment of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Audit {
    /// Index of the seed.
    pub seed: u8,
    /// Index of the segment.
    pub segment: u16,
}

/// A GPU and how it is used.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct GpuChoice {
    /// Key of the adapter: its name, its driver and the driver's version.
    pub adapter: Text<ADAPTER_BYTES_MAX>,
    /// How contractions are written: `plain`, `fma` or `barrier`.
    pub form: Text<NAME_BYTES_MAX>,
    /// Directory of compiled pipelines, or empty.
    pub cache: Text<PATH_BYTES_MAX>,
}

/// A backend and its options; among exact backends, none of them changes a bit of any result.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BackendChoice {
    /// `reference`, `cpu` or `gpu`; `candle` where this build has it, for trying things out.
    pub name: Text<NAME_BYTES_MAX>,
    /// Threads.
    pub threads: u16,
    /// Instruction set (`scalar`, `neon`, `avx2`, `avx512`); empty for the best that there is.
    pub isa: Text<NAME_BYTES_MAX>,
    /// Whether to fuse elementwise operations.
    pub fuse: bool,
    /// Rows of a batch that are computed at a time, where the program allows it; 0 for the backend's choice.
    pub micro_batch: u32,
    /// Which GPU; for `gpu` only.
    pub gpu: Option<GpuChoice>,
}

impl BackendChoice {
    /// The fast exact backend.
    pub fn cpu(threads: u16) -> Self {
        Self {
            name: Text::truncated("cpu"),
            threads: threads.max(1),
            isa: Text::truncated(""),
            fuse: true,
            micro_batch: 0,
            gpu: None,
        }
    }

    /// A GPU; the threads are for what the processor does beside it.
    pub fn gpu(gpu: GpuChoice, threads: u16) -> Self {
        Self { name: Text::truncated("gpu"), gpu: Some(gpu), ..Self::cpu(threads) }
    }
}

impl Work {
    /// Whether a GPU's driver is loaded for it.
    pub fn needs_gpu(&self) -> bool {
        match self {
            Self::Trace => false,
            Self::Run { backend, .. } | Self::Replay { backend, .. } => backend.gpu.is_some(),
            Self::Time { backends, .. } => backends.iter().any(|backend| backend.gpu.is_some()),
            Self::Adapters | Self::Examine { .. } => true,
        }
    }
}

/// An adapter: one device under one driver.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AdapterInfo {
    /// What tells it, with its driver and the driver's version, from all others.
    pub key: Text<ADAPTER_BYTES_MAX>,
    /// The device's name.
    pub name: Text<ADAPTER_BYTES_MAX>,
    /// The driver and its version, as it says it.
    pub driver: Text<ADAPTER_BYTES_MAX>,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: Text<NAME_BYTES_MAX>,
    /// `discrete`, `integrated`, `virtual`, `other` or `software`.
    pub kind: Text<NAME_BYTES_MAX>,
    /// Bytes of the longest tensor.
    pub binding_max: u64,
    /// Bytes of memory that a workgroup shares.
    pub workgroup_memory_max: u32,
    /// Buffers of one kernel.
    pub buffers_max: u32,
}

impl AdapterInfo {
    /// Whether it is a program on the processor.
    pub fn is_software(&self) -> bool {
        self.kind.as_str() == "software"
    }
}

/// What a conformance gate found.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Examined {
    /// All bits were equal.
    Passed {
        /// The fastest form of contractions that passed.
        form: Text<NAME_BYTES_MAX>,
        /// Operations a second of a product.
        speed: u64,
        /// Numbers that were compared.
        compared: u64,
    },
    /// Some were not.
    Failed(Text<MESSAGE_TEXT_BYTES_MAX>),
}

/// What a backend takes for a program.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Timed {
    /// Microseconds until the first step was done.
    pub start_us: u64,
    /// Microseconds of each further step.
    pub step_us: u64,
    /// Why it cannot run the program; empty where it can.
    pub trouble: Text<MESSAGE_TEXT_BYTES_MAX>,
}

/// What tracing found out.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TraceSummary {
    /// The experiment's identity.
    pub graph: GraphId,
    /// Nodes of all its graphs.
    pub nodes: u64,
    /// Price of the first phase's step.
    pub metered_step: u64,
    /// Steps that the budget buys.
    pub steps: u64,
    /// Price of the whole run, evaluation included.
    pub metered: u64,
    /// Peak memory, in bytes.
    pub peak_bytes: u64,
    /// Fuel that the evaluator burnt.
    pub fuel: u64,
    /// Bits of information in literals.
    pub literal_bits: u64,
}

/// Why a program was refused.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Refusal {
    /// Kind; part of the protocol.
    pub kind: Text<NAME_BYTES_MAX>,
    /// What is wrong.
    pub message: Text<MESSAGE_TEXT_BYTES_MAX>,
    /// What to do about it, or empty.
    pub hint: Text<MESSAGE_TEXT_BYTES_MAX>,
    /// Line, counted from 1.
    pub line: u32,
    /// Column, counted from 1.
    pub column: u32,
    /// The diagnostic as it is shown, with file, line and caret.
    pub rendered: Text<RENDERED_BYTES_MAX>,
}

/// What one run reached.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RunSummary {
    /// Validation metric, in units of 2⁻²⁴.
    pub metric: i64,
    /// Test metric, in units of 2⁻²⁴.
    pub test: i64,
    /// Hash of the state at the end of each segment.
    pub leaves: BoundedVec<Hash32, { SEGMENTS as usize }>,
    /// Root over the leaves.
    pub root: Hash32,
}

/// What the child reports, in order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// The program is sound; comes first.
    Traced(TraceSummary),
    /// The program is refused; comes first and last.
    Refused(Box<Refusal>),
    /// A run is under way.
    Step {
        /// Index of the seed.
        seed: u8,
        /// Steps done.
        step: u64,
        /// Bits of the training loss (`f32`).
        loss_bits: u32,
    },
    /// A run came to its end.
    Ran {
        /// Index of the seed.
        seed: u8,
        /// What it reached.
        result: RunSummary,
    },
    /// The audit of a replayed run found that an output depends on what it must not; comes just before its `Ran`.
    Leaked {
        /// Index of the seed.
        seed: u8,
        /// Window of the validation part.
        window: u64,
        /// Last position that was left as it was.
        cut: u32,
    },
    /// A number left the finite range.
    Diverged {
        /// Index of the seed.
        seed: u8,
        /// The step.
        step: u64,
        /// The tensor.
        tensor: Text<MESSAGE_TEXT_BYTES_MAX>,
    },
    /// A segment was replayed from the claim's beginning on.
    Segment {
        /// Index of the seed.
        seed: u8,
        /// Index of the segment.
        segment: u16,
        /// The leaf that was computed.
        leaf: Hash32,
        /// The state at the prover's step strictly inside the segment.
        inside: Hash32,
    },
    /// A segment of a run was computed once more, on the processor.
    Audited {
        /// Index of the seed.
        seed: u8,
        /// Index of the segment.
        segment: u16,
        /// Whether it has the same bits there. If not, the run ends.
        agrees: bool,
    },
    /// Adapters of this machine.
    Adapters(BoundedVec<AdapterInfo, ADAPTERS_MAX>),
    /// A measurement of an adapter is under way.
    Examining {
        /// Parts done.
        done: u32,
        /// Parts.
        of: u32,
        /// What is measured next.
        what: Text<NAME_BYTES_MAX>,
    },
    /// A measurement of an adapter came to its end.
    Examined(Box<Examined>),
    /// A backend was timed.
    Timed {
        /// Its index in the request.
        backend: u8,
        /// What it takes.
        timed: Timed,
    },
    /// The job could not be done, for a reason that is not the program's.
    Failed(Text<MESSAGE_TEXT_BYTES_MAX>),
    /// Nothing follows.
    Done,
}

impl Wire for Request {
    const BYTES_MAX: usize = 128 * 1024;
}
impl Wire for Message {
    const BYTES_MAX: usize = 32 * 1024;
}

fn invalid(what: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

/// Writes one frame.
pub fn write_frame<T: Wire>(to: &mut dyn Write, value: &T) -> io::Result<()> {
    let bytes = encode(value);
    let len = u32::try_from(bytes.len()).ok().filter(|len| *len as usize <= T::BYTES_MAX);
    to.write_all(&len.ok_or_else(|| invalid("a frame over its limit"))?.to_be_bytes())?;
    to.write_all(&bytes)?;
    to.flush()
}

/// Reads one frame; none at the end of the stream.
pub fn read_frame<T: Wire>(from: &mut dyn Read) -> io::Result<Option<T>> {
    let mut len = [0; 4];
    let mut got = 0;
    while let Some(rest) = len.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => got += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let len = u32::from_be_bytes(len) as usize;
    if len > T::BYTES_MAX {
        return Err(invalid(format!("a frame of {len} bytes, more than {}", T::BYTES_MAX)));
    }
    let mut bytes = vec![0; len];
    from.read_exact(&mut bytes)?;
    decode(&bytes).map(Some).map_err(invalid)
}
