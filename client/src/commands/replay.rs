//! `cairn replay`: recomputes every run of an entry and compares every bit with what was claimed.
//!
//! *Invariant:* nothing of the claim is believed: seeds follow from the tickets, whose signatures are checked, and every
//! step is computed from the seed.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use cairn_program::job::{BackendChoice, JobError, Message, Outcome, RunSummary, Work};
use cairn_protocol::{Commit, Hash32, Record, Run, Seed, Signed, Track, VerifierKey, gate};
use serde_json::{Value, json};

use crate::cli::{BackendName, Replay};
use crate::context::{Context, processors};
use crate::failure::{Code, Failure};
use crate::format;
use crate::ids::Ids;
use crate::jobs::{self, Program};
use crate::output::Tone;
use crate::tracks::Rules;

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Verdict {
    /// What contradicts the claim, if anything does.
    refuted: Option<String>,
    /// Segments whose leaves were compared.
    segments: u64,
    /// Worst metric that was computed.
    metric: Option<i64>,
}

/// What one seed's job has to say.
enum News {
    Segment { seed: usize, segment: u16, leaf: Hash32 },
    Step { seed: usize, step: u64 },
    Leaked { seed: usize, window: u64, cut: u32 },
    Total(u64),
    Over { seed: usize, result: Result<Outcome, JobError> },
}

pub(crate) fn run(context: &Context, options: &Replay) -> anyhow::Result<std::process::ExitCode> {
    if options.backend.backend == BackendName::Candle {
        return Err(Failure::usage("a replay compares bits, and candle's are not exact", "use --backend cpu"));
    }
    let (backend, exact) = jobs::backend(context, &options.backend)?;
    if !exact {
        return Err(Failure::advice("a replay compares bits, and this GPU's are not exact", "use --backend cpu"));
    }
    let store = context.home.reader()?;
    let ids = Ids::read(&store)?;
    let target = ids.find(&options.id)?;
    let Some(id) = target.commit else { anyhow::bail!("{} is no commit", options.id) };
    let Some(commit) = store.commit(id)? else {
        return Err(Failure::advice(
            format!("the body of commit {} is not in {}", ids.shorten(&id.to_string()), context.home.root().display()),
            "run `cairn node --observe --peer ADDRESS` for a moment: it fetches bodies from its peers",
        ));
    };
    let rules = Rules::of_record(&target.track, &context.home, &store)?;
    let chain = store.chain(target.track.id())?;
    let started = Instant::now();
    let ui = &context.ui;
    ui.note(format!(
        "replaying {} of {}: {} seeds of {} segments",
        ids.shorten(&id.to_string()),
        target.track.name,
        commit.body.runs.len(),
        target.track.segments
    ));
    let verdict = match gate::commit(&commit, &chain) {
        Err(error) => {
            Verdict { refuted: Some(format!("the commit itself is not valid: {error}")), ..Verdict::default() }
        }
        Ok(()) => recompute(context, &target.track, &commit, &rules, &backend, options.backend.threads)?,
    };
    let claim = commit.body.claim().metric;
    let confirmed = verdict.refuted.is_none();
    ui.object(&json!({
        "verdict": if confirmed { "confirmed" } else { "refuted" },
        "metric_units": verdict.metric.unwrap_or(claim),
        "metric": format::nats(verdict.metric.unwrap_or(claim)),
        "claimed_units": claim,
        "segments_checked": verdict.segments,
        "seconds": format::seconds(started.elapsed()),
        "commit": id,
        "entry": target.entry,
        "track": target.track.id(),
        "why": verdict.refuted.as_deref().map_or(Value::Null, Value::from),
    }));
    let took = format::duration(started.elapsed());
    match verdict.refuted {
        None => {
            ui.result(format!(
                "{}: every bit of {} segments agrees; metric {} nats; {took}",
                ui.paint(Tone::Good, "confirmed"),
                verdict.segments,
                format::metric(claim)
            ));
            Ok(std::process::ExitCode::SUCCESS)
        }
        Some(why) => {
            ui.result(format!(
                "{}: {why}; {} segments checked; {took}",
                ui.paint(Tone::Bad, "refuted"),
                verdict.segments
            ));
            Ok(Code::Refuted.into())
        }
    }
}

/// Runs every seed in a job of its own, several at a time where threads are left over.
fn recompute(
    context: &Context,
    track: &Track,
    commit: &Signed<Commit>,
    rules: &Rules,
    backend: &BackendChoice,
    threads: Option<u16>,
) -> anyhow::Result<Verdict> {
    let seeds = commit.body.seeds();
    let threads = threads.unwrap_or_else(processors).max(1);
    // A GPU does one run after the other fastest.
    let at_once = if backend.gpu.is_some() { 1 } else { seeds.len().clamp(1, usize::from(threads)) };
    let backend = BackendChoice {
        threads: if backend.name.as_str() == "reference" { 1 } else { (usize::from(threads) / at_once).max(1) as u16 },
        ..backend.clone()
    };
    let (sender, news) = channel();
    let queue = std::sync::Mutex::new(seeds.iter().copied().enumerate());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            let (sender, queue, backend) = (sender.clone(), &queue, &backend);
            scope.spawn(move || {
                loop {
                    let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                    let Some((place, seed)) = next else { return };
                    let result = one(context, commit, rules, place, seed, backend, &sender);
                    let failed = result.is_err();
                    if sender.send(News::Over { seed: place, result }).is_err() || failed {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let verdict = compare(context, track, commit, &news);
        // The other jobs are not needed any more; nothing is left to interrupt when all went well.
        drop(news);
        verdict
    })
}

/// Replays one seed.
fn one(
    context: &Context,
    commit: &Signed<Commit>,
    rules: &Rules,
    place: usize,
    seed: Seed,
    backend: &BackendChoice,
    sender: &Sender<News>,
) -> Result<Outcome, JobError> {
    let failed = |error: anyhow::Error| JobError::Failed(error.to_string());
    let file = format!("commit {}", commit.id().short());
    let program = Program { file, source: commit.body.draft.source.to_string() };
    let task = jobs::task(rules, &program, None).map_err(failed)?;
    let mut audit = Hash32::default();
    getrandom::fill(&mut audit.0).map_err(|e| JobError::Failed(format!("no randomness: {e}")))?;
    let claimed = commit.body.runs.get(place).map(|run| run.leaves.clone()).unwrap_or_default();
    let work = Work::Replay {
        seeds: vec![seed].try_into().map_err(|e| JobError::Failed(format!("{e}")))?,
        claimed: vec![claimed].try_into().map_err(|e| JobError::Failed(format!("{e}")))?,
        // Nothing is signed here, so nobody's proof steps are needed.
        prover: VerifierKey::default(),
        commit: commit.id(),
        audit,
        backend: backend.clone(),
    };
    jobs::raw(context, task, work, &mut |message| {
        let news = match message {
            Message::Traced(traced) => News::Total(traced.steps),
            Message::Segment { segment, leaf, .. } => News::Segment { seed: place, segment: *segment, leaf: *leaf },
            Message::Step { step, .. } => News::Step { seed: place, step: *step },
            Message::Leaked { window, cut, .. } => News::Leaked { seed: place, window: *window, cut: *cut },
            _ => return true,
        };
        // Nobody listens any more once the claim is refuted.
        sender.send(news).is_ok()
    })
}

/// Compares what the jobs say with the claim, until all is said or something contradicts it.
fn compare(
    context: &Context,
    track: &Track,
    commit: &Signed<Commit>,
    news: &Receiver<News>,
) -> anyhow::Result<Verdict> {
    let runs = &commit.body.runs;
    let mut verdict = Verdict::default();
    let mut progress = context.ui.progress("replaying", 0);
    let mut done = vec![0u64; runs.len()];
    let mut left = runs.len();
    while left > 0 {
        let Ok(next) = news.recv() else {
            context.interrupt.check()?;
            anyhow::bail!("a job ended without a word");
        };
        match next {
            News::Total(steps) => progress.total(steps.saturating_mul(runs.len() as u64)),
            News::Step { seed, step } => {
                if let Some(of) = done.get_mut(seed) {
                    *of = step;
                }
                progress.set(done.iter().sum(), || format!("steps, {} segments agree", verdict.segments));
            }
            News::Segment { seed, segment, leaf } => {
                verdict.segments += 1;
                let claimed = runs.get(seed).and_then(|run| run.leaves.get(usize::from(segment)));
                if claimed != Some(&leaf) {
                    verdict.refuted =
                        Some(format!("seed {seed}, segment {segment}: the state is another one than claimed"));
                    return Ok(verdict);
                }
                progress.set(done.iter().sum(), || format!("steps, {} segments agree", verdict.segments));
            }
            News::Leaked { seed, window, cut } => {
                verdict.refuted = Some(format!(
                    "seed {seed}: the model's outputs up to position {cut} of validation window {window} depend on what \
                     follows or on other rows"
                ));
                return Ok(verdict);
            }
            News::Over { seed, result } => {
                left -= 1;
                if let Some(why) = judge(context, track, commit, seed, result, &mut verdict)? {
                    verdict.refuted = Some(why);
                    return Ok(verdict);
                }
            }
        }
    }
    Ok(verdict)
}

/// Judges the end of one seed's job; why the claim does not hold, if it does not.
fn judge(
    context: &Context,
    track: &Track,
    commit: &Signed<Commit>,
    seed: usize,
    result: Result<Outcome, JobError>,
    verdict: &mut Verdict,
) -> anyhow::Result<Option<String>> {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            context.interrupt.check()?;
            return Err(error.into());
        }
    };
    Ok(match outcome {
        Outcome::Refused(refusal) => Some(format!("the program is refused: {}", refusal.message)),
        Outcome::Diverged { at: (_, step, _), .. } => Some(format!("seed {seed}: the run diverges at step {step}")),
        Outcome::Done { traced, .. } if traced.graph != commit.body.draft.graph => {
            Some(format!("the program's graph is {}, not {}", traced.graph.short(), commit.body.draft.graph.short()))
        }
        Outcome::Done { runs, .. } => match (runs.first(), commit.body.runs.get(seed)) {
            (Some(found), Some(claimed)) => {
                verdict.metric = Some(verdict.metric.map_or(found.metric, |worst| worst.max(found.metric)));
                contradiction(track, seed, found, claimed)
            }
            _ => anyhow::bail!("the job gave no result"),
        },
    })
}

fn contradiction(track: &Track, seed: usize, found: &RunSummary, claimed: &Run) -> Option<String> {
    let differs = found.leaves.iter().zip(claimed.leaves.iter()).position(|(found, claimed)| found != claimed);
    if let Some(segment) = differs {
        return Some(format!("seed {seed}, segment {segment}: the state is another one than claimed"));
    }
    if found.leaves.len() != claimed.leaves.len() || claimed.leaves.len() != usize::from(track.segments) {
        return Some(format!("seed {seed}: {} segments are claimed", claimed.leaves.len()));
    }
    let unlike = |what: &str, found: i64, claimed: i64| {
        (found != claimed)
            .then(|| format!("seed {seed}: {what} is {}, not {}", format::metric(found), format::metric(claimed)))
    };
    unlike("the metric", found.metric, claimed.metric).or_else(|| unlike("the test metric", found.test, claimed.test))
}
