# SPDX-License-Identifier: Apache-2.0
"""Rotary positions, as published configurations write them, old and new.

old   rope_theta, and rope_scaling {type or rope_type, factor, …} or null
new   rope_parameters {rope_theta, rope_type, factor, …}
"""

import math
from typing import Any

from trainer.published.families.fields import Fields, Reader

_DEFAULT_THETA = 10_000.0


def rope(
    theta: float = _DEFAULT_THETA,
    theta_field: str = "rope_theta",
    share_field: str | None = None,
    share: float = 1.0,
) -> Reader:
    """Returns what reads them.

    Args:
        theta: where a file has none.
        theta_field: its old name.
        share_field: the old name of the share of a head's columns that is turned; None
            where the family turns them all.
        share: of a head's columns, where a file has none.
    """

    def read(fields: Fields) -> dict[str, Any]:
        # As transformers has it: the old table before the new one.
        given = fields.table("rope_parameters")
        if fields.has("rope_scaling"):
            given = fields.table("rope_scaling")
        outer = fields.first([theta_field], float, theta)
        keys: dict[str, Any] = {"rope_theta": given.take("rope_theta", float, outer)}
        if share_field is not None:
            outer = fields.take(share_field, float, share)
            inner = given.take("partial_rotary_factor", float, outer)
            keys["rope_fraction"] = inner
        else:
            fields.allow("partial_rotary_factor", (1.0,))
            given.allow("partial_rotary_factor", (1.0,))
        keys |= stretching(given, fields)
        given.finish()
        return keys

    return read


def stretching(given: Fields, fields: Fields) -> dict[str, Any]:
    """Returns the keys `rope_*` of a table's `rope_type`.

    Args:
        given: the table.
        fields: the file's, for what it says of lengths.

    Raises:
        UsageError: frequencies are stretched in a way that is not supported.
    """
    name = "rope_type" if given.has("rope_type") else "type"
    kind = given.take(name, str, "default")
    given.take("type", str, None)  # old files may have both
    supported = ("default", "linear", "llama3", "yarn")
    if kind not in supported:
        raise given.refused(name, " or ".join(supported))
    fields.take("original_max_position_embeddings", int, None)
    if kind == "default":
        return {}
    if not given.has("factor"):
        raise given.refused("factor", "a number")
    keys = {"rope_scaling": kind, "rope_factor": given.take("factor", float, None)}
    if kind == "linear":
        return keys
    keys["rope_original_positions"] = _first_length(given, fields)
    if kind == "llama3":
        for key, inner in (
            ("rope_low_frequency", "low_freq_factor"),
            ("rope_high_frequency", "high_freq_factor"),
        ):
            if not given.has(inner):
                raise given.refused(inner, "a number")
            keys[key] = given.take(inner, float, None)
        return keys
    # In yarn's table, 0 and null are as good as absent.
    keys["rope_beta_fast"] = given.take("beta_fast", float, None) or 32.0
    keys["rope_beta_slow"] = given.take("beta_slow", float, None) or 1.0
    given.allow("truncate", (True,))
    keys["rope_attention_factor"] = _magnitude(given, keys["rope_factor"])
    return keys


def _first_length(given: Fields, fields: Fields) -> int | None:
    """Returns the positions of the first training."""
    name = "original_max_position_embeddings"
    inner = given.take(name, int, None)
    outer = fields.take(name, int, None)
    whole: int = fields.take("max_position_embeddings", int, None)
    return outer or inner or whole


def _magnitude(given: Fields, factor: float) -> float | None:
    """Returns what yarn multiplies cosines and sines by; None for its formula."""
    named: float | None = given.take("attention_factor", float, None)
    scales = [given.take(name, float, None) for name in ("mscale", "mscale_all_dim")]
    if named is not None or not all(scales):
        return named
    if factor <= 1.0:
        return 1.0
    above, below = (0.1 * scale * math.log(factor) + 1.0 for scale in scales)
    return above / below
