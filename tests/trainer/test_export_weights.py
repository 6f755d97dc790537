# SPDX-License-Identifier: Apache-2.0
"""Releases that keep their weights narrower than float32."""

from pathlib import Path

import numpy as np
import pytest

from preprocessing.contracts.releases import find_release, read_lineage
from preprocessing.foundation.commands import UsageError
from tests.datasets import write_dataset
from tests.trainer.small_runs import small_run
from trainer import export, task
from trainer.models.functional import weight_places
from trainer.models.model import PrecisionConfig
from trainer.models.stored_weights import StoredWeights
from trainer.release.reopened import servable_of_release
from trainer.run.checkpoints import open_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory) -> str:
    made = str(tmp_path_factory.mktemp("weights") / "run")
    small = ["loop.total_steps=2", "loop.evaluate_every=0", "loop.log_every=1"]
    task.main(small_run(dataset, made, *small))
    return made


def exported(run: str, dataset: Path, kind: str, models: str, *more: str) -> None:
    narrow = ["--weights", kind, "--data", str(dataset)]
    export.main(["--run", run, "--output", models, *narrow, *more])


@pytest.mark.smoke
def test_a_narrow_release_holds_the_narrowed_weights_and_says_what_it_lost(
    run, dataset, tmp_path, capfd
):
    models = str(tmp_path / "narrow")
    exported(run, dataset, "bfloat16", models)
    last = capfd.readouterr().out.splitlines()[-1]
    assert last.startswith("weights in bfloat16: ") and "bits per byte" in last
    assert float(last.split("(")[1].split(" %")[0]) < 1.0
    check_weights(run, models, "bfloat16")


@pytest.mark.drill
@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
def test_a_narrow_release_answers_as_the_narrowed_model(
    run, dataset, kind, tmp_path, capfd
):
    models = str(tmp_path / "narrow")
    exported(run, dataset, kind, models, "--check")
    printed = capfd.readouterr().out
    assert "answers 37 of 37 requests as the trainer did" in printed
    check_weights(run, models, kind)


def check_weights(run: str, models: str, kind: str) -> None:
    """Checks the weights that a release is opened with against the run's, narrowed."""
    assert read_lineage(find_release(models)).weights == kind
    opened = servable_of_release(models)
    wanted = StoredWeights(open_run(run, None, PrecisionConfig()).model, kind).values()
    for place, value in zip(weight_places(opened.model), wanted, strict=True):
        np.testing.assert_array_equal(
            place.variable.numpy(), value.numpy().astype(np.float32)
        )


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--format", "huggingface", "--weights", "int8"], "as trained, found int8"),
        (["--data", "somewhere"], "wanted --data with --weights other than float32"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, wanted, tmp_path):
    with pytest.raises(UsageError, match=wanted):
        export.main(["--run", "any", "--output", str(tmp_path / "x"), *flags])


def test_a_dataset_of_another_tokenizer_cannot_tell_the_loss(run, tmp_path):
    other = write_dataset(tmp_path / "other", vocab_size=280, seed=3)
    flags = ["--weights", "int8", "--data", str(other)]
    with pytest.raises(UsageError, match="encoded with the tokenizer of the run"):
        export.main(["--run", run, "--output", str(tmp_path / "m"), *flags])
    assert not (tmp_path / "m").exists()
