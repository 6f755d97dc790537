# SPDX-License-Identifier: Apache-2.0
"""Tells a failure of one release from one that all the others would meet as well."""

from collections.abc import Iterator

import tensorflow as tf

# Of the stores' SDKs: what they raise, they raise for the next release too.
_STORES = frozenset({"botocore", "boto3", "s3transfer", "google", "azure"})


def ends_all(error: BaseException) -> bool:
    """Tells whether a full or broken disk, or a store, is behind an error."""
    return any(_of_the_place(each) for each in _chain(error))


def _of_the_place(error: BaseException) -> bool:
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return "OOM" not in str(error)  # a full disk; memory is one model's matter
    if isinstance(error, OSError):
        # What is absent is one run's matter, as a child that is gone.
        return not isinstance(error, FileNotFoundError | ChildProcessError)
    return type(error).__module__.partition(".")[0] in _STORES


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and what it was raised from, or in place of."""
    while error is not None:
        yield error
        hidden = error.__suppress_context__
        error = error.__cause__ or (None if hidden else error.__context__)
