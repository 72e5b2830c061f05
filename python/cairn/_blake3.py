"""BLAKE3 of at most one chunk (1,024 bytes), plain and as a key derivation; of many equally long texts at once with NumPy.

Words are Python integers or `uint64` arrays: the same code serves both. Source: O'Connor, Aumasson, Neves,
Wilcox-O'Hearn, "BLAKE3: one function, fast everywhere", 2020.
"""

from typing import Any, List, Sequence

MASK = 0xFFFF_FFFF
CHUNK_BYTES = 1024
BLOCK_BYTES = 64

_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_CHUNK_START, _CHUNK_END, _ROOT, _DERIVE_CONTEXT, _DERIVE_MATERIAL = 1, 2, 8, 32, 64
_COLUMNS_AND_DIAGONALS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip


def _right(x: Any, n: int) -> Any:
    return ((x >> n) | (x << (32 - n))) & MASK


def _compress(chain: Sequence[Any], words: Sequence[Any], length: int, flags: int) -> List[Any]:
    zero = words[0] & 0
    v = [zero + x for x in (*chain, *_IV[:4], 0, 0, length, flags)]
    m = list(words)
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(_COLUMNS_AND_DIAGONALS):
            v[a] = (v[a] + v[b] + m[2 * i]) & MASK
            v[d] = _right(v[d] ^ v[a], 16)
            v[c] = (v[c] + v[d]) & MASK
            v[b] = _right(v[b] ^ v[c], 12)
            v[a] = (v[a] + v[b] + m[2 * i + 1]) & MASK
            v[d] = _right(v[d] ^ v[a], 8)
            v[c] = (v[c] + v[d]) & MASK
            v[b] = _right(v[b] ^ v[c], 7)
        m = [m[i] for i in _ORDER]
    return [v[i] ^ v[i + 8] for i in range(8)]


def compress_one_block(words: Sequence[Any], length: int) -> List[Any]:
    """The eight words of the hash of `length` <= 64 bytes, given as 16 little-endian words."""
    return _compress(_IV, words, length, _CHUNK_START | _CHUNK_END | _ROOT)


def _hash(data: bytes, key: Sequence[int], flags: int) -> List[int]:
    if len(data) > CHUNK_BYTES:
        raise ValueError(f"{len(data)} bytes; at most {CHUNK_BYTES} are hashed here")
    blocks = [data[i : i + BLOCK_BYTES] for i in range(0, len(data), BLOCK_BYTES)] or [b""]
    chain: Sequence[int] = key
    for i, block in enumerate(blocks):
        padded = block.ljust(BLOCK_BYTES, b"\0")
        words = [int.from_bytes(padded[j : j + 4], "little") for j in range(0, BLOCK_BYTES, 4)]
        here = flags | (_CHUNK_START if i == 0 else 0)
        if i + 1 == len(blocks):
            here |= _CHUNK_END | _ROOT
        chain = _compress(chain, words, len(block), here)
    return list(chain)


def _bytes(words: Sequence[int]) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


def digest(data: bytes) -> bytes:
    """The hash, 32 bytes."""
    return _bytes(_hash(data, _IV, 0))


def derive_key(context: str, material: bytes) -> bytes:
    """The key that `material` gives in this context, 32 bytes."""
    key = _hash(context.encode(), _IV, _DERIVE_CONTEXT)
    return _bytes(_hash(material, key, _DERIVE_MATERIAL))
