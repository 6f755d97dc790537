# SPDX-License-Identifier: Apache-2.0
"""Finds the rows at fault in a batch that fails, so that the others lose nothing."""

from collections.abc import Callable, Sequence
from typing import Any

from preprocessing.foundation.commands import UsageError, WorkError


def bisected(
    rows: Sequence[int],
    run: Callable[[Sequence[int]], list[dict[str, Any]]],
    what: str = "generation",
) -> dict[int, dict[str, Any]]:
    """Runs rows together; where that fails, halves them until the culprits are alone.

    Args:
        rows: numbers of rows.
        run: returns a result for each of some of them.
        what: failed, for the error.

    Returns:
        Row -> its result, or {"error": …} for a row that fails by itself.

    Raises:
        UsageError: as `run` raised it: all rows are at fault.
        WorkError: likewise.
    """
    try:
        return dict(zip(rows, run(rows), strict=True))
    except (UsageError, WorkError):
        raise
    except Exception as error:  # whatever a row can provoke; reported as its answer
        if len(rows) == 1:
            message = str(error).strip().splitlines() or [type(error).__name__]
            return {rows[0]: {"error": f"{what} failed: {message[0]}"}}
    middle = len(rows) // 2
    return {
        **bisected(rows[:middle], run, what),
        **bisected(rows[middle:], run, what),
    }
