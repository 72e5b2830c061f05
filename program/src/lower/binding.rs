//! Which names a scope binds: Python's rule that a name assigned anywhere in a function is local to all of it.

use ruff_python_ast::{Expr, Stmt};
use ruff_text_size::Ranged;

use super::{Lowerer, Scope, unsupported};
use crate::fault::Outcome;

/// Names that the training language gives a meaning to, or that Python code must not redefine.
const RESERVED: &[&str] = &["__name__", "__file__", "__builtins__", "__debug__"];

impl Lowerer<'_> {
    pub(super) fn bind_block(&mut self, block: &[Stmt], scope: &mut Scope) -> Outcome<()> {
        for statement in block {
            self.bind_statement(statement, scope)?;
        }
        Ok(())
    }

    fn bind_statement(&mut self, statement: &Stmt, scope: &mut Scope) -> Outcome<()> {
        match statement {
            Stmt::Assign(assign) => {
                for target in &assign.targets {
                    self.bind_target(target, scope)?;
                }
            }
            Stmt::AugAssign(assign) => self.bind_target(&assign.target, scope)?,
            Stmt::AnnAssign(assign) => self.bind_target(&assign.target, scope)?,
            Stmt::FunctionDef(function) => self.bind(function.name.as_str(), function.name.range, scope)?,
            Stmt::For(each) => {
                self.bind_target(&each.target, scope)?;
                self.bind_block(&each.body, scope)?;
                self.bind_block(&each.orelse, scope)?;
            }
            Stmt::While(repeat) => {
                self.bind_block(&repeat.body, scope)?;
                self.bind_block(&repeat.orelse, scope)?;
            }
            Stmt::If(choice) => {
                self.bind_block(&choice.body, scope)?;
                for clause in &choice.elif_else_clauses {
                    self.bind_block(&clause.body, scope)?;
                }
            }
            Stmt::Import(import) => {
                for alias in &import.names {
                    self.bind(alias.asname.as_ref().unwrap_or(&alias.name).as_str(), alias.range, scope)?;
                }
            }
            Stmt::ImportFrom(import) => {
                for alias in &import.names {
                    self.bind(alias.asname.as_ref().unwrap_or(&alias.name).as_str(), alias.range, scope)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn bind_target(&mut self, target: &Expr, scope: &mut Scope) -> Outcome<()> {
        match target {
            Expr::Name(name) => self.bind(name.id.as_str(), name.range, scope)?,
            Expr::Starred(starred) => self.bind_target(&starred.value, scope)?,
            Expr::Tuple(tuple) => {
                for element in &tuple.elts {
                    self.bind_target(element, scope)?;
                }
            }
            Expr::List(list) => {
                for element in &list.elts {
                    self.bind_target(element, scope)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn bind(&mut self, name: &str, at: impl Ranged, scope: &mut Scope) -> Outcome<()> {
        if RESERVED.contains(&name) {
            return unsupported(&format!("`{name}`"), at, "choose another name");
        }
        let id = self.name(name);
        scope.bind(id);
        Ok(())
    }
}
