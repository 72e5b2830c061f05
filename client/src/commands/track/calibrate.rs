//! `cairn track calibrate`: measures the baseline's noise and writes margin and first record, with the evidence.

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Instant;

use anyhow::Context as _;
use cairn_program::job::{BackendChoice, Message, Outcome, RunSummary};
use cairn_protocol::Seed;
use cairn_protocol::limits::ARITHMETIC_VERSION;
use serde_json::{Value, json};

use super::statistics::{margin, mean_sd, median_of_worst};
use crate::cli::Calibrate;
use crate::context::{Context, processors};
use crate::failure::Failure;
use crate::format;
use crate::home::write_whole;
use crate::jobs::{self, Program};
use crate::output::Tone;
use crate::tracks::{Definition, Rules};

/// What was measured.
struct Measured {
    runs: Vec<RunSummary>,
    margin: i64,
    metric: i64,
    test: i64,
    mean: f64,
    sd: f64,
    sd_test: f64,
}

pub(crate) fn run(context: &Context, options: &Calibrate) -> anyhow::Result<()> {
    let track = Definition::folder(&options.dir)?;
    let rules = Rules::of_definition(&track, &context.home)?;
    let file = options.dir.join("train.py").display().to_string();
    let program = Program { file, source: track.program.clone() };
    let traced = jobs::trace(context, &rules, &program, None)?;
    let ui = &context.ui;
    ui.note(format!(
        "{}: {} runs of {} operations",
        track.file.name,
        options.seeds,
        format::operations(traced.metered)
    ));
    let started = Instant::now();
    let runs = measure(context, &rules, &program, options)?;
    let m = track.file.seeds;
    let metrics: Vec<i64> = runs.iter().map(|run| run.metric).collect();
    let tests: Vec<i64> = runs.iter().map(|run| run.test).collect();
    let ((mean, sd), (_, sd_test)) = (mean_sd(&metrics), mean_sd(&tests));
    let measured = Measured {
        margin: margin(sd, m),
        metric: median_of_worst(&metrics, m),
        test: median_of_worst(&tests, m),
        runs,
        mean,
        sd,
        sd_test,
    };
    let evidence = evidence(&track, &traced.graph, &measured);
    write_whole(
        &options.dir.join("calibration.json"),
        format!("{}\n", serde_json::to_string_pretty(&evidence)?).as_bytes(),
    )?;
    write_track(&options.dir.join("track.toml"), &measured)?;
    ui.object(&json!({
        "name": track.file.name,
        "seeds": options.seeds,
        "mean": mean / UNIT,
        "sd": sd / UNIT,
        "margin": format::nats(measured.margin),
        "margin_units": measured.margin,
        "metric": format::nats(measured.metric),
        "metric_units": measured.metric,
        "test_units": measured.test,
        "seconds": format::seconds(started.elapsed()),
    }));
    ui.result(format!("baseline  {:.5} nats, sd {:.5}, over {} seeds", mean / UNIT, sd / UNIT, options.seeds));
    ui.result(format!("record    {} (median of the worst of {m})", format::metric(measured.metric)));
    ui.result(format!("margin    {}", ui.paint(Tone::Bold, format::metric(measured.margin))));
    ui.note(format!("written to {} and calibration.json", options.dir.join("track.toml").display()));
    Ok(())
}

/// Units of a nat.
const UNIT: f64 = (1u32 << 24) as f64;

/// Runs every seed, several jobs at a time, one thread each; in ascending order of seed.
fn measure(
    context: &Context,
    rules: &Rules,
    program: &Program,
    options: &Calibrate,
) -> anyhow::Result<Vec<RunSummary>> {
    let jobs_at_once = usize::from(options.jobs.unwrap_or_else(processors));
    let queue = std::sync::Mutex::new(1..=u64::from(options.seeds));
    let (sender, results) = channel();
    let mut runs: Vec<Option<RunSummary>> = vec![None; options.seeds as usize];
    let mut progress = context.ui.progress("calibrating", options.seeds.into());
    std::thread::scope(|scope| {
        for _ in 0..jobs_at_once {
            let (sender, queue) = (sender.clone(), &queue);
            scope.spawn(move || {
                loop {
                    let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                    let Some(seed) = next else { return };
                    let result = one(context, rules, program, seed);
                    let failed = result.is_err();
                    if sender.send((seed, result)).is_err() || failed {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut done = 0;
        for (seed, result) in &results {
            let run = match result {
                Ok(run) => run,
                Err(error) => {
                    // The others end with their next job; the one under way is not waited for in vain.
                    context.interrupt.stop();
                    return Err(error);
                }
            };
            done += 1;
            progress.set(done, || format!("seed {seed}: {}", format::metric(run.metric)));
            if let Some(place) = usize::try_from(seed).ok().and_then(|seed| runs.get_mut(seed.saturating_sub(1))) {
                *place = Some(run);
            }
        }
        Ok(())
    })?;
    runs.into_iter().collect::<Option<Vec<RunSummary>>>().context("some runs gave no result")
}

fn one(context: &Context, rules: &Rules, program: &Program, seed: u64) -> anyhow::Result<RunSummary> {
    context.interrupt.check()?;
    let task = jobs::task(rules, program, None)?;
    let work = jobs::run_once(Seed::numbered(seed), BackendChoice::cpu(1))?;
    match jobs::perform(context, &program.file, task, work, &mut |_: &Message| true)? {
        Outcome::Done { runs, .. } => runs.into_iter().next().context("the run gave no result"),
        Outcome::Diverged { at: (_, step, tensor), .. } => {
            Err(anyhow::Error::from(Failure::Diverged { step, tensor }).context(format!("seed {seed}")))
        }
        Outcome::Refused(_) => anyhow::bail!("the baseline was refused"),
    }
}

fn evidence(track: &Definition, graph: &cairn_protocol::GraphId, measured: &Measured) -> Value {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    json!({
        "engine": format!("cairn {}, arithmetic {ARITHMETIC_VERSION}", env!("CARGO_PKG_VERSION")),
        "date": date(seconds),
        "graph": graph,
        "budget": track.file.budget,
        "official_seeds": track.file.seeds,
        "formula": "margin = ceil(3.09 * sd * sqrt(2 / official_seeds) * 1.5); metric, test = median over disjoint groups of official_seeds runs of the worst of each group",
        "unit": "2^-24 nats",
        "mean_units": measured.mean,
        "sd_units": measured.sd,
        "sd_test_units": measured.sd_test,
        "mean": measured.mean / UNIT,
        "sd": measured.sd / UNIT,
        "margin": format::nats(measured.margin),
        "margin_units": measured.margin,
        "metric_units": measured.metric,
        "test_units": measured.test,
        "runs": (1u64..).zip(&measured.runs).map(|(seed, run)| json!({
            "seed": seed,
            "metric_units": run.metric,
            "test_units": run.test,
            "trace_root": run.root,
        })).collect::<Vec<Value>>(),
    })
}

/// `YYYY-MM-DD` of seconds since 1970 (Howard Hinnant's algorithm for the civil calendar).
fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Writes the measured numbers into `track.toml` and leaves everything else in it alone.
fn write_track(path: &Path, measured: &Measured) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let edited =
        edit(&text, measured.margin, measured.metric, measured.test).with_context(|| path.display().to_string())?;
    write_whole(path, edited.as_bytes())
}

fn edit(text: &str, margin: i64, metric: i64, test: i64) -> anyhow::Result<String> {
    let mut document: toml_edit::DocumentMut = text.parse()?;
    set(document.as_table_mut(), "margin_units", margin)?;
    let baseline = document.get_mut("baseline").and_then(toml_edit::Item::as_table_mut).context("no [baseline]")?;
    set(baseline, "metric_units", metric)?;
    set(baseline, "test_units", test)?;
    Ok(document.to_string())
}

/// Replaces a number in its place, with the comment that follows it.
fn set(table: &mut toml_edit::Table, key: &str, number: i64) -> anyhow::Result<()> {
    let old = table.get_mut(key).and_then(toml_edit::Item::as_value_mut).with_context(|| format!("no `{key}`"))?;
    let decor = old.decor().clone();
    *old = number.into();
    *old.decor_mut() = decor;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_edit_changes_three_numbers_and_nothing_else() {
        let text = "# mine\nmargin_units = 0 # measured\n\n[baseline] # ours\nmetric_units = 1\ntest_units = 2 # too\n";
        let want = "# mine\nmargin_units = 7 # measured\n\n[baseline] # ours\nmetric_units = 8\ntest_units = 9 # too\n";
        assert_eq!(edit(text, 7, 8, 9).unwrap(), want);
        assert!(edit("margin_units = 0", 1, 2, 3).is_err());
    }

    #[test]
    fn days_have_their_dates() {
        for (seconds, want) in [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (1_767_225_599, "2025-12-31")] {
            assert_eq!(date(seconds), want);
        }
    }
}
