# SPDX-License-Identifier: Apache-2.0
"""Releases beside each other: what is best is marked, and people can look at it."""

import dataclasses
import html
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pipelines.report.test_report import CHROMIUM, browse, parsed
from trainer.batch_export.figures import METRICS, ReleaseFigures
from trainer.batch_export.releases_page import releases_page, write_listing
from trainer.batch_export.releases_table import (
    LISTING_NAME,
    ListedRelease,
    by_split,
    jsonl,
    read_refused,
    table_lines,
)

FIGURES = ReleaseFigures(
    size=120_000_000,
    bits_per_byte=0.9876,
    trainer_bits_per_byte=0.9875,
    tokens_per_second_1=123.0,
    tokens_per_second_8=801.0,
    first_token_seconds=0.0123,
    peak_memory=900_000_000,
    dataset="d" * 64,
    split="validation",
    documents=1_000,
)


def line(name: str, version: int | None, weights="float32", refused="", **figures):
    return ListedRelease(
        name=name,
        version=version,
        run="a <run> & more",
        step=3_000,
        checkpoint_sha256="c" * 64,
        weights=weights,
        dataset_hash="e" * 64,
        quern="0.1",
        figures=dataclasses.replace(FIGURES, **figures),
        refused=refused,
    )


def twelve() -> list[ListedRelease]:
    """Two runs, three checkpoints, two types of weights; one of them refused."""
    made = []
    for run, base in enumerate((120_000_000, 480_000_000)):
        for step in (1, 2, 3):
            bits = 1.2 - 0.1 * run - 0.05 * step
            whole = {"size": base, "bits_per_byte": bits, "trainer_bits_per_byte": bits}
            made.append(line(f"run{run}", step, **whole))
            narrow = {**whole, "size": base // 4, "bits_per_byte": bits * 1.004}
            made.append(line(f"run{run}-int8", step, "int8", **narrow))
    made[0] = dataclasses.replace(
        made[0], version=None, refused="wanted bits_per_byte <= 1, found 1.15"
    )
    return made


def test_what_was_refused_is_read_back_from_the_listing(tmp_path):
    lines, models = twelve(), str(tmp_path)
    assert read_refused(models) == []
    write_listing(models, lines)
    assert read_refused(models) == [lines[0]]
    (tmp_path / LISTING_NAME).write_text('{"refused": "yes"}\n')
    assert read_refused(models) == []


@given(
    st.lists(
        st.tuples(
            st.integers(1, 10**12),
            st.none() | st.floats(1e-3, 20),
            st.booleans(),
            st.sampled_from(["a" * 64, "b" * 64]),
        ),
        max_size=8,
    )
)
def test_releases_are_sorted_by_bits_and_the_best_is_the_first_that_was_not_refused(
    drawn,
):
    lines = [
        line(
            "m",
            None if refused else place + 1,
            refused="no" if refused else "",
            size=size,
            bits_per_byte=bits,
            dataset=dataset,
        )
        for place, (size, bits, refused, dataset) in enumerate(drawn)
    ]
    written = [json.loads(each) for each in jsonl(lines).splitlines()]
    assert len(written) == len(lines)
    for split in by_split(lines):
        mine = [x for x in written if x["judged_on"]["dataset"] == split.dataset]
        good = [x for x in mine if not x["refused"] and x["bits_per_byte"]]
        bits = [x["bits_per_byte"] for x in good]
        assert bits == sorted(bits)
        assert [x for x in mine if x["best"]] == good[:1]
    assert parsed_page(releases_page(lines))  # whatever the figures are


def parsed_page(page: bytes) -> str:
    text = page.decode()
    for at in re.findall(r'(?:x|y|x1|x2|y1|y2)="(-?[\d.]+)%"', text):
        assert 0 <= float(at) <= 100
    return text


def test_every_figure_is_in_the_file_and_in_words(tmp_path):
    lines = [*twelve(), line("tasks", 1, more={"tasks.hellaswag": 0.4321})]
    write_listing(str(tmp_path), lines)
    written = (tmp_path / LISTING_NAME).read_text().splitlines()
    first = json.loads(written[0])
    # 0.95 of both: of two that are equal the smaller would be first.
    assert (first["release"], first["best"]) == ("run1/3", True)
    assert all(METRICS.keys() <= json.loads(each).keys() for each in written)
    assert [json.loads(each)["metrics"] for each in written if "hella" in each] == [
        {"tasks.hellaswag": 0.4321}
    ]
    page = parsed(tmp_path / "releases.html")
    text = " ".join(page.words)
    for told in ("★", "a <run> & more 3,000", "0.9500", "+0.40%", "0.4321", "12.3 ms"):
        assert told in text
    assert "was refused: wanted bits_per_byte <= 1, found 1.15" in text
    assert not {"script", "link", "img"} & {tag for tag, _ in page.tags}
    told = "\n".join(table_lines(lines))
    assert "★  run1/3" in told and "run0/step 3,000 was refused: wanted" in told
    assert max(map(len, told.splitlines())) < 200


def test_what_was_read_otherwise_is_told():
    told = table_lines([line("m", 1, odd_documents=7)])
    assert any("7 documents of 1,000 are read in other windows" in x for x in told)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_phone_shows_the_page_without_scrolling_sideways(tmp_path):
    frame = tmp_path / "frame.html"
    page = html.escape(releases_page(twelve()).decode())
    frame.write_text(
        "<script>function measure(frame) { document.title = "
        "'width ' + frame.contentDocument.documentElement.scrollWidth }</script>"
        f'<iframe width="320" height="700" onload="measure(this)" srcdoc="{page}">'
        "</iframe>"
    )
    found = browse(tmp_path, "--virtual-time-budget=4000", "--dump-dom", frame.as_uri())
    width = re.search(r"<title>width (\d+)</title>", found)
    assert width is not None and int(width[1]) <= 320
