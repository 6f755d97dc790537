# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of `generate.py`: transformers' `generate` on LlamaForCausalLM.

python generate_torch.py DIRECTORY, which holds `weights.npz` and
`dataset/tokenizer.json`. Prints a JSON line when it is ready; then each line on
standard input is {prompts, batch, most}, how many ids for each prompt, and its answer
{texts, tokens, seconds}.
"""

import json
import os
import sys
import time

import numpy as np
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def load(directory: str) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Returns the model and the tokenizer, which pads on the left."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=f"{directory}/dataset/tokenizer.json",
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        pad_token="<|pad|>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    with np.load(f"{directory}/weights.npz") as arrays:
        weights = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    width = weights["model.norm.weight"].shape[0]
    inner = weights["model.layers.0.mlp.up_proj.weight"].shape[0]
    config = LlamaConfig(
        vocab_size=len(weights["model.embed_tokens.weight"]),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=sum("up_proj" in name for name in weights),
        num_attention_heads=width // 64,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)
    model.tie_weights()
    return model.eval(), tokenizer


def answer(model, tokenizer, prompts: list[str], most: list[int]):
    """Returns the continuations of one batch, and how many ids they have.

    A batch ends together: what goes beyond a prompt's own `most` is cut off.
    """
    texts = [tokenizer.bos_token + prompt for prompt in prompts]
    batch = tokenizer(
        texts, padding=True, return_tensors="pt", add_special_tokens=False
    )
    batch.pop("token_type_ids", None)
    ids = model.generate(**batch, max_new_tokens=max(most), do_sample=False)
    new = ids[:, batch["input_ids"].shape[1] :]
    rows = [row[:limit] for row, limit in zip(new, most, strict=True)]
    special = torch.tensor([tokenizer.eos_token_id, tokenizer.pad_token_id])
    count = sum(int((~torch.isin(row, special)).sum()) for row in rows)
    texts = [tokenizer.decode(row, skip_special_tokens=True) for row in rows]
    return texts, count


def main() -> None:
    """Answers requests until standard input ends."""
    torch.set_num_threads(os.cpu_count() or 1)
    model, tokenizer = load(sys.argv[1])
    version = f"transformers {transformers.__version__} (PyTorch {torch.__version__})"
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        prompts, size = request["prompts"], request["batch"]
        began = time.perf_counter()
        texts, tokens = [], 0
        for start in range(0, len(prompts), size):
            part = slice(start, start + size)
            some, count = answer(model, tokenizer, prompts[part], request["most"][part])
            texts, tokens = texts + some, tokens + count
        seconds = time.perf_counter() - began
        print(
            json.dumps({"texts": texts, "tokens": tokens, "seconds": seconds}),
            flush=True,
        )


if __name__ == "__main__":
    main()
