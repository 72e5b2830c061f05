//! Processes that train one model each and wait between measurements: this program's own, and other systems'.
//!
//! A peer says one line when it is ready; then it answers each line `{"steps": N}` with the time that N steps took. So
//! several can be measured in turns, each with its own memory, and none runs while another does.
//!
//! *Invariant:* a peer ends with its [`Peer`], and by itself when its input does.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use cairn_engine::backend::{Kind, Options, Tensor};
use cairn_engine::bench::{Model, Trainer, options};
use cairn_engine::data::{Dataset, STREAM};
use cairn_engine::gpu::{Choice, Form};
use cairn_engine::random::Stream;
use cairn_program::{Limits, TraceContext, trace};
use cairn_protocol::Seed;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::context::{Context, own_binary};
use crate::failure::Failure;
use crate::tracks::Definition;

/// The script that trains in PyTorch.
const TORCH: &str = include_str!("../../../../benches/torch_step.py");
/// How often a wait looks whether to stop.
const LOOK: Duration = Duration::from_millis(200);
/// Subject of a peer that trains a shipped track's baseline: this, then the track's name.
pub(super) const BASELINE: &str = "baseline:";
/// Steps that warm a peer up; after them all peers must have the same loss.
pub(super) const WARM: u64 = 3;

/// What a peer says first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Ready {
    /// Name and version.
    pub(super) ready: String,
    /// Memory before there was a model.
    pub(super) idle_rss_bytes: Option<u64>,
    #[serde(default)]
    pub(super) parameters: u64,
    #[serde(default)]
    pub(super) priced_bytes: u64,
    #[serde(default)]
    pub(super) planned_bytes: u64,
    #[serde(default)]
    pub(super) steps_of_run: u64,
    /// What the kernels of a step are and do, on a GPU.
    #[serde(default)]
    pub(super) kernels: Vec<Kernels>,
}

/// Kernels of one name in a training step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kernels {
    pub(super) name: String,
    pub(super) dispatches: u64,
    pub(super) operations: u64,
    pub(super) bytes: u64,
}

/// What a peer says after some steps.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) seconds: f64,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) loss: f64,
    pub(super) peak_rss_bytes: Option<u64>,
    /// Of one hash of the state, where that was asked for.
    #[serde(default)]
    pub(super) hash_seconds: f64,
}

/// A peer, waiting.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) ready: Ready,
    child: Child,
    input: ChildStdin,
    output: Receiver<String>,
}

impl Peer {
    /// This program, training a model or a baseline.
    pub(super) fn cairn(context: &Context, subject: &str, threads: u16) -> anyhow::Result<Self> {
        let mut command = Command::new(own_binary()?);
        command.args(["bench-peer", subject, &threads.to_string()]);
        Self::start(context, "cairn".into(), command, &[])
    }

    /// This program, training a model on a GPU.
    pub(super) fn gpu(context: &Context, subject: &str, choice: Choice) -> anyhow::Result<Self> {
        let mut command = Command::new(own_binary()?);
        command.args(["bench-peer", subject, "1", "--gpu", &format!("{}:{}", choice.adapter, choice.form.name())]);
        Self::start(context, "cairn".into(), command, &[])
    }

    /// PyTorch, training a model.
    pub(super) fn torch(
        context: &Context,
        model: &Model,
        threads: u16,
        (python, device): (&str, &str),
        compile: bool,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(python);
        command.args(["-c", TORCH, "--threads", &threads.to_string(), "--device", device]);
        command.args(compile.then_some("--compile"));
        let name = if compile { "torch.compile" } else { "torch eager" };
        Self::start(context, name.into(), command, &start_of(model, threads)?)
            .with_context(|| format!("{name}, as `{python}` has it; `{python} -c 'import torch'` says more"))
    }

    fn start(context: &Context, name: String, mut command: Command, data: &[u8]) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C is for this process, which ends its peers.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("no pipes to {program}");
        };
        let (sender, lines) = channel();
        std::thread::Builder::new().name("peer".into()).spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        })?;
        let mut peer = Self { name, ready: Ready::default(), child, input, output: lines };
        // One that has ended already says why on the error stream.
        let _ = peer.input.write_all(data);
        peer.ready = serde_json::from_str(&peer.line(context)?)?;
        Ok(peer)
    }

    fn line(&self, context: &Context) -> anyhow::Result<String> {
        loop {
            match self.output.recv_timeout(LOOK) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Timeout) => context.interrupt.check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::advice(
                        format!("{} ended without an answer", self.name),
                        "what it said stands above",
                    ));
                }
            }
        }
    }

    /// Trains so many steps.
    pub(super) fn steps(&mut self, context: &Context, steps: u64) -> anyhow::Result<Answer> {
        self.ask(context, &json!({ "steps": steps }))
    }

    /// Hashes the state so many times.
    pub(super) fn hashes(&mut self, context: &Context, hashes: u64) -> anyhow::Result<f64> {
        Ok(self.ask(context, &json!({ "steps": 0, "hashes": hashes }))?.hash_seconds)
    }

    fn ask(&mut self, context: &Context, question: &Value) -> anyhow::Result<Answer> {
        // One that has ended is found when its answer is missing.
        let _ = writeln!(self.input, "{question}").and_then(|()| self.input.flush());
        Ok(serde_json::from_str(&self.line(context)?)?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It holds nothing that would have to be saved; whom it has started goes with it.
        #[cfg(unix)]
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A model's sizes, batch and starting parameters, as other systems read them.
fn start_of(model: &Model, threads: u16) -> anyhow::Result<Vec<u8>> {
    let trainer = Trainer::new(model, &options(usize::from(threads)))?;
    let mut data = Vec::new();
    for tensor in model.batch() {
        match tensor {
            Tensor::F32(values) => data.extend(values.iter().flat_map(|x| x.to_le_bytes())),
            Tensor::I32(values) => data.extend(values.iter().flat_map(|x| x.to_le_bytes())),
        }
    }
    data.extend(trainer.state().params.iter().flatten().flat_map(|x| x.to_le_bytes()));
    let mut sizes = sizes(model);
    sizes["rate"] = json!(model.rate());
    sizes["bytes"] = json!(data.len());
    let mut start = format!("{sizes}\n").into_bytes();
    start.extend(data);
    Ok(start)
}

fn sizes(model: &Model) -> Value {
    use cairn_engine::bench::{Activation, Norm, Positions};
    match model {
        Model::Gpt(gpt) => json!({
            "kind": "gpt",
            "vocab": gpt.vocab,
            "batch": gpt.batch,
            "context": gpt.context,
            "width": gpt.width,
            "heads": gpt.heads,
            "depth": gpt.depth,
            "positions": match gpt.positions { Positions::Rotary => "rotary", Positions::Learned => "learned" },
            "norm": match gpt.norm { Norm::Rms => "rms", Norm::Layer => "layer" },
            "activation": match gpt.activation {
                Activation::Relu => "relu",
                Activation::ReluSquared => "relu_squared",
                Activation::Gelu => "gelu",
            },
            "tied": gpt.tied,
        }),
        Model::Mlp(mlp) => json!({
            "kind": "mlp",
            "batch": mlp.batch,
            "features": mlp.features,
            "hidden": mlp.hidden,
            "depth": mlp.depth,
            "classes": mlp.classes,
        }),
    }
}

/// `cairn bench-peer`: trains until its input ends.
pub(crate) fn serve(subject: &str, threads: u16, gpu: Option<&str>) -> anyhow::Result<()> {
    let idle = status("VmRSS:");
    let mut options = options(usize::from(threads));
    if let Some(gpu) = gpu {
        options.kind = Kind::Gpu(choice(gpu).ok_or_else(|| anyhow!("`{gpu}` is no GPU and form"))?);
    }
    let mut trainer = trainer(subject, &options)?;
    let kernels = trainer.gpu().map(cairn_engine::gpu::Gpu::costs).unwrap_or_default();
    let kernels = kernels.into_iter().map(|cost| Kernels {
        name: cost.label.to_string(),
        dispatches: cost.dispatches,
        operations: cost.operations,
        bytes: cost.bytes,
    });
    let ready = Ready {
        ready: format!("cairn {}", env!("CARGO_PKG_VERSION")),
        idle_rss_bytes: idle,
        parameters: trainer.parameters(),
        priced_bytes: trainer.priced_bytes(),
        planned_bytes: trainer.planned_bytes(),
        steps_of_run: trainer.program().steps.iter().map(|&steps| u64::from(steps)).sum(),
        kernels: kernels.collect(),
    };
    say(&ready)?;
    for line in std::io::stdin().lock().lines() {
        let question: Value = serde_json::from_str(&line?)?;
        let number = |name: &str| question.get(name).and_then(Value::as_u64).unwrap_or_default();
        let cpu = cpu_seconds();
        let done = trainer.steps(number("steps"))?;
        let cpu_seconds = cpu.and_then(|before| Some(cpu_seconds()? - before));
        let hashes = number("hashes");
        let start = std::time::Instant::now();
        (0..hashes).for_each(|_| {
            std::hint::black_box(trainer.state().hash(trainer.program()));
        });
        say(&Answer {
            seconds: done.seconds,
            cpu_seconds,
            loss: done.loss.into(),
            peak_rss_bytes: status("VmHWM:"),
            hash_seconds: start.elapsed().as_secs_f64() / hashes.max(1) as f64,
        })?;
    }
    Ok(())
}

fn say(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(value)?)?;
    Ok(out.flush()?)
}

/// A GPU and a form, as [`Peer::gpu`] writes them.
fn choice(text: &str) -> Option<Choice> {
    let (adapter, form) = text.split_once(':')?;
    let form = Form::ALL.into_iter().find(|known| known.name() == form)?;
    Some(Choice { adapter: adapter.parse().ok()?, form })
}

fn trainer(subject: &str, options: &Options) -> anyhow::Result<Trainer> {
    match subject.strip_prefix(BASELINE) {
        None => {
            let model = Model::named(subject).ok_or_else(|| anyhow!("there is no model `{subject}`"))?;
            Ok(Trainer::new(&model, options)?)
        }
        Some(track) => {
            let track = Definition::shipped(track).ok_or_else(|| anyhow!("no track `{track}` ships"))??;
            let data = Dataset::load(&track.file.converter, &track.data()?)?;
            let context = TraceContext {
                data: data.spec().clone(),
                budget: track.file.budget,
                memory: track.file.memory_bytes,
                parameters: track.file.parameters,
                literal_bits: track.file.literal_bits.into(),
            };
            // Not foreign: the program ships with this one.
            let traced = trace(&track.program, &context, &Limits::default()).map_err(|e| anyhow!("{}", e.message))?;
            let Some(phase) = traced.program.phases.first() else { bail!("a program without phases") };
            let seed = Seed::numbered(1);
            let batch = data.batch(&Stream::new(&seed, STREAM, ""), 0, phase.batch, phase.context)?;
            Ok(Trainer::of(traced.program, batch, options)?)
        }
    }
}

/// Seconds of processor time of this process.
#[cfg(unix)]
fn cpu_seconds() -> Option<f64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

#[cfg(not(unix))]
fn cpu_seconds() -> Option<f64> {
    None
}

/// A line of Linux's account of this process, in bytes.
fn status(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(kib.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
