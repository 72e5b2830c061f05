# A GPT of four layers with most of what people put into one.
import math
from cairn import param, embedding, rms_norm, rope, silu, tanh, attention, cross_entropy, sigmoid, adamw, lion, group
from cairn import clip_by_global_norm

DEPTH = 4
WIDTH = 256
HEADS, KV_HEADS = 8, 2
HEAD_DIM = 32
BATCH = 8
CONTEXT = 256
VOCAB = 256
WINDOW = 128          # sliding window on every other layer
ROPE_BASE = 10_000.0
SOFTCAP = 15.0
LR = 3e-4
WARMUP = 0.1
FINAL_LR_FRAC = 0.05
BETAS = (0.9, 0.95)
INIT_STD = 0.02
X0_LAMBDA: float = -0.1


def linear(name, x, d_out, *, std=INIT_STD):
    """x @ w, no bias."""
    return x @ param(name, x.shape[-1], d_out, init="normal", std=std)


def heads(x, n):
    B, T, _ = x.shape
    return x.reshape(B, T, n, HEAD_DIM).permute(0, 2, 1, 3)     # [B, n, T, D]


def attention_block(name, x, layer):
    B, T, C = x.shape
    q = heads(linear(f"{name}.q", x, HEADS * HEAD_DIM), HEADS)
    k, v = [heads(linear(f"{name}.{p}", x, KV_HEADS * HEAD_DIM), KV_HEADS) for p in ("k", "v")]
    q, k = [rms_norm(rope(t, base=ROPE_BASE)) for t in (q, k)]
    y = attention(q, k, v, causal=True, window=WINDOW if layer % 2 else None)
    gate = sigmoid(linear(f"{name}.g", x, C))
    y = y.permute(0, 2, 1, 3).reshape(B, T, HEADS * HEAD_DIM)
    y = y * gate + (1.0 - gate) * x
    return linear(f"{name}.o", y, C, std=INIT_STD / (2 * DEPTH) ** 0.5)


def swiglu(name, x):
    C = x.shape[-1]
    h = linear(f"{name}.up", x, 8 * C)
    h = silu(h[..., : 4 * C]) * h[..., 4 * C :]
    return linear(f"{name}.down", h, C, std=INIT_STD / math.sqrt(2 * DEPTH))


def model(tokens):
    wte = param("wte", VOCAB, WIDTH, std=INIT_STD, group="embedding")
    x = x0 = rms_norm(embedding(tokens, wte))
    assert x.shape[1] == CONTEXT, "wrong context"
    norm = lambda t, eps=1e-6: rms_norm(t, eps=eps)
    for i in range(DEPTH):
        name = f"block{i}"
        if i > 0 and 0 < i < DEPTH:
            x += X0_LAMBDA * x0
        x = x + attention_block(name + ".attn", norm(x), i)
        x = x + swiglu(name + ".mlp", norm(x))
    logits = norm(x) @ wte.T                                    # tied head
    return SOFTCAP * tanh(logits / SOFTCAP)


def loss(tokens, targets):
    logits = model(tokens)
    return cross_entropy(logits, targets) + 1e-4 * logits.logsumexp(dim=-1).mean() ** 2


def grad_transform(grads):
    return clip_by_global_norm(grads, 1.0)


def lr(step, steps):
    t = step / steps
    if t < WARMUP:
        return LR * t / WARMUP
    u = (t - WARMUP) / (1.0 - WARMUP)
    return LR * (FINAL_LR_FRAC + (1.0 - FINAL_LR_FRAC) * 0.5 * (1.0 + math.cos(math.pi * u)))


def optimizer():
    return [group("tag:embedding", adamw(lr=lr, betas=BETAS)), group("*.o", lion(lr=lr)), group("*", adamw(lr=lr, betas=BETAS))]
