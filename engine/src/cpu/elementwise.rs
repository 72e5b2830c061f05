//! Chains of elementwise nodes as one pass: a small program that runs on blocks of elements.
//!
//! Each instruction is one node of the graph and loops over a block that stays in the first-level cache, so memory
//! is read and written once for the whole chain while the loops stay those of a single operation. The operations are
//! the reference's own scalar functions, `canon` included, so whether nodes are fused changes no bit.
//!
//! *Invariant:* within an instruction the result overlaps no operand.

use crate::backend::Isa;
use crate::graph::{Binary, Unary};
use crate::plan::spread::Walk;
use crate::reference::elementwise::{binary, compare, to_float, to_int, unary};

use super::isa::Kernel;
use super::memory::{Place, Shared};
use super::step::{Context, Pieces, Sharing};

/// Elements of a block: a few dozen registers of this length fit the first-level cache.
pub(super) const BLOCK: usize = 512;

/// Several nodes with equally many elements.
#[derive(Debug, Default)]
pub(super) struct Program {
    /// Elements of each node.
    pub(super) len: usize,
    /// In the order of execution.
    pub(super) instructions: Vec<Instruction>,
    /// What instructions read and write.
    pub(super) vectors: Vec<Vector>,
    /// Operands that are the same for all elements.
    pub(super) scalars: Vec<Scalar>,
    /// Broadcasts that are no plain repetition.
    pub(super) walks: Vec<Walk>,
    /// Registers in use.
    pub(super) registers: usize,
}

/// One node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instruction {
    /// What is computed.
    pub(super) operation: Operation,
    /// Index of the vector that takes the result.
    pub(super) to: u16,
    /// Operands; the first `operation.operands()` count.
    pub(super) from: [Operand; 3],
}

/// What an instruction computes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    /// A float operation, `ToFloat` of integers, or `ToInt`.
    Unary(Unary),
    /// A float operation.
    Binary(Binary),
    /// A comparison of integers.
    Compare(Binary),
    /// The first operand chooses between the others.
    Where,
    /// The operand itself.
    Copy,
    /// Element i is element (i / inner) mod period of a smaller tensor.
    Repeat {
        /// Where the smaller tensor stands.
        from: Place,
        /// How often each element stands in a row.
        inner: usize,
        /// Elements of the smaller tensor.
        period: usize,
    },
    /// Any other broadcasting of a smaller tensor.
    Walk {
        /// Where the smaller tensor stands.
        from: Place,
        /// Index into the program's walks.
        walk: u16,
    },
}

/// An operand of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    /// Index into the program's vectors.
    Vector(u16),
    /// Index into the program's scalars.
    Scalar(u16),
}

/// A value for each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vector {
    /// A block in the worker's scratch.
    Register(u16),
    /// A tensor.
    Memory(Place),
}

/// A value for all elements, as bits of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    /// Known when the plan is made.
    Bits(u32),
    /// A tensor of one element.
    Memory(Place),
}

impl Operation {
    /// Rough price of an element, in additions.
    fn cost(self) -> usize {
        match self {
            Self::Unary(
                Unary::Exp
                | Unary::Log
                | Unary::Tanh
                | Unary::Sigmoid
                | Unary::Erf
                | Unary::Sin
                | Unary::Cos
                | Unary::Sqrt
                | Unary::Rsqrt
                | Unary::Recip,
            )
            | Self::Binary(Binary::Div) => 16,
            _ => 2,
        }
    }
}

impl Program {
    /// Elements of scratch that a worker needs.
    pub(super) fn scratch(&self) -> usize {
        self.registers * BLOCK
    }

    /// How the elements are split.
    pub(super) fn pieces(&self, sharing: Sharing) -> Pieces {
        let cost: usize = self.instructions.iter().map(|instruction| instruction.operation.cost()).sum();
        Pieces::new(self.len, BLOCK, cost, sharing)
    }

    /// Runs the program on elements `start..end`.
    ///
    /// # Safety
    /// The context's regions are those that the plan was made for; nobody else writes the results' elements, and
    /// nobody at all the operands or this worker's scratch.
    pub(super) unsafe fn run(&self, context: &Context<'_>, scratch: Shared, start: usize, end: usize) {
        if end - start == 1 && context.level.isa() != Isa::Scalar {
            // A scalar gains nothing from wide loops, but would wait for them to find that out.
            return Blocks { program: self, context, scratch, start, end }.run();
        }
        context.level.run(Blocks { program: self, context, scratch, start, end });
    }
}

struct Blocks<'a> {
    program: &'a Program,
    context: &'a Context<'a>,
    scratch: Shared,
    start: usize,
    end: usize,
}

impl Kernel for Blocks<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for start in (self.start..self.end).step_by(BLOCK) {
            let len = BLOCK.min(self.end - start);
            for instruction in &self.program.instructions {
                // SAFETY: `Program::run` was promised the elements; the planner keeps results and operands apart.
                unsafe { self.execute(instruction, start, len) };
            }
        }
    }
}

/// Loops over one operand.
macro_rules! map {
    ($to:expr, $a:expr, $x:ident => $value:expr) => {
        for (to, &$x) in $to.iter_mut().zip($a) {
            *to = $value;
        }
    };
}

/// Loops over two operands, each a vector or a scalar.
macro_rules! zip {
    ($self:ident, $block:expr, $to:expr, $from:expr, $read:ident, $value:ident, ($x:ident, $y:ident) => $result:expr) => {
        match ($from[0], $from[1]) {
            (Operand::Vector(a), Operand::Vector(b)) => {
                let (a, b) = ($self.$read(a, $block), $self.$read(b, $block));
                for ((to, &$x), &$y) in $to.iter_mut().zip(a).zip(b) {
                    *to = $result;
                }
            }
            (Operand::Vector(a), Operand::Scalar(b)) => {
                let (a, $y) = ($self.$read(a, $block), $self.$value(b));
                map!($to, a, $x => $result);
            }
            (Operand::Scalar(a), Operand::Vector(b)) => {
                let ($x, b) = ($self.$value(a), $self.$read(b, $block));
                map!($to, b, $y => $result);
            }
            (Operand::Scalar(a), Operand::Scalar(b)) => {
                let ($x, $y) = ($self.$value(a), $self.$value(b));
                $to.fill($result);
            }
        }
    };
}

/// One loop for each operation, which is a constant in it.
macro_rules! each {
    ($kind:ident, $operation:expr, [$($name:ident)+], $constant:ident => $loop:expr) => {
        match $operation {
            $($kind::$name => {
                const $constant: $kind = $kind::$name;
                $loop
            })+
            #[allow(unreachable_patterns)]
            _ => {}
        }
    };
}

impl Blocks<'_> {
    #[inline(always)]
    unsafe fn execute(&self, instruction: &Instruction, start: usize, len: usize) {
        let block = (start, len);
        let from = instruction.from;
        // SAFETY: owed by the caller.
        unsafe {
            let to = self.address(instruction.to, start).write(0, len);
            match instruction.operation {
                Operation::Unary(Unary::ToFloat) => match from[0] {
                    Operand::Vector(a) => map!(to, self.ints(a, block), x => to_float(x)),
                    Operand::Scalar(a) => to.fill(to_float(self.int(a))),
                },
                Operation::Unary(Unary::ToInt) => match from[0] {
                    Operand::Vector(a) => map!(to, self.floats(a, block), x => bits(to_int(x))),
                    Operand::Scalar(a) => to.fill(bits(to_int(self.float(a)))),
                },
                Operation::Unary(operation) => each!(
                    Unary, operation,
                    [Neg Exp Log Sqrt Rsqrt Recip Tanh Sigmoid Erf Sin Cos Relu Abs Sign Floor Round RoundBf16],
                    OPERATION => match from[0] {
                        Operand::Vector(a) => map!(to, self.floats(a, block), x => unary(OPERATION, x)),
                        Operand::Scalar(a) => to.fill(unary(OPERATION, self.float(a))),
                    }
                ),
                Operation::Binary(operation) => each!(
                    Binary, operation, [Add Sub Mul Div Max Min Lt Le Eq],
                    OPERATION => zip!(self, block, to, from, floats, float, (x, y) => binary(OPERATION, x, y))
                ),
                Operation::Compare(operation) => each!(
                    Binary, operation, [Lt Le Eq],
                    OPERATION => zip!(self, block, to, from, ints, int, (x, y) => compare(OPERATION, x, y))
                ),
                Operation::Where => self.choose(to, from, block),
                Operation::Copy => match from[0] {
                    Operand::Vector(a) => to.copy_from_slice(self.floats(a, block)),
                    Operand::Scalar(a) => to.fill(self.float(a)),
                },
                Operation::Repeat { from, inner, period } => {
                    let from = self.context.at(from).read(0, period);
                    repeat(to, from, inner, start);
                }
                Operation::Walk { from, walk } => {
                    let walk = &self.program.walks[usize::from(walk)];
                    let len = 1 + walk.iter().map(|&(len, distance)| (len - 1) * distance).sum::<usize>();
                    stroll(to, self.context.at(from).read(0, len), walk, start);
                }
            }
        }
    }

    /// `Where`, whose first operand the planner makes a vector.
    #[inline(always)]
    unsafe fn choose(&self, to: &mut [f32], from: [Operand; 3], block: (usize, usize)) {
        // SAFETY: owed by the caller of `execute`.
        unsafe {
            match from[0] {
                Operand::Vector(c) => {
                    let c = self.floats(c, block);
                    match (from[1], from[2]) {
                        (Operand::Vector(a), Operand::Vector(b)) => {
                            let (a, b) = (self.floats(a, block), self.floats(b, block));
                            for (((to, &c), &a), &b) in to.iter_mut().zip(c).zip(a).zip(b) {
                                *to = if c != 0.0 { a } else { b };
                            }
                        }
                        (Operand::Vector(a), Operand::Scalar(b)) => {
                            let (a, b) = (self.floats(a, block), self.float(b));
                            for ((to, &c), &a) in to.iter_mut().zip(c).zip(a) {
                                *to = if c != 0.0 { a } else { b };
                            }
                        }
                        (Operand::Scalar(a), Operand::Vector(b)) => {
                            let (a, b) = (self.float(a), self.floats(b, block));
                            for ((to, &c), &b) in to.iter_mut().zip(c).zip(b) {
                                *to = if c != 0.0 { a } else { b };
                            }
                        }
                        (Operand::Scalar(a), Operand::Scalar(b)) => {
                            let (a, b) = (self.float(a), self.float(b));
                            map!(to, c, c => if c != 0.0 { a } else { b });
                        }
                    }
                }
                Operand::Scalar(c) => {
                    let chosen = if self.float(c) != 0.0 { from[1] } else { from[2] };
                    match chosen {
                        Operand::Vector(a) => to.copy_from_slice(self.floats(a, block)),
                        Operand::Scalar(a) => to.fill(self.float(a)),
                    }
                }
            }
        }
    }

    /// Address of a vector's element `start`.
    #[inline(always)]
    unsafe fn address(&self, vector: u16, start: usize) -> Shared {
        // SAFETY: owed by the caller of `execute`.
        unsafe {
            match self.program.vectors[usize::from(vector)] {
                Vector::Register(register) => Shared::new(self.scratch.at(usize::from(register) * BLOCK)),
                Vector::Memory(place) => Shared::new(self.context.at(place).at(start)),
            }
        }
    }

    #[inline(always)]
    unsafe fn floats<'a>(&self, vector: u16, (start, len): (usize, usize)) -> &'a [f32] {
        // SAFETY: owed by the caller of `execute`.
        unsafe { self.address(vector, start).read(0, len) }
    }

    #[inline(always)]
    unsafe fn ints<'a>(&self, vector: u16, (start, len): (usize, usize)) -> &'a [i32] {
        // SAFETY: owed by the caller of `execute`; the graph's types tell that these are integers.
        unsafe { self.address(vector, start).read_int(0, len) }
    }

    #[inline(always)]
    unsafe fn int(&self, scalar: u16) -> i32 {
        match self.program.scalars[usize::from(scalar)] {
            Scalar::Bits(bits) => bits.cast_signed(),
            // SAFETY: owed by the caller of `execute`.
            Scalar::Memory(place) => unsafe { self.context.at(place).read_int(0, 1)[0] },
        }
    }

    #[inline(always)]
    unsafe fn float(&self, scalar: u16) -> f32 {
        // SAFETY: owed by the caller of `execute`.
        f32::from_bits(unsafe { self.int(scalar) }.cast_unsigned())
    }
}

/// An integer in the place of a float: vectors hold either.
#[inline(always)]
fn bits(x: i32) -> f32 {
    f32::from_bits(x.cast_unsigned())
}

/// Elements from `start` of a tensor that repeats a smaller one.
#[inline(always)]
fn repeat(to: &mut [f32], from: &[f32], inner: usize, start: usize) {
    let period = from.len();
    let (mut index, mut within) = ((start / inner) % period, start % inner);
    let mut done = 0;
    while done < to.len() {
        let left = to.len() - done;
        if inner == 1 {
            let run = left.min(period - index);
            to[done..done + run].copy_from_slice(&from[index..index + run]);
            index = 0;
            done += run;
        } else {
            let run = left.min(inner - within);
            to[done..done + run].fill(from[index]);
            index = if index + 1 == period { 0 } else { index + 1 };
            within = 0;
            done += run;
        }
    }
}

/// Elements from `start` of a tensor that broadcasts a smaller one.
#[inline(always)]
fn stroll(to: &mut [f32], from: &[f32], walk: &Walk, start: usize) {
    let Some((&(run, distance), outer)) = walk.split_last() else {
        return to.fill(from[0]);
    };
    let (mut row, mut within) = (start / run, start % run);
    let mut done = 0;
    while done < to.len() {
        let (mut rest, mut base) = (row, 0);
        for &(len, distance) in outer.iter().rev() {
            base += rest % len * distance;
            rest /= len;
        }
        let count = (run - within).min(to.len() - done);
        for (i, to) in to[done..done + count].iter_mut().enumerate() {
            *to = from[base + (within + i) * distance];
        }
        done += count;
        row += 1;
        within = 0;
    }
}
