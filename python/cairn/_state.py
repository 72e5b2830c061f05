"""What a program is traced with: parameters, optimiser states, schedules, random streams, and which mode it is.

One `Run` lives for a whole training; `begin` starts a step of it. Scalars and random numbers of a step are drawn here on the
host, or come ready-made where the step has been compiled.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, Hashable, List, Optional, Sequence, Tuple

import numpy as np
import torch

from ._errors import ProgramError, ShapeError
from ._random import Stream
from ._tensor import Tensor, literal

Shape = Tuple[int, ...]
#: A number of a step: how it is known, and its value at a step of so many.
Scalar = Tuple[Hashable, Callable[[int, int], float]]
#: Kind, stream and shape of a step's random numbers.
Draw = Tuple[str, str, Shape]

_PARAM_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Param:
    """A parameter: its name keys its initialisation."""

    name: str
    shape: Shape
    #: "constant", "normal" or "uniform", and its number.
    init: Tuple[str, float]
    tag: str


@dataclass
class Supply:
    """Scalars and random numbers of one step, computed beforehand."""

    scalars: List[torch.Tensor]
    draws: List[torch.Tensor]


class Run:
    """A training in progress."""

    def __init__(self, seed: bytes) -> None:
        self.seed = seed
        self.params: Dict[str, Param] = {}
        self.values: Dict[str, torch.Tensor] = {}
        self.states: Dict[str, torch.Tensor] = {}
        self.training = False
        self.in_model = False
        self.step = 0
        self.steps = 1
        self.scalars: Dict[Hashable, Callable[[int, int], float]] = {}
        self.draws: List[Draw] = []
        self.used: Dict[str, torch.Tensor] = {}
        self._known_draws: Dict[str, Stream] = {}
        self._scalar_values: Dict[Hashable, torch.Tensor] = {}
        self._supply: Optional[Supply] = None

    def begin(self, training: bool, values: Dict[str, torch.Tensor], supply: Optional[Supply] = None) -> None:
        """Starts a forward pass with these values of the parameters."""
        self.training, self.in_model = training, True
        self.values, self.used = values, {}
        self.draws = []
        self._supply = supply
        self._scalar_values = {}

    # ---- parameters

    def param(self, param: Param) -> Tensor:
        """The parameter of that name: a new one, or the same again."""
        if not self.in_model:
            raise ProgramError("param() outside of model(): call it inside of model() or a function that it calls")
        if not _PARAM_NAME.fullmatch(param.name):
            raise ValueError("a parameter's name has 1 to 64 letters, digits, `.`, `_`, `-`")
        known = self.params.get(param.name)
        if known is None:
            if not self.training:
                raise ProgramError(f"parameter '{param.name}' is used in evaluation and never trained")
            self.params[param.name] = param
            self.values[param.name] = self._initial(param)
        elif known.shape != param.shape:
            raise ShapeError(f"parameter '{param.name}' has shape {known.shape} elsewhere and {param.shape} here")
        elif known != param:
            raise ValueError(f"parameter '{param.name}' has another init or tag elsewhere")
        if param.name not in self.used:
            value = self.values[param.name]
            self.used[param.name] = value.detach().requires_grad_() if self.training else value
        return Tensor(self.used[param.name])

    def _initial(self, param: Param) -> torch.Tensor:
        kind, number = param.init
        count = int(np.prod(param.shape, dtype=np.int64))
        stream = Stream(self.seed, "init", param.name)
        if kind == "constant":
            flat = np.full(count, number, np.float32)
        elif kind == "normal":
            flat = stream.normal(0, count) * np.float32(number)
        else:
            flat = (2 * stream.uniform(0, count) - 1) * np.float32(number)
        return torch.from_numpy(flat.astype(np.float32)).reshape(param.shape)

    # ---- numbers of a step

    def scalar(self, key: Hashable, at: Callable[[int, int], float]) -> Tensor:
        """A number that depends on the step alone, as a tensor."""
        if key not in self.scalars:
            if self._supply is not None:
                raise ProgramError("a compiled step asks for a schedule that it had not before")
            self.scalars[key] = at
        if key not in self._scalar_values:
            value = (
                self._supply.scalars[list(self.scalars).index(key)]
                if self._supply is not None
                else self.scalar_value(at)
            )
            self._scalar_values[key] = value
        return Tensor(self._scalar_values[key])

    def scalar_value(self, at: Callable[[int, int], float]) -> torch.Tensor:
        return torch.tensor(literal(at(self.step, self.steps)), dtype=torch.float32)

    def random(self, what: str, kind: str, name: Optional[str], shape: Sequence[int]) -> torch.Tensor:
        """Fresh random numbers: "uniform" on [0, 1) or "normal"."""
        if not (self.in_model and self.training):
            raise ProgramError(f"{what}() outside of training: guard it with `if is_training():`")
        streams = [stream for _, stream, _ in self.draws]
        if name is None:
            stream = f"#{sum(1 for known in streams if known.startswith('#'))}"
        elif not isinstance(name, str) or not 1 <= len(name.encode()) <= 64 or name.startswith("#"):
            raise ValueError("a stream's name has 1 to 64 bytes and does not begin with #")
        else:
            stream = name
        if stream in streams:
            raise ValueError(f"{what}: the stream '{stream}' is used twice, and would give the same numbers")
        draw = (kind, stream, tuple(shape))
        self.draws.append(draw)
        return self._supply.draws[len(self.draws) - 1] if self._supply is not None else self.draw(draw)

    def draw(self, draw: Draw) -> torch.Tensor:
        kind, name, shape = draw
        stream = self._known_draws.setdefault(name, Stream(self.seed, "random", name))
        count = int(np.prod(shape, dtype=np.int64))
        numbers = stream.uniform(self.step, count) if kind == "uniform" else stream.normal(self.step, count)
        return torch.from_numpy(numbers).reshape(shape)

    def supply(self) -> Supply:
        """The scalars and random numbers of this step, in the order in which a traced step asked for them."""
        return Supply(
            [self.scalar_value(at) for at in self.scalars.values()], [self.draw(draw) for draw in self._traced_draws]
        )

    _traced_draws: List[Draw] = []

    def keep_draws(self) -> None:
        """Remembers what random numbers the step that has just run needs."""
        self._traced_draws = list(self.draws)


_current: List[Optional[Run]] = [None]


def current(what: str) -> Run:
    """The run that is going on."""
    run = _current[0]
    if run is None:
        raise ProgramError(
            f"{what}: tensors exist only while the graph is built; build them inside of model(), loss(),"
            " grad_transform() or an optimiser's update. To train: python -m cairn run train.py --track DIR"
        )
    return run


def enter(run: Optional[Run]) -> None:
    _current[0] = run


def is_schedule(value: Any) -> bool:
    return callable(value)
