# SPDX-License-Identifier: Apache-2.0
"""Evaluates the checkpoint of a run on a dataset, laid out as training lays it out."""

from typing import Literal

from preprocessing.contracts.manifest import Manifest, read_manifest
from preprocessing.foundation.commands import UsageError
from trainer.compute.compilation import choose_for_evaluation
from trainer.compute.lanes import count_cores, share_threads
from trainer.data.input_pipeline import SubRows, check_family
from trainer.data.mixed_rows import source_names
from trainer.distribution.device_options import DeviceOptions
from trainer.distribution.strategies import make_strategy
from trainer.distribution.workers import workers_of
from trainer.loop.batch_layout import lanes_of, spread_evaluation
from trainer.loop.evaluate_rows import Evaluation, byte_counts, make_evaluate
from trainer.loop.stated import stated
from trainer.run.checkpoints import open_run
from trainer.run.run_directory import RunFiles, read_run, restore_tokenizer
from trainer.step.model_with_values import as_it_is


def evaluate_run(
    run: str,
    dataset: str,
    split: str,
    step: int | Literal["best"] | None,
    strategy_name: str,
    options: DeviceOptions,
) -> Evaluation | None:
    """Evaluates a run's model on every row of a split.

    Args:
        run: the run's directory.
        dataset: a dataset encoded with the run's tokenizer.
        split: "train" or "validation".
        step: which checkpoint: None is the last, "best" that of the lowest loss.
        strategy_name: as `--strategy`.
        options: how devices are cut and talk, as for training.

    Returns:
        The result, on the chief; None on other workers.

    Raises:
        UsageError: the run or dataset is not what it should be.
        WorkError: a row is damaged, or the split holds no target.
    """
    files, manifest = read_run(run), read_manifest(dataset)
    _check_same_tokenizer(run, files, dataset, manifest)
    config = files.config
    check_family(manifest, config.model)
    rows = SubRows(dataset, manifest, split, config.sequence_length)
    cores = count_cores()
    lanes = lanes_of(config, manifest.vocab_size, strategy_name, options, cores)
    share_threads(lanes * options.logical_cpus, cores)
    which = {"--split": split, "--step": str(step)}
    statement = stated(config, manifest.dataset_hash, run, which)
    strategy = make_strategy(strategy_name, options, statement=statement)
    workers = workers_of(strategy)
    with strategy.scope():
        opened = open_run(run, step)
    workers.agree(opened.step, "the checkpoint's step")
    layout = spread_evaluation(config.data, strategy.num_replicas_in_sync, lanes)
    counts = byte_counts(restore_tokenizer(opened.tokenizer_path, manifest))
    names = source_names(manifest, split)
    compilation = choose_for_evaluation(config.compute.xla)
    evaluate = make_evaluate(
        as_it_is(opened.model), workers, layout, counts, names, compilation
    )
    result = evaluate(rows, lambda: None)
    return result if workers.chief else None


def _check_same_tokenizer(
    run: str, files: RunFiles, dataset: str, manifest: Manifest
) -> None:
    if manifest.tokenizer_sha256 != files.manifest.tokenizer_sha256:
        raise UsageError(
            f"wanted a dataset encoded with the tokenizer of {run}, {dataset} has "
            "another. Prepare it with the run's tokenizer.json"
        )
