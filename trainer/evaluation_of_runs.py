# SPDX-License-Identifier: Apache-2.0
"""Opens a run and evaluates its model on a dataset."""

from preprocessing.commands import UsageError
from preprocessing.manifest import read_manifest
from preprocessing.tokenizer import Tokenizer
from trainer.checkpoints import open_run
from trainer.evaluation import Evaluation, byte_counts, make_evaluate
from trainer.input_pipeline import SubRows
from trainer.run_directory import read_run
from trainer.strategies import make_strategy
from trainer.workers import workers_of


def evaluate_run(
    run: str,
    dataset: str,
    split: str,
    step: int | None,
    strategy_name: str,
    logical_cpus: int,
) -> Evaluation | None:
    """Evaluates a run's model on every row of a split.

    Args:
        run: the run's directory.
        dataset: a dataset encoded with the run's tokenizer.
        split: "train" or "validation".
        step: which checkpoint; None is the last one.
        strategy_name: as `--strategy`.
        logical_cpus: devices to split the CPU into.

    Returns:
        The result, on the chief; None on other workers.

    Raises:
        UsageError: the run or dataset is not what it should be.
        WorkError: a row is damaged, or the split holds no target.
    """
    files, manifest = read_run(run), read_manifest(dataset)
    if manifest.tokenizer_sha256 != files.manifest.tokenizer_sha256:
        raise UsageError(
            f"wanted a dataset encoded with the tokenizer of {run}, {dataset} has "
            "another. Prepare it with the run's tokenizer.json"
        )
    length = files.config.data.sequence_length or files.manifest.sequence_length
    rows = SubRows(dataset, manifest, split, length)
    strategy = make_strategy(strategy_name, logical_cpus)
    workers = workers_of(strategy)
    with strategy.scope():
        opened = open_run(run, step)
    workers.agree(opened.step, "the checkpoint's step")
    tokenizer = Tokenizer.restore(
        opened.tokenizer_path,
        bos_id=manifest.bos_id,
        eos_id=manifest.eos_id,
        pad_id=manifest.pad_id,
    )
    data, replicas = files.config.data, strategy.num_replicas_in_sync
    micro = data.micro_batch_size or max(1, data.global_batch_size // replicas)
    evaluate = make_evaluate(
        opened.model, workers, byte_counts(tokenizer), micro * replicas
    )
    result = evaluate(rows, lambda: None)
    return result if workers.chief else None
