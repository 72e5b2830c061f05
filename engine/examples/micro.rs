//! Training steps of a GPT at several micro-batches, alternated: `cargo run --release -p cairn-engine --example micro
//! VOCAB,BATCH,CONTEXT,WIDTH,DEPTH THREADS ROUNDS ROWS...` (0 rows: the planner's choice). Prints each one's median CPU
//! and wall time, and its memory.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, unreachable_pub, missing_docs)]

#[path = "../tests/suite/cases.rs"]
mod cases;
#[path = "../tests/suite/programs.rs"]
mod programs;

use std::time::Instant;

use cairn_engine::backend::{Batch, Executor, Kind, Options};
use cairn_engine::cpu::Cpu;
use cairn_engine::graph::NodeId;
use cairn_engine::random::init;
use cairn_protocol::Seed;

use programs::{Gpt, batch, gpt};

/// Nanoseconds that this process's threads have run, where the system tells.
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
    let nanoseconds = |text: String| text.split(' ').next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    tasks.map(|task| nanoseconds(of(task.unwrap()))).sum::<f64>() / 1e9
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u32> =
        arguments.iter().flat_map(|text| text.split(',')).map(|text| text.parse().unwrap()).collect();
    let [vocab, batch_rows, context, width, depth, threads, rounds, ref rows @ ..] = numbers[..] else {
        panic!("VOCAB,BATCH,CONTEXT,WIDTH,DEPTH THREADS ROUNDS ROWS...")
    };
    let sizes = Gpt { vocab, batch: batch_rows, context, width, heads: 4, key_heads: 4, depth, window: 0, steps: 16 };
    let program = gpt(&sizes);
    let phase = &program.phases[0];
    let wanted: Vec<NodeId> = phase.wanted();
    let seed = Seed([5; 32]);
    let mut params: Vec<Vec<f32>> = program.params.iter().map(|param| init(param, &seed)).collect();
    let mut states: Vec<Vec<f32>> = program.states.iter().map(|s| vec![0.0; s.shape.elements() as usize]).collect();
    let [inputs, targets] = batch(sizes.vocab, phase.batch, phase.context);
    let tables: Vec<f32> = program.tables.iter().map(|table| table[0]).collect();
    let mut all: Vec<(u32, Cpu, Vec<f64>, Vec<f64>)> = rows
        .iter()
        .map(|&rows| {
            let micro_batch = (rows > 0).then_some(rows);
            let options = Options { kind: Kind::Cpu, threads: threads as usize, isa: None, fuse: true, micro_batch };
            (rows, Cpu::new(&phase.graph, &wanted, &options).unwrap(), vec![], vec![])
        })
        .collect();
    for _ in 0..rounds {
        for (_, cpu, walls, times) in &mut all {
            let batch = Batch { inputs: [&inputs, &targets], tables: &tables, seed: &seed, step: 0 };
            let (start, before) = (Instant::now(), cpu_seconds());
            cpu.step(&batch, &mut params, &mut states).unwrap();
            times.push(cpu_seconds() - before);
            walls.push(start.elapsed().as_secs_f64());
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        (times[times.len() / 2] * 1e3, times[0] * 1e3)
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    for (rows, cpu, walls, times) in &mut all {
        let ((wall, wall_best), (time, time_best)) = (median(walls), median(times));
        let bytes = cpu.bytes() as f64 / 1e6;
        println!(
            "{rows:3} rows: CPU {time:7.1} (best {time_best:7.1}) ms, wall {wall:7.1} (best {wall_best:7.1}) ms, {bytes:6.1} MB"
        );
    }
}
