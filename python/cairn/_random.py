"""Random numbers of a run: streams keyed by seed, kind and name, counted by step and element.

The words are those of the engine, bit for bit; the logarithm, root and cosine of normal numbers are NumPy's, a unit in the
last place away at most.
"""

import math
from typing import Tuple

import numpy as np
from numpy.typing import NDArray

from ._blake3 import derive_key, digest
from ._threefry import threefry

Floats = NDArray[np.float32]
Words = NDArray[np.uint64]

_TWO_PI = np.float64(np.float32(2 * math.pi))
_UNIT = 2.0**-24


def numbered_seed(number: int) -> bytes:
    """The seed that `cairn run --seed NUMBER` uses."""
    return derive_key("cairn 1 numbered seed", number.to_bytes(8, "big"))


def seed_of(text: str) -> bytes:
    """A seed as the command line takes it: a number, or 64 hexadecimal digits."""
    return bytes.fromhex(text) if len(text) == 64 else numbered_seed(int(text))


class Stream:
    """One family of random numbers."""

    def __init__(self, seed: bytes, kind: str, name: str = "") -> None:
        key = digest(seed + kind.encode() + name.encode())
        self.key: Tuple[int, int] = (int.from_bytes(key[:4], "little"), int.from_bytes(key[4:8], "little"))

    def blocks(self, step: int, count: int) -> Tuple[Words, Words]:
        """The blocks of the first `count` pairs of elements."""
        pairs = np.arange(count, dtype=np.uint64)
        return threefry(self.key, (pairs, np.full(count, step, np.uint64)))

    def words(self, step: int, count: int) -> Words:
        """32 random bits for each of the first `count` elements."""
        return np.stack(self.blocks(step, (count + 1) // 2), axis=1).reshape(-1)[:count]

    def uniform(self, step: int, count: int) -> Floats:
        """On [0, 1): the top 24 bits of each word."""
        return ((self.words(step, count) >> np.uint64(8)) * _UNIT).astype(np.float32)

    def normal(self, step: int, count: int) -> Floats:
        """Standard normal, by Box and Muller: the two branches of each block."""
        first, second = self.blocks(step, (count + 1) // 2)
        u1 = ((first >> np.uint64(8)) + np.uint64(1)) * _UNIT
        angle = (((second >> np.uint64(8)) * _UNIT) * _TWO_PI).astype(np.float32).astype(np.float64)
        radius = np.sqrt(-2.0 * np.log(u1))
        both = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1)
        return both.reshape(-1)[:count].astype(np.float32)
