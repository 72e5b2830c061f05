//! The evaluator: a tree walk with exact fuel and memory.
//!
//! Everything that takes time pays fuel before it is done, and everything that takes space pays memory before it is
//! allocated; what either costs is a property of the program, not of the machine. Values live in arenas ([`Heap`]).
//! Start at [`Machine::run`].
//!
//! *Invariant:* recursion is bounded by `Limits::calls` times `Limits::depth`; nothing here reads a clock, a file, or
//! the allocator.

mod arithmetic;
mod call;
mod compare;
mod expression;
mod iterate;
pub(crate) mod number;
mod sequence;
mod statement;
mod text;

use std::rc::Rc;

use crate::ast::{Ast, Place};
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, Span, fail};
use crate::limits::Limits;
use crate::tensor::Tracer;
use crate::value::{Dict, Heap, Items, Key, Mark, Object, Range, Scope, Value};

pub(crate) use call::Arguments;
pub(crate) use sequence::span_len;

/// Bytes that each object is charged besides its contents.
const OBJECT_BYTES: u64 = 32;
/// Bytes of one value.
const VALUE_BYTES: u64 = 16;
/// Bytes of one dict entry: key, value, place.
const ENTRY_BYTES: u64 = 96;
/// Scope of the module.
pub(crate) const MODULE: u32 = 0;

/// One call under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) function: u32,
    pub(crate) at: Span,
}

/// What the evaluator is about to run out of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    pub(crate) left: u64,
    pub(crate) limit: u64,
}

impl Meter {
    pub(crate) fn new(limit: u64) -> Self {
        Self { left: limit, limit }
    }
}

/// The state of an evaluation.
pub(crate) struct Machine<'p> {
    pub(crate) ast: &'p Ast,
    pub(crate) limits: &'p Limits,
    pub(crate) fuel: Meter,
    pub(crate) memory: Meter,
    pub(crate) heap: Heap,
    /// Calls under way; left as it is by a refusal, so that it can be shown.
    pub(crate) calls: Vec<Call>,
    /// While a schedule is evaluated: what is older must not change.
    pub(crate) frozen: Option<Mark>,
    pub(crate) tracer: Tracer,
}

impl<'p> Machine<'p> {
    pub(crate) fn new(ast: &'p Ast, limits: &'p Limits) -> Outcome<Self> {
        let mut machine = Self {
            ast,
            limits,
            fuel: Meter::new(limits.fuel),
            memory: Meter::new(limits.memory),
            heap: Heap::default(),
            calls: Vec::new(),
            frozen: None,
            tracer: Tracer::default(),
        };
        for text in &ast.texts {
            machine.new_text(text)?;
        }
        machine.new_scope(MODULE, ast.slots)?;
        Ok(machine)
    }

    /// Evaluates the module.
    pub(crate) fn run(&mut self) -> Outcome<()> {
        self.block(MODULE, self.ast.body).map(drop)
    }

    /// The module's variable of this name, if it has a value.
    pub(crate) fn global(&self, name: &str) -> Option<Value> {
        let slot = *self.ast.globals.get(name)?;
        self.heap.slots.get(slot as usize).copied().filter(|value| *value != Value::Unbound)
    }

    // ---- meters

    /// Pays for work that is about to be done.
    #[inline]
    pub(crate) fn burn(&mut self, steps: u64) -> Outcome<()> {
        match self.fuel.left.checked_sub(steps) {
            Some(left) => {
                self.fuel.left = left;
                Ok(())
            }
            None => self.out_of_fuel(),
        }
    }

    #[cold]
    fn out_of_fuel(&mut self) -> Outcome<()> {
        let message = format!("the program takes more than {} evaluation steps", self.fuel.limit);
        Err(Fault::new(Kind::Fuel, message)
            .hint("shorten its loops: only the graph it builds is trained, not the program"))
    }

    /// Pays for space that is about to be allocated.
    #[inline]
    pub(crate) fn charge(&mut self, bytes: u64) -> Outcome<()> {
        match self.memory.left.checked_sub(bytes) {
            Some(left) => {
                self.memory.left = left;
                Ok(())
            }
            None => fail(Kind::Memory, format!("the program's values take more than {} bytes", self.memory.limit)),
        }
    }

    /// Pays for an object of `count` values, in steps and bytes.
    fn charge_values(&mut self, count: usize) -> Outcome<()> {
        let count = count as u64;
        self.burn(count)?;
        self.charge(OBJECT_BYTES + VALUE_BYTES.saturating_mul(count))
    }

    // ---- scopes

    /// A scope whose variables have no values.
    pub(crate) fn new_scope(&mut self, parent: u32, slots: u32) -> Outcome<u32> {
        self.charge_values(slots as usize)?;
        let base = self.heap.slots.len() as u32;
        self.heap.slots.resize(self.heap.slots.len() + slots as usize, Value::Unbound);
        self.heap.scopes.push(Scope { parent, base });
        Ok(self.heap.scopes.len() as u32 - 1)
    }

    fn slot(&self, scope: u32, place: Place) -> usize {
        let mut scope = scope as usize;
        for _ in 0..place.hops {
            scope = self.heap.scopes.get(scope).map_or(0, |scope| scope.parent as usize);
        }
        self.heap.scopes.get(scope).map_or(0, |scope| scope.base as usize) + place.slot as usize
    }

    pub(crate) fn load(&self, scope: u32, place: Place) -> Outcome<Value> {
        match self.heap.slots.get(self.slot(scope, place)) {
            Some(&Value::Unbound) | None => self.unbound(place),
            Some(&value) => Ok(value),
        }
    }

    #[cold]
    fn unbound(&self, place: Place) -> Outcome<Value> {
        let name = self.ast.name(place.name);
        // A module that will redefine a builtin has the builtin until then.
        match crate::builtin::find(crate::builtin::Home::Python, name) {
            Some(builtin) => Ok(Value::Builtin(builtin)),
            None => fail(Kind::Name, format!("'{name}' is read before it has a value")),
        }
    }

    pub(crate) fn store(&mut self, scope: u32, place: Place, value: Value) -> Outcome<()> {
        let slot = self.slot(scope, place);
        match self.heap.slots.get_mut(slot) {
            Some(to) => *to = value,
            None => return fail(Kind::Internal, "a variable without a place"),
        }
        Ok(())
    }

    // ---- objects

    pub(crate) fn new_text(&mut self, text: &str) -> Outcome<Value> {
        self.burn(text.len() as u64 / 64)?;
        self.charge(OBJECT_BYTES + text.len() as u64)?;
        self.heap.texts.push(text.into());
        Ok(Value::Text(self.heap.texts.len() as u32 - 1))
    }

    pub(crate) fn new_list(&mut self, values: Vec<Value>) -> Outcome<Value> {
        self.charge_values(values.len())?;
        self.heap.lists.push(values);
        Ok(Value::List(self.heap.lists.len() as u32 - 1))
    }

    pub(crate) fn new_tuple(&mut self, values: &[Value]) -> Outcome<Value> {
        self.charge_values(values.len())?;
        self.heap.tuples.push(values.into());
        Ok(Value::Tuple(self.heap.tuples.len() as u32 - 1))
    }

    pub(crate) fn new_dict(&mut self) -> Outcome<u32> {
        self.charge(2 * OBJECT_BYTES)?;
        self.heap.dicts.push(Dict::default());
        Ok(self.heap.dicts.len() as u32 - 1)
    }

    pub(crate) fn new_range(&mut self, range: Range) -> Outcome<Value> {
        self.charge(OBJECT_BYTES)?;
        self.heap.ranges.push(range);
        Ok(Value::Range(self.heap.ranges.len() as u32 - 1))
    }

    /// An iterator over values, or a view that can be gone over again.
    pub(crate) fn new_items(&mut self, values: Vec<Value>, view: bool, name: &'static str) -> Outcome<Value> {
        let Value::List(list) = self.new_list(values)? else {
            return fail(Kind::Internal, "a list that is none");
        };
        self.charge(OBJECT_BYTES)?;
        self.heap.items.push(Items { list, taken: 0, view, name });
        Ok(Value::Items(self.heap.items.len() as u32 - 1))
    }

    pub(crate) fn new_slice(&mut self, bounds: [Value; 3]) -> Outcome<Value> {
        self.charge(OBJECT_BYTES + 3 * VALUE_BYTES)?;
        self.heap.slices.push(bounds);
        Ok(Value::Slice(self.heap.slices.len() as u32 - 1))
    }

    pub(crate) fn new_method(&mut self, receiver: Value, builtin: u16) -> Outcome<Value> {
        self.charge(OBJECT_BYTES)?;
        self.heap.methods.push((receiver, builtin));
        Ok(Value::Method(self.heap.methods.len() as u32 - 1))
    }

    pub(crate) fn new_object(&mut self, object: Object) -> Outcome<Value> {
        self.charge_values(2 * object.fields.len())?;
        self.heap.objects.push(object);
        Ok(Value::Object(self.heap.objects.len() as u32 - 1))
    }

    // ---- contents

    pub(crate) fn text(&self, id: u32) -> Outcome<Rc<str>> {
        self.heap.texts.get(id as usize).cloned().ok_or_else(|| lost("text"))
    }

    pub(crate) fn list(&self, id: u32) -> Outcome<&Vec<Value>> {
        self.heap.lists.get(id as usize).ok_or_else(|| lost("list"))
    }

    pub(crate) fn tuple(&self, id: u32) -> Outcome<Rc<[Value]>> {
        self.heap.tuples.get(id as usize).cloned().ok_or_else(|| lost("tuple"))
    }

    pub(crate) fn dict(&self, id: u32) -> Outcome<&Dict> {
        self.heap.dicts.get(id as usize).ok_or_else(|| lost("dict"))
    }

    pub(crate) fn range(&self, id: u32) -> Outcome<Range> {
        self.heap.ranges.get(id as usize).copied().ok_or_else(|| lost("range"))
    }

    pub(crate) fn object(&self, id: u32) -> Outcome<&Object> {
        self.heap.objects.get(id as usize).ok_or_else(|| lost("object"))
    }

    /// A list that is about to be changed.
    pub(crate) fn list_mut(&mut self, id: u32) -> Outcome<&mut Vec<Value>> {
        if self.frozen.is_some_and(|mark| (id as usize) < mark.lists) {
            return Err(changed());
        }
        self.heap.lists.get_mut(id as usize).ok_or_else(|| lost("list"))
    }

    fn dict_mut(&mut self, id: u32) -> Outcome<&mut Dict> {
        if self.frozen.is_some_and(|mark| (id as usize) < mark.dicts) {
            return Err(changed());
        }
        self.heap.dicts.get_mut(id as usize).ok_or_else(|| lost("dict"))
    }

    pub(crate) fn append(&mut self, id: u32, value: Value) -> Outcome<()> {
        self.burn(1)?;
        self.charge(VALUE_BYTES)?;
        self.list_mut(id)?.push(value);
        Ok(())
    }

    /// The key that a value is.
    pub(crate) fn key(&mut self, value: Value) -> Outcome<Key> {
        match value {
            Value::Int(int) => Ok(Key::Int(int)),
            Value::Bool(bool) => Ok(Key::Int(i64::from(bool))),
            Value::Text(id) => {
                let text = self.text(id)?;
                self.burn(text.len() as u64 / 64)?;
                Ok(Key::Text(text))
            }
            other => {
                let message = format!("the keys of a dict are str or int, not {}", self.type_name(other));
                Err(Fault::new(Kind::Type, message).hint("join a tuple into text: f\"{a}.{b}\""))
            }
        }
    }

    pub(crate) fn dict_get(&mut self, id: u32, key: Value) -> Outcome<Option<Value>> {
        let key = self.key(key)?;
        self.burn(1)?;
        let dict = self.dict(id)?;
        Ok(dict.places.get(&key).and_then(|&place| dict.entries.get(place)).map(|entry| entry.1))
    }

    pub(crate) fn dict_set(&mut self, id: u32, key: Value, value: Value) -> Outcome<()> {
        let place = self.key(key)?;
        self.burn(1)?;
        self.charge(ENTRY_BYTES)?;
        let dict = self.dict_mut(id)?;
        let next = dict.entries.len();
        match *dict.places.entry(place).or_insert(next) {
            at if at == next => dict.entries.push((key, value)),
            at => {
                if let Some(entry) = dict.entries.get_mut(at) {
                    entry.1 = value;
                }
            }
        }
        Ok(())
    }

    /// Removes a key; the order of the others stays.
    pub(crate) fn dict_remove(&mut self, id: u32, key: Value) -> Outcome<Option<Value>> {
        let key = self.key(key)?;
        self.burn(1 + self.dict(id)?.entries.len() as u64)?;
        let dict = self.dict_mut(id)?;
        let Some(at) = dict.places.remove(&key) else { return Ok(None) };
        dict.places.values_mut().filter(|place| **place > at).for_each(|place| *place -= 1);
        Ok(Some(dict.entries.remove(at).1))
    }

    /// The name of a value's type, as messages show it.
    pub(crate) fn type_name(&self, value: Value) -> &'static str {
        match value {
            Value::Unbound | Value::None => "None",
            Value::Ellipsis => "ellipsis",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) => "str",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::Range(_) => "range",
            Value::Items(id) => self.heap.items.get(id as usize).map_or("iterator", |items| items.name),
            Value::Slice(_) => "slice",
            Value::Function(_) | Value::Builtin(_) | Value::Method(_) => "function",
            Value::Module(_) => "module",
            Value::Tensor(..) => "Tensor",
            Value::Object(id) => self.heap.objects.get(id as usize).map_or("object", |object| object.kind.name()),
        }
    }

    /// Python's truth of a value.
    pub(crate) fn truth(&self, value: Value) -> Outcome<bool> {
        Ok(match value {
            Value::None | Value::Unbound => false,
            Value::Bool(bool) => bool,
            Value::Int(int) => int != 0,
            Value::Float(float) => float != 0.0,
            Value::Text(id) => !self.text(id)?.is_empty(),
            Value::List(id) => !self.list(id)?.is_empty(),
            Value::Tuple(id) => !self.tuple(id)?.is_empty(),
            Value::Dict(id) => !self.dict(id)?.entries.is_empty(),
            Value::Range(id) => self.range(id)?.len > 0,
            Value::Tensor(..) => {
                return Err(Fault::new(
                    Kind::Type,
                    "a tensor has no truth value: it has no numbers while the graph is built",
                )
                .hint("use where(mask, a, b) for a choice that depends on data"));
            }
            Value::Ellipsis
            | Value::Items(_)
            | Value::Slice(_)
            | Value::Function(_)
            | Value::Builtin(_)
            | Value::Method(_)
            | Value::Module(_)
            | Value::Object(_) => true,
        })
    }
}

#[cold]
fn lost(what: &str) -> Box<Fault> {
    Fault::new(Kind::Internal, format!("a {what} that is not there"))
}

#[cold]
fn changed() -> Box<Fault> {
    Fault::new(Kind::Value, "a schedule changes something outside of itself")
        .hint("a schedule is evaluated alone for each step; compute what it needs from its arguments")
}
