//! What an experiment is: tensors without values.
//!
//! A [`Graph`] is a list of [`Node`]s in topological order (inputs have smaller ids). A [`Program`] is what
//! `train.py` evaluates to: parameters, optimiser state, one training-step graph for each phase and one
//! evaluation graph. The step graph holds everything: forward, backward and optimiser.
//!
//! *Invariant:* a graph is only built through the checked constructors of `build`, so every shape and dtype
//! in it is consistent; its canonical bytes name the experiment.

mod build;
mod canonical;
mod op;
mod program;

pub use build::GraphError;
pub use canonical::{canonical_bytes, program_id};
pub use op::{Attention, AttentionInput, Binary, Conv2d, DType, Init, Op, Random, RowOp, Unary};
pub use program::{Param, Phase, Program, StateVar};

/// Index of a node in its graph.
pub type NodeId = u32;

/// Most axes a tensor may have.
pub const RANK_MAX: usize = 8;
/// Most elements a tensor may have.
pub const ELEMENTS_MAX: u64 = 1 << 31;
/// Most nodes of a graph, backward and optimiser included.
pub const NODES_MAX: usize = 20_000;

/// Axis lengths, outermost first; row-major, the last axis is contiguous.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Shape(pub Vec<u32>);

/// One operation, its inputs and what comes out.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Operands, each with a smaller id than this node's.
    pub inputs: Vec<NodeId>,
    /// Shape of the result.
    pub shape: Shape,
    /// Element type of the result.
    pub dtype: DType,
}

/// A static, checked, topologically ordered computation.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    /// Source line (1-based, 0 = none) a node came from; not hashed, for messages only.
    lines: Vec<u32>,
    /// Line that new nodes get.
    line: u32,
}

impl Graph {
    /// All nodes, in topological order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Sets the source line that nodes built from now on are blamed on.
    pub fn set_line(&mut self, line: u32) {
        self.line = line;
    }

    /// The source line that new nodes are blamed on.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The source line of a node, 0 when it came from no line.
    pub fn line_of(&self, id: NodeId) -> u32 {
        self.lines.get(id as usize).copied().unwrap_or(0)
    }
}
