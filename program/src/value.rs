//! Values and the arenas they live in.
//!
//! *Invariant:* a [`Value`] is `Copy` and names its contents by index, so nothing recursive is ever copied or dropped.

use std::collections::BTreeMap;
use std::rc::Rc;

/// A value of the language.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    /// A variable that has no value yet; never seen by a program.
    Unbound,
    None,
    Ellipsis,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(u32),
    List(u32),
    Tuple(u32),
    Dict(u32),
    Range(u32),
    /// A one-time iterator or a view of a dict.
    Items(u32),
    Slice(u32),
    Function(u32),
    Builtin(u16),
    /// A method with its receiver.
    Method(u32),
    /// Module `math` or `cairn`.
    Module(crate::builtin::Home),
    /// A node of the graph under construction; the first number tells graphs apart.
    Tensor(u32, u32),
    /// An optimiser, group, phase or step.
    Object(u32),
}

/// A key of a dict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Int(i64),
    Text(Rc<str>),
}

/// Entries in the order of insertion, and where each key stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dict {
    pub(crate) places: BTreeMap<Key, usize>,
    pub(crate) entries: Vec<(Value, Value)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) len: i64,
}

impl Range {
    /// Element `i`, which is below `len`.
    pub(crate) fn get(self, i: i64) -> i64 {
        self.start.wrapping_add(self.step.wrapping_mul(i))
    }
}

/// What `zip`, `enumerate`, `items()` and the like give.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Items {
    /// The list of all of them.
    pub(crate) list: u32,
    /// How many were taken.
    pub(crate) taken: usize,
    /// A view starts again each time; an iterator does not.
    pub(crate) view: bool,
    pub(crate) name: &'static str,
}

/// A function with its defaults and the scope it was made in.
#[derive(Clone, Debug)]
pub(crate) struct Closure {
    pub(crate) function: u32,
    pub(crate) defaults: Rc<[Value]>,
    pub(crate) scope: u32,
}

/// The variables of one scope: a run of slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) parent: u32,
    pub(crate) base: u32,
}

/// Named values of a kind that only builtins make.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) kind: ObjectKind,
    /// Byte of the source where it was made.
    pub(crate) at: u32,
    pub(crate) fields: Vec<(Rc<str>, Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    Optimiser(Rule),
    Group,
    Phase,
    Step,
}

/// How an optimiser updates a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    AdamW,
    Sgd,
    Lion,
    Muon,
    Custom,
}

impl ObjectKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            ObjectKind::Optimiser(_) => "optimiser",
            ObjectKind::Group => "group",
            ObjectKind::Phase => "phase",
            ObjectKind::Step => "step",
        }
    }
}

/// All arenas.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    pub(crate) texts: Vec<Rc<str>>,
    pub(crate) lists: Vec<Vec<Value>>,
    pub(crate) tuples: Vec<Rc<[Value]>>,
    pub(crate) dicts: Vec<Dict>,
    pub(crate) ranges: Vec<Range>,
    pub(crate) items: Vec<Items>,
    pub(crate) slices: Vec<[Value; 3]>,
    pub(crate) closures: Vec<Closure>,
    pub(crate) methods: Vec<(Value, u16)>,
    pub(crate) objects: Vec<Object>,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) slots: Vec<Value>,
}

/// How full the arenas were at some moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    texts: usize,
    pub(crate) lists: usize,
    tuples: usize,
    pub(crate) dicts: usize,
    ranges: usize,
    pub(crate) items: usize,
    slices: usize,
    closures: usize,
    methods: usize,
    objects: usize,
    scopes: usize,
    pub(crate) slots: usize,
}

impl Heap {
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            texts: self.texts.len(),
            lists: self.lists.len(),
            tuples: self.tuples.len(),
            dicts: self.dicts.len(),
            ranges: self.ranges.len(),
            items: self.items.len(),
            slices: self.slices.len(),
            closures: self.closures.len(),
            methods: self.methods.len(),
            objects: self.objects.len(),
            scopes: self.scopes.len(),
            slots: self.slots.len(),
        }
    }

    /// Forgets everything younger than a mark. Only right where nothing older has been changed since.
    pub(crate) fn release(&mut self, mark: &Mark) {
        self.texts.truncate(mark.texts);
        self.lists.truncate(mark.lists);
        self.tuples.truncate(mark.tuples);
        self.dicts.truncate(mark.dicts);
        self.ranges.truncate(mark.ranges);
        self.items.truncate(mark.items);
        self.slices.truncate(mark.slices);
        self.closures.truncate(mark.closures);
        self.methods.truncate(mark.methods);
        self.objects.truncate(mark.objects);
        self.scopes.truncate(mark.scopes);
        self.slots.truncate(mark.slots);
    }
}
