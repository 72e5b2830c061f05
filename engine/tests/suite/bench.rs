//! The list of operations that are measured against their price is whole.

use std::collections::BTreeSet;

use cairn_engine::bench;
use cairn_engine::graph::{Graph, NodeId, Op};
use cairn_engine::price;

use crate::cases::{CASES, name};

/// Operations of a graph that a step executes and that cost something.
fn executed(graph: &Graph) -> BTreeSet<String> {
    let nodes = graph.nodes().iter().enumerate();
    nodes
        .filter(|(id, node)| {
            // Computed once, before the first step.
            let constant = matches!(node.op, Op::Full(_) | Op::FullInt(_) | Op::Arange);
            !constant && price::node(graph, *id as NodeId) > 0
        })
        .map(|(_, node)| name(&node.op))
        .collect()
}

#[test]
fn every_operation_with_a_price_is_measured() {
    let measured: BTreeSet<String> = bench::cases().unwrap().iter().flat_map(|case| executed(&case.graph)).collect();
    let with_gradients = |case: &crate::cases::Case| {
        let mut built = case.build();
        built.differentiate();
        executed(&built.graph)
    };
    let all: BTreeSet<String> = CASES.iter().flat_map(with_gradients).collect();
    let missing: Vec<&String> = all.difference(&measured).collect();
    assert!(missing.is_empty(), "these have no case in the benchmark of prices: {missing:?}");
}
