//! `def`, `lambda` and comprehensions: the things with scopes of their own.

use ruff_python_ast::{self as py, Expr as PyExpr};
use ruff_text_size::Ranged;

use super::{Lowerer, Scope, ScopeKind, span, unsupported};
use crate::ast::{
    Body, Clause, Comprehension, ComprehensionKind, ExprId, ExprKind, Function, Parameter, StmtId, StmtKind,
};
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome};

/// A signature whose default values are lowered, in the scope around the function.
struct Signature {
    parameters: Vec<Parameter>,
    positional: u32,
    positional_only: u32,
    rest: Option<u32>,
    scope: Scope,
}

impl Lowerer<'_> {
    pub(super) fn definition(&mut self, def: &py::StmtFunctionDef) -> Outcome<StmtId> {
        if let Some(decorator) = def.decorator_list.first() {
            return unsupported("a decorator", decorator, "call the wrapper yourself: `f = wrap(f)`");
        }
        if def.is_async {
            return unsupported("`async`", &def.name, "use a plain `def`");
        }
        if let Some(types) = &def.type_params {
            return unsupported("a type parameter", &**types, "leave type parameters out");
        }
        let place = self.own_place(def.name.as_str())?;
        let mut signature = self.signature(&def.parameters)?;
        self.bind_block(&def.body, &mut signature.scope)?;
        let name = self.name(def.name.as_str());
        let function = self.function(name, signature, |lowerer| Ok(Body::Block(lowerer.block(&def.body)?)))?;
        Ok(self.push_statement(StmtKind::Def(place, function), span(def.name.range)))
    }

    pub(super) fn lambda(&mut self, lambda: &py::ExprLambda) -> Outcome<ExprKind> {
        let signature = match &lambda.parameters {
            Some(parameters) => self.signature(parameters)?,
            None => Signature {
                parameters: Vec::new(),
                positional: 0,
                positional_only: 0,
                rest: None,
                scope: Scope::new(ScopeKind::Function),
            },
        };
        let name = self.name("<lambda>");
        let body = |lowerer: &mut Self| Ok(Body::Expr(lowerer.expression(&lambda.body)?));
        Ok(ExprKind::Lambda(self.function(name, signature, body)?))
    }

    fn function(
        &mut self,
        name: u32,
        signature: Signature,
        body: impl FnOnce(&mut Self) -> Outcome<Body>,
    ) -> Outcome<u32> {
        let Signature { parameters, positional, positional_only, rest, scope } = signature;
        self.scopes.push(scope);
        let loops = std::mem::take(&mut self.loops);
        let body = body(self)?;
        self.loops = loops;
        let slots = self.scopes.pop().map_or(0, |scope| scope.slots());
        self.ast.functions.push(Function { name, parameters, positional, positional_only, rest, slots, body });
        Ok(self.ast.functions.len() as u32 - 1)
    }

    fn signature(&mut self, parameters: &py::Parameters) -> Outcome<Signature> {
        if let Some(keywords) = &parameters.kwarg {
            return unsupported("`**` in a signature", &**keywords, "name the parameters, or pass a dict");
        }
        let mut scope = Scope::new(ScopeKind::Function);
        let mut lowered = Vec::new();
        let groups = [&parameters.posonlyargs, &parameters.args, &parameters.kwonlyargs];
        for parameter in groups.into_iter().flatten() {
            let default = parameter.default.as_deref().map(|default| self.expression(default)).transpose()?;
            let name = self.parameter(&parameter.parameter, &mut scope)?;
            lowered.push(Parameter { name, default });
        }
        let rest = match &parameters.vararg {
            Some(rest) => {
                self.parameter(rest, &mut scope)?;
                Some(lowered.len() as u32)
            }
            None => None,
        };
        let positional_only = parameters.posonlyargs.len() as u32;
        let positional = positional_only + parameters.args.len() as u32;
        Ok(Signature { parameters: lowered, positional, positional_only, rest, scope })
    }

    fn parameter(&mut self, parameter: &py::Parameter, scope: &mut Scope) -> Outcome<u32> {
        let id = self.name(parameter.name.as_str());
        let before = scope.slots();
        self.bind(parameter.name.as_str(), parameter.range, scope)?;
        if scope.slots() == before {
            let message = format!("parameter '{}' is named twice", parameter.name);
            return Err(Fault::new(Kind::Syntax, message).at(span(parameter.range)));
        }
        Ok(id)
    }

    pub(super) fn comprehension(
        &mut self,
        generators: &[py::Comprehension],
        result: impl FnOnce(&mut Self) -> Outcome<ComprehensionKind>,
    ) -> Outcome<ExprKind> {
        let mut scope = Scope::new(ScopeKind::Comprehension);
        for generator in generators {
            if generator.is_async {
                return unsupported("`async`", generator, "use a plain `for`");
            }
            self.bind_target(&generator.target, &mut scope)?;
        }
        let mut clauses = Vec::with_capacity(generators.len());
        let mut scope = Some(scope);
        for generator in generators {
            // The first items are evaluated outside, as in Python.
            let items = self.expression(&generator.iter)?;
            if let Some(scope) = scope.take() {
                self.scopes.push(scope);
            }
            let target = self.target(&generator.target)?;
            let tests: Vec<ExprId> = generator.ifs.iter().map(|test| self.expression(test)).collect::<Outcome<_>>()?;
            clauses.push(Clause { target, items, tests: self.list(&tests) });
        }
        let kind = result(self)?;
        let slots = self.scopes.pop().map_or(0, |scope| scope.slots());
        self.ast.comprehensions.push(Comprehension { kind, clauses, slots });
        Ok(ExprKind::Comprehension(self.ast.comprehensions.len() as u32 - 1))
    }

    /// A generator expression, which only a call's sole argument may be.
    pub(super) fn generator(&mut self, generator: &py::ExprGenerator) -> Outcome<ExprId> {
        self.enter(generator.range())?;
        let kind = self.comprehension(&generator.generators, |lowerer| {
            Ok(ComprehensionKind::Generator(lowerer.expression(&generator.elt)?))
        })?;
        self.leave();
        Ok(self.push(kind, span(generator.range())))
    }

    pub(super) fn list_comprehension(&mut self, list: &py::ExprListComp) -> Outcome<ExprKind> {
        self.comprehension(&list.generators, |lowerer| Ok(ComprehensionKind::List(lowerer.expression(&list.elt)?)))
    }

    pub(super) fn dict_comprehension(&mut self, dict: &py::ExprDictComp) -> Outcome<ExprKind> {
        let Some(key) = dict.key.as_deref() else {
            return unsupported("`**` in a comprehension", dict, "write `key: value`");
        };
        self.comprehension(&dict.generators, |lowerer| {
            let key = lowerer.expression(key)?;
            Ok(ComprehensionKind::Dict(key, lowerer.expression(&dict.value)?))
        })
    }
}

/// Whether an expression is a generator expression.
pub(super) fn as_generator(expr: &PyExpr) -> Option<&py::ExprGenerator> {
    if let PyExpr::Generator(generator) = expr { Some(generator) } else { None }
}
