# Nearly every operation once, to compare implementations with. Track names.
from cairn import (
    arange,
    argmax,
    avg_pool2d,
    clip,
    concat,
    conv1d,
    conv2d,
    cumsum,
    einsum,
    embedding,
    flip,
    gather,
    gelu,
    group,
    layer_norm,
    lion,
    logsumexp,
    masked_fill,
    max_pool2d,
    maximum,
    minimum,
    pad,
    param,
    relu,
    rms_norm,
    roll,
    rope,
    round_to,
    scatter_add,
    sigmoid,
    softmax,
    softplus,
    sort,
    stack,
    tanh,
    to_float,
    topk,
    tril,
    var,
    where,
)
import math

WIDTH = 16
BATCH = 8
EMA = 0.9


def augment(x):
    return where(arange(16) < 12, x, (x * 3 + 1) % 27)


def model(x):
    w = param("wte", (27, WIDTH), std=0.3)
    h = w[x]
    h = h + param("wpe", (16, WIDTH), std=0.3)[arange(16)]
    n = embedding(x // 2, param("half", (27, WIDTH), std=0.3))
    h = h + n
    img = h.unsqueeze(1)
    c = conv2d(img, param("k", (4, 1, 3, 3), std=0.3), param("kb", 4, init="zeros"), padding="same")
    c = relu(c)
    p = max_pool2d(c, 2) + avg_pool2d(c, (2, 2))
    h = h + p.flatten(1).mean(dim=1).reshape(-1, 1, 1)
    t = conv1d(pad(h.transpose(1, 2), 2, 0, dim=-1), param("t", (WIDTH, WIDTH, 3), std=0.2)).transpose(1, 2)
    h = h + tanh(t)
    h = h + cumsum(h, 1) * 0.1
    v, i = topk(h, 3, dim=-1)
    h = h + v.sum(-1, keepdim=True) * 0.1
    g = gather(h, -1, (i + 1) % WIDTH)
    h = h + g.mean(-1, keepdim=True)
    s, order = sort(h, dim=1, descending=True)
    h = h + 0.1 * s
    h = scatter_add(h, -1, i, v * 0.05)
    h = h + flip(h, 1) * 0.01 + roll(h, 3, 2) * 0.05
    a = tril(param("mix", (16, 16), std=0.2))
    h = h + a @ h
    h = masked_fill(h, (x == 0).unsqueeze(-1), 0.1)
    e = h[:, ::2, 1::3].mean(dim=(1, 2), keepdim=True)
    h = h + e + einsum("ii->i", a).mean()
    h = h + to_float(argmax(h, dim=1)).unsqueeze(1) * 0.01 + to_float((h * 3).int().clip(-1, 2)) * 0.01
    h = h + logsumexp(h, dim=-1, keepdim=True) * 0.1 + var(h, dim=-1, keepdim=True, correction=1)
    h = h * sigmoid(h) + softplus(h) * 0.1 + gelu(h, approximate="tanh") + round_to(h, "bf16") * 0.1
    h = layer_norm(h) ** 3 * 0.1 + rope(h) + softmax(h, dim=1) + maximum(h, 0.5 * h) + minimum(h, 0.2) + clip(h, -1, 1)
    h = concat([h, stack([h[..., 0], h[..., -1]], dim=-1)], dim=-1)
    return rms_norm(h) @ param("head", (WIDTH + 2, 27), std=0.3)


def optimizer():
    return [
        group("*", lion(lr=1e-3)),
    ]
