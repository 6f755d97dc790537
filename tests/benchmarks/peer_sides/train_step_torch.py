# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of `train_step.py` and of `train_step_gpu.py`: `torch.compile`.

    python train_step_torch.py SHAPE PRECISION THREADS [cuda ATTENTION]

The same decoder, in an interpreter of its own. Prints a JSON line when it is ready,
then for each line on standard input (a number of steps) one with the seconds they took;
for "product N" the FLOP/s of a bfloat16 product of random N x N matrices.

On a GPU parameters are float32 under autocast, the rotation is in the compute type, and
fused attention is of the kind that is named, "flash" or "cudnn", or fails.
"""

import json
import sys
import time
from collections.abc import Callable

import numpy as np
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
    if x.is_cuda:
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    first, second = x.chunk(2, -1)
    turned = first * cos - second * sin, second * cos + first * sin
    return torch.cat(turned, -1).to(x.dtype)


def main() -> None:
    shape, precision = json.loads(sys.argv[1]), sys.argv[2]
    device = sys.argv[4] if len(sys.argv) > 4 else "cpu"
    torch.set_num_threads(int(sys.argv[3]))
    torch.manual_seed(0)
    if device == "cuda":
        choose_kernels(sys.argv[5])
    model = Decoder(shape).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    # The first batch of what the other side draws.
    rows = np.random.default_rng(0).integers(
        0, shape["vocab_size"], (shape["batch"], shape["length"] + 1), np.int32
    )
    tokens = torch.from_numpy(rows).long().to(device)

    @torch.compile
    def loss_of(tokens):
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            return model(tokens)

    def step() -> torch.Tensor:
        loss = loss_of(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    first_loss = float(step())
    for _ in range(2):
        step()
    facts = {"version": torch.__version__, "first_loss": first_loss}
    print(json.dumps({**facts, **counts(model)}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, str):
            size = int(request.removeprefix("product "))
            print(json.dumps(product_rate(size, device)), flush=True)
        else:
            print(json.dumps(timed(step, request, device)), flush=True)


def choose_kernels(attention: str) -> None:
    """Has products use TF32 where they are float32, and attention one kind alone."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.enable_math_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_flash_sdp(attention == "flash")
    torch.backends.cuda.enable_cudnn_sdp(attention == "cudnn")


def counts(model: nn.Module) -> dict[str, int]:
    """Returns how many numbers are trained, and how many of them in matrices."""
    sizes = [(p.numel(), p.dim()) for p in model.parameters()]
    matrices = sum(numbers for numbers, axes in sizes if axes > 1)
    return {"parameters": sum(n for n, _ in sizes), "product_weights": matrices}


def timed(step: Callable[[], object], steps: int, device: str) -> dict[str, float]:
    """Returns the seconds of some steps, and on a GPU the peak of its memory."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    if device == "cuda":
        spent["peak_bytes"] = torch.cuda.max_memory_allocated()
    return spent


def product_rate(size: int, device: str) -> float:
    """Returns the best FLOP/s of five runs of ten products, after one to wake up."""
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    walls = [timed(lambda: a @ b, 10, device)["wall"] for _ in range(6)]
    return 2 * size**3 * 10 / min(walls[1:])


if __name__ == "__main__":
    main()
