//! The node's GPU: which one is used, whether it is trusted, and for which programs it is the faster choice.
//!
//! A thread looks for adapters, measures those that were not measured yet (in job processes: a driver may crash or
//! hang), and picks one; until then, and whenever there is none, everything runs on the processor.
//!
//! *Invariant:* a device runs nothing before it passed the gate, and nothing after an audit caught it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cairn_program::job::{
    AdapterInfo, Allowance, Audit, BackendChoice, Examined, GpuChoice, JobError, Stopper, Task, Timed, adapters,
    examine, time,
};
use cairn_protocol::limits::SEGMENTS;
use cairn_protocol::{GraphId, Hash32, Seed, Text, Track};
use cairn_store::{Conformance, Device, Store};
use tokio::sync::mpsc;

use super::Message;
use crate::event::{Event, GpuStatus};

/// Time between audits of exploration.
const AUDIT_EVERY: Duration = Duration::from_secs(60 * 60);
/// Runs that may fail on a device, one after the other, before it is left alone.
const FAILURES_MAX: u32 = 3;
/// What to do where no driver is found.
const NO_DRIVER: &str = "no GPU was found: the processor does all the work (`cairn doctor` says what a GPU needs)";

/// Which GPU a node may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gpu {
    /// The fastest real one that passes the gate, where it is faster than the processor.
    #[default]
    Auto,
    /// None.
    Off,
    /// The one whose name has this in it. A program on the processor that plays a GPU is used only when it is named,
    /// and then for every run: for tests.
    Named(String),
}

impl Gpu {
    /// What `auto`, `off` or a name means.
    pub fn of(text: &str) -> Self {
        match text {
            "auto" => Self::Auto,
            "off" => Self::Off,
            name => Self::Named(name.to_string()),
        }
    }

    /// The adapters that may be used, best first.
    pub fn candidates(&self, adapters: Vec<AdapterInfo>) -> Vec<AdapterInfo> {
        let named = |adapter: &AdapterInfo| match self {
            Self::Off => false,
            Self::Auto => !adapter.is_software(),
            Self::Named(name) => {
                let name = name.to_lowercase();
                [&adapter.name, &adapter.key].iter().any(|text| text.to_lowercase().contains(&name))
            }
        };
        adapters.into_iter().filter(named).collect()
    }
}

/// A device in use.
#[derive(Clone, Debug)]
struct Chosen {
    name: String,
    gpu: GpuChoice,
    /// Whether it is used whatever the clock says.
    always: bool,
    /// The head that was timed last, and whether the device was faster.
    timed: Option<(Option<GraphId>, bool)>,
    failures: u32,
    audited: Option<Instant>,
}

/// The device, as all threads see it.
#[derive(Clone, Default)]
pub(super) struct Devices(Arc<Mutex<Option<Chosen>>>);

/// Where a run goes.
pub(super) struct Place {
    pub(super) backend: BackendChoice,
    /// Name of the device, where it is one.
    pub(super) device: Option<String>,
}

impl Place {
    /// The processor.
    pub(super) fn cpu(threads: u16) -> Self {
        Self { backend: BackendChoice::cpu(threads), device: None }
    }
}

impl Devices {
    fn chosen(&self) -> MutexGuard<'_, Option<Chosen>> {
        // Every change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a program of this head must be timed before its place is known.
    pub(super) fn untimed(&self, head: Option<GraphId>) -> Option<(String, GpuChoice)> {
        let chosen = self.chosen();
        let chosen = chosen.as_ref()?;
        let known = chosen.always || chosen.timed.is_some_and(|(of, _)| of == head || head.is_none());
        (!known).then(|| (chosen.name.clone(), chosen.gpu.clone()))
    }

    /// Notes whether the device is the faster one for programs of this head.
    fn note_timed(&self, head: Option<GraphId>, faster: bool) {
        if let Some(chosen) = self.chosen().as_mut() {
            chosen.timed = Some((head, faster));
        }
    }

    /// Where to run now.
    pub(super) fn place(&self, threads: u16) -> Place {
        match self.chosen().as_ref() {
            Some(chosen) if chosen.always || chosen.timed.is_some_and(|(_, faster)| faster) => {
                Place { backend: BackendChoice::gpu(chosen.gpu.clone(), threads), device: Some(chosen.name.clone()) }
            }
            _ => Place::cpu(threads),
        }
    }

    /// The segment of an exploration that is to be audited, if it is time for one.
    pub(super) fn audit_due(&self) -> Option<Audit> {
        let due = self.chosen().as_ref()?.audited.is_none_or(|last| last.elapsed() >= AUDIT_EVERY);
        if due { random_audit(1) } else { None }
    }

    /// A run on the device went well; an audit too, if there was one.
    pub(super) fn went_well(&self, audited: bool) {
        if let Some(chosen) = self.chosen().as_mut() {
            chosen.failures = 0;
            if audited {
                chosen.audited = Some(Instant::now());
            }
        }
    }

    /// A run on the device failed for a reason of its own; what to tell.
    pub(super) fn failed(&self, error: &JobError) -> Option<Event> {
        let mut guard = self.chosen();
        let chosen = guard.as_mut()?;
        chosen.failures += 1;
        let name = chosen.name.clone();
        let says = if chosen.failures >= FAILURES_MAX {
            *guard = None;
            format!("{error}; it failed {FAILURES_MAX} times in a row and is left alone until the next start")
        } else {
            format!("{error}; this run is done on the processor")
        };
        Some(Event::Gpu { name, status: GpuStatus::Trouble, says })
    }

    /// An audit found other bits on the processor: the device is not used any more. What the store and people are told.
    pub(super) fn caught(&self, segment: u16) -> Option<(String, Event)> {
        let chosen = self.chosen().take()?;
        let says = format!(
            "segment {segment} of a run has other bits on the processor: its results do not count, and everything goes on \
             with the processor"
        );
        Some((chosen.gpu.adapter.to_string(), Event::Gpu { name: chosen.name, status: GpuStatus::Demoted, says }))
    }
}

/// A random segment of one of `runs` runs.
pub(super) fn random_audit(runs: usize) -> Option<Audit> {
    let mut bytes = [0; 8];
    // Without randomness there is no official run either: the node ends on it elsewhere.
    getrandom::fill(&mut bytes).ok()?;
    let number = u64::from_be_bytes(bytes);
    let seed = u8::try_from((number >> 32) % runs.max(1) as u64).ok()?;
    let segment = u16::try_from(number % u64::from(SEGMENTS)).ok()?;
    Some(Audit { seed, segment })
}

/// What timing a program needs.
pub(super) struct Timing<'a> {
    pub(super) exe: &'a Path,
    pub(super) track: &'a Track,
    pub(super) data: &'a Path,
    pub(super) threads: u16,
}

impl Timing<'_> {
    /// Times a program on the processor and on the device, and notes which is faster; what to tell.
    pub(super) fn settle(
        &self,
        devices: &Devices,
        head: Option<GraphId>,
        source: &str,
        stopper: &Stopper,
    ) -> Result<Option<Event>, JobError> {
        let Some((name, gpu)) = devices.untimed(head) else { return Ok(None) };
        let backends = vec![BackendChoice::cpu(self.threads), BackendChoice::gpu(gpu, self.threads)];
        let allowance = Allowance::of(self.track.budget, 2, self.threads);
        let task = Task::of(self.track, source, self.data)?;
        let found = match time(self.exe, task, Seed::numbered(0), backends, allowance, stopper) {
            Err(JobError::Stopped) => return Err(JobError::Stopped),
            Err(error) => Err(error.to_string()),
            Ok(found) => Ok(found),
        };
        let (faster, says) = match found {
            // A refused program runs nowhere: whatever comes next is timed.
            Ok(None) => return Ok(None),
            Ok(Some((steps, timed))) => match timed.as_slice() {
                [cpu, gpu] => verdict(steps, cpu, gpu),
                _ => (false, "it was not timed; the processor does the work".into()),
            },
            Err(why) => (false, format!("{why}; the processor does the work")),
        };
        devices.note_timed(head, faster);
        let status = if faster { GpuStatus::Used } else { GpuStatus::Slower };
        Ok(Some(Event::Gpu { name, status, says }))
    }
}

/// Whether the device is faster for a run of so many steps, and why.
fn verdict(steps: u64, cpu: &Timed, gpu: &Timed) -> (bool, String) {
    if !gpu.trouble.is_empty() {
        return (false, format!("{}; the processor does the work", gpu.trouble));
    }
    let whole = |timed: &Timed| timed.start_us.saturating_add(timed.step_us.saturating_mul(steps.saturating_sub(1)));
    let milliseconds = |us: u64| us as f64 / 1000.0;
    let faster = cpu.trouble.is_empty() && whole(gpu) < whole(cpu);
    let says = format!(
        "a step takes {:.2} ms on it and {:.2} ms on the processor{}",
        milliseconds(gpu.step_us),
        milliseconds(cpu.step_us),
        if faster { "" } else { ", which does the work" }
    );
    (faster, says)
}

/// What finding a device needs.
pub(super) struct Finding {
    pub(super) exe: PathBuf,
    /// Directory of compiled pipelines.
    pub(super) cache: PathBuf,
    pub(super) wanted: Gpu,
    /// What is known already.
    pub(super) known: Vec<Device>,
    pub(super) now_ms: u64,
    pub(super) stopper: Arc<Stopper>,
    pub(super) inbox: mpsc::Sender<Message>,
}

impl Finding {
    /// Reads what the store knows.
    pub(super) fn new(
        config: &super::Config,
        store: &Store,
        now_ms: u64,
        inbox: mpsc::Sender<Message>,
    ) -> Result<Self, cairn_store::Error> {
        Ok(Self {
            exe: config.exe.clone(),
            cache: config.home.join("cache"),
            wanted: config.gpu.clone(),
            known: store.devices()?,
            now_ms,
            stopper: Arc::new(Stopper::default()),
            inbox,
        })
    }

    /// Starts a thread that finds a device, measures it if need be, and puts it to use.
    pub(super) fn start(self, devices: Devices) -> std::io::Result<()> {
        if self.wanted == Gpu::Off {
            return Ok(());
        }
        std::thread::Builder::new().name("device".into()).spawn(move || self.run(&devices)).map(drop)
    }

    fn tell(&self, name: &str, status: GpuStatus, says: String) {
        // The loop that takes these is over if nobody listens.
        let event = Event::Gpu { name: name.to_string(), status, says };
        let _ = self.inbox.blocking_send(Message::Event(event));
    }

    fn run(&self, devices: &Devices) {
        let found = match adapters(&self.exe, &self.stopper) {
            Ok(found) => found,
            Err(JobError::Stopped) => return,
            Err(error) => {
                let says = format!("the GPU drivers cannot be asked: {error}; the processor does all the work");
                return self.tell("", GpuStatus::None, says);
            }
        };
        let names: Vec<String> = found.iter().map(|adapter| adapter.name.to_string()).collect();
        let candidates = self.wanted.candidates(found);
        if candidates.is_empty() {
            return self.tell("", GpuStatus::None, nothing(&self.wanted, &names));
        }
        let shaders = match cairn_engine::gpu::gate::fingerprint() {
            Ok(shaders) => shaders,
            Err(error) => return self.tell("", GpuStatus::Trouble, error.to_string()),
        };
        let mut best: Option<(u64, Chosen)> = None;
        for adapter in candidates {
            if self.stopper.stopped() {
                return;
            }
            if let Some((speed, chosen)) = self.measured(&adapter, shaders)
                && best.as_ref().is_none_or(|(most, _)| speed > *most)
            {
                best = Some((speed, chosen));
            }
        }
        if let Some((speed, chosen)) = best {
            let says = format!(
                "passed the gate with {} contractions at {:.1} billion operations a second",
                chosen.gpu.form,
                speed as f64 / 1e9
            );
            let name = chosen.name.clone();
            *devices.chosen() = Some(chosen);
            self.tell(&name, GpuStatus::Passed, says);
        }
    }

    /// Speed of an adapter and how it is used, if it is trusted; measured now where that is not known.
    fn measured(&self, adapter: &AdapterInfo, shaders: Hash32) -> Option<(u64, Chosen)> {
        let key = adapter.key.as_str();
        let name = adapter.name.as_str();
        let known = self.known.iter().find(|known| known.adapter == key && known.shaders == shaders).cloned();
        let device = match known {
            Some(device) => device,
            None => {
                self.tell(name, GpuStatus::Examining, "its arithmetic is compared with the processor's".into());
                let conformance = match examine(&self.exe, key, &self.cache, &self.stopper, &mut |_, _, _| {}) {
                    Ok(Examined::Passed { form, speed, .. }) => Conformance::Passed { form: form.to_string(), speed },
                    Ok(Examined::Failed(what)) => Conformance::Failed { what: what.to_string() },
                    Err(JobError::Stopped) => return None,
                    Err(error) => {
                        let says = format!("it could not be measured: {error}; it is not used until the next start");
                        self.tell(name, GpuStatus::Trouble, says);
                        return None;
                    }
                };
                let adapter = key.to_string();
                let device = Device { adapter, shaders, conformance, examined_ms: self.now_ms, demoted: None };
                let _ = self.inbox.blocking_send(Message::Device(Box::new(device.clone())));
                device
            }
        };
        match (&device.conformance, &device.demoted) {
            (Conformance::Passed { form, speed }, None) => {
                let gpu = GpuChoice {
                    adapter: adapter.key.clone(),
                    form: Text::truncated(form),
                    cache: Text::truncated(self.cache.to_str().unwrap_or_default()),
                };
                let chosen = Chosen {
                    name: name.to_string(),
                    gpu,
                    always: adapter.is_software(),
                    timed: None,
                    failures: 0,
                    audited: None,
                };
                Some((*speed, chosen))
            }
            (Conformance::Passed { .. }, Some((_, why))) => {
                let says =
                    format!("is not trusted: {why}; `cairn doctor --gpu` with its name and --again measures it anew");
                self.tell(name, GpuStatus::Demoted, says);
                None
            }
            (Conformance::Failed { what }, _) => {
                self.tell(name, GpuStatus::Failed, format!("does not keep the arithmetic: {what}; it is not used"));
                None
            }
        }
    }
}

/// Why no adapter is used.
fn nothing(wanted: &Gpu, names: &[String]) -> String {
    match wanted {
        _ if names.is_empty() => NO_DRIVER.to_string(),
        Gpu::Named(name) => {
            format!(
                "no GPU's name has `{name}` in it; there are: {}; the processor does all the work",
                names.join(", ")
            )
        }
        _ => format!("{NO_DRIVER}; {} is a program on the processor, and used only when named", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn adapter(name: &str, kind: &str) -> AdapterInfo {
        AdapterInfo {
            key: Text::truncated(&format!("vulkan 1:2 {name} | driver 3")),
            name: Text::truncated(name),
            driver: Text::truncated("driver 3"),
            backend: Text::truncated("vulkan"),
            kind: Text::truncated(kind),
            binding_max: 1,
            workgroup_memory_max: 1,
            buffers_max: 8,
        }
    }

    fn chosen(always: bool) -> Devices {
        let gpu = GpuChoice { adapter: Text::truncated("key"), form: Text::truncated("fma"), cache: Text::default() };
        let chosen = Chosen { name: "card".into(), gpu, always, timed: None, failures: 0, audited: None };
        Devices(Arc::new(Mutex::new(Some(chosen))))
    }

    #[test]
    fn software_is_used_only_when_it_is_named() {
        let all = || vec![adapter("Card 9000", "discrete"), adapter("llvmpipe", "software")];
        let names = |wanted: &str| {
            Gpu::of(wanted).candidates(all()).iter().map(|found| found.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names("auto"), ["Card 9000"]);
        assert_eq!(names("LLVM"), ["llvmpipe"]);
        assert_eq!(names("card"), ["Card 9000"]);
        assert!(names("off").is_empty() && names("radeon").is_empty());
        assert!(nothing(&Gpu::Auto, &["llvmpipe".into()]).contains("only when named"));
        assert!(nothing(&Gpu::of("x"), &["llvmpipe".into()]).contains("`x`"));
    }

    #[test]
    fn the_faster_backend_does_a_whole_run() {
        let timed = |start_us, step_us, trouble: &str| Timed { start_us, step_us, trouble: Text::truncated(trouble) };
        assert!(verdict(1000, &timed(100, 1000, ""), &timed(200_000, 100, "")).0);
        assert!(
            !verdict(100, &timed(100, 1000, ""), &timed(200_000, 100, "")).0,
            "its start takes longer than it saves"
        );
        let (faster, says) = verdict(1000, &timed(100, 1000, ""), &timed(0, 0, "no room for 9 bytes"));
        assert!(!faster && says.contains("no room"), "{says}");
    }

    #[test]
    fn a_device_runs_what_it_is_faster_for_and_nothing_after_it_was_caught() {
        let devices = chosen(false);
        let (head, other) = (Some(GraphId([1; 32])), Some(GraphId([2; 32])));
        assert!(devices.untimed(head).is_some() && devices.place(2).device.is_none());
        devices.note_timed(head, true);
        assert!(devices.untimed(head).is_none() && devices.untimed(None).is_none() && devices.untimed(other).is_some());
        assert_eq!(devices.place(2).backend.name.as_str(), "gpu");
        assert!(devices.audit_due().is_some_and(|audit| audit.seed == 0 && audit.segment < SEGMENTS));
        devices.went_well(false);
        assert!(devices.audit_due().is_some(), "a run without an audit is none");
        devices.went_well(true);
        assert!(devices.audit_due().is_none());
        let (adapter, event) = devices.caught(3).unwrap();
        assert!(adapter == "key" && matches!(event, Event::Gpu { status: GpuStatus::Demoted, .. }));
        assert_eq!(devices.place(2).backend.name.as_str(), "cpu");
        assert!(devices.caught(3).is_none() && devices.audit_due().is_none());
    }

    #[test]
    fn a_device_that_keeps_failing_is_left_alone() {
        let devices = chosen(true);
        let error = JobError::Failed("the device was lost".into());
        for _ in 1..FAILURES_MAX {
            assert!(devices.failed(&error).is_some() && devices.place(1).device.is_some());
        }
        devices.went_well(false);
        for _ in 1..FAILURES_MAX {
            assert!(devices.failed(&error).is_some());
        }
        let Some(Event::Gpu { says, .. }) = devices.failed(&error) else { panic!("nothing is told") };
        assert!(says.contains("the device was lost") && devices.place(1).device.is_none(), "{says}");
    }
}
