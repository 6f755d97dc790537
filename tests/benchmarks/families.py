# SPDX-License-Identifier: Apache-2.0
"""The train step of each published family, beside transformers' class in PyTorch.

    python -m tests.benchmarks.families --peer_python /path/to/venv/bin/python

One model of each family of some 14 million parameters (6 layers, width 384, 6 heads,
vocabulary 8,192, sequence 256, batch 8), with AdamW and clipping at 1, on random
tokens. The sides take turns (`turns.py`); PyTorch's is compiled by `torch.compile` with
scaled dot product attention. Beside it, the quotient of the step's matrix products
alone, of the same shapes: what is left of it is not the libraries' speed in products.
PyTorch needs an interpreter of its own (`requirements.txt` beside this file).
"""

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import tensorflow as tf

from preprocessing.foundation.commands import CommandParser
from tests.benchmarks.peers import Peer, peer_script, start_peer
from tests.benchmarks.train_step import SHAPE, TOKENS, build_ours, random_rows
from tests.benchmarks.turns import LEAST_TURNS, in_turns
from trainer.compute.lanes import count_cores, share_threads
from trainer.distribution.strategies import make_strategy
from trainer.models.decoder import DecoderConfig
from trainer.published.known_families import described

SIZES: Mapping[str, Any] = {
    "vocab_size": SHAPE["vocab_size"],
    "hidden_size": SHAPE["d_model"],
    "num_hidden_layers": SHAPE["num_layers"],
    "num_attention_heads": SHAPE["num_heads"],
    "intermediate_size": SHAPE["ffn_dim"],
    "max_position_embeddings": 2 * SHAPE["length"],
    "tie_word_embeddings": True,
}
GPT2 = {
    "vocab_size": SHAPE["vocab_size"],
    "n_embd": SHAPE["d_model"],
    "n_layer": SHAPE["num_layers"],
    "n_head": SHAPE["num_heads"],
    "n_positions": 2 * SHAPE["length"],
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
GROUPED = {"num_key_value_heads": 2}
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "gpt2": GPT2,
    "gpt_neox": SIZES,
    "llama": {**SIZES, **GROUPED},
    "mistral": {**SIZES, **GROUPED, "sliding_window": 64},
    "qwen2": {**SIZES, **GROUPED},
    "qwen3": {**SIZES, **GROUPED, "head_dim": 64},
    "olmo2": SIZES,
    "gemma3_text": {
        **SIZES,
        **GROUPED,
        "head_dim": 64,
        "query_pre_attn_scalar": 64,
        "sliding_window": 64,
    },
    "granite": {**SIZES, **GROUPED},
    "mixtral": {**SIZES, **GROUPED, "num_local_experts": 4, "intermediate_size": 512},
    "qwen3_moe": {
        **SIZES,
        **GROUPED,
        "head_dim": 64,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 256,
        "norm_topk_prob": True,
    },
}


def main() -> None:
    """Prints a line for each family and precision."""
    parser = CommandParser("families.py", "Measure the step of published families.")
    parser.add_argument("--peer_python", required=True)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--precision", default="bfloat16,float32")
    parser.add_argument("--steps", type=int, default=3, help="steps a turn")
    parser.add_argument("--turns", type=int, default=LEAST_TURNS, help="at least")
    flags = parser.parse_args()
    share_threads(count_cores(), count_cores())
    for precision in flags.precision.split(","):
        for name in flags.families:
            measure(name, precision, flags)


def measure(name: str, precision: str, flags: Any) -> None:
    """Prints how a family's step compares, and its products alone."""
    fields = {"model_type": name, **FAMILIES[name]}
    config, _ = described(fields, name)
    peer = start_peer(f"{name} in PyTorch", peer_command(fields, precision, flags))
    if peer is None:
        return
    loop, _ = build_ours(precision, make_strategy("one_device"), config)
    features, steps = random_rows(flags.steps), flags.steps

    def train() -> None:
        loop(features, steps).loss_sum.numpy()

    products = matrix_products(config, precision)
    for work in (train, products):
        work()
    tokens = steps * TOKENS
    found = in_turns(
        partial(rate, train, tokens),
        partial(peer_rate, peer, steps, tokens),
        flags.turns,
    )
    alone = in_turns(
        partial(rate, products, TOKENS),
        partial(peer_rate, peer, "products", TOKENS),
        flags.turns,
    )
    peer.close()
    count, version = peer.facts["parameters"], peer.facts["version"]
    print(
        f"{name:12}{precision:9} {count / 1e6:5.1f} M parameters: {found}; products "
        f"alone {alone} (TensorFlow {tf.__version__}, PyTorch {version})",
        flush=True,
    )


def peer_command(fields: Mapping[str, Any], precision: str, flags: Any) -> list[str]:
    """Returns the command of the PyTorch side."""
    script = str(peer_script("families_torch.py"))
    sizes = [str(SHAPE["batch"]), str(SHAPE["length"])]
    return [
        *(flags.peer_python, script, json.dumps(fields)),
        *(precision, str(count_cores()), *sizes),
    ]


def rate(work: Callable[[], None], tokens: int) -> float:
    """Returns tokens a second of one call."""
    began = time.perf_counter()
    work()
    return tokens / (time.perf_counter() - began)


def peer_rate(peer: Peer, request: Any, tokens: int) -> float:
    """Returns tokens a second of what the peer is asked for."""
    seconds: float = peer.ask(request)
    return tokens / seconds


def matrix_products(config: DecoderConfig, precision: str) -> Callable[[], None]:
    """Returns what does a step's products of weights, of random numbers.

    Experts are left out, on both sides.
    """
    heads, dtype = config.heads, tf.as_dtype(precision)
    inner, width = config.hidden_dim, config.d_model
    shapes = [(width, heads.query_width + 2 * heads.kv_width)]
    shapes.append((heads.query_width, width))
    if not config.num_experts:
        shapes.append((width, inner * (2 if config.ffn == "gated" else 1)))
        shapes.append((inner, width))
    shapes = config.num_layers * shapes + [(width, SHAPE["vocab_size"])]
    sides = {size for shape in shapes for size in shape}
    inputs = {size: tf.cast(tf.random.normal([TOKENS, size]), dtype) for size in sides}
    weights = {s: tf.cast(tf.random.normal(s), dtype) for s in set(shapes)}

    def run() -> None:
        for shape in shapes:
            x, y, w = inputs[shape[0]], inputs[shape[1]], weights[shape]
            tf.matmul(x, w)
            tf.matmul(y, w, transpose_b=True)
            last = tf.matmul(x, y, transpose_a=True)
        last.numpy()

    return run


if __name__ == "__main__":
    main()
