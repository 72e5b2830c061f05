//! Chains of elementwise nodes as one kernel, written for the chain: each node is a line of its text.
//!
//! An invocation computes an element from operands that it reads once, and writes what somebody outside of the chain
//! needs. Numbers are arguments and names are counted from the kernel's start, so that chains that do the same (the
//! update of each parameter, say) have the same text. A chain that needs more buffers or arguments than a kernel may
//! have becomes several kernels; values on their way from one to another stand in scratch tensors.
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

/// Invocations of a workgroup where each has little to do.
pub(super) const LANES: u32 = 256;
/// Most operations for an element where an invocation does four.
const OPERATIONS_BY_FOUR_MAX: u64 = 500;
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
            for node in start..n {
                needs.add(self, start, node);
                if needs.too_many() {
                    break;
                }
                let end = node + 1;
                let Some(cost) = needs.cost(self, start, end) else { continue };
                if best[end].is_none_or(|(known, _)| before + cost < known) {
                    best[end] = Some((before + cost, start));
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
        let by = if self.by_four(part.clone()) { 4 } else { 1 };
        let mut kernel = Kernel::new("elementwise", [LANES, 1, 1]);
        kernel.each(self.len / by);
        kernel.work = self.len as u64 * (4 + self.operations(part.clone()));
        let mut text = Text { chain: self, kernel, by, values: vec![], indices: vec![], constants: BTreeMap::new() };
        for at in part {
            text.node(at);
        }
        text.kernel
    }

    /// Rough number of operations for an element.
    fn operations(&self, part: Range<usize>) -> u64 {
        self.nodes[part].iter().map(|node| expression(node.op, &[""; 3]).1).sum()
    }

    /// Whether an invocation does four elements: where memory is what takes time, and everything is aligned.
    fn by_four(&self, part: Range<usize>) -> bool {
        let aligned = |view: &View| view.by_four();
        let mut buffers = BTreeSet::new();
        let nodes = &self.nodes[part.clone()];
        let read = nodes.iter().flat_map(|node| &node.operands).all(|&(operand, _)| match operand {
            Operand::Constant(_) => true,
            Operand::Member(member) => {
                let view = self.nodes[member].stored.as_ref().filter(|_| member < part.start);
                buffers.extend(view.map(|view| (view.place, false, true)));
                view.is_none_or(aligned)
            }
            Operand::Source(index) => {
                let Source { view, spread, integers } = &self.sources[index];
                let four = fours(spread);
                buffers.extend(four.iter().map(|&(_, groups)| (view.place, *integers, groups)));
                four.is_some_and(|(_, groups)| !groups || aligned(view))
            }
        });
        let stored = || nodes.iter().filter_map(|node| node.stored.as_ref());
        read && self.len.is_multiple_of(4)
            && stored().all(aligned)
            && buffers.len() + stored().count() <= BUFFERS_MAX
            && self.operations(part) <= OPERATIONS_BY_FOUR_MAX
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

    /// Whether more nodes can only make it worse.
    fn too_many(&self) -> bool {
        self.places.len() + self.results > BUFFERS_MAX || self.words > ARGUMENTS_MAX
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

/// How a smaller tensor fills groups of four elements: by groups of its own, or each by one element; nothing where it
/// is neither.
fn fours(spread: &Spread) -> Option<(Spread, bool)> {
    match spread {
        Spread::Same => Some((Spread::Same, true)),
        &Spread::Repeat(1, period) if period.is_multiple_of(4) => Some((Spread::Repeat(1, period / 4), true)),
        &Spread::Repeat(inner, period) if inner.is_multiple_of(4) => Some((Spread::Repeat(inner / 4, period), false)),
        Spread::Repeat(..) => None,
        Spread::Walk(walk) => {
            let Some((&(len, distance), outer)) = walk.split_last() else { return Some((spread.clone(), false)) };
            let groups = distance == 1 && outer.iter().all(|&(_, distance)| distance.is_multiple_of(4));
            if !len.is_multiple_of(4) || distance != 0 && !groups {
                return None;
            }
            let by = if groups { 4 } else { 1 };
            let outer = outer.iter().map(|&(len, distance)| (len, distance / by));
            Some((Spread::Walk(outer.chain([(len / 4, distance)]).collect()), groups))
        }
    }
}

/// A kernel's text under way.
struct Text<'a, 'g> {
    chain: &'a Chain<'g>,
    kernel: Kernel,
    /// Elements of an invocation: 1 or 4.
    by: usize,
    /// What is in a variable by now: an expression for each element.
    values: Vec<(Operand, Vec<String>)>,
    /// Where elements of smaller tensors stand, by how they fill the chain's.
    indices: Vec<Spread>,
    constants: BTreeMap<u32, String>,
}

impl Text<'_, '_> {
    fn node(&mut self, at: usize) {
        let Member { op, operands, integers, stored, .. } = &self.chain.nodes[at];
        let operands: Vec<Vec<String>> =
            operands.iter().map(|&(operand, integers)| self.value(operand, integers)).collect();
        let number = self.values.len();
        let mut names = vec![];
        for element in 0..self.by {
            let operands: Vec<&str> = operands.iter().map(|operand| operand[element].as_str()).collect();
            let name = if self.by == 1 { format!("v{number}") } else { format!("v{number}_{element}") };
            self.kernel.code(&format!("let {name} = {};", expression(op, &operands).0));
            names.push(name);
        }
        if let Some(view) = stored {
            let to = self.kernel.write_by(view, *integers, self.by);
            let value = match (self.by, integers) {
                (1, _) => names[0].clone(),
                (_, false) => format!("vec4<f32>({})", names.join(", ")),
                (_, true) => format!("vec4<i32>({})", names.join(", ")),
            };
            self.kernel.code(&format!("{} = {value};", to.at("i")));
        }
        self.values.push((Operand::Member(at), names));
    }

    /// The expressions that have an operand's elements.
    fn value(&mut self, operand: Operand, integers: bool) -> Vec<String> {
        if let Operand::Constant(bits) = operand {
            let kernel = &mut self.kernel;
            let word = self.constants.entry(bits).or_insert_with(|| kernel.arg(bits as usize));
            return vec![format!("bitcast<{}>({word})", if integers { "i32" } else { "f32" }); self.by];
        }
        if let Some((_, value)) = self.values.iter().find(|(known, _)| *known == operand) {
            return value.clone();
        }
        let chain = self.chain;
        let (view, spread) = match operand {
            Operand::Source(index) => (Some(&chain.sources[index].view), chain.sources[index].spread.clone()),
            Operand::Member(member) => (chain.nodes[member].stored.as_ref(), Spread::Same),
            Operand::Constant(_) => (None, Spread::Same),
        };
        let Some(view) = view else { unreachable!("{operand:?} is used before it is computed") };
        let (spread, groups) = match self.by {
            1 => (spread, false),
            _ => fours(&spread).unwrap_or((spread, false)),
        };
        let index = self.index(&spread);
        let from = self.kernel.read_by(view, integers, if groups { 4 } else { 1 });
        let name = format!("v{}", self.values.len());
        self.kernel.code(&format!("let {name} = {};", from.at(index)));
        let value = match groups {
            true => ["x", "y", "z", "w"].map(|part| format!("{name}.{part}")).to_vec(),
            false => vec![name; self.by],
        };
        self.values.push((operand, value.clone()));
        value
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
                if inner * period < self.chain.len / self.by {
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
fn expression(op: &Op, operands: &[&str]) -> (String, u64) {
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
        _ => (operands.concat(), 0),
    }
}
