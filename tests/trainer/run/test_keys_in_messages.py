# SPDX-License-Identifier: Apache-2.0
"""What errors and guides call by a key's name is a key that there is."""

import re
from pathlib import Path

import pytest

from preprocessing.foundation.commands import UsageError
from trainer.models.model import FAMILIES, with_family
from trainer.run.config import RunConfig, with_pairs
from trainer.run.overrides import flattened
from trainer.run.presets import PRESETS, preset

ROOT = Path(__file__).parents[3]
TABLES = "model|optimizer|data|precision|loss|guard|loop|samples|compute"
CONFIGS = [
    RunConfig(model=with_family(RunConfig().model, family)) for family in FAMILIES
]
KEYS = {key for config in CONFIGS for key in flattened(config)}
# Methods, files and attributes that look like keys.
NO_KEYS = re.compile(
    r"(jsonl?|safetensors|toml|py|md|sh|txt|proto|map|TFRecord\w*|vocabulary)$"
)


def named(text: str) -> set[str]:
    """Returns what a text calls by a dotted name that begins as keys do."""
    found = re.findall(rf"(?<![\w./-])((?:{TABLES})\.[a-z]\w*)(?![\w(/.])", text)
    return {name for name in found if not NO_KEYS.search(name.partition(".")[2])}


def strings(source: str) -> str:
    """Returns the texts of messages: what stands in double quotes on a line."""
    return "\n".join(re.findall(r'"([^"\n]*)"', source))


def test_every_key_that_a_message_or_a_guide_names_is_one():
    texts = [strings(path.read_text()) for path in (ROOT / "trainer").rglob("*.py")]
    texts += [path.read_text() for path in (ROOT / "docs").glob("*.md")]
    unknown = set().union(*map(named, texts)) - KEYS
    # The names of before, which are refused with those of now; and of a family of one's
    # own, in the guide on it.
    assert unknown <= {
        "model.widths",
        "loop.num_samples",
        "loop.sample_tokens",
        "loop.xla",
        "loop.lanes",
        "loop.peak_flops",
    }


@pytest.mark.parametrize("config", CONFIGS, ids=list(FAMILIES))
def test_a_refused_value_is_refused_by_the_key_it_was_given_to(config):
    for key in flattened(config):
        for value in ("-1", "0", "1e39", "-1e39", "nan", "inf", "1e400", "x"):
            try:
                with_pairs(config, [f"{key}={value}"])
            except UsageError as error:
                assert key in str(error), (key, value)
                assert "\n" not in str(error)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_accepted_by_the_ranges(name):
    assert with_pairs(preset(name), []) == preset(name)
