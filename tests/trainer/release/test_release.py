# SPDX-License-Identifier: Apache-2.0
"""Only what can answer becomes a release."""

import numpy as np
import pytest

from preprocessing.foundation.commands import UsageError
from tests.releases import untrained_run
from trainer.release.release import write_release
from trainer.release.servable import servable_of_run


@pytest.mark.parametrize("family", ["decoder", "recurrent"])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(
    dataset, tmp_path, family, odd
):
    run = untrained_run(dataset, family)
    value = run.model.trainable_variables[-1].numpy()
    value.flat[-1] = odd
    run.model.trainable_variables[-1].assign(value)
    with pytest.raises(UsageError, match=r"finite weights .* in model/"):
        write_release(servable_of_run(run), str(tmp_path / "r"), "name")
    assert not (tmp_path / "r").exists()


def test_finite_weights_whose_answers_are_not_finite_are_refused(dataset, tmp_path):
    run = untrained_run(dataset, "decoder")
    for weight in run.model.trainable_variables:
        if weight.shape.rank == 1:  # norms' scales: logits pass float32
            weight.assign(weight * 1e38)
    with pytest.raises(UsageError, match=r"finite answers .* in generate\.outputs\."):
        write_release(servable_of_run(run), str(tmp_path / "r"), "name")
    assert not (tmp_path / "r").exists()
