from cairn import param, embedding, rms_norm, rope, attention, relu, adamw, group
import math

DEPTH = 2            # 1..8
WIDTH = 64           # 32..256 step 16
HEADS = 4
BATCH = 16
CONTEXT = 64
LR = 3e-3            # 1e-4..3e-2 log
WARMUP = 0.1
INIT = 0.02

def linear(name, x, d_out, std=INIT):
    return x @ param(name, (x.shape[-1], d_out), init="normal", std=std)

def block(name, x):
    B, T, C = x.shape
    h = rms_norm(x)
    q, k, v = [linear(f"{name}.{p}", h, C).reshape(B, T, HEADS, -1).transpose(1, 2) for p in "qkv"]
    y = attention(rope(q), rope(k), v, causal=True)
    x = x + linear(f"{name}.o", y.transpose(1, 2).reshape(B, T, C), C, std=INIT / math.sqrt(2 * DEPTH))
    return x + linear(f"{name}.down", relu(linear(f"{name}.up", rms_norm(x), 4 * C)) ** 2, C, std=INIT / math.sqrt(2 * DEPTH))

def model(tokens):
    wte = param("wte", (256, WIDTH), init="normal", std=INIT, tag="embedding")
    x = rms_norm(embedding(tokens, wte))
    for i in range(DEPTH):
        x = block(f"block{i}", x)
    return rms_norm(x) @ wte.T

def lr(step, steps):
    t = step / steps
    return LR * min(1.0, t / WARMUP) * 0.5 * (1.0 + math.cos(math.pi * t))

def optimizer():
    return [group("tag:embedding", adamw(lr=lr, betas=(0.9, 0.95))), group("*", adamw(lr=lr, betas=(0.9, 0.95), weight_decay=0.1))]
