//! Calls: the program's functions, builtins and methods.

use super::statement::Flow;
use super::{Call, Machine};
use crate::ast::{ArgumentKind, Body, ExprId, ExprKind, Function, List, NameId};
use crate::builtin::{self, Home};
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, Span, fail, nearest};
use crate::value::{ObjectKind, Value};

/// The arguments of one call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) positional: Vec<Value>,
    pub(crate) keywords: Vec<(NameId, Value)>,
}

impl Arguments {
    pub(crate) fn of(positional: &[Value]) -> Self {
        Self { positional: positional.to_vec(), keywords: Vec::new() }
    }

    /// Sorts the arguments of a builtin into its parameters: `names` may give a parameter several names (`dim|axis`),
    /// the first `required` of them must be there.
    pub(crate) fn bind<const N: usize>(
        self,
        machine: &Machine<'_>,
        function: &str,
        names: [&str; N],
        required: usize,
    ) -> Outcome<[Option<Value>; N]> {
        let mut bound = [None; N];
        if self.positional.len() > N {
            let message = format!("{function}() takes at most {N} arguments, not {}", self.positional.len());
            return Err(Fault::new(Kind::Type, message).hint(signature(function, &names, required)));
        }
        for (to, value) in bound.iter_mut().zip(&self.positional) {
            *to = Some(*value);
        }
        for (name, value) in self.keywords {
            let name = machine.ast.name(name);
            let Some(at) = names.iter().position(|names| names.split('|').any(|known| known == name)) else {
                let fault = Fault::new(Kind::Type, format!("{function}() has no argument '{name}'"));
                let known = names.iter().flat_map(|names| names.split('|'));
                return Err(match nearest(name, known) {
                    Some(near) => fault.hint(format!("did you mean '{near}'?")),
                    None => fault.hint(signature(function, &names, required)),
                });
            };
            if let Some(slot) = bound.get_mut(at)
                && slot.replace(value).is_some()
            {
                return fail(Kind::Type, format!("{function}(): argument '{name}' is given twice"));
            }
        }
        if let Some(missing) = bound.iter().take(required).position(Option::is_none) {
            let name = names.get(missing).map_or("?", |names| names.split('|').next().unwrap_or(names));
            let message = format!("{function}() needs its argument '{name}'");
            return Err(Fault::new(Kind::Type, message).hint(signature(function, &names, required)));
        }
        Ok(bound)
    }

    /// The only argument.
    pub(crate) fn one(self, machine: &Machine<'_>, function: &str, name: &str) -> Outcome<Value> {
        let [value] = self.bind(machine, function, [name], 1)?;
        Ok(value.unwrap_or(Value::None))
    }

    pub(crate) fn two(self, machine: &Machine<'_>, function: &str, names: [&str; 2]) -> Outcome<[Value; 2]> {
        let bound = self.bind(machine, function, names, 2)?;
        Ok(bound.map(|value| value.unwrap_or(Value::None)))
    }
}

fn signature(function: &str, names: &[&str], required: usize) -> String {
    let shown: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(i, names)| {
            let name = names.split('|').next().unwrap_or(names);
            if i < required { name.to_owned() } else { format!("{name}=…") }
        })
        .collect();
    format!("the call is {function}({})", shown.join(", "))
}

impl Machine<'_> {
    pub(super) fn call_expression(
        &mut self,
        scope: u32,
        id: ExprId,
        callee: ExprId,
        arguments: List,
    ) -> Outcome<Value> {
        let at = self.ast.exprs.get(id as usize).map(|expr| expr.at).unwrap_or_default();
        // A method that is called at once needs no value of its own.
        if let Some(ExprKind::Attribute(value, name)) = self.ast.exprs.get(callee as usize).map(|expr| expr.kind) {
            self.burn(1)?;
            let receiver = self.expression(scope, value)?;
            if let Some(method) = builtin::method(receiver, self.ast.name(name)) {
                let mut arguments = self.arguments(scope, arguments)?;
                arguments.positional.insert(0, receiver);
                self.blame_call(id);
                return builtin::call(self, method, arguments);
            }
            let callee_at = self.ast.exprs.get(callee as usize).map(|expr| expr.at).unwrap_or_default();
            let callee = self.attribute(receiver, name).map_err(|fault| fault.at(callee_at))?;
            let arguments = self.arguments(scope, arguments)?;
            self.blame_call(id);
            return self.call(callee, arguments, at);
        }
        let callee = self.expression(scope, callee)?;
        let arguments = self.arguments(scope, arguments)?;
        self.blame_call(id);
        self.call(callee, arguments, at)
    }

    fn arguments(&mut self, scope: u32, list: List) -> Outcome<Arguments> {
        let ast = self.ast;
        let mut arguments = Arguments::default();
        for argument in ast.arguments.get(list.start as usize..(list.start + list.len) as usize).unwrap_or(&[]) {
            let value = self.expression(scope, argument.value)?;
            match argument.kind {
                ArgumentKind::Positional => arguments.positional.push(value),
                ArgumentKind::Spread => arguments.positional.extend(self.collect(value)?),
                ArgumentKind::Keyword(name) => arguments.keywords.push((name, value)),
            }
        }
        Ok(arguments)
    }

    /// Calls any value.
    pub(crate) fn call(&mut self, callee: Value, mut arguments: Arguments, at: Span) -> Outcome<Value> {
        match callee {
            Value::Function(id) => self.call_function(id, arguments, at),
            Value::Builtin(id) => builtin::call(self, id, arguments),
            Value::Method(id) => {
                let Some(&(receiver, method)) = self.heap.methods.get(id as usize) else {
                    return fail(Kind::Internal, "a method that is not there");
                };
                arguments.positional.insert(0, receiver);
                builtin::call(self, method, arguments)
            }
            other => fail(Kind::Type, format!("{} cannot be called", self.article(other))),
        }
    }

    fn call_function(&mut self, id: u32, arguments: Arguments, at: Span) -> Outcome<Value> {
        let ast = self.ast;
        let Some(closure) = self.heap.closures.get(id as usize).cloned() else {
            return fail(Kind::Internal, "a function that is not there");
        };
        let Some(function) = ast.functions.get(closure.function as usize) else {
            return fail(Kind::Internal, "a function that is not there");
        };
        if self.calls.len() >= self.limits.calls as usize {
            let message = format!("more than {} calls inside of each other", self.limits.calls);
            return Err(Fault::new(Kind::Recursion, message).hint("use a loop"));
        }
        let scope = self.new_scope(closure.scope, function.slots)?;
        self.place_arguments(scope, function, &closure.defaults, arguments)?;
        self.calls.push(Call { function: closure.function, at });
        let value = match function.body {
            Body::Expr(value) => self.expression(scope, value)?,
            Body::Block(block) => match self.block(scope, block)? {
                Flow::Return(value) => value,
                Flow::Next | Flow::Break | Flow::Continue => Value::None,
            },
        };
        self.calls.pop();
        Ok(value)
    }

    fn place_arguments(
        &mut self,
        scope: u32,
        function: &Function,
        defaults: &[Value],
        arguments: Arguments,
    ) -> Outcome<()> {
        let ast = self.ast;
        let name = ast.name(function.name);
        let (given, most) = (arguments.positional.len(), function.positional as usize);
        let base = self.heap.scopes.get(scope as usize).map_or(0, |scope| scope.base as usize);
        let (direct, rest) = arguments.positional.split_at(given.min(most));
        if function.rest.is_none() && !rest.is_empty() {
            return fail(Kind::Type, format!("{name}() takes at most {most} positional arguments, not {given}"));
        }
        let rest = match function.rest {
            Some(slot) => Some((slot as usize, self.new_tuple(rest)?)),
            None => None,
        };
        self.burn(function.parameters.len() as u64)?;
        let Some(slots) = self.heap.slots.get_mut(base..base + function.slots as usize) else {
            return fail(Kind::Internal, "a scope without its slots");
        };
        for (slot, &value) in slots.iter_mut().zip(direct) {
            *slot = value;
        }
        if let Some((slot, value)) = rest
            && let Some(to) = slots.get_mut(slot)
        {
            *to = value;
        }
        for (keyword, value) in arguments.keywords {
            let found = function.parameters.iter().position(|parameter| parameter.name == keyword);
            let Some(slot) = found.filter(|&slot| slot >= function.positional_only as usize) else {
                let fault = Fault::new(Kind::Type, format!("{name}() has no argument '{}'", ast.name(keyword)));
                let known = function.parameters.iter().map(|parameter| ast.name(parameter.name));
                return Err(match nearest(ast.name(keyword), known) {
                    Some(near) => fault.hint(format!("did you mean '{near}'?")),
                    None => fault,
                });
            };
            match slots.get_mut(slot) {
                Some(to) if *to == Value::Unbound => *to = value,
                _ => return fail(Kind::Type, format!("{name}(): argument '{}' is given twice", ast.name(keyword))),
            }
        }
        for (i, (parameter, default)) in function.parameters.iter().zip(defaults).enumerate() {
            if let Some(slot) = slots.get_mut(i)
                && *slot == Value::Unbound
            {
                if *default == Value::Unbound {
                    return fail(Kind::Type, format!("{name}() needs its argument '{}'", ast.name(parameter.name)));
                }
                *slot = *default;
            }
        }
        Ok(())
    }

    /// `value.name`.
    pub(super) fn attribute(&mut self, value: Value, name: NameId) -> Outcome<Value> {
        let ast = self.ast;
        let name = ast.name(name);
        match value {
            Value::Module(home) => {
                if let Some(constant) = builtin::constant(home, name) {
                    return Ok(Value::Float(constant));
                }
                return match builtin::find(home, name) {
                    Some(builtin) => Ok(Value::Builtin(builtin)),
                    None => Err(crate::lower::unknown(home, name)),
                };
            }
            Value::Object(id) => {
                let object = self.object(id)?;
                if let Some(&(_, value)) = object.fields.iter().find(|(field, _)| &**field == name) {
                    let step = object.kind == ObjectKind::Step;
                    return if step { self.step_field(name, value) } else { Ok(value) };
                }
                let fault = Fault::new(Kind::Attribute, format!("{} has no '{name}'", self.article(value)));
                let fields = object.fields.iter().map(|(field, _)| &**field);
                return Err(match nearest(name, fields.clone()) {
                    Some(near) => fault.hint(format!("did you mean '{near}'?")),
                    None => fault.hint(format!("it has {}", fields.collect::<Vec<_>>().join(", "))),
                });
            }
            Value::Tensor(..) => {
                if let Some(value) = self.tensor_attribute(value, name)? {
                    return Ok(value);
                }
            }
            _ => {}
        }
        if let Some(method) = builtin::method(value, name) {
            return self.new_method(value, method);
        }
        let message = format!("{} has no attribute '{name}'", self.article(value));
        let fault = Fault::new(Kind::Attribute, message);
        if let Some(hint) = builtin::elsewhere(name).filter(|_| matches!(value, Value::Tensor(..))) {
            return Err(fault.hint(hint));
        }
        Err(match nearest(name, builtin::method_names(value)) {
            Some(near) => fault.hint(format!("did you mean '{near}'?")),
            None if builtin::find(Home::Cairn, name).is_some() => fault.hint(format!("call `{name}(…)` from `cairn`")),
            None => fault,
        })
    }

    /// A value's type with its article, for messages.
    pub(crate) fn article(&self, value: Value) -> String {
        let name = match self.type_name(value) {
            "None" => return "None".to_owned(),
            "Tensor" => "tensor",
            name => name,
        };
        let article = if name.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
        format!("{article} {name}")
    }
}
