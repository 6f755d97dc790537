# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of `families.py`: transformers' own class under `torch.compile`.

    python families_torch.py FIELDS PRECISION THREADS BATCH LENGTH

Prints a JSON line when it is ready, then for each line on standard input one with the
seconds it took: a number of steps, or "products", for the matrix products of a step.
"""

import json
import sys
import time

import numpy as np
import torch
import transformers


def main() -> None:
    fields, precision = json.loads(sys.argv[1]), sys.argv[2]
    batch, length = int(sys.argv[4]), int(sys.argv[5])
    torch.set_num_threads(int(sys.argv[3]))
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**fields)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    rows = np.random.default_rng(0).integers(
        0, config.vocab_size, (batch, length + 1), np.int32
    )
    tokens = torch.from_numpy(rows).long()
    half = precision == "bfloat16"

    @torch.compile
    def loss_of(tokens):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        targets = tokens[:, 1:].flatten()
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets)

    def step() -> None:
        loss_of(tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    products = matrix_products(model, batch * length, half)
    for work in (step, step, step, products):
        work()
    count = sum(parameter.numel() for parameter in model.parameters())
    version = f"{torch.__version__}, transformers {transformers.__version__}"
    print(json.dumps({"version": version, "parameters": count}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        work, times = (products, 1) if request == "products" else (step, request)
        began = time.perf_counter()
        for _ in range(times):
            work()
        print(json.dumps(time.perf_counter() - began), flush=True)


def matrix_products(model, positions: int, half: bool):
    """Returns what does a step's products of weights, of random numbers."""
    dtype = torch.bfloat16 if half else torch.float32
    linear = (torch.nn.Linear, transformers.pytorch_utils.Conv1D)
    shapes = [m.weight.shape for m in model.modules() if isinstance(m, linear)]
    sides = {size for shape in shapes for size in shape}
    inputs = {size: torch.randn(positions, size, dtype=dtype) for size in sides}
    weights = {shape: torch.randn(shape, dtype=dtype) for shape in set(shapes)}

    def run() -> None:
        for shape in shapes:
            x, y, w = inputs[shape[1]], inputs[shape[0]], weights[shape]
            x @ w.T
            y @ w
            y.T @ x

    return run


if __name__ == "__main__":
    main()
