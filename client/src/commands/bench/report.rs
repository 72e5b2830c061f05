//! What was measured: as JSON, as tables for people, as Markdown.

use cairn_engine::bench::Spread;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Serialize, Serializer};

use crate::format;

/// Everything that was measured. The fields are described in `docs/guide/json.md`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    pub(super) processor: String,
    pub(super) processors: u16,
    pub(super) isas: Vec<&'static str>,
    pub(super) quick: bool,
    pub(super) pairs: usize,
    pub(super) peak: Vec<Peak>,
    pub(super) products: Vec<ProductRow>,
    pub(super) steps: Vec<StepRow>,
    pub(super) memory: Vec<MemoryRow>,
    pub(super) hashes: Option<Hashes>,
    pub(super) ops: Vec<OpRow>,
    pub(super) gpu: Option<GpuReport>,
    pub(super) against: Vec<AgainstRow>,
}

/// What a GPU does.
#[derive(Debug, Default, Serialize)]
pub(super) struct GpuReport {
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) backend: &'static str,
    pub(super) form: &'static str,
    pub(super) peak_gflops: f64,
    pub(super) dispatch_us: f64,
    pub(super) products: Vec<GpuProductRow>,
    pub(super) steps: Vec<GpuStepRow>,
    pub(super) kernels: Vec<GpuKernelRow>,
}

#[derive(Debug, Serialize)]
pub(super) struct GpuProductRow {
    pub(super) kind: &'static str,
    pub(super) shape: String,
    #[serde(serialize_with = "spread")]
    pub(super) gflops: Spread,
    pub(super) share: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct GpuStepRow {
    pub(super) model: String,
    pub(super) parameters: u64,
    #[serde(serialize_with = "spread")]
    pub(super) ms: Spread,
    pub(super) examples_per_second: f64,
    pub(super) threads: u16,
    #[serde(serialize_with = "spread")]
    pub(super) cpu_ms: Spread,
    #[serde(serialize_with = "spread")]
    pub(super) ratio: Spread,
    pub(super) dispatches: u64,
    pub(super) dispatch_share: f64,
    pub(super) operations: u64,
    pub(super) bytes: u64,
    pub(super) device_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct GpuKernelRow {
    pub(super) model: String,
    pub(super) kernel: String,
    pub(super) dispatches: u64,
    pub(super) operations: u64,
    pub(super) bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Peak {
    pub(super) isa: &'static str,
    pub(super) gflops: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct ProductRow {
    pub(super) kind: &'static str,
    pub(super) shape: String,
    #[serde(serialize_with = "spread")]
    pub(super) gflops: Spread,
    #[serde(serialize_with = "spread")]
    pub(super) share: Spread,
}

#[derive(Debug, Serialize)]
pub(super) struct StepRow {
    pub(super) model: String,
    pub(super) parameters: u64,
    pub(super) examples: u32,
    pub(super) threads: u16,
    #[serde(serialize_with = "spread")]
    pub(super) ms: Spread,
    pub(super) examples_per_second: f64,
    pub(super) cpu_ms: Option<f64>,
    #[serde(serialize_with = "spread")]
    pub(super) speedup: Spread,
}

#[derive(Debug, Serialize)]
pub(super) struct MemoryRow {
    pub(super) model: String,
    pub(super) priced_bytes: u64,
    pub(super) planned_bytes: u64,
    pub(super) grown_bytes: Option<u64>,
    pub(super) peak_rss_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Hashes {
    pub(super) track: String,
    pub(super) steps: u64,
    pub(super) step_ms: f64,
    pub(super) hash_ms: f64,
    pub(super) share: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct OpRow {
    pub(super) op: String,
    pub(super) metered: u64,
    pub(super) ms: f64,
    #[serde(serialize_with = "spread")]
    pub(super) against_product: Spread,
}

#[derive(Debug, Serialize)]
pub(super) struct AgainstRow {
    pub(super) model: String,
    pub(super) peer: String,
    pub(super) version: String,
    pub(super) threads: u16,
    #[serde(serialize_with = "spread")]
    pub(super) ratio: Spread,
    #[serde(serialize_with = "maybe")]
    pub(super) cpu_ratio: Option<Spread>,
    pub(super) ms: f64,
    pub(super) peer_ms: f64,
    pub(super) examples_per_second: f64,
    pub(super) peer_examples_per_second: f64,
    pub(super) cpu_ms: Option<f64>,
    pub(super) peer_cpu_ms: Option<f64>,
    pub(super) peak_rss_bytes: Option<u64>,
    pub(super) peer_peak_rss_bytes: Option<u64>,
    pub(super) peer_idle_rss_bytes: Option<u64>,
    pub(super) loss: f64,
    pub(super) peer_loss: f64,
}

fn spread<S: Serializer>(spread: &Spread, to: S) -> Result<S::Ok, S::Error> {
    [("median", spread.median), ("low", spread.low), ("high", spread.high)]
        .into_iter()
        .collect::<std::collections::BTreeMap<_, _>>()
        .serialize(to)
}

fn maybe<S: Serializer>(found: &Option<Spread>, to: S) -> Result<S::Ok, S::Error> {
    match found {
        Some(found) => spread(found, to),
        None => to.serialize_none(),
    }
}

impl Report {
    /// The tables, each under its title.
    pub(super) fn text(&self, markdown: bool) -> String {
        let isas = self.isas.join(", ");
        let mut text = format!("{}, {} processors, {isas}; cairn {}\n", self.processor, self.processors, self.version);
        if let Some(GpuReport { name, driver, backend, form, peak_gflops, dispatch_us, .. }) = &self.gpu {
            text += &format!(
                "{name} ({driver}, {backend}), products {form}; peak {peak_gflops:.0} GFLOP/s, {dispatch_us:.1} µs a dispatch\n"
            );
        }
        for (title, table) in self.tables(markdown) {
            let table = table.trim_fmt();
            text += &if markdown { format!("\n### {title}\n\n{table}\n") } else { format!("\n{title}\n{table}\n") };
        }
        text
    }

    fn tables(&self, markdown: bool) -> Vec<(&'static str, Table)> {
        let new = |header: &[&str]| {
            let mut table = Table::new();
            table.load_style(if markdown { presets::ASCII_MARKDOWN } else { presets::NOTHING });
            table.set_header(header);
            for column in 1..header.len() {
                if let Some(column) = table.column_mut(column) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
            table
        };
        let mut all = Vec::new();
        let mut add = |title, header: &[&str], rows: Vec<Vec<String>>| {
            if !rows.is_empty() {
                let mut table = new(header);
                table.add_rows(rows);
                all.push((title, table));
            }
        };
        let rows = self.peak.iter().map(|row| vec![row.isa.into(), format!("{:.1}", row.gflops)]);
        add(
            "Peak of one thread: multiplications and additions in registers",
            &["instruction set", "GFLOP/s"],
            rows.collect(),
        );
        add(
            "Matrix products, one thread, share of the peak",
            &["product", "kind", "GFLOP/s", "share", "quartiles"],
            self.products(),
        );
        add(
            "Training steps",
            &[
                "model",
                "parameters",
                "threads",
                "ms",
                "quartiles",
                "examples/s",
                "processor ms",
                "against 1 thread",
                "quartiles",
            ],
            self.steps(),
        );
        add(
            "Peak memory of a training",
            &["model", "priced", "planned", "grown", "planned/grown", "whole process"],
            self.memory(),
        );
        add(
            "State hashes: 16 of a baseline's run",
            &["track", "steps", "step ms", "hash ms", "share of the run"],
            self.hashes().into_iter().collect(),
        );
        add(
            "Time for each metered operation, against a matrix product's",
            &["operation", "metered", "ms", "ratio", "quartiles", ""],
            self.ops(),
        );
        add(
            "Matrix products on the GPU, share of its peak",
            &["product", "kind", "GFLOP/s", "quartiles", "share"],
            self.gpu_products(),
        );
        add(
            "Training steps on the GPU, in turns with the processor",
            &[
                "model",
                "parameters",
                "ms",
                "quartiles",
                "examples/s",
                "processor ms (threads)",
                "times as fast",
                "dispatches",
                "their share",
                "operations",
                "bound",
                "memory",
            ],
            self.gpu_steps(),
        );
        add(
            "Kernels of a training step on the GPU",
            &["model", "kernel", "dispatches", "operations", "bound"],
            self.gpu_kernels(),
        );
        add(
            "Against other systems, one process each, in turns",
            &[
                "model",
                "peer",
                "threads",
                "times as fast",
                "quartiles",
                "by processor time",
                "ms",
                "peer ms",
                "examples/s",
                "processor ms",
                "peer's",
                "peak memory",
                "peer's",
                "of it idle",
            ],
            self.against(),
        );
        all
    }

    fn products(&self) -> Vec<Vec<String>> {
        let row = |row: &ProductRow| {
            let gflops = format!("{:.1}", row.gflops.median);
            vec![
                row.shape.clone(),
                row.kind.into(),
                gflops,
                percent(row.share.median),
                format!("{}–{}", percent(row.share.low), percent(row.share.high)),
            ]
        };
        self.products.iter().map(row).collect()
    }

    fn steps(&self) -> Vec<Vec<String>> {
        let row = |row: &StepRow| {
            let alone = row.threads == 1;
            vec![
                row.model.clone(),
                row.parameters.to_string(),
                row.threads.to_string(),
                ms(row.ms.median),
                format!("{}–{}", ms(row.ms.low), ms(row.ms.high)),
                format!("{:.0}", row.examples_per_second),
                row.cpu_ms.map(ms).unwrap_or_default(),
                if alone { String::new() } else { times(row.speedup.median) },
                if alone { String::new() } else { range(row.speedup) },
            ]
        };
        self.steps.iter().map(row).collect()
    }

    fn memory(&self) -> Vec<Vec<String>> {
        let row = |row: &MemoryRow| {
            let ratio = row.grown_bytes.map(|grown| format!("{:.2}", row.planned_bytes as f64 / grown.max(1) as f64));
            vec![
                row.model.clone(),
                format::bytes(row.priced_bytes),
                format::bytes(row.planned_bytes),
                row.grown_bytes.map(format::bytes).unwrap_or_default(),
                ratio.unwrap_or_default(),
                row.peak_rss_bytes.map(format::bytes).unwrap_or_default(),
            ]
        };
        self.memory.iter().map(row).collect()
    }

    fn hashes(&self) -> Option<Vec<String>> {
        let found = self.hashes.as_ref()?;
        let share = format!("{:.2} %", 100.0 * found.share);
        Some(vec![found.track.clone(), found.steps.to_string(), ms(found.step_ms), ms(found.hash_ms), share])
    }

    fn ops(&self) -> Vec<Vec<String>> {
        let row = |row: &OpRow| {
            let ratio = row.against_product.median;
            let verdict = if (0.25..=4.0).contains(&ratio) { "" } else { "outside 4x" };
            vec![
                row.op.clone(),
                format::operations(row.metered),
                ms(row.ms),
                format!("{ratio:.2}"),
                range(row.against_product),
                verdict.into(),
            ]
        };
        self.ops.iter().map(row).collect()
    }

    fn gpu_products(&self) -> Vec<Vec<String>> {
        let row = |row: &GpuProductRow| {
            let GpuProductRow { kind, shape, gflops, share } = row;
            let range = format!("{:.1}–{:.1}", gflops.low, gflops.high);
            vec![shape.clone(), (*kind).into(), format!("{:.1}", gflops.median), range, percent(*share)]
        };
        self.gpu.iter().flat_map(|gpu| &gpu.products).map(row).collect()
    }

    fn gpu_steps(&self) -> Vec<Vec<String>> {
        let row = |row: &GpuStepRow| {
            vec![
                row.model.clone(),
                row.parameters.to_string(),
                ms(row.ms.median),
                format!("{}–{}", ms(row.ms.low), ms(row.ms.high)),
                format!("{:.0}", row.examples_per_second),
                format!("{} ({})", ms(row.cpu_ms.median), row.threads),
                times(row.ratio.median),
                row.dispatches.to_string(),
                percent(row.dispatch_share),
                format::operations(row.operations),
                format::bytes(row.bytes),
                format::bytes(row.device_bytes),
            ]
        };
        self.gpu.iter().flat_map(|gpu| &gpu.steps).map(row).collect()
    }

    fn gpu_kernels(&self) -> Vec<Vec<String>> {
        let row = |row: &GpuKernelRow| {
            let operations = format::operations(row.operations);
            let (model, kernel) = (row.model.clone(), row.kernel.clone());
            vec![model, kernel, row.dispatches.to_string(), operations, format::bytes(row.bytes)]
        };
        self.gpu.iter().flat_map(|gpu| &gpu.kernels).map(row).collect()
    }

    fn against(&self) -> Vec<Vec<String>> {
        let row = |row: &AgainstRow| {
            let bytes = |bytes: Option<u64>| bytes.map(format::bytes).unwrap_or_default();
            vec![
                row.model.clone(),
                format!("{} ({})", row.peer, row.version),
                row.threads.to_string(),
                times(row.ratio.median),
                range(row.ratio),
                row.cpu_ratio.map(|ratio| times(ratio.median)).unwrap_or_default(),
                ms(row.ms),
                ms(row.peer_ms),
                format!("{:.0}", row.examples_per_second),
                row.cpu_ms.map(ms).unwrap_or_default(),
                row.peer_cpu_ms.map(ms).unwrap_or_default(),
                bytes(row.peak_rss_bytes),
                bytes(row.peer_peak_rss_bytes),
                bytes(row.peer_idle_rss_bytes),
            ]
        };
        self.against.iter().map(row).collect()
    }
}

fn ms(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        3
    };
    format!("{value:.decimals$}")
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2}x")
}

fn range(spread: Spread) -> String {
    format!("{:.2}–{:.2}", spread.low, spread.high)
}
