//! Programs traced and run in job processes of their own.
//!
//! *Invariant:* no program's source is evaluated in this process.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use cairn_engine::backend::Isa;
use cairn_program::job::{BackendChoice, Job, JobError, Message, Outcome, Request, Task, TraceSummary, Work};
use cairn_protocol::{Seed, Text};

use crate::cli::{Backend, BackendName, IsaName};
use crate::context::{Context, own_binary, processors};
use crate::failure::Failure;
use crate::tracks::Rules;

/// Longest life of a job that a person started and can stop.
const DEADLINE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A program and what it is called in messages.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) file: String,
    pub(crate) source: String,
}

impl Program {
    /// The program in a file, or the track's own if `baseline` is asked for and no such file exists.
    pub(crate) fn read(path: &Path, rules: &Rules) -> anyhow::Result<Self> {
        if path == Path::new("baseline") && !path.exists() {
            return Ok(Self { file: "baseline".into(), source: rules.baseline.clone() });
        }
        let shown = path.display();
        let bytes = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
        let source = String::from_utf8(bytes).map_err(|e| {
            Failure::usage(
                format!("{shown}: byte {} is not UTF-8", e.utf8_error().valid_up_to()),
                "save the file as UTF-8",
            )
        })?;
        Ok(Self { file: shown.to_string(), source })
    }
}

/// The job's task: the program under the track's rules.
pub(crate) fn task(rules: &Rules, program: &Program, budget: Option<u64>) -> anyhow::Result<Task> {
    let long =
        |e| Failure::usage(format!("{}: {e}", program.file), "shorten the program: a readable one has a tenth of that");
    let data = rules.data.to_str().ok_or_else(|| {
        Failure::advice(format!("the path {} is not UTF-8", rules.data.display()), "choose another home with --home")
    })?;
    Ok(Task {
        source: Text::try_from(program.source.as_str()).map_err(long)?,
        converter: Text::try_from(rules.converter.as_str())?,
        data: Text::try_from(data)?,
        budget: budget.unwrap_or(rules.budget),
        memory: rules.memory,
        parameters: rules.parameters,
        literal_bits: rules.literal_bits,
    })
}

/// Does `work` to its end; `watch` sees every message and may say stop.
///
/// # Errors
/// The program is refused, the job failed, or Ctrl-C was pressed.
pub(crate) fn perform(
    context: &Context,
    file: &str,
    task: Task,
    work: Work,
    watch: &mut dyn FnMut(&Message) -> bool,
) -> anyhow::Result<Outcome> {
    match raw(context, task, work, watch) {
        Ok(Outcome::Refused(refusal)) => Err(Failure::Refused { refusal, file: file.to_string() }.into()),
        Ok(outcome) => Ok(outcome),
        Err(_) if context.interrupt.stopped() => Err(Failure::Interrupted.into()),
        Err(JobError::Memory) => Err(Failure::advice(
            JobError::Memory.to_string(),
            "close other programs, or use fewer threads; the track's own limit is checked before a run begins",
        )),
        Err(error) => Err(error.into()),
    }
}

/// As [`perform`], with the job's own errors.
pub(crate) fn raw(
    context: &Context,
    task: Task,
    work: Work,
    watch: &mut dyn FnMut(&Message) -> bool,
) -> Result<Outcome, JobError> {
    let exe = own_binary().map_err(|e| JobError::Failed(e.to_string()))?;
    let threads = match &work {
        Work::Trace | Work::Adapters | Work::Examine { .. } | Work::Time { .. } => 1,
        // What a GPU's driver does beside the run is not limited to its threads.
        Work::Run { backend, .. } | Work::Replay { backend, .. } if backend.gpu.is_some() => u64::from(processors()),
        Work::Run { backend, .. } | Work::Replay { backend, .. } => u64::from(backend.threads.max(1)),
    };
    let job = Job::spawn(&exe, Request { task, work }, DEADLINE, DEADLINE.as_secs().saturating_mul(threads))?;
    context.interrupt.on_stop(job.killer());
    job.finish(watch)
}

/// Traces and prices a program.
pub(crate) fn trace(
    context: &Context,
    rules: &Rules,
    program: &Program,
    budget: Option<u64>,
) -> anyhow::Result<TraceSummary> {
    let task = task(rules, program, budget)?;
    match perform(context, &program.file, task, Work::Trace, &mut |_| true)? {
        Outcome::Done { traced, .. } => Ok(traced),
        other => anyhow::bail!("tracing ended with {other:?}"),
    }
}

/// The work of one run.
pub(crate) fn run_once(seed: Seed, backend: BackendChoice) -> anyhow::Result<Work> {
    Ok(Work::Run { seeds: vec![seed].try_into()?, backend, audit: None })
}

/// The backend that the options mean, and whether its results count.
///
/// # Errors
/// This processor lacks the instruction set, this machine the GPU, or this build the backend.
pub(crate) fn backend(context: &Context, options: &Backend) -> anyhow::Result<(BackendChoice, bool)> {
    let threads = options.threads.unwrap_or_else(processors);
    if options.backend == BackendName::Candle && !cairn_engine::backend::CANDLE {
        return Err(Failure::advice(
            "this binary was built without the candle backend",
            "build it with: cargo build --release --features candle",
        ));
    }
    if let Some(isa) = options.isa {
        let has = instruction_sets();
        if !has.contains(&isa_name(isa)) {
            return Err(Failure::advice(
                format!("this processor has no {}", isa_name(isa)),
                format!("leave --isa out, or choose one of: {}", has.join(", ")),
            ));
        }
    }
    if options.gpu.is_some() && options.backend != BackendName::Gpu {
        return Err(Failure::usage("--gpu names the GPU of --backend gpu", "add --backend gpu, or leave --gpu out"));
    }
    let (gpu, exact) = match options.backend {
        BackendName::Gpu => {
            let (gpu, trusted) = crate::gpu::choose(context, options.gpu.as_deref())?;
            (Some(gpu), trusted)
        }
        BackendName::Candle => (None, false),
        BackendName::Reference | BackendName::Cpu => (None, true),
    };
    let choice = BackendChoice {
        name: Text::truncated(match options.backend {
            BackendName::Reference => "reference",
            BackendName::Cpu => "cpu",
            BackendName::Gpu => "gpu",
            BackendName::Candle => "candle",
        }),
        threads: if options.backend == BackendName::Reference { 1 } else { threads },
        isa: Text::truncated(options.isa.map_or("", isa_name)),
        fuse: !options.no_fuse,
        micro_batch: options.micro_batch.unwrap_or(0),
        gpu,
    };
    Ok((choice, exact))
}

fn isa_name(isa: IsaName) -> &'static str {
    match isa {
        IsaName::Scalar => "scalar",
        IsaName::Neon => "neon",
        IsaName::Avx2 => "avx2",
        IsaName::Avx512 => "avx512",
    }
}

/// The instruction sets of this processor, slowest first.
pub(crate) fn instruction_sets() -> Vec<&'static str> {
    cairn_engine::cpu::available()
        .into_iter()
        .map(|isa| match isa {
            Isa::Scalar => "scalar",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        })
        .collect()
}

/// The instruction set that a run really uses.
pub(crate) fn isa_used(choice: &BackendChoice) -> &str {
    match (choice.name.as_str(), choice.isa.as_str()) {
        ("reference", _) => "scalar",
        ("candle" | "gpu", _) => "",
        (_, "") => instruction_sets().last().copied().unwrap_or("scalar"),
        (_, named) => named,
    }
}
