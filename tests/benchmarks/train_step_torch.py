# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of `train_step.py`: the same decoder under `torch.compile`.

Runs in its own interpreter. Prints a JSON line when it is ready, then for each line on
standard input (a number of steps) one with the seconds they took.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class Block(nn.Module):
    def __init__(self, shape: dict[str, int]) -> None:
        super().__init__()
        width, self.heads = shape["d_model"], shape["num_heads"]
        self.attention_norm = nn.RMSNorm(width, eps=1e-5)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.RMSNorm(width, eps=1e-5)
        self.gate_up = nn.Linear(width, 2 * shape["ffn_dim"], bias=False)
        self.down = nn.Linear(shape["ffn_dim"], width, bias=False)

    def forward(self, x, cos, sin):
        batch, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Decoder(nn.Module):
    def __init__(self, shape: dict[str, int]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape["vocab_size"], shape["d_model"])
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape["num_layers"]))
        self.norm = nn.RMSNorm(shape["d_model"], eps=1e-5)
        half = shape["d_model"] // shape["num_heads"] // 2
        rates = 10_000.0 ** (-torch.arange(half) / half)
        angles = torch.arange(shape["length"])[:, None] * rates
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens):
        x = self.embedding(tokens[:, :-1])
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = F.linear(self.norm(x), self.embedding.weight).float()
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def rotate(x, cos, sin):
    first, second = x.chunk(2, -1)
    turned = first * cos - second * sin, second * cos + first * sin
    return torch.cat(turned, -1).to(x.dtype)


def main() -> None:
    shape, precision = json.loads(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(int(sys.argv[3]))
    torch.manual_seed(0)
    model = Decoder(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens = torch.randint(
        0, shape["vocab_size"], (shape["batch"], shape["length"] + 1)
    )

    @torch.compile
    def loss_of(tokens):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return model(tokens)

    def step() -> None:
        loss_of(tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(3):
        step()
    parameters = sum(p.numel() for p in model.parameters())
    print(json.dumps({"version": torch.__version__, "parameters": parameters}))
    sys.stdout.flush()
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            step()
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(spent), flush=True)


if __name__ == "__main__":
    main()
