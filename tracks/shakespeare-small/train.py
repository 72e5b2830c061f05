# A byte-level transformer on Shakespeare: two layers, 64 wide, 4 heads, 64 positions.
from cairn import adamw, attention, embedding, group, param, relu, rms_norm, rope
import math

DEPTH = 2            # 1..6
WIDTH = 64           # 32..192 step 16
HEADS = 4            # one of 1, 2, 4, 8
HIDDEN = 4           # 1..6
BATCH = 16           # 4..64 log step 4
CONTEXT = 64         # 16..256 log step 16
LR = 1e-3            # 3e-4..3e-2 log
WARMUP = 0.1         # 0..0.3
BETA1 = 0.9          # 0.5..0.95
BETA2 = 0.95         # 0.9..0.999
DECAY = 0.1          # 0..0.5
INIT = 0.08          # 0.005..0.2 log
ROPE_BASE = 10000.0  # 100..100000 log


def linear(name, x, d_out, std=INIT):
    return x @ param(name, (x.shape[-1], d_out), init="normal", std=std)


def block(name, x):
    B, T, C = x.shape
    h = rms_norm(x)
    q, k, v = [linear(f"{name}.{p}", h, C).reshape(B, T, HEADS, -1).transpose(1, 2) for p in "qkv"]
    y = attention(rope(q, base=ROPE_BASE), rope(k, base=ROPE_BASE), v, causal=True)
    std = INIT / math.sqrt(2 * DEPTH)
    x = x + linear(f"{name}.o", y.transpose(1, 2).reshape(B, T, C), C, std)
    return x + linear(f"{name}.down", relu(linear(f"{name}.up", rms_norm(x), HIDDEN * C)) ** 2, C, std)


def model(tokens):
    wte = param("wte", (256, WIDTH), init="normal", std=INIT, tag="embedding")
    x = rms_norm(embedding(tokens, wte))
    for i in range(DEPTH):
        x = block(f"block{i}", x)
    return rms_norm(x) @ wte.T


def lr(step, steps):
    t = step / steps
    return LR * min(1.0, (t + 1.0 / steps) / max(WARMUP, 1e-9)) * 0.5 * (1.0 + math.cos(math.pi * t))


def optimizer():
    return [
        group("tag:embedding", adamw(lr=lr, betas=(BETA1, BETA2))),
        group("*", adamw(lr=lr, betas=(BETA1, BETA2), weight_decay=DECAY)),
    ]
