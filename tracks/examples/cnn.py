# A causal convolutional network in the manner of WaveNet (van den Oord et al. 2016): gates, dilations 1, 2, 4, …, residuals.
# Track shakespeare-small.
from cairn import adamw, conv1d, embedding, group, pad, param, rms_norm, sigmoid, tanh
import math

DEPTH = 4            # 1..6
WIDTH = 64           # 32..128 step 16
KERNEL = 2           # 2..4
BATCH = 16           # 4..64 log step 4
CONTEXT = 64         # 16..256 log step 16
LR = 1e-2            # 1e-3..3e-2 log
WARMUP = 0.1         # 0..0.3


def conv(name, x, channels, kernel, dilation=1):
    """x [B, C, T]: position t sees t, t - dilation, …, never what comes later."""
    std = 1.0 / math.sqrt(x.shape[1] * kernel)
    weight = param(f"{name}.weight", (channels, x.shape[1], kernel), std=std)
    return conv1d(pad(x, (kernel - 1) * dilation, 0), weight, param(f"{name}.bias", channels, init="zeros"), dilation=dilation)


def layer(name, x, dilation):
    h = rms_norm(x.transpose(1, 2)).transpose(1, 2)
    value, gate = conv(f"{name}.in", h, 2 * WIDTH, KERNEL, dilation).chunk(2, dim=1)
    return x + conv(f"{name}.out", tanh(value) * sigmoid(gate), WIDTH, 1)


def model(tokens):
    x = embedding(tokens, param("wte", (256, WIDTH), std=0.5, tag="embedding")).transpose(1, 2)
    for i in range(DEPTH):
        x = layer(f"layer{i}", x, dilation=2 ** i)
    return rms_norm(x.transpose(1, 2)) @ param("head", (WIDTH, 256), std=0.05)


def lr(step, steps):
    return LR * min(1.0, (step + 1) / (WARMUP * steps)) * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def optimizer():
    return [group("*", adamw(lr=lr, betas=(0.9, 0.95), weight_decay=0.0))]
