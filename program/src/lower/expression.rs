//! Expressions.

use ruff_python_ast::{self as py, ConversionFlag, Expr as PyExpr, InterpolatedStringElement, Number, Operator};
use ruff_text_size::{Ranged, TextRange};

use super::function::as_generator;
use super::{Lowerer, span, unsupported};
use crate::ast::{Argument, ArgumentKind, BinaryOp, CompareOp, ExprId, ExprKind, Format, List, UnaryOp};
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome};

/// Widest field of an f-string.
const WIDTH_MAX: u32 = 64;

impl Lowerer<'_> {
    pub(super) fn expression(&mut self, expr: &PyExpr) -> Outcome<ExprId> {
        self.enter(expr.range())?;
        let at = span(expr.range());
        let kind = self.kind(expr).map_err(|fault| fault.at(at))?;
        self.leave();
        Ok(self.push(kind, at))
    }

    fn kind(&mut self, expr: &PyExpr) -> Outcome<ExprKind> {
        Ok(match expr {
            PyExpr::NoneLiteral(_) => {
                self.count_constant();
                ExprKind::None
            }
            PyExpr::BooleanLiteral(literal) => {
                self.count_constant();
                ExprKind::Bool(literal.value)
            }
            PyExpr::EllipsisLiteral(_) => ExprKind::Ellipsis,
            PyExpr::NumberLiteral(literal) => self.number(literal)?,
            PyExpr::StringLiteral(literal) => {
                self.count_text(literal.value.to_str());
                ExprKind::Text(self.text(literal.value.to_str()))
            }
            PyExpr::FString(fstring) => self.fstring(fstring)?,
            PyExpr::Name(name) => ExprKind::Name(self.resolve(name.id.as_str(), name.range)?),
            PyExpr::BinOp(binary) => {
                let op = binary_op(binary.op, expr.range())?;
                let left = self.expression(&binary.left)?;
                ExprKind::Binary(op, left, self.expression(&binary.right)?)
            }
            PyExpr::UnaryOp(unary) => {
                let op = match unary.op {
                    py::UnaryOp::USub => UnaryOp::Neg,
                    py::UnaryOp::UAdd => UnaryOp::Pos,
                    py::UnaryOp::Not => UnaryOp::Not,
                    py::UnaryOp::Invert => return unsupported("`~`", expr, "use `1 - mask` for a mask"),
                };
                ExprKind::Unary(op, self.expression(&unary.operand)?)
            }
            PyExpr::BoolOp(boolean) => {
                let values = self.expressions(&boolean.values)?;
                match boolean.op {
                    py::BoolOp::And => ExprKind::And(values),
                    py::BoolOp::Or => ExprKind::Or(values),
                }
            }
            PyExpr::Compare(compare) => self.compare(compare)?,
            PyExpr::If(choice) => {
                let test = self.expression(&choice.test)?;
                let yes = self.expression(&choice.body)?;
                ExprKind::Conditional { test, yes, no: self.expression(&choice.orelse)? }
            }
            PyExpr::Call(call) => self.call(call)?,
            PyExpr::Attribute(attribute) => {
                let value = self.expression(&attribute.value)?;
                ExprKind::Attribute(value, self.name(attribute.attr.as_str()))
            }
            PyExpr::Subscript(subscript) => {
                let value = self.expression(&subscript.value)?;
                ExprKind::Subscript(value, self.index(&subscript.slice)?)
            }
            PyExpr::Tuple(tuple) => ExprKind::Tuple(self.elements(&tuple.elts)?),
            PyExpr::List(list) => ExprKind::List(self.elements(&list.elts)?),
            PyExpr::Dict(dict) => self.dict(dict)?,
            PyExpr::Lambda(lambda) => self.lambda(lambda)?,
            PyExpr::ListComp(list) => self.list_comprehension(list)?,
            PyExpr::DictComp(dict) => self.dict_comprehension(dict)?,
            refused => return refuse(refused),
        })
    }

    pub(super) fn expressions(&mut self, exprs: &[PyExpr]) -> Outcome<List> {
        let ids: Vec<u32> = exprs.iter().map(|expr| self.expression(expr)).collect::<Outcome<_>>()?;
        Ok(self.list(&ids))
    }

    /// Elements of a display, where `*values` may stand.
    fn elements(&mut self, elements: &[PyExpr]) -> Outcome<List> {
        let mut ids = Vec::with_capacity(elements.len());
        for element in elements {
            self.count_element(element);
            ids.push(match element {
                PyExpr::Starred(starred) => {
                    self.enter(starred.range)?;
                    let value = self.expression(&starred.value)?;
                    self.leave();
                    self.push(ExprKind::Spread(value), span(starred.range))
                }
                plain => self.expression(plain)?,
            });
        }
        Ok(self.list(&ids))
    }

    /// What stands in brackets: slices are possible, alone and in a tuple.
    pub(super) fn index(&mut self, index: &PyExpr) -> Outcome<ExprId> {
        match index {
            PyExpr::Slice(slice) => self.slice(slice),
            PyExpr::Tuple(tuple) => {
                self.enter(tuple.range)?;
                let ids: Vec<u32> = tuple.elts.iter().map(|element| self.index(element)).collect::<Outcome<_>>()?;
                self.leave();
                let list = self.list(&ids);
                Ok(self.push(ExprKind::Tuple(list), span(tuple.range)))
            }
            other => self.expression(other),
        }
    }

    fn slice(&mut self, slice: &py::ExprSlice) -> Outcome<ExprId> {
        self.enter(slice.range)?;
        let mut bounds = [0; 3];
        for (to, bound) in bounds.iter_mut().zip([&slice.lower, &slice.upper, &slice.step]) {
            *to = match bound {
                Some(bound) => self.expression(bound)?,
                None => self.push(ExprKind::None, span(slice.range)),
            };
        }
        self.leave();
        Ok(self.push(ExprKind::Slice(bounds), span(slice.range)))
    }

    fn number(&mut self, literal: &py::ExprNumberLiteral) -> Outcome<ExprKind> {
        self.count_number(literal.range);
        match &literal.value {
            Number::Int(int) => {
                match int.as_i64() {
                    Some(int) => Ok(ExprKind::Int(int)),
                    None => Err(Fault::new(Kind::Overflow, "integers have 64 bits here")
                        .hint("write it as a float, such as 1e20")),
                }
            }
            Number::Float(float) if float.is_finite() => Ok(ExprKind::Float(*float)),
            Number::Float(_) => Err(Fault::new(Kind::Overflow, "this float is beyond the range of 64-bit floats")),
            Number::Complex { .. } => unsupported("a complex number", literal, "use two floats"),
        }
    }

    fn compare(&mut self, compare: &py::ExprCompare) -> Outcome<ExprKind> {
        let first = self.expression(&compare.left)?;
        let mut rest = Vec::with_capacity(compare.ops.len());
        for (op, operand) in compare.ops.iter().zip(&compare.comparators) {
            let op = match op {
                py::CmpOp::Eq => CompareOp::Eq,
                py::CmpOp::NotEq => CompareOp::NotEq,
                py::CmpOp::Lt => CompareOp::Lt,
                py::CmpOp::LtE => CompareOp::LtE,
                py::CmpOp::Gt => CompareOp::Gt,
                py::CmpOp::GtE => CompareOp::GtE,
                py::CmpOp::Is => CompareOp::Is,
                py::CmpOp::IsNot => CompareOp::IsNot,
                py::CmpOp::In => CompareOp::In,
                py::CmpOp::NotIn => CompareOp::NotIn,
            };
            rest.push((op, self.expression(operand)?));
        }
        let list = List { start: self.ast.comparisons.len() as u32, len: rest.len() as u32 };
        self.ast.comparisons.extend(rest);
        Ok(ExprKind::Compare(first, list))
    }

    fn call(&mut self, call: &py::ExprCall) -> Outcome<ExprKind> {
        let callee = self.expression(&call.func)?;
        let (args, keywords) = (&call.arguments.args, &call.arguments.keywords);
        let mut arguments = Vec::with_capacity(args.len() + keywords.len());
        for argument in args {
            arguments.push(match argument {
                PyExpr::Starred(starred) => {
                    Argument { kind: ArgumentKind::Spread, value: self.expression(&starred.value)? }
                }
                argument => Argument {
                    kind: ArgumentKind::Positional,
                    value: match as_generator(argument) {
                        Some(generator) if args.len() == 1 && keywords.is_empty() => self.generator(generator)?,
                        _ => self.expression(argument)?,
                    },
                },
            });
        }
        for (i, keyword) in keywords.iter().enumerate() {
            let Some(name) = &keyword.arg else {
                return unsupported("`**` in a call", keyword, "write the arguments out: `f(a=d[\"a\"])`");
            };
            let earlier = keywords.iter().take(i).filter_map(|keyword| keyword.arg.as_ref());
            if earlier.into_iter().any(|earlier| earlier.as_str() == name.as_str()) {
                let message = format!("argument '{name}' is given twice");
                return Err(Fault::new(Kind::Syntax, message).at(span(keyword.range)));
            }
            let kind = ArgumentKind::Keyword(self.name(name.as_str()));
            arguments.push(Argument { kind, value: self.expression(&keyword.value)? });
        }
        let list = List { start: self.ast.arguments.len() as u32, len: arguments.len() as u32 };
        self.ast.arguments.extend(arguments);
        Ok(ExprKind::Call(callee, list))
    }

    fn dict(&mut self, dict: &py::ExprDict) -> Outcome<ExprKind> {
        let mut ids = Vec::with_capacity(2 * dict.items.len());
        for item in &dict.items {
            let Some(key) = &item.key else {
                return unsupported("`**` in a dict", &item.value, "use `d.update(other)`");
            };
            self.count_element(&item.value);
            ids.push(self.expression(key)?);
            ids.push(self.expression(&item.value)?);
        }
        Ok(ExprKind::Dict(self.list(&ids)))
    }

    fn fstring(&mut self, fstring: &py::ExprFString) -> Outcome<ExprKind> {
        let mut parts = Vec::new();
        for part in fstring.value.iter() {
            match part {
                py::FStringPart::Literal(literal) => self.literal_part(&literal.value, literal.range, &mut parts),
                py::FStringPart::FString(fstring) => {
                    for element in &fstring.elements {
                        match element {
                            InterpolatedStringElement::Literal(literal) => {
                                self.literal_part(&literal.value, literal.range, &mut parts);
                            }
                            InterpolatedStringElement::Interpolation(hole) => parts.push(self.hole(hole)?),
                        }
                    }
                }
            }
        }
        Ok(ExprKind::FString(self.list(&parts)))
    }

    fn literal_part(&mut self, text: &str, at: TextRange, parts: &mut Vec<u32>) {
        self.count_text(text);
        let text = self.text(text);
        parts.push(self.push(ExprKind::Text(text), span(at)));
    }

    fn hole(&mut self, hole: &py::InterpolatedElement) -> Outcome<ExprId> {
        if hole.debug_text.is_some() {
            return unsupported("`=` in an f-string", hole, "write the text out");
        }
        let mut format = Format { repr: false, width: 0, zeros: false };
        match hole.conversion {
            ConversionFlag::None | ConversionFlag::Str => {}
            ConversionFlag::Repr => format.repr = true,
            ConversionFlag::Ascii => return unsupported("`!a`", hole, "leave it out"),
        }
        if let Some(spec) = &hole.format_spec {
            let mut text = String::new();
            for element in &spec.elements {
                match element {
                    InterpolatedStringElement::Literal(literal) => text.push_str(&literal.value),
                    InterpolatedStringElement::Interpolation(nested) => {
                        return unsupported("a computed format", nested, "write the width out");
                    }
                }
            }
            let digits = text.strip_suffix('d').unwrap_or(&text);
            format.zeros = digits.len() > 1 && digits.starts_with('0');
            let width = if digits.is_empty() && text == "d" { Some(0) } else { digits.parse::<u32>().ok() };
            match width {
                Some(width) if width <= WIDTH_MAX && text.bytes().all(|b| b.is_ascii_digit() || b == b'd') => {
                    format.width = width;
                }
                _ => {
                    return unsupported(
                        &format!("the format `:{text}`"),
                        hole,
                        "widths of integers only, as in `{i:02d}`",
                    );
                }
            }
        }
        self.enter(hole.range)?;
        let value = self.expression(&hole.expression)?;
        self.leave();
        Ok(self.push(ExprKind::Formatted(value, format), span(hole.range)))
    }
}

/// The operators of arithmetic; those on bits are refused.
pub(super) fn binary_op(op: Operator, at: TextRange) -> Outcome<BinaryOp> {
    Ok(match op {
        Operator::Add => BinaryOp::Add,
        Operator::Sub => BinaryOp::Sub,
        Operator::Mult => BinaryOp::Mul,
        Operator::Div => BinaryOp::Div,
        Operator::FloorDiv => BinaryOp::FloorDiv,
        Operator::Mod => BinaryOp::Mod,
        Operator::Pow => BinaryOp::Pow,
        Operator::MatMult => BinaryOp::MatMul,
        Operator::LShift | Operator::RShift | Operator::BitAnd | Operator::BitOr | Operator::BitXor => {
            return unsupported(&format!("`{op}`"), at, "use `*`, `//`, `%`, `and`, `or`; multiply masks for tensors");
        }
    })
}

fn refuse<T>(expr: &PyExpr) -> Outcome<T> {
    let (what, hint) = match expr {
        PyExpr::Named(_) => ("`:=`", "assign on a line of its own"),
        PyExpr::Generator(_) => ("a generator here", "write a list: `[… for … in …]`"),
        PyExpr::Set(_) | PyExpr::SetComp(_) => ("a set", "use a dict or a list"),
        PyExpr::Yield(_) | PyExpr::YieldFrom(_) => ("`yield`", "return a list"),
        PyExpr::Await(_) => ("`await`", "call the function"),
        PyExpr::BytesLiteral(_) => ("a bytes literal", "use text"),
        PyExpr::TString(_) => ("a t-string", "use an f-string"),
        PyExpr::Starred(_) => ("`*` here", "spread values in calls, lists and tuples only"),
        PyExpr::Slice(_) => ("a slice here", "slices stand in brackets"),
        _ => ("this expression", "see the guide for what is"),
    };
    unsupported(what, expr, hint)
}
