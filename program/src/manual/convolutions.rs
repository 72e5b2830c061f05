//! Rows of the manual: convolutions and pooling.

use super::{Operation, Place, Section};

const fn row(
    name: &'static [&'static str],
    signature: &'static str,
    about: &'static str,
    [shapes, gradient, price]: [&'static str; 3],
    [example, refused]: [&'static str; 2],
) -> Operation {
    Operation {
        section: Section::Convolutions,
        place: Place::Model,
        names: name,
        methods: &[],
        signature,
        about,
        shapes,
        gradient,
        price,
        example,
        refused,
    }
}

pub(super) const ROWS: &[Operation] = &[
    row(
        &["conv2d"],
        "conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Shape = 1, padding: int | Shape | str = 0, dilation: int | Shape = 1, groups: int = 1) -> Tensor",
        "PyTorch's convolution (a cross-correlation). `padding` is zeros on both sides, \"valid\" for none, or \"same\" for as many outputs as inputs (an odd zero goes to the end). Operands are rounded to 12 significant bits first, also in the gradients.",
        [
            "input [N, C, H, W], weight [O, C/groups, KH, KW], bias [O] → [N, O, OH, OW]",
            "a contraction each for input and weight; the bias has dy summed",
            "2 an output and weight it meets (C/groups·KH·KW of them); backward twice that; 16 an element for the bias",
        ],
        ["conv2d(q, param(\"k\", (8, 4, 3, 3)), padding=1)", "conv2d(q, param(\"k\", (8, 3, 3, 3)))"],
    ),
    row(
        &["conv1d"],
        "conv1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int | str = 0, dilation: int = 1, groups: int = 1) -> Tensor",
        "`conv2d` along one axis. A causal one over positions pads on the left: `conv1d(pad(x, (k - 1) * dilation, 0), weight, dilation=dilation)`.",
        ["input [N, C, L], weight [O, C/groups, K], bias [O] → [N, O, OL]", "as `conv2d`", "as `conv2d`"],
        ["conv1d(pad(h, 2, 0), param(\"k\", (64, 64, 3)))", "conv1d(h, param(\"k\", (64, 64, 65)))"],
    ),
    row(
        &["max_pool2d"],
        "max_pool2d(input: Tensor, kernel_size: int | Shape, stride: int | Shape | None = None) -> Tensor",
        "The largest of each window; windows do not overlap: the stride is the kernel size. What does not fill a window at the end is left out.",
        ["[N, C, H, W] → [N, C, ⌊H/k⌋, ⌊W/k⌋]", "dy to the first largest of each window", "8 an element"],
        ["max_pool2d(q, 2)", "max_pool2d(h, 2)"],
    ),
    row(
        &["avg_pool2d"],
        "avg_pool2d(input: Tensor, kernel_size: int | Shape, stride: int | Shape | None = None) -> Tensor",
        "The mean of each window; otherwise as `max_pool2d`.",
        ["[N, C, H, W] → [N, C, ⌊H/k⌋, ⌊W/k⌋]", "dy/k² to each of the window", "8 an element, 16 a window"],
        ["avg_pool2d(q, (2, 2))", "avg_pool2d(q, 65)"],
    ),
];
