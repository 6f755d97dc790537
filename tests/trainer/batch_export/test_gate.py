# SPDX-License-Identifier: Apache-2.0
"""The gate: what `--require` says is what is judged, and nothing else can be said."""

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from trainer.batch_export.figures import (
    METRICS,
    ReleaseFigures,
    read_figures,
    write_figures,
)
from trainer.batch_export.gate import parse_requirements, references_of

COMPARISONS = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}
numbers = st.floats(0, 1e12).map(lambda number: float(f"{number:.6g}"))
spaces = st.sampled_from(["", " ", "  "])


@given(
    metric=st.sampled_from(sorted(METRICS)),
    sign=st.sampled_from(sorted(COMPARISONS)),
    reference=st.sampled_from([None, "stable", "previous"]),
    factor=numbers,
    found=numbers,
    other=numbers,
    space=spaces,
    turned=st.booleans(),
)
def test_a_release_passes_exactly_where_the_comparison_holds(
    metric, sign, reference, factor, found, other, space, turned
):
    sides = [f"{factor:.6g}", *filter(None, [reference])]
    bound = f"{space}*{space}".join(sides if turned else sides[::-1])
    wanted = parse_requirements([f"{space}{metric}{space}{sign}{space}{bound}{space}"])
    judged = ReleaseFigures(**{"size": 1, metric: found})
    limit = factor * other if reference else factor
    refused = wanted.refusals(
        judged, {"stable": {metric: other}, "previous": {metric: other}}
    )
    assert bool(refused) is not COMPARISONS[sign](found, limit)
    assert wanted.references() == frozenset(filter(None, [reference]))
    assert all(f"{found:.8g}" in each and f"{limit:.8g}" in each for each in refused)


def test_a_reference_alone_is_once_itself():
    wanted = parse_requirements(["bits_per_byte <= stable"])
    stable = {"stable": {"bits_per_byte": 1.5}}
    assert not wanted.refusals(ReleaseFigures(1, bits_per_byte=1.5), stable)
    assert wanted.refusals(ReleaseFigures(1, bits_per_byte=1.6), stable) == [
        "wanted bits_per_byte <= 1.5 (stable's 1.5 * 1), found 1.6"
    ]


@pytest.mark.parametrize("found", [None, float("nan")])
def test_what_is_not_a_number_meets_nothing(found):
    for sign in COMPARISONS:
        wanted = parse_requirements([f"bits_per_byte {sign} 1"])
        assert wanted.refusals(ReleaseFigures(1, bits_per_byte=found), {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "size",
        "size <= ",
        "size == 3",
        "size <= 3 4",
        "size <= -3",
        "size <= nan",
        "size <= inf",
        "size <= 1e999",
        "size <= stable + 1",
        "size <= stable * stable",
        "size <= 2 * 3",
        "size <= 1_000",
        "size <= __import__('os')",
        "size <= canary * 2",
        "sise <= 3",
        "1 >= size",
        "size <= ٣",
    ],
)
def test_all_else_is_refused_by_name(text):
    with pytest.raises(UsageError, match="--require"):
        parse_requirements([text])


def test_a_further_metric_is_known_once_it_is_named():
    assert parse_requirements(["tasks.hellaswag.acc >= 0.3"], ["tasks.hellaswag.acc"])
    judged = ReleaseFigures(1, more={"tasks.hellaswag.acc": 0.25})
    wanted = parse_requirements(["tasks.hellaswag.acc >= 0.3"], judged.more)
    assert wanted.refusals(judged, {})


def test_a_missing_reference_is_told_before_work(tmp_path):
    model = tmp_path / "small"
    (model / "3" / "assets").mkdir(parents=True)
    (model / "10" / "assets").mkdir(parents=True)
    judged = ReleaseFigures(
        7, bits_per_byte=1.25, more={"tasks.x": 0.5}, dataset="d" * 64
    )
    write_figures(str(model / "10"), judged)
    assert read_figures(str(model / "10")) == judged
    asked = ["stable", "previous"]
    found = references_of(str(model), asked, {"stable": 3}, ("d" * 64, None))
    assert found == {"stable": {}, "previous": judged.metrics()}
    parse_requirements(["size < previous * 2"]).check("small", found)
    with pytest.raises(UsageError, match="not measured"):
        parse_requirements(["size < stable * 2"]).check("small", found)
    gone = references_of(str(model), ["stable"], {"stable": 4})
    for references in (gone, references_of(str(model), ["stable"], {})):
        with pytest.raises(UsageError, match="no version has that label"):
            parse_requirements(["size < stable * 2"]).check("small", references)
    with pytest.raises(UsageError, match="no version yet"):
        parse_requirements(["size < previous"]).check("new", {})
