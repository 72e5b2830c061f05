# Phases, a mixture of optimisers, dropout, a loss and a gradient transformation of its own. Track names.
from cairn import param, embedding, layer_norm, gelu, attention, dropout, einsum, cross_entropy, clip_by_global_norm
from cairn import muon, adamw, lion, group, phase, optimiser, is_training, concat, sqrt
import math

WIDTH = 16
HEADS = 2
PHASES = [phase(share=3, batch=8), phase(share=1, batch=16)]


def linear(name, x, d_out):
    w = param(f"{name}.w", (x.shape[-1], d_out), std=0.2)
    return einsum("btc,cd->btd", x, w) + param(f"{name}.b", d_out, init="zeros")


def mix(name, x):
    B, T, C = x.shape
    heads = [linear(f"{name}.{p}", x, C).reshape(B, T, HEADS, -1).transpose(1, 2) for p in ("q", "k", "v")]
    y = attention(*heads, causal=True, window=8, soft_cap=20.0)
    return linear(f"{name}.o", y.transpose(1, 2).flatten(2), C)


def model(x):
    assert x.shape[1] == 16
    h = embedding(x, param("wte", (27, WIDTH), std=0.2, tag="table"))
    h = h + mix("mix", layer_norm(h, param("gain", WIDTH, init="ones"), param("bias", WIDTH, init=0.0)))
    h = dropout(h, 0.05)
    h = h + linear("down", gelu(linear("up", layer_norm(h), 2 * WIDTH)), WIDTH)
    if not is_training():
        h = h * 1.0
    return linear("head", h, 27)


def loss(x, y):
    logits = model(x)
    return cross_entropy(logits, y) + 1e-4 * (logits ** 2).mean()


def grad_transform(grads):
    return clip_by_global_norm(grads, 1.0)


def wsd(peak):
    def rate(step, steps):
        left = (steps - step) / steps
        return peak * min(1.0, (step + 1) / 5) * min(1.0, left / 0.4)
    return rate


def signed(p, g, s, t):
    m = t.beta * s["m"] + (1 - t.beta) * g
    return p - t.lr * m / (sqrt((m * m).mean()) + 1e-6), {"m": m}


def optimizer():
    return [
        group("tag:table", adamw(lr=wsd(0.02), betas=(0.9, 0.99))),
        group("head.*", optimiser(signed, state=["m"], lr=wsd(0.01), beta=0.9)),
        group("*.b", lion(lr=wsd(0.003))),
        group("*", muon(lr=wsd(0.02), weight_decay=0.01)),
    ]
