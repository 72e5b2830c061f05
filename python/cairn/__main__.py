"""`python -m cairn run train.py --track DIR`: the program on PyTorch, beside the engine."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import List, Optional

import torch

from ._data import load
from ._errors import DivergedError, ProgramError, ShapeError
from ._random import seed_of
from ._train import Program, Trainer

#: Losses that are printed, about.
_LINES = 20
#: Exit code of a run that diverged, as that of `cairn run`.
_DIVERGED = 5


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cairn", description="Runs a train.py of Cairn on PyTorch.")
    run = parser.add_subparsers(dest="command", required=True).add_parser("run", help="train and score a program")
    run.add_argument("program", help="train.py; `baseline` for the track's own")
    run.add_argument("--track", type=Path, required=True, help="the track's folder, with track.toml and data")
    run.add_argument("--seed", default="1", help="a number, or 64 hexadecimal digits (default 1)")
    run.add_argument(
        "--steps", help="steps of the run, for several phases as 300,100; default: what `cairn trace` says"
    )
    run.add_argument("--until", type=int, help="end after this many steps; schedules go on as for all of them")
    run.add_argument("--compile", action="store_true", help="torch.compile the whole step")
    run.add_argument("--threads", type=int, help="threads of PyTorch")
    run.add_argument("--json", action="store_true", help="one JSON object a line: each step, then the scores")
    run.add_argument("--no-score", action="store_true", help="leave the evaluation out")
    return parser.parse_args()


def _bought(program: Path, track: Path) -> List[int]:
    """Steps that the track's budget buys, by asking the engine."""
    cairn = shutil.which("cairn")
    if cairn is None:
        raise ProgramError(
            "how many steps the budget buys is for the engine to say: give --steps N, or put `cairn` on PATH"
        )
    command = [cairn, "trace", str(program), "--track", str(track), "--json"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise ProgramError(f"cairn trace refuses the program:\n{found.stderr}{found.stdout}")
    return [int(json.loads(found.stdout.splitlines()[-1])["steps"])]


def _run(options: argparse.Namespace) -> None:
    track = tomllib.loads((options.track / "track.toml").read_text())
    source = options.track / "train.py" if options.program == "baseline" else Path(options.program)
    data = load(track["converter"], options.track / track["data"][0])
    steps = [int(n) for n in options.steps.split(",")] if options.steps else _bought(source, options.track)
    trainer = Trainer(Program(source), data, seed_of(options.seed), steps, options.compile)
    total = sum(steps) if options.until is None else min(options.until, sum(steps))
    every = max(1, total // _LINES)
    loss: Optional[float] = None
    for step, loss in enumerate(trainer.train(options.until), start=1):
        if options.json:
            print(json.dumps({"step": step, "loss": loss}))
        elif step in (1, 10, total) or step % every == 0:
            print(f"step {step:>6}/{sum(steps)}  loss {loss:.4f}", flush=True)
    if options.no_score:
        return
    metric, test = trainer.evaluate("validation"), trainer.evaluate("test")
    if options.json:
        print(json.dumps({"steps": trainer.run.step, "metric": metric, "test_metric": test}))
    else:
        print(f"metric  {metric:.5f} nats\ntest    {test:.5f} nats")


def main() -> int:
    options = _arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        _run(options)
    except (DivergedError, ProgramError, ShapeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return _DIVERGED if isinstance(error, DivergedError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
