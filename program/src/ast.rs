//! The program's own syntax tree: arenas of nodes that name each other by index.
//!
//! *Invariant:* children have smaller indices than their parents, names are resolved, everything in it is part of the
//! training language; nothing in it is recursive, so dropping it is a handful of frees.

use std::collections::BTreeMap;

use crate::fault::Span;

/// Index of an expression.
pub(crate) type ExprId = u32;
/// Index of a statement.
pub(crate) type StmtId = u32;
/// Index of an interned name.
pub(crate) type NameId = u32;
/// Index of a string constant.
pub(crate) type TextId = u32;

/// A run of `Ast::ids`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct List {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// Where a variable lives: so many scopes outwards, in that slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) hops: u32,
    pub(crate) slot: u32,
    pub(crate) name: NameId,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reference {
    /// A variable of this or an outer scope.
    Variable(Place),
    /// A builtin that no scope hides.
    Builtin(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
    MatMul,
}

impl BinaryOp {
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::FloorDiv => "//",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "**",
            BinaryOp::MatMul => "@",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnaryOp {
    Neg,
    Pos,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompareOp {
    Eq,
    NotEq,
    Lt,
    LtE,
    Gt,
    GtE,
    Is,
    IsNot,
    In,
    NotIn,
}

impl CompareOp {
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            CompareOp::Eq => "==",
            CompareOp::NotEq => "!=",
            CompareOp::Lt => "<",
            CompareOp::LtE => "<=",
            CompareOp::Gt => ">",
            CompareOp::GtE => ">=",
            CompareOp::Is => "is",
            CompareOp::IsNot => "is not",
            CompareOp::In => "in",
            CompareOp::NotIn => "not in",
        }
    }
}

/// One argument of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Argument {
    pub(crate) kind: ArgumentKind,
    pub(crate) value: ExprId,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ArgumentKind {
    Positional,
    /// `*values`.
    Spread,
    Keyword(NameId),
}

/// How an f-string shows a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    /// `!r`.
    pub(crate) repr: bool,
    /// Least width; 0 for none.
    pub(crate) width: u32,
    /// Filled with zeros instead of spaces.
    pub(crate) zeros: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ExprKind {
    None,
    Ellipsis,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(TextId),
    Name(Reference),
    Binary(BinaryOp, ExprId, ExprId),
    Unary(UnaryOp, ExprId),
    /// `and` of the list.
    And(List),
    /// `or` of the list.
    Or(List),
    /// First operand and a run of `Ast::comparisons`.
    Compare(ExprId, List),
    Conditional {
        test: ExprId,
        yes: ExprId,
        no: ExprId,
    },
    /// Callee and a run of `Ast::arguments`.
    Call(ExprId, List),
    Attribute(ExprId, NameId),
    Subscript(ExprId, ExprId),
    /// Bounds and step; absent ones are `None` expressions.
    Slice([ExprId; 3]),
    Tuple(List),
    List(List),
    /// Keys and values in turn.
    Dict(List),
    /// `*values` inside of a list, tuple or index.
    Spread(ExprId),
    Lambda(u32),
    Comprehension(u32),
    /// Parts: `Text` or `Formatted`.
    FString(List),
    Formatted(ExprId, Format),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Expr {
    pub(crate) kind: ExprKind,
    pub(crate) at: Span,
}

/// Where an assignment goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    Name(Place),
    /// Targets, and which of them (if any) is starred.
    Tuple(List, Option<u32>),
    Subscript(ExprId, ExprId),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum StmtKind {
    Expr(ExprId),
    /// A run of targets, left to right.
    Assign(List, ExprId),
    Augment(u32, BinaryOp, ExprId),
    Def(Place, u32),
    Return(Option<ExprId>),
    If {
        test: ExprId,
        yes: List,
        no: List,
    },
    For {
        target: u32,
        items: ExprId,
        body: List,
        otherwise: List,
    },
    While {
        test: ExprId,
        body: List,
        otherwise: List,
    },
    Assert(ExprId, Option<ExprId>),
    /// A builtin or module becomes a variable.
    Import(Place, Imported),
    Pass,
    Break,
    Continue,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Imported {
    Math,
    Cairn,
    Builtin(u16),
    Constant(f64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Stmt {
    pub(crate) kind: StmtKind,
    pub(crate) at: Span,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Body {
    Block(List),
    Expr(ExprId),
}

/// A parameter of a function; its slot is its position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: NameId,
    pub(crate) default: Option<ExprId>,
}

/// `def` or `lambda`. Slots: positional parameters, keyword-only ones, `*args`, then the other locals.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) name: NameId,
    pub(crate) parameters: Vec<Parameter>,
    /// How many of `parameters` may be given by position, and how many of these only so.
    pub(crate) positional: u32,
    pub(crate) positional_only: u32,
    /// Slot of `*args`.
    pub(crate) rest: Option<u32>,
    pub(crate) slots: u32,
    pub(crate) body: Body,
}

/// One `for … in … if …` of a comprehension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clause {
    pub(crate) target: u32,
    pub(crate) items: ExprId,
    pub(crate) tests: List,
}

/// A comprehension. It has a scope of its own, but for the first clause's items.
#[derive(Clone, Debug)]
pub(crate) struct Comprehension {
    pub(crate) kind: ComprehensionKind,
    pub(crate) clauses: Vec<Clause>,
    pub(crate) slots: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ComprehensionKind {
    /// A list; a generator as a call's only argument too, which nobody can tell from it.
    List(ExprId),
    Generator(ExprId),
    Dict(ExprId, ExprId),
}

/// A whole program.
#[derive(Debug, Default)]
pub(crate) struct Ast {
    pub(crate) exprs: Vec<Expr>,
    pub(crate) stmts: Vec<Stmt>,
    pub(crate) targets: Vec<(Target, Span)>,
    pub(crate) ids: Vec<u32>,
    pub(crate) comparisons: Vec<(CompareOp, ExprId)>,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) functions: Vec<Function>,
    pub(crate) comprehensions: Vec<Comprehension>,
    pub(crate) names: Vec<Box<str>>,
    pub(crate) texts: Vec<Box<str>>,
    /// Module level.
    pub(crate) body: List,
    pub(crate) slots: u32,
    /// Slots of the module by name.
    pub(crate) globals: BTreeMap<Box<str>, u32>,
    /// Information in literals, in bits.
    pub(crate) literal_bits: u64,
}

impl Ast {
    pub(crate) fn ids(&self, list: List) -> &[u32] {
        self.ids.get(list.start as usize..(list.start + list.len) as usize).unwrap_or(&[])
    }

    pub(crate) fn name(&self, id: NameId) -> &str {
        self.names.get(id as usize).map_or("?", |name| name)
    }
}
