"""The operations: functions of `from cairn import ...`, many of them also methods of a tensor.

Each is written as the language defines it; where PyTorch's own function means the same, that one is used. Alternative
argument names (`axis` for `dim`, `keepdims` for `keepdim`, ...) are those of the language.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, TypeVar, Union

import torch
import torch.nn.functional as F

from ._errors import ProgramError, ShapeError
from ._state import Param, current
from ._tensor import (
    Number,
    Operand,
    Tensor,
    article,
    axis as axis_of,
    broadcasting,
    compare,
    floats,
    ids as ids_of,
    integer,
    is_number,
    lengths,
    literal,
    mask,
    maximum as larger,
    minimum as smaller,
    of,
    operand,
    optional,
    pair,
    power,
    product,
    rounded,
    shape_of,
    whole,
)

Call = TypeVar("Call", bound=Callable[..., Any])
Dims = Union[int, Sequence[int], None]
ShapeLike = Union[int, Sequence[int]]


def named(**aliases: str) -> Callable[[Call], Call]:
    """Lets keywords have other names."""

    def wrap(function: Call) -> Call:
        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            for other, name in aliases.items():
                if other in keywords:
                    if name in keywords:
                        raise TypeError(f"{function.__name__}() got both '{other}' and '{name}'")
                    keywords[name] = keywords.pop(other)
            return function(*arguments, **keywords)

        return call  # type: ignore[return-value]

    return wrap


# ---- leaves


def param(name: str, shape: ShapeLike, *more: Any, **options: Any) -> Tensor:
    """The parameter of that name, created at its first use."""
    if more and isinstance(shape, int) and isinstance(more[0], int):
        # Lengths one by one: param("w", 3, 4).
        shape, more = (shape, *more), ()
    return _param(name, shape, *more, **options)


@named(group="tag")
def _param(
    name: str,
    shape: ShapeLike,
    init: Union[str, Number, None] = None,
    std: Optional[float] = None,
    value: Optional[float] = None,
    bound: Optional[float] = None,
    tag: Optional[str] = None,
) -> Tensor:
    if not isinstance(name, str):
        raise TypeError(f"param: name: a str is needed, not {article(name)}")
    dims = tuple(shape_of("param", [shape]))
    return current("param").param(Param(name, dims, _init(init, std, value, bound), tag or ""))


def _init(init: Any, std: Any, value: Any, bound: Any) -> Tuple[str, float]:
    def of_size(what: str, number: Any, default: float) -> float:
        size = optional(number, default)
        if size < 0:
            raise ValueError(f"param: {what} is negative")
        return literal(size)

    if init is None or init == "normal":
        return ("normal", of_size("std", std, 0.02))
    if is_number(init):
        return ("constant", literal(init))
    constants: Dict[str, float] = {"zeros": 0.0, "ones": 1.0}
    if init in constants:
        return ("constant", constants[init])
    if init == "constant":
        if value is None:
            raise TypeError('param: init="constant" needs value=...')
        return ("constant", literal(value))
    if init == "uniform":
        if bound is None:
            raise TypeError('param: init="uniform" needs bound=...: values are in [-bound, bound)')
        return ("uniform", of_size("bound", bound, 0.0))
    raise ValueError(f'param: there is no init "{init}"')


def _constant(what: str, value: Number, dims: Sequence[int]) -> Tensor:
    current(what)
    return Tensor(torch.full(tuple(dims), literal(value), dtype=torch.float32))


@named(size="shape", fill_value="value")
def full(shape: ShapeLike, value: Number) -> Tensor:
    return _constant("full", value, shape_of("full", [shape]))


def _filled(name: str, value: float) -> Callable[..., Tensor]:
    def filled(*shape: Any, **options: Any) -> Tensor:
        dims = shape or tuple(options.pop(key) for key in ("shape", "size") if key in options)
        if options or not dims:
            raise TypeError(f"{name}() takes a shape")
        return _constant(name, value, shape_of(name, dims))

    filled.__name__ = name
    return filled


zeros, ones = _filled("zeros", 0.0), _filled("ones", 1.0)


@named(fill_value="value")
def full_like(x: Tensor, value: Number) -> Tensor:
    return _constant("full_like", value, of("full_like", x).shape)


def zeros_like(x: Tensor) -> Tensor:
    return full_like(x, 0.0)


def ones_like(x: Tensor) -> Tensor:
    return full_like(x, 1.0)


@named(end="n", stop="n")
def arange(n: int) -> Tensor:
    current("arange")
    if integer("arange", n) < 1:
        raise ShapeError(f"arange({n}) has no elements")
    return Tensor(torch.arange(n))


def is_training() -> bool:
    run = current("is_training")
    if not run.in_model:
        raise ProgramError("is_training() outside of model(): it is known only while model() is traced")
    return run.training


# ---- elementwise


def _unary(name: str, function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], Tensor]:
    @named(input="x")
    def unary(x: Operand) -> Tensor:
        return Tensor(function(floats(name, x)))

    unary.__name__ = name
    return unary


abs = _unary("abs", torch.abs)
cos = _unary("cos", torch.cos)
erf = _unary("erf", torch.erf)
exp = _unary("exp", torch.exp)
floor = _unary("floor", torch.floor)
log = _unary("log", torch.log)


@named(input="x")
def neg(x: Operand) -> Tensor:
    return -x if isinstance(x, Tensor) else Tensor(-floats("neg", x))


reciprocal = _unary("reciprocal", torch.reciprocal)
relu = _unary("relu", torch.relu)
round = _unary("round", torch.round)
rsqrt = _unary("rsqrt", torch.rsqrt)
sigmoid = _unary("sigmoid", torch.sigmoid)
sign = _unary("sign", torch.sign)
silu = _unary("silu", F.silu)
sin = _unary("sin", torch.sin)
softplus = _unary("softplus", lambda x: torch.relu(x) + torch.log1p(torch.exp(-torch.abs(x))))
sqrt = _unary("sqrt", torch.sqrt)
square = _unary("square", lambda x: x * x)
stop_gradient = _unary("stop_gradient", torch.detach)
tanh = _unary("tanh", torch.tanh)
to_float = _unary("to_float", lambda x: x)


def _pair(name: str, function: Callable[..., torch.Tensor]) -> Callable[[Any, Any], Tensor]:
    @named(x="a", input="a", y="b", other="b")
    def of_two(a: Operand, b: Operand) -> Tensor:
        return pair(name, a, b, function)

    of_two.__name__ = name
    return of_two


maximum = _pair("maximum", larger)
minimum = _pair("minimum", smaller)


def _comparison(name: str, function: Callable[..., torch.Tensor]) -> Callable[[Any, Any], Tensor]:
    @named(x="a", input="a", y="b", other="b")
    def comparison(a: Operand, b: Operand) -> Tensor:
        return mask(function(*compare(name, a, b)))

    comparison.__name__ = name
    return comparison


lt, le = _comparison("lt", torch.lt), _comparison("le", torch.le)
gt, ge = _comparison("gt", torch.gt), _comparison("ge", torch.ge)
eq, ne = _comparison("eq", torch.eq), _comparison("ne", torch.ne)


def pow(x: Operand, exponent: Operand) -> Tensor:
    return power(x, exponent)


@named(input="x", a_min="min", a_max="max")
def clip(x: Operand, min: Optional[Operand] = None, max: Optional[Operand] = None) -> Tensor:
    if min is None and max is None:
        raise TypeError("clip() needs min, max or both")
    if min is not None:
        x = pair("clip", x, min, larger)
    if max is not None:
        x = pair("clip", x, max, smaller)
    return x  # type: ignore[return-value]


clamp = clip


@named(mask="condition", x="a", input="a", y="b", other="b")
def where(condition: Operand, a: Operand, b: Operand) -> Tensor:
    return _chosen("where", condition, a, b)


def _chosen(what: str, condition: object, a: object, b: object) -> Tensor:
    """The second where the first is not 0, else the third; integers where both are."""
    c, x, y = broadcasting(what, *(floats(what, value) for value in (condition, a, b)))
    if whole(a, b):
        x, y = (of(what, v) if isinstance(v, Tensor) else torch.tensor(integer(what, v)) for v in (a, b))
    return Tensor(torch.where(c != 0, x, y))


@named(input="x")
def masked_fill(x: Operand, mask: Operand, value: Operand) -> Tensor:
    return _chosen("masked_fill", mask, value, x)


@named(input="x")
def to_int(x: Operand) -> Tensor:
    """The nearest integer, ties to even; integers as they are."""
    tensor = operand("to_int", x)
    return Tensor(tensor if tensor.dtype == torch.int64 else rounded(tensor))


def truncated(x: Operand) -> Tensor:
    """PyTorch's cast to an integer: towards 0."""
    tensor = operand("int", x)
    return Tensor(tensor if tensor.dtype == torch.int64 else rounded(torch.trunc(tensor)))


class _Bfloat16(torch.autograd.Function):
    """Rounds; its gradient is that of the identity."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.bfloat16).to(torch.float32)

    @staticmethod
    def backward(ctx: Any, *dy: torch.Tensor) -> torch.Tensor:
        return dy[0]


@named(input="x")
def round_to(x: Operand, format: str) -> Tensor:
    if format not in ("bf16", "bfloat16"):
        raise ValueError(f'round_to: there is no format "{format}"; there is "bf16"')
    return Tensor(_Bfloat16.apply(floats("round_to", x)))


@named(input="x")
def gelu(x: Operand, approximate: Union[str, bool, None] = "none") -> Tensor:
    kind = approximate if isinstance(approximate, str) else "tanh" if approximate else "none"
    if kind not in ("none", "tanh"):
        raise ValueError(f'gelu: there is no approximation "{kind}"; there are "none" and "tanh"')
    return Tensor(F.gelu(floats("gelu", x), approximate=kind))


# ---- reductions


def _axes(what: str, dim: Any, rank: int) -> Tuple[int, ...]:
    if dim is None:
        return tuple(range(rank))
    dims = dim if isinstance(dim, (list, tuple)) else [dim]
    axes = tuple(axis_of(what, one, rank) for one in dims)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{what}: an axis is named twice")
    return axes


def _reduction(name: str, rule: Callable[[torch.Tensor, Tuple[int, ...]], torch.Tensor]) -> Callable[..., Tensor]:
    """`rule` keeps the reduced axes with length 1."""

    @named(input="x", axis="dim", keepdims="keepdim")
    def reduction(x: Operand, dim: Dims = None, keepdim: bool = False) -> Tensor:
        tensor = floats(name, x)
        axes = _axes(name, dim, tensor.ndim)
        kept = rule(tensor, axes) if axes else tensor
        return Tensor(kept if keepdim else _without(kept, axes))

    reduction.__name__ = name
    return reduction


def _without(kept: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    return kept.reshape([n for i, n in enumerate(kept.shape) if i not in axes])


def _count(x: torch.Tensor, axes: Sequence[int]) -> int:
    return math.prod(x.shape[i] for i in axes)


def _sum(x: torch.Tensor, axes: Tuple[int, ...]) -> torch.Tensor:
    return x.sum(axes, keepdim=True)


def _mean(x: torch.Tensor, axes: Tuple[int, ...]) -> torch.Tensor:
    return _sum(x, axes) * literal(1 / _count(x, axes))


def _max(x: torch.Tensor, axes: Tuple[int, ...]) -> torch.Tensor:
    """Ties give their gradient to the first, in row-major order of the reduced axes."""
    kept = [i for i in range(x.ndim) if i not in axes]
    rows = x.permute(*kept, *sorted(axes)).reshape(*(x.shape[i] for i in kept), -1)
    largest = torch.max(rows, dim=-1).values
    return largest.reshape([1 if i in axes else n for i, n in enumerate(x.shape)])


def _logsumexp(x: torch.Tensor, axes: Tuple[int, ...]) -> torch.Tensor:
    return torch.logsumexp(x, axes, keepdim=True)


sum = _reduction("sum", _sum)
mean = _reduction("mean", _mean)
max = _reduction("max", _max)
min = _reduction("min", lambda x, axes: -_max(-x, axes))
logsumexp = _reduction("logsumexp", _logsumexp)


@named(input="x", axis="dim", keepdims="keepdim", ddof="correction")
def var(
    x: Operand,
    dim: Dims = None,
    keepdim: bool = False,
    correction: Optional[float] = None,
    unbiased: Optional[bool] = None,
) -> Tensor:
    if (correction is None) == (unbiased is None):
        raise TypeError("var() needs correction=0 (NumPy: divides by n) or correction=1 (PyTorch: by n - 1)")
    less = float(bool(unbiased)) if correction is None else float(correction)
    tensor = floats("var", x)
    axes = _axes("var", dim, tensor.ndim)
    count = _count(tensor, axes) - less
    if count <= 0:
        raise ShapeError("var() of too few elements: use correction=0")
    deviation = tensor - (_mean(tensor, axes) if axes else tensor)
    kept = (_sum(deviation * deviation, axes) if axes else deviation * deviation) * literal(1 / count)
    return Tensor(kept if keepdim else _without(kept, axes))


@named(input="x", axis="dim", keepdims="keepdim")
def argmax(x: Operand, dim: Optional[int] = None, keepdim: bool = False) -> Tensor:
    tensor = floats("argmax", x)
    if dim is None:
        found = torch.argmax(tensor.reshape(-1), dim=-1)
        return Tensor(found.reshape([1] * tensor.ndim) if keepdim else found)
    return Tensor(torch.argmax(tensor, dim=axis_of("argmax", dim, tensor.ndim), keepdim=bool(keepdim)))


# ---- products


@named(input="a", other="b")
def matmul(a: Tensor, b: Tensor) -> Tensor:
    return product(a, b)


@named(x_="x", input="x")
def linear(x: Tensor, weight: Tensor, bias: Optional[Operand] = None) -> Tensor:
    return _scaled(product(x, weight), None, bias)


def einsum(equation: str, a: Operand, b: Optional[Operand] = None) -> Tensor:
    text = "".join(equation.split())
    if "->" not in text:
        raise ValueError('einsum: the equation has no `->`: write the result out: "bij,bjk->bik"')
    inputs, output = text.split("->", 1)
    operands = [floats("einsum", value) for value in (a, b) if value is not None]
    letters = inputs.split(",")
    if len(letters) != len(operands):
        raise ValueError(f"einsum: {len(letters)} operands in the equation, {len(operands)} given")
    for names in (*letters, output):
        if not (names == "" or (names.isascii() and names.isalpha())):
            raise ValueError("einsum: name every axis by a letter")
    if len(set(output)) != len(output):
        raise ValueError("einsum: a letter stands twice in the result")
    for names, tensor in zip(letters, operands):
        if len(names) != tensor.ndim:
            raise ShapeError(f"einsum: {len(names)} letters for a tensor of shape {list(tensor.shape)}")
    if unknown := set(output) - set(inputs):
        raise ValueError(f"einsum: '{unknown.pop()}' of the result is in no operand")
    try:
        return Tensor(torch.einsum(text, *operands))
    except RuntimeError as error:
        raise ShapeError(f"einsum: {error}") from None


# ---- shapes


def _ints(name: str, keywords: Tuple[str, ...], values: Sequence[Any], options: Dict[str, Any]) -> List[int]:
    given = list(values)
    for key in keywords:
        if key in options:
            given.append(options.pop(key))
    if options or not given:
        raise TypeError(f"{name}() needs a tensor and ints")
    return lengths(name, given)


def reshape(x: Tensor, *shape: Any, **options: Any) -> Tensor:
    tensor, dims = of("reshape", x), _ints("reshape", ("shape",), shape, options)
    known = math.prod(n for n in dims if n != -1)
    if dims.count(-1) > 1:
        raise ShapeError("reshape: more than one length is -1")
    if -1 in dims and known > 0 and tensor.numel() % known == 0:
        dims[dims.index(-1)] = tensor.numel() // known
    if any(n < 1 for n in dims) or math.prod(dims) != tensor.numel():
        raise ShapeError(f"reshape: the elements of {list(tensor.shape)} do not fit into {dims}")
    return Tensor(tensor.reshape(dims))


@named(input="x", axis1="dim0", axis2="dim1")
def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    if isinstance(dim0, (list, tuple)):
        raise TypeError("transpose() swaps two axes: use permute(...) to reorder all of them")
    tensor = of("transpose", x)
    return Tensor(tensor.transpose(*(axis_of("transpose", dim, tensor.ndim) for dim in (dim0, dim1))))


def permute(x: Tensor, *dims: Any, **options: Any) -> Tensor:
    tensor = of("permute", x)
    order = [axis_of("permute", dim, tensor.ndim) for dim in _ints("permute", ("dims", "axes"), dims, options)]
    if sorted(order) != list(range(tensor.ndim)):
        raise ShapeError(f"permute: {order} does not name each axis of {list(tensor.shape)} once")
    return Tensor(tensor.permute(order))


def _broadcast(name: str, tensor: torch.Tensor, dims: Sequence[int]) -> Tensor:
    try:
        return Tensor(tensor.broadcast_to(tuple(dims)))
    except RuntimeError:
        raise ShapeError(f"{name}: {list(tensor.shape)} does not broadcast to {list(dims)}") from None


@named(input="x", size="shape")
def broadcast_to(x: Operand, shape: ShapeLike) -> Tensor:
    return _broadcast("broadcast_to", operand("broadcast_to", x), shape_of("broadcast_to", [shape]))


def expand(x: Tensor, *size: Any, **options: Any) -> Tensor:
    tensor, dims = of("expand", x), _ints("expand", ("size", "shape"), size, options)
    missing = len(dims) - tensor.ndim
    dims = [tensor.shape[i - missing] if n == -1 and i >= missing else n for i, n in enumerate(dims)]
    return _broadcast("expand", tensor, shape_of("expand", dims))


@named(input="x")
def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    tensor = of("flatten", x)
    if tensor.ndim == 0:
        return Tensor(tensor.reshape(1))
    start, end = axis_of("flatten", start_dim, tensor.ndim), axis_of("flatten", end_dim, tensor.ndim)
    if start > end:
        raise ShapeError("flatten: start_dim comes after end_dim")
    return Tensor(tensor.flatten(start, end))


@named(input="x", axis="dim")
def squeeze(x: Tensor, dim: Optional[int] = None) -> Tensor:
    tensor = of("squeeze", x)
    return Tensor(tensor.squeeze() if dim is None else tensor.squeeze(axis_of("squeeze", dim, tensor.ndim)))


@named(input="x", axis="dim")
def unsqueeze(x: Tensor, dim: int) -> Tensor:
    tensor = of("unsqueeze", x)
    return Tensor(tensor.unsqueeze(axis_of("unsqueeze", dim, tensor.ndim + 1)))


expand_dims = unsqueeze


def _tensors(name: str, values: Any) -> List[torch.Tensor]:
    if isinstance(values, Tensor):
        raise TypeError(f"{name}() takes a list of tensors: write {name}([a, b], dim=...)")
    values = list(values)
    if not values:
        raise ShapeError(f"{name}: nothing to join")
    if any(is_number(value) or of(name, value).dtype == torch.float32 for value in values):
        return [floats(name, value) for value in values]
    return [of(name, value) for value in values]


@named(axis="dim")
def concat(tensors: Sequence[Operand], dim: int = 0) -> Tensor:
    parts = _tensors("concat", tensors)
    at = axis_of("concat", dim, parts[0].ndim)
    shapes = {tuple(n for i, n in enumerate(part.shape) if i != at) for part in parts}
    if len(shapes) > 1 or any(part.ndim != parts[0].ndim for part in parts):
        raise ShapeError(f"concat: shapes {[list(part.shape) for part in parts]} differ but for axis {at}")
    return Tensor(torch.cat(parts, at))


cat = concatenate = concat


@named(axis="dim")
def stack(tensors: Sequence[Operand], dim: int = 0) -> Tensor:
    parts = _tensors("stack", tensors)
    if len({part.shape for part in parts}) > 1:
        raise ShapeError(f"stack: shapes {[list(part.shape) for part in parts]} must be equal")
    return Tensor(torch.stack(parts, axis_of("stack", dim, parts[0].ndim + 1)))


@named(input="x", split_size_or_sections="sizes", size="sizes", axis="dim")
def split(x: Tensor, sizes: Union[int, Sequence[int]], dim: int = 0) -> Tuple[Tensor, ...]:
    tensor = of("split", x)
    at = axis_of("split", dim, tensor.ndim)
    n = tensor.shape[at]
    if isinstance(sizes, (list, tuple)):
        parts = shape_of("split", [sizes])
        if math.fsum(parts) != n:
            raise ShapeError(f"split: {parts} do not sum to the length {n} of axis {at}")
        return tuple(Tensor(part) for part in torch.split(tensor, parts, at))
    if integer("split: size", sizes) < 1:
        raise ShapeError("split: the size is at least 1")
    return tuple(Tensor(part) for part in torch.split(tensor, sizes, at))  # type: ignore[arg-type]


@named(input="x", n="chunks", axis="dim")
def chunk(x: Tensor, chunks: int, dim: int = 0) -> Tuple[Tensor, ...]:
    tensor = of("chunk", x)
    at, count = axis_of("chunk", dim, tensor.ndim), integer("chunk", chunks)
    if count < 1 or tensor.shape[at] % count:
        raise ShapeError(f"chunk: axis {at} of length {tensor.shape[at]} has no {count} equal parts")
    return tuple(Tensor(part) for part in torch.chunk(tensor, count, at))


@named(input="x", axis="dim")
def pad(x: Operand, before: int, after: int, dim: int = -1) -> Tensor:
    tensor = floats("pad", x)
    at = axis_of("pad", dim, tensor.ndim)
    zeros = [integer("pad", n) for n in (before, after)]
    if zeros[0] < 0 or zeros[1] < 0:
        raise ShapeError("pad: a negative number of zeros: cut with a slice")
    return Tensor(F.pad(tensor, [0, 0] * (tensor.ndim - 1 - at) + zeros))


def numel(x: Tensor) -> int:
    return of("numel", x).numel()


def ndim(x: Tensor) -> int:
    return of("dim", x).ndim


def size(x: Tensor, dim: Optional[int] = None) -> Union[int, Tuple[int, ...]]:
    shape = tuple(of("size", x).shape)
    return shape if dim is None else shape[axis_of("size", dim, len(shape))]


# ---- indices


@named(x="ids", input="ids", weight="table")
def embedding(ids: Tensor, table: Tensor) -> Tensor:
    rows, weights = of("embedding", ids), of("embedding", table)
    if rows.dtype == torch.float32 and weights.dtype == torch.int64:
        rows, weights = weights, rows
    if weights.ndim != 2:
        raise ShapeError(f"embedding: the table {list(weights.shape)} must have two axes")
    return Tensor(F.embedding(ids_of("embedding", Tensor(rows)), weights))


@named(input="x", index="ids")
def take(x: Operand, ids: Tensor) -> Tensor:
    tensor, places = floats("take", x), ids_of("take", ids)
    if tensor.ndim == 0 or tensor.shape[:-1] != places.shape:
        raise ShapeError(f"take: ids {list(places.shape)} for rows of {list(tensor.shape)}")
    return Tensor(tensor.gather(-1, places.unsqueeze(-1)).squeeze(-1))


@named(x="ids", input="ids", n="num_classes")
def one_hot(ids: Tensor, num_classes: int) -> Tensor:
    if integer("one_hot", num_classes) < 1:
        raise ShapeError("one_hot: at least one class")
    return mask(ids_of("one_hot", ids).unsqueeze(-1) == torch.arange(num_classes))


def _along_axis(what: str, x: Any, dim: Any) -> Tuple[torch.Tensor, int]:
    tensor = floats(what, x)
    return tensor, axis_of(what, dim, tensor.ndim)


@named(input="x", axis="dim")
def cumsum(x: Operand, dim: int) -> Tensor:
    tensor, at = _along_axis("cumsum", x, dim)
    return Tensor(torch.cumsum(tensor, at))


@named(input="x", axis="dim", ids="index")
def gather(x: Tensor, dim: int, index: Tensor) -> Tensor:
    tensor, places = of("gather", x), ids_of("gather: index", index)
    at = axis_of("gather", dim, tensor.ndim)
    others = [i for i in range(tensor.ndim) if i != at]
    if tensor.ndim != places.ndim or any(places.shape[i] > tensor.shape[i] for i in others):
        raise ShapeError(f"gather along axis {at}: index {list(places.shape)} does not fit {list(tensor.shape)}")
    return Tensor(torch.gather(tensor, at, places))


@named(input="x", axis="dim", ids="index")
def scatter_add(x: Operand, dim: int, index: Tensor, src: Operand) -> Tensor:
    tensor, at = _along_axis("scatter_add", x, dim)
    places, source = ids_of("scatter_add: index", index), floats("scatter_add: src", src)
    wanted = (
        [places.shape[i] if i == at else n for i, n in enumerate(tensor.shape)] if places.ndim == tensor.ndim else []
    )
    if list(places.shape) != wanted or source.shape != places.shape:
        shapes = f"index {list(places.shape)}, src {list(source.shape)}, x {list(tensor.shape)}"
        raise ShapeError(f"scatter_add along axis {at}: {shapes}")
    return Tensor(torch.scatter_add(tensor, at, places, source))


def _sorted(what: str, x: Any, dim: Any, descending: bool) -> Tuple[torch.Tensor, torch.Tensor, int]:
    """Values and ids in order, equal ones by id, and the axis."""
    tensor, at = _along_axis(what, x, dim)
    values, places = torch.sort(tensor, dim=at, descending=bool(descending), stable=True)
    return values, places, at


@named(input="x", axis="dim")
def topk(x: Operand, k: int, dim: int = -1, largest: bool = True) -> Tuple[Tensor, Tensor]:
    values, places, at = _sorted("topk", x, dim, largest)
    if not 1 <= integer("topk: k", k) <= values.shape[at]:
        raise ShapeError(f"topk: {k} of an axis of length {values.shape[at]}")
    return Tensor(values.narrow(at, 0, k)), Tensor(places.narrow(at, 0, k))


@named(input="x", axis="dim")
def sort(x: Operand, dim: int = -1, descending: bool = False) -> Tuple[Tensor, Tensor]:
    values, places, _ = _sorted("sort", x, dim, descending)
    return Tensor(values), Tensor(places)


@named(input="x", axis="dim")
def argsort(x: Operand, dim: int = -1, descending: bool = False) -> Tensor:
    return Tensor(_sorted("argsort", x, dim, descending)[1])


@named(input="x", axis="dims", dim="dims")
def flip(x: Tensor, dims: Union[int, Sequence[int]]) -> Tensor:
    tensor = of("flip", x)
    return Tensor(torch.flip(tensor, [axis_of("flip", dim, tensor.ndim) for dim in lengths("flip", [dims])]))


@named(input="x", shift="shifts", axis="dims", dim="dims")
def roll(x: Tensor, shifts: int, dims: int) -> Tensor:
    tensor = of("roll", x)
    return Tensor(torch.roll(tensor, integer("roll: shifts", shifts), axis_of("roll", dims, tensor.ndim)))


def _triangle(name: str, function: Callable[..., torch.Tensor]) -> Callable[..., Tensor]:
    @named(input="x")
    def triangle(x: Operand, diagonal: int = 0) -> Tensor:
        tensor = floats(name, x)
        if tensor.ndim < 2:
            raise ShapeError(f"{name}: {list(tensor.shape)} has no rows and columns")
        return Tensor(function(tensor, integer(f"{name}: diagonal", diagonal)))

    triangle.__name__ = name
    return triangle


tril, triu = _triangle("tril", torch.tril), _triangle("triu", torch.triu)


# ---- convolutions


def _each(what: str, value: Any, axes: int, least: int) -> List[int]:
    """An int for each axis, or one for all."""
    given = [integer(what, value)] * axes if isinstance(value, int) else lengths(what, [value])
    if len(given) != axes or any(n < least for n in given):
        raise ShapeError(f"{what}: {given}; an int of at least {least}, or {axes} of them")
    return given


def _convolution(name: str, axes: int, function: Callable[..., torch.Tensor]) -> Callable[..., Tensor]:
    @named(x="input", w="weight")
    def convolution(
        input: Operand,
        weight: Operand,
        bias: Optional[Operand] = None,
        stride: Union[int, Sequence[int], None] = 1,
        padding: Union[int, Sequence[int], str, None] = 0,
        dilation: Union[int, Sequence[int], None] = 1,
        groups: Optional[int] = 1,
    ) -> Tensor:
        x, w = floats(name, input), floats(name, weight)
        if x.ndim != axes + 2 or w.ndim != axes + 2:
            raise ShapeError(f"{name}: input {list(x.shape)} and weight {list(w.shape)} have {axes + 2} axes each")
        steps = _each(f"{name}: stride", 1 if stride is None else stride, axes, 1)
        apart = _each(f"{name}: dilation", 1 if dilation is None else dilation, axes, 1)
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f'{name}: there is no padding "{padding}"; there are "same", "valid" and ints')
            if padding == "same" and any(n != 1 for n in steps):
                raise ValueError(f'{name}: padding="same" with a stride: say how many zeros')
        else:
            padding = _each(f"{name}: padding", 0 if padding is None else padding, axes, 0)
        if bias is not None and floats(name, bias).shape != w.shape[:1]:
            raise ShapeError(f"{name}: a bias of shape {list(floats(name, bias).shape)} for {w.shape[0]} channels")
        added = None if bias is None else floats(name, bias)
        try:
            return Tensor(function(x, w, added, steps, padding, apart, 1 if groups is None else groups))
        except RuntimeError as error:
            raise ShapeError(f"{name}: {error}") from None

    convolution.__name__ = name
    return convolution


conv1d, conv2d = _convolution("conv1d", 1, F.conv1d), _convolution("conv2d", 2, F.conv2d)


def _pool(name: str, function: Callable[..., torch.Tensor]) -> Callable[..., Tensor]:
    @named(x="input")
    def pool(input: Operand, kernel_size: ShapeLike, stride: Optional[ShapeLike] = None) -> Tensor:
        tensor = floats(name, input)
        kernel = _each(f"{name}: kernel_size", kernel_size, 2, 1)
        if stride is not None and _each(f"{name}: stride", stride, 2, 1) != kernel:
            raise ValueError(f"{name}: the windows overlap or leave gaps: the stride is the kernel size")
        if tensor.ndim != 4 or any(n < k for n, k in zip(tensor.shape[2:], kernel)):
            raise ShapeError(f"{name}: windows of {kernel} in a tensor of shape {list(tensor.shape)}")
        return Tensor(function(tensor, kernel))

    pool.__name__ = name
    return pool


max_pool2d, avg_pool2d = _pool("max_pool2d", F.max_pool2d), _pool("avg_pool2d", F.avg_pool2d)


# ---- layers


def _along(name: str, function: Callable[..., torch.Tensor]) -> Callable[..., Tensor]:
    @named(input="x", axis="dim")
    def along(x: Operand, dim: int = -1) -> Tensor:
        tensor = floats(name, x)
        return Tensor(function(tensor, dim=axis_of(name, dim, tensor.ndim)))

    along.__name__ = name
    return along


softmax, log_softmax = _along("softmax", torch.softmax), _along("log_softmax", torch.log_softmax)


def _scaled(x: Tensor, gain: Optional[Operand], bias: Optional[Operand]) -> Tensor:
    if isinstance(gain, (list, tuple)) or isinstance(bias, (list, tuple)):
        raise TypeError(
            "the normalised axis is always the last: write rms_norm(x, weight), layer_norm(x, weight, bias)"
        )
    if gain is not None:
        x = x * gain
    return x if bias is None else x + bias


def _epsilon(eps: Optional[float], default: float) -> float:
    size = optional(eps, default)
    if size < 0:
        raise ValueError("eps is negative")
    return literal(size)


@named(input="x", gain="weight")
def rms_norm(x: Operand, weight: Optional[Operand] = None, eps: Optional[float] = 1e-6) -> Tensor:
    tensor = floats("rms_norm", x)
    normal = F.rms_norm(tensor, tensor.shape[-1:], eps=_epsilon(eps, 1e-6))
    return _scaled(Tensor(normal), weight, None)


@named(input="x", gain="weight")
def layer_norm(
    x: Operand, weight: Optional[Operand] = None, bias: Optional[Operand] = None, eps: Optional[float] = 1e-5
) -> Tensor:
    tensor = floats("layer_norm", x)
    normal = F.layer_norm(tensor, tensor.shape[-1:], eps=_epsilon(eps, 1e-5))
    return _scaled(Tensor(normal), weight, bias)


@functools.lru_cache(maxsize=16)
def _rotations(positions: int, d: int, base: float) -> Tuple[torch.Tensor, torch.Tensor]:
    frequencies = torch.exp(-(2 * torch.arange(d // 2, dtype=torch.float64) / d) * math.log(base))
    angles = (torch.arange(positions, dtype=torch.float64)[:, None] * frequencies.float().double()).float()
    return torch.cos(angles.double()).float(), torch.sin(angles.double()).float()


@named(input="x", theta="base")
def rope(x: Operand, base: float = 10_000.0) -> Tensor:
    tensor = floats("rope", x)
    if base <= 0:
        raise ValueError("rope: the base is above 0")
    if tensor.ndim < 2 or tensor.shape[-1] % 2:
        raise ShapeError(f"rope: {list(tensor.shape)} needs a position axis and an even last axis")
    c, s = _rotations(tensor.shape[-2], tensor.shape[-1], literal(base))
    a, b = tensor.chunk(2, -1)
    return Tensor(torch.cat((a * c - b * s, b * c + a * s), -1))


@named(query="q", key="k", value="v", is_causal="causal", softcap="soft_cap")
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = False,
    window: Optional[int] = None,
    scale: Optional[float] = None,
    soft_cap: Optional[float] = None,
) -> Tensor:
    queries, keys, values = (floats("attention", x) for x in (q, k, v))
    _check_attention(queries, keys, values, bool(causal) or window is not None)
    if window is not None and integer("attention: window", window) < 1:
        raise ValueError("attention: a window is at least 1 key wide")
    if soft_cap is not None and soft_cap <= 0:
        raise ValueError("attention: a soft cap is above 0")
    factor = literal(1 / math.sqrt(queries.shape[-1]) if scale is None else scale)
    groups = queries.shape[1] // keys.shape[1]
    if window is None and soft_cap is None:
        keys, values = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (keys, values))
        y = F.scaled_dot_product_attention(queries, keys, values, is_causal=bool(causal), scale=factor)
        return Tensor(y)
    keys, values = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (keys, values))
    scores = (queries @ keys.mT) * factor
    if soft_cap is not None:
        scores = literal(soft_cap) * torch.tanh(scores / literal(soft_cap))
    if causal or window is not None:
        places = torch.arange(queries.shape[2])
        back = places[:, None] - places
        hidden = (back < 0) | (back >= window) if window is not None else back < 0
        scores = scores.masked_fill(hidden, -math.inf)
    return Tensor(torch.softmax(scores, -1) @ values)


def _check_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> None:
    if k.shape != v.shape or q.ndim != 4 or k.ndim != 4:
        raise ShapeError("attention: q [B, H, T, D], k and v [B, Hk, S, D] of one shape")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3] or q.shape[1] % k.shape[1]:
        raise ShapeError(f"attention: q {list(q.shape)}, k {list(k.shape)}: the heads of k divide those of q")
    if causal and q.shape[2] != k.shape[2]:
        raise ShapeError(f"attention: {q.shape[2]} queries and {k.shape[2]} keys: a causal mask needs as many of each")


@named(x="logits", input="logits", y="targets", target="targets")
def cross_entropy(
    logits: Operand, targets: Tensor, reduction: str = "mean", ignore_index: Optional[int] = None
) -> Tensor:
    if ignore_index is not None and ignore_index != -1:
        raise ValueError("cross_entropy: the target that is ignored is -1: leave ignore_index out")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'cross_entropy: there is no reduction "{reduction}"; there are "mean", "sum" and "none"')
    scores, classes = floats("cross_entropy", logits), ids_of("cross_entropy", targets)
    if scores.ndim == 0 or scores.shape[:-1] != classes.shape:
        raise ShapeError(f"cross_entropy: logits {list(scores.shape)}, targets {list(classes.shape)}")
    flat = scores.reshape(-1, scores.shape[-1])
    losses = F.cross_entropy(flat, classes.reshape(-1), ignore_index=-1, reduction="none")
    if reduction == "none":
        return Tensor(losses.reshape(classes.shape))
    total = losses.sum()
    if reduction == "sum":
        return Tensor(total)
    return Tensor(total / (classes >= 0).sum().clamp(min=1))


# ---- random numbers


@named(size="shape")
def uniform(shape: ShapeLike, name: Optional[str] = None) -> Tensor:
    return Tensor(current("uniform").random("uniform", "uniform", name, shape_of("uniform", [shape])))


@named(size="shape")
def normal(shape: ShapeLike, name: Optional[str] = None) -> Tensor:
    return Tensor(current("normal").random("normal", "normal", name, shape_of("normal", [shape])))


@named(input="x", rate="p")
def dropout(x: Operand, p: float = 0.5, name: Optional[str] = None, training: bool = True) -> Tensor:
    tensor, run = floats("dropout", x), current("dropout")
    if not 0 <= p < 1:
        raise ValueError("dropout: p is at least 0 and below 1")
    if p == 0 or not training or not run.training:
        return Tensor(tensor)
    keep = run.random("dropout", "uniform", name, tensor.shape) >= literal(p)
    return Tensor(tensor * keep * literal(1 / (1 - p)))


#: Methods of a tensor, by name.
METHODS: Dict[str, Callable[..., Any]] = {
    "abs": abs,
    "amax": max,
    "argmax": argmax,
    "argsort": argsort,
    "chunk": chunk,
    "clamp": clip,
    "clip": clip,
    "cos": cos,
    "cumsum": cumsum,
    "detach": stop_gradient,
    "dim": ndim,
    "erf": erf,
    "exp": exp,
    "expand": expand,
    "flatten": flatten,
    "flip": flip,
    "float": to_float,
    "floor": floor,
    "gather": gather,
    "int": truncated,
    "log": log,
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
    "long": truncated,
    "masked_fill": masked_fill,
    "matmul": matmul,
    "max": max,
    "mean": mean,
    "min": min,
    "neg": neg,
    "numel": numel,
    "permute": permute,
    "pow": pow,
    "reciprocal": reciprocal,
    "relu": relu,
    "reshape": reshape,
    "roll": roll,
    "round": round,
    "rsqrt": rsqrt,
    "scatter_add": scatter_add,
    "sigmoid": sigmoid,
    "sign": sign,
    "sin": sin,
    "size": size,
    "softmax": softmax,
    "sort": sort,
    "split": split,
    "sqrt": sqrt,
    "square": square,
    "squeeze": squeeze,
    "sum": sum,
    "tanh": tanh,
    "topk": topk,
    "transpose": transpose,
    "tril": tril,
    "triu": triu,
    "unsqueeze": unsqueeze,
    "var": var,
    "view": reshape,
}

for _name, _method in METHODS.items():
    setattr(Tensor, _name, _method)
