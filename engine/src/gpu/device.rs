//! Adapters, and a device opened on one: compiled pipelines, buffers, submissions, waiting.
//!
//! *Invariant:* a device that hangs, is lost or runs out of memory is an error of whoever uses it, never a panic and never
//! an endless wait.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::Limits;
use super::kernel::{ARGUMENTS_MAX, BUFFERS_MAX, Kernel};
use crate::backend::BackendError;

/// Longest that one submission may take: they are cut at a fraction of a second of estimated work, so a device that needs
/// this long hangs.
const DEADLINE: Duration = Duration::from_secs(120);
/// How long a wait goes on before it looks what else there is.
const ASK: Duration = Duration::from_millis(20);
/// Share of what a device binds at most that all tensors of a plan may take together: there is no way to ask how much
/// memory it has, and what cannot be allocated is an error then.
const BINDINGS_IN_MEMORY: u64 = 64;
/// Bytes of the arguments that a kernel is bound to.
pub(super) const ARGUMENTS_BYTES: u64 = 4 * ARGUMENTS_MAX as u64;
/// Longest file of compiled pipelines that is read.
const CACHE_MAX: u64 = 256 << 20;

/// What an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdapterKind {
    /// A card of its own.
    Discrete,
    /// Part of the processor.
    Integrated,
    /// One that a virtual machine lends.
    Virtual,
    /// No known kind.
    Other,
    /// A program on the processor.
    Software,
}

/// A way to a GPU: one device under one driver.
#[derive(Debug)]
pub struct Adapter {
    /// The device's name.
    pub name: String,
    /// The driver's name.
    pub driver: String,
    /// The driver's version, as it says it.
    pub driver_info: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: &'static str,
    /// What it is.
    pub kind: AdapterKind,
    /// Id of the vendor, by the backend's rules.
    pub vendor: u32,
    /// Id of the device, by the vendor's.
    pub device: u32,
    /// Bytes of one binding of a buffer.
    pub binding_max: u64,
    /// Bytes of memory that the invocations of a workgroup may share.
    pub workgroup_memory_max: u32,
    /// Buffers of one kernel.
    pub buffers_max: u32,
    adapter: wgpu::Adapter,
}

impl Adapter {
    fn new(adapter: wgpu::Adapter) -> Option<Self> {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let backend = match info.backend {
            wgpu::Backend::Vulkan => "vulkan",
            wgpu::Backend::Metal => "metal",
            wgpu::Backend::Dx12 => "dx12",
            _ => return None,
        };
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Other,
        };
        let computes = limits.max_storage_buffers_per_shader_stage >= BUFFERS_MAX as u32
            && limits.max_compute_invocations_per_workgroup >= 256
            && limits.max_compute_workgroup_storage_size >= 16 << 10;
        computes.then(|| Self {
            name: info.name,
            driver: info.driver,
            driver_info: info.driver_info,
            backend,
            kind,
            vendor: info.vendor,
            device: info.device,
            binding_max: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            workgroup_memory_max: limits.max_compute_workgroup_storage_size,
            buffers_max: limits.max_storage_buffers_per_shader_stage,
            adapter,
        })
    }

    /// What tells this adapter and its driver from all others.
    pub fn key(&self) -> String {
        let Self { backend, vendor, device, name, driver, driver_info, .. } = self;
        format!("{backend} {vendor:x}:{device:x} {name} | {driver} {driver_info}")
    }

    /// What its plans may take.
    pub(crate) fn limits(&self) -> Limits {
        Limits { binding: self.binding_max, memory: self.binding_max.saturating_mul(BINDINGS_IN_MEMORY) }
    }
}

/// The adapters of this machine that can compute, real ones first; none where there is no driver. Looked for once.
pub fn adapters() -> &'static [Adapter] {
    static ADAPTERS: LazyLock<Vec<Adapter>> = LazyLock::new(|| {
        let mut instance = wgpu::InstanceDescriptor::new_without_display_handle();
        instance.backends = wgpu::Backends::PRIMARY;
        // Validation layers, on in debug builds, would need packages that nobody else needs.
        instance.flags = wgpu::InstanceFlags::empty();
        let instance = wgpu::Instance::new(instance);
        let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        let mut adapters: Vec<Adapter> = found.into_iter().filter_map(Adapter::new).collect();
        adapters.sort_by_key(|adapter| adapter.kind);
        adapters.truncate(usize::from(u8::MAX));
        adapters
    });
    &ADAPTERS
}

/// The first adapter whose name has this in it, in any case; the first of all for an empty name.
pub fn find(name: &str) -> Option<u8> {
    let name = name.to_lowercase();
    adapters().iter().position(|adapter| adapter.name.to_lowercase().contains(&name)).map(|index| index as u8)
}

/// Where compiled pipelines are kept between processes; once told, it stays.
static CACHE: OnceLock<PathBuf> = OnceLock::new();

/// Keeps compiled pipelines in this directory, one file for each adapter and driver. Only the first call counts.
pub fn keep_pipelines_in(directory: PathBuf) {
    // Told twice, the first stays: the files are the same to every job of this process.
    let _ = CACHE.set(directory);
}

/// An open device.
pub(super) struct Device {
    pub(super) adapter: &'static Adapter,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    layouts: Mutex<HashMap<Vec<bool>, (wgpu::BindGroupLayout, wgpu::PipelineLayout)>>,
    pipelines: Mutex<HashMap<[u8; 32], wgpu::ComputePipeline>>,
    cache: Option<(wgpu::PipelineCache, PathBuf)>,
    trouble: Arc<Mutex<Option<String>>>,
    /// Estimated operations per second; see [`Kernel::work`].
    speed: Mutex<f64>,
    /// Held while the device is asked what is done, as a submission does, too: wgpu 30 panics when one thread's wait runs out
    /// of time while another thread learns that the work is done.
    asking: Mutex<()>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("adapter", &self.adapter.name).finish_non_exhaustive()
    }
}

/// What a lock holds is whole even if a thread died with it: every change under it is one insertion or assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device {
    /// The device of an adapter, opened on first use and shared by all that ask; a lost one is opened anew.
    pub(super) fn open(index: u8) -> Result<Arc<Self>, BackendError> {
        static OPEN: LazyLock<Mutex<HashMap<u8, Arc<Device>>>> = LazyLock::new(Mutex::default);
        let adapter = adapters().get(usize::from(index)).ok_or_else(|| {
            BackendError::Resources("there is no such GPU here; `cairn doctor` lists those there are".into())
        })?;
        let mut open = lock(&OPEN);
        if let Some(device) = open.get(&index).filter(|device| device.trouble().is_none()) {
            return Ok(device.clone());
        }
        let device = Arc::new(Self::new(adapter)?);
        open.insert(index, device.clone());
        Ok(device)
    }

    fn new(adapter: &'static Adapter) -> Result<Self, BackendError> {
        let features = adapter.adapter.features() & wgpu::Features::PIPELINE_CACHE;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("cairn"),
            required_features: features,
            required_limits: adapter.adapter.limits(),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.adapter.request_device(&descriptor))
            .map_err(|error| BackendError::Resources(format!("{}: the device does not open: {error}", adapter.name)))?;
        let trouble = Arc::new(Mutex::new(None));
        let note = |trouble: &Arc<Mutex<Option<String>>>| {
            let trouble = trouble.clone();
            // The first trouble explains the others.
            move |what: String| {
                lock(&trouble).get_or_insert(what);
            }
        };
        let noted = note(&trouble);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| noted(error.to_string())));
        let noted = note(&trouble);
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                noted(format!("the device was lost: {message}"));
            }
        });
        let cache = cache(adapter, &device);
        Ok(Self {
            adapter,
            device,
            queue,
            layouts: Mutex::default(),
            pipelines: Mutex::default(),
            cache,
            trouble,
            asking: Mutex::new(()),
            speed: Mutex::new(if adapter.kind == AdapterKind::Software { 4e9 } else { 1e11 }),
        })
    }

    /// What went wrong, if anything did.
    fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// The error, if anything went wrong.
    pub(super) fn check(&self) -> Result<(), BackendError> {
        match self.trouble() {
            Some(what) => Err(BackendError::Resources(format!("{}: {what}", self.adapter.name))),
            None => Ok(()),
        }
    }

    /// A buffer of zeros.
    pub(super) fn buffer(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, BackendError> {
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let invalid = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let size = bytes.max(16).next_multiple_of(16);
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&descriptor);
        let failed = [pollster::block_on(invalid.pop()), pollster::block_on(memory.pop())];
        match failed.into_iter().flatten().next() {
            None => Ok(buffer),
            Some(error) => Err(BackendError::Resources(format!(
                "{}: no room for {size} bytes ({label}): {error}; use a smaller batch or the CPU",
                self.adapter.name
            ))),
        }
    }

    /// Layouts of a kernel's bindings: which of them it writes.
    pub(super) fn layout(&self, writes: &[bool]) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
        let mut layouts = lock(&self.layouts);
        let known = layouts.entry(writes.to_vec()).or_insert_with(|| {
            let entry = |binding: usize, ty, has_dynamic_offset| wgpu::BindGroupLayoutEntry {
                binding: binding as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
                count: None,
            };
            let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true)];
            entries.extend(
                writes
                    .iter()
                    .enumerate()
                    .map(|(i, &write)| entry(i + 1, wgpu::BufferBindingType::Storage { read_only: !write }, false)),
            );
            let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
            let group = self.device.create_bind_group_layout(&descriptor);
            let pipeline = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            });
            (group, pipeline)
        });
        known.clone()
    }

    /// Compiles what is not compiled yet of these kernels, with as many threads as there are processors, and gives the
    /// pipeline of each.
    pub(super) fn pipelines(&self, kernels: &[&Kernel]) -> Result<Vec<wgpu::ComputePipeline>, BackendError> {
        let sources: Vec<String> = kernels.iter().map(|kernel| kernel.source()).collect();
        let keys: Vec<[u8; 32]> = sources.iter().map(|source| *blake3::hash(source.as_bytes()).as_bytes()).collect();
        let known: std::collections::HashSet<[u8; 32]> = lock(&self.pipelines).keys().copied().collect();
        let mut missing: Vec<usize> = (0..kernels.len()).filter(|&at| !known.contains(&keys[at])).collect();
        missing.sort_by_key(|&at| keys[at]);
        missing.dedup_by_key(|at| keys[*at]);
        if !missing.is_empty() {
            let next = std::sync::atomic::AtomicUsize::new(0);
            let work = || {
                let mut failed = None;
                loop {
                    let taken = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(&at) = missing.get(taken) else { break };
                    match self.compile(kernels[at], &sources[at]) {
                        Ok(pipeline) => drop(lock(&self.pipelines).insert(keys[at], pipeline)),
                        Err(error) => failed = Some(error),
                    }
                }
                failed
            };
            let threads = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
            let failed = std::thread::scope(|scope| {
                let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                all.into_iter().filter_map(|thread| thread.join().unwrap_or(None)).next()
            });
            if let Some(error) = failed {
                return Err(error);
            }
            self.save();
        }
        let pipelines = lock(&self.pipelines);
        let found = keys.iter().map(|key| pipelines.get(key).cloned());
        found
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| BackendError::Resources(format!("{}: a kernel was not compiled", self.adapter.name)))
    }

    #[allow(unsafe_code)]
    fn compile(&self, kernel: &Kernel, source: &str) -> Result<wgpu::ComputePipeline, BackendError> {
        let scopes = [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation];
        let scopes = scopes.map(|filter| self.device.push_error_scope(filter));
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(kernel.label),
            source: wgpu::ShaderSource::Wgsl(Cow::Borrowed(source)),
        };
        let checks = wgpu::ShaderRuntimeChecks {
            // Every loop of ours ends, and every divisor is a length: guards against the contrary cost time in each pass.
            force_loop_bounding: false,
            int_div_checks: false,
            ..wgpu::ShaderRuntimeChecks::checked()
        };
        // SAFETY: accesses stay checked. The text is this crate's own, whatever a peer's program says: its loops count up to
        // lengths of tensors, and it divides by such lengths, which are not 0.
        let module = unsafe { self.device.create_shader_module_trusted(descriptor, checks) };
        let writes: Vec<bool> = kernel.bindings.iter().map(|binding| binding.write).collect();
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.label),
            layout: Some(&self.layout(&writes).1),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Kernels write their workgroup memory before they read it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: self.cache.as_ref().map(|(cache, _)| cache),
        });
        let failed: Vec<wgpu::Error> =
            scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop())).collect();
        match failed.first() {
            None => Ok(pipeline),
            Some(error) => Err(BackendError::Resources(format!(
                "{}: the kernel `{}` does not compile: {error}",
                self.adapter.name, kernel.label
            ))),
        }
    }

    /// Writes the compiled pipelines to their file. That a cache is not written is no error: the next process compiles.
    fn save(&self) {
        let Some((cache, path)) = &self.cache else { return };
        let Some(data) = cache.get_data() else { return };
        // Another process may do the same: each writes a file of its own and renames it.
        let own = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = std::fs::write(&own, data).and_then(|()| std::fs::rename(&own, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&own);
        }
    }

    /// Estimated operations that the device does in a second.
    pub(super) fn speed(&self) -> f64 {
        *lock(&self.speed)
    }

    /// Learns from `work` estimated operations that took this long.
    pub(super) fn learn(&self, work: u64, took: Duration) {
        let seen = work as f64 / took.as_secs_f64().max(1e-6);
        let mut speed = lock(&self.speed);
        *speed = (0.7 * *speed + 0.3 * seen).clamp(1e7, 1e15);
    }

    /// Submits commands. That asks what is done, too, which only one thread may at a time.
    pub(super) fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        let commands = encoder.finish();
        let _asking = lock(&self.asking);
        self.queue.submit([commands])
    }

    /// Waits until a submission is done, or the deadline has passed.
    pub(super) fn wait(&self, submission: &wgpu::SubmissionIndex) -> Result<(), BackendError> {
        let started = Instant::now();
        loop {
            let poll = wgpu::PollType::Wait { submission_index: Some(submission.clone()), timeout: Some(ASK) };
            let asking = lock(&self.asking);
            let polled = self.device.poll(poll);
            drop(asking);
            self.check()?;
            match polled {
                Ok(_) => return Ok(()),
                Err(wgpu::PollError::Timeout) if started.elapsed() < DEADLINE => {}
                Err(wgpu::PollError::Timeout) => {
                    let what = format!("no answer in {} s: the device hangs", DEADLINE.as_secs());
                    lock(&self.trouble).get_or_insert(what);
                    return self.check();
                }
                Err(error) => return Err(BackendError::Resources(format!("{}: {error}", self.adapter.name))),
            }
        }
    }

    /// The words of a buffer that was made to be read, after the submission that fills it.
    pub(super) fn read<T>(
        &self,
        buffer: &wgpu::Buffer,
        words: usize,
        submission: &wgpu::SubmissionIndex,
        take: impl FnOnce(&[u32]) -> T,
    ) -> Result<T, BackendError> {
        let (told, mapped) = std::sync::mpsc::channel();
        let tell = move |result| told.send(result).unwrap_or_default();
        buffer.map_async(wgpu::MapMode::Read, 0..(4 * words).max(16) as u64, tell);
        self.wait(submission)?;
        let failed = |what: String| BackendError::Resources(format!("{}: cannot read back: {what}", self.adapter.name));
        // Another thread that waits may be the one that is told, a moment later.
        match mapped.recv_timeout(DEADLINE).ok() {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(failed(error.to_string())),
            None => return Err(failed("the device said nothing".into())),
        }
        let range =
            buffer.get_mapped_range(0..(4 * words).max(16) as u64).map_err(|error| failed(error.to_string()))?;
        let taken = take(&bytemuck::cast_slice(&range)[..words]);
        drop(range);
        buffer.unmap();
        Ok(taken)
    }
}

/// The pipelines that an earlier process compiled for this adapter and driver.
#[allow(unsafe_code)]
fn cache(adapter: &Adapter, device: &wgpu::Device) -> Option<(wgpu::PipelineCache, PathBuf)> {
    let directory = CACHE.get()?;
    if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
        return None;
    }
    std::fs::create_dir_all(directory).ok()?;
    let name = blake3::hash(format!("{} cairn {}", adapter.key(), env!("CARGO_PKG_VERSION")).as_bytes()).to_hex();
    let path = directory.join(format!("pipelines-{}", &name[..16]));
    let short = std::fs::metadata(&path).is_ok_and(|file| file.len() <= CACHE_MAX);
    let data = if short { std::fs::read(&path).ok() } else { None };
    let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: true };
    // SAFETY: the file has what `get_data` gave for the same adapter and driver: its name is a hash of both, and only
    // `save` writes into this directory. wgpu checks its own header, and the driver its own, before they use it.
    let cache = unsafe { device.create_pipeline_cache(&descriptor) };
    Some((cache, path))
}
