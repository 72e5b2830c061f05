//! One kernel: its WGSL text, what it is bound to, and how many workgroups it takes.
//!
//! The text names no length: lengths, offsets and constants are words of the **arguments**, so that one compiled pipeline
//! serves all shapes that are computed alike. Word 0 is the zero that float operations are guarded with, see
//! [`super::wgsl`].
//!
//! *Invariant:* a kernel writes each element from one invocation, and never reads what it is bound to for writing by
//! another invocation's hand.

use std::fmt::Write as _;

use super::wgsl;

/// Most words of a kernel's arguments: 1 KiB, a fraction of any device's uniform binding.
pub(super) const ARGUMENTS_MAX: usize = 256;
/// Most buffers of a kernel, so that it runs on every device of WebGPU's default limits.
pub(super) const BUFFERS_MAX: usize = 8;
/// Most workgroups along an axis.
const GROUPS_MAX: u32 = 65_535;
/// Workgroups along the first axis where there are more than one axis may have.
pub(super) const GROUPS_WIDE: u32 = 32_768;

/// A buffer, before it is settled which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    /// Parameter (or, counted on, state) before the step.
    Old(u32),
    /// Parameter (or state) after the step.
    New(u32),
    /// A part of the batch.
    Input(u8),
    /// What the host tells about this step: see [`super::plan::Feed`].
    Feed,
    /// A tensor of the plan.
    Tensor(u32),
    /// All parameters and states after the step.
    State,
    /// What the device tells of each step of a burst: bits of the loss, first element of [`Place::State`] out of range.
    Report,
}

/// A tensor, or a slice of one, as a kernel sees it: row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Where it stands.
    pub(super) place: Place,
    /// Its first element there.
    pub(super) offset: usize,
    /// Elements from its place for one slice of the batch to that for the next.
    pub(super) advance: usize,
    /// Axis lengths.
    pub(super) shape: Vec<u32>,
}

impl View {
    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().map(|&n| n as usize).product()
    }

    /// Length of the last axis.
    pub(super) fn last(&self) -> usize {
        self.shape.last().map_or(1, |&n| n as usize)
    }

    /// Whether groups of four elements, counted from its first, are aligned: it may be read as `vec4`.
    pub(super) fn by_four(&self) -> bool {
        self.offset.is_multiple_of(4) && self.advance.is_multiple_of(4)
    }
}

/// A word of a kernel's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// This.
    Plain(u32),
    /// `first` for the first slice of the batch, `advance` more for each after it.
    Slice {
        /// For the first slice.
        first: u32,
        /// From one to the next.
        advance: u32,
    },
    /// 1 for the first slice of the batch, else 0.
    IsFirst,
    /// 1 for the last slice of the batch, else 0.
    IsLast,
}

impl Word {
    /// The word for one of `slices` slices.
    pub(super) fn of(self, slice: usize, slices: usize) -> u32 {
        match self {
            Self::Plain(word) => word,
            Self::Slice { first, advance } => first.wrapping_add(advance.wrapping_mul(slice as u32)),
            Self::IsFirst => u32::from(slice == 0),
            Self::IsLast => u32::from(slice + 1 == slices),
        }
    }
}

/// What a kernel is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    /// Where.
    pub(super) place: Place,
    /// Whether the kernel may write it.
    pub(super) write: bool,
    /// WGSL type of an element.
    element: &'static str,
    /// Whether it is declared as atomic.
    atomic: bool,
}

/// A bound tensor's names in the text.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    /// The array.
    pub(super) name: String,
    /// Index of the tensor's first element, an expression.
    pub(super) first: String,
}

impl Bound {
    /// The element at an index, an expression of type `u32`.
    pub(super) fn at(&self, index: impl std::fmt::Display) -> String {
        format!("{}[{} + ({index})]", self.name, self.first)
    }
}

/// WGSL type of floats or integers that are read one or four at a time.
fn element(integers: bool, by: usize) -> &'static str {
    match (integers, by) {
        (false, 4) => "vec4<f32>",
        (false, _) => "f32",
        (true, 4) => "vec4<i32>",
        (true, _) => "i32",
    }
}

/// A kernel under construction, and ready.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// Its name, for people.
    pub(super) label: &'static str,
    /// Bindings 1, 2, …; binding 0 has the arguments.
    pub(super) bindings: Vec<Binding>,
    /// The arguments.
    pub(super) words: Vec<Word>,
    /// Workgroups along the three axes.
    pub(super) groups: [u32; 3],
    /// Rough number of operations of the whole kernel, for the length of submissions.
    pub(super) work: u64,
    /// Bytes of all that it is bound to: what it moves at least, if it reads everything once.
    pub(super) bytes: u64,
    /// Invocations of a workgroup.
    workgroup: [u32; 3],
    /// Declarations of its own: workgroup memory, functions.
    declarations: String,
    /// Body of `main`.
    body: String,
}

impl Kernel {
    /// Nothing yet. `main` will have `group: vec3<u32>` (which workgroup), `local: vec3<u32>` (which of its invocations),
    /// `lane: u32` (the same as one number).
    pub(super) fn new(label: &'static str, workgroup: [u32; 3]) -> Self {
        Self {
            label,
            bindings: vec![],
            words: vec![Word::Plain(0)],
            groups: [1; 3],
            work: 0,
            bytes: 0,
            workgroup,
            declarations: String::new(),
            body: String::new(),
        }
    }

    /// A tensor of floats that is read.
    pub(super) fn read(&mut self, view: &View) -> Bound {
        self.bind(view, false, "f32", 1)
    }

    /// A tensor of integers that is read.
    pub(super) fn read_ints(&mut self, view: &View) -> Bound {
        self.bind(view, false, "i32", 1)
    }

    /// A tensor that is read as raw words: where it does not matter what they hold.
    pub(super) fn read_words(&mut self, view: &View) -> Bound {
        self.bind(view, false, "u32", 1)
    }

    /// A tensor that is read as raw words, one or ([`View::by_four`] must hold) four at a time.
    pub(super) fn read_words_by(&mut self, view: &View, by: usize) -> Bound {
        self.bind(view, false, if by == 4 { "vec4<u32>" } else { "u32" }, by)
    }

    /// As [`Self::read_words_by`], written.
    pub(super) fn write_words_by(&mut self, view: &View, by: usize) -> Bound {
        self.bind(view, true, if by == 4 { "vec4<u32>" } else { "u32" }, by)
    }

    /// A tensor of floats, or of integers, that is read one or ([`View::by_four`] must hold) four at a time.
    pub(super) fn read_by(&mut self, view: &View, integers: bool, by: usize) -> Bound {
        self.bind(view, false, element(integers, by), by)
    }

    /// As [`Self::read_by`], written.
    pub(super) fn write_by(&mut self, view: &View, integers: bool, by: usize) -> Bound {
        self.bind(view, true, element(integers, by), by)
    }

    /// A tensor of floats that is read four at a time: [`View::by_four`] must hold. Indices count groups of four.
    pub(super) fn read_fours(&mut self, view: &View) -> Bound {
        self.bind(view, false, "vec4<f32>", 4)
    }

    /// A tensor of floats that is written.
    pub(super) fn write(&mut self, view: &View) -> Bound {
        self.bind(view, true, "f32", 1)
    }

    /// A tensor of floats that is written four at a time: see [`Self::read_fours`].
    pub(super) fn write_fours(&mut self, view: &View) -> Bound {
        self.bind(view, true, "vec4<f32>", 4)
    }

    /// A tensor of integers that is written.
    pub(super) fn write_ints(&mut self, view: &View) -> Bound {
        self.bind(view, true, "i32", 1)
    }

    /// A tensor that is written as raw words.
    pub(super) fn write_words(&mut self, view: &View) -> Bound {
        self.bind(view, true, "u32", 1)
    }

    /// A tensor of words that invocations change together, by integer operations only.
    pub(super) fn write_atomic(&mut self, view: &View) -> Bound {
        let bound = self.bind(view, true, "u32", 1);
        if let Some(binding) = self.bindings.last_mut() {
            binding.atomic = true;
        }
        bound
    }

    fn bind(&mut self, view: &View, write: bool, element: &'static str, by: usize) -> Bound {
        debug_assert!(by == 1 || view.by_four());
        self.bytes += 4 * view.len() as u64;
        // All new parameters and states stand in one buffer, which is bound in one way at a time.
        let writable = write || matches!(view.place, Place::New(_));
        let binding = Binding { place: view.place, write: writable, element, atomic: false };
        let known = self.bindings.iter().position(|known| *known == binding && !write);
        let index = known.unwrap_or_else(|| {
            self.bindings.push(binding);
            self.bindings.len() - 1
        });
        let first = self.word(Word::Slice { first: (view.offset / by) as u32, advance: (view.advance / by) as u32 });
        Bound { name: format!("b{}", index + 1), first }
    }

    /// An argument: the expression that has its value, a `u32`.
    pub(super) fn arg(&mut self, value: usize) -> String {
        self.word(Word::Plain(value as u32))
    }

    /// A float argument: the expression that has its value, an `f32`.
    pub(super) fn float(&mut self, bits: u32) -> String {
        format!("bitcast<f32>({})", self.word(Word::Plain(bits)))
    }

    /// An argument that may depend on the slice of the batch.
    pub(super) fn word(&mut self, word: Word) -> String {
        self.words.push(word);
        let at = self.words.len() - 1;
        // By fixed places, which need no check of bounds.
        format!("arguments.words[{}].{}", at / 4, ["x", "y", "z", "w"][at % 4])
    }

    /// Adds declarations of the kernel's own.
    pub(super) fn declare(&mut self, text: &str) {
        self.declarations.push_str(text);
        self.declarations.push('\n');
    }

    /// Adds to the body of `main`.
    pub(super) fn code(&mut self, text: &str) {
        self.body.push_str(text);
        self.body.push('\n');
    }

    /// One invocation for each of `count` elements: declares `i` in the text, and sets the number of workgroups.
    ///
    /// Call it before the code that uses `i`.
    pub(super) fn each(&mut self, count: usize) {
        let size = self.workgroup.iter().product::<u32>();
        self.groups_of((count as u64).div_ceil(u64::from(size)));
        let n = self.arg(count);
        self.code(&format!("let i = linear(group) * {size}u + lane;\nif (i >= {n}) {{ return; }}"));
    }

    /// This many workgroups; `linear(group)` numbers them in the text, and may run over: the text checks.
    pub(super) fn groups_of(&mut self, count: u64) {
        self.groups = match u32::try_from(count) {
            Ok(count) if count <= GROUPS_WIDE => [count.max(1), 1, 1],
            _ => [GROUPS_WIDE, count.div_ceil(u64::from(GROUPS_WIDE)).min(u64::from(u32::MAX)) as u32, 1],
        };
    }

    /// Whether every device takes it.
    pub(super) fn fits(&self) -> bool {
        self.words.len() <= ARGUMENTS_MAX
            && self.bindings.len() <= BUFFERS_MAX
            && self.groups.iter().all(|&groups| groups <= GROUPS_MAX)
    }

    /// The WGSL text, with what it uses of [`wgsl`].
    pub(super) fn source(&self) -> String {
        let mut text = format!(
            "struct Arguments {{ words: array<vec4<u32>, {}> }}\n@group(0) @binding(0) var<uniform> arguments: Arguments;\n",
            ARGUMENTS_MAX / 4
        );
        for (i, Binding { write, element, atomic, .. }) in self.bindings.iter().enumerate() {
            let access = if *write { "read_write" } else { "read" };
            let element = if *atomic { "atomic<u32>" } else { element };
            let _ = writeln!(text, "@group(0) @binding({0}) var<storage, {access}> b{0}: array<{element}>;", i + 1);
        }
        let mut own = String::new();
        let [x, y, z] = self.workgroup;
        let _ = write!(
            own,
            "{}@compute @workgroup_size({x}, {y}, {z})\nfn main(@builtin(workgroup_id) group: vec3<u32>, \
             @builtin(local_invocation_id) local: vec3<u32>, @builtin(local_invocation_index) lane: u32) {{\n{}}}\n",
            self.declarations, self.body
        );
        text.push_str(&wgsl::used_by(&own));
        text.push_str(&own);
        text
    }
}
