"""Training steps in PyTorch, as a peer of `cairn bench --against torch`: the same model, batch, start and optimiser.

    python torch_step.py [--compile] [--threads N] [--device cpu|cuda|mps] [--optimiser fused|foreach|single]

The standard input begins with one line of JSON, the model's sizes and `bytes`, the length of the data that follow it:
the batch (inputs, then targets), then each parameter in the order in which the model lists them, matrices as [in, out];
numbers of four bytes, little-endian. Then for each line `{"steps": N}` it trains N steps and answers with a line
`{"seconds", "cpu_seconds", "loss", "peak_rss_bytes"}`. Its first line is `{"ready": ..., "idle_rss_bytes": ...}`: the
memory of PyTorch before there is a model.

The model is written as a PyTorch user would write it for speed: one matrix for queries, keys and values, fused
attention, cross-entropy on flat logits, fused AdamW, gradients set to None.
"""

import argparse
import json
import math
import resource
import struct
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


class Rope(nn.Module):
    """Rotary positions; channel i is paired with i + D/2."""

    def __init__(self, channels, context, base=10_000.0):
        super().__init__()
        frequency = base ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)
        angle = torch.outer(torch.arange(context, dtype=torch.float64), frequency)
        self.register_buffer("cos", angle.cos().repeat(1, 2).float())
        self.register_buffer("sin", torch.cat([-angle.sin(), angle.sin()], dim=1).float())

    def forward(self, x):
        return x * self.cos + x.roll(x.shape[-1] // 2, dims=-1) * self.sin


class Block(nn.Module):
    """Attention and a two-layer network, each behind a normalisation and added to the stream."""

    def __init__(self, model):
        super().__init__()
        width = model["width"]
        self.heads, self.layer = model["heads"], model["norm"] == "layer"
        self.activation = {"relu": F.relu, "relu_squared": lambda x: F.relu(x).square(), "gelu": F.gelu}[model["activation"]]
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.o = nn.Linear(width, width, bias=self.layer)
        self.up = nn.Linear(width, 4 * width, bias=self.layer)
        self.down = nn.Linear(4 * width, width, bias=self.layer)
        if self.layer:
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x, rope):
        batch, context, width = x.shape
        normed = self.norm1(x) if self.layer else F.rms_norm(x, (width,), eps=1e-6)
        qkv = self.qkv(normed).view(batch, context, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if rope is not None:
            q, k = rope(q), rope(k)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(batch, context, width))
        normed = self.norm2(x) if self.layer else F.rms_norm(x, (width,), eps=1e-6)
        return x + self.down(self.activation(self.up(normed)))


class Gpt(nn.Module):
    """A transformer; `norm`, `positions`, `activation` and `tied` say of which kind."""

    def __init__(self, model):
        super().__init__()
        width = model["width"]
        self.layer, self.tied = model["norm"] == "layer", model["tied"]
        self.wte = nn.Embedding(model["vocab"], width)
        self.blocks = nn.ModuleList(Block(model) for _ in range(model["depth"]))
        rotary = model["positions"] == "rotary"
        self.rope = Rope(width // model["heads"], model["context"]) if rotary else None
        self.wpe = None if rotary else nn.Parameter(torch.zeros(model["context"], width))
        self.norm = nn.LayerNorm(width) if self.layer else None
        self.head = None if self.tied else nn.Linear(width, model["vocab"], bias=False)

    def forward(self, tokens, targets):
        width = (self.wte.weight.shape[1],)
        x = self.wte(tokens)
        if self.wpe is not None:
            x = x + self.wpe
        if not self.layer:
            x = F.rms_norm(x, width, eps=1e-6)
        for block in self.blocks:
            x = block(x, self.rope)
        if self.layer:
            x = self.norm(x)
        elif self.tied:
            x = F.rms_norm(x, width, eps=1e-6)
        logits = F.linear(x, self.wte.weight if self.tied else self.head.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def load(self, take):
        """Parameters in the order of the program."""
        with torch.no_grad():
            self.wte.weight.copy_(take(*self.wte.weight.shape))
            if self.wpe is not None:
                self.wpe.copy_(take(*self.wpe.shape))
            for block in self.blocks:
                width = block.o.in_features
                if self.layer:
                    load_norm(block.norm1, take)
                block.qkv.weight.copy_(torch.cat([take(width, width).T for _ in range(3)]))
                load_linear(block.o, take)
                if self.layer:
                    load_norm(block.norm2, take)
                load_linear(block.up, take)
                load_linear(block.down, take)
            if self.layer:
                load_norm(self.norm, take)
            if not self.tied:
                load_linear(self.head, take)


class Mlp(nn.Module):
    """A classifier of rows of numbers: hidden layers with bias and ReLU."""

    def __init__(self, model):
        super().__init__()
        sizes = [model["features"]] + [model["hidden"]] * model["depth"] + [model["classes"]]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))

    def forward(self, x, targets):
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return F.cross_entropy(self.layers[-1](x), targets)

    def load(self, take):
        """Parameters in the order of the program."""
        with torch.no_grad():
            for layer in self.layers:
                load_linear(layer, take)


def load_linear(layer, take):
    layer.weight.copy_(take(layer.in_features, layer.out_features).T)
    if layer.bias is not None:
        layer.bias.copy_(take(layer.out_features))


def load_norm(layer, take):
    layer.weight.copy_(take(*layer.weight.shape))
    layer.bias.copy_(take(*layer.bias.shape))


class Data:
    """Numbers, taken in order."""

    def __init__(self, values):
        self.bytes, self.at = values, 0

    def take(self, kind, shape):
        count = math.prod(shape)
        values = struct.unpack_from(f"<{count}{kind}", self.bytes, self.at)
        self.at += 4 * count
        return torch.tensor(values, dtype=torch.float32 if kind == "f" else torch.int64).view(shape)

    def batch(self, model):
        if model["kind"] == "gpt":
            shape = (model["batch"], model["context"])
            return self.take("i", shape), self.take("i", shape)
        return self.take("f", (model["batch"], model["features"])), self.take("i", (model["batch"],))


def idle_rss_bytes():
    """Memory in use now; None where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--optimiser", choices=["fused", "foreach", "single"], default="fused")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    idle = idle_rss_bytes()
    model = json.loads(sys.stdin.buffer.readline())
    data = Data(sys.stdin.buffer.read(model["bytes"]))
    inputs, targets = data.batch(model)
    net = (Gpt if model["kind"] == "gpt" else Mlp)(model)
    net.load(lambda *shape: data.take("f", shape))
    assert data.at == len(data.bytes), "the parameters are not those of this model"
    net, inputs, targets = net.to(options.device), inputs.to(options.device), targets.to(options.device)
    which = {"fused": {"fused": True}, "foreach": {"foreach": True}, "single": {"foreach": False}}[options.optimiser]
    optimiser = torch.optim.AdamW(net.parameters(), lr=model["rate"], betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, **which)
    run = torch.compile(net) if options.compile else net

    def step():
        optimiser.zero_grad(set_to_none=True)
        loss = run(inputs, targets)
        loss.backward()
        optimiser.step()
        return loss.detach()

    def tell(value):
        print(json.dumps(value), flush=True)

    name = f"PyTorch {torch.__version__}"
    if options.device != "cpu":
        name += f", {torch.cuda.get_device_name() if options.device == 'cuda' else options.device}"
    tell({"ready": name, "idle_rss_bytes": idle})
    for line in sys.stdin.buffer:
        steps = json.loads(line)["steps"]
        cpu, start = time.process_time(), time.perf_counter()
        for _ in range(steps):
            loss = step()
        loss = loss.item()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        tell({"seconds": seconds, "cpu_seconds": cpu, "loss": loss, "peak_rss_bytes": peak})


if __name__ == "__main__":
    main()
