//! Nodes without operands: what the caller feeds, constants, random numbers.

use crate::backend::{BackendError, Feed, Tensor};
use crate::graph::{DType, Node, Op, Random};
use crate::number::from_foreign;
use crate::random::Stream;

use super::shape::size;

/// A node whose value the caller gives. Batches and tables are made canonical here; parameters and states are the
/// results of nodes or of the initialisation and are canonical already.
pub(super) fn fed(node: &Node, feed: &Feed<'_>) -> Result<Tensor, BackendError> {
    let count = size(&node.shape.0);
    let wrong = |what: String| BackendError::Feed(format!("{what} is not {:?} {}", node.dtype, node.shape));
    let stored = |what: &str, all: &[Vec<f32>], i: u32| match all.get(i as usize) {
        Some(values) if values.len() == count => Ok(Tensor::F32(values.clone())),
        _ => Err(wrong(format!("{what} {i}"))),
    };
    match node.op {
        Op::Param(i) => stored("parameter", feed.params, i),
        Op::State(i) => stored("state", feed.states, i),
        Op::Table(i) => match feed.tables.get(i as usize) {
            Some(&value) => Ok(Tensor::F32(vec![from_foreign(value)])),
            None => Err(wrong(format!("table {i}"))),
        },
        Op::Input(i) => match (feed.inputs.get(usize::from(i)), node.dtype) {
            (Some(Tensor::F32(values)), DType::F32) if values.len() == count => {
                Ok(Tensor::F32(values.iter().map(|&x| from_foreign(x)).collect()))
            }
            (Some(Tensor::I32(values)), DType::I32) if values.len() == count => Ok(Tensor::I32(values.clone())),
            _ => Err(wrong(format!("input {i}"))),
        },
        _ => unreachable!("{:?} is not fed", node.op),
    }
}

pub(super) fn full(bits: u32, count: usize) -> Tensor {
    Tensor::F32(vec![from_foreign(f32::from_bits(bits)); count])
}

/// Numbers of stream "random" of this name; the counter is the run's step and the element's index.
pub(super) fn random(kind: Random, name: &str, feed: &Feed<'_>, count: usize) -> Vec<f32> {
    let stream = Stream::new(feed.seed, "random", name);
    let step = feed.step as u32; // a run has at most 2^20 steps
    let number = |index| match kind {
        Random::Uniform => stream.uniform(step, index),
        Random::Normal => stream.normal(step, index),
    };
    (0..).take(count).map(number).collect()
}
