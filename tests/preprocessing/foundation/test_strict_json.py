# SPDX-License-Identifier: Apache-2.0
"""What is written is JSON for every reader; what is not, is not read."""

import json
import math

import pyarrow.json
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.foundation.strict_json import (
    NOTE,
    dumps,
    loads,
    loads_measured,
    with_nulls,
)

KEYS = st.text("abc", min_size=1, max_size=3)
NUMBERS = st.none() | st.booleans() | st.integers() | st.floats() | KEYS
NESTED = st.lists(NUMBERS, max_size=3) | st.dictionaries(KEYS, NUMBERS, max_size=3)
MEASURED = st.dictionaries(KEYS, NUMBERS | NESTED, max_size=4)


@given(MEASURED)
def test_what_is_measured_becomes_json_that_says_what_was_not_finite(values):
    told = with_nulls(values)
    assert loads(dumps(told)) == told
    odd = json.dumps(values).count("NaN") + json.dumps(values).count("Infinity")
    assert len(told.get(NOTE, {})) == odd
    if not odd:
        assert told == values


def test_the_note_names_each_number_by_its_path():
    values = {"loss": math.nan, "sources": {"web": {"perplexity": math.inf}}}
    assert with_nulls({**values, "kept": [1.5, -math.inf]}) == {
        "loss": None,
        "sources": {"web": {"perplexity": None}},
        "kept": [1.5, None],
        "not_finite": {
            "loss": "NaN",
            "sources.web.perplexity": "Infinity",
            "kept.1": "-Infinity",
        },
    }


@given(st.floats())
def test_a_number_is_written_where_it_is_finite_and_arrow_reads_it(number):
    if not math.isfinite(number):
        with pytest.raises(ValueError, match="not JSON compliant"):
            dumps([number])
        return
    read = pyarrow.json.read_json(pyarrow.BufferReader(dumps({"x": number}).encode()))
    assert read["x"].to_pylist() == [number]


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_of_jsons_is_refused_or_read_as_unknown(name):
    text = f'{{"x": [1, {name}]}}'
    with pytest.raises(ValueError, match=f"{name}, which is no number"):
        loads(text)
    assert loads_measured(text) == {"x": [1, None]}
