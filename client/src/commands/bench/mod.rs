//! `cairn bench`: how fast products, operations and training steps are on this machine, alone and against PyTorch.
//!
//! *Invariant:* what is compared is measured in turns; trainings run in processes of their own, so that memory is
//! theirs alone.

mod gpu;
mod peer;
mod report;

use anyhow::bail;
use cairn_engine::bench::{Model, Product, Spread, cases, prices, shares};
use cairn_engine::cpu::{available, fma_peak};

use self::peer::{Answer, BASELINE, Peer, WARM};
use self::report::{AgainstRow, Hashes, MemoryRow, OpRow, Peak, ProductRow, Report, StepRow};
use crate::cli::{Bench, Other, Part};
use crate::context::{Context, processors};
use crate::failure::Failure;
use crate::jobs;
use crate::output::Progress;

pub(crate) use self::peer::serve;

/// Losses after the same steps from the same start differ by less than this part of them: rounding alone.
const LOSS_APART_MAX: f64 = 0.01;
/// The run whose hashes are weighed.
const HASHED_TRACK: &str = "shakespeare-small";
/// Models that are measured unless others are named, and those of `--quick`.
const MODELS: [&str; 6] = ["gpt-128", "gpt-256", "nanogpt-128", "names", "tabular-10k", "tabular-100k"];
const QUICK_MODELS: [&str; 1] = ["gpt-tiny"];

/// How long to measure.
#[derive(Clone, Copy)]
struct Effort {
    pairs: usize,
    /// Seconds of one measurement of a product or an operation.
    short: f64,
    /// Seconds of one measurement of a training.
    long: f64,
}

pub(crate) fn run(context: &Context, options: &Bench) -> anyhow::Result<()> {
    let pairs = options.pairs.map_or(if options.quick { 1 } else { 9 }, usize::from);
    let effort = if options.quick {
        Effort { pairs, short: 0.001, long: 0.01 }
    } else {
        Effort { pairs, short: 0.03, long: 0.4 }
    };
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        processor: super::doctor::processor(),
        processors: processors(),
        isas: jobs::instruction_sets(),
        quick: options.quick,
        pairs,
        ..Report::default()
    };
    let mut bench = Running { context, options, effort, progress: context.ui.progress("measuring", 0), done: 0 };
    for (part, measure) in PARTS {
        if options.wants(part) {
            measure(&mut bench, &mut report)?;
        }
    }
    bench.progress.end();
    context.ui.object(&serde_json::to_value(&report)?);
    context.ui.result(report.text(options.markdown).trim_end());
    Ok(())
}

type Measure = fn(&mut Running<'_>, &mut Report) -> anyhow::Result<()>;

const PARTS: [(Part, Measure); 7] = [
    (Part::Peak, |bench, report| bench.peak(report)),
    (Part::Products, |bench, report| bench.products(report)),
    (Part::Steps, |bench, report| bench.steps(report)),
    (Part::Hashes, |bench, report| bench.hashes(report)),
    (Part::Ops, |bench, report| bench.ops(report)),
    (Part::Gpu, |bench, report| bench.gpu(report)),
    (Part::Against, |bench, report| bench.against(report)),
];

impl Bench {
    fn wants(&self, part: Part) -> bool {
        match part {
            Part::Against => self.against.is_some(),
            Part::Gpu => self.gpu.is_some(),
            Part::Ops if self.ops => true,
            _ if !self.only.is_empty() => self.only.contains(&part),
            Part::Ops => false,
            // A GPU is measured alone.
            _ => self.gpu.is_none(),
        }
    }

    /// The models by name.
    fn models(&self) -> anyhow::Result<Vec<(String, Model)>> {
        let named: Vec<&str> = match (&self.models[..], self.quick) {
            ([], true) => QUICK_MODELS.to_vec(),
            ([], false) => MODELS.to_vec(),
            (named, _) => named.iter().map(String::as_str).collect(),
        };
        let find = |name: &str| match Model::named(name) {
            Some(model) => Ok((name.to_string(), model)),
            None => {
                let known: Vec<&str> = Model::names().collect();
                Err(Failure::usage(format!("there is no model `{name}`"), format!("there are: {}", known.join(", "))))
            }
        };
        named.into_iter().map(find).collect()
    }

    /// Numbers of threads, as many as there are processors at most unless they are named.
    fn threads(&self) -> Vec<u16> {
        // Against a GPU, or another system on it, there is one comparison.
        if self.gpu.is_some() && self.threads.is_empty() {
            return vec![processors()];
        }
        if self.threads.is_empty() { (1..=processors().min(2)).collect() } else { self.threads.clone() }
    }
}

/// A bench that is under way.
struct Running<'a> {
    context: &'a Context,
    options: &'a Bench,
    effort: Effort,
    progress: Progress,
    done: u64,
}

impl Running<'_> {
    /// Before each piece of work: says what comes, and stops if that is wanted.
    fn next(&mut self, what: &str) -> anyhow::Result<()> {
        self.context.interrupt.check()?;
        self.done += 1;
        self.progress.set(self.done, || what.to_string());
        Ok(())
    }

    fn more(&mut self, pieces: usize) {
        self.progress.total(self.done + pieces as u64);
    }

    fn peak(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let seconds = 10.0 * self.effort.short;
        for (isa, name) in available().into_iter().zip(jobs::instruction_sets()) {
            self.next(&format!("peak of {name}"))?;
            let found: Result<Vec<f64>, _> = (0..self.effort.pairs).map(|_| fma_peak(isa, seconds)).collect();
            report.peak.push(Peak { isa: name, gflops: Spread::of(found?).high / 1e9 });
        }
        Ok(())
    }

    fn products(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let Some(isa) = available().last().copied() else { bail!("no instruction set") };
        let kinds = [("large", Product::large()), ("attention", Product::attention()), ("small", Product::small())];
        self.more(kinds.iter().map(|(_, products)| products.len()).sum());
        for (kind, products) in kinds {
            for product in products {
                let shape = shape(product);
                self.next(&shape)?;
                let found = shares(product, isa, self.effort.pairs, self.effort.short)?;
                let gflops = Spread {
                    median: found.speed.median / 1e9,
                    low: found.speed.low / 1e9,
                    high: found.speed.high / 1e9,
                };
                report.products.push(ProductRow { kind, shape, gflops, share: found.share });
            }
        }
        Ok(())
    }

    fn steps(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let (models, threads) = (self.options.models()?, self.options.threads());
        self.more(models.len());
        for (name, model) in models {
            self.next(&name)?;
            let start = |&threads: &u16| Peer::cairn(self.context, &name, threads);
            let mut peers: Vec<Peer> = threads.iter().map(start).collect::<anyhow::Result<_>>()?;
            let turns = self.turns(&mut peers)?;
            for (i, (peer, &threads)) in peers.iter().zip(&threads).enumerate() {
                let ms = turns.ms(i);
                report.steps.push(StepRow {
                    model: name.clone(),
                    parameters: peer.ready.parameters,
                    examples: model.examples(),
                    threads,
                    ms,
                    examples_per_second: f64::from(model.examples()) / ms.median * 1e3,
                    cpu_ms: turns.cpu_ms(i),
                    speedup: turns.ratio(0, i),
                });
            }
            if let Some(peer) = peers.first() {
                let peak = turns.peak_rss_bytes(0);
                let grown = peak.zip(peer.ready.idle_rss_bytes).map(|(peak, idle)| peak.saturating_sub(idle));
                report.memory.push(MemoryRow {
                    model: name,
                    priced_bytes: peer.ready.priced_bytes,
                    planned_bytes: peer.ready.planned_bytes,
                    grown_bytes: grown,
                    peak_rss_bytes: peak,
                });
            }
        }
        Ok(())
    }

    fn hashes(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let hashes = u64::from(cairn_protocol::limits::SEGMENTS);
        self.more(1);
        self.next("state hashes")?;
        let mut peers = [Peer::cairn(self.context, &format!("{BASELINE}{HASHED_TRACK}"), 1)?];
        let step_ms = self.turns(&mut peers)?.ms(0).median;
        let [peer] = &mut peers;
        let found: anyhow::Result<Vec<f64>> =
            (0..self.effort.pairs).map(|_| peer.hashes(self.context, hashes)).collect();
        let hash_ms = 1e3 * Spread::of(found?).median;
        let (steps, all) = (peer.ready.steps_of_run, hashes as f64 * hash_ms);
        let share = all / (all + steps as f64 * step_ms);
        report.hashes = Some(Hashes { track: HASHED_TRACK.into(), steps, step_ms, hash_ms, share });
        Ok(())
    }

    fn ops(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let all = cases()?;
        self.more(all.len());
        for case in &all {
            self.next(&case.name)?;
            let found = prices(&all, case, self.effort.pairs, self.effort.short)?;
            report.ops.push(OpRow {
                op: found.name,
                metered: found.metered,
                ms: 1e3 * found.seconds.median,
                against_product: found.against_product,
            });
        }
        Ok(())
    }

    fn against(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let Some(Other::Torch) = self.options.against else { return Ok(()) };
        let (models, threads) = (self.options.models()?, self.options.threads());
        self.more(models.len() * threads.len());
        for (name, model) in models {
            for &threads in &threads {
                self.next(&format!("{name} against PyTorch, {threads} threads"))?;
                let device = if self.options.gpu.is_some() { &self.options.device } else { "cpu" };
                let python = (self.options.python.as_str(), device);
                let torch = |compile| Peer::torch(self.context, &model, threads, python, compile);
                let own = match &self.options.gpu {
                    Some(gpu) => Peer::gpu(self.context, &name, gpu::choice(gpu)?)?,
                    None => Peer::cairn(self.context, &name, threads)?,
                };
                let mut peers = vec![own, torch(false)?];
                if !self.options.no_compile {
                    peers.push(torch(true)?);
                }
                let turns = self.turns(&mut peers)?;
                report.against.extend((1..peers.len()).map(|i| turns.against(&name, &model, threads, &peers, i)));
            }
        }
        Ok(())
    }

    /// Measures the peers in turns, there and back, so that a drift of the machine's speed meets all alike.
    fn turns(&mut self, peers: &mut [Peer]) -> anyhow::Result<Turns> {
        let mut turns = Turns { first: vec![], all: vec![] };
        let mut counts = vec![];
        for peer in peers.iter_mut() {
            turns.first.push(peer.steps(self.context, WARM)?);
            let warm = peer.steps(self.context, WARM)?;
            let count = (self.effort.long * WARM as f64 / warm.seconds.max(1e-9)).ceil();
            counts.push((count as u64).clamp(1, 1_000_000));
        }
        if let Some(first) = turns.first.first() {
            for (peer, other) in peers.iter().zip(&turns.first) {
                if (other.loss - first.loss).abs() > LOSS_APART_MAX * first.loss.abs() {
                    bail!("after {WARM} steps the loss is {} here, {} in {}", first.loss, other.loss, peer.name);
                }
            }
        }
        for turn in 0..self.effort.pairs {
            let mut order: Vec<usize> = (0..peers.len()).collect();
            if turn % 2 == 1 {
                order.reverse();
            }
            let mut answers: Vec<Option<Answer>> = vec![None; peers.len()];
            for i in order {
                answers[i] = Some(per_step(peers[i].steps(self.context, counts[i])?, counts[i]));
            }
            turns.all.push(answers.into_iter().flatten().collect());
        }
        Ok(turns)
    }
}

/// Times of one step.
fn per_step(answer: Answer, steps: u64) -> Answer {
    let one = |seconds: f64| seconds / steps as f64;
    Answer { seconds: one(answer.seconds), cpu_seconds: answer.cpu_seconds.map(one), ..answer }
}

/// What peers measured in turns: for each turn one answer of each, for one step.
struct Turns {
    /// The first steps of each.
    first: Vec<Answer>,
    all: Vec<Vec<Answer>>,
}

impl Turns {
    fn of(&self, peer: usize) -> impl Iterator<Item = Answer> {
        self.all.iter().filter_map(move |turn| turn.get(peer).copied())
    }

    fn ms(&self, peer: usize) -> Spread {
        Spread::of(self.of(peer).map(|answer| 1e3 * answer.seconds))
    }

    fn cpu_ms(&self, peer: usize) -> Option<f64> {
        let found: Option<Vec<f64>> = self.of(peer).map(|answer| Some(1e3 * answer.cpu_seconds?)).collect();
        found.map(|found| Spread::of(found).median)
    }

    /// How many times as long peer `a` took as peer `b`.
    fn ratio(&self, a: usize, b: usize) -> Spread {
        Spread::of(self.of(a).zip(self.of(b)).map(|(a, b)| a.seconds / b.seconds))
    }

    /// The same by processor time, which other programs disturb less.
    fn cpu_ratio(&self, a: usize, b: usize) -> Option<Spread> {
        let ratio = |(a, b): (Answer, Answer)| Some(a.cpu_seconds? / b.cpu_seconds?);
        let found: Option<Vec<f64>> = self.of(a).zip(self.of(b)).map(ratio).collect();
        found.map(Spread::of)
    }

    fn peak_rss_bytes(&self, peer: usize) -> Option<u64> {
        self.of(peer).filter_map(|answer| answer.peak_rss_bytes).max()
    }

    /// Peer 0, which is this program, against peer `i`.
    fn against(&self, name: &str, model: &Model, threads: u16, peers: &[Peer], i: usize) -> AgainstRow {
        let per_second = |peer| f64::from(model.examples()) / self.ms(peer).median * 1e3;
        let loss = |peer: usize| self.first.get(peer).map_or(f64::NAN, |answer| answer.loss);
        AgainstRow {
            model: name.to_string(),
            peer: peers[i].name.clone(),
            version: peers[i].ready.ready.clone(),
            threads,
            ratio: self.ratio(i, 0),
            cpu_ratio: self.cpu_ratio(i, 0),
            ms: self.ms(0).median,
            peer_ms: self.ms(i).median,
            examples_per_second: per_second(0),
            peer_examples_per_second: per_second(i),
            cpu_ms: self.cpu_ms(0),
            peer_cpu_ms: self.cpu_ms(i),
            peak_rss_bytes: self.peak_rss_bytes(0),
            peer_peak_rss_bytes: self.peak_rss_bytes(i),
            peer_idle_rss_bytes: peers[i].ready.idle_rss_bytes,
            loss: loss(0),
            peer_loss: loss(i),
        }
    }
}

fn shape(product: &Product) -> String {
    let Product { batch, m, n, k, ta, tb } = *product;
    let swapped = |swapped: bool| if swapped { "ᵀ" } else { "" };
    let of = if batch > 0 { format!("{batch} of ") } else { String::new() };
    format!("{of}[{m},{k}]{} @ [{k},{n}]{}", swapped(ta), swapped(tb))
}
