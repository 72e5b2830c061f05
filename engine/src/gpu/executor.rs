//! A plan on a device: buffers, bindings, submissions.
//!
//! A training's state stands in two buffers: a step reads one and writes the other, and the next step the other way round.
//! So a step is one pass, nothing is copied, and every kernel has its bindings for both directions.
//!
//! *Invariant:* what a submission reads was written by an earlier one or by the queue before it; the host reads only copies.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_protocol::Seed;
use wgpu::BufferUsages as Usage;

use super::device::{ARGUMENTS_BYTES, Device};
use super::kernel::{Kernel, Place, View};
use super::plan::{Feed as Told, Plan};
use super::{Choice, lower};
use crate::backend::{BackendError, Batch, Executor, Feed, Options, Outcome, Resident, Tensor};
use crate::graph::{DType, Graph, NodeId};
use crate::number::from_foreign;
use crate::random::Stream;

/// Most steps that are set off together.
const BURST_MAX: usize = 64;
/// Bytes of what the steps of a burst are told: more is not brought at once.
const TOLD_MAX: usize = 64 << 20;
/// Time that a submission should take: what shows a screen stays usable, and no system's watchdog bites.
const SUBMISSION: Duration = Duration::from_millis(200);
/// Most submissions of a run that the device has yet to do: more, and the last one's turn may come too late for a device
/// that does not hang.
const QUEUED_MAX: usize = 16;
/// Distance of arguments, and of tensors of the state: what every device allows.
const ALIGNMENT: u64 = 256;

/// The GPU backend.
#[derive(Debug)]
pub struct Gpu {
    device: Arc<Device>,
    plan: Plan,
    /// Kernels of a run, in order, one entry for each slice of the batch.
    run: Vec<Dispatch>,
    /// Kernels after a training step: they report its loss and what is out of range.
    report: Vec<Dispatch>,
    /// Estimated operations of a run.
    work: u64,
    /// What the host tells, of all steps of a burst.
    upload: wgpu::Buffer,
    feed: wgpu::Buffer,
    inputs: [Option<wgpu::Buffer>; 2],
    /// Parameters and states, twice.
    state: [wgpu::Buffer; 2],
    /// Which of the two holds the current state.
    current: usize,
    /// First byte and length of each parameter, then of each state.
    spans: Vec<(u64, usize)>,
    tensors: Vec<wgpu::Buffer>,
    told: wgpu::Buffer,
    /// New parameters and states that stand elsewhere: they are copied after the step.
    copies: Vec<(usize, View)>,
    /// Whether this is a training step.
    trains: bool,
    /// What the caller gave last as its state, if the device still has it.
    loaded: Option<[Vec<Vec<f32>>; 2]>,
    /// Whether the state is one that a training goes on with: it was loaded, and no step failed.
    goes_on: bool,
    /// Steps that were ever set off.
    steps: u64,
    bursts: VecDeque<Burst>,
    snapshots: VecDeque<Snapshot>,
    /// Buffers that the host reads, to be used again.
    spare: Vec<wgpu::Buffer>,
}

/// What kernels of one name do in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Their name.
    pub label: &'static str,
    /// How often one is dispatched.
    pub dispatches: u64,
    /// Estimated operations.
    pub operations: u64,
    /// Bytes that they are bound to: what they move at least, reading everything once.
    pub bytes: u64,
}

/// A kernel with everything that it needs.
#[derive(Debug)]
struct Dispatch {
    label: &'static str,
    pipeline: wgpu::ComputePipeline,
    /// Its bindings when the first of the two states is the current one, and when the second is.
    groups: [wgpu::BindGroup; 2],
    /// Where its arguments begin.
    arguments: u32,
    workgroups: [u32; 3],
    work: u64,
    bytes: u64,
}

/// Steps that were set off.
#[derive(Debug)]
struct Burst {
    steps: usize,
    told: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    started: Instant,
    /// Whether the device had nothing else to do before.
    alone: bool,
}

/// A copy of the state that was set off.
#[derive(Debug)]
struct Snapshot {
    copy: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    /// Steps that were set off before.
    steps: u64,
}

impl Gpu {
    /// Makes `graph` ready.
    ///
    /// # Errors
    /// There is no such device, it lacks memory, it does not compile a kernel, or `wanted` is not of this graph.
    pub fn new(graph: &Graph, wanted: &[NodeId], options: &Options, choice: Choice) -> Result<Self, BackendError> {
        let device = Device::open(choice.adapter)?;
        let limits = device.adapter.limits();
        let plan = Plan::new(graph, wanted, options.fuse, options.micro_batch, choice.form, limits)?;
        let lengths: Vec<Option<usize>> = plan.feed.params.iter().chain(&plan.feed.states).copied().collect();
        let mut spans = Vec::with_capacity(lengths.len());
        let mut end = 0u64;
        for length in &lengths {
            let length = length.unwrap_or(0);
            spans.push((end, length));
            end += (4 * length as u64).next_multiple_of(ALIGNMENT);
        }
        let trains = plan.wanted.len() == 1 + lengths.len()
            && plan.wanted[0].len() == 1
            && plan.wanted[1..].iter().zip(&lengths).all(|(new, &old)| Some(new.len()) == old);
        let storage = Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST;
        let buffer = |label, words: usize| device.buffer(label, 4 * words as u64, storage);
        let [a, b] = plan.feed.inputs.map(|input| input.map(|(_, len)| buffer("input", len)).transpose());
        let tensors = plan.buffers.iter().map(|&len| buffer("tensor", len)).collect::<Result<Vec<_>, _>>()?;
        let in_place = |index: usize, view: &View| view.place == Place::New(index as u32);
        let moved = |(index, view): (usize, &View)| (!in_place(index, view)).then(|| (index, view.clone()));
        let copies = if trains { plan.wanted[1..].iter().enumerate().filter_map(moved).collect() } else { vec![] };
        let mut gpu = Self {
            run: vec![],
            report: vec![],
            work: 0,
            upload: device.buffer("upload", 0, Usage::COPY_SRC | Usage::COPY_DST)?,
            feed: buffer("feed", plan.feed.words())?,
            inputs: [a?, b?],
            state: [device.buffer("state", end, storage)?, device.buffer("state", end, storage)?],
            current: 0,
            spans,
            tensors,
            told: buffer("report", 2 * BURST_MAX)?,
            copies,
            trains,
            loaded: None,
            goes_on: false,
            steps: 0,
            bursts: VecDeque::new(),
            snapshots: VecDeque::new(),
            spare: vec![],
            device,
            plan,
        };
        gpu.prepare(end)?;
        Ok(gpu)
    }

    /// Into how many slices the batch is cut.
    pub fn slices(&self) -> usize {
        self.plan.slices
    }

    /// Kernels that a run dispatches.
    pub fn dispatches(&self) -> usize {
        self.run.len() + if self.trains { self.report.len() } else { 0 }
    }

    /// What the kernels of a run (of a training step, its report included) are and do, by name: the dearest first.
    pub fn costs(&self) -> Vec<Cost> {
        let mut costs: std::collections::BTreeMap<&'static str, Cost> = std::collections::BTreeMap::new();
        let report: &[Dispatch] = if self.trains { &self.report } else { &[] };
        for dispatch in self.run.iter().chain(report) {
            let of = |label| Cost { label, dispatches: 0, operations: 0, bytes: 0 };
            let cost = costs.entry(dispatch.label).or_insert_with(|| of(dispatch.label));
            cost.dispatches += 1;
            cost.operations += dispatch.work;
            cost.bytes += dispatch.bytes;
        }
        let mut costs: Vec<Cost> = costs.into_values().collect();
        costs.sort_by_key(|cost| std::cmp::Reverse(cost.operations));
        costs
    }

    /// Seconds that a run takes when `times` of them are set off at once, nothing but the last waited for and nothing read
    /// back: for measurements.
    ///
    /// # Errors
    /// The feed does not fit, or the device fails.
    pub fn seconds_of_runs(&mut self, feed: &Feed<'_>, times: usize) -> Result<f64, BackendError> {
        self.bring(feed.params, feed.states)?;
        self.upload(&[batch_of(feed)])?;
        let mut commands = self.commands();
        self.take(0, &mut commands);
        commands.flush()?;
        let started = Instant::now();
        let mut last = None;
        for _ in 0..times.max(1) {
            let mut commands = self.commands();
            commands.dispatch(&[&self.run], self.current)?;
            last = Some(commands.flush()?);
        }
        if let Some(last) = last {
            self.device.wait(&last)?;
        }
        Ok(started.elapsed().as_secs_f64() / times.max(1) as f64)
    }

    /// Bytes that the device holds for it.
    pub fn bytes(&self) -> u64 {
        let state = self.state.iter().chain(&self.tensors).map(wgpu::Buffer::size).sum::<u64>();
        state + self.inputs.iter().flatten().map(wgpu::Buffer::size).sum::<u64>()
    }

    /// Compiles the kernels, writes their arguments, binds them, and computes the constants.
    fn prepare(&mut self, state_bytes: u64) -> Result<(), BackendError> {
        let report = if self.trains { self.reports(state_bytes) } else { vec![] };
        let [before, inside, after] = &self.plan.stages;
        let once = whole(&self.plan.once);
        let slices = self.plan.slices;
        let inside = (0..slices).flat_map(|slice| inside.iter().map(move |kernel| (kernel, slice)));
        let run: Vec<(&Kernel, usize)> = whole(before).into_iter().chain(inside).chain(whole(after)).collect();
        let all: Vec<(&Kernel, usize)> = once.iter().chain(&run).copied().chain(whole(&report)).collect();
        let mut words: Vec<u32> = vec![];
        let mut places = Vec::with_capacity(all.len());
        for (kernel, slice) in &all {
            places.push(4 * words.len() as u32);
            words.extend(kernel.words.iter().map(|word| word.of(*slice, slices)));
            words.resize(words.len().next_multiple_of(ALIGNMENT as usize / 4), 0);
        }
        // A binding of arguments has one size for all kernels.
        words.resize(words.len() + ARGUMENTS_BYTES as usize / 4, 0);
        let arguments = self.device.buffer("arguments", 4 * words.len() as u64, Usage::UNIFORM | Usage::COPY_DST)?;
        self.device.queue.write_buffer(&arguments, 0, bytemuck::cast_slice(&words));
        let kernels: Vec<&Kernel> = all.iter().map(|(kernel, _)| *kernel).collect();
        let pipelines = self.device.pipelines(&kernels)?;
        let ready = all.iter().zip(pipelines).zip(places).map(|(((kernel, _), pipeline), place)| Dispatch {
            label: kernel.label,
            pipeline,
            groups: [0, 1].map(|current| self.bind(kernel, &arguments, current)),
            arguments: place,
            workgroups: kernel.groups,
            work: kernel.work,
            bytes: kernel.bytes,
        });
        let mut ready: Vec<Dispatch> = ready.collect();
        let reports = ready.split_off(once.len() + run.len());
        let runs = ready.split_off(once.len());
        self.work = runs.iter().map(|dispatch| dispatch.work.max(1)).sum();
        (self.run, self.report) = (runs, reports);
        let mut commands = self.commands();
        commands.dispatch(&[&ready], self.current)?;
        let submission = commands.flush()?;
        self.device.wait(&submission)
    }

    /// Kernels that report a step: one over the whole state or, where the device cannot bind all of it, one for each tensor.
    fn reports(&self, state_bytes: u64) -> Vec<Kernel> {
        let view = |place, len: usize| View { place, offset: 0, advance: 0, shape: vec![len as u32] };
        let parts: Vec<(View, usize)> = if state_bytes <= self.device.adapter.limits().binding {
            vec![(view(Place::State, (state_bytes / 4) as usize), 0)]
        } else {
            let spans = self.spans.iter().enumerate();
            spans.map(|(i, &(at, len))| (view(Place::New(i as u32), len), (at / 4) as usize)).collect()
        };
        let told = view(Place::Report, 2 * BURST_MAX);
        parts.iter().map(|(part, first)| lower::report(part, *first, &self.plan.wanted[0], &told)).collect()
    }

    fn bind(&self, kernel: &Kernel, arguments: &wgpu::Buffer, current: usize) -> wgpu::BindGroup {
        let whole = |buffer| wgpu::BufferBinding { buffer, offset: 0, size: None };
        let span = |which: usize, index: u32| {
            let (offset, len) = self.spans[index as usize];
            let size = wgpu::BufferSize::new((4 * len as u64).next_multiple_of(16).max(16));
            wgpu::BufferBinding { buffer: &self.state[which], offset, size }
        };
        let bound = kernel.bindings.iter().map(|binding| match binding.place {
            Place::Old(index) => span(current, index),
            Place::New(index) => span(1 - current, index),
            Place::Input(index) => whole(self.inputs[usize::from(index)].as_ref().unwrap_or(&self.feed)),
            Place::Feed => whole(&self.feed),
            Place::Tensor(index) => whole(&self.tensors[self.plan.buffer_of[index as usize] as usize]),
            Place::State => whole(&self.state[1 - current]),
            Place::Report => whole(&self.told),
        });
        let arguments =
            wgpu::BufferBinding { buffer: arguments, offset: 0, size: wgpu::BufferSize::new(ARGUMENTS_BYTES) };
        let entries: Vec<wgpu::BindGroupEntry<'_>> = std::iter::once(arguments)
            .chain(bound)
            .enumerate()
            .map(|(i, binding)| wgpu::BindGroupEntry {
                binding: i as u32,
                resource: wgpu::BindingResource::Buffer(binding),
            })
            .collect();
        let writes: Vec<bool> = kernel.bindings.iter().map(|binding| binding.write).collect();
        let layout = self.device.layout(&writes).0;
        self.device.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &layout,
            entries: &entries,
        })
    }

    /// The end of a pass, or of what was set off, that is not submitted yet.
    fn commands(&self) -> Commands<'_> {
        let most = (self.device.speed() * SUBMISSION.as_secs_f64()) as u64;
        Commands { device: &self.device, encoder: encoder(&self.device), work: 0, most, queued: VecDeque::new() }
    }

    /// Copies a tensor's elements in a command.
    fn copy(&self, encoder: &mut wgpu::CommandEncoder, from: &View, current: usize, to: &wgpu::Buffer, at: u64) {
        let bytes = 4 * from.len() as u64;
        if bytes == 0 {
            return;
        }
        let (buffer, base) = match from.place {
            Place::Old(index) => (&self.state[current], self.spans[index as usize].0),
            Place::New(index) => (&self.state[1 - current], self.spans[index as usize].0),
            Place::Input(index) => (self.inputs[usize::from(index)].as_ref().unwrap_or(&self.feed), 0),
            Place::Feed => (&self.feed, 0),
            Place::Tensor(index) => (&self.tensors[self.plan.buffer_of[index as usize] as usize], 0),
            Place::State => (&self.state[1 - current], 0),
            Place::Report => (&self.told, 0),
        };
        encoder.copy_buffer_to_buffer(buffer, base + 4 * from.offset as u64, to, at, bytes);
    }

    /// What belongs to one run, as words: the batch, tables, keys and step; where each goes is what [`Gpu::uploads`] says.
    fn told(&self, batch: &Batch<'_>, number: usize, words: &mut Vec<u32>) -> Result<(), BackendError> {
        let Told { streams, tables, inputs, .. } = &self.plan.feed;
        if batch.tables.len() < *tables {
            return Err(BackendError::Feed(format!("{} tables; the graph reads {tables}", batch.tables.len())));
        }
        // A run has at most 2^20 steps.
        words.extend([batch.step as u32, number as u32]);
        words.extend(streams.iter().flat_map(|name| key(batch.seed, name)));
        words.extend(batch.tables[..*tables].iter().map(|&x| from_foreign(x).to_bits()));
        for (i, expected) in inputs.iter().enumerate() {
            let Some((dtype, len)) = expected else { continue };
            match (&batch.inputs[i], dtype) {
                (Tensor::F32(values), DType::F32) if values.len() == *len => {
                    words.extend(values.iter().map(|&x| from_foreign(x).to_bits()));
                }
                (Tensor::I32(values), DType::I32) if values.len() == *len => {
                    words.extend_from_slice(bytemuck::cast_slice(values));
                }
                _ => return Err(BackendError::Feed(format!("input {i} is not {len} elements of {dtype:?}"))),
            }
        }
        Ok(())
    }

    /// Words that a run is told, and how they are parted: buffers with their lengths.
    fn uploads(&self) -> Vec<(&wgpu::Buffer, usize)> {
        let inputs = self.inputs.iter().zip(&self.plan.feed.inputs);
        let inputs = inputs.filter_map(|(buffer, expected)| Some((buffer.as_ref()?, expected.as_ref()?.1)));
        std::iter::once((&self.feed, self.plan.feed.words())).chain(inputs).collect()
    }

    /// Brings what belongs to these runs to the device at once; [`Gpu::take`] hands it out there.
    fn upload(&mut self, batches: &[Batch<'_>]) -> Result<(), BackendError> {
        let mut words = vec![];
        for (number, batch) in batches.iter().enumerate() {
            self.told(batch, number, &mut words)?;
        }
        let bytes = 4 * words.len() as u64;
        if self.upload.size() < bytes {
            self.upload = self.device.buffer("upload", bytes, Usage::COPY_SRC | Usage::COPY_DST)?;
        }
        self.device.queue.write_buffer(&self.upload, 0, bytemuck::cast_slice(&words));
        Ok(())
    }

    /// Commands that give a run what it was told.
    fn take(&self, number: usize, commands: &mut Commands<'_>) {
        let uploads = self.uploads();
        let mut at = 4 * (number * uploads.iter().map(|(_, words)| words).sum::<usize>()) as u64;
        for (buffer, words) in uploads {
            let bytes = 4 * words as u64;
            if bytes > 0 {
                commands.encoder.copy_buffer_to_buffer(&self.upload, at, buffer, 0, bytes);
            }
            at += bytes;
        }
    }

    /// Checks the lengths of parameters and states, and brings them to the device if it does not have them.
    fn bring(&mut self, params: &[Vec<f32>], states: &[Vec<f32>]) -> Result<(), BackendError> {
        let Told { params: some, states: more, .. } = &self.plan.feed;
        for (what, given, expected) in [("parameter", params, some), ("state", states, more)] {
            for (i, len) in expected.iter().enumerate() {
                let Some(len) = len else { continue };
                if given.get(i).map(Vec::len) != Some(*len) {
                    return Err(BackendError::Feed(format!("{what} {i} is not {len} elements of F32")));
                }
            }
        }
        let known = |old: &[Vec<f32>], new: &[Vec<f32>]| {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| bits(old) == bits(new))
        };
        if self.loaded.as_ref().is_some_and(|[old, more]| known(old, params) && known(more, states)) {
            return Ok(());
        }
        let (some, more) = (some.len(), more.len());
        // What is under way began from another state.
        self.forget();
        let named = params[..some].iter().chain(&states[..more]);
        for (values, &(offset, len)) in named.zip(&self.spans) {
            if len > 0 {
                self.device.queue.write_buffer(&self.state[self.current], offset, bytemuck::cast_slice(values));
            }
        }
        self.loaded = Some([params.to_vec(), states.to_vec()]);
        Ok(())
    }

    /// Gives up what is under way, and the state: nobody takes a number of it for one of another training.
    fn forget(&mut self) {
        (self.loaded, self.goes_on) = (None, false);
        self.bursts.clear();
        self.snapshots.clear();
    }

    /// Steps that were set off first, waited for.
    fn outcomes(&self, burst: &Burst) -> Result<Vec<Outcome>, BackendError> {
        let words = self.device.read(&burst.told, 2 * burst.steps, &burst.submission, <[u32]>::to_vec)?;
        let outcome =
            |words: &[u32]| Outcome { loss: f32::from_bits(words[0]), out_of_range: self.tensor_of(words[1]) };
        Ok(words.chunks_exact(2).map(outcome).collect())
    }

    /// A buffer that the host reads, of at least this many words.
    fn readable(&mut self, words: usize) -> Result<wgpu::Buffer, BackendError> {
        let bytes = 4 * words as u64;
        let known = self.spare.iter().position(|buffer| buffer.size() >= bytes && buffer.size() <= 4 * bytes.max(64));
        match known {
            Some(at) => Ok(self.spare.swap_remove(at)),
            None => self.device.buffer("read back", bytes, Usage::MAP_READ | Usage::COPY_DST),
        }
    }

    fn state_words(&self) -> usize {
        (self.state[0].size() / 4) as usize
    }

    /// The tensor that an element of the state belongs to.
    fn tensor_of(&self, element: u32) -> Option<usize> {
        let byte = 4 * u64::from(element);
        (element != u32::MAX).then(|| self.spans.partition_point(|&(offset, _)| offset <= byte).saturating_sub(1))
    }
}

/// Commands on their way to the device: submitted when they are enough work, see [`SUBMISSION`], and at the end.
struct Commands<'a> {
    device: &'a Device,
    encoder: wgpu::CommandEncoder,
    /// Estimated operations of what is not submitted yet.
    work: u64,
    most: u64,
    /// Submissions that may not be done.
    queued: VecDeque<wgpu::SubmissionIndex>,
}

impl Commands<'_> {
    /// Dispatches kernels in one pass; in several submissions, where they would take too long.
    fn dispatch(&mut self, dispatches: &[&[Dispatch]], current: usize) -> Result<(), BackendError> {
        let mut left = dispatches.iter().copied().flatten().peekable();
        while left.peek().is_some() {
            let mut pass = self.encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            while let Some(dispatch) =
                left.next_if(|next| self.work == 0 || self.work.saturating_add(next.work) <= self.most)
            {
                pass.set_pipeline(&dispatch.pipeline);
                pass.set_bind_group(0, &dispatch.groups[current], &[dispatch.arguments]);
                let [x, y, z] = dispatch.workgroups;
                pass.dispatch_workgroups(x, y, z);
                self.work = self.work.saturating_add(dispatch.work.max(1));
            }
            drop(pass);
            if left.peek().is_some() {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Submits what there is.
    fn flush(&mut self) -> Result<wgpu::SubmissionIndex, BackendError> {
        let encoder = std::mem::replace(&mut self.encoder, encoder(self.device));
        self.work = 0;
        let submission = self.device.submit(encoder);
        self.device.check()?;
        self.queued.push_back(submission.clone());
        if self.queued.len() > QUEUED_MAX
            && let Some(first) = self.queued.pop_front()
        {
            self.device.wait(&first)?;
        }
        Ok(submission)
    }
}

fn encoder(device: &Device) -> wgpu::CommandEncoder {
    device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
}

/// Kernels that run once, for the whole batch.
fn whole(kernels: &[Kernel]) -> Vec<(&Kernel, usize)> {
    kernels.iter().map(|kernel| (kernel, 0)).collect()
}

fn bits(values: &[f32]) -> &[u32] {
    bytemuck::cast_slice(values)
}

/// What a run reads besides parameters and states.
fn batch_of<'a>(feed: &Feed<'a>) -> Batch<'a> {
    Batch { inputs: feed.inputs, tables: feed.tables, seed: feed.seed, step: feed.step }
}

/// The two words of a random stream's key.
fn key(seed: &Seed, name: &str) -> [u32; 2] {
    Stream::new(seed, "random", name).key()
}

impl Executor for Gpu {
    fn run(&mut self, feed: &Feed<'_>, out: &mut [Vec<f32>]) -> Result<(), BackendError> {
        if out.len() != self.plan.wanted.len() {
            return Err(BackendError::Feed(format!(
                "{} results for {} wanted nodes",
                out.len(),
                self.plan.wanted.len()
            )));
        }
        self.bring(feed.params, feed.states)?;
        self.upload(&[batch_of(feed)])?;
        let starts: Vec<usize> =
            self.plan.wanted.iter().scan(0, |at, view| Some(std::mem::replace(at, *at + view.len()))).collect();
        let words: usize = self.plan.wanted.iter().map(View::len).sum();
        let readable = self.readable(words)?;
        let started = Instant::now();
        let mut commands = self.commands();
        self.take(0, &mut commands);
        commands.dispatch(&[&self.run], self.current)?;
        for (view, start) in self.plan.wanted.iter().zip(&starts) {
            self.copy(&mut commands.encoder, view, self.current, &readable, 4 * *start as u64);
        }
        let submission = commands.flush()?;
        let wanted = &self.plan.wanted;
        self.device.read(&readable, words, &submission, |all| {
            for ((out, view), &start) in out.iter_mut().zip(wanted).zip(&starts) {
                out.clear();
                out.extend(all[start..start + view.len()].iter().map(|&bits| f32::from_bits(bits)));
            }
        })?;
        self.device.learn(self.work, started.elapsed());
        self.spare.push(readable);
        Ok(())
    }

    fn step(
        &mut self,
        batch: &Batch<'_>,
        params: &mut [Vec<f32>],
        states: &mut [Vec<f32>],
    ) -> Result<f32, BackendError> {
        if !self.trains || params.len() + states.len() != self.spans.len() {
            let mut out = vec![vec![]; 1 + params.len() + states.len()];
            self.run(&batch.feed(params, states), &mut out)?;
            let mut out = out.into_iter();
            let loss = out.next().and_then(|loss| loss.first().copied()).unwrap_or_default();
            params.iter_mut().chain(states).zip(out).for_each(|(old, new)| *old = new);
            return Ok(loss);
        }
        self.load(params, states)?;
        self.start(std::slice::from_ref(batch))?;
        self.snapshot()?;
        let outcome = self.finish()?;
        self.fetch(params, states)?;
        Ok(outcome.first().map_or(0.0, |outcome| outcome.loss))
    }

    fn resident(&mut self) -> Option<&mut dyn Resident> {
        if self.trains { Some(self) } else { None }
    }
}

impl Resident for Gpu {
    fn load(&mut self, params: &[Vec<f32>], states: &[Vec<f32>]) -> Result<(), BackendError> {
        if params.len() + states.len() != self.spans.len() {
            return Err(BackendError::Feed("the graph does not read every parameter and state".into()));
        }
        self.bursts.clear();
        self.snapshots.clear();
        self.bring(params, states)?;
        self.goes_on = true;
        Ok(())
    }

    fn burst(&self) -> usize {
        let steps = self.device.speed() * SUBMISSION.as_secs_f64() / self.work.max(1) as f64;
        let told = 4 * self.uploads().iter().map(|(_, words)| words).sum::<usize>();
        (steps as usize).min(TOLD_MAX / told.max(1)).clamp(1, BURST_MAX)
    }

    fn start(&mut self, batches: &[Batch<'_>]) -> Result<(), BackendError> {
        if batches.is_empty() || batches.len() > BURST_MAX {
            return Err(BackendError::Feed(format!("{} steps set off together; 1 to {BURST_MAX} are", batches.len())));
        }
        if !self.goes_on {
            return Err(BackendError::Feed("no state was loaded that steps could go on with".into()));
        }
        let words = 2 * batches.len();
        let told = self.readable(words)?;
        let alone = self.bursts.is_empty();
        let started = Instant::now();
        self.device.queue.write_buffer(&self.told, 0, bytemuck::cast_slice(&vec![u32::MAX; words]));
        self.upload(batches)?;
        // Until all of them are set off, the state is neither the old one nor the new one.
        (self.loaded, self.goes_on) = (None, false);
        let mut current = self.current;
        let mut commands = self.commands();
        for number in 0..batches.len() {
            self.take(number, &mut commands);
            if self.copies.is_empty() {
                commands.dispatch(&[&self.run, &self.report], current)?;
            } else {
                commands.dispatch(&[&self.run], current)?;
                for (index, view) in &self.copies {
                    let to = &self.state[1 - current];
                    self.copy(&mut commands.encoder, view, current, to, self.spans[*index].0);
                }
                commands.dispatch(&[&self.report], current)?;
            }
            current = 1 - current;
        }
        commands.encoder.copy_buffer_to_buffer(&self.told, 0, &told, 0, 4 * words as u64);
        let submission = commands.flush()?;
        (self.current, self.goes_on) = (current, true);
        self.steps += batches.len() as u64;
        self.bursts.push_back(Burst { steps: batches.len(), told, submission, started, alone });
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Outcome>, BackendError> {
        let Some(burst) = self.bursts.pop_front() else { return Ok(vec![]) };
        let outcomes = match self.outcomes(&burst) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.forget();
                return Err(error);
            }
        };
        if burst.alone {
            self.device.learn(self.work.saturating_mul(burst.steps as u64), burst.started.elapsed());
        }
        self.spare.push(burst.told);
        Ok(outcomes)
    }

    fn snapshot(&mut self) -> Result<(), BackendError> {
        let words = self.state_words();
        let copy = self.readable(words)?;
        let mut commands = self.commands();
        commands.encoder.copy_buffer_to_buffer(&self.state[self.current], 0, &copy, 0, 4 * words as u64);
        let submission = commands.flush()?;
        self.snapshots.push_back(Snapshot { copy, submission, steps: self.steps });
        Ok(())
    }

    fn fetch(&mut self, params: &mut [Vec<f32>], states: &mut [Vec<f32>]) -> Result<(), BackendError> {
        let Some(Snapshot { copy, submission, steps }) = self.snapshots.pop_front() else {
            return Err(BackendError::Feed("no copy of the state was asked for".into()));
        };
        let spans = &self.spans;
        let read = self.device.read(&copy, self.state_words(), &submission, |words| {
            for (values, &(offset, len)) in params.iter_mut().chain(states.iter_mut()).zip(spans) {
                let from = (offset / 4) as usize;
                values.clear();
                values.extend_from_slice(bytemuck::cast_slice(&words[from..from + len]));
            }
        });
        if let Err(error) = read {
            self.forget();
            return Err(error);
        }
        self.spare.push(copy);
        // The state is again what the caller has, unless steps were set off since.
        if steps == self.steps {
            self.loaded = Some([params.to_vec(), states.to_vec()]);
        }
        Ok(())
    }
}
