# A transformer of microGPT's shape that learns to spell names: one layer, 16 wide, 4 heads, 16 positions.
from cairn import adamw, attention, embedding, group, param, relu, rms_norm

DEPTH = 1            # 1..3
WIDTH = 16           # 8..48 step 8
HEADS = 4            # one of 1, 2, 4, 8
HIDDEN = 4           # 1..6
BATCH = 64           # 8..128 log step 8
LR = 1e-2            # 1e-3..1e-1 log
WARMUP = 0.0         # 0..0.3
BETA1 = 0.85         # 0.5..0.95
BETA2 = 0.99         # 0.9..0.999
DECAY = 0.0          # 0..0.3
INIT = 0.08          # 0.01..0.5 log


def linear(name, x, d_out, std=INIT):
    return x @ param(name, (x.shape[-1], d_out), init="normal", std=std)


def block(name, x):
    B, T, C = x.shape
    h = rms_norm(x)
    q, k, v = [linear(f"{name}.{p}", h, C).reshape(B, T, HEADS, -1).transpose(1, 2) for p in "qkv"]
    y = attention(q, k, v, causal=True).transpose(1, 2).reshape(B, T, C)
    x = x + linear(f"{name}.o", y, C)
    return x + linear(f"{name}.down", relu(linear(f"{name}.up", rms_norm(x), HIDDEN * C)), C)


def model(tokens):
    wte = param("wte", (27, WIDTH), init="normal", std=INIT, tag="embedding")
    wpe = param("wpe", (tokens.shape[1], WIDTH), init="normal", std=INIT, tag="embedding")
    x = rms_norm(embedding(tokens, wte) + wpe)
    for i in range(DEPTH):
        x = block(f"block{i}", x)
    return linear("head", x, 27)


def lr(step, steps):
    t = step / steps
    return LR * min(1.0, (t + 1.0 / steps) / max(WARMUP, 1e-9)) * (1.0 - t)


def optimizer():
    return [group("*", adamw(lr=lr, betas=(BETA1, BETA2), weight_decay=DECAY))]
