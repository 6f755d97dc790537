# SPDX-License-Identifier: Apache-2.0
"""One line of what `quern-doctor` reports."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """What was looked at and found; `advice` is empty when nothing is to be done."""

    level: Level
    what: str
    found: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<4}  {self.what:<18}  {self.found}"
        return f"{line}  ->  {self.advice}" if self.advice else line
