# An MLP-Mixer (Tolstikhin et al. 2021) that is causal: positions are mixed by lower triangular matrices. Track
# shakespeare-small.
from cairn import adamw, embedding, gelu, group, layer_norm, param, tril
import math

DEPTH = 2            # 1..6
WIDTH = 64           # 32..192 step 16
BATCH = 32           # 4..64 log step 4
CONTEXT = 32         # 16..128 log step 16
LR = 1e-2            # 1e-3..3e-2 log
WARMUP = 0.1         # 0..0.3
STD = 0.08           # 0.01..0.2 log


def mix_positions(name, x):
    """Each of two layers weighs a position and those before it."""
    T = x.shape[1]
    first, second = [tril(param(f"{name}.{part}", (T, T), std=1.0 / math.sqrt(T))) for part in ("first", "second")]
    return second @ gelu(first @ x)


def mix_channels(name, x):
    C = x.shape[-1]
    h = gelu(x @ param(f"{name}.up", (C, 4 * C), std=STD))
    return h @ param(f"{name}.down", (4 * C, C), std=STD / math.sqrt(2 * DEPTH))


def model(tokens):
    x = embedding(tokens, param("wte", (256, WIDTH), std=1.0, tag="embedding"))
    for i in range(DEPTH):
        x = x + mix_positions(f"block{i}.positions", layer_norm(x))
        x = x + mix_channels(f"block{i}.channels", layer_norm(x))
    return layer_norm(x) @ param("head", (WIDTH, 256), std=STD)


def lr(step, steps):
    return LR * min(1.0, (step + 1) / (WARMUP * steps)) * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def optimizer():
    return [group("*", adamw(lr=lr, betas=(0.9, 0.95), weight_decay=0.0))]
