//! Planned memory against what a process really takes.
#![cfg(target_os = "linux")]

use std::process::Command;

use cairn_engine::backend::{Batch, Executor, Kind, Options};
use cairn_engine::cpu::Cpu;
use cairn_engine::graph::NodeId;
use cairn_engine::random::init;
use cairn_protocol::Seed;

use crate::programs::{Gpt, batch, gpt};

/// Tells the child process what to measure: rows of a micro-batch.
const CHILD: &str = "CAIRN_TEST_MEMORY";

/// Most bytes of this process that were in memory at once.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Bytes that two training steps in place add to the peak of this process, and bytes that were planned.
fn measure(sizes: &Gpt, micro_batch: u32) -> (usize, usize) {
    let program = gpt(sizes);
    let phase = &program.phases[0];
    let wanted: Vec<NodeId> = phase.wanted();
    let mut params: Vec<Vec<f32>> = program.params.iter().map(|param| init(param, &Seed([5; 32]))).collect();
    let mut states: Vec<Vec<f32>> =
        program.states.iter().map(|state| vec![0.5; state.shape.elements() as usize]).collect();
    let [inputs, targets] = batch(sizes.vocab, phase.batch, phase.context);
    let before = peak();
    let options = Options { kind: Kind::Cpu, threads: 1, isa: None, fuse: true, micro_batch: Some(micro_batch) };
    let mut cpu = Cpu::new(&phase.graph, &wanted, &options).unwrap();
    for step in 0..2 {
        let batch = Batch { inputs: [&inputs, &targets], tables: &[0.01, 0.1, 0.05], seed: &Seed([5; 32]), step };
        cpu.step(&batch, &mut params, &mut states).unwrap();
    }
    (peak() - before, cpu.bytes())
}

#[test]
fn planned_memory_is_what_a_step_takes() {
    if let Ok(rows) = std::env::var(CHILD) {
        // The first run also brings the program's own code into memory.
        measure(&Gpt { depth: 2, ..Gpt::TINY }, 1);
        // The kernel counts resident pages per processor and adds them up in batches, so both readings are some hundred
        // kilobytes off: the step is large beside that.
        let sizes = Gpt { vocab: 300, batch: 16, context: 256, width: 256, depth: 4, ..Gpt::TINY };
        let (taken, planned) = measure(&sizes, rows.parse().unwrap());
        println!("taken {taken} planned {planned}");
        return;
    }
    for rows in ["2", "8"] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "cpu_memory::planned_memory_is_what_a_step_takes", "--nocapture"]).env(CHILD, rows);
        let output = String::from_utf8(child.output().unwrap().stdout).unwrap();
        let words: Vec<&str> = output.split_whitespace().collect();
        let after = |word: &str| {
            let at = words.iter().position(|it| *it == word).unwrap_or_else(|| panic!("{output}"));
            words[at + 1].parse::<f64>().unwrap()
        };
        let (taken, planned) = (after("taken"), after("planned"));
        assert!((taken / planned - 1.0).abs() < 0.05, "{rows} rows: planned {planned}, taken {taken}");
    }
}
