# The neural probabilistic language model (Bengio et al. 2003): the last letters' embeddings, one hidden layer. Track names.
from cairn import adamw, concat, embedding, group, pad, param, tanh
import math

LETTERS = 4          # 1..8
EMBED = 16           # 4..32 step 4
HIDDEN = 64          # 16..256 step 16
BATCH = 64           # 16..256 log step 16
LR = 3e-2            # 1e-3..1e-1 log


def model(tokens):
    B, T = tokens.shape
    x = embedding(tokens, param("letters", (27, EMBED), std=0.5, tag="embedding"))
    # The window of each position: itself and those before it, zeros before the name begins.
    window = concat([pad(x[:, : T - i], i, 0, dim=1) for i in range(LETTERS)], dim=-1)
    h = tanh(window @ param("hidden", (LETTERS * EMBED, HIDDEN), std=0.1) + param("hidden.bias", HIDDEN, init="zeros"))
    return h @ param("out", (HIDDEN, 27), std=0.05) + param("out.bias", 27, init="zeros")


def lr(step, steps):
    return LR * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def optimizer():
    return [group("*", adamw(lr=lr, betas=(0.9, 0.95), weight_decay=0.0))]
