"""Data sets: the converters, splits, batches and evaluation windows of the engine (docs/spec/run.md), on NumPy."""

from pathlib import Path
from typing import Iterator, List, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from ._blake3 import compress_one_block
from ._errors import ProgramError
from ._random import Stream

Ids = NDArray[np.int64]
Batch = Tuple[Ids, Ids]

PADDING = -1
EVALUATION_TOKENS = 4096
_NAME_LETTERS_MAX = 15


def _scaled(draws: NDArray[np.uint64], count: int) -> NDArray[np.int64]:
    """Indices in 0 .. count from 32-bit draws."""
    return ((draws * np.uint64(count)) >> np.uint64(32)).astype(np.int64)


class Dataset:
    """A text or a list of names, in three parts."""

    vocab: int
    #: Positions of a row where the data fix them.
    context: Optional[int]
    context_max: int

    def rows(self, part: str, context: int) -> int:
        """Rows of an evaluation."""
        raise NotImplementedError

    def write(self, part: str, index: int, context: int) -> Batch:
        """One row of an evaluation."""
        raise NotImplementedError

    def batch(self, stream: Stream, step: int, rows: int, context: int) -> Batch:
        """Inputs and targets of a training step, [rows, context]."""
        raise NotImplementedError

    def check_context(self, context: int) -> None:
        fits = context == self.context if self.context else 1 <= context <= self.context_max
        if not fits:
            offer = f"{self.context}" if self.context else f"1 to {self.context_max}"
            raise ProgramError(f"a context of {context} positions: this data set has rows of {offer}")

    def windows(self, part: str, context: int, rows: int) -> Iterator[Batch]:
        """The batches of an evaluation of "validation" or "test"."""
        total = self.rows(part, context)
        for first in range(0, total, rows):
            inputs = np.zeros((rows, context), np.int64)
            targets = np.full((rows, context), PADDING, np.int64)
            for row, index in enumerate(range(first, min(first + rows, total))):
                inputs[row], targets[row] = self.write(part, index, context)
            yield inputs, targets


class Text(Dataset):
    """Converter `bytes`: a token is a byte, an example a window."""

    vocab = 256
    context = None

    def __init__(self, raw: bytes) -> None:
        if len(raw) < 40:
            raise ProgramError(f"{len(raw)} bytes cannot be split into training, validation and test")
        text = np.frombuffer(raw, np.uint8).astype(np.int64)
        ends = (len(raw) * 90 // 100, len(raw) * 95 // 100)
        self.parts = dict(zip(("train", "validation", "test"), np.split(text, ends)))
        self.context_max = min(len(self.parts["train"]) - 1, 1 << 16)

    def batch(self, stream: Stream, step: int, rows: int, context: int) -> Batch:
        part = self.parts["train"]
        starts = _scaled(stream.words(step, rows), len(part) - context)
        places = starts[:, None] + np.arange(context)
        return part[places], part[places + 1]

    def rows(self, part: str, context: int) -> int:
        return -(-(len(self.parts[part]) - 1) // context)

    def write(self, part: str, index: int, context: int) -> Batch:
        text = self.parts[part]
        inputs, targets = np.zeros(context, np.int64), np.full(context, PADDING, np.int64)
        start = index * context
        shifted = min(start, max(len(text) - 1 - context, 0))
        found = text[shifted : shifted + context + 1]
        inputs[: len(found) - 1], targets[: len(found) - 1] = found[:-1], found[1:]
        targets[: start - shifted] = PADDING
        return inputs, targets


class Names(Dataset):
    """Converter `names`: one name a line; token 0 is the mark, 1 to 26 are the letters."""

    vocab = 27
    context = 16
    context_max = 16

    def __init__(self, raw: bytes) -> None:
        names: List[bytes] = sorted(set(raw.removesuffix(b"\n").split(b"\n")))
        for name in names:
            if not (1 <= len(name) <= _NAME_LETTERS_MAX and name.isalpha() and name.islower()):
                raise ProgramError(f"{name!r} is no name: 1 to {_NAME_LETTERS_MAX} of the letters a to z")
        ordered = [name for _, name in sorted(zip(_hashes(names), names))]
        self.inputs = np.zeros((len(ordered), self.context), np.int64)
        self.targets = np.full((len(ordered), self.context), PADDING, np.int64)
        for row, name in enumerate(ordered):
            tokens = np.frombuffer(name, np.uint8).astype(np.int64) - (ord("a") - 1)
            self.inputs[row, 1 : len(name) + 1] = tokens
            self.targets[row, : len(name)], self.targets[row, len(name)] = tokens, 0
        ends = (0, len(ordered) * 8 // 10, len(ordered) * 9 // 10, len(ordered))
        self.parts = {part: ends[i : i + 2] for i, part in enumerate(("train", "validation", "test"))}

    def batch(self, stream: Stream, step: int, rows: int, context: int) -> Batch:
        places = _scaled(stream.words(step, rows), self.parts["train"][1])
        return self.inputs[places], self.targets[places]

    def rows(self, part: str, context: int) -> int:
        start, end = self.parts[part]
        return end - start

    def write(self, part: str, index: int, context: int) -> Batch:
        place = self.parts[part][0] + index
        return self.inputs[place], self.targets[place]


def _hashes(names: List[bytes]) -> List[bytes]:
    """BLAKE3 of each name; names of one length are hashed together."""
    hashes = [b""] * len(names)
    for length in range(1, _NAME_LETTERS_MAX + 1):
        places = [i for i, name in enumerate(names) if len(name) == length]
        if not places:
            continue
        padded = b"".join(names[i].ljust(64, b"\0") for i in places)
        words = np.frombuffer(padded, "<u4").reshape(len(places), 16).T.astype(np.uint64)
        digests = np.stack(compress_one_block(list(words), length), axis=1).astype("<u4")
        for i, digest in zip(places, digests):
            hashes[i] = digest.tobytes()
    return hashes


def load(converter: str, path: Path) -> Dataset:
    """The data set that a converter makes of a file."""
    raw = path.read_bytes()
    if converter == "names":
        return Names(raw)
    if converter == "bytes":
        return Text(raw)
    raise ProgramError(f"there is no converter `{converter}`; there are `names` and `bytes`")
