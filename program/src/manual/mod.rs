//! The reference of the language's operations: one row for each, from which the manual's tables, editors' stubs and tests
//! come.
//!
//! Start at [`operations()`]. [`manual()`] is the text of the tables in `docs/guide/train-py.md`; what an example gives
//! and costs, and what a refusal says, is measured, not written down.
//!
//! *Invariant:* every name that a program can import, and every method of a tensor, is in exactly one row.

mod convolutions;
mod elementwise;
mod layers;
mod measure;
mod reductions;
mod shapes;
mod text;
mod training;

pub use text::manual;

/// The part of the manual that an operation stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Parameters and constants.
    Leaves,
    /// One element at a time.
    Elementwise,
    /// Sums and the like.
    Reductions,
    /// Matrix products.
    Products,
    /// What moves elements.
    Shapes,
    /// What takes indices.
    Indices,
    /// What depends on order along an axis.
    Order,
    /// Convolutions and pooling.
    Convolutions,
    /// What networks are made of.
    Layers,
    /// Objectives.
    Losses,
    /// Random numbers.
    Random,
    /// Optimisers, groups, phases.
    Training,
}

impl Section {
    /// All sections in the order of the manual.
    pub const ALL: [Section; 12] = [
        Section::Leaves,
        Section::Elementwise,
        Section::Reductions,
        Section::Products,
        Section::Shapes,
        Section::Indices,
        Section::Order,
        Section::Convolutions,
        Section::Layers,
        Section::Losses,
        Section::Random,
        Section::Training,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Section::Leaves => "Leaves",
            Section::Elementwise => "Elements",
            Section::Reductions => "Reductions",
            Section::Products => "Products",
            Section::Shapes => "Shapes",
            Section::Indices => "Indices",
            Section::Order => "Order",
            Section::Convolutions => "Convolutions",
            Section::Layers => "Layers",
            Section::Losses => "Losses",
            Section::Random => "Randomness",
            Section::Training => "Training",
        }
    }
}

/// Where in a program an operation is used, and so its examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In `model` or `loss`.
    Model,
    /// What `optimizer()` returns.
    Optimizer,
    /// An element of `PHASES`.
    Phases,
    /// What `grad_transform(grads)` returns.
    Gradients,
}

/// One operation, as the manual describes it.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Where it stands.
    pub section: Section,
    /// Where it is used.
    pub place: Place,
    /// Names that `from cairn import …` knows; the first is the usual one.
    pub names: &'static [&'static str],
    /// Names as a method of a tensor, which takes the place of the first argument.
    pub methods: &'static [&'static str],
    /// The call as a line of a Python stub, without `def`: types are `Tensor`, `Operand` (Tensor | float | int), `Shape`
    /// (int | Sequence\[int\]), `Dims` (int | Sequence\[int\] | None), `Hyper` (float | Schedule), `Optimiser`, `Group`,
    /// `Phase`, `Update` and Python's own.
    pub signature: &'static str,
    /// What it computes.
    pub about: &'static str,
    /// Shapes of operands and result.
    pub shapes: &'static str,
    /// What reaches the operands, where dy reaches the result y.
    pub gradient: &'static str,
    /// Metered operations.
    pub price: &'static str,
    /// An expression that is accepted.
    pub example: &'static str,
    /// An expression that is refused.
    pub refused: &'static str,
}

impl Operation {
    /// The name that it is listed under.
    pub fn title(&self) -> &'static str {
        self.names.first().or(self.methods.first()).copied().unwrap_or_default()
    }

    /// A program with an expression in the place where this operation is used, on a line of its own, and that line's
    /// number, counted from 1.
    pub fn program(&self, expression: &str) -> (String, u32) {
        let (model, optimizer, phases, gradients) = match self.place {
            Place::Model => (expression, "adamw()", "phase()", "grads"),
            Place::Optimizer => ("h", expression, "phase()", "grads"),
            Place::Phases => ("h", "adamw()", expression, "grads"),
            Place::Gradients => ("h", "adamw()", "phase()", expression),
        };
        let around = "adamw embedding is_training param phase";
        let mut names: Vec<&str> = operations().flat_map(|operation| operation.names).copied().collect();
        names.retain(|name| around.contains(name) || expression.contains(name));
        names.sort_unstable();
        let source = format!(
            "from cairn import {}
BATCH, CONTEXT = 32, 64
PHASES = [
    {phases}
]
def example(x, h, v, w, q):
    return (
        {model}
    )
def model(x):
    h, v = param(\"h\", (32, 64, 64)), param(\"v\", 64)
    w, q = param(\"w\", (64, 128)), param(\"q\", (32, 4, 64, 16))
    if is_training():
        example(x, h, v, w, q)
    return embedding(x, param(\"table\", (256, 256)))
def grad_transform(grads):
    return (
        {gradients}
    )
def optimizer():
    return (
        {optimizer}
    )
",
            names.join(", ")
        );
        let line = match self.place {
            Place::Phases => 4,
            Place::Model => 8,
            Place::Gradients => 18,
            Place::Optimizer => 22,
        };
        (source, line)
    }
}

/// Every operation, in the order of the manual.
pub fn operations() -> impl Iterator<Item = &'static Operation> {
    Section::ALL.into_iter().flat_map(|section| {
        [layers::ROWS, elementwise::ROWS, reductions::ROWS, shapes::ROWS, convolutions::ROWS, training::ROWS]
            .into_iter()
            .flatten()
            .filter(move |operation| operation.section == section)
    })
}

#[cfg(test)]
mod tests;
