//! `cargo bench -p cairn-engine [-- PART…]`: products against the processor's peak, training steps alone and against
//! candle, on one thread. `cairn bench` measures more.
//!
//! Parts: `peak`, `products`, `steps`, or the name of a model. The tables are Markdown.

mod candle_step;

use std::error::Error;
use std::process::{Command, ExitCode};

use cairn_engine::bench::{Model, Product, Spread, Trainer, options, shares};
use cairn_engine::cpu::{available, fma_peak};

use crate::candle_step::Training;

/// What candle's thread pool reads, once, when it starts.
const THREADS: &str = "RAYON_NUM_THREADS";
const PAIRS: usize = 9;
/// Seconds of one measurement.
const SECONDS: f64 = 0.3;
const MODELS: [&str; 6] = ["gpt-128", "gpt-256", "nanogpt-128", "names", "tabular-10k", "tabular-100k"];
/// Losses after the same steps from the same start differ by less: rounding alone.
const APART_MAX: f32 = 0.02;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if std::env::var_os(THREADS).is_none() {
        let again = Command::new(std::env::current_exe()?).args(&arguments).env(THREADS, "1").status()?;
        return Ok(if again.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let parts: Vec<&str> = arguments.iter().map(String::as_str).filter(|text| !text.starts_with("--")).collect();
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    if wanted("peak") {
        println!("| peak of one thread | GFLOP/s |\n|---|---:|");
        for isa in available() {
            println!("| {isa:?} | {:.1} |", fma_peak(isa, SECONDS)? / 1e9);
        }
    }
    if wanted("products") {
        products()?;
    }
    let models: Vec<&str> = MODELS.into_iter().filter(|name| wanted("steps") || parts.contains(name)).collect();
    if !models.is_empty() {
        println!("\n| training step, 1 thread | ms | quartiles | examples/s | candle ms | times as fast | quartiles |");
        println!("|---|---:|---:|---:|---:|---:|---:|");
        models.into_iter().try_for_each(step)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn products() -> Result<(), Box<dyn Error>> {
    let isa = available().pop().ok_or("no instruction set")?;
    println!("\n| product: rows, columns, sums | GFLOP/s | share of the peak | quartiles |\n|---|---:|---:|---:|");
    for product in [Product::large(), Product::attention(), Product::small()].concat() {
        let found = shares(&product, isa, PAIRS, 0.1 * SECONDS)?;
        let Product { batch, m, n, k, ta, tb } = product;
        let batch = if batch > 0 { format!("{batch} of ") } else { String::new() };
        let swapped = [(ta, ", left transposed"), (tb, ", right transposed")];
        let swapped: String = swapped.iter().filter(|(swapped, _)| *swapped).map(|(_, text)| *text).collect();
        let Spread { median, low, high } = found.share;
        let speed = found.speed.median / 1e9;
        println!("| {batch}{m}, {n}, {k}{swapped} | {speed:.1} | {median:.2} | {low:.2}–{high:.2} |");
    }
    Ok(())
}

/// One model, in turns with candle.
fn step(name: &str) -> Result<(), Box<dyn Error>> {
    let model = Model::named(name).ok_or("no such model")?;
    let mut ours = Trainer::new(&model, &options(1))?;
    let mut candle = Training::new(&model, &ours)?;
    let (first, (_, other)) = (ours.steps(3)?.loss, candle.steps(3)?);
    if (first - other).abs() > APART_MAX * first.abs() {
        return Err(format!("{name}: after 3 steps the loss is {first}, in candle {other}").into());
    }
    let count = |seconds: f64| (SECONDS / seconds).ceil().clamp(1.0, 1e6) as u64;
    let counts = [count(ours.steps(1)?.seconds), count(candle.steps(1)?.0)];
    let mut measured = Vec::new();
    for _ in 0..PAIRS {
        let a = ours.steps(counts[0])?.seconds / counts[0] as f64;
        measured.push((a, candle.steps(counts[1])?.0 / counts[1] as f64));
    }
    let ms = Spread::of(measured.iter().map(|(ours, _)| 1e3 * ours));
    let candle = Spread::of(measured.iter().map(|(_, candle)| 1e3 * candle)).median;
    let ratio = Spread::of(measured.iter().map(|(ours, candle)| candle / ours));
    let speed = f64::from(model.examples()) / ms.median * 1e3;
    print!("| {name} | {:.3} | {:.3}–{:.3} | {speed:.0} | {candle:.3} ", ms.median, ms.low, ms.high);
    println!("| {:.2}x | {:.2}–{:.2} |", ratio.median, ratio.low, ratio.high);
    Ok(())
}
