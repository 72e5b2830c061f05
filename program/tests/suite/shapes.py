# A model that makes no sense but uses what moves, orders and convolves, integers, averages and augmentation.
from cairn import adamw, arange, argsort, avg_pool2d, concat, conv1d, conv2d, cumsum, einsum, embedding, flip, gather, group
from cairn import masked_fill, max_pool2d, maximum, one_hot, pad, param, rms_norm, roll, scatter_add, softmax, sort, take, to_int
from cairn import topk, tril, triu, uniform, where

BATCH = 4
CONTEXT = 16
WIDTH = 16
LR = 2e-2


def EMA(step, steps):
    return min(0.9, step / (step + 4))


def augment(x):
    shifted = roll(x, 1, 1)
    return where(uniform(x.shape) < 0.05, shifted, x) % 256


def convolved(x):
    h = x.transpose(1, 2)
    h = conv1d(pad(h, 4, 0), param("conv", (WIDTH, WIDTH // 4, 3), std=0.2), param("conv.b", WIDTH), dilation=2, groups=4)
    image = x.reshape(-1, 1, WIDTH, 1)                       # one position, its channels as a column
    h2 = conv2d(image, param("conv2", (2, 1, 3, 1), std=0.2), padding=(1, 0))
    pooled = concat([max_pool2d(h2, (2, 1)), avg_pool2d(h2, (2, 1))], dim=2).sum(1)
    return h.transpose(1, 2) + pooled.reshape(x.shape)


def routed(x):
    scores, chosen = topk(x[..., ::4], 2)
    gates = (softmax(scores).unsqueeze(-1) * one_hot(chosen, 4)).sum(-2)
    all_of_them = einsum("bti,eij->btej", x, param("experts", (4, WIDTH, WIDTH), std=0.2))
    return (all_of_them * gates.unsqueeze(-1)).sum(-2)


def model(tokens):
    B, T = tokens.shape
    x = rms_norm(param("wte", (256, WIDTH), std=0.5)[tokens])
    i, j = arange(T)[:, None], arange(T)[None, :]
    apart = maximum(i - j, 0) // 2
    bias = take(param("bias", (T,)).expand(T, T, -1), apart)
    weights = softmax(masked_fill(bias, j > i, -1e9)) * tril(triu(bias * 0 + 1.0, -8))
    x = x + weights @ x + cumsum(x, 1) / (i + 1)
    x = x + convolved(rms_norm(x)) + routed(rms_norm(x))
    ordered, ids = sort(x, dim=-1)
    back = gather(ordered, -1, argsort(ids * 1.0))
    counts = scatter_add((x * 0)[..., :4], -1, to_int(x).clip(0, 3), x)
    x = back + flip(flip(x, -1), -1) + 0.01 * counts.sum(-1, keepdim=True)
    return rms_norm(x) @ param("head", (WIDTH, 256), std=0.1)


def lr(step, steps):
    return LR * (1 - step / steps)


def optimizer():
    return [group("*", adamw(lr=lr, betas=(0.8, 0.95)))]
