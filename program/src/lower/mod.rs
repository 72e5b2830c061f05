//! From the parser's tree to our own: the subset is enforced, names become slots, literals are counted.
//!
//! Everything the training language refuses about a program's *text* is refused here, with its place and a hint; what
//! depends on values is refused by the evaluator. Start at [`lower`].
//!
//! *Invariant:* only this folder (and the gate and the knobs) sees the parser's types. Recursion is bounded by
//! `Limits::depth`.

mod binding;
mod expression;
mod function;
mod import;
mod literal;
mod statement;

use std::collections::BTreeMap;

pub(crate) use import::unknown;
use ruff_python_ast as py;
use ruff_text_size::{Ranged, TextRange};

use crate::ast::{Ast, Expr, ExprId, ExprKind, List, NameId, Place, Reference, Stmt, StmtId, StmtKind, Target};
use crate::builtin;
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, Span, fail, nearest};
use crate::limits::Limits;

pub(crate) fn span(range: TextRange) -> Span {
    Span { start: range.start().to_u32(), end: range.end().to_u32() }
}

/// Lowers a module.
pub(crate) fn lower(module: &py::ModModule, source: &str, limits: &Limits) -> Outcome<Ast> {
    let mut lowerer = Lowerer {
        source,
        limits,
        ast: Ast::default(),
        names: BTreeMap::new(),
        texts: BTreeMap::new(),
        scopes: Vec::new(),
        depth: 0,
        nodes: 0,
        loops: 0,
    };
    let mut scope = Scope::new(ScopeKind::Module);
    lowerer.bind_block(&module.body, &mut scope)?;
    lowerer.scopes.push(scope);
    let body = lowerer.block(&module.body)?;
    let scope = lowerer.scopes.pop().unwrap_or_else(|| Scope::new(ScopeKind::Module));
    let mut ast = lowerer.ast;
    (ast.body, ast.slots) = (body, scope.slots());
    ast.globals = scope.order.iter().zip(0..).map(|(&id, slot)| (ast.name(id).into(), slot)).collect();
    Ok(ast)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ScopeKind {
    Module,
    Function,
    Comprehension,
}

/// The variables of one module, function or comprehension.
struct Scope {
    kind: ScopeKind,
    slots: BTreeMap<NameId, u32>,
    order: Vec<NameId>,
}

impl Scope {
    fn new(kind: ScopeKind) -> Self {
        Self { kind, slots: BTreeMap::new(), order: Vec::new() }
    }

    fn slots(&self) -> u32 {
        self.order.len() as u32
    }

    /// The slot of a name, a new one if it has none.
    fn bind(&mut self, name: NameId) -> u32 {
        let next = self.slots();
        let slot = *self.slots.entry(name).or_insert(next);
        if slot == next {
            self.order.push(name);
        }
        slot
    }
}

struct Lowerer<'s> {
    source: &'s str,
    limits: &'s Limits,
    ast: Ast,
    names: BTreeMap<Box<str>, NameId>,
    texts: BTreeMap<Box<str>, u32>,
    scopes: Vec<Scope>,
    depth: u32,
    nodes: u32,
    /// Loops of the current function that the current statement is in.
    loops: u32,
}

impl Lowerer<'_> {
    /// Counts a node, one level further down; `leave` when its children are done.
    fn enter(&mut self, at: TextRange) -> Outcome<()> {
        self.depth += 1;
        self.nodes += 1;
        if self.depth > self.limits.depth {
            let message = format!("nesting deeper than {} levels", self.limits.depth);
            return Err(Fault::new(Kind::Limit, message).hint("give parts of it names of their own").at(span(at)));
        }
        if self.nodes > self.limits.syntax_nodes {
            let message = format!("the program has more than {} syntax nodes", self.limits.syntax_nodes);
            return Err(Fault::new(Kind::Limit, message).at(span(at)));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    fn name(&mut self, name: &str) -> NameId {
        if let Some(&id) = self.names.get(name) {
            return id;
        }
        let id = self.ast.names.len() as NameId;
        self.ast.names.push(name.into());
        self.names.insert(name.into(), id);
        id
    }

    fn text(&mut self, text: &str) -> u32 {
        if let Some(&id) = self.texts.get(text) {
            return id;
        }
        let id = self.ast.texts.len() as u32;
        self.ast.texts.push(text.into());
        self.texts.insert(text.into(), id);
        id
    }

    fn list(&mut self, ids: &[u32]) -> List {
        let start = self.ast.ids.len() as u32;
        self.ast.ids.extend_from_slice(ids);
        List { start, len: ids.len() as u32 }
    }

    fn push(&mut self, kind: ExprKind, at: Span) -> ExprId {
        self.ast.exprs.push(Expr { kind, at });
        self.ast.exprs.len() as ExprId - 1
    }

    fn push_statement(&mut self, kind: StmtKind, at: Span) -> StmtId {
        self.ast.stmts.push(Stmt { kind, at });
        self.ast.stmts.len() as StmtId - 1
    }

    fn push_target(&mut self, target: Target, at: Span) -> u32 {
        self.ast.targets.push((target, at));
        self.ast.targets.len() as u32 - 1
    }

    /// What a name stands for where it is read.
    fn resolve(&mut self, name: &str, at: TextRange) -> Outcome<Reference> {
        let id = self.name(name);
        for (hops, scope) in self.scopes.iter().rev().enumerate() {
            if let Some(&slot) = scope.slots.get(&id) {
                return Ok(Reference::Variable(Place { hops: hops as u32, slot, name: id }));
            }
        }
        if let Some(builtin) = builtin::find(builtin::Home::Python, name) {
            return Ok(Reference::Builtin(builtin));
        }
        Err(self.unknown_name(name).at(span(at)))
    }

    /// The variable of the innermost scope with this name.
    fn own_place(&mut self, name: &str) -> Outcome<Place> {
        let id = self.name(name);
        match self.scopes.last().and_then(|scope| scope.slots.get(&id)) {
            Some(&slot) => Ok(Place { hops: 0, slot, name: id }),
            None => fail(Kind::Internal, format!("'{name}' was not bound")),
        }
    }

    fn unknown_name(&self, name: &str) -> Box<Fault> {
        let fault = Fault::new(Kind::Name, format!("name '{name}' is not defined"));
        let hint = match name {
            "print" | "input" | "open" | "breakpoint" => {
                return Fault::new(Kind::Unsupported, format!("`{name}` is not part of the training language")).hint(
                    "the program only builds a graph and can read or write nothing; use `assert` to check shapes",
                );
            }
            "torch" | "np" | "numpy" | "jax" | "jnp" | "F" | "nn" | "tf" => {
                "tensor operations come from `from cairn import …`, names follow PyTorch".to_owned()
            }
            "set" | "frozenset" | "bytes" | "complex" | "type" | "object" | "super" | "getattr" | "setattr"
            | "hasattr" | "isinstance" | "issubclass" | "eval" | "exec" | "compile" | "globals" | "locals" | "id"
            | "hash" | "iter" | "next" | "format" | "repr" | "__name__" | "__file__" | "__import__" => {
                return Fault::new(Kind::Unsupported, format!("`{name}` is not part of the training language"))
                    .hint("values are None, bool, int, float, str, list, tuple, dict, range, functions and tensors");
            }
            _ if builtin::find(builtin::Home::Cairn, name).is_some() => format!("add `from cairn import {name}`"),
            _ if builtin::find(builtin::Home::Math, name).is_some() => format!("use `math.{name}` after `import math`"),
            _ => {
                let bound = self.scopes.iter().flat_map(|scope| &scope.order);
                let mut candidates: Vec<&str> = bound.map(|&id| self.ast.name(id)).collect();
                for builtin in builtin::names(builtin::Home::Python) {
                    candidates.push(builtin);
                }
                match nearest(name, candidates) {
                    Some(near) => format!("did you mean '{near}'?"),
                    None => match nearest(name, builtin::names(builtin::Home::Cairn)) {
                        Some(near) => format!("did you mean `{near}`, from `from cairn import {near}`?"),
                        None => return fault,
                    },
                }
            }
        };
        fault.hint(hint)
    }
}

/// A refusal of a construct.
fn unsupported<T>(what: &str, at: impl Ranged, hint: &str) -> Outcome<T> {
    let message = format!("{what} is not part of the training language");
    Err(Fault::new(Kind::Unsupported, message).hint(hint).at(span(at.range())))
}
