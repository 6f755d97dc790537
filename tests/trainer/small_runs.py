# SPDX-License-Identifier: Apache-2.0
"""The flags of a run that is over in a second or two.

Of the preset `tiny` one layer; no text is continued after an evaluation, and the peak
of the machine is given, not measured. Each of the three costs a run of some steps about
as much time as the steps do.
"""

from pathlib import Path

SMALL = ("model.num_layers=1", "samples.count=0", "compute.peak_flops=1e12")


def small_run(data: Path | str, run: Path | str, *pairs: str) -> list[str]:
    """Returns the flags of `quern-train`; of two `pairs` of a key the last wins."""
    named = ["--data", str(data), "--run", str(run), "--preset", "tiny"]
    return [*named, "--set", *SMALL, *pairs]
