"""What `from cairn import ...` gives a train.py, for editors and type checkers."""

from typing import Literal, Sequence, overload

from ._types import Dims, Group, Hyper, Operand, Optimiser, Phase, Shape, Tensor, Update

def abs(x: Operand) -> Tensor:
    """|x|."""

def adamw(
    lr: Hyper | None = None,
    betas: Sequence[float] = (0.9, 0.999),
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.01,
) -> Optimiser:
    """AdamW (Loshchilov & Hutter 2019); `lr` is the module's lr, else 1e-3."""

def arange(n: int) -> Tensor:
    """The ids 0, 1, ... n - 1."""

def argmax(
    x: Operand,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    axis: int = ...,
    keepdims: bool = ...,
) -> Tensor:
    """Index of the first maximum of the last axis."""

def argsort(x: Operand, dim: int = -1, descending: bool = False, *, axis: int = ...) -> Tensor:
    """The ids of `sort`."""

def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    soft_cap: float | None = None,
) -> Tensor:
    """Scaled dot-product attention of q [B, H, T, D] on k, v [B, Hk, S, D]; Hk divides H."""

def avg_pool2d(input: Tensor, kernel_size: Shape, stride: Shape | None = None) -> Tensor:
    """The mean of each window; the stride is the kernel size."""

def broadcast_to(x: Operand, shape: Shape) -> Tensor:
    """Broadcasts to a shape."""

def cat(tensors: Sequence[Operand], dim: int = 0, *, axis: int = ...) -> Tensor:
    """Joins tensors along an axis."""

def chunk(x: Tensor, chunks: int, dim: int = 0, *, axis: int = ...) -> tuple[Tensor, ...]:
    """Equal parts along an axis."""

def clamp(x: Operand, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """At least `min`, at most `max`."""

def clip(x: Operand, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """At least `min`, at most `max`."""

def clip_by_global_norm(grads: dict[str, Tensor], max_norm: Operand) -> dict[str, Tensor]:
    """All gradients times min(1, max_norm / their common norm)."""

def concat(tensors: Sequence[Operand], dim: int = 0, *, axis: int = ...) -> Tensor:
    """Joins tensors along an axis."""

def concatenate(tensors: Sequence[Operand], dim: int = 0, *, axis: int = ...) -> Tensor:
    """Joins tensors along an axis."""

def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Shape = 1,
    padding: Shape | Literal["same", "valid"] = 0,
    dilation: Shape = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution along one axis: input [N, C, L], weight [O, C/groups, K]."""

def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Shape = 1,
    padding: Shape | Literal["same", "valid"] = 0,
    dilation: Shape = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution: input [N, C, H, W], weight [O, C/groups, KH, KW]."""

def cos(x: Operand) -> Tensor:
    """Cosine of radians."""

def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    reduction: Literal["mean", "sum", "none"] = "mean",
    ignore_index: Literal[-1] = -1,
) -> Tensor:
    """Negative log-likelihood of targets [..] under logits [.., V]; targets -1 are ignored."""

def cumsum(x: Operand, dim: int, *, axis: int = ...) -> Tensor:
    """Sums of all elements up to each one, along an axis."""

def dropout(x: Operand, p: float = 0.5, name: str | None = None, training: bool = True) -> Tensor:
    """While training, each element is 0 with probability p, else x / (1 - p)."""

def einsum(equation: str, a: Tensor, b: Tensor = ...) -> Tensor:
    """Sums of products by letters: \"bij,bjk->bik\", one or two operands."""

def embedding(ids: Tensor, table: Tensor) -> Tensor:
    """Rows of a table [V, C] at ids [..]: [.., C]."""

def eq(a: Operand, b: Operand) -> Tensor:
    """1 where a == b, else 0."""

def erf(x: Operand) -> Tensor:
    """Error function."""

def exp(x: Operand) -> Tensor:
    """e^x."""

def expand_dims(x: Tensor, dim: int = ..., *, axis: int = ...) -> Tensor:
    """A new axis of length 1."""

def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Joins axes into one."""

def flip(x: Tensor, dims: Shape) -> Tensor:
    """Axes turned round."""

def floor(x: Operand) -> Tensor:
    """Largest integer not above x."""

def full(shape: Shape, value: float) -> Tensor:
    """Every element is this number."""

def full_like(x: Tensor, value: float) -> Tensor:
    """Every element is this number, in the shape of x."""

def gather(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """Elements that ids name along an axis."""

def ge(a: Operand, b: Operand) -> Tensor:
    """1 where a >= b, else 0."""

def gelu(x: Operand, approximate: Literal["none", "tanh"] = "none") -> Tensor:
    """Gaussian error linear unit."""

def group(pattern: str, optimiser: Optimiser) -> Group:
    """The parameters whose names match a glob, or `tag:NAME`, and what updates them."""

def gt(a: Operand, b: Operand) -> Tensor:
    """1 where a > b, else 0."""

def is_training() -> bool:
    """Whether training is traced, not evaluation."""

def layer_norm(x: Operand, weight: Operand | None = None, bias: Operand | None = None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) along the last axis, times `weight`, plus `bias`."""

def le(a: Operand, b: Operand) -> Tensor:
    """1 where a <= b, else 0."""

def linear(x: Tensor, weight: Tensor, bias: Operand | None = None) -> Tensor:
    """x @ weight [d_in, d_out] + bias."""

def lion(lr: Hyper | None = None, betas: Sequence[float] = (0.9, 0.99), weight_decay: Hyper = 0.0) -> Optimiser:
    """Lion (Chen et al. 2023); `lr` is the module's lr, else 1e-4."""

def log(x: Operand) -> Tensor:
    """Natural logarithm."""

def log_softmax(x: Operand, dim: int = -1, *, axis: int = ...) -> Tensor:
    """Logarithm of softmax."""

def logsumexp(x: Operand, dim: Dims = None, keepdim: bool = False, *, axis: Dims = ..., keepdims: bool = ...) -> Tensor:
    """log of the sum of e^x, without overflow."""

def lt(a: Operand, b: Operand) -> Tensor:
    """1 where a < b, else 0."""

def masked_fill(x: Tensor, mask: Tensor, value: Operand) -> Tensor:
    """The value where the mask is not 0, else x."""

def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product; leading axes broadcast."""

def max(x: Operand, dim: Dims = None, keepdim: bool = False, *, axis: Dims = ..., keepdims: bool = ...) -> Tensor:
    """Maximum over axes; ties give their gradient to the first."""

def max_pool2d(input: Tensor, kernel_size: Shape, stride: Shape | None = None) -> Tensor:
    """The largest of each window; the stride is the kernel size."""

def maximum(a: Operand, b: Operand) -> Tensor:
    """The larger; ties give their gradient to the first."""

def mean(x: Operand, dim: Dims = None, keepdim: bool = False, *, axis: Dims = ..., keepdims: bool = ...) -> Tensor:
    """Mean over axes."""

def min(x: Operand, dim: Dims = None, keepdim: bool = False, *, axis: Dims = ..., keepdims: bool = ...) -> Tensor:
    """Minimum over axes; ties give their gradient to the first."""

def minimum(a: Operand, b: Operand) -> Tensor:
    """The smaller; ties give their gradient to the first."""

def muon(
    lr: Hyper | None = None,
    momentum: Hyper = 0.95,
    weight_decay: Hyper = 0.0,
    nesterov: bool = True,
    ns_steps: int = 5,
) -> Optimiser:
    """Muon (Jordan et al. 2024) for matrices, AdamW for the rest; `lr` is the module's lr, else 2e-2."""

def ne(a: Operand, b: Operand) -> Tensor:
    """1 where a != b, else 0."""

def neg(x: Operand) -> Tensor:
    """-x."""

def normal(shape: Shape, name: str | None = None) -> Tensor:
    """Fresh standard normal numbers each step; training only."""

def one_hot(ids: Tensor, num_classes: int) -> Tensor:
    """1 at each id, else 0, along a new last axis."""

def ones(*shape: int | Sequence[int]) -> Tensor:
    """Every element is 1."""

def ones_like(x: Tensor) -> Tensor:
    """Every element is 1, in the shape of x."""

def optimiser(update: Update, *, state: Sequence[str] = (), **numbers: Hyper) -> Optimiser:
    """An optimiser of your own: update(p, g, s, t) gives (p, s)."""

def optimizer(update: Update, *, state: Sequence[str] = (), **numbers: Hyper) -> Optimiser:
    """An optimiser of your own: update(p, g, s, t) gives (p, s)."""

def pad(x: Operand, before: int, after: int, dim: int = -1, *, axis: int = ...) -> Tensor:
    """Zeros around one axis."""

@overload
def param(
    name: str,
    shape: Shape,
    init: Literal["normal", "uniform", "constant", "zeros", "ones"] | float = "normal",
    std: float = 0.02,
    value: float = ...,
    bound: float = ...,
    tag: str = "",
    group: str = ...,
) -> Tensor:
    """The parameter of that name, created at its first use; its name keys its initialisation."""

@overload
def param(
    name: str,
    n: int,
    m: int,
    /,
    *more: int,
    init: Literal["normal", "uniform", "constant", "zeros", "ones"] | float = "normal",
    std: float = 0.02,
    value: float = ...,
    bound: float = ...,
    tag: str = "",
    group: str = ...,
) -> Tensor: ...
def permute(x: Tensor, *dims: int | Sequence[int]) -> Tensor:
    """Axes reordered: output axis i is input axis dims[i]."""

def phase(share: float = 1.0, batch: int | None = None, context: int | None = None) -> Phase:
    """A stretch of training with its share of the budget."""

def reciprocal(x: Operand) -> Tensor:
    """1 / x."""

def relu(x: Operand) -> Tensor:
    """max(x, 0)."""

def reshape(x: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """Same elements, new shape; one length may be -1."""

def rms_norm(x: Operand, weight: Operand | None = None, eps: float = 1e-6) -> Tensor:
    """x / sqrt(mean(x^2) + eps) along the last axis, times `weight`."""

def roll(x: Tensor, shifts: int, dims: int) -> Tensor:
    """Elements moved along an axis, those beyond the end back to the start."""

def rope(x: Tensor, base: float = 10000.0) -> Tensor:
    """Rotary positions of x [.., T, D] over T."""

def round(x: Operand) -> Tensor:
    """Nearest integer, ties to even."""

def round_to(x: Operand, format: Literal["bf16", "bfloat16"]) -> Tensor:
    """Rounds to bfloat16; the gradient passes."""

def rsqrt(x: Operand) -> Tensor:
    """1 / sqrt(x)."""

def scatter_add(x: Operand, dim: int, index: Tensor, src: Operand) -> Tensor:
    """x, to which the elements of src are added at index."""

def sgd(lr: Hyper | None = None, momentum: Hyper = 0.0, weight_decay: Hyper = 0.0, nesterov: bool = False) -> Optimiser:
    """SGD with momentum; `lr` is the module's lr, else 1e-2."""

def sigmoid(x: Operand) -> Tensor:
    """1 / (1 + e^-x)."""

def sign(x: Operand) -> Tensor:
    """-1, 0 or 1."""

def silu(x: Operand) -> Tensor:
    """x * sigmoid(x)."""

def sin(x: Operand) -> Tensor:
    """Sine of radians."""

def softmax(x: Operand, dim: int = -1, *, axis: int = ...) -> Tensor:
    """e^x / sum of e^x along an axis."""

def softplus(x: Operand) -> Tensor:
    """log(1 + e^x), without overflow."""

def sort(x: Operand, dim: int = -1, descending: bool = False, *, axis: int = ...) -> tuple[Tensor, Tensor]:
    """Values in order and their ids; equal ones keep their order."""

def split(x: Tensor, sizes: int | Sequence[int], dim: int = 0, *, axis: int = ...) -> tuple[Tensor, ...]:
    """Parts of one size, or of the sizes in a list."""

def sqrt(x: Operand) -> Tensor:
    """Square root."""

def squeeze(x: Tensor, dim: int | None = None, *, axis: int = ...) -> Tensor:
    """Without axes of length 1."""

def stack(tensors: Sequence[Operand], dim: int = 0, *, axis: int = ...) -> Tensor:
    """Joins tensors along a new axis."""

def stop_gradient(x: Operand) -> Tensor:
    """The same, through which no gradient passes."""

def sum(x: Operand, dim: Dims = None, keepdim: bool = False, *, axis: Dims = ..., keepdims: bool = ...) -> Tensor:
    """Sum over axes."""

def take(x: Tensor, ids: Tensor) -> Tensor:
    """Of each row of x [.., n], the element at ids [..]."""

def tanh(x: Operand) -> Tensor:
    """Hyperbolic tangent."""

def to_float(x: Operand) -> Tensor:
    """Ids as floats."""

def to_int(x: Operand) -> Tensor:
    """The nearest integer as ids, ties to even."""

def topk(x: Operand, k: int, dim: int = -1, largest: bool = True, *, axis: int = ...) -> tuple[Tensor, Tensor]:
    """The k largest (or smallest) and their ids, ties by id."""

def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two axes swapped."""

def tril(x: Operand, diagonal: int = 0) -> Tensor:
    """The lower triangle of the last two axes, zeros elsewhere."""

def triu(x: Operand, diagonal: int = 0) -> Tensor:
    """The upper triangle of the last two axes, zeros elsewhere."""

def uniform(shape: Shape, name: str | None = None) -> Tensor:
    """Fresh random numbers on [0, 1) each step; training only."""

def unsqueeze(x: Tensor, dim: int = ..., *, axis: int = ...) -> Tensor:
    """A new axis of length 1."""

def var(
    x: Operand,
    dim: Dims = None,
    keepdim: bool = False,
    correction: int = ...,
    *,
    axis: Dims = ...,
    keepdims: bool = ...,
    ddof: int = ...,
    unbiased: bool = ...,
) -> Tensor:
    """Variance over axes; correction=0 divides by n, correction=1 by n - 1."""

def where(condition: Operand, a: Operand, b: Operand) -> Tensor:
    """`a` where the mask is not 0, else `b`."""

def zeros(*shape: int | Sequence[int]) -> Tensor:
    """Every element is 0."""

def zeros_like(x: Tensor) -> Tensor:
    """Every element is 0, in the shape of x."""
