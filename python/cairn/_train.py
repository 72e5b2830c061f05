"""Trains a program as the engine would: the same data, initialisation, schedules and evaluation, in 32-bit floats.

The results are near the engine's and not equal to them: PyTorch sums in other orders and rounds contractions otherwise.
"""

from __future__ import annotations

import math
import runpy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F

from . import _state
from ._data import EVALUATION_TOKENS, Batch, Dataset
from ._errors import DivergedError, ProgramError, ShapeError
from ._functions import cross_entropy
from ._optimisers import Default, Group, Optimiser, Phase, Subject, adamw
from ._random import Stream
from ._state import Run, Supply
from ._tensor import Tensor, article, floats

#: State that averages a parameter under EMA.
_EMA = "ema"


@dataclass
class Stretch:
    """One phase as it runs."""

    batch: int
    context: int
    steps: int


class Program:
    """What a train.py defines."""

    def __init__(self, path: Path) -> None:
        self.names = runpy.run_path(str(path), run_name="train")
        model = self.function("model")
        if model is None:
            raise ProgramError("the program defines no model(x)")
        self.model = model
        self.loss, self.augment = self.function("loss"), self.function("augment")
        self.grad_transform = self.function("grad_transform")
        self.ema = self.names.get("EMA")
        if not (self.ema is None or callable(self.ema) or 0 <= self.ema < 1):
            raise ValueError("EMA is a decay of at least 0 and below 1")
        optimizer = self.function("optimizer")
        self.groups = self._groups(optimizer() if optimizer is not None else adamw())

    def function(self, name: str) -> Optional[Callable[..., Any]]:
        found = self.names.get(name)
        if found is not None and not callable(found):
            raise ProgramError(f"`{name}` must be a function, and is {article(found)}")
        return found

    def _groups(self, value: Any) -> List[Group]:
        if isinstance(value, Optimiser):
            value = [Group("*", value)]
        groups = [value] if isinstance(value, Group) else list(value)
        if not all(isinstance(one, Group) for one in groups):
            raise ProgramError('optimizer() gives a list of groups: return [group("*", adamw(lr=lr))]')
        for one in groups:
            for name, number in one.optimiser.numbers.items():
                if isinstance(number, Default):
                    rate = self.names.get("lr", self.names.get("LR", number.otherwise))
                    one.optimiser.numbers[name] = rate
        return groups

    def phases(self, data: Dataset) -> List[Phase]:
        """Phases with their batch and context."""
        listed = self.names.get("PHASES")
        found = [Phase(1.0, None, None)] if listed is None else list(listed)
        if not found or not all(isinstance(one, Phase) for one in found):
            raise ProgramError("PHASES is a list of phases: [phase(share=1.0, batch=32, context=128)]")
        return [Phase(one.share, self._batch(one), self._context(one, data)) for one in found]

    def _batch(self, phase: Phase) -> int:
        batch = phase.batch if phase.batch is not None else self.names.get("BATCH")
        if not isinstance(batch, int) or batch < 1:
            raise ProgramError("the program does not say how many rows a batch has: write BATCH = 32")
        return batch

    def _context(self, phase: Phase, data: Dataset) -> int:
        context = phase.context if phase.context is not None else self.names.get("CONTEXT", data.context)
        if not isinstance(context, int):
            raise ProgramError("the program does not say how many positions a row has: write CONTEXT = 64")
        data.check_context(context)
        return context


@dataclass
class Stepped:
    """What a step gives."""

    loss: torch.Tensor
    params: Dict[str, torch.Tensor]
    states: Dict[str, torch.Tensor]


class Trainer:
    """A program, its data, and the state of its training."""

    def __init__(self, program: Program, data: Dataset, seed: bytes, steps: Sequence[int], compiled: bool) -> None:
        self.program, self.data, self.compiled = program, data, compiled
        self.run = Run(seed)
        self.stream = Stream(seed, "data")
        phases = program.phases(data)
        if len(steps) != len(phases):
            raise ProgramError(f"{len(phases)} phases need as many numbers of steps, not {len(steps)}")
        self.stretches = [Stretch(phase.batch or 0, phase.context or 0, count) for phase, count in zip(phases, steps)]
        self.run.steps = sum(steps)
        self.params: Dict[str, torch.Tensor] = {}

    def train(self, until: Optional[int] = None) -> Iterator[float]:
        """The loss of each step, in order; ends after `until` steps if that comes first."""
        for stretch in self.stretches:
            step: Optional[Callable[[Batch], Stepped]] = None
            for _ in range(stretch.steps):
                if until is not None and self.run.step >= until:
                    return
                batch = self.data.batch(self.stream, self.run.step, stretch.batch, stretch.context)
                if step is None:
                    # The first step of a phase finds out what there is.
                    found = self._eager(batch)
                    self.run.keep_draws()
                    step = self._compiled(batch) if self.compiled else self._eager
                else:
                    found = step(batch)
                yield self._advance(found)

    def _advance(self, found: Stepped) -> float:
        loss = float(found.loss.detach())
        for name, value in (("loss", found.loss), *found.params.items(), *found.states.items()):
            if not bool(torch.isfinite(value).all()):
                raise DivergedError(f"the run diverged at step {self.run.step + 1}: `{name}` left the finite range")
        self.params.update(found.params)
        self.run.states.update(found.states)
        self.run.step += 1
        return loss

    # ---- one step

    def _eager(self, batch: Batch) -> Stepped:
        x, y = map(torch.from_numpy, batch)
        return self._step(x, y, self.params, None)

    def _compiled(self, batch: Batch) -> Callable[[Batch], Stepped]:
        """The whole step, forward, backward and optimiser, as one compiled function of its inputs."""
        from torch.fx.experimental.proxy_tensor import make_fx

        params, states = list(self.params), list(self.run.states)

        def flat(*tensors: torch.Tensor) -> List[torch.Tensor]:
            left = list(tensors)
            x, y = left[:2]
            counts = (len(params), len(states), len(self.run.scalars))
            cuts = [2 + sum(counts[:i]) for i in range(4)]
            values = dict(zip(params, left[cuts[0] : cuts[1]]))
            kept = dict(self.run.states)
            self.run.states.update(zip(states, left[cuts[1] : cuts[2]]))
            stepped = self._step(x, y, values, Supply(left[cuts[2] : cuts[3]], left[cuts[3] :]))
            self.run.states = kept
            news = [stepped.params.get(name, values[name]) for name in params]
            return [stepped.loss.detach(), *news, *(stepped.states.get(name, kept[name]) for name in states)]

        def inputs(batch: Batch) -> List[torch.Tensor]:
            supply = self.run.supply()
            values = [self.params[name] for name in params]
            kept = [self.run.states[name] for name in states]
            return [*map(torch.from_numpy, batch), *values, *kept, *supply.scalars, *supply.draws]

        compiled = torch.compile(make_fx(flat)(*inputs(batch)))

        def step(batch: Batch) -> Stepped:
            loss, *new = compiled(*inputs(batch))
            return Stepped(loss, dict(zip(params, new)), dict(zip(states, new[len(params) :])))

        return step

    def _step(
        self, x: torch.Tensor, y: torch.Tensor, params: Dict[str, torch.Tensor], supply: Optional[Supply]
    ) -> Stepped:
        """Forward, backward, and the new value of every parameter and state."""
        run = self.run
        _state.enter(run)
        try:
            run.begin(True, params, supply)
            loss = self._loss(Tensor(x), Tensor(y))
            run.in_model = False
            if not run.used:
                raise ProgramError("the model has no parameters: create them with param(name, shape)")
            leaves = list(run.used.values())
            found = torch.autograd.grad(loss, leaves, allow_unused=True)
            with torch.no_grad():
                zeros = (torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves))
                grads = self._transformed({name: Tensor(g) for name, g in zip(run.used, zeros)})
                return self._updated(loss, params, grads)
        finally:
            _state.enter(None)

    def _loss(self, x: Tensor, y: Tensor) -> torch.Tensor:
        program = self.program
        if program.augment is not None:
            changed = program.augment(x)
            if not isinstance(changed, Tensor) or changed.value.dtype != torch.int64 or changed.shape != x.shape:
                raise ShapeError(f"augment(x) gives {changed!r}, and ids of shape {x.shape} are needed")
            x = changed
        if program.loss is not None:
            loss = program.loss(x, y)
            if not isinstance(loss, Tensor):
                raise ProgramError(f"loss(x, y) gives {article(loss)}, not a tensor")
        else:
            loss = cross_entropy(self._scores(x), y)
        if math.prod(loss.shape) != 1:
            raise ShapeError(f"a loss is one number, this one has shape {loss.shape}: take its mean()")
        return floats("loss", loss).reshape(())

    def _scores(self, x: Tensor) -> Tensor:
        scores = self.program.model(x)
        if not isinstance(scores, Tensor):
            raise ProgramError(f"model(x) gives {article(scores)}, not a tensor")
        wanted = (*x.shape, self.data.vocab)
        if scores.shape != wanted:
            raise ShapeError(f"model(x) gives shape {scores.shape}, and {wanted} is needed")
        return scores

    def _transformed(self, grads: Dict[str, Tensor]) -> Dict[str, Tensor]:
        transform = self.program.grad_transform
        if transform is None:
            return grads
        changed = transform(dict(grads))
        if not isinstance(changed, dict):
            raise ProgramError(f"grad_transform(grads) gives a dict of gradients, not {article(changed)}")
        for name, old in grads.items():
            if name not in changed:
                raise ProgramError(f"grad_transform(grads) gives no gradient for '{name}'")
            changed[name] = Tensor(floats("grad_transform", changed[name]))
            if changed[name].shape != old.shape:
                raise ShapeError(f"grad_transform: '{name}' has shape {changed[name].shape}, not {old.shape}")
        return {name: changed[name] for name in grads}

    def _updated(self, loss: torch.Tensor, params: Dict[str, torch.Tensor], grads: Dict[str, Tensor]) -> Stepped:
        run = self.run
        new: Dict[str, torch.Tensor] = {}
        states: Dict[str, torch.Tensor] = {}
        for name, gradient in grads.items():
            tag = run.params[name].tag
            group = next((group for group in self.program.groups if group.matches(name, tag)), None)
            if group is None:
                raise ProgramError(f"no group of optimizer() matches parameter '{name}': end with group(\"*\", ...)")
            of = Subject(run, name, Tensor(params[name].detach()), gradient, group.optimiser)
            new[name] = group.optimiser.rule(of).value
            states.update((key, value.value) for key, value in of.states_out.items())
        if self.program.ema is not None:
            weight = run.scalar(("average",), self._newness).value
            for name in params:
                full = f"{name}/{_EMA}"
                old = run.states.setdefault(full, torch.zeros_like(params[name]))
                states[full] = old + (new.get(name, params[name]) - old) * weight
        return Stepped(loss.detach(), new, states)

    def _newness(self, step: int, steps: int) -> float:
        """What is added of a parameter's distance from its average: all of it at the first step."""
        decay = self.program.ema
        if callable(decay):
            decay = decay(step, steps)
            if not 0 <= decay <= 1:
                raise ValueError(f"EMA gives {decay}; a decay is 0 to 1")
        return 1.0 if step == 0 else 1.0 - float(decay or 0.0)

    # ---- evaluation

    def evaluate(self, part: str) -> float:
        """Mean loss over the targets of "validation" or "test"."""
        run, context = self.run, self.stretches[-1].context
        rows = max(1, EVALUATION_TOKENS // context)
        values = {name: run.states.get(f"{name}/{_EMA}", value) for name, value in self.params.items()}
        total, count = 0.0, 0
        for inputs, targets in self.data.windows(part, context, rows):
            _state.enter(run)
            try:
                with torch.no_grad():
                    run.begin(False, values)
                    scores = floats("model", self._scores(Tensor(torch.from_numpy(inputs))))
            finally:
                _state.enter(None)
            wanted = torch.from_numpy(targets).reshape(-1)
            losses = F.cross_entropy(scores.reshape(-1, scores.shape[-1]), wanted, ignore_index=-1, reduction="none")
            total += float(losses.double().sum())
            count += int((wanted >= 0).sum())
        return total / max(count, 1)


def timed(losses: Iterator[float]) -> Iterator[Tuple[float, float]]:
    """Each loss and the seconds since the start."""
    started = time.perf_counter()
    for loss in losses:
        yield loss, time.perf_counter() - started
