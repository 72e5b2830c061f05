//! The reference backend: feeds, order of sums, closedness. Its bits are in `vectors`, its closeness to f64 in `closeness`.

use cairn_engine::backend::{BackendError, Executor, Feed, Tensor};
use cairn_engine::graph::{DType, Graph, NodeId, Shape};
use cairn_engine::number::is_canonical;
use cairn_engine::reference::Reference;
use cairn_engine::reference::contract::contract;
use cairn_engine::reference::reduce::{column_sum, row_sum};

use crate::cases::{CASES, SEED, STEP};
use crate::vectors::Source;

fn nothing() -> Tensor {
    Tensor::I32(vec![])
}

#[test]
fn extreme_operands_stay_in_the_number_system() {
    for case in CASES {
        let mut built = case.build();
        built.differentiate();
        let mut source = Source::new(case.name);
        let mut wild = |x: &f32| if source.bits().is_multiple_of(4) { *x } else { source.wide() };
        let params: Vec<Vec<f32>> = built.values.iter().map(|values| values.iter().map(&mut wild).collect()).collect();
        let states = [built.weights.iter().map(&mut wild).collect()];
        let graph = &built.graph;
        let floats: Vec<NodeId> = (0..graph.len() as NodeId).filter(|&id| graph.dtype(id) == Ok(DType::F32)).collect();
        let inputs = [&built.ids, &nothing()];
        let feed = Feed { inputs, params: &params, states: &states, tables: &[], seed: &SEED, step: STEP };
        let mut out = vec![vec![]; floats.len()];
        Reference::new(graph, &floats).run(&feed, &mut out).unwrap();
        for (&id, values) in floats.iter().zip(&out) {
            let node = &graph.nodes()[id as usize];
            assert_eq!(values.len() as u64, node.shape.elements());
            assert!(values.iter().all(|&x| is_canonical(x)), "{}: {:?}", case.name, node.op);
        }
    }
}

/// A graph that reads one of everything: float and integer input, parameter, state, table.
fn reader() -> (Graph, Vec<NodeId>) {
    let mut g = Graph::default();
    let pair = || Shape(vec![2]);
    let x = g.input(0, pair(), DType::F32).unwrap();
    let ids = g.input(1, pair(), DType::I32).unwrap();
    let param = g.param(0, pair()).unwrap();
    let state = g.state(0, pair()).unwrap();
    let table = g.table(0).unwrap();
    let taken = g.embedding_grad(ids, x, 2);
    assert!(taken.is_err(), "a gradient has a channel axis");
    (g, vec![x, param, state, table])
}

fn run(
    inputs: [&Tensor; 2],
    params: &[Vec<f32>],
    states: &[Vec<f32>],
    tables: &[f32],
) -> Result<Vec<Vec<f32>>, BackendError> {
    let (graph, mut wanted) = reader();
    wanted.reverse();
    let mut out = vec![vec![]; wanted.len()];
    let feed = Feed { inputs, params, states, tables, seed: &SEED, step: STEP };
    Reference::new(&graph, &wanted).run(&feed, &mut out)?;
    Ok(out)
}

#[test]
fn what_comes_from_outside_is_made_canonical_and_results_have_the_wanted_order() {
    let x = Tensor::F32(vec![f32::NAN, f32::NEG_INFINITY]);
    let ids = Tensor::I32(vec![0, 1]);
    let out = run([&x, &ids], &[vec![1.0, 2.0]], &[vec![3.0, 4.0]], &[-0.0]).unwrap();
    assert_eq!(out, [vec![0.0], vec![3.0, 4.0], vec![1.0, 2.0], vec![0.0, -2f32.powi(60)]]);
    assert_eq!(out[0][0].to_bits(), 0);
}

#[test]
fn a_feed_that_does_not_fit_is_refused() {
    let x = Tensor::F32(vec![1.0, 2.0]);
    let (ids, long) = (Tensor::I32(vec![0, 1]), Tensor::F32(vec![1.0; 3]));
    let (two, three): ([Vec<f32>; 1], [Vec<f32>; 1]) = ([vec![0.0; 2]], [vec![0.0; 3]]);
    assert!(run([&x, &ids], &two, &two, &[0.0]).is_ok());
    for (name, result) in [
        ("input of integers", run([&ids, &ids], &two, &two, &[0.0])),
        ("input of floats", run([&x, &x], &two, &two, &[0.0])),
        ("long input", run([&long, &ids], &two, &two, &[0.0])),
        ("long parameter", run([&x, &ids], &three, &two, &[0.0])),
        ("no parameter", run([&x, &ids], &[], &two, &[0.0])),
        ("long state", run([&x, &ids], &two, &three, &[0.0])),
        ("no state", run([&x, &ids], &two, &[], &[0.0])),
        ("no table", run([&x, &ids], &two, &two, &[])),
    ] {
        assert!(matches!(result, Err(BackendError::Feed(_))), "{name}: {result:?}");
    }
    let mut g = Graph::default();
    let ints = g.arange(3).unwrap();
    let feed = Feed { inputs: [&x, &ids], params: &[], states: &[], tables: &[], seed: &SEED, step: 0 };
    for wanted in [&[ints][..], &[9], &[]] {
        let result = Reference::new(&g, wanted).run(&feed, &mut [vec![]]);
        assert!(matches!(result, Err(BackendError::Feed(_))), "{wanted:?}: {result:?}");
    }
}

/// Zeros but for these elements.
fn sparse(n: usize, elements: &[(usize, f32)]) -> Vec<f32> {
    let mut values = vec![0.0; n];
    for &(i, x) in elements {
        values[i] = x;
    }
    values
}

#[test]
fn sums_are_added_in_the_order_of_their_rule() {
    let big = 2f32.powi(30); // big + 1 is big
    type Case = (&'static [(usize, i32)], f32, f32, f32);
    // Elements (±30 stands for ±2^30), their row sum, their column sum, their contraction with ones.
    let cases: &[Case] = &[
        (&[(0, 30), (1, 1), (16, -30)], 1.0, 0.0, 0.0), // one lane cancels; one chunk in order does not keep the 1
        (&[(0, 30), (1, -30), (2, 1)], 0.0, 1.0, 1.0),  // lane 0 takes lane 2 before lane 1
        (&[(0, 30), (8, 1), (1, -30)], 0.0, 1.0, 1.0),  // lane 0 takes lane 8 first
        (&[(0, 30), (255, -30), (256, 1)], 0.0, 1.0, 1.0), // lane 0: 256 loses 1, then lane 15 cancels
        (&[(0, 30), (256, 1), (257, -30)], 0.0, 0.0, 0.0), // second chunk loses the 1
        (&[(0, 30), (4096, 1), (4097, -30)], 0.0, 0.0, 0.0), // second block: lanes 0 and 1
        (&[(0, 30), (4095, -30), (4096, 1)], 1.0, 1.0, 1.0), // first block cancels
    ];
    for (elements, row, column, contraction) in cases {
        let value = |&(i, x): &(usize, i32)| (i, if x.abs() == 30 { big * x.signum() as f32 } else { x as f32 });
        let values = sparse(4100, &elements.iter().map(value).collect::<Vec<_>>());
        assert_eq!(row_sum(&values), *row, "row rule: {elements:?}");
        assert_eq!(column_sum(&values), *column, "column rule: {elements:?}");
        assert_eq!(contract(&values, &vec![1.0; values.len()]), *contraction, "contraction: {elements:?}");
    }
}
