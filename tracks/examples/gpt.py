# A GPT as nanoGPT writes it: layer norms with gains, learned positions, gelu, dropout, a tied head. Track shakespeare-small.
from cairn import adamw, attention, clip_by_global_norm, dropout, embedding, gelu, group, layer_norm, param
import math

DEPTH = 2            # 1..6
WIDTH = 64           # 32..192 step 16
HEADS = 4            # one of 1, 2, 4, 8
BATCH = 16           # 4..64 log step 4
CONTEXT = 64         # 16..256 log step 16
DROPOUT = 0.0        # 0..0.3
LR = 1e-2            # 1e-3..3e-2 log
WARMUP = 0.1         # 0..0.3
STD = 0.1            # 0.01..0.3 log


def norm(name, x):
    return layer_norm(x, param(f"{name}.weight", x.shape[-1], init="ones"), param(f"{name}.bias", x.shape[-1], init="zeros"))


def linear(name, x, d_out, std=STD):
    return x @ param(f"{name}.weight", (x.shape[-1], d_out), std=std) + param(f"{name}.bias", d_out, init="zeros")


def attend(name, x):
    B, T, C = x.shape
    q, k, v = [t.view(B, T, HEADS, C // HEADS).transpose(1, 2) for t in linear(f"{name}.qkv", x, 3 * C).split(C, dim=2)]
    y = attention(q, k, v, causal=True).transpose(1, 2).reshape(B, T, C)
    return dropout(linear(f"{name}.proj", y, C, STD / math.sqrt(2 * DEPTH)), DROPOUT)


def mlp(name, x):
    C = x.shape[-1]
    h = gelu(linear(f"{name}.fc", x, 4 * C))
    return dropout(linear(f"{name}.proj", h, C, STD / math.sqrt(2 * DEPTH)), DROPOUT)


def model(tokens):
    B, T = tokens.shape
    wte = param("wte", (256, WIDTH), std=STD, tag="embedding")
    wpe = param("wpe", (CONTEXT, WIDTH), std=STD, tag="embedding")
    x = dropout(embedding(tokens, wte) + wpe[:T], DROPOUT)
    for i in range(DEPTH):
        x = x + attend(f"h{i}.attn", norm(f"h{i}.ln_1", x))
        x = x + mlp(f"h{i}.mlp", norm(f"h{i}.ln_2", x))
    return norm("ln_f", x) @ wte.T


def grad_transform(grads):
    return clip_by_global_norm(grads, 1.0)


def lr(step, steps):
    return LR * min(1.0, (step + 1) / (WARMUP * steps)) * (0.1 + 0.45 * (1.0 + math.cos(math.pi * step / steps)))


def optimizer():
    return [
        group("*.weight", adamw(lr=lr, betas=(0.9, 0.95), weight_decay=0.1)),
        group("*", adamw(lr=lr, betas=(0.9, 0.95), weight_decay=0.0)),
    ]
