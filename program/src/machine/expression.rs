//! Expressions.

use std::fmt::Write as _;

use super::Machine;
use crate::ast::{ComprehensionKind, Expr, ExprId, ExprKind, List, Reference, UnaryOp};
use crate::diagnostic::Kind;
use crate::fault::{Outcome, fail};
use crate::value::{Closure, Value};

impl Machine<'_> {
    pub(crate) fn expression(&mut self, scope: u32, id: ExprId) -> Outcome<Value> {
        let Some(&Expr { kind, at }) = self.ast.exprs.get(id as usize) else {
            return fail(Kind::Internal, "an expression that is not there");
        };
        match self.burn(1) {
            Ok(()) => self.kind(scope, id, kind),
            Err(fault) => Err(fault),
        }
        .map_err(|fault| fault.at(at))
    }

    /// One small arm for each kind: what is long stands in a function of its own, so that this frame stays small.
    fn kind(&mut self, scope: u32, id: ExprId, kind: ExprKind) -> Outcome<Value> {
        match kind {
            ExprKind::None => Ok(Value::None),
            ExprKind::Ellipsis => Ok(Value::Ellipsis),
            ExprKind::Bool(bool) => Ok(Value::Bool(bool)),
            ExprKind::Int(int) => Ok(Value::Int(int)),
            ExprKind::Float(float) => Ok(Value::Float(float)),
            // The text constants are the first texts of the heap.
            ExprKind::Text(text) => Ok(Value::Text(text)),
            ExprKind::Name(Reference::Variable(place)) => self.load(scope, place),
            ExprKind::Name(Reference::Builtin(builtin)) => Ok(Value::Builtin(builtin)),
            ExprKind::Binary(op, left, right) => {
                let left = self.expression(scope, left)?;
                let right = self.expression(scope, right)?;
                self.blame(id);
                self.binary(op, left, right)
            }
            ExprKind::Unary(op, operand) => {
                let operand = self.expression(scope, operand)?;
                self.blame(id);
                match op {
                    UnaryOp::Neg => self.negate(operand),
                    UnaryOp::Pos => self.plus(operand),
                    UnaryOp::Not => Ok(Value::Bool(!self.truth(operand)?)),
                }
            }
            ExprKind::And(values) => self.junction(scope, values, false),
            ExprKind::Or(values) => self.junction(scope, values, true),
            ExprKind::Compare(first, rest) => self.comparisons(scope, id, first, rest),
            ExprKind::Conditional { test, yes, no } => {
                let branch = if self.condition(scope, test)? { yes } else { no };
                self.expression(scope, branch)
            }
            ExprKind::Call(callee, arguments) => self.call_expression(scope, id, callee, arguments),
            ExprKind::Attribute(value, name) => {
                let value = self.expression(scope, value)?;
                self.blame(id);
                self.attribute(value, name)
            }
            ExprKind::Subscript(value, index) => {
                let value = self.expression(scope, value)?;
                let index = self.expression(scope, index)?;
                self.blame(id);
                self.item(value, index)
            }
            ExprKind::Slice([start, stop, step]) => {
                let bounds =
                    [self.expression(scope, start)?, self.expression(scope, stop)?, self.expression(scope, step)?];
                self.new_slice(bounds)
            }
            ExprKind::Tuple(elements) => {
                let values = self.values(scope, elements)?;
                self.new_tuple(&values)
            }
            ExprKind::List(elements) => {
                let values = self.values(scope, elements)?;
                self.new_list(values)
            }
            ExprKind::Dict(entries) => self.dict_display(scope, entries),
            ExprKind::Lambda(function) => self.closure(scope, function),
            ExprKind::Comprehension(comprehension) => self.comprehension(scope, comprehension),
            ExprKind::FString(parts) => self.fstring(scope, parts),
            ExprKind::Spread(_) | ExprKind::Formatted(..) => fail(Kind::Internal, "a part outside of its whole"),
        }
    }

    /// Graph nodes built from now on come from this expression's line.
    fn blame(&mut self, id: ExprId) {
        if let Some(expr) = self.ast.exprs.get(id as usize) {
            self.tracer.blame(expr.at.start);
        }
    }

    pub(super) fn blame_call(&mut self, id: ExprId) {
        self.blame(id);
    }

    pub(super) fn condition(&mut self, scope: u32, test: ExprId) -> Outcome<bool> {
        let value = self.expression(scope, test)?;
        self.truth(value).map_err(|fault| match self.ast.exprs.get(test as usize) {
            Some(expr) => fault.at(expr.at),
            None => fault,
        })
    }

    /// `and`, `or`: the first value whose truth decides, else the last.
    fn junction(&mut self, scope: u32, values: List, decides: bool) -> Outcome<Value> {
        let ast = self.ast;
        let mut value = Value::None;
        let ids = ast.ids(values);
        for (i, &id) in ids.iter().enumerate() {
            value = self.expression(scope, id)?;
            if i + 1 < ids.len() && self.truth(value)? == decides {
                break;
            }
        }
        Ok(value)
    }

    fn comparisons(&mut self, scope: u32, id: ExprId, first: ExprId, rest: List) -> Outcome<Value> {
        let ast = self.ast;
        let mut left = self.expression(scope, first)?;
        let chain = ast.comparisons.get(rest.start as usize..(rest.start + rest.len) as usize).unwrap_or(&[]);
        for (i, &(op, operand)) in chain.iter().enumerate() {
            let right = self.expression(scope, operand)?;
            self.blame(id);
            let result = self.compare(op, left, right)?;
            if i + 1 == chain.len() {
                return Ok(result);
            }
            if !self.truth(result)? {
                return Ok(result);
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    /// The elements of a display or index, spread ones included.
    pub(super) fn values(&mut self, scope: u32, elements: List) -> Outcome<Vec<Value>> {
        let ast = self.ast;
        let mut values = Vec::with_capacity(elements.len as usize);
        for &id in ast.ids(elements) {
            match ast.exprs.get(id as usize).map(|expr| expr.kind) {
                Some(ExprKind::Spread(spread)) => {
                    let spread = self.expression(scope, spread)?;
                    values.extend(self.collect(spread)?);
                }
                _ => values.push(self.expression(scope, id)?),
            }
        }
        Ok(values)
    }

    fn dict_display(&mut self, scope: u32, entries: List) -> Outcome<Value> {
        let ast = self.ast;
        let dict = self.new_dict()?;
        for pair in ast.ids(entries).chunks_exact(2) {
            if let &[key, value] = pair {
                let key = self.expression(scope, key)?;
                let value = self.expression(scope, value)?;
                self.dict_set(dict, key, value)?;
            }
        }
        Ok(Value::Dict(dict))
    }

    pub(super) fn closure(&mut self, scope: u32, function: u32) -> Outcome<Value> {
        let ast = self.ast;
        let Some(signature) = ast.functions.get(function as usize) else {
            return fail(Kind::Internal, "a function that is not there");
        };
        let mut defaults = Vec::new();
        for parameter in &signature.parameters {
            defaults.push(match parameter.default {
                Some(default) => self.expression(scope, default)?,
                None => Value::Unbound,
            });
        }
        self.charge_values(defaults.len())?;
        self.heap.closures.push(Closure { function, defaults: defaults.into(), scope });
        Ok(Value::Function(self.heap.closures.len() as u32 - 1))
    }

    fn comprehension(&mut self, scope: u32, id: u32) -> Outcome<Value> {
        let ast = self.ast;
        let Some(comprehension) = ast.comprehensions.get(id as usize) else {
            return fail(Kind::Internal, "a comprehension that is not there");
        };
        let Some(first) = comprehension.clauses.first() else {
            return fail(Kind::Internal, "a comprehension without items");
        };
        let items = self.expression(scope, first.items)?;
        let inner = self.new_scope(scope, comprehension.slots)?;
        let result = match comprehension.kind {
            ComprehensionKind::Dict(..) => Value::Dict(self.new_dict()?),
            ComprehensionKind::List(_) | ComprehensionKind::Generator(_) => self.new_list(Vec::new())?,
        };
        self.clause(inner, id, 0, items, result)?;
        match (comprehension.kind, result) {
            (ComprehensionKind::Generator(_), Value::List(list)) => {
                let values = std::mem::take(self.list_mut(list)?);
                self.new_items(values, false, "generator")
            }
            _ => Ok(result),
        }
    }

    /// Clause `at` and those inside of it, over `items`.
    fn clause(&mut self, scope: u32, id: u32, at: usize, items: Value, result: Value) -> Outcome<()> {
        let ast = self.ast;
        let Some((comprehension, clause)) =
            ast.comprehensions.get(id as usize).and_then(|c| Some((c, c.clauses.get(at)?)))
        else {
            return fail(Kind::Internal, "a clause that is not there");
        };
        let mut iterator = self.iterate(items)?;
        'items: while let Some(item) = self.next_item(&mut iterator)? {
            self.assign(scope, clause.target, item)?;
            for &test in ast.ids(clause.tests) {
                if !self.condition(scope, test)? {
                    continue 'items;
                }
            }
            if let Some(next) = comprehension.clauses.get(at + 1) {
                let items = self.expression(scope, next.items)?;
                self.clause(scope, id, at + 1, items, result)?;
                continue;
            }
            match (comprehension.kind, result) {
                (ComprehensionKind::Dict(key, value), Value::Dict(dict)) => {
                    let key = self.expression(scope, key)?;
                    let value = self.expression(scope, value)?;
                    self.dict_set(dict, key, value)?;
                }
                (ComprehensionKind::List(value) | ComprehensionKind::Generator(value), Value::List(list)) => {
                    let value = self.expression(scope, value)?;
                    self.append(list, value)?;
                }
                _ => return fail(Kind::Internal, "a comprehension without a result"),
            }
        }
        Ok(())
    }

    fn fstring(&mut self, scope: u32, parts: List) -> Outcome<Value> {
        let ast = self.ast;
        let mut text = String::new();
        for &part in ast.ids(parts) {
            match ast.exprs.get(part as usize).map(|expr| (expr.kind, expr.at)) {
                Some((ExprKind::Formatted(value, format), at)) => {
                    self.burn(1)?;
                    let value = self.expression(scope, value)?;
                    let shown = if format.repr { self.repr(value) } else { self.show(value) };
                    let shown = shown.map_err(|fault| fault.at(at))?;
                    let width = format.width as usize;
                    match value {
                        _ if width == 0 => text.push_str(&shown),
                        Value::Int(_) if format.zeros => pad_zeros(&mut text, &shown, width),
                        Value::Int(_) => {
                            let _ = write!(text, "{shown:>width$}");
                        }
                        Value::Text(_) if !format.zeros => {
                            let _ = write!(text, "{shown:<width$}");
                        }
                        _ => return fail(Kind::Type, format!("a width does not go with {}", self.type_name(value))),
                    }
                }
                Some((ExprKind::Text(literal), _)) => text.push_str(&self.text(literal)?),
                _ => return fail(Kind::Internal, "a part that is not there"),
            }
            // The text so far is bounded by what it will be charged.
            if text.len() as u64 > self.memory.left {
                self.charge(text.len() as u64)?;
            }
        }
        self.new_text(&text)
    }
}

/// Zeros go between the sign and the digits.
fn pad_zeros(text: &mut String, shown: &str, width: usize) {
    let (sign, digits) = shown.strip_prefix('-').map_or(("", shown), |digits| ("-", digits));
    text.push_str(sign);
    text.extend(std::iter::repeat_n('0', width.saturating_sub(shown.len())));
    text.push_str(digits);
}
