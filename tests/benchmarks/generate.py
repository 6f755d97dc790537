# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of batch generation, beside transformers' `generate` in PyTorch.

    python -m tests.benchmarks.generate --peer_python /path/to/venv/bin/python

The 13.8 M parameter decoder of `train_step.py` with context 256, as a release whose
weights are stored as `--weights` says, continues ids in the engine of `quern-generate`
on all cores; the peer is LlamaForCausalLM with the same weights and the same tokenizer,
float32. Both go from text to text, greedy. Start-up, tracing and a first run
are not counted. Cases:

    equal 8     8 prompts of 64 ids, 128 new ones, in 8 slots; the peer's batch is 8
    32 slots    128 prompts likewise in 32 slots; the peer's batch is its best of 8, 32
                and 64, found beforehand
    mixed       512 prompts, their ids and the ids to make exponential of mean 64, 1 to
                128 each, in 32 slots; the peer takes them as they come, by 32
    static      the same, beside the same engine in batches of 32 that end together
    first       one prompt of 64 ids, one new id

The weights are random, so how many answers are the same is printed: it tells that both
do the same work. Beside speeds stands the share of what the step's limit would allow
(`generate_limits.py`).
"""

import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.contracts.manifest import TOKENIZER_NAME, read_manifest
from preprocessing.contracts.releases import WEIGHT_TYPES
from preprocessing.foundation.commands import CommandParser
from preprocessing.foundation.huge_pages import VARIABLE, restart_with_huge_pages
from preprocessing.tokenizer.tokenizer import Tokenizer, train
from tests.benchmarks.generate_limits import StepLimit
from tests.benchmarks.peers import LaunchedPeer, Peer, peer_script
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
from trainer.serving.engine.engine import Engine
from trainer.serving.engine.ordering import in_order
from trainer.serving.engine.prompts import as_read
from trainer.serving.engine.requests import SlotRequest
from trainer.serving.loaded_release import LoadedRelease

PEER = peer_script("generate_torch.py")
CONTEXT, PROMPT_IDS, NEW_TOKENS = 256, 64, 128
MIXED_PROMPTS = 512
CASES = ("equal 8", "32 slots", "mixed", "static", "first")


@dataclass(frozen=True)
class Case:
    """Prompts with the ids each is continued by, and how many go on together."""

    name: str
    prompts: list[str]
    limits: list[int]
    slots: int
    batches: tuple[int, ...]  # the peer's, of which the best counts


@dataclass(frozen=True)
class Answered:
    """Continuations and the speed they came at."""

    texts: list[str]
    tokens_per_second: float


def main() -> None:
    """Writes the release, starts the peer, prints a line for each case."""
    parser = CommandParser("generate.py", "Measure batch generation.")
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--turns", type=int, default=LEAST_TURNS, help="at least")
    parser.add_argument("--weights", default="float32", choices=WEIGHT_TYPES)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        release = write_model(Path(work), flags.weights)
        model = LoadedRelease(str(release), count_cores())
        command = [flags.peer_python, str(PEER), work]
        peer = LaunchedPeer("transformers", command, without=[VARIABLE]).ready()
        theirs = peer.facts["version"] if peer else "no peer"
        print(f"{os.cpu_count()} cores, TensorFlow {tf.__version__}, {theirs}")
        print(f"{'tokens/s, ' + flags.weights:27}{'quern':>24}{'peer':>24}   quotient")
        for name in flags.cases:
            measure(make_case(name, model.tokenizer), model, peer, flags)
        if peer:
            peer.close()


def write_model(work: Path, weights: str) -> Path:
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
    compute = PrecisionConfig("bfloat16" if weights == "bfloat16" else "float32")
    model = build_model(config.model, tokenizer.vocab_size, compute, seed=0)
    assert isinstance(model, Decoder)
    opened = Run(config, manifest, str(dataset / TOKENIZER_NAME), model, step=0)
    write_release(servable_of_run(opened), str(work / "release"), "benchmark", weights)
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


def make_case(name: str, tokenizer: Tokenizer) -> Case:
    """Returns the prompts of a case; BOS counts among the ids of a prompt."""
    single = [
        word for word in words() if len(tokenizer.encode_documents([word])[0]) == 3
    ]
    draw = random.Random(1)

    def prompt(ids: int) -> str:
        return "".join(draw.choices(single, k=ids - 1))

    if name in ("mixed", "static"):
        most = CONTEXT - NEW_TOKENS
        lengths, limits = (
            [min(1 + int(draw.expovariate(1 / 63)), most) for _ in range(MIXED_PROMPTS)]
            for _ in range(2)
        )
        return Case(name, [prompt(ids) for ids in lengths], limits, 32, (32,))
    count, slots, batches, new = {
        "equal 8": (8, 8, (8,), NEW_TOKENS),
        "32 slots": (128, 32, (8, 32, 64), NEW_TOKENS),
        "first": (1, 1, (1,), 1),
    }[name]
    prompts = [prompt(PROMPT_IDS) for _ in range(count)]
    return Case(name, prompts, [new] * count, slots, batches)


def measure(case: Case, model: LoadedRelease, peer: Peer | None, flags: Any) -> None:
    """Prints the speeds of one case, how they compare, and the share of the limit."""
    seen: dict[str, list[str]] = {}

    def ours() -> float:
        answered = answer_all(case, model)
        seen["ours"] = answered.texts
        return answered.tokens_per_second

    def theirs() -> float:
        if case.name == "static" or peer is None:
            return answer_all(case, model, refill=False).tokens_per_second
        best = ask(peer, case, case.batches[0])
        seen["theirs"] = best.texts
        return best.tokens_per_second

    ours()
    if peer is not None and len(case.batches) > 1:
        speeds = {
            size: ask(peer, case, size).tokens_per_second for size in case.batches
        }
        case = replace(case, batches=(max(speeds, key=lambda size: speeds[size]),))
    theirs()
    found = in_turns(ours, theirs, flags.turns)
    limit = limit_of(case, model, flags.weights)
    share = np.median(found.ours) / limit
    same = sum(
        a == b for a, b in zip(seen["ours"], seen.get("theirs", []), strict=False)
    )
    print(
        f"{case.name + f' (peer by {case.batches[0]})':27}{spread(found.ours):>24}"
        f"{spread(found.theirs):>24}   {found}; {same} of {len(case.prompts)} answers "
        f"equal; {share:.0%} of the limit, {limit:,.0f}",
        flush=True,
    )


def ask(peer: Peer, case: Case, batch: int) -> Answered:
    """Has the peer answer a case in batches of a size."""
    answered = peer.ask({"prompts": case.prompts, "batch": batch, "most": case.limits})
    return Answered(answered["texts"], answered["tokens"] / answered["seconds"])


def answer_all(case: Case, model: LoadedRelease, refill: bool = True) -> Answered:
    """Answers a case from text to text; without refilling, batch after batch."""
    began, tokenizer = time.perf_counter(), model.tokenizer
    requests = []
    ids, lengths = tokenizer.encode_batch(case.prompts)
    for key, each in enumerate(np.split(ids, np.cumsum(lengths)[:-1])):
        read, limit = as_read(each.tolist(), case.limits[key], model.lineage)
        requests.append(SlotRequest(key, read, limit))
    engine, ordered = Engine(model.slots, case.slots), in_order(requests)
    size = len(ordered) if refill else case.slots
    texts, tokens = [""] * len(ordered), 0
    for start in range(0, len(ordered), size):
        for request in ordered[start : start + size]:
            engine.add(request)
        while not engine.idle:
            for end in engine.step():
                tokens += len(end.ids)
                texts[end.key] = tokenizer.decode(list(end.ids))
    return Answered(texts, tokens / (time.perf_counter() - began))


def limit_of(case: Case, model: LoadedRelease, weights: str) -> float:
    """Returns the tokens/s that the limit of a step with all slots taken allows."""
    _, lengths = model.tokenizer.encode_documents(case.prompts)
    mean = np.mean(lengths) + np.mean(case.limits) / 2
    step = StepLimit(weights, case.slots, float(mean))
    return case.slots / step.seconds()


if __name__ == "__main__":
    restart_with_huge_pages()  # as the command does
    main()
