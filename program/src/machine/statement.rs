//! Statements.

use super::Machine;
use crate::ast::{ExprId, Imported, List, StmtId, StmtKind, Target};
use crate::builtin::Home;
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, fail};
use crate::value::Value;

/// How a block ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flow {
    Next,
    Break,
    Continue,
    Return(Value),
}

impl Machine<'_> {
    pub(super) fn block(&mut self, scope: u32, block: List) -> Outcome<Flow> {
        let ast = self.ast;
        for &id in ast.ids(block) {
            match self.statement(scope, id)? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, scope: u32, id: StmtId) -> Outcome<Flow> {
        let Some(&statement) = self.ast.stmts.get(id as usize) else {
            return fail(Kind::Internal, "a statement that is not there");
        };
        self.statement_kind(scope, statement.kind).map_err(|fault| fault.at(statement.at))
    }

    fn statement_kind(&mut self, scope: u32, kind: StmtKind) -> Outcome<Flow> {
        self.burn(1)?;
        match kind {
            StmtKind::Expr(value) => {
                self.expression(scope, value)?;
            }
            StmtKind::Assign(targets, value) => {
                let value = self.expression(scope, value)?;
                let ast = self.ast;
                for &target in ast.ids(targets) {
                    self.assign(scope, target, value)?;
                }
            }
            StmtKind::Augment(target, op, value) => self.augment(scope, target, op, value)?,
            StmtKind::Def(place, function) => {
                let closure = self.closure(scope, function)?;
                self.store(scope, place, closure)?;
            }
            StmtKind::Return(value) => {
                return Ok(Flow::Return(match value {
                    Some(value) => self.expression(scope, value)?,
                    None => Value::None,
                }));
            }
            StmtKind::If { test, yes, no } => {
                let branch = if self.condition(scope, test)? { yes } else { no };
                return self.block(scope, branch);
            }
            StmtKind::For { target, items, body, otherwise } => {
                return self.each(scope, target, items, body, otherwise);
            }
            StmtKind::While { test, body, otherwise } => return self.repeat(scope, test, body, otherwise),
            StmtKind::Assert(test, message) => self.assert(scope, test, message)?,
            StmtKind::Import(place, imported) => {
                let value = match imported {
                    Imported::Math => Value::Module(Home::Math),
                    Imported::Cairn => Value::Module(Home::Cairn),
                    Imported::Builtin(builtin) => Value::Builtin(builtin),
                    Imported::Constant(value) => Value::Float(value),
                };
                self.store(scope, place, value)?;
            }
            StmtKind::Pass => {}
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn assert(&mut self, scope: u32, test: ExprId, message: Option<ExprId>) -> Outcome<()> {
        if self.condition(scope, test)? {
            return Ok(());
        }
        let message = match message {
            Some(message) => {
                let value = self.expression(scope, message)?;
                self.show(value)?
            }
            None => "the condition does not hold".to_owned(),
        };
        let at = self.ast.exprs.get(test as usize).map(|expr| expr.at).unwrap_or_default();
        Err(Fault::new(Kind::Assertion, message).at(at))
    }

    fn each(&mut self, scope: u32, target: u32, items: ExprId, body: List, otherwise: List) -> Outcome<Flow> {
        let items = self.expression(scope, items)?;
        let mut iterator = self.iterate(items)?;
        while let Some(item) = self.next_item(&mut iterator)? {
            self.assign(scope, target, item)?;
            match self.block(scope, body)? {
                Flow::Break => return Ok(Flow::Next),
                Flow::Return(value) => return Ok(Flow::Return(value)),
                Flow::Next | Flow::Continue => {}
            }
        }
        self.block(scope, otherwise)
    }

    fn repeat(&mut self, scope: u32, test: ExprId, body: List, otherwise: List) -> Outcome<Flow> {
        while self.condition(scope, test)? {
            // The loop itself takes a step, however little its test and body take.
            self.burn(1)?;
            match self.block(scope, body)? {
                Flow::Break => return Ok(Flow::Next),
                Flow::Return(value) => return Ok(Flow::Return(value)),
                Flow::Next | Flow::Continue => {}
            }
        }
        self.block(scope, otherwise)
    }

    pub(super) fn assign(&mut self, scope: u32, target: u32, value: Value) -> Outcome<()> {
        let Some(&(target, at)) = self.ast.targets.get(target as usize) else {
            return fail(Kind::Internal, "a target that is not there");
        };
        self.burn(1)?;
        match target {
            Target::Name(place) => self.store(scope, place, value),
            Target::Tuple(targets, starred) => self.unpack(scope, targets, starred, value),
            Target::Subscript(container, key) => {
                let container = self.expression(scope, container)?;
                let key = self.expression(scope, key)?;
                self.set_item(container, key, value)
            }
        }
        .map_err(|fault| fault.at(at))
    }

    fn unpack(&mut self, scope: u32, targets: List, starred: Option<u32>, value: Value) -> Outcome<()> {
        let wanted = targets.len as usize;
        let values = match value {
            Value::Tensor(..) => {
                return Err(Fault::new(Kind::Type, "a tensor cannot be unpacked")
                    .hint("use split(x, sizes, dim=…) or chunk(x, n, dim=…)"));
            }
            value => self.collect(value)?,
        };
        let fits = if starred.is_some() { values.len() + 1 >= wanted } else { values.len() == wanted };
        if !fits {
            return fail(Kind::Value, format!("{} values cannot be unpacked into {wanted} names", values.len()));
        }
        let ast = self.ast;
        let spare = values.len() + 1 - wanted.min(values.len() + 1);
        let mut next = 0;
        for (i, &target) in ast.ids(targets).iter().enumerate() {
            if starred == Some(i as u32) {
                let rest = values.get(next..next + spare).unwrap_or(&[]).to_vec();
                next += rest.len();
                let rest = self.new_list(rest)?;
                self.assign(scope, target, rest)?;
            } else if let Some(&value) = values.get(next) {
                next += 1;
                self.assign(scope, target, value)?;
            }
        }
        Ok(())
    }

    fn augment(&mut self, scope: u32, target: u32, op: crate::ast::BinaryOp, value: ExprId) -> Outcome<()> {
        let Some(&(target, at)) = self.ast.targets.get(target as usize) else {
            return fail(Kind::Internal, "a target that is not there");
        };
        match target {
            Target::Name(place) => {
                let old = self.load(scope, place).map_err(|fault| fault.at(at))?;
                let operand = self.expression(scope, value)?;
                let new = self.in_place(op, old, operand)?;
                self.store(scope, place, new)
            }
            Target::Subscript(container, key) => {
                let container = self.expression(scope, container)?;
                let key = self.expression(scope, key)?;
                let old = self.item(container, key).map_err(|fault| fault.at(at))?;
                let operand = self.expression(scope, value)?;
                let new = self.in_place(op, old, operand)?;
                self.set_item(container, key, new).map_err(|fault| fault.at(at))
            }
            Target::Tuple(..) => {
                Err(Fault::new(Kind::Syntax, "several targets cannot be changed at once by an operator").at(at))
            }
        }
    }

    /// `a += b`: a list is extended where it is, everything else is a new value.
    fn in_place(&mut self, op: crate::ast::BinaryOp, old: Value, operand: Value) -> Outcome<Value> {
        if let (Value::List(list), crate::ast::BinaryOp::Add) = (old, op) {
            for value in self.collect(operand)? {
                self.append(list, value)?;
            }
            return Ok(old);
        }
        self.binary(op, old, operand)
    }
}
