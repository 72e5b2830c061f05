//! Rows of the manual: optimisers, groups, phases, gradients.

use super::{Operation, Place, Section};

const fn optimiser(
    names: &'static [&'static str],
    signature: &'static str,
    about: &'static str,
    [shapes, price]: [&'static str; 2],
    [example, refused]: [&'static str; 2],
) -> Operation {
    Operation {
        section: Section::Training,
        place: Place::Optimizer,
        names,
        methods: &[],
        signature,
        about,
        shapes,
        gradient: "none: nothing is differentiated through a step",
        price,
        example,
        refused,
    }
}

pub(super) const ROWS: &[Operation] = &[
    optimiser(
        &["adamw"],
        "adamw(lr: Hyper = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: Hyper = 1e-8, weight_decay: Hyper = 0.01) -> Optimiser",
        "m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; p ← p·(1 − lr·decay) − lr·c₁·m/(√(c₂v) + eps) with cᵢ = 1/(1 − βᵢᵗ) (Loshchilov & Hutter 2019).",
        ["two states of the parameter's shape", "about 256 an element"],
        ["adamw(lr=3e-3, weight_decay=0.1)", "adamw(betas=(0.9, 1.0))"],
    ),
    optimiser(
        &["sgd"],
        "sgd(lr: Hyper = 1e-2, momentum: Hyper = 0.0, weight_decay: Hyper = 0.0, nesterov: bool = False) -> Optimiser",
        "g ← g + decay·p; m ← momentum·m + g; p ← p − lr·m, or p − lr·(g + momentum·m) with `nesterov`, as in PyTorch.",
        ["one state, none without momentum", "32 an element, 64 with momentum"],
        ["sgd(lr=0.1, momentum=0.9)", "sgd(lr=\"0.1\")"],
    ),
    optimiser(
        &["lion"],
        "lion(lr: Hyper = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: Hyper = 0.0) -> Optimiser",
        "p ← p·(1 − lr·decay) − lr·sign(β₁m + (1−β₁)g); m ← β₂m + (1−β₂)g (Chen et al. 2023).",
        ["one state", "about 144 an element"],
        ["lion(lr=1e-3)", "lion(betas=0.9)"],
    ),
    optimiser(
        &["muon"],
        "muon(lr: Hyper = 2e-2, momentum: Hyper = 0.95, weight_decay: Hyper = 0.0, nesterov: bool = True, ns_steps: int = 5) -> Optimiser",
        "For matrices [rows, columns]: m ← momentum·m + g; p ← p·(1 − lr·decay) − lr·√max(1, columns/rows)·NewtonSchulz(g + momentum·m) (Jordan et al. 2024). Other parameters of its group get AdamW with the same rate and decay, betas (0.9, 0.95).",
        [
            "one state for a matrix, two otherwise",
            "ns_steps · (4·r²·c + 2·r³ + 48·r² + 32·r·c) for r the shorter side and c the longer, and about 230 an element",
        ],
        ["muon(lr=0.02)", "muon(ns_steps=11)"],
    ),
    optimiser(
        &["optimiser", "optimizer"],
        "optimiser(update: Update, /, *, state: Sequence[str] = (), **numbers: Hyper) -> Optimiser",
        "One of your own: `update(p, g, s, t) -> (p, s)` gets the parameter, its gradient, a dict of its states (zeros at first) and `t` with `t.step` and the numbers by name, as tensors where they are schedules.",
        ["a state of the parameter's shape for each name, at most 8", "of what it builds"],
        [
            "optimiser(lambda p, g, s, t: (p - t.lr * g, s), lr=0.1)",
            "optimiser(lambda p, g, s, t: (p - g.sum(), s), state=[\"m\", \"m\"])",
        ],
    ),
    optimiser(
        &["group"],
        "group(pattern: str, optimiser: Optimiser) -> Group",
        "Parameters whose name matches the glob (`*`, `?`), or whose tag is the one in `tag:NAME`, and what updates them. The first group that matches counts.",
        ["", "of its optimiser"],
        ["group(\"*\", adamw())", "group(\"*\", 0.1)"],
    ),
    Operation {
        section: Section::Training,
        place: Place::Phases,
        names: &["phase"],
        methods: &[],
        signature: "phase(share: float = 1.0, batch: int = ..., context: int = ...) -> Phase",
        about: "A stretch of training with its share of the budget, batch and context; `BATCH` and `CONTEXT` where it says none.",
        shapes: "inputs [batch, context]",
        gradient: "none",
        price: "of its steps",
        example: "phase(share=0.5, batch=16, context=32)",
        refused: "phase(share=0)",
    },
    Operation {
        section: Section::Training,
        place: Place::Gradients,
        names: &["clip_by_global_norm"],
        methods: &[],
        signature: "clip_by_global_norm(grads: dict[str, Tensor], max_norm: Operand) -> dict[str, Tensor]",
        about: "All gradients times min(1, max_norm/norm), the norm of all together; for `grad_transform(grads)` (Pascanu et al. 2013).",
        shapes: "a dict → the same",
        gradient: "none: it comes after them",
        price: "40 an element",
        example: "clip_by_global_norm(grads, 1.0)",
        refused: "clip_by_global_norm([g for g in grads.values()], 1.0)",
    },
];
