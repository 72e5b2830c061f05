//! From a unit of elementwise nodes to a program.

use std::collections::BTreeMap;

use crate::graph::{DType, NodeId, Op, Shape};

use super::super::elementwise::{Instruction, Operand, Operation, Program, Scalar, Vector};
use super::super::memory::Place;
use super::layout::Layout;
use crate::plan::analysis::Value;
use crate::plan::slices::takes_slice;
use crate::plan::spread::Spread;

/// Lowers a unit.
pub(super) fn program(layout: &Layout<'_, '_>, unit: &[NodeId]) -> Program {
    let len = unit.first().map_or(0, |&id| layout.result_shape(id).elements() as usize);
    let mut chain = Chain {
        layout,
        unit,
        program: Program { len, ..Program::default() },
        at: BTreeMap::new(),
        fills: vec![],
        over: vec![],
    };
    for &id in unit {
        chain.node(id);
    }
    chain.settle()
}

struct Chain<'a, 'p, 'g> {
    layout: &'a Layout<'p, 'g>,
    unit: &'a [NodeId],
    /// Registers are numbered by the instruction that fills them until `settle`.
    program: Program,
    /// Vector of each member done so far.
    at: BTreeMap<NodeId, u16>,
    /// Vectors of smaller tensors that fill a register.
    fills: Vec<(Place, Spread, u16)>,
    /// Results that stand over an operand: the register they are computed in, their place, and the operand's.
    over: Vec<(u16, Place, Place)>,
}

impl Chain<'_, '_, '_> {
    fn node(&mut self, id: NodeId) {
        let node = self.layout.analysis.node(id);
        let shape = self.layout.result_shape(id);
        let first_is_int = node.inputs.first().is_some_and(|&a| self.layout.analysis.node(a).dtype == DType::I32);
        let operation = match node.op {
            Op::Unary(operation) => Operation::Unary(operation),
            Op::Binary(operation) if first_is_int => Operation::Compare(operation),
            Op::Binary(operation) => Operation::Binary(operation),
            Op::Where => Operation::Where,
            _ => Operation::Copy,
        };
        let mut from = [Operand::Scalar(0); 3];
        let mut broadcast = None;
        for (k, operand) in from.iter_mut().enumerate().take(node.inputs.len()) {
            let (value, spread) = self.look(id, k, &shape);
            match value {
                Source::Operand(found) => *operand = found,
                Source::Smaller(place) if matches!(operation, Operation::Copy) => broadcast = Some((place, spread)),
                Source::Smaller(place) => *operand = self.fill(place, spread),
            }
        }
        let operation = match broadcast {
            Some((place, spread)) => self.filling(place, spread),
            None => operation,
        };
        let to = self.result(id);
        self.program.instructions.push(Instruction { operation, to, from });
        self.at.insert(id, to);
    }

    /// Where operand `k` of a node of this shape comes from.
    fn look(&mut self, id: NodeId, k: usize, shape: &Shape) -> (Source, Spread) {
        let (layout, analysis) = (self.layout, self.layout.analysis);
        let slices = |id: NodeId, k: usize| layout.slices.takes_slice(analysis, id, k);
        let input = analysis.node(id).inputs[k];
        let (mut id, mut slice) = (input, slices(id, k));
        let mut steps = vec![(id, slice)];
        let under = analysis.unbroadcast(input);
        while id != under {
            (id, slice) = (analysis.node(id).inputs[0], slice && takes_slice(analysis.graph, analysis.node(id), 0));
            steps.push((id, slice));
        }
        if let Value::Uniform(bits) = analysis.values[under as usize] {
            return (Source::Operand(self.scalar(Scalar::Bits(bits))), Spread::Same);
        }
        if let Some(&vector) = analysis.root(under).and_then(|root| self.at.get(&root))
            && layout.shape(under, slice).elements() as usize == self.program.len
        {
            return (Source::Operand(Operand::Vector(vector)), Spread::Same);
        }
        let place = layout.place(under, slice);
        let inner = layout.shape(under, slice);
        if inner.elements() == 1 {
            return (Source::Operand(self.scalar(Scalar::Memory(place))), Spread::Same);
        }
        let shapes = steps.iter().rev().map(|&(id, slice)| layout.shape(id, slice)).chain([shape.clone()]);
        match Spread::through(&shapes.collect::<Vec<_>>()) {
            Spread::Same => (Source::Operand(Operand::Vector(self.vector(Vector::Memory(place)))), Spread::Same),
            smaller => (Source::Smaller(place), smaller),
        }
    }

    fn filling(&mut self, from: Place, spread: Spread) -> Operation {
        match spread {
            Spread::Same => Operation::Copy,
            Spread::Repeat(inner, period) => Operation::Repeat { from, inner, period },
            Spread::Walk(walk) => {
                self.program.walks.push(walk);
                Operation::Walk { from, walk: (self.program.walks.len() - 1) as u16 }
            }
        }
    }

    /// A register that holds a smaller tensor's elements; the same one for the same tensor.
    fn fill(&mut self, place: Place, spread: Spread) -> Operand {
        if let Some((.., vector)) = self.fills.iter().find(|(at, by, _)| *at == place && *by == spread) {
            return Operand::Vector(*vector);
        }
        let operation = self.filling(place, spread.clone());
        let to = self.register();
        self.program.instructions.push(Instruction { operation, to, from: [Operand::Scalar(0); 3] });
        self.fills.push((place, spread, to));
        Operand::Vector(to)
    }

    /// The vector that takes a node's value: memory when somebody outside of the unit needs it.
    fn result(&mut self, id: NodeId) -> u16 {
        let analysis = self.layout.analysis;
        let outside = analysis.users[id as usize].iter().any(|user| self.unit.binary_search(user).is_err());
        if outside || analysis.given[id as usize] {
            let place = self.layout.result(id).place;
            match self.layout.replaced(id) {
                Some(old) => {
                    let register = self.register();
                    self.over.push((register, place, old));
                    register
                }
                None => self.vector(Vector::Memory(place)),
            }
        } else {
            self.register()
        }
    }

    /// A register of its own.
    fn register(&mut self) -> u16 {
        self.program.vectors.push(Vector::Register(0));
        (self.program.vectors.len() - 1) as u16
    }

    fn vector(&mut self, vector: Vector) -> u16 {
        let known = self.program.vectors.iter().position(|other| *other == vector);
        known.unwrap_or_else(|| {
            self.program.vectors.push(vector);
            self.program.vectors.len() - 1
        }) as u16
    }

    fn scalar(&mut self, scalar: Scalar) -> Operand {
        let known = self.program.scalars.iter().position(|other| *other == scalar);
        let index = known.unwrap_or_else(|| {
            self.program.scalars.push(scalar);
            self.program.scalars.len() - 1
        });
        Operand::Scalar(index as u16)
    }

    /// Writes results that stand over an operand: at the end, from a register, where the operand is read until then.
    fn write_over(&mut self) {
        for (register, place, old) in std::mem::take(&mut self.over) {
            let program = &self.program;
            let reads = |operand: &Operand| match *operand {
                Operand::Vector(vector) => program.vectors[usize::from(vector)] == Vector::Memory(old),
                Operand::Scalar(scalar) => program.scalars.get(usize::from(scalar)) == Some(&Scalar::Memory(old)),
            };
            let written = program.instructions.iter().position(|instruction| instruction.to == register);
            let read = program.instructions.iter().rposition(|instruction| instruction.from.iter().any(reads));
            if read < written {
                self.program.vectors[usize::from(register)] = Vector::Memory(place);
            } else {
                self.program.vectors.push(Vector::Memory(place));
                let to = (self.program.vectors.len() - 1) as u16;
                let from = [Operand::Vector(register), Operand::Scalar(0), Operand::Scalar(0)];
                self.program.instructions.push(Instruction { operation: Operation::Copy, to, from });
            }
        }
    }

    /// Gives registers their numbers: one is free again after its last use.
    fn settle(mut self) -> Program {
        self.write_over();
        let mut last = vec![0; self.program.vectors.len()];
        for (i, instruction) in self.program.instructions.iter().enumerate() {
            last[usize::from(instruction.to)] = i;
            for operand in instruction.from {
                if let Operand::Vector(vector) = operand {
                    last[usize::from(vector)] = i;
                }
            }
        }
        let mut free: Vec<u16> = Vec::new();
        let mut registers = 0u16;
        for (i, instruction) in self.program.instructions.iter().enumerate() {
            let vectors = &mut self.program.vectors;
            if let Vector::Register(register) = &mut vectors[usize::from(instruction.to)] {
                *register = free.pop().unwrap_or_else(|| {
                    registers += 1;
                    registers - 1
                });
            }
            let mut ended: Vec<u16> = [Operand::Vector(instruction.to)]
                .iter()
                .chain(&instruction.from)
                .filter_map(|operand| match operand {
                    Operand::Vector(vector) if last[usize::from(*vector)] == i => Some(*vector),
                    _ => None,
                })
                .collect();
            ended.sort_unstable();
            ended.dedup();
            free.extend(ended.into_iter().filter_map(|vector| match vectors[usize::from(vector)] {
                Vector::Register(register) => Some(register),
                Vector::Memory(_) => None,
            }));
        }
        self.program.registers = usize::from(registers);
        self.program
    }
}

/// Where an operand comes from.
enum Source {
    Operand(Operand),
    Smaller(Place),
}
