"""Programs of the manual, read from standard input: one step of each on a made-up text, as `accepted` or `refused`.

Refusals are of the language, not of PyTorch: an error of another kind is a fault. Exits with 1 if there is any.
"""

import sys
import tempfile
import traceback
from pathlib import Path

from cairn._data import Text
from cairn._errors import ProgramError, ShapeError
from cairn._random import numbered_seed
from cairn._train import Program, Trainer

REFUSALS = (ProgramError, ShapeError, TypeError, ValueError, IndexError, AttributeError)
#: Ids below 64, which all tables of the examples have: ids outside of a table are zeros in the language, errors here.
TEXT = bytes(i * i % 61 for i in range(4000))


def outcome(source: str) -> tuple[str, str]:
    """`accepted`, `refused`, or `fault`, and why."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.py"
        path.write_text(source)
        try:
            trainer = Trainer(Program(path), Text(TEXT), numbered_seed(1), [4], False)
            list(trainer.train(until=1))
        except REFUSALS as error:
            return "refused", f"{type(error).__name__}: {error}"
        except Exception:
            return "fault", traceback.format_exc()
    return "accepted", ""


def main() -> int:
    programs = [program.strip() for program in sys.stdin.read().split("%%\n") if program.strip()]
    faults = 0
    for program in programs:
        title = program.splitlines()[0].removeprefix("# ")
        found, why = outcome(program)
        if f" {found}:" not in title:
            faults += 1
            print(f"{title}\n    {found} on PyTorch {why}")
    print(f"{len(programs)} programs of the manual, {faults} judged otherwise on PyTorch")
    return 1 if faults or not programs else 0


if __name__ == "__main__":
    sys.exit(main())
