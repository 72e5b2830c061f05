//! What a job finds out about GPUs: which there are, whether they keep the arithmetic, and how fast a program runs.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cairn_engine::data::Dataset;
use cairn_engine::gpu::{self, AdapterKind, Choice, Form, gate};
use cairn_engine::run::{Control, RunError, Watch, train};
use cairn_protocol::limits::{NAME_BYTES_MAX, SEGMENTS};
use cairn_protocol::{BoundedVec, Hash32, Seed, Text};

use super::child::Report;
use super::wire::{
    ADAPTER_BYTES_MAX, ADAPTERS_MAX, AdapterInfo, BACKENDS_MAX, BackendChoice, Examined, GpuChoice, Message,
    PATH_BYTES_MAX, Timed,
};
use super::work::options;
use crate::Traced;

/// Time over which steps are measured: a mean over fewer says little on a busy machine.
const MEASURED: Duration = Duration::from_millis(250);

/// Lists the adapters.
pub(super) fn adapters(report: &mut Report<'_>) -> io::Result<()> {
    let mut list = BoundedVec::default();
    for adapter in gpu::adapters().iter().take(ADAPTERS_MAX) {
        let kind = match adapter.kind {
            AdapterKind::Discrete => "discrete",
            AdapterKind::Integrated => "integrated",
            AdapterKind::Virtual => "virtual",
            AdapterKind::Other => "other",
            AdapterKind::Software => "software",
        };
        let info = AdapterInfo {
            key: key(adapter),
            name: Text::truncated(&adapter.name),
            driver: Text::truncated(format!("{} {}", adapter.driver, adapter.driver_info).trim()),
            backend: Text::truncated(adapter.backend),
            kind: Text::truncated(kind),
            binding_max: adapter.binding_max,
            workgroup_memory_max: adapter.workgroup_memory_max,
            buffers_max: adapter.buffers_max,
        };
        // There are no more than the list holds.
        if list.push(info).is_err() {
            break;
        }
    }
    report(Message::Adapters(list))
}

fn key(adapter: &gpu::Adapter) -> Text<ADAPTER_BYTES_MAX> {
    Text::truncated(&adapter.key())
}

/// The index of the adapter that has this key.
fn find(named: &Text<ADAPTER_BYTES_MAX>) -> Result<u8, String> {
    let at = gpu::adapters().iter().position(|adapter| key(adapter) == *named);
    at.and_then(|at| u8::try_from(at).ok()).ok_or_else(|| {
        format!(
            "`{named}` is not here any more: another driver, or another machine; `cairn doctor` lists what there is"
        )
    })
}

fn keep_pipelines_in(cache: &Text<PATH_BYTES_MAX>) {
    if !cache.is_empty() {
        gpu::keep_pipelines_in(PathBuf::from(cache.as_str()));
    }
}

/// What the engine calls a GPU and a form.
pub(super) fn choice(gpu: &GpuChoice) -> Result<Choice, String> {
    let form = Form::named(gpu.form.as_str()).ok_or_else(|| {
        format!("there is no form `{}` of contractions; there are `plain`, `fma` and `barrier`", gpu.form)
    })?;
    keep_pipelines_in(&gpu.cache);
    Ok(Choice { adapter: find(&gpu.adapter)?, form })
}

/// Measures whether an adapter keeps the arithmetic.
pub(super) fn examine(
    adapter: &Text<ADAPTER_BYTES_MAX>,
    cache: &Text<PATH_BYTES_MAX>,
    report: &mut Report<'_>,
) -> io::Result<()> {
    keep_pipelines_in(cache);
    let index = match find(adapter) {
        Ok(index) => index,
        Err(why) => return report(Message::Failed(Text::truncated(&why))),
    };
    let mut broken = None;
    let examined = gate::examine(index, &mut |gate::Progress { done, of, what }| {
        let what = Text::<NAME_BYTES_MAX>::truncated(what);
        match report(Message::Examining { done, of, what }) {
            Ok(()) => Control::Continue,
            Err(error) => {
                broken = Some(error);
                Control::Stop
            }
        }
    });
    if let Some(error) = broken {
        return Err(error);
    }
    report(match examined {
        Ok(gate::Verdict::Passed { form, speed, compared }) => {
            let form = Text::truncated(form.name());
            Message::Examined(Box::new(Examined::Passed { form, speed, compared }))
        }
        Ok(gate::Verdict::Failed(difference)) => {
            Message::Examined(Box::new(Examined::Failed(Text::truncated(&difference.to_string()))))
        }
        Err(error) => Message::Failed(Text::truncated(&error.to_string())),
    })
}

/// Trains for some steps on each backend.
pub(super) fn time(
    traced: &Traced,
    data: &Dataset,
    seed: &Seed,
    backends: &BoundedVec<BackendChoice, BACKENDS_MAX>,
    report: &mut Report<'_>,
) -> io::Result<()> {
    for (index, backend) in (0u8..).zip(backends) {
        let mut stopwatch = Stopwatch { started: Instant::now(), first: None, last: None };
        let trained = options(backend).map_err(|why| (why, true)).and_then(|options| {
            train(&traced.program, data, seed, SEGMENTS, &options, &mut stopwatch)
                .map_err(|error| (error.to_string(), !matches!(error, RunError::Stopped | RunError::Diverged { .. })))
        });
        let trouble = trained.err().filter(|(_, counts)| *counts).map(|(why, _)| why).unwrap_or_default();
        let timed = stopwatch.timed(&trouble);
        report(Message::Timed { backend: index, timed })?;
    }
    Ok(())
}

/// When steps were done. Backends may report several at once.
struct Stopwatch {
    started: Instant,
    first: Option<(u64, Instant)>,
    last: Option<(u64, Instant)>,
}

impl Stopwatch {
    fn timed(&self, trouble: &str) -> Timed {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let start_us = self.first.map_or(0, |(_, at)| micros(at.duration_since(self.started)));
        let step_us = match (self.first, self.last) {
            (Some((from, began)), Some((to, ended))) if to > from => micros(ended.duration_since(began)) / (to - from),
            _ => start_us,
        };
        Timed { start_us, step_us, trouble: Text::truncated(trouble) }
    }
}

impl Watch for Stopwatch {
    fn step(&mut self, step: u64, steps: u64, _loss: f32) -> Control {
        let now = Instant::now();
        let (first, began) = *self.first.get_or_insert((step, now));
        self.last = Some((step, now));
        let enough = step > first && now.duration_since(began) >= MEASURED;
        if enough || step == steps { Control::Stop } else { Control::Continue }
    }

    fn segment(&mut self, _segment: u16, _leaf: Hash32, _inside: Option<Hash32>) -> Control {
        Control::Continue
    }
}
