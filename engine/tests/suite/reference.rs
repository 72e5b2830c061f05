//! The reference backend against the graph in f64.

use cairn_engine::backend::{Executor, Feed, Tensor};
use cairn_engine::graph::{DType, Graph, NodeId, Op};
use cairn_engine::number::is_canonical;
use cairn_engine::oracle::{Point, evaluate_given};
use cairn_engine::reference::Reference;
use cairn_protocol::Seed;

use crate::cases::CASES;

/// Every float node's value.
pub(crate) fn all_values(graph: &Graph, feed: &Feed<'_>) -> Vec<Option<Vec<f32>>> {
    let floats: Vec<NodeId> = (0..graph.len() as NodeId).filter(|&id| graph.dtype(id) == Ok(DType::F32)).collect();
    let mut out = vec![vec![]; floats.len()];
    Reference::new(graph, &floats).run(feed, &mut out).unwrap();
    let mut values = vec![None; graph.len()];
    for (id, value) in floats.into_iter().zip(out) {
        values[id as usize] = Some(value);
    }
    values
}

/// How far a node may be from its value in f64, relative to 1 or to a larger value: 2^-10 √k where it contracts k rounded
/// products, 1e-5 elsewhere.
fn tolerance(graph: &Graph, id: usize) -> f64 {
    let node = &graph.nodes()[id];
    let lengths = || node.inputs.iter().flat_map(|&input| graph.nodes()[input as usize].shape.0.iter().copied());
    match node.op {
        Op::MatMul { .. } | Op::Attention(_) | Op::AttentionGrad(..) => {
            2f64.powi(-10) * f64::from(lengths().max().unwrap_or(1)).sqrt()
        }
        _ => 1e-5,
    }
}

#[test]
fn every_operation_is_close_to_its_value_in_f64() {
    for case in CASES {
        let mut built = case.build();
        built.differentiate();
        let none = Tensor::I32(vec![]);
        let seed = Seed([3; 32]);
        let states = [built.weights.clone()];
        let feed = Feed {
            inputs: [&built.ids, &none],
            params: &built.values,
            states: &states,
            tables: &[],
            seed: &seed,
            step: 0,
        };
        let values = all_values(&built.graph, &feed);
        let wanted = evaluate_given(&built.graph, &Point::from(&feed), &values);
        for (id, (value, wanted)) in values.iter().zip(&wanted).enumerate() {
            let Some(value) = value else { continue };
            let (node, tolerance) = (&built.graph.nodes()[id], tolerance(&built.graph, id));
            assert_eq!(value.len(), wanted.len(), "{}: {:?}", case.name, node.op);
            for (&got, &want) in value.iter().zip(wanted) {
                assert!(is_canonical(got), "{}: {:?} gives {got:e}", case.name, node.op);
                let error = (f64::from(got) - want).abs() / want.abs().max(1.0);
                assert!(error <= tolerance, "{}: {:?} gives {got:e}, not {want:e}", case.name, node.op);
            }
        }
    }
}
