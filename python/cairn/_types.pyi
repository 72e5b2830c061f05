"""Types of the language. Programs do not import them: annotations in a train.py are optional and have no effect."""

from types import EllipsisType
from typing import Any, Callable, Sequence, TypeAlias, overload

Operand: TypeAlias = Tensor | int | float
Shape: TypeAlias = int | Sequence[int]
Dims: TypeAlias = int | Sequence[int] | None
Schedule: TypeAlias = Callable[[int, int], float]
Hyper: TypeAlias = float | Schedule
Key: TypeAlias = int | slice | None | Tensor
Update: TypeAlias = Callable[[Tensor, Tensor, dict[str, Tensor], Step], tuple[Tensor, dict[str, Tensor]]]

class Tensor:
    """A tensor while the graph is built: it has a shape and no values."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
    @property
    def ndim(self) -> int:
        """Number of axes."""
    @property
    def T(self) -> Tensor:
        """A matrix with its axes swapped."""
    @property
    def mT(self) -> Tensor:
        """The last two axes swapped."""
    __hash__: None  # type: ignore[assignment]
    def __len__(self) -> int:
        """Length of the first axis."""
    def __getitem__(self, key: Key | EllipsisType | tuple[Key | EllipsisType, ...]) -> Tensor:
        """Ints, slices, `...`, `None`; `table[ids]` takes rows."""
    def __add__(self, other: Operand) -> Tensor: ...
    def __radd__(self, other: Operand) -> Tensor: ...
    def __sub__(self, other: Operand) -> Tensor: ...
    def __rsub__(self, other: Operand) -> Tensor: ...
    def __mul__(self, other: Operand) -> Tensor: ...
    def __rmul__(self, other: Operand) -> Tensor: ...
    def __truediv__(self, other: Operand) -> Tensor: ...
    def __rtruediv__(self, other: Operand) -> Tensor: ...
    def __floordiv__(self, other: Operand) -> Tensor: ...
    def __rfloordiv__(self, other: Operand) -> Tensor: ...
    def __mod__(self, other: Operand) -> Tensor: ...
    def __rmod__(self, other: Operand) -> Tensor: ...
    def __matmul__(self, other: Tensor) -> Tensor: ...
    def __pow__(self, exponent: Operand) -> Tensor: ...
    def __rpow__(self, base: Operand) -> Tensor: ...
    def __neg__(self) -> Tensor: ...
    def __pos__(self) -> Tensor: ...
    def __abs__(self) -> Tensor: ...
    def __lt__(self, other: Operand) -> Tensor: ...
    def __le__(self, other: Operand) -> Tensor: ...
    def __gt__(self, other: Operand) -> Tensor: ...
    def __ge__(self, other: Operand) -> Tensor: ...
    def __eq__(self, other: Operand) -> Tensor: ...  # type: ignore[override]
    def __ne__(self, other: Operand) -> Tensor: ...  # type: ignore[override]
    def abs(self) -> Tensor:
        """|x|."""
    def amax(self, dim: Dims = None, keepdim: bool = False, *, axis: Dims = ..., keepdims: bool = ...) -> Tensor:
        """Maximum over axes; ties give their gradient to the first."""
    def argmax(self, dim: int | None = None, keepdim: bool = False, *, axis: int = ..., keepdims: bool = ...) -> Tensor:
        """Index of the first maximum of the last axis."""
    def argsort(self, dim: int = -1, descending: bool = False, *, axis: int = ...) -> Tensor:
        """The ids of `sort`."""
    def chunk(self, chunks: int, dim: int = 0, *, axis: int = ...) -> tuple[Tensor, ...]:
        """Equal parts along an axis."""
    def clamp(self, min: Operand | None = None, max: Operand | None = None) -> Tensor:
        """At least `min`, at most `max`."""
    def clip(self, min: Operand | None = None, max: Operand | None = None) -> Tensor:
        """At least `min`, at most `max`."""
    def cos(self) -> Tensor:
        """Cosine of radians."""
    def cumsum(self, dim: int, *, axis: int = ...) -> Tensor:
        """Sums of all elements up to each one, along an axis."""
    def detach(self) -> Tensor:
        """The same, through which no gradient passes."""
    def dim(self) -> int:
        """Number of axes."""
    def erf(self) -> Tensor:
        """Error function."""
    def exp(self) -> Tensor:
        """e^x."""
    @overload
    def expand(self, *size: int) -> Tensor:
        """Broadcasts; -1 keeps a length."""
    @overload
    def expand(self, size: Sequence[int], /) -> Tensor: ...
    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Joins axes into one."""
    def flip(self, dims: int | Sequence[int]) -> Tensor:
        """Axes turned round."""
    def floor(self) -> Tensor:
        """Largest integer not above x."""
    def gather(self, dim: int, index: Tensor) -> Tensor:
        """Elements that ids name along an axis."""
    def log(self) -> Tensor:
        """Natural logarithm."""
    def log_softmax(self, dim: int = -1, *, axis: int = ...) -> Tensor:
        """Logarithm of softmax."""
    def logsumexp(self, dim: Dims = None, keepdim: bool = False, *, axis: Dims = ..., keepdims: bool = ...) -> Tensor:
        """log of the sum of e^x, without overflow."""
    def long(self) -> Tensor:
        """As `int`."""
    def masked_fill(self, mask: Tensor, value: Operand) -> Tensor:
        """The value where the mask is not 0, else x."""
    def matmul(self, b: Tensor) -> Tensor:
        """Matrix product."""
    def max(self, dim: Dims = None, keepdim: bool = False, *, axis: Dims = ..., keepdims: bool = ...) -> Tensor:
        """Maximum over axes; ties give their gradient to the first."""
    def mean(self, dim: Dims = None, keepdim: bool = False, *, axis: Dims = ..., keepdims: bool = ...) -> Tensor:
        """Mean over axes."""
    def min(self, dim: Dims = None, keepdim: bool = False, *, axis: Dims = ..., keepdims: bool = ...) -> Tensor:
        """Minimum over axes; ties give their gradient to the first."""
    def neg(self) -> Tensor:
        """-x."""
    def numel(self) -> int:
        """Number of elements."""
    @overload
    def permute(self, *dims: int) -> Tensor:
        """Axes reordered: output axis i is input axis dims[i]."""
    @overload
    def permute(self, dims: Sequence[int], /) -> Tensor: ...
    def pow(self, exponent: Operand) -> Tensor:
        """x ** exponent."""
    def reciprocal(self) -> Tensor:
        """1 / x."""
    def relu(self) -> Tensor:
        """max(x, 0)."""
    @overload
    def reshape(self, *shape: int) -> Tensor:
        """Same elements, new shape; one length may be -1."""
    @overload
    def reshape(self, shape: Sequence[int], /) -> Tensor: ...
    def roll(self, shifts: int, dims: int) -> Tensor:
        """Elements moved along an axis, those beyond the end back to the start."""
    def round(self) -> Tensor:
        """Nearest integer, ties to even."""
    def rsqrt(self) -> Tensor:
        """1 / sqrt(x)."""
    def scatter_add(self, dim: int, index: Tensor, src: Operand) -> Tensor:
        """x, to which the elements of src are added at index."""
    def sigmoid(self) -> Tensor:
        """1 / (1 + e^-x)."""
    def sign(self) -> Tensor:
        """-1, 0 or 1."""
    def sin(self) -> Tensor:
        """Sine of radians."""
    @overload
    def size(self) -> tuple[int, ...]:
        """The shape, or the length of one axis."""
    @overload
    def size(self, dim: int) -> int: ...
    def softmax(self, dim: int = -1, *, axis: int = ...) -> Tensor:
        """e^x / sum of e^x along an axis."""
    def sort(self, dim: int = -1, descending: bool = False, *, axis: int = ...) -> tuple[Tensor, Tensor]:
        """Values in order and their ids; equal ones keep their order."""
    def split(self, sizes: int | Sequence[int], dim: int = 0, *, axis: int = ...) -> tuple[Tensor, ...]:
        """Parts of one size, or of the sizes in a list."""
    def sqrt(self) -> Tensor:
        """Square root."""
    def square(self) -> Tensor:
        """x * x."""
    def squeeze(self, dim: int | None = None, *, axis: int = ...) -> Tensor:
        """Without axes of length 1."""
    def sum(self, dim: Dims = None, keepdim: bool = False, *, axis: Dims = ..., keepdims: bool = ...) -> Tensor:
        """Sum over axes."""
    def tanh(self) -> Tensor:
        """Hyperbolic tangent."""
    def topk(self, k: int, dim: int = -1, largest: bool = True, *, axis: int = ...) -> tuple[Tensor, Tensor]:
        """The k largest (or smallest) and their ids, ties by id."""
    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Two axes swapped."""
    def tril(self, diagonal: int = 0) -> Tensor:
        """The lower triangle of the last two axes, zeros elsewhere."""
    def triu(self, diagonal: int = 0) -> Tensor:
        """The upper triangle of the last two axes, zeros elsewhere."""
    def unsqueeze(self, dim: int, *, axis: int = ...) -> Tensor:
        """A new axis of length 1."""
    def var(
        self,
        dim: Dims = None,
        keepdim: bool = False,
        correction: int | Any = ...,
        *,
        axis: Dims = ...,
        keepdims: bool = ...,
        ddof: int = ...,
        unbiased: bool = ...,
    ) -> Tensor:
        """Variance over axes; correction=0 divides by n, correction=1 by n - 1."""
    @overload
    def view(self, *shape: int) -> Tensor:
        """Same elements, new shape; one length may be -1."""
    @overload
    def view(self, shape: Sequence[int], /) -> Tensor: ...
    # Below, the names of these two would mean the methods.
    def float(self) -> Tensor:
        """Ids as floats."""
    def int(self) -> Tensor:
        """Towards 0, as ids."""

class Optimiser:
    """What happens to a parameter after each step."""

class Group:
    """A pattern of names and the optimiser of the parameters that it matches."""

class Phase:
    """A stretch of training with its own batch and context."""

class Step:
    """`t` of an update: the step, and the optimiser's numbers by name; schedules are tensors."""

    step: Tensor
    def __getattr__(self, name: str) -> Any: ...
