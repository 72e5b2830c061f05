"""Threefry-2x32 with 20 rounds: a block of two words for each counter; of many counters at once with NumPy.

Words are Python integers or `uint64` arrays. Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1,
2, 3", SC 2011.
"""

from typing import Any, Tuple

MASK = 0xFFFF_FFFF
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key: Tuple[int, int], counter: Tuple[Any, Any]) -> Tuple[Any, Any]:
    """The block of a counter under a key."""
    keys = (key[0], key[1], 0x1BD1_1BDA ^ key[0] ^ key[1])
    x = (counter[0] + keys[0]) & MASK
    y = (counter[1] + keys[1]) & MASK
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = (x + y) & MASK
            y = (((y << rotation) | (y >> (32 - rotation))) & MASK) ^ x
        x = (x + keys[(group + 1) % 3]) & MASK
        y = (y + keys[(group + 2) % 3] + group + 1) & MASK
    return x, y
