# SPDX-License-Identifier: Apache-2.0
"""The lists of presets and keys: all of them, within the width, and right."""

import pytest

from preprocessing.foundation.commands import UsageError
from trainer.loop.listings import PUBLISHED, list_keys, list_presets
from trainer.loop.plan import ConfigSource
from trainer.models.model import FAMILIES
from trainer.run.config import RunConfig
from trainer.run.overrides import flattened
from trainer.run.presets import PRESETS
from trainer.run.published_presets import SIZES

NOTHING = ConfigSource(None, None, ())


def test_every_preset_is_listed_with_its_sizes() -> None:
    lines = list_presets(78)
    names = [line[2:] for line in lines if line.startswith("  ") and line[2] != " "]
    assert names == list(PRESETS)
    published = lines[lines.index(PUBLISHED) + 1 :]
    assert " ".join(" ".join(published).split()).split(", ") == list(SIZES)
    assert max(map(len, lines)) <= 78
    text = " ".join(" ".join(lines).split())
    # 2 x (norms 2 x 32, heads 4 x 32 x 32, SwiGLU 3 x 32 x 64), a norm, 32,000 x 32.
    assert "decoder, layers x width 2 x 32, 1,044,640 parameters at 32,000" in text
    assert "8 rows a step, 40 steps, float32" in text


def test_nothing_named_lists_the_defaults_and_every_family_under_its_name() -> None:
    lines = list_keys(NOTHING, 78)
    for family in FAMILIES:
        assert f"  model.family={family}" in lines
    assert not [line for line in lines if "(default " in line]
    found = {line.split("=")[0].strip() for line in lines if line.startswith("  ")}
    assert set(flattened(RunConfig())) <= found


def test_a_presets_values_are_listed_and_pairs_count_after_it() -> None:
    lines = list_keys(ConfigSource("recurrent", None, ("loop.log_every=3",)), 78)
    assert "  model.d_model=384 (default 256)" in lines
    assert "  loop.log_every=3 (default 10)" in lines
    assert "  model.family=decoder" not in lines and "  model.remat=none" not in lines


def test_pairs_without_a_preset_count_over_the_defaults() -> None:
    lines = list_keys(ConfigSource(None, None, ("model.family=recurrent",)), 78)
    assert "  model.family=recurrent" in lines and "  model.remat=none" not in lines
    with pytest.raises(UsageError, match=r"unknown model\.hidden"):
        list_keys(ConfigSource(None, None, ("model.hidden=3",)), 78)
