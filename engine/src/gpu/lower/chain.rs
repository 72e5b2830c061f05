//! Chains of elementwise nodes as one kernel, written for the chain: each node is a line of its text.
//!
//! An invocation computes an element from operands that it reads once, and writes what somebody outside of the chain
//! needs. Numbers are arguments and names are counted from the kernel's start, so that chains that do the same (the
//! update of each parameter, say) have the same text. A chain that needs more buffers or arguments than a kernel may have
//! becomes several kernels; values on their way from one to another stand in scratch tensors.
//!
//! *Invariant:* `canon` belongs to a node, so where a chain begins and ends changes no bit.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::graph::{Binary, DType, NodeId, Op, Shape, Unary};
use crate::plan::analysis::Value;
use crate::plan::slices::takes_slice;
use crate::plan::spread::Spread;

use super::super::kernel::{ARGUMENTS_MAX, BUFFERS_MAX, Kernel, Place, View};
use super::super::plan::Building;
use super::moves;

/// Invocations of a workgroup.
const LANES: u32 = 256;
/// What a kernel costs, in tensors read or written.
const KERNEL_COST: usize = 2;

/// Lowers a unit of elementwise nodes of equally many elements.
pub(super) fn lower(building: &mut Building<'_, '_>, unit: &[NodeId]) {
    let mut chain = Chain { len: 0, nodes: vec![], sources: vec![] };
    for &id in unit {
        chain.node(building, unit, id);
    }
    for part in chain.parts() {
        let kernel = chain.kernel(building, part);
        building.push(kernel);
    }
}

/// What a node computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    /// The same bits for all elements.
    Constant(u32),
    /// A node of the chain.
    Member(usize),
    /// A tensor that was there before.
    Source(usize),
}

/// A tensor that was there before.
#[derive(Debug)]
struct Source {
    view: View,
    /// How it fills the chain's elements.
    spread: Spread,
    integers: bool,
}

/// A node of the chain.
struct Member<'g> {
    op: &'g Op,
    operands: Vec<(Operand, bool)>,
    integers: bool,
    /// Where it is written: somebody outside needs it, or a later kernel of the chain.
    stored: Option<View>,
    /// The last node of the chain that uses it.
    last_use: usize,
}

struct Chain<'g> {
    /// Elements.
    len: usize,
    nodes: Vec<Member<'g>>,
    sources: Vec<Source>,
}

impl<'g> Chain<'g> {
    fn node(&mut self, building: &mut Building<'_, 'g>, unit: &[NodeId], id: NodeId) {
        let analysis = building.analysis;
        let node = analysis.node(id);
        let shape = Shape(building.result_shape(id));
        self.len = shape.elements() as usize;
        let operands: Vec<(Operand, bool)> =
            (0..node.inputs.len()).map(|k| self.operand(building, unit, id, k, &shape)).collect();
        let own = self.nodes.len();
        for (operand, _) in &operands {
            if let Operand::Member(member) = *operand {
                self.nodes[member].last_use = own;
            }
        }
        let outside = analysis.users[id as usize].iter().any(|user| unit.binary_search(user).is_err());
        let stored = (outside || analysis.given[id as usize]).then(|| building.result(id));
        self.nodes.push(Member { op: &node.op, operands, integers: is_integer(node.dtype), stored, last_use: own });
    }

    /// Operand `k` of a node of this shape, and whether it holds integers.
    fn operand(
        &mut self,
        building: &mut Building<'_, 'g>,
        unit: &[NodeId],
        id: NodeId,
        k: usize,
        shape: &Shape,
    ) -> (Operand, bool) {
        let analysis = building.analysis;
        let input = analysis.node(id).inputs[k];
        let integers = is_integer(analysis.node(input).dtype);
        // Through broadcasts, to the tensor under them.
        let (mut under, mut slice) = (input, building.slices.takes_slice(analysis, id, k));
        let mut shapes = vec![shape.clone(), Shape(building.shape(under, slice))];
        let innermost = analysis.unbroadcast(input);
        while under != innermost {
            let node = analysis.node(under);
            (under, slice) = (node.inputs[0], slice && takes_slice(analysis.graph, node, 0));
            shapes.push(Shape(building.shape(under, slice)));
        }
        shapes.reverse();
        if let Value::Uniform(bits) = analysis.values[under as usize] {
            return (Operand::Constant(bits), integers);
        }
        let member = analysis.root(under).and_then(|root| unit.binary_search(&root).ok());
        if let Some(member) = member.filter(|_| shapes[0].elements() as usize == self.len) {
            return (Operand::Member(member), integers);
        }
        let source = Source { view: building.view(under, slice), spread: Spread::through(&shapes), integers };
        let known = self.sources.iter().position(|known| {
            // The axes no longer matter.
            known.view.place == source.view.place
                && known.view.offset == source.view.offset
                && known.view.advance == source.view.advance
                && known.spread == source.spread
                && known.integers == source.integers
        });
        let index = known.unwrap_or_else(|| {
            self.sources.push(source);
            self.sources.len() - 1
        });
        (Operand::Source(index), integers)
    }

    /// The nodes of each kernel: all in one if that is possible, or else as few tensors read and written as can be.
    fn parts(&self) -> Vec<Range<usize>> {
        let n = self.nodes.len();
        // The least cost of the first `end` nodes, and where their last kernel begins.
        let mut best: Vec<Option<(usize, usize)>> = vec![None; n + 1];
        best[0] = Some((0, 0));
        for start in 0..n {
            let Some((before, _)) = best[start] else { continue };
            let mut needs = Needs::default();
            for end in start + 1..=n {
                needs.add(self, start, end - 1);
                let Some(cost) = needs.cost(self, start, end) else {
                    if needs.places.len() + needs.results > BUFFERS_MAX || needs.words > ARGUMENTS_MAX {
                        break;
                    }
                    continue;
                };
                let cost = before + cost;
                if best[end].is_none_or(|(known, _)| cost < known) {
                    best[end] = Some((cost, start));
                }
            }
        }
        let mut parts = vec![];
        let mut end = n;
        while let Some((_, start)) = best[end].filter(|_| end > 0) {
            parts.push(start..end);
            end = start;
        }
        parts.reverse();
        parts
    }

    fn kernel(&mut self, building: &mut Building<'_, '_>, part: Range<usize>) -> Kernel {
        for member in &mut self.nodes[part.clone()] {
            if member.stored.is_none() && member.last_use >= part.end {
                member.stored = Some(building.scratch(self.len));
            }
        }
        let mut kernel = Kernel::new("elementwise", [LANES, 1, 1]);
        kernel.each(self.len);
        let mut text = Text { chain: self, kernel, names: vec![], indices: vec![], constants: BTreeMap::new() };
        for at in part {
            text.node(at);
        }
        text.kernel
    }
}

fn is_integer(dtype: DType) -> bool {
    dtype == DType::I32
}

/// What a kernel of some successive nodes is bound to.
#[derive(Default)]
struct Needs {
    /// What it reads, and whether as integers.
    places: BTreeSet<(Place, bool)>,
    sources: BTreeSet<usize>,
    /// Nodes of earlier kernels that it reads.
    members: BTreeSet<usize>,
    constants: BTreeSet<u32>,
    /// Results that are needed outside of the chain.
    results: usize,
    /// Arguments, but for what later kernels read.
    words: usize,
}

impl Needs {
    /// One more node of a kernel that starts with node `start`.
    fn add(&mut self, chain: &Chain<'_>, start: usize, node: usize) {
        // The guard and the number of elements.
        self.words = self.words.max(2);
        for &(operand, _) in &chain.nodes[node].operands {
            match operand {
                Operand::Constant(bits) => self.words += usize::from(self.constants.insert(bits)),
                Operand::Member(member) if member < start => {
                    self.words += usize::from(self.members.insert(member));
                }
                Operand::Member(_) => {}
                Operand::Source(index) => {
                    let Source { view, spread, integers } = &chain.sources[index];
                    self.places.insert((view.place, *integers));
                    if self.sources.insert(index) {
                        self.words += match spread {
                            Spread::Same => 1,
                            Spread::Repeat(..) => 3,
                            Spread::Walk(walk) => 1 + 2 * walk.len(),
                        };
                    }
                }
            }
        }
        if chain.nodes[node].stored.is_some() {
            self.results += 1;
            self.words += 1;
        }
    }

    /// What the kernel costs if it ends before node `end`; nothing where it may not be.
    fn cost(&self, chain: &Chain<'_>, start: usize, end: usize) -> Option<usize> {
        let later = chain.nodes[start..end].iter().filter(|node| node.stored.is_none() && node.last_use >= end).count();
        let buffers = self.places.len() + self.members.len() + self.results + later;
        if buffers > BUFFERS_MAX || self.words + later > ARGUMENTS_MAX {
            return None;
        }
        let long = self.sources.iter().filter(|&&index| chain.sources[index].spread == Spread::Same).count();
        Some(KERNEL_COST + long + self.members.len() + self.results + later)
    }
}

/// A kernel's text under way.
struct Text<'a, 'g> {
    chain: &'a Chain<'g>,
    kernel: Kernel,
    /// What is in a variable by now; the index is its name.
    names: Vec<Operand>,
    /// Where elements of smaller tensors stand, by how they fill the chain's.
    indices: Vec<Spread>,
    constants: BTreeMap<u32, String>,
}

impl Text<'_, '_> {
    fn node(&mut self, at: usize) {
        let Member { op, operands, integers, stored, .. } = &self.chain.nodes[at];
        let operands: Vec<String> = operands.iter().map(|&(operand, integers)| self.value(operand, integers)).collect();
        let (value, cost) = expression(op, &operands);
        self.kernel.work += cost * self.chain.len as u64;
        let name = self.declare(Operand::Member(at), &value);
        if let Some(view) = stored {
            let to = if *integers { self.kernel.write_ints(view) } else { self.kernel.write(view) };
            self.kernel.code(&format!("{} = {name};", to.at("i")));
            self.kernel.work += self.chain.len as u64;
        }
    }

    fn declare(&mut self, what: Operand, value: &str) -> String {
        let name = format!("v{}", self.names.len());
        self.names.push(what);
        self.kernel.code(&format!("let {name} = {value};"));
        name
    }

    /// The expression that has an operand's value.
    fn value(&mut self, operand: Operand, integers: bool) -> String {
        if let Operand::Constant(bits) = operand {
            let kernel = &mut self.kernel;
            let word = self.constants.entry(bits).or_insert_with(|| kernel.arg(bits as usize));
            return format!("bitcast<{}>({word})", if integers { "i32" } else { "f32" });
        }
        if let Some(name) = self.names.iter().position(|&known| known == operand) {
            return format!("v{name}");
        }
        let chain = self.chain;
        let (view, spread) = match operand {
            Operand::Source(index) => (Some(&chain.sources[index].view), &chain.sources[index].spread),
            Operand::Member(member) => (chain.nodes[member].stored.as_ref(), &Spread::Same),
            Operand::Constant(_) => (None, &Spread::Same),
        };
        let Some(view) = view else { unreachable!("{operand:?} is used before it is computed") };
        let index = self.index(spread);
        let from = if integers { self.kernel.read_ints(view) } else { self.kernel.read(view) };
        self.kernel.work += self.chain.len as u64;
        self.declare(operand, &from.at(index))
    }

    /// The expression of where an element stands in a tensor that fills the chain's elements like this.
    fn index(&mut self, spread: &Spread) -> String {
        if *spread == Spread::Same {
            return "i".to_owned();
        }
        if let Some(index) = self.indices.iter().position(|known| known == spread) {
            return format!("x{index}");
        }
        let name = format!("x{}", self.indices.len());
        self.indices.push(spread.clone());
        let kernel = &mut self.kernel;
        match spread {
            Spread::Same => {}
            &Spread::Repeat(inner, period) => {
                let mut index = "i".to_owned();
                if inner > 1 {
                    index = format!("{index} / {}", kernel.arg(inner));
                }
                if inner * period < self.chain.len {
                    index = format!("{index} % {}", kernel.arg(period));
                }
                kernel.code(&format!("let {name} = {index};"));
            }
            Spread::Walk(walk) => moves::offset(kernel, &name, "i", walk),
        }
        name
    }
}

/// A node's value in the text, and its rough number of operations.
fn expression(op: &Op, operands: &[String]) -> (String, u64) {
    let call = |function: &str, cost| (format!("{function}({})", operands.join(", ")), cost);
    let compare = |operator: &str| (format!("mask({})", operands.join(operator)), 2);
    match op {
        Op::Unary(op) => match op {
            Unary::Neg => call("c_neg", 5),
            Unary::Exp => call("c_exp", 40),
            Unary::Log => call("c_log", 60),
            Unary::Sqrt => call("c_sqrt", 50),
            Unary::Rsqrt => call("c_rsqrt", 60),
            Unary::Recip => call("c_recip", 40),
            Unary::Tanh => call("c_tanh", 120),
            Unary::Sigmoid => call("c_sigmoid", 90),
            Unary::Erf => call("c_erf", 100),
            Unary::Sin => call("c_sin", 60),
            Unary::Cos => call("c_cos", 60),
            Unary::Relu => call("c_relu", 2),
            Unary::Abs => call("magnitude", 2),
            Unary::Sign => call("c_sign", 3),
            Unary::Floor => call("c_floor", 15),
            Unary::Round => call("c_round", 12),
            Unary::RoundBf16 => call("c_round_bf16", 8),
            Unary::ToFloat => call("to_float", 3),
            Unary::ToInt => call("to_int", 12),
        },
        Op::Binary(op) => match op {
            Binary::Add => call("c_add", 6),
            Binary::Sub => call("c_sub", 6),
            Binary::Mul => call("c_mul", 6),
            Binary::Div => call("c_div", 70),
            Binary::Max => call("c_max", 2),
            Binary::Min => call("c_min", 2),
            Binary::Lt => compare(" < "),
            Binary::Le => compare(" <= "),
            Binary::Eq => compare(" == "),
        },
        Op::Where => match operands {
            [c, a, b] => (format!("select({b}, {a}, {c} != 0.0)"), 2),
            _ => unreachable!("Where has three operands"),
        },
        // A broadcast.
        _ => (operands.first().cloned().unwrap_or_default(), 0),
    }
}
