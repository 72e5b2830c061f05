//! Speed of matrix products: `cargo run --release -p cairn-engine --example matmul [threads]`.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use cairn_engine::backend::{Executor, Feed, Options, Tensor};
use cairn_engine::backend::{Isa, Kind};
use cairn_engine::cpu::{Cpu, available};
use cairn_engine::graph::{Graph, Shape};

fn main() {
    let threads = std::env::args().nth(1).map_or(1, |text| text.parse().unwrap());
    println!("{:>22} GFLOP/s with {threads} threads", "m n k ta tb");
    for (m, n, k, ta, tb) in [
        (4096, 128, 128, false, false),
        (4096, 384, 128, false, false),
        (4096, 512, 128, false, false),
        (4096, 128, 512, false, false),
        (4096, 256, 256, false, false),
        (4096, 1024, 256, false, false),
        (4096, 512, 128, false, true),
        (128, 512, 4096, true, false),
        (512, 128, 4096, true, false),
        (256, 1024, 4096, true, false),
        (1024, 1024, 1024, false, false),
        (512, 16, 16, false, false),
        (512, 64, 16, false, false),
        (16, 64, 512, true, false),
    ] {
        let speeds: Vec<String> = available()
            .into_iter()
            .map(|isa| format!("{isa:?} {:6.1}", speed(m, n, k, ta, tb, isa, threads)))
            .collect();
        println!("{:>22} {}", format!("{m} {n} {k} {} {}", ta as u8, tb as u8), speeds.join("  "));
    }
}

fn speed(m: u32, n: u32, k: u32, ta: bool, tb: bool, isa: Isa, threads: usize) -> f64 {
    let mut g = Graph::default();
    let shape = |rows, columns, t: bool| Shape(if t { vec![columns, rows] } else { vec![rows, columns] });
    let (mut a, mut b) = (g.param(0, shape(m, k, ta)).unwrap(), g.param(1, shape(k, n, tb)).unwrap());
    if ta {
        a = g.permute(a, &[1, 0]).unwrap();
    }
    if tb {
        b = g.permute(b, &[1, 0]).unwrap();
    }
    let c = g.matmul(a, b).unwrap();
    let options = Options { kind: Kind::Cpu, threads, isa: Some(isa), fuse: true, micro_batch: None };
    let mut cpu = Cpu::new(&g, &[c], &options).unwrap();
    let values = |len: u32| (0..len).map(|i| (i % 97) as f32 * 0.01 - 0.5).collect::<Vec<f32>>();
    let params = [values(m * k), values(k * n)];
    let (seed, nothing) = (Default::default(), Tensor::F32(vec![]));
    let feed = Feed { inputs: [&nothing, &nothing], params: &params, states: &[], tables: &[], seed: &seed, step: 0 };
    let mut out = vec![vec![0.0; (m * n) as usize]];
    let operations = 2.0 * f64::from(m) * f64::from(n) * f64::from(k);
    let times = (1e9 / operations).ceil().min(2000.0) as usize;
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        (0..times).for_each(|_| cpu.run(&feed, &mut out).unwrap());
        best = best.min(start.elapsed().as_secs_f64() / times as f64);
    }
    operations / best / 1e9
}
