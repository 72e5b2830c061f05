//! The canonical bytes of a program, whose hash names the experiment (`docs/spec/graph.md`), and the pruning that
//! makes programs that compute alike encode alike.
//!
//! *Invariant:* everything that can change a bit of a result is in the bytes; source lines, tags and the names of
//! tables are not. The bytes are only ever written, never read: peers exchange sources.

use cairn_protocol::GraphId;

use super::{Attention, AttentionInput, Binary, Conv2d, DType, Graph, Init, Node, NodeId, Op, Program, Random, RowOp};
use super::{Shape, Unary};

/// Version of this encoding; its first field.
const VERSION: u16 = 1;

/// The identity of an experiment: the hash of its canonical bytes under the context `cairn 1 graph`.
pub fn program_id(program: &Program) -> GraphId {
    GraphId(cairn_protocol::hash("graph", &[&canonical_bytes(program)]))
}

/// The canonical bytes of a program: integers big-endian, lists behind a 4-byte count, enums behind a 1-byte tag.
pub fn canonical_bytes(program: &Program) -> Vec<u8> {
    let mut out = Bytes(Vec::new());
    out.u16(VERSION);
    out.list(&program.params, |out, param| {
        out.text(&param.name);
        out.shape(&param.shape);
        out.init(param.init);
    });
    out.list(&program.states, |out, state| {
        out.text(&state.name);
        out.shape(&state.shape);
    });
    out.list(&program.phases, |out, phase| {
        out.u32(phase.batch);
        out.u32(phase.context);
        out.graph(&phase.graph);
        out.u32(phase.loss);
        out.list(&phase.params_out, |out, &id| out.u32(id));
        out.list(&phase.states_out, |out, &id| out.u32(id));
    });
    out.list(&program.steps, |out, &steps| out.u32(steps));
    out.u32(program.eval_batch);
    out.graph(&program.eval);
    out.u32(program.output);
    out.list(&program.tables, |out, table| out.list(table, |out, value| out.u32(value.to_bits())));
    out.0
}

struct Bytes(Vec<u8>);

impl Bytes {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u16(&mut self, value: u16) {
        self.0.extend(value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_be_bytes());
    }

    /// Every list here is far shorter than 2^32: nodes, axes, steps and a source's names are all limited.
    fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    fn list<T>(&mut self, items: &[T], each: impl Fn(&mut Self, &T)) {
        self.count(items.len());
        for item in items {
            each(self, item);
        }
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend(text.as_bytes());
    }

    fn axes(&mut self, axes: &[u8]) {
        self.count(axes.len());
        self.0.extend(axes);
    }

    fn shape(&mut self, shape: &Shape) {
        self.list(&shape.0, |out, &n| out.u32(n));
    }

    /// A tag and 32 bits of payload.
    fn tagged(&mut self, tag: u8, bits: u32) {
        self.u8(tag);
        self.u32(bits);
    }

    fn init(&mut self, init: Init) {
        match init {
            Init::Constant(bits) => self.tagged(0, bits),
            Init::Normal(bits) => self.tagged(1, bits),
            Init::Uniform(bits) => self.tagged(2, bits),
        }
    }

    fn graph(&mut self, graph: &Graph) {
        self.list(graph.nodes(), Self::node);
    }

    fn node(&mut self, node: &Node) {
        self.op(&node.op);
        self.list(&node.inputs, |out, &id| out.u32(id));
        self.shape(&node.shape);
        self.u8(match node.dtype {
            DType::F32 => 0,
            DType::I32 => 1,
        });
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Input(index) => {
                self.u8(0);
                self.u8(*index);
            }
            Op::Param(index) => self.tagged(1, *index),
            Op::State(index) => self.tagged(2, *index),
            Op::Table(index) => self.tagged(3, *index),
            Op::Full(bits) => self.tagged(4, *bits),
            Op::Arange => self.u8(5),
            Op::FullInt(value) => self.tagged(6, u32::from_be_bytes(value.to_be_bytes())),
            Op::Random(kind, stream) => {
                self.u8(7);
                self.u8(match kind {
                    Random::Uniform => 0,
                    Random::Normal => 1,
                });
                self.text(stream);
            }
            Op::Unary(op) => {
                self.u8(8);
                self.u8(unary(*op));
            }
            Op::Binary(op) => {
                self.u8(9);
                self.u8(binary(*op));
            }
            Op::Where => self.u8(10),
            Op::StopGradient => self.u8(11),
            Op::Sum(axes) => {
                self.u8(12);
                self.axes(axes);
            }
            Op::Max(axes) => {
                self.u8(13);
                self.axes(axes);
            }
            Op::ArgMax => self.u8(14),
            Op::MatMul { ta, tb } => {
                self.u8(15);
                self.u8(u8::from(*ta));
                self.u8(u8::from(*tb));
            }
            Op::Attention(options) => {
                self.u8(16);
                self.attention(*options);
            }
            Op::AttentionGrad(options, of) => {
                self.u8(17);
                self.attention(*options);
                self.u8(match of {
                    AttentionInput::Q => 0,
                    AttentionInput::K => 1,
                    AttentionInput::V => 2,
                });
            }
            Op::Row(op) => {
                self.u8(18);
                self.row(*op);
            }
            Op::Rope { base, inverse } => {
                self.tagged(19, *base);
                self.u8(u8::from(*inverse));
            }
            Op::Embedding => self.u8(20),
            Op::EmbeddingGrad(rows) => self.tagged(21, *rows),
            Op::Take => self.u8(22),
            Op::TakeGrad(n) => self.tagged(23, *n),
            Op::Reshape => self.u8(24),
            Op::Permute(perm) => {
                self.u8(25);
                self.axes(perm);
            }
            Op::BroadcastTo => self.u8(26),
            Op::Slice { axis, start } => {
                self.u8(27);
                self.tagged(*axis, *start);
            }
            Op::Pad { axis, before, after } => {
                self.u8(28);
                self.tagged(*axis, *before);
                self.u32(*after);
            }
            Op::Concat(axis) => {
                self.u8(29);
                self.u8(*axis);
            }
            Op::Conv2d(options) => self.conv2d(30, *options),
            Op::Conv2dInputGrad(options) => self.conv2d(31, *options),
            Op::Conv2dWeightGrad(options) => self.conv2d(32, *options),
            Op::CumSum { axis, reverse } => {
                self.u8(33);
                self.u8(*axis);
                self.u8(u8::from(*reverse));
            }
            Op::Gather(axis) => {
                self.u8(34);
                self.u8(*axis);
            }
            Op::ScatterAdd { axis, len } => {
                self.u8(35);
                self.tagged(*axis, *len);
            }
            Op::TopK(k) => self.tagged(36, *k),
        }
    }

    fn attention(&mut self, options: Attention) {
        self.u8(u8::from(options.causal));
        self.u32(options.window);
        self.u32(options.scale);
        self.u32(options.soft_cap);
    }

    fn conv2d(&mut self, tag: u8, options: Conv2d) {
        self.u8(tag);
        for n in [options.stride, options.padding, options.dilation].concat() {
            self.u32(n);
        }
        self.u32(options.groups);
    }

    fn row(&mut self, op: RowOp) {
        match op {
            RowOp::Softmax => self.u8(0),
            RowOp::SoftmaxGrad => self.u8(1),
            RowOp::LogSoftmax => self.u8(2),
            RowOp::LogSoftmaxGrad => self.u8(3),
            RowOp::RmsNorm(eps) => self.tagged(4, eps),
            RowOp::RmsNormGrad(eps) => self.tagged(5, eps),
            RowOp::LayerNorm(eps) => self.tagged(6, eps),
            RowOp::LayerNormGrad(eps) => self.tagged(7, eps),
            RowOp::CrossEntropy => self.u8(8),
            RowOp::CrossEntropyGrad => self.u8(9),
        }
    }
}

fn unary(op: Unary) -> u8 {
    match op {
        Unary::Neg => 0,
        Unary::Exp => 1,
        Unary::Log => 2,
        Unary::Sqrt => 3,
        Unary::Rsqrt => 4,
        Unary::Recip => 5,
        Unary::Tanh => 6,
        Unary::Sigmoid => 7,
        Unary::Erf => 8,
        Unary::Sin => 9,
        Unary::Cos => 10,
        Unary::Relu => 11,
        Unary::Abs => 12,
        Unary::Sign => 13,
        Unary::Floor => 14,
        Unary::Round => 15,
        Unary::RoundBf16 => 16,
        Unary::ToFloat => 17,
        Unary::ToInt => 18,
    }
}

fn binary(op: Binary) -> u8 {
    match op {
        Binary::Add => 0,
        Binary::Sub => 1,
        Binary::Mul => 2,
        Binary::Div => 3,
        Binary::Max => 4,
        Binary::Min => 5,
        Binary::Lt => 6,
        Binary::Le => 7,
        Binary::Eq => 8,
    }
}

impl Graph {
    /// The nodes that `roots` depend on, in their old order with new ids, and the new ids of the roots.
    ///
    /// An id that is not of this graph stays what it was.
    pub fn pruned(&self, roots: &[NodeId]) -> (Graph, Vec<NodeId>) {
        let mut kept = vec![false; self.nodes.len()];
        for &root in roots {
            if let Some(kept) = kept.get_mut(root as usize) {
                *kept = true;
            }
        }
        for (id, node) in self.nodes.iter().enumerate().rev() {
            if kept[id] {
                for &input in &node.inputs {
                    kept[input as usize] = true;
                }
            }
        }
        let mut pruned = Graph { line: self.line, ..Graph::default() };
        let mut renamed: Vec<NodeId> = Vec::with_capacity(self.nodes.len());
        for (id, node) in self.nodes.iter().enumerate() {
            renamed.push(pruned.nodes.len() as NodeId);
            if kept[id] {
                let inputs = node.inputs.iter().map(|&input| renamed[input as usize]).collect();
                pruned.nodes.push(Node { inputs, ..node.clone() });
                pruned.lines.push(self.lines[id]);
            }
        }
        let roots = roots.iter().map(|&root| renamed.get(root as usize).copied().unwrap_or(root)).collect();
        (pruned, roots)
    }
}
