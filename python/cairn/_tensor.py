"""Tensors of a program: PyTorch tensors that behave as the language says and refuse what it refuses.

Floats are 32 bits; ids are integers and stay apart from them. Comparisons give floats 0 and 1. A tensor has a shape and
no values that a program could read.
"""

from __future__ import annotations

import math
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch

from ._errors import ShapeError

Number = Union[bool, int, float]
Operand = Union["Tensor", int, float]

#: The number system ends here; numbers nearer to 0 than _TINY are 0.
_HUGE, _TINY = 2.0**60, 2.0**-100
#: Integers that become floats stay within the first, floats that become integers within the second.
_EXACT_INT, _INT_END = (1 << 24) - 1, 1 << 24
#: Largest whole exponent that is written as products.
_PRODUCTS_MAX = 16

_NO_VALUES = "a tensor has no values while the graph is built: use where(mask, a, b) for a choice that depends on data"


def is_number(value: object) -> bool:
    return isinstance(value, (bool, int, float))


def article(value: object) -> str:
    name = "tensor" if isinstance(value, Tensor) else type(value).__name__
    return f"{'an' if name[0] in 'aei' else 'a'} {name}"


def literal(value: Number) -> float:
    """A number as it meets a tensor: rounded to 32 bits, within the number system."""
    number = float(value)
    if math.isnan(number):
        raise ValueError("not a number (inf - inf, ...) cannot become a tensor")
    with np.errstate(over="ignore"):
        rounded = float(np.float32(number))
    if abs(rounded) < _TINY:
        return 0.0
    return math.copysign(min(abs(rounded), _HUGE), rounded)


def of(what: str, value: object) -> torch.Tensor:
    """The tensor that a value is."""
    if isinstance(value, Tensor):
        return value.value
    raise TypeError(f"{what}: a tensor is needed, not {article(value)}")


def operand(what: str, value: object) -> torch.Tensor:
    """As `of`; numbers become scalars."""
    if isinstance(value, (bool, int, float)):
        return torch.tensor(literal(value), dtype=torch.float32)
    return of(what, value)


def floats(what: str, value: object) -> torch.Tensor:
    """As `operand`; integers become floats."""
    tensor = operand(what, value)
    if tensor.dtype == torch.float32:
        return tensor
    return tensor.clamp(-_EXACT_INT, _EXACT_INT).to(torch.float32)


def ids(what: str, value: object) -> torch.Tensor:
    """A tensor of integers."""
    tensor = of(what, value)
    if tensor.dtype != torch.int64:
        raise TypeError(f"{what} takes ids, not floats")
    return tensor


def integer(what: str, value: object) -> int:
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"{what}: an int is needed, not {article(value)}")


def axis(what: str, value: object, rank: int) -> int:
    at = integer(f"{what}: dim", value)
    if not -rank <= at < rank:
        raise ShapeError(f"{what}: axis {at} is out of range for a tensor with {rank} axes")
    return at % rank


def lengths(what: str, values: Sequence[object]) -> List[int]:
    """Ints given one by one, or as one list or tuple."""
    if len(values) == 1 and isinstance(values[0], (list, tuple)):
        values = values[0]
    return [integer(what, value) for value in values]


def shape_of(what: str, values: Sequence[object]) -> List[int]:
    dims = lengths(what, values)
    if any(n < 1 for n in dims):
        raise ShapeError(f"{what}: the lengths of a shape are at least 1")
    return dims


def broadcasting(what: str, *tensors: torch.Tensor) -> Tuple[torch.Tensor, ...]:
    """Checks that shapes fit, so that the message is ours."""
    try:
        torch.broadcast_shapes(*(tensor.shape for tensor in tensors))  # type: ignore[no-untyped-call]
    except RuntimeError:
        shapes = " and ".join(str(list(tensor.shape)) for tensor in tensors)
        raise ShapeError(f"{what}: shapes {shapes} do not broadcast") from None
    return tensors


def mask(found: torch.Tensor) -> Tensor:
    return Tensor(found.to(torch.float32))


def maximum(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The larger; ties give their gradient to the first."""
    return torch.where(a < b, b, a)


def minimum(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.where(b < a, b, a)


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Floats as ids: the nearest integer, ties to even, within 2^24."""
    return torch.round(x).clamp(-_INT_END, _INT_END).to(torch.int64)


def whole(*values: object) -> bool:
    """Whether operands are integers, as tensors or numbers, at least one of them a tensor."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    numbers = all(isinstance(value, (Tensor, int)) for value in values)
    return numbers and bool(tensors) and all(tensor.value.dtype == torch.int64 for tensor in tensors)


def pair(symbol: str, a: object, b: object, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Tensor:
    """A function of two operands as floats; of integers it is an integer."""
    for value in (a, b):
        if not isinstance(value, (Tensor, bool, int, float)):
            raise TypeError(f"`{symbol}` does not go with {article(a)} and {article(b)}")
    result = function(*broadcasting(symbol, floats(symbol, a), floats(symbol, b)))
    return Tensor(rounded(result) if whole(a, b) else result)


def divide(a: object, b: object) -> Tensor:
    left, right = broadcasting("/", floats("/", a), floats("/", b))
    return Tensor(left / right)


def _quotient(a: object, b: object) -> torch.Tensor:
    """The floor of a / b; of integers, half an element above a, where no rounding crosses a whole number."""
    left, right = broadcasting("//", floats("//", a), floats("//", b))
    if not whole(a, b):
        return torch.floor(left / right)
    if not (isinstance(b, int) and b > 0):
        raise TypeError("integer tensors are divided by whole numbers above 0: floor(to_float(a) / to_float(b))")
    return torch.floor((left + 0.5) / right)


def floor_divide(a: object, b: object) -> Tensor:
    floor = _quotient(a, b)
    return Tensor(rounded(floor) if whole(a, b) else floor)


def remainder(a: object, b: object) -> Tensor:
    rest = floats("%", a) - _quotient(a, b) * floats("%", b)
    return Tensor(rounded(rest) if whole(a, b) else rest)


def selected(x: torch.Tensor, axis: int, places: torch.Tensor) -> torch.Tensor:
    """The elements of an axis that ids name, whose axes take its place; zeros where an id is outside."""
    n = x.shape[axis]
    taken = x.movedim(axis, 0)[places.clamp(0, n - 1)]
    valid = ((places >= 0) & (places < n)).reshape(*places.shape, *[1] * (x.ndim - 1))
    own, before = places.ndim, axis
    back = [*range(own, own + before), *range(own), *range(own + before, taken.ndim)]
    return torch.where(valid, taken, torch.zeros_like(taken)).permute(back)


def compare(symbol: str, a: object, b: object) -> Tuple[torch.Tensor, torch.Tensor]:
    """Both sides of a comparison; integers are compared as integers."""

    if whole(a, b):
        left, right = (
            value.value if isinstance(value, Tensor) else torch.tensor(integer(symbol, value)) for value in (a, b)
        )
    else:
        left, right = floats(symbol, a), floats(symbol, b)
    left, right = broadcasting(symbol, left, right)
    return left, right


def product(a: object, b: object) -> Tensor:
    left, right = floats("@", a), floats("@", b)
    if left.ndim == 0 or right.ndim == 0:
        raise ShapeError("`@` needs at least one axis on both sides: use `*` for numbers")
    if left.shape[-1] != right.shape[-2 if right.ndim > 1 else 0]:
        raise ShapeError(f"matmul: {list(left.shape)} @ {list(right.shape)}: inner lengths differ")
    if left.ndim > 2 and right.ndim > 2:
        broadcasting("matmul", left[..., 0, 0], right[..., 0, 0])
    return Tensor(torch.matmul(left, right))


def power(a: object, b: object) -> Tensor:
    """Small whole powers are products, `** 0.5` is a square root, everything else exp(b * log a)."""
    if not is_number(b):
        exponent = floats("**", b)
        if isinstance(a, (bool, int, float)):
            if a <= 0:
                raise ValueError("a power of a number needs a base above 0")
            return Tensor(torch.exp(exponent * literal(math.log(a))))
        left, right = broadcasting("**", floats("**", a), exponent)
        return Tensor(torch.exp(right * torch.log(left)))
    base, number = floats("**", a), float(b)  # type: ignore[arg-type]
    if number == 0.5:
        return Tensor(torch.sqrt(base))
    if number == -0.5:
        return Tensor(torch.rsqrt(base))
    if not (number.is_integer() and abs(number) <= _PRODUCTS_MAX):
        return Tensor(torch.exp(torch.log(base) * literal(number)))
    if number == 0:
        return Tensor(torch.ones_like(base))
    result = base
    for _ in range(1, int(abs(number))):
        result = result * base
    return Tensor(torch.reciprocal(result) if number < 0 else result)


class Tensor:
    """A tensor of the program."""

    __slots__ = ("value",)
    #: Equality is a mask: a tensor is no key.
    __hash__ = None  # type: ignore[assignment]
    #: NumPy must not take an operator away.
    __array_ufunc__ = None

    def __init__(self, value: torch.Tensor) -> None:
        self.value = value

    def __repr__(self) -> str:
        kind = "ids" if self.value.dtype == torch.int64 else "floats"
        return f"Tensor({kind} {list(self.value.shape)})"

    # ---- attributes

    @property
    def shape(self) -> Tuple[int, ...]:
        return tuple(self.value.shape)

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def T(self) -> Tensor:
        if self.ndim != 2:
            raise ShapeError(f".T of a tensor with {self.ndim} axes: use .mT to swap the last two, or permute(...)")
        return Tensor(self.value.mT)

    @property
    def mT(self) -> Tensor:
        if self.ndim < 2:
            raise ShapeError(".mT needs two axes")
        return Tensor(self.value.mT)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a tensor has no '{name}': see the list of methods in train-py.md; tensors have shapes, no values,"
            " and the engine chooses device and precision and differentiates by itself"
        )

    # ---- what tensors are not

    def __bool__(self) -> bool:
        raise TypeError(_NO_VALUES)

    def __float__(self) -> float:
        raise TypeError(_NO_VALUES)

    def __int__(self) -> int:
        raise TypeError(_NO_VALUES)

    def __index__(self) -> int:
        raise TypeError(_NO_VALUES)

    def __iter__(self) -> Any:
        raise TypeError("a tensor cannot be gone over or unpacked: use slices such as x[:, i], or chunk(x, n, dim=...)")

    def __contains__(self, item: object) -> bool:
        raise TypeError(_NO_VALUES)

    def __setitem__(self, key: object, value: object) -> None:
        raise TypeError("a tensor cannot be changed: use where(mask, a, b), or pad and concat")

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("a scalar has no len()")
        return self.shape[0]

    # ---- operators

    def __add__(self, other: Operand) -> Tensor:
        return pair("+", self, other, torch.add)

    def __radd__(self, other: Operand) -> Tensor:
        # sum(list of tensors) starts at the integer 0, which adds nothing.
        if type(other) is int and other == 0:
            return self
        return pair("+", other, self, torch.add)

    def __sub__(self, other: Operand) -> Tensor:
        return pair("-", self, other, torch.sub)

    def __rsub__(self, other: Operand) -> Tensor:
        return pair("-", other, self, torch.sub)

    def __mul__(self, other: Operand) -> Tensor:
        return pair("*", self, other, torch.mul)

    def __rmul__(self, other: Operand) -> Tensor:
        return pair("*", other, self, torch.mul)

    def __truediv__(self, other: Operand) -> Tensor:
        return divide(self, other)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return divide(other, self)

    def __floordiv__(self, other: Operand) -> Tensor:
        return floor_divide(self, other)

    def __rfloordiv__(self, other: Operand) -> Tensor:
        return floor_divide(other, self)

    def __mod__(self, other: Operand) -> Tensor:
        return remainder(self, other)

    def __rmod__(self, other: Operand) -> Tensor:
        return remainder(other, self)

    def __matmul__(self, other: Tensor) -> Tensor:
        return product(self, other)

    def __pow__(self, exponent: Operand) -> Tensor:
        return power(self, exponent)

    def __rpow__(self, base: Operand) -> Tensor:
        return power(base, self)

    def __neg__(self) -> Tensor:
        negative = -floats("-", self)
        return Tensor(rounded(negative) if whole(self) else negative)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return Tensor(torch.abs(floats("abs", self)))

    def __lt__(self, other: Operand) -> Tensor:
        a, b = compare("<", self, other)
        return mask(a < b)

    def __le__(self, other: Operand) -> Tensor:
        a, b = compare("<=", self, other)
        return mask(a <= b)

    def __gt__(self, other: Operand) -> Tensor:
        a, b = compare(">", self, other)
        return mask(a > b)

    def __ge__(self, other: Operand) -> Tensor:
        a, b = compare(">=", self, other)
        return mask(a >= b)

    def __eq__(self, other: object) -> Any:
        if other is None:
            return False
        a, b = compare("==", self, other)
        return mask(a == b)

    def __ne__(self, other: object) -> Any:
        if other is None:
            return True
        a, b = compare("!=", self, other)
        return mask(a != b)

    # ---- subscripts

    def __getitem__(self, key: Any) -> Tensor:
        keys = list(key) if isinstance(key, tuple) else [key]
        index = _the_tensor(keys)
        cuts: List[Any] = []
        at, kept, taken = 0, 0, 0
        for one in self._expanded(keys):
            if one is None:
                cuts.append(None)
                kept += 1
                continue
            if isinstance(one, Tensor):
                taken = kept
            cut = self._axis_key(one, at)
            cuts.append(cut)
            kept += isinstance(cut, slice)
            at += 1
        cut = self.value[tuple(cuts)]
        return Tensor(cut if index is None else selected(cut, taken, ids("index", index)))

    def _expanded(self, keys: List[Any]) -> List[Any]:
        """Keys with `...` written out, one for each axis, `None`s besides."""
        used = sum(1 for key in keys if key is not None and key is not Ellipsis)
        dots = sum(1 for key in keys if key is Ellipsis)
        if dots > 1:
            raise TypeError("an index has more than one `...`")
        if used > self.ndim:
            raise ShapeError(f"{used} indices for a tensor of shape {list(self.shape)}")
        whole_axes = [slice(None)] * (self.ndim - used)
        if dots == 0:
            return keys + whole_axes
        at = next(i for i, key in enumerate(keys) if key is Ellipsis)
        return keys[:at] + whole_axes + keys[at + 1 :]

    def _axis_key(self, key: Any, at: int) -> Any:
        n = self.shape[at]
        if isinstance(key, Tensor):
            return slice(None)
        if isinstance(key, int):
            if not -n <= key < n:
                raise IndexError(f"index {key} is outside of axis {at} of length {n}")
            return key
        if isinstance(key, slice):
            places = range(n)[key]
            if not places:
                raise ShapeError(f"an empty slice of axis {at} of length {n}")
            if places.step < 0 and len(places) > 1:
                raise ValueError("a slice of a tensor has a step above 0: flip(x, dim) turns an axis round")
            return slice(places[0], places[-1] + 1, max(places.step, 1))
        raise TypeError(f"a tensor is indexed by ints and slices, not {article(key)}")


def _the_tensor(keys: Sequence[Any]) -> Optional[Tensor]:
    """The one tensor among the keys of an index, if there is one."""
    tensors = [i for i, key in enumerate(keys) if isinstance(key, Tensor)]
    if len(tensors) > 1:
        raise ValueError(
            "an index has more than one tensor: use gather(x, dim, index), take(x, ids), or index in steps"
        )
    # Further apart, NumPy puts the axes of the ids in front.
    if tensors and any(abs(i - tensors[0]) != 1 for i, key in enumerate(keys) if isinstance(key, int)):
        raise ValueError("an index has an int and a tensor that do not stand side by side: index in two steps")
    return keys[tensors[0]] if tensors else None


def optional(value: Optional[object], default: Number) -> float:
    """A number, or its default."""
    if value is None:
        return float(default)
    if isinstance(value, (bool, int, float)):
        return float(value)
    raise TypeError(f"a number is needed, not {article(value)}")
