# SPDX-License-Identifier: Apache-2.0
"""What `quern-train --dry_run` tells of a run before anything is allocated."""

from preprocessing.foundation.commands import UsageError, count_of
from trainer.loop.memory import Memory, MicroBatch, Sketch, estimate, sketch
from trainer.loop.plan import Data
from trainer.models.parameters import active_parameters, num_parameters
from trainer.run.config import RunConfig
from trainer.step.layout import Layout


def sketch_run(data: Data, config: RunConfig) -> Sketch:
    """Returns the shapes of a run's model."""
    return sketch(config.model, data.manifest.vocab_size, config.precision)


def needed(sketched: Sketch, config: RunConfig, layout: Layout) -> Memory:
    """Returns what the run needs on each device."""
    batch = MicroBatch(
        rows=layout.micro_batch_size,
        sequence_length=config.sequence_length,
        loss_chunk=config.loss.chunk,
        accumulates=layout.accumulation > 1,
        lanes=layout.lanes,
    )
    return estimate(sketched, config.precision, config.optimizer, batch)


def show(
    data: Data, config: RunConfig, layout: Layout, sketched: Sketch, memory: Memory
) -> list[str]:
    """Returns lines for people: size, cost and memory of the run."""
    length = config.sequence_length
    rows = config.data.batch_schedule.rows_before(config.loop.total_steps)
    stored = sum(m.splits["train"].rows * m.sequence_length for m in data.manifests)
    tokens = rows * length
    flops = sketched.model.flops_per_token(length)
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer_state,
        "activations": memory.activations,
    }
    split = ", ".join(f"{_gib(size)} {name}" for name, size in parts.items())
    return [
        f"parameters        {_parameters(sketched)}",
        f"FLOPs per token   {flops:,.0f}",
        f"tokens to train   {tokens:,} ({tokens / max(stored, 1):.2f} epochs)",
        f"FLOPs to train    {tokens * flops:.3g}",
        f"replicas          {layout.num_replicas}, each {layout.accumulation} x "
        f"{count_of(layout.micro_batch_size, 'row')} a step, in "
        f"{count_of(layout.lanes, 'lane')}",
        f"memory a device   about {_gib(memory.total)}: {split}",
    ]


def _parameters(sketched: Sketch) -> str:
    size = num_parameters(sketched.model)
    active = active_parameters(sketched.model)
    return f"{size:,}" if active == size else f"{size:,}, {active:,} of a token"


def check_fits(memory: Memory, available: int | None, replicas_a_device: int) -> None:
    """Checks that a run fits on its devices, as far as that is known.

    Args:
        memory: what each replica needs.
        available: bytes of a device; None is not known, and passes.
        replicas_a_device: logical CPUs share the machine's memory, and
            logical GPUs their card's.

    Raises:
        UsageError: it does not.
    """
    total = memory.total * replicas_a_device
    if available is None or total <= available:
        return
    raise UsageError(
        f"wanted a run that fits into the {_gib(available)} of a device, found that it "
        f"needs about {_gib(total)}; parameters, gradients and optimizer state "
        f"({_gib(total - memory.activations * replicas_a_device)}) are replicated on "
        "every device, so that more of them do not help. Choose a smaller model, or "
        "lower data.micro_batch_size, set model.remat=full or use a lighter optimizer"
    )


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.2f} GiB"
