//! The GPU backend against the reference, on every adapter of this machine: bit for bit.
//!
//! `cargo xtask test` installs a software Vulkan device. Where there is none the tests fail: a backend that nobody ran is
//! not exact.

mod attention;
mod elements;
mod gate;
mod products;
mod rows;
mod slices;
mod suite;
mod training;
mod translate;

use std::cell::Cell;
use std::sync::OnceLock;

use cairn_engine::backend::{Kind, Options};
use cairn_engine::gpu::{Choice, Form, Gpu, adapters};
use cairn_engine::graph::{Graph, NodeId};
use cairn_engine::reference::Reference;

use crate::cpu_exact::{Point, difference};

/// Names adapters that the tests use, by a part of their names; all without it.
const ADAPTER: &str = "CAIRN_TEST_GPU";

/// The adapters under test.
pub(crate) fn choices() -> &'static [Choice] {
    static CHOICES: OnceLock<Vec<Choice>> = OnceLock::new();
    CHOICES.get_or_init(|| {
        let wanted = std::env::var(ADAPTER).unwrap_or_default();
        let indices = (0u8..).zip(adapters()).filter(|(_, adapter)| adapter.name.contains(&wanted));
        let all: Vec<Choice> = indices.map(|(adapter, _)| Choice { adapter, form: Form::Barrier }).collect();
        assert!(!all.is_empty(), "no Vulkan device: `cargo xtask test` installs one (mesa-vulkan-drivers, libvulkan1)");
        all
    })
}

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread's comparisons are with the GPU backend.
pub(crate) fn is_on() -> bool {
    ON.get()
}

/// Runs a test of the exactness suite on the GPU backend.
pub(crate) fn on(test: fn()) {
    ON.set(true);
    test();
    ON.set(false);
}

/// Options of the GPU backend.
pub(crate) fn options(choice: Choice) -> Options {
    Options { kind: Kind::Gpu(choice), threads: 1, isa: None, fuse: true, micro_batch: None }
}

/// Asserts that every adapter gives the reference's bits, in a first run and in a second one.
pub(crate) fn agree(name: &str, graph: &Graph, wanted: &[NodeId], point: &Point) {
    for &choice in choices() {
        agree_with(name, graph, wanted, point, &options(choice), choice);
    }
}

/// As [`agree`], under these options.
pub(crate) fn agree_with(
    name: &str,
    graph: &Graph,
    wanted: &[NodeId],
    point: &Point,
    options: &Options,
    choice: Choice,
) {
    let want = point.run(&mut Reference::new(graph, wanted), wanted.len()).unwrap();
    let mut gpu = Gpu::new(graph, wanted, options, choice).unwrap_or_else(|error| panic!("{name}: {error}"));
    let adapter = &adapters()[usize::from(choice.adapter)].name;
    for run in ["first", "second"] {
        let got = point.run(&mut gpu, wanted.len()).unwrap_or_else(|error| panic!("{name}: {error}"));
        for ((got, want), &id) in got.iter().zip(&want).zip(wanted) {
            if let Some(difference) = difference(got, want) {
                let node = &graph.nodes()[id as usize];
                panic!(
                    "{name}, {adapter}, {choice:?}, {run} run, node {id} {:?} {}: {difference}",
                    node.op, node.shape
                );
            }
        }
    }
}

mod feeds {
    //! What comes in and goes out without any kernel.

    use cairn_engine::backend::Tensor;
    use cairn_engine::graph::{DType, Graph, Shape};

    use super::agree;
    use crate::cpu_exact::Point;

    #[test]
    fn leaves_and_views_come_back_as_they_are() {
        let mut g = Graph::default();
        let a = g.param(0, Shape(vec![3, 5])).unwrap();
        let x = g.input(0, Shape(vec![7]), DType::F32).unwrap();
        let table = g.table(1).unwrap();
        let full = g.full(2.5f32.to_bits(), Shape(vec![9])).unwrap();
        let row = g.slice(a, 0, 1, 1).unwrap();
        let flat = g.reshape(row, Shape(vec![5])).unwrap();
        let mut point = Point::new(vec![(0..15).map(|i| i as f32 - 7.0).collect()]);
        point.inputs[0] = Tensor::F32(vec![f32::NAN, -0.0, 1e-40, 1e30, -1e30, 3.0, 2.0f32.powi(-101)]);
        point.tables = vec![0.5, 0.25];
        agree("leaves", &g, &[a, x, table, full, row, flat], &point);
    }
}
