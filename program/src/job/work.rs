//! What a job does with its request: load the data, trace, run or replay, report.
//!
//! *Invariant:* nothing of the request is believed beyond its limits, and a replay computes every step from the seed:
//! what was claimed plays no part in it.

use std::fs::File;
use std::io::{self, Read};

use cairn_engine::backend::{Isa, Kind, Options};
use cairn_engine::data::Dataset;
use cairn_engine::run::{Control, Finished, Leak, RunError, Watch, train};
use cairn_protocol::limits::SEGMENTS;
use cairn_protocol::{BoundedVec, CommitId, Hash32, Seed, Text, VerifierKey, inside_step};

use super::child::Report;
use super::measure;
use super::wire::{BackendChoice, Message, Refusal, Request, RunSummary, Task, TraceSummary, Work};
use crate::{Diagnostic, Limits, TraceContext, Traced, trace};

/// Steps that a run reports, about: a curve needs no more, and a report costs more than a tiny step.
const STEP_REPORTS: u64 = 200;

/// Does what `request` asks for; everything that is found, good or bad, is a message.
///
/// # Errors
/// A report could not be delivered: the parent is gone.
pub fn work(request: &Request, report: &mut Report<'_>) -> io::Result<()> {
    match &request.work {
        Work::Adapters => return measure::adapters(report),
        Work::Examine { adapter, cache } => return measure::examine(adapter, cache, report),
        _ => {}
    }
    let data = match load(&request.task) {
        Ok(data) => data,
        Err(why) => return report(Message::Failed(Text::truncated(&why))),
    };
    let traced = match traced(&request.task, &data) {
        Ok(traced) => traced,
        Err(diagnostic) => return report(Message::Refused(refusal(&request.task, &diagnostic))),
    };
    report(Message::Traced(summary(&traced)))?;
    let (seeds, backend, replay, audit) = match &request.work {
        Work::Trace | Work::Adapters | Work::Examine { .. } => return Ok(()),
        Work::Time { seed, backends } => return measure::time(&traced, &data, seed, backends, report),
        Work::Run { seeds, backend, audit } => (seeds, backend, None, *audit),
        Work::Replay { seeds, prover, commit, audit, backend, .. } => {
            (seeds, backend, Some(Replay { prover: *prover, commit: *commit, audit: *audit }), None)
        }
    };
    let options = match options(backend) {
        Ok(options) => options,
        Err(why) => return report(Message::Failed(Text::truncated(&why))),
    };
    if replay.is_some() && !options.kind.exact() {
        return report(Message::Failed(Text::truncated("a replay compares bits: it needs an exact backend")));
    }
    for (index, seed) in (0u8..).zip(seeds.iter()) {
        let audit = audit.filter(|audit| audit.seed == index).map(|audit| audit.segment);
        let every = traced.steps.div_ceil(STEP_REPORTS).max(1);
        let run = Run { seed: index, every, replay, audit, audited: None, report, broken: None };
        if !run.run(&traced, &data, seed, &options)? {
            break;
        }
    }
    Ok(())
}

/// Reads the data file, never more of it than the converter takes.
fn load(task: &Task) -> Result<Dataset, String> {
    let path = task.data.as_str();
    let max = Dataset::bytes_max(task.converter.as_str()).map_err(|error| error.to_string())?;
    let read = || {
        let file = File::open(path)?;
        let mut raw = Vec::new();
        file.take(max.saturating_add(1)).read_to_end(&mut raw)?;
        Ok(raw)
    };
    let raw = read().map_err(|error: io::Error| format!("{path}: {error}"))?;
    Dataset::load(task.converter.as_str(), &raw).map_err(|error| format!("{path}: {error}"))
}

fn traced(task: &Task, data: &Dataset) -> Result<Traced, Box<Diagnostic>> {
    let context = TraceContext {
        data: data.spec().clone(),
        budget: task.budget,
        memory: task.memory,
        parameters: task.parameters,
        literal_bits: task.literal_bits,
    };
    trace(task.source.as_str(), &context, &Limits::default())
}

fn refusal(task: &Task, diagnostic: &Diagnostic) -> Box<Refusal> {
    Box::new(Refusal {
        kind: Text::truncated(diagnostic.kind.name()),
        message: Text::truncated(&diagnostic.message),
        hint: Text::truncated(diagnostic.hint.as_deref().unwrap_or_default()),
        line: diagnostic.line,
        column: diagnostic.column,
        rendered: Text::truncated(&diagnostic.render(task.source.as_str(), "train.py")),
    })
}

fn summary(traced: &Traced) -> TraceSummary {
    TraceSummary {
        graph: traced.graph,
        nodes: traced.nodes,
        metered_step: traced.metered_step,
        steps: traced.steps,
        metered: traced.metered,
        peak_bytes: traced.peak_bytes,
        fuel: traced.fuel,
        literal_bits: traced.literal_bits,
    }
}

/// The backend that was chosen.
pub(super) fn options(choice: &BackendChoice) -> Result<Options, String> {
    let kind = match (choice.name.as_str(), &choice.gpu) {
        ("reference", _) => Kind::Reference,
        ("cpu", _) => Kind::Cpu,
        ("gpu", Some(gpu)) => Kind::Gpu(measure::choice(gpu)?),
        ("gpu", None) => return Err("no GPU is named".into()),
        ("candle", _) => Kind::Candle,
        (other, _) => {
            return Err(format!("there is no backend `{other}`; there are `reference`, `cpu`, `gpu` and `candle`"));
        }
    };
    let isa = match choice.isa.as_str() {
        "" => None,
        "scalar" => Some(Isa::Scalar),
        "neon" => Some(Isa::Neon),
        "avx2" => Some(Isa::Avx2),
        "avx512" => Some(Isa::Avx512),
        other => {
            return Err(format!(
                "there is no instruction set `{other}`; there are `scalar`, `neon`, `avx2` and `avx512`"
            ));
        }
    };
    let micro_batch = (choice.micro_batch > 0).then_some(choice.micro_batch);
    Ok(Options { kind, threads: usize::from(choice.threads.max(1)), isa, fuse: choice.fuse, micro_batch })
}

/// Whose proofs to hash, of which commit, and the key of the audit.
#[derive(Clone, Copy)]
struct Replay {
    prover: VerifierKey,
    commit: CommitId,
    audit: Hash32,
}

/// One run that reports as it goes.
struct Run<'a, 'b> {
    seed: u8,
    /// Steps from one report to the next.
    every: u64,
    /// What a replay does besides running.
    replay: Option<Replay>,
    /// The segment that the processor is to compute too.
    audit: Option<u16>,
    /// A segment that it computed, with the same bits.
    audited: Option<u16>,
    report: &'a mut Report<'b>,
    /// Why the last report could not be delivered.
    broken: Option<io::Error>,
}

impl Run<'_, '_> {
    /// Runs to the end; whether the next seed is to be run.
    fn run(mut self, traced: &Traced, data: &Dataset, seed: &Seed, options: &Options) -> io::Result<bool> {
        let result = train(&traced.program, data, seed, SEGMENTS, options, &mut self);
        if let Some(error) = self.broken {
            return Err(error);
        }
        let seed = self.seed;
        let (message, goes_on) = match result {
            Ok(finished) => {
                if let Some(Leak { window, cut, .. }) = finished.leak {
                    (self.report)(Message::Leaked { seed, window, cut })?;
                }
                (Message::Ran { seed, result: reached(finished) }, true)
            }
            Err(RunError::Diverged { step, tensor }) => {
                (Message::Diverged { seed, step, tensor: Text::truncated(&tensor) }, false)
            }
            Err(error @ RunError::Inexact { segment }) => {
                (self.report)(Message::Audited { seed, segment, agrees: false })?;
                (Message::Failed(Text::truncated(&error.to_string())), false)
            }
            Err(error) => (Message::Failed(Text::truncated(&error.to_string())), false),
        };
        (self.report)(message)?;
        Ok(goes_on)
    }

    fn tell(&mut self, message: Message) -> Control {
        match (self.report)(message) {
            Ok(()) => Control::Continue,
            Err(error) => {
                self.broken = Some(error);
                Control::Stop
            }
        }
    }
}

fn reached(finished: Finished) -> RunSummary {
    let mut leaves = BoundedVec::default();
    for leaf in finished.leaves {
        // A run has as many leaves as a list of leaves can hold.
        if leaves.push(leaf).is_err() {
            break;
        }
    }
    RunSummary { metric: finished.metric, test: finished.test, leaves, root: finished.root }
}

impl Watch for Run<'_, '_> {
    fn step(&mut self, step: u64, steps: u64, loss: f32) -> Control {
        if !step.is_multiple_of(self.every) && step != steps {
            return Control::Continue;
        }
        self.tell(Message::Step { seed: self.seed, step, loss_bits: loss.to_bits() })
    }

    fn inside(&mut self, segment: u16, steps_in_segment: u64) -> Option<u64> {
        let Replay { prover, commit, .. } = self.replay?;
        Some(inside_step(prover, commit, self.seed, segment, steps_in_segment))
    }

    fn audit(&mut self) -> Option<Hash32> {
        self.replay.map(|replay| replay.audit)
    }

    fn check(&mut self, segment: u16) -> bool {
        self.audit == Some(segment)
    }

    fn checked(&mut self, segment: u16) {
        self.audited = Some(segment);
    }

    fn segment(&mut self, segment: u16, leaf: Hash32, inside: Option<Hash32>) -> Control {
        if let Some(segment) = self.audited.take()
            && self.tell(Message::Audited { seed: self.seed, segment, agrees: true }) == Control::Stop
        {
            return Control::Stop;
        }
        match inside {
            Some(inside) => self.tell(Message::Segment { seed: self.seed, segment, leaf, inside }),
            None => Control::Continue,
        }
    }
}
