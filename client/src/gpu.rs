//! This machine's GPUs as commands see them: which there are, what is known of them, and which one is meant.
//!
//! *Invariant:* drivers are loaded in job processes only, never here.

use std::time::{SystemTime, UNIX_EPOCH};

use cairn_node::driver::Gpu;
use cairn_program::job::{AdapterInfo, Examined, GpuChoice, adapters as list, examine as measure};
use cairn_protocol::Text;
use cairn_store::{Conformance, Device};
use serde_json::{Value, json};

use crate::context::{Context, own_binary};
use crate::failure::Failure;
use crate::format;

/// What a machine without a GPU lacks.
pub(crate) const INSTALL: &str = "a GPU needs a Vulkan driver: on Debian and Ubuntu install libvulkan1 with \
    mesa-vulkan-drivers (AMD, Intel) or the vendor's driver (NVIDIA: nvidia-driver); macOS and Windows bring their own";

/// An adapter and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) adapter: AdapterInfo,
    pub(crate) device: Option<Device>,
}

impl Known {
    /// `passed`, `failed`, `demoted` or `not examined`.
    pub(crate) fn status(&self) -> &'static str {
        match &self.device {
            None => "not examined",
            Some(Device { conformance: Conformance::Failed { .. }, .. }) => "failed",
            Some(Device { demoted: Some(_), .. }) => "demoted",
            Some(_) => "passed",
        }
    }

    /// In words.
    pub(crate) fn says(&self) -> String {
        let AdapterInfo { name, driver, backend, kind, binding_max, workgroup_memory_max, .. } = &self.adapter;
        let found = match &self.device {
            None if self.adapter.is_software() => {
                "not examined: it is a program on the processor, and used only when named".to_string()
            }
            None => "not examined".to_string(),
            Some(Device { conformance: Conformance::Failed { what }, .. }) => {
                format!("does NOT keep the arithmetic, and is not used: {what}")
            }
            Some(Device { demoted: Some((_, why)), .. }) => format!("not trusted since an audit: {why}"),
            Some(Device { conformance: Conformance::Passed { form, speed }, .. }) => {
                format!("keeps every bit ({form}), {} operations a second", format::operations(*speed))
            }
        };
        format!(
            "{name} ({kind}, {backend}, {driver}; tensors to {}, {} for a workgroup): {found}",
            format::bytes(*binding_max),
            format::bytes(u64::from(*workgroup_memory_max))
        )
    }

    /// With the names of `docs/guide/json.md`.
    pub(crate) fn json(&self) -> Value {
        let AdapterInfo { key, name, driver, backend, kind, binding_max, workgroup_memory_max, buffers_max } =
            &self.adapter;
        let (mut form, mut speed, mut why) = (None, None, None);
        if let Some(Device { conformance, demoted, .. }) = &self.device {
            match conformance {
                Conformance::Passed { form: passed, speed: reached } => {
                    (form, speed) = (Some(passed.clone()), Some(*reached));
                }
                Conformance::Failed { what } => why = Some(what.clone()),
            }
            why = demoted.as_ref().map(|(_, why)| why.clone()).or(why);
        }
        json!({
            "key": key.as_str(),
            "name": name.as_str(),
            "driver": driver.as_str(),
            "backend": backend.as_str(),
            "kind": kind.as_str(),
            "binding_bytes": binding_max,
            "workgroup_bytes": workgroup_memory_max,
            "buffers": buffers_max,
            "conformance": self.status(),
            "form": form,
            "operations_per_second": speed,
            "why": why,
            "examined_ms": self.device.as_ref().map(|device| device.examined_ms),
            "demoted_ms": self.device.as_ref().and_then(|device| device.demoted.as_ref()).map(|(since, _)| since),
        })
    }
}

/// The adapters of this machine, and what this home knows of each.
pub(crate) fn known(context: &Context) -> anyhow::Result<Vec<Known>> {
    let found = list(&own_binary()?, context.interrupt.stopper());
    context.interrupt.check()?;
    let found = found.map_err(|error| {
        Failure::advice(
            format!("the GPU drivers cannot be asked: {error}"),
            "reinstall or update the driver, or go on with --gpu off",
        )
    })?;
    let shaders = cairn_engine::gpu::gate::fingerprint()?;
    let store = context.home.reader_if_any()?;
    let mut known = Vec::with_capacity(found.len());
    for adapter in found {
        let device = match &store {
            Some(store) => store.device(&adapter.key, shaders)?,
            None => None,
        };
        known.push(Known { adapter, device });
    }
    Ok(known)
}

/// Measures an adapter and remembers what was found.
pub(crate) fn examine(context: &Context, known: &mut Known) -> anyhow::Result<()> {
    let name = known.adapter.name.as_str();
    let mut progress = context.ui.progress(&format!("examining {name}"), 0);
    let cache = context.home.root().join("cache");
    let mut heard = |done: u32, of: u32, what: &str| {
        progress.total(u64::from(of));
        let what = what.to_string();
        progress.set(u64::from(done), || what);
    };
    let examined = measure(&own_binary()?, &known.adapter.key, &cache, context.interrupt.stopper(), &mut heard);
    context.interrupt.check()?;
    progress.end();
    let conformance = match examined.map_err(|error| {
        Failure::advice(
            format!("{name} could not be measured: {error}"),
            "update its driver, or leave it with --gpu off",
        )
    })? {
        Examined::Passed { form, speed, .. } => Conformance::Passed { form: form.to_string(), speed },
        Examined::Failed(what) => Conformance::Failed { what: what.to_string() },
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let device = Device {
        adapter: known.adapter.key.to_string(),
        shaders: cairn_engine::gpu::gate::fingerprint()?,
        conformance,
        examined_ms: u64::try_from(since.as_millis()).unwrap_or(0),
        demoted: None,
    };
    match context.home.writer() {
        Ok(mut store) => store.put_device(&device)?,
        // A node is running: it measures for itself.
        Err(error) => context.ui.warn(format!("the result is not remembered: {error:#}")),
    }
    known.device = Some(device);
    Ok(())
}

/// The GPU that a name means (without one: the best real one), measured if need be; and whether its results count.
pub(crate) fn choose(context: &Context, name: Option<&str>) -> anyhow::Result<(GpuChoice, bool)> {
    let wanted = Gpu::of(name.unwrap_or("auto"));
    let all = known(context)?;
    let names: Vec<String> = all.iter().map(|known| known.adapter.name.to_string()).collect();
    let keys: Vec<AdapterInfo> = wanted.candidates(all.iter().map(|known| known.adapter.clone()).collect());
    let mut candidates: Vec<Known> = all.into_iter().filter(|known| keys.contains(&known.adapter)).collect();
    if candidates.is_empty() {
        return Err(nothing(name, &names));
    }
    for known in candidates.iter_mut().filter(|known| known.device.is_none()) {
        examine(context, known)?;
    }
    let speed = |known: &Known| match &known.device {
        Some(device) if device.trusted().is_some() => match &device.conformance {
            Conformance::Passed { speed, .. } => *speed,
            Conformance::Failed { .. } => 0,
        },
        _ => 0,
    };
    // The first of the fastest: the order is that of real ones before others.
    let Some(best) = candidates.iter().rev().max_by_key(|known| speed(known)) else {
        return Err(nothing(name, &names));
    };
    let trusted = best.device.as_ref().and_then(Device::trusted);
    if trusted.is_none() {
        context.ui.warn(best.says());
    }
    let choice = GpuChoice {
        adapter: best.adapter.key.clone(),
        form: Text::truncated(trusted.unwrap_or(cairn_engine::gpu::Form::Barrier.name())),
        cache: Text::truncated(context.home.root().join("cache").to_str().unwrap_or_default()),
    };
    Ok((choice, trusted.is_some()))
}

/// No adapter is meant.
fn nothing(name: Option<&str>, names: &[String]) -> anyhow::Error {
    match name {
        _ if names.is_empty() => Failure::advice("this machine has no GPU that can be used", INSTALL),
        Some(name) => {
            Failure::usage(format!("no GPU's name has `{name}` in it"), format!("there are: {}", names.join(", ")))
        }
        None => Failure::advice(
            "this machine has no real GPU that can be used",
            format!("{INSTALL}; {} is a program on the processor: name it with --gpu to try it", names.join(", ")),
        ),
    }
}
