# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of batch generation, beside transformers' `generate` in PyTorch.

    python -m tests.benchmarks.generate --peer_python /path/to/venv/bin/python

The 13.8 M parameter decoder of `train_step.py` with context 256, as a release, answers
as a worker of `quern-generate` does, from text to text, on all cores; the peer is
LlamaForCausalLM with the same weights and the same tokenizer, float32, text to text
too. Greedy, 128 new tokens for each prompt; start-up, tracing and a first batch are not
counted. Cases: one batch of 8, 32 and 64 prompts of 64 ids, and 128 prompts of mixed
lengths (exponential, mean 64, 1 to 128 ids) in batches of 32: ours sorts by length, the
peer takes them as they come. The weights are random, so how many answers are the same
is printed: it tells that both do the same work.
"""

import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipelines.generation.prompts import Prompt
from pipelines.generation.release import Chunk, answer
from preprocessing.contracts.generation_config import GenerationConfig
from preprocessing.contracts.manifest import TOKENIZER_NAME, read_manifest
from preprocessing.foundation.commands import CommandParser
from preprocessing.tokenizer.tokenizer import Tokenizer, train
from tests.benchmarks.peers import Peer, peer_script, start_peer
from tests.benchmarks.train_step import SHAPE, model_config
from tests.benchmarks.turns import LEAST_TURNS, in_turns, spread
from tests.datasets import write_dataset
from trainer.compute.lanes import count_cores
from trainer.data.input_pipeline import DataConfig
from trainer.models.decoder import Decoder
from trainer.models.model import PrecisionConfig, build_model
from trainer.release.release import write_release
from trainer.release.servable import servable_of_run
from trainer.run.checkpoints import Run
from trainer.run.config import RunConfig
from trainer.serving.loaded_release import LoadedRelease

PEER = peer_script("generate_torch.py")
CONTEXT, PROMPT_IDS, NEW_TOKENS = 256, 64, 128
MIXED_PROMPTS, MIXED_BATCH = 128, 32


@dataclass(frozen=True)
class Case:
    """Prompts that are answered in batches of `batch`."""

    name: str
    prompts: list[str]
    batch: int


def main() -> None:
    """Writes the release, starts the peer, prints a line for each case."""
    parser = CommandParser("generate.py", "Measure batch generation.")
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--turns", type=int, default=LEAST_TURNS, help="at least")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        release = write_model(Path(work))
        tokenizer = Tokenizer.load(f"{work}/dataset/{TOKENIZER_NAME}")
        model = LoadedRelease(str(release), count_cores())
        peer = start_peer("transformers", [flags.peer_python, str(PEER), work])
        theirs = peer.facts["version"] if peer else "no peer"
        print(f"{os.cpu_count()} cores, TensorFlow {tf.__version__}, {theirs}")
        print(f"{'tokens/s':27}{'quern':>24}{'transformers':>24}   quotient")
        for case in cases(tokenizer):
            measure(case, model, peer, flags.turns)
        if peer:
            peer.close()


def write_model(work: Path) -> Path:
    """Writes a dataset, its tokenizer, a release of random weights, and the weights."""
    dataset = write_dataset(work / "dataset", sequence_length=CONTEXT)
    (dataset / TOKENIZER_NAME).write_bytes(train(words(), SHAPE["vocab_size"]))
    tokenizer = Tokenizer.load(str(dataset / TOKENIZER_NAME))
    manifest = replace(
        read_manifest(str(dataset)),
        vocab_size=tokenizer.vocab_size,
        tokenizer_sha256=tokenizer.sha256,
    )
    config = RunConfig(model=model_config(), data=DataConfig(sequence_length=CONTEXT))
    model = build_model(config.model, tokenizer.vocab_size, PrecisionConfig(), seed=0)
    assert isinstance(model, Decoder)
    opened = Run(config, manifest, str(dataset / TOKENIZER_NAME), model, step=0)
    write_release(servable_of_run(opened), str(work / "release"), "benchmark")
    np.savez(work / "weights.npz", **llama_weights(model))
    return work / "release"


def words() -> list[str]:
    """Returns made-up words, enough of them to fill the vocabulary with merges."""
    draw = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    made = ["".join(draw.choices(syllables, k=draw.randint(2, 4))) for _ in range(9000)]
    return [f" {word}" for word in made]


def llama_weights(model: Decoder) -> dict[str, np.ndarray]:
    """Returns the weights under the names that LlamaForCausalLM gives them."""
    named = {
        "model.embed_tokens.weight": model.vocabulary.embedding.numpy(),
        "model.norm.weight": model.norm.scale.numpy(),
    }
    for number, block in enumerate(model.layers):
        prefix = f"model.layers.{number}."
        qkv = np.split(block.attention.qkv.numpy().T, 3)
        both = np.split(block.mlp.gate_up.numpy().T, 2)
        part = {f"self_attn.{n}_proj": w for n, w in zip("qkv", qkv, strict=True)}
        part["self_attn.o_proj"] = block.attention.out.numpy().T
        part["mlp.gate_proj"], part["mlp.up_proj"] = both
        part["mlp.down_proj"] = block.mlp.down.numpy().T
        part["input_layernorm"] = block.attention_norm.scale.numpy()
        part["post_attention_layernorm"] = block.mlp_norm.scale.numpy()
        named |= {f"{prefix}{name}.weight": value for name, value in part.items()}
    return named


def cases(tokenizer: Tokenizer) -> list[Case]:
    """Returns the prompts of each case; BOS counts among the ids of a prompt."""
    single = [
        word for word in words() if len(tokenizer.encode_documents([word])[0]) == 3
    ]
    draw = random.Random(1)

    def prompt(ids: int) -> str:
        return "".join(draw.choices(single, k=ids - 1))

    made = [
        Case(f"{rows} prompts of {PROMPT_IDS} ids", [prompt(PROMPT_IDS)] * rows, rows)
        for rows in (8, 32, 64)
    ]
    made = [replace(c, prompts=[prompt(PROMPT_IDS) for _ in c.prompts]) for c in made]
    most = CONTEXT - NEW_TOKENS
    lengths = [1 + int(draw.expovariate(1 / 63)) for _ in range(MIXED_PROMPTS)]
    mixed = [prompt(min(length, most)) for length in lengths]
    name = f"{MIXED_PROMPTS} mixed prompts by {MIXED_BATCH}"
    return [*made, Case(name, mixed, MIXED_BATCH)]


def measure(case: Case, model: LoadedRelease, peer: Peer | None, turns: int) -> None:
    """Prints the speeds of one case, and how they compare."""
    texts: dict[str, list[str]] = {}
    request = {"prompts": case.prompts, "batch": case.batch, "most": NEW_TOKENS}

    def ours() -> float:
        began = time.perf_counter()
        texts["ours"], tokens = answer_all(case, model)
        return tokens / (time.perf_counter() - began)

    def theirs(peer: Peer) -> float:
        answered = peer.ask(request)
        texts["theirs"] = answered["texts"]
        return answered["tokens"] / answered["seconds"]

    ours()
    if peer is None:
        print(f"{case.name:27}{spread([ours() for _ in range(turns)]):>24}")
        return
    theirs(peer)
    found = in_turns(ours, lambda: theirs(peer), turns)
    same = sum(a == b for a, b in zip(texts["ours"], texts["theirs"], strict=True))
    print(
        f"{case.name:27}{spread(found.ours):>24}{spread(found.theirs):>24}   {found}; "
        f"{same} of {len(case.prompts)} answers equal",
        flush=True,
    )


def answer_all(case: Case, model: LoadedRelease) -> tuple[list[str], int]:
    """Returns the answers, as a worker of `quern-generate` makes them, and tokens."""
    config = GenerationConfig(max_new_tokens=NEW_TOKENS, batch_size=case.batch)
    prompts = [Prompt(number, text) for number, text in enumerate(case.prompts)]
    lines = answer(Chunk(0, prompts), model, config, lambda *_: None).lines
    return [line["text"] for line in lines], sum(line["num_tokens"] for line in lines)


if __name__ == "__main__":
    main()
