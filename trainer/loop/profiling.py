# SPDX-License-Identifier: Apache-2.0
"""Profiles some steps of a run for TensorBoard: `--profile FIRST:LAST`.

    RUN/plugins/profile/<time>/<host>.xplane.pb

The first steps hold tracing and compilation; a window that begins later shows training.
"""

import os
import re
import shutil
import tempfile

import tensorflow as tf

from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError

_WINDOW = re.compile(r"(\d+)[:-](\d+)")


class ProfileWindow:
    """Steps `first` to `last`, both included and counted from 1, are profiled once.

    All workers must end their inner loops at `borders`; only the chief calls the rest.
    """

    def __init__(self, first: int, last: int, run: str) -> None:
        """Names the steps, and the run's directory, local or in a bucket."""
        self._first, self._last, self._run = first, last, run
        self._directory: str | None = None
        self._done = False

    @property
    def borders(self) -> tuple[int, int]:
        """Steps after which an inner loop has to end."""
        return self._first - 1, self._last

    def before(self, step: int) -> None:
        """Begins to profile if the next step after `step` is one of the window's.

        A run that resumes within the window is profiled from there.
        """
        inside = self._first - 1 <= step < self._last
        if not inside or self._done or self._directory is not None:
            return
        self._directory = self._run
        if storage.is_cloud(self._run):
            self._directory = tempfile.mkdtemp(prefix="quern-profile-")
        tf.profiler.experimental.start(self._directory)

    def after(self, step: int) -> None:
        """Ends the profile once the window's last step is done."""
        if step >= self._last:
            self.close()

    def close(self) -> None:
        """Writes what was profiled, if anything is; a stopped run calls this too."""
        if self._directory is None:
            return
        directory, self._directory, self._done = self._directory, None, True
        tf.profiler.experimental.stop()
        if directory != self._run:
            _upload(os.path.join(directory, "plugins"), self._run)
            shutil.rmtree(directory)


def parse_profile(text: str, run: str) -> ProfileWindow:
    """Reads `FIRST:LAST` (or `FIRST-LAST`), steps counted from 1.

    Raises:
        UsageError: it is not two steps in order.
    """
    match = _WINDOW.fullmatch(text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(
            f"wanted --profile FIRST:LAST, two steps from 1 on in order, found {text}. "
            "For example 20:29"
        )
    return ProfileWindow(int(match[1]), int(match[2]), run)


def _upload(plugins: str, run: str) -> None:
    for parent, _, names in os.walk(plugins):
        below = os.path.relpath(parent, os.path.dirname(plugins))
        for name in names:
            target = storage.join(run, *below.split(os.sep), name)
            with (
                open(os.path.join(parent, name), "rb") as source,
                storage.atomic_file(target) as copy,
            ):
                shutil.copyfileobj(source, copy)
