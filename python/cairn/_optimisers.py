"""Optimisers, groups and phases. An update is arithmetic on tensors, in the order in which the engine does it.

Numbers may be schedules: functions of step and steps, which are evaluated for every step in 64 bits and rounded once.
"""

from __future__ import annotations

import fnmatch
import math
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ._errors import ProgramError, ShapeError
from ._functions import maximum, named, sign, sqrt
from ._functions import sum as total
from ._state import Run, current
from ._tensor import Number, Operand, Tensor, article, floats, integer, is_number, optional

Schedule = Callable[[int, int], float]
Hyper = Union[float, Schedule]
Update = Callable[[Tensor, Tensor, Dict[str, Tensor], Any], Tuple[Tensor, Dict[str, Tensor]]]

#: Newton-Schulz coefficients of Muon (Jordan et al. 2024).
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_STATES_MAX = 8
_STATE_NAME = re.compile(r"[A-Za-z0-9_]{1,16}")


@dataclass
class Default:
    """A learning rate that is the module's `lr` where it has one."""

    otherwise: float


@dataclass(eq=False)
class Optimiser:
    """What happens to a parameter: a rule and its numbers."""

    rule: Callable[["Subject"], Tensor]
    numbers: Dict[str, Any]
    update: Optional[Update] = None
    states: Tuple[str, ...] = ()


@dataclass(eq=False)
class Group:
    """A pattern and what updates the parameters that it matches."""

    pattern: str
    optimiser: Optimiser

    def matches(self, name: str, tag: str) -> bool:
        if self.pattern.startswith("tag:"):
            return self.pattern[4:] == tag
        # Brackets have no meaning in the language's globs, and no name has any.
        return fnmatch.fnmatchcase(name, self.pattern.replace("[", "[[]"))


@dataclass(eq=False)
class Phase:
    """A stretch of training."""

    share: float
    batch: Optional[int]
    context: Optional[int]


@dataclass
class Subject:
    """One parameter that is being updated."""

    run: Run
    name: str
    p: Tensor
    g: Tensor
    optimiser: Optimiser
    states_out: Dict[str, Tensor] = field(default_factory=dict)

    def number(self, name: str) -> Operand:
        """A hyperparameter: a number, or the scalar of its schedule."""
        return scheduled(self.run, self.optimiser.numbers[name])

    def state(self, name: str) -> Tensor:
        """A state of this parameter: zeros at first."""
        full = f"{self.name}/{name}"
        if full not in self.run.states:
            self.run.states[full] = self.p.value.new_zeros(self.p.shape)
        return Tensor(self.run.states[full])

    def set_state(self, name: str, value: Tensor) -> None:
        self.states_out[f"{self.name}/{name}"] = value

    def correction(self, beta: float) -> Operand:
        if beta == 0:
            return 1.0
        return self.run.scalar(("correction", beta), lambda step, steps: 1 / (1 - beta ** (step + 1)))


def scheduled(run: Run, value: Any) -> Operand:
    if callable(value):
        return run.scalar(("schedule", value), value)
    return float(value)


def _is_zero(value: Operand) -> bool:
    return not isinstance(value, Tensor) and value == 0


def _decayed(p: Tensor, lr: Operand, decay: Operand) -> Tensor:
    return p if _is_zero(decay) else p * (1.0 - lr * decay)


def _average(beta: float, old: Tensor, new: Tensor) -> Tensor:
    return old * beta + new * (1.0 - beta)


def _adamw_step(of: Subject, lr: Operand, decay: Operand, eps: Operand, betas: Tuple[float, float]) -> Tensor:
    m = _average(betas[0], of.state("m"), of.g)
    v = _average(betas[1], of.state("v"), of.g * of.g)
    of.set_state("m", m)
    of.set_state("v", v)
    root = sqrt(v * of.correction(betas[1])) + eps
    step = m * (lr * of.correction(betas[0])) / root
    return _decayed(of.p, lr, decay) - step


def _adamw(of: Subject) -> Tensor:
    numbers = of.optimiser.numbers
    return _adamw_step(of, of.number("lr"), of.number("weight_decay"), of.number("eps"), numbers["betas"])


def _sgd(of: Subject) -> Tensor:
    lr, momentum, decay = of.number("lr"), of.number("momentum"), of.number("weight_decay")
    gradient = of.g if _is_zero(decay) else of.g + of.p * decay
    direction = gradient
    if not _is_zero(momentum):
        velocity = of.state("m") * momentum + gradient
        of.set_state("m", velocity)
        direction = gradient + velocity * momentum if of.optimiser.numbers["nesterov"] else velocity
    return of.p - direction * lr


def _lion(of: Subject) -> Tensor:
    lr, decay = of.number("lr"), of.number("weight_decay")
    beta1, beta2 = of.optimiser.numbers["betas"]
    m = of.state("m")
    direction = sign(_average(beta1, m, of.g))
    of.set_state("m", _average(beta2, m, of.g))
    return _decayed(of.p, lr, decay) - direction * lr


def _muon(of: Subject) -> Tensor:
    lr, decay = of.number("lr"), of.number("weight_decay")
    if of.p.ndim != 2:
        return _adamw_step(of, lr, decay, 1e-8, (0.9, 0.95))
    momentum = of.number("momentum")
    velocity = of.state("m") * momentum + of.g
    of.set_state("m", velocity)
    direction = of.g + velocity * momentum if of.optimiser.numbers["nesterov"] else velocity
    rows, columns = of.p.shape
    direction = _orthogonal(direction, rows > columns, of.optimiser.numbers["ns_steps"])
    rate = lr * math.sqrt(max(1.0, columns / rows))
    return _decayed(of.p, lr, decay) - direction * rate


def _orthogonal(x: Tensor, tall: bool, steps: int) -> Tensor:
    """X <- aX + (bA + cA^2)X with A = XX^T, on the side with fewer rows."""
    a, b, c = _NEWTON_SCHULZ
    x = x / (sqrt(total(x * x)) + 1e-7)
    x = x.T if tall else x
    for _ in range(steps):
        gram = x @ x.T
        x = x * a + (gram * b + (gram @ gram) * c) @ x
    return x.T if tall else x


class StepNumbers:
    """What `t` is in an update: `t.step`, and the optimiser's numbers by name."""

    def __init__(self, run: Run, numbers: Mapping[str, Any]) -> None:
        self._run, self._numbers = run, numbers

    def __getattr__(self, name: str) -> Operand:
        if name == "step":
            return self._run.scalar(("step",), lambda step, steps: step)
        if name in self._numbers:
            return scheduled(self._run, self._numbers[name])
        raise AttributeError(f"t has no '{name}'; it has step, {', '.join(self._numbers)}")


def _custom(of: Subject) -> Tensor:
    optimiser = of.optimiser
    states = {name: of.state(name) for name in optimiser.states}
    assert optimiser.update is not None
    result = optimiser.update(of.p, of.g, states, StepNumbers(of.run, optimiser.numbers))
    fits = isinstance(result, (tuple, list)) and len(result) == 2 and isinstance(result[1], dict)
    if not fits or set(result[1]) != set(optimiser.states):
        raise ProgramError("an optimiser's update gives (p, s): the parameter and a dict of its states")
    new, states_out = result
    for name, value in (("p", new), *states_out.items()):
        if not isinstance(value, Tensor) or value.shape != of.p.shape:
            raise ShapeError(f"update: {name} of parameter '{of.name}' is {value!r}, not of shape {of.p.shape}")
    for name, value in states_out.items():
        of.set_state(name, value)
    return Tensor(floats("update", new))


# ---- what programs call


def _hyper(what: str, value: Any, default: float) -> Any:
    if value is None:
        return float(default)
    if callable(value):
        return value
    if is_number(value):
        return float(value)
    raise TypeError(f"{what}: a number or a schedule is needed, not {article(value)}")


def _rate(what: str, value: Any, default: float) -> Any:
    return Default(default) if value is None else _hyper(what, value, default)


def _betas(what: str, value: Any, default: Tuple[float, float]) -> Tuple[float, float]:
    pair = default if value is None else tuple(optional(beta, 0) for beta in value)
    if len(pair) != 2 or not all(0 <= beta < 1 for beta in pair):
        raise ValueError(f"{what}: betas are two numbers of at least 0 and below 1")
    return pair[0], pair[1]


def adamw(
    lr: Optional[Hyper] = None,
    betas: Optional[Sequence[float]] = None,
    eps: Optional[Hyper] = None,
    weight_decay: Optional[Hyper] = None,
) -> Optimiser:
    numbers = {
        "lr": _rate("adamw: lr", lr, 1e-3),
        "betas": _betas("adamw", betas, (0.9, 0.999)),
        "eps": _hyper("adamw: eps", eps, 1e-8),
        "weight_decay": _hyper("adamw: weight_decay", weight_decay, 0.01),
    }
    return Optimiser(_adamw, numbers)


def sgd(
    lr: Optional[Hyper] = None,
    momentum: Optional[Hyper] = None,
    weight_decay: Optional[Hyper] = None,
    nesterov: bool = False,
) -> Optimiser:
    numbers = {
        "lr": _rate("sgd: lr", lr, 1e-2),
        "momentum": _hyper("sgd: momentum", momentum, 0.0),
        "weight_decay": _hyper("sgd: weight_decay", weight_decay, 0.0),
        "nesterov": bool(nesterov),
    }
    return Optimiser(_sgd, numbers)


def lion(
    lr: Optional[Hyper] = None, betas: Optional[Sequence[float]] = None, weight_decay: Optional[Hyper] = None
) -> Optimiser:
    numbers = {
        "lr": _rate("lion: lr", lr, 1e-4),
        "betas": _betas("lion", betas, (0.9, 0.99)),
        "weight_decay": _hyper("lion: weight_decay", weight_decay, 0.0),
    }
    return Optimiser(_lion, numbers)


@named(steps="ns_steps")
def muon(
    lr: Optional[Hyper] = None,
    momentum: Optional[Hyper] = None,
    weight_decay: Optional[Hyper] = None,
    nesterov: bool = True,
    ns_steps: int = 5,
) -> Optimiser:
    if not 1 <= integer("muon: ns_steps", ns_steps) <= 10:
        raise ValueError("muon: ns_steps is 1 to 10")
    numbers = {
        "lr": _rate("muon: lr", lr, 2e-2),
        "momentum": _hyper("muon: momentum", momentum, 0.95),
        "weight_decay": _hyper("muon: weight_decay", weight_decay, 0.0),
        "nesterov": bool(nesterov),
        "ns_steps": ns_steps,
    }
    return Optimiser(_muon, numbers)


def optimiser(update: Update, *, state: Sequence[str] = (), **numbers: Any) -> Optimiser:
    if not callable(update):
        raise TypeError(f"optimiser: the update is a function, not {article(update)}")
    for reserved in ("step", "update"):
        if reserved in numbers:
            raise ValueError(f"optimiser: '{reserved}' cannot be the name of a number")
    states = tuple(state)
    if len(states) > _STATES_MAX or len(set(states)) != len(states):
        raise ValueError(f"optimiser: at most {_STATES_MAX} states, of different names")
    if not all(isinstance(name, str) and _STATE_NAME.fullmatch(name) for name in states):
        raise ValueError("optimiser: states have names of 1 to 16 letters, digits and `_`")
    checked = {name: _hyper(f"optimiser: {name}", value, 0.0) for name, value in numbers.items()}
    return Optimiser(_custom, checked, update, states)


optimizer = optimiser


@named(optimizer="optimiser")
def group(pattern: str, optimiser: Optimiser) -> Group:
    if not isinstance(pattern, str):
        raise TypeError(f"group: pattern: a str is needed, not {article(pattern)}")
    if not isinstance(optimiser, Optimiser):
        raise TypeError(f'group: an optimiser is needed, not {article(optimiser)}: write group("*", adamw(lr=lr))')
    return Group(pattern, optimiser)


def phase(share: Number = 1.0, batch: Optional[int] = None, context: Optional[int] = None) -> Phase:
    if not (share > 0 and math.isfinite(share)):
        raise ValueError("phase: the share is above 0")
    return Phase(float(share), batch, context)


def clip_by_global_norm(grads: Dict[str, Tensor], max_norm: Operand) -> Dict[str, Tensor]:
    current("clip_by_global_norm")
    if not isinstance(grads, dict):
        raise TypeError(f"clip_by_global_norm: a dict of gradients is needed, not {article(grads)}")
    squares: List[Tensor] = [total(gradient * gradient) for gradient in grads.values()]
    if not squares:
        return grads
    norm = squares[0]
    for square in squares[1:]:
        norm = norm + square
    factor = max_norm / maximum(sqrt(norm), max_norm)
    return {name: gradient * factor for name, gradient in grads.items()}
