# SPDX-License-Identifier: Apache-2.0
"""What the report adds up: sources of a mixture, files, or directories above them."""

import functools

import numpy as np

from pipelines.job.plan import Plan
from preprocessing.packing.mixture import MixtureConfig

MOST_GROUPS = 40


@functools.lru_cache(maxsize=1)
def source_groups(
    plan: Plan, mixture: MixtureConfig | None
) -> tuple[list[str], np.ndarray]:
    """Returns (group names, each file's group [files]).

    The groups of a mixture are its sources, by their numbers. Without one a file is
    its own group while there are at most 40; then its first directory is, with files
    that lie in none of them together.
    """
    if mixture is not None:
        return list(mixture.names), np.array(mixture.numbers_of(plan.files), np.int64)
    if len(plan.files) <= MOST_GROUPS:
        return list(plan.files), np.arange(len(plan.files))
    tops = [file.split("/")[0] + "/" if "/" in file else "./" for file in plan.files]
    names, groups = np.unique(np.array(tops), return_inverse=True)
    return names.tolist(), groups
