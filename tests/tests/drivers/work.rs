//! A stand-in for the engine: jobs whose results follow from the source and the seed, in no time.

use std::io;

use cairn_node::research::Space;
use cairn_program::job::{
    AdapterInfo, Audit, Examined, Message, Refusal, Report, Request, RunSummary, TraceSummary, Work,
};
use cairn_protocol::{BoundedVec, GraphId, Hash32, Seed, Text, hash, inside_step, limits::SEGMENTS};

/// The program that research starts from.
pub(crate) const SOURCE: &str = "\
WIDTH = 16     # 8..48 step 8
HEADS = 4      # one of 1, 2, 3, 4, 8
BATCH = 32     # 8..128 log step 8
LR = 1e-2      # 1e-3..1e-1 log
INIT = 0.08    # 0.01..0.5 log
";
/// What it reaches, at worst.
pub(crate) const BASE: i64 = (2 << 24) + NOISE;
/// The margin.
pub(crate) const MARGIN: i64 = 1 << 17;
const NOISE: i64 = 1 << 13;
const STEPS: u64 = 160;
/// What a run takes: so long that the best program is not found before the test has come to its end.
const TAKES: std::time::Duration = std::time::Duration::from_millis(40);

/// The graph of `source`.
pub(crate) fn graph(source: &str) -> GraphId {
    GraphId(hash("test graph", &[source.as_bytes()]))
}

fn metric(source: &str, seed: &Seed) -> i64 {
    let literals = Space::of(source).literals();
    let number = |name: &str, usual: f64| literals.get(name).and_then(|text| text.parse().ok()).unwrap_or(usual);
    let bowl = |x: f64, start: f64, best: f64, weight: f64| {
        weight * ((x - best) * (x - best) - (start - best) * (start - best))
    };
    let value = bowl(number("LR", 1e-2).log10(), -2.0, -1.5, 0.4)
        + bowl(number("WIDTH", 16.0) / 16.0, 1.0, 2.0, 0.08)
        + bowl(number("BATCH", 32.0).log2(), 5.0, 4.0, 0.05)
        + bowl(number("INIT", 0.08).log10(), -1.1, -0.7, 0.1);
    let noise = i64::from(hash("test noise", &[source.as_bytes(), &seed.0])[0]) * NOISE / 256;
    (2 << 24) + (value * f64::from(1 << 24)) as i64 + noise
}

fn leaf(source: &str, seed: &Seed, segment: u16) -> Hash32 {
    Hash32(hash("test leaf", &[source.as_bytes(), &seed.0, &segment.to_be_bytes()]))
}

/// A device that does well what is tried, and gets wrong what is official.
fn device() -> AdapterInfo {
    AdapterInfo {
        key: Text::truncated("fake 1:2 Fake 3000 | driver 4"),
        name: Text::truncated("Fake 3000"),
        driver: Text::truncated("driver 4"),
        backend: Text::truncated("vulkan"),
        kind: Text::truncated("software"),
        binding_max: 1 << 30,
        workgroup_memory_max: 1 << 14,
        buffers_max: 8,
    }
}

/// What the job does.
pub(crate) fn work(request: &Request, report: &mut Report<'_>) -> io::Result<()> {
    let source = request.task.source.as_str();
    match &request.work {
        Work::Adapters => return report(Message::Adapters(vec![device()].try_into().map_err(io::Error::other)?)),
        Work::Examine { .. } => {
            report(Message::Examining { done: 0, of: 1, what: Text::truncated("everything") })?;
            let (form, compared) = (Text::truncated("plain"), 1 << 20);
            return report(Message::Examined(Box::new(Examined::Passed { form, speed: 1_000_000_000, compared })));
        }
        _ => {}
    }
    // Whoever starts a job has the data at hand.
    if std::fs::read(request.task.data.as_str())? != super::DATA {
        return report(Message::Failed(Text::truncated("other data")));
    }
    if source.contains("HEADS = 3") {
        return report(Message::Refused(Box::new(Refusal {
            kind: Text::truncated("ShapeError"),
            message: Text::truncated("the width is no multiple of 3"),
            hint: Text::default(),
            line: 2,
            column: 1,
            rendered: Text::default(),
        })));
    }
    report(Message::Traced(TraceSummary {
        graph: graph(source),
        nodes: 1,
        metered_step: 1,
        steps: STEPS,
        metered: STEPS,
        peak_bytes: 1,
        fuel: 1,
        literal_bits: 1,
    }))?;
    let (seeds, prover) = match &request.work {
        Work::Trace | Work::Time { .. } | Work::Adapters | Work::Examine { .. } => return Ok(()),
        Work::Run { seeds, .. } => (seeds, None),
        Work::Replay { seeds, prover, commit, .. } => (seeds, Some((*prover, *commit))),
    };
    std::thread::sleep(TAKES);
    let audit = if let Work::Run { audit, .. } = &request.work { *audit } else { None };
    let wrong = matches!(&request.work, Work::Run { backend, .. } if backend.gpu.is_some()) && seeds.len() > 1;
    for (index, seed) in (0u8..).zip(seeds) {
        let mut leaves = BoundedVec::default();
        for segment in 0..SEGMENTS {
            let leaf = leaf(source, seed, segment);
            let step = u64::from(segment + 1) * STEPS / u64::from(SEGMENTS);
            report(Message::Step { seed: index, step, loss_bits: 2f32.to_bits() })?;
            if let Some((prover, commit)) = prover {
                let step = inside_step(prover, commit, index, segment, STEPS / u64::from(SEGMENTS));
                let inside = Hash32(hash("test inside", &[&leaf.0, &step.to_be_bytes()]));
                report(Message::Segment { seed: index, segment, leaf, inside })?;
            }
            if audit == Some(Audit { seed: index, segment }) {
                report(Message::Audited { seed: index, segment, agrees: !wrong })?;
                if wrong {
                    return report(Message::Failed(Text::truncated("other bits on the processor")));
                }
            }
            // Where its audit were missing, verifiers would see what it computed.
            leaves.push(if wrong { Hash32::default() } else { leaf }).map_err(io::Error::other)?;
        }
        let metric = metric(source, seed);
        let result = RunSummary { metric, test: metric, leaves, root: Hash32::default() };
        report(Message::Ran { seed: index, result })?;
    }
    Ok(())
}
