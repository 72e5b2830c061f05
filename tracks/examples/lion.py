# Lion, on the transformer that sgd.py, adamw.py, lion.py and muon.py share. Track shakespeare-small.
from cairn import attention, embedding, group, lion, param, relu, rms_norm, rope
import math

DEPTH = 2            # 1..6
WIDTH = 64           # 32..192 step 16
HEADS = 4            # one of 1, 2, 4, 8
BATCH = 16           # 4..64 log step 4
CONTEXT = 64         # 16..256 log step 16
WARMUP = 0.1         # 0..0.3
INIT = 0.08          # 0.005..0.2 log


def linear(name, x, d_out, std=INIT):
    return x @ param(name, (x.shape[-1], d_out), std=std)


def block(name, x):
    B, T, C = x.shape
    h = rms_norm(x)
    q, k, v = [linear(f"{name}.{p}", h, C).reshape(B, T, HEADS, -1).transpose(1, 2) for p in "qkv"]
    y = attention(rope(q), rope(k), v, causal=True).transpose(1, 2).reshape(B, T, C)
    std = INIT / math.sqrt(2 * DEPTH)
    x = x + linear(f"{name}.o", y, C, std)
    return x + linear(f"{name}.down", relu(linear(f"{name}.up", rms_norm(x), 4 * C)) ** 2, C, std)


def model(tokens):
    x = rms_norm(embedding(tokens, param("wte", (256, WIDTH), std=INIT, tag="embedding")))
    for i in range(DEPTH):
        x = block(f"block{i}", x)
    return rms_norm(x) @ param("head", (WIDTH, 256), std=INIT, tag="head")


def schedule(peak):
    """Linear warm-up, then a cosine to 0."""
    def rate(step, steps):
        return peak * min(1.0, (step + 1) / (WARMUP * steps)) * 0.5 * (1.0 + math.cos(math.pi * step / steps))

    return rate


# What follows differs.
LR = 4e-3            # 3e-4..1e-2 log
BETA1 = 0.8          # 0.5..0.95
BETA2 = 0.9          # 0.8..0.999
DECAY = 0.1          # 0..0.5


def optimizer():
    return [group("*", lion(lr=schedule(LR), betas=(BETA1, BETA2), weight_decay=DECAY))]
