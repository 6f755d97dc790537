# SPDX-License-Identifier: Apache-2.0
"""Measures one size for `train_step_gpu.py`, in a process of its own.

PyTorch compiles while ours does: the peer is started first, and asked to work only
when both are ready.
"""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from preprocessing.foundation.commands import UsageError, run
from tests.benchmarks.gpu.gpu_kernels import print_profile
from tests.benchmarks.gpu.train_step_gpu_sides import (
    Ours,
    Side,
    Turn,
    decoder_of,
    launch_peer,
)
from tests.benchmarks.gpu.utilisation import product_rate, training_flops
from tests.benchmarks.peers import LaunchedPeer, Peer
from tests.benchmarks.train_step_gpu import Size
from tests.benchmarks.turns import LEAST_TURNS, Comparison, in_turns
from trainer.run.config import RunConfig, with_pairs
from trainer.run.presets import preset

PRODUCT = {"gpu": 8192, "cpu": 512}


def main(arguments: Sequence[str]) -> None:
    """Measures the size that JSON describes, until the monotonic clock reads so much.

    Raises:
        UsageError: there is no GPU, or PyTorch's side has no such model.
    """
    size, until = Size(**json.loads(arguments[0])), float(arguments[1])
    check_device(size.device)
    config = configured(size)
    launched = launch_peer(size, decoder_of(config), config.precision.compute)
    try:
        measure(size, config, launched, until)
    except tf.errors.OpError as error:
        reason = (str(error.message).strip() or "no message").splitlines()[0]
        print(f"{size.name}: failed, {type(error).__name__}: {reason[:300]}")
        raise SystemExit(1) from None
    finally:
        if launched:
            launched.close()


def check_device(device: str) -> None:
    """Has TensorFlow take of the card what it needs, and leave PyTorch the rest.

    Raises:
        UsageError: a GPU is wanted and there is none.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise UsageError("wanted a GPU, found none. Use --device cpu to try it out")
    tf.config.set_visible_devices(gpus[:1] if device == "gpu" else [], "GPU")
    if device == "gpu":
        tf.config.experimental.set_memory_growth(gpus[0], True)


def configured(size: Size) -> RunConfig:
    """Returns the preset's configuration in bfloat16, with the pairs of `--set`.

    Raises:
        UsageError: a pair is refused.
    """
    rows = f"data.global_batch_size={size.rows}", f"data.micro_batch_size={size.rows}"
    pairs = "precision.compute=bfloat16", f"data.sequence_length={size.length}", *rows
    return with_pairs(preset(size.preset), [*pairs, *size.pairs])


def measure(
    size: Size, config: RunConfig, launched: LaunchedPeer | None, until: float
) -> None:
    """Prints the table of one size, and what its kernels take."""
    began = time.monotonic()
    peer = None
    if launched and size.apart:
        peer = launched.ready(max(0.0, until - time.monotonic()))
    ours = Ours(size, config)
    compiled = time.monotonic() - began
    if launched and not size.apart:
        peer = launched.ready(max(0.0, until - time.monotonic()))
    sides = [side_of(size, config, ours.name, ours.product_weights, ours.turn)]
    rates = {"XLA": product_rate(PRODUCT[size.device])}
    if peer:
        rates["PyTorch"] = peer.ask(f"product {PRODUCT[size.device]}")
        sides.append(side_of_peer(size, config, peer))
    found = take_turns(sides, size.turns, until)
    products = " and ".join(f"{rate / 1e12:,.1f} by {n}" for n, rate in rates.items())
    print(
        f"\n{size.name}, {size.documents} documents a row, {device_name(size.device)}"
    )
    print(f"bfloat16 products: {products} TFLOP/s; ours compiled in {compiled:.0f} s")
    print(f"{'':28}{'tokens/s':>32}{'ms/step':>10}{'peak GiB':>10}{'MFU':>8}")
    for side in sides:
        print(side.row(max(rates.values())))
    if found:
        few = "" if len(found.ours) >= LEAST_TURNS else ", too few to decide"
        print(f"Quern / PyTorch: {found}{few}")
    print(facts(size, ours, peer), flush=True)
    if size.profile:
        print_profile(ours.call, Path(size.profile) / f"{size.preset}-{size.rows}")


def side_of(
    size: Size, config: RunConfig, name: str, weights: int, work: Callable[[], Turn]
) -> Side:
    """Returns a side whose matrices hold `weights` numbers."""
    model = decoder_of(config)
    flops = training_flops(weights, model.num_layers, model.d_model, size.length)
    tokens = size.steps * size.rows * size.length
    return Side(name, flops, tokens, size.steps, work)


def side_of_peer(size: Size, config: RunConfig, peer: Peer) -> Side:
    """Returns PyTorch's side, counted by its own weights."""

    def work() -> Turn:
        spent = peer.ask(size.steps)
        return Turn(spent["wall"], spent.get("peak_bytes"))

    name = f"torch.compile {peer.facts['version']}"
    return side_of(size, config, name, peer.facts["product_weights"], work)


def take_turns(sides: Sequence[Side], least: int, until: float) -> Comparison | None:
    """Takes turns while there is time, one at least; None without a peer."""

    def late() -> bool:
        return time.monotonic() > until

    if len(sides) == 2:
        return in_turns(sides[0].measure, sides[1].measure, least, late=late)
    for _ in range(least):
        sides[0].measure()
        if late():
            break
    return None


def device_name(device: str) -> str:
    """Returns what the card calls itself."""
    if device == "cpu":
        return f"{os.cpu_count()} cores, to try it out only"
    details = tf.config.experimental.get_device_details(
        tf.config.list_physical_devices("GPU")[0]
    )
    return str(details.get("device_name", "a GPU without a name"))


def facts(size: Size, ours: Ours, peer: Peer | None) -> str:
    """Returns a line that shows whether both sides train the same."""
    losses, weights = [ours.first_loss], [ours.product_weights]
    if peer:
        losses.append(peer.facts["first_loss"])
        weights.append(peer.facts["product_weights"])
    return (
        f"weights in products {' and '.join(f'{n:,}' for n in weights)}; first loss "
        f"{' and '.join(f'{loss:.3f}' for loss in losses)}, ln(vocabulary) "
        f"{math.log(size.vocabulary):.3f}; {ours.skipped} of our steps skipped"
    )


if __name__ == "__main__":
    run(main)
