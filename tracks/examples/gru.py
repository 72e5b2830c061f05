# A GRU (Cho et al. 2014), unrolled over the 16 positions of a name; each use of a weight is a gradient of its own. Track names.
from cairn import adamw, clip_by_global_norm, embedding, group, param, sigmoid, stack, tanh, zeros
import math

EMBED = 16           # 4..32 step 4
HIDDEN = 24          # 8..96 step 8
BATCH = 16           # 8..256 log step 8
LR = 2e-2            # 1e-3..1e-1 log
WARMUP = 0.1         # 0..0.3


def model(tokens):
    B, T = tokens.shape
    x = embedding(tokens, param("letters", (27, EMBED), std=0.5, tag="embedding"))
    # What the input gives to the gates and the candidate of every position is one product.
    given = x @ param("input", (EMBED, 3 * HIDDEN), std=0.2) + param("bias", 3 * HIDDEN, init="zeros")
    gates = param("gates", (HIDDEN, 2 * HIDDEN), std=0.1)
    candidate = param("candidate", (HIDDEN, HIDDEN), std=0.1)
    h, states = zeros(B, HIDDEN), []
    for t in range(T):
        reset, update = sigmoid(given[:, t, : 2 * HIDDEN] + h @ gates).chunk(2, dim=-1)
        new = tanh(given[:, t, 2 * HIDDEN :] + (reset * h) @ candidate)
        h = update * h + (1.0 - update) * new
        states.append(h)
    return stack(states, dim=1) @ param("out", (HIDDEN, 27), std=0.1) + param("out.bias", 27, init="zeros")


def grad_transform(grads):
    return clip_by_global_norm(grads, 1.0)


def lr(step, steps):
    return LR * min(1.0, (step + 1) / (WARMUP * steps)) * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def optimizer():
    return [group("*", adamw(lr=lr, betas=(0.9, 0.99), weight_decay=0.0))]
