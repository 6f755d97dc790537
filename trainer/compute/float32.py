# SPDX-License-Identifier: Apache-2.0
"""Numbers of a configuration as a step computes with them: in float32.

A configuration holds Python's numbers, of float64. A rate of 1e-46 is above 0 there and
0 in a step, a decay of 0.99999999 is below 1 there and 1 in a step.
"""

import numpy as np

from preprocessing.foundation.commands import UsageError

LARGEST = float(np.finfo(np.float32).max)
# Below it processors may take a number for 0.
SMALLEST = float(np.finfo(np.float32).tiny)


def check_range(
    key: str, value: float, least: float = SMALLEST, most: float = LARGEST
) -> None:
    """Checks that a number is within a range that float32 holds.

    Args:
        key: how errors call it.
        value: the number.
        least: of the range; its default is the smallest number above 0 there is.
        most: of the range.

    Raises:
        UsageError: it is not.
    """
    if not least <= value <= most:
        raise UsageError(
            f"wanted {key} from {least:g} to {most:g}, found {value:g}. "
            f"{'Lower' if value > most else 'Raise'} it"
        )


def check_zero_or_range(
    key: str, value: float, least: float = SMALLEST, most: float = LARGEST
) -> None:
    """As `check_range`, but for a number that 0 turns off."""
    if value != 0.0 and not least <= value <= most:
        raise UsageError(
            f"wanted {key} of 0, or from {least:g} to {most:g}, found {value:g}. "
            f"{'Lower' if value > most else 'Raise'} it"
        )


def check_below_one(key: str, value: float) -> None:
    """Checks that a share is from 0 to less than 1, rounded to float32 too.

    Raises:
        UsageError: it is not.
    """
    if not 0.0 <= value < 1.0:
        raise UsageError(f"wanted {key} in [0, 1), found {value}. Lower it")
    if not np.float32(value) < 1.0:
        raise UsageError(
            f"wanted {key} in [0, 1), found {value}, which is 1 in float32. Lower it"
        )
