//! Statements.

use ruff_python_ast::{self as py, Expr as PyExpr, Stmt as PyStmt};
use ruff_text_size::{Ranged, TextRange};

use super::expression::binary_op;
use super::{Lowerer, ScopeKind, span, unsupported};
use crate::ast::{List, StmtId, StmtKind, Target};
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome};

impl Lowerer<'_> {
    pub(super) fn block(&mut self, block: &[PyStmt]) -> Outcome<List> {
        let mut ids = Vec::with_capacity(block.len());
        for (i, statement) in block.iter().enumerate() {
            if i == 0 && is_docstring(statement) {
                continue;
            }
            self.enter(statement.range())?;
            let lowered = self.statement(statement).map_err(|fault| fault.at(span(statement.range())))?;
            self.leave();
            ids.extend(lowered);
        }
        Ok(self.list(&ids))
    }

    /// One statement; an import of several names becomes several.
    fn statement(&mut self, statement: &PyStmt) -> Outcome<Vec<StmtId>> {
        let at = statement.range();
        let kind = match statement {
            PyStmt::Expr(expr) => StmtKind::Expr(self.expression(&expr.value)?),
            PyStmt::Assign(assign) => {
                let value = self.expression(&assign.value)?;
                let targets: Vec<u32> =
                    assign.targets.iter().map(|target| self.target(target)).collect::<Outcome<_>>()?;
                StmtKind::Assign(self.list(&targets), value)
            }
            PyStmt::AnnAssign(assign) => match &assign.value {
                Some(value) => {
                    let value = self.expression(value)?;
                    let target = self.target(&assign.target)?;
                    StmtKind::Assign(self.list(&[target]), value)
                }
                None => StmtKind::Pass,
            },
            PyStmt::AugAssign(assign) => {
                let op = binary_op(assign.op, at)?;
                let target = self.target(&assign.target)?;
                StmtKind::Augment(target, op, self.expression(&assign.value)?)
            }
            PyStmt::FunctionDef(function) => return Ok(vec![self.definition(function)?]),
            PyStmt::Return(result) => {
                if !self.scopes.iter().any(|scope| scope.kind == ScopeKind::Function) {
                    return Err(Fault::new(Kind::Syntax, "`return` outside of a function"));
                }
                StmtKind::Return(result.value.as_deref().map(|value| self.expression(value)).transpose()?)
            }
            PyStmt::If(choice) => self.choice(choice)?,
            PyStmt::For(each) => self.each(each)?,
            PyStmt::While(repeat) => {
                let test = self.expression(&repeat.test)?;
                let body = self.loop_body(&repeat.body)?;
                StmtKind::While { test, body, otherwise: self.block(&repeat.orelse)? }
            }
            PyStmt::Assert(assert) => {
                let test = self.expression(&assert.test)?;
                StmtKind::Assert(test, assert.msg.as_deref().map(|message| self.expression(message)).transpose()?)
            }
            PyStmt::Import(import) => return self.import(import),
            PyStmt::ImportFrom(import) => return self.import_from(import),
            PyStmt::Pass(_) => StmtKind::Pass,
            PyStmt::Break(_) if self.loops > 0 => StmtKind::Break,
            PyStmt::Continue(_) if self.loops > 0 => StmtKind::Continue,
            PyStmt::Break(_) => return Err(Fault::new(Kind::Syntax, "`break` outside of a loop")),
            PyStmt::Continue(_) => return Err(Fault::new(Kind::Syntax, "`continue` outside of a loop")),
            refused => return refuse(refused),
        };
        Ok(vec![self.push_statement(kind, span(at))])
    }

    fn loop_body(&mut self, body: &[PyStmt]) -> Outcome<List> {
        self.loops += 1;
        let body = self.block(body)?;
        self.loops -= 1;
        Ok(body)
    }

    fn each(&mut self, each: &py::StmtFor) -> Outcome<StmtKind> {
        if each.is_async {
            return unsupported("`async`", each, "use a plain `for`");
        }
        let items = self.expression(&each.iter)?;
        let target = self.target(&each.target)?;
        let body = self.loop_body(&each.body)?;
        Ok(StmtKind::For { target, items, body, otherwise: self.block(&each.orelse)? })
    }

    fn choice(&mut self, choice: &py::StmtIf) -> Outcome<StmtKind> {
        if let PyExpr::Compare(compare) = &*choice.test
            && let PyExpr::Name(name) = &*compare.left
            && name.id.as_str() == "__name__"
        {
            return unsupported(
                "`if __name__ == …`",
                choice.test.range(),
                "the file is not run as a script: define `model`, and the engine trains it",
            );
        }
        let test = self.expression(&choice.test)?;
        let yes = self.block(&choice.body)?;
        let no = self.otherwise(&choice.elif_else_clauses)?;
        Ok(StmtKind::If { test, yes, no })
    }

    /// `elif` and `else` clauses as nested choices, built from the last one.
    fn otherwise(&mut self, clauses: &[py::ElifElseClause]) -> Outcome<List> {
        let mut lowered = Vec::with_capacity(clauses.len());
        for clause in clauses {
            let test = clause.test.as_ref().map(|test| self.expression(test)).transpose()?;
            lowered.push((test, self.block(&clause.body)?, clause.range));
        }
        let mut rest = List::default();
        for (test, body, at) in lowered.into_iter().rev() {
            rest = match test {
                None => body,
                Some(test) => {
                    let nested = self.push_statement(StmtKind::If { test, yes: body, no: rest }, span(at));
                    self.list(&[nested])
                }
            };
        }
        Ok(rest)
    }

    pub(super) fn target(&mut self, target: &PyExpr) -> Outcome<u32> {
        self.enter(target.range())?;
        let lowered = match target {
            PyExpr::Name(name) => Target::Name(self.own_place(name.id.as_str())?),
            PyExpr::Tuple(tuple) => self.target_list(&tuple.elts)?,
            PyExpr::List(list) => self.target_list(&list.elts)?,
            PyExpr::Subscript(subscript) => {
                let value = self.expression(&subscript.value)?;
                Target::Subscript(value, self.index(&subscript.slice)?)
            }
            PyExpr::Attribute(attribute) => {
                return unsupported("assignment to an attribute", attribute, "keep values in a dict");
            }
            PyExpr::Starred(starred) => {
                return Err(
                    Fault::new(Kind::Syntax, "a starred target must be in a tuple or list").at(span(starred.range))
                );
            }
            other => {
                return unsupported("this assignment target", other, "assign to names, `d[key]` or tuples of them");
            }
        };
        self.leave();
        Ok(self.push_target(lowered, span(target.range())))
    }

    fn target_list(&mut self, elements: &[PyExpr]) -> Outcome<Target> {
        let (mut ids, mut starred) = (Vec::with_capacity(elements.len()), None);
        for (i, element) in elements.iter().enumerate() {
            ids.push(match element {
                PyExpr::Starred(star) => {
                    if starred.replace(i as u32).is_some() {
                        return Err(Fault::new(Kind::Syntax, "more than one starred target").at(span(star.range)));
                    }
                    self.target(&star.value)?
                }
                plain => self.target(plain)?,
            });
        }
        Ok(Target::Tuple(self.list(&ids), starred))
    }
}

fn is_docstring(statement: &PyStmt) -> bool {
    matches!(statement, PyStmt::Expr(expr) if matches!(&*expr.value, PyExpr::StringLiteral(_)))
}

fn refuse<T>(statement: &PyStmt) -> Outcome<T> {
    let at = statement.range();
    let first_line = |at: TextRange| TextRange::at(at.start(), at.len().min(5.into()));
    let (what, hint) = match statement {
        PyStmt::ClassDef(_) => ("`class`", "write plain functions; keep values in dicts and pass them as arguments"),
        PyStmt::Try(_) => ("`try`", "there are no exceptions: use `assert`, and test before you index"),
        PyStmt::Raise(_) => ("`raise`", "use `assert condition, message`"),
        PyStmt::With(_) => ("`with`", "use stop_gradient(x) for no_grad; there is nothing to open or close"),
        PyStmt::Global(_) => ("`global`", "return the value instead, or keep it in a dict"),
        PyStmt::Nonlocal(_) => ("`nonlocal`", "return the value instead, or keep it in a dict"),
        PyStmt::Delete(_) => ("`del`", "leave it: nothing needs to be freed"),
        PyStmt::Match(_) => ("`match`", "use if and elif"),
        PyStmt::TypeAlias(_) => ("`type`", "leave type aliases out"),
        _ => ("this statement", "see the guide for what is"),
    };
    unsupported(what, first_line(at), hint)
}
