//! `cairn bench --gpu`: what a GPU reaches of its own peak, beside the processor, and what its kernels do.

use cairn_engine::bench::{Product, Spread, gpu_speed};
use cairn_engine::gpu::{Choice, Form, adapters, find, peak};

use super::peer::Peer;
use super::report::{GpuKernelRow, GpuProductRow, GpuReport, GpuStepRow, Report};
use super::{Running, shape};
use crate::context::processors;
use crate::failure::Failure;

/// The product that decides in which form the others are measured.
const DECIDES: usize = 6;

/// The adapter of this name, and the form of products that is fastest on it.
pub(super) fn choice(name: &str) -> anyhow::Result<Choice> {
    let Some(adapter) = find(name) else {
        let all: Vec<&str> = adapters().iter().map(|adapter| adapter.name.as_str()).collect();
        let hint = match &all[..] {
            [] => "there is no GPU with a driver here; `cairn doctor` says what to install".to_string(),
            all => format!("there are: {}", all.join(", ")),
        };
        return Err(Failure::advice(format!("no GPU is called `{name}`"), hint));
    };
    let product = &Product::large()[DECIDES];
    let mut best = (0.0, Form::Barrier);
    for form in Form::ALL {
        let speed = gpu_speed(product, Choice { adapter, form }, 0.02)?;
        if speed > best.0 {
            best = (speed, form);
        }
    }
    Ok(Choice { adapter, form: best.1 })
}

impl Running<'_> {
    pub(super) fn gpu(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let Some(name) = &self.options.gpu else { return Ok(()) };
        let kinds = [("large", Product::large()), ("attention", Product::attention()), ("small", Product::small())];
        let models = self.options.models()?;
        self.more(2 + models.len() + kinds.iter().map(|(_, products)| products.len()).sum::<usize>());
        self.next("forms of products")?;
        let choice = choice(name)?;
        let adapter = &adapters()[usize::from(choice.adapter)];
        self.next("peak")?;
        let found = peak(choice.adapter, 10.0 * self.effort.short)?;
        let mut gpu = GpuReport {
            name: adapter.name.clone(),
            driver: format!("{} {}", adapter.driver, adapter.driver_info),
            backend: adapter.backend,
            form: choice.form.name(),
            peak_gflops: found.operations / 1e9,
            dispatch_us: found.dispatch * 1e6,
            ..GpuReport::default()
        };
        for (kind, products) in kinds {
            for product in products {
                let shape = shape(product);
                self.next(&shape)?;
                let speeds: Result<Vec<f64>, _> =
                    (0..self.effort.pairs).map(|_| gpu_speed(product, choice, self.effort.short)).collect();
                let speeds = Spread::of(speeds?.into_iter().map(|speed| speed / 1e9));
                gpu.products.push(GpuProductRow {
                    kind,
                    shape,
                    share: speeds.median / gpu.peak_gflops,
                    gflops: speeds,
                });
            }
        }
        for (name, model) in models {
            self.next(&name)?;
            let threads = processors();
            let mut peers = [Peer::gpu(self.context, &name, choice)?, Peer::cairn(self.context, &name, threads)?];
            let turns = self.turns(&mut peers)?;
            let kernels = &peers[0].ready.kernels;
            let sum = |of: fn(&super::peer::Kernels) -> u64| kernels.iter().map(of).sum::<u64>();
            let dispatches = sum(|kernel| kernel.dispatches);
            let ms = turns.ms(0);
            gpu.steps.push(GpuStepRow {
                model: name.clone(),
                parameters: peers[0].ready.parameters,
                ms,
                examples_per_second: f64::from(model.examples()) / ms.median * 1e3,
                threads,
                cpu_ms: turns.ms(1),
                ratio: turns.ratio(1, 0),
                dispatches,
                dispatch_share: dispatches as f64 * gpu.dispatch_us / 1e3 / ms.median,
                operations: sum(|kernel| kernel.operations),
                bytes: sum(|kernel| kernel.bytes),
                device_bytes: peers[0].ready.planned_bytes,
            });
            gpu.kernels.extend(kernels.iter().map(|kernel| GpuKernelRow {
                model: name.clone(),
                kernel: kernel.name.clone(),
                dispatches: kernel.dispatches,
                operations: kernel.operations,
                bytes: kernel.bytes,
            }));
        }
        report.gpu = Some(gpu);
        Ok(())
    }
}
