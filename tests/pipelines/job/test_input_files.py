# SPDX-License-Identifier: Apache-2.0
"""Counts of input files do not depend on who read which part, and bytes add up."""

import itertools
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.job.input_files import InputCounts, InputFiles, check_unread
from preprocessing.foundation.commands import WorkError
from preprocessing.reading.documents import Documents, Reject

# Of each batch: its file, documents, bytes, and bytes skipped for each of its rejects.
BATCHES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 5),
        st.integers(0, 50),
        st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=3),
    ),
    max_size=12,
)


def batch(documents, size, lost):
    rejects = [
        Reject("damaged_input", "", 0, f"{unread}", unread=unread, to_end=to_end)
        for unread, to_end in lost
    ]
    return Documents(
        "",
        pa.array(["x"] * documents, pa.large_string()),
        np.zeros((documents, 16), np.uint8),
        np.zeros(documents, np.int64),
        rejects=rejects,
        bytes_read=size + sum(unread for unread, _ in lost),
    )


def counted(batches, cuts):
    """Returns the counts of batches that tasks read, cut at some places."""
    total = InputCounts()
    edges = [0, *sorted(min(cut, len(batches)) for cut in cuts), len(batches)]
    for start, end in itertools.pairwise(edges):
        task = InputCounts()
        for file, *rest in batches[start:end]:
            task.add(file, batch(*rest))
        total.restore(json.loads(json.dumps(task.record())))
    return total


def files_of(batches, cuts):
    sizes = [0] * 4
    for file, _, size, lost in batches:
        sizes[file] += size + sum(unread for unread, _ in lost)
    return InputFiles.of(["a", "b", "c", "d"], sizes, counted(batches, cuts))


@given(batches=BATCHES, cuts=st.lists(st.integers(0, 12), max_size=4))
def test_however_tasks_are_cut_the_files_are_the_same_and_bytes_are_conserved(
    batches, cuts
):
    files = files_of(batches, cuts)
    assert files.table().equals(files_of(batches, []).table())
    totals, table = files.totals, files.table().to_pydict()
    lost = [pair for *_, losses in batches for pair in losses]
    assert totals.not_read == sum(unread for unread, _ in lost)
    assert totals.size == totals.read + totals.not_read == sum(table["bytes"])
    assert totals.read == sum(table["bytes_read"])
    found = sum(documents + len(losses) for _, documents, _, losses in batches)
    assert sum(table["documents"]) == found
    ended = {file for file, _, _, losses in batches for _, to_end in losses if to_end}
    assert totals.not_to_end == len(ended)


def test_a_reason_is_that_of_what_ends_the_file_else_of_the_largest_part_skipped():
    skips = [(0, 1, 10, [(3, False)]), (0, 1, 10, [(9, False)])]
    ends = [*skips, (0, 0, 0, [(1, True)]), (0, 0, 9, [(20, False)])]
    for batches, reason in [(skips, "9"), (ends, "1")]:
        assert files_of(batches, [1]).table()["reason"].to_pylist() == [
            f"damaged_input: {reason}",
            *[None] * 3,
        ]


def test_bytes_that_do_not_add_up_are_a_defect_and_named():
    counts = counted([(0, 1, 10, [])], [])
    with pytest.raises(WorkError, match=r"bytes of a .* found 11 of which 10"):
        InputFiles.of(["a"], [11], counts)


def test_a_file_not_read_to_its_end_fails_unless_a_share_of_bytes_is_allowed():
    whole = files_of([(0, 1, 1000, []), (1, 2, 10, [])], [])
    skipped = files_of([(0, 1, 1000, [(40, False)])], [])
    cut = files_of([(0, 1, 1000, []), (2, 1, 9, [(1, True)])], [])
    short = files_of([(0, 1, 1000, []), (2, 1, 10, [(0, True)])], [])
    for files, most, usual, fails in [
        (whole, None, 0.0, False),
        (skipped, None, 0.05, False),
        (skipped, None, 0.03, True),
        (skipped, 0.03, 1.0, True),
        (skipped, 0.04, 0.0, False),
        (cut, None, 1.0, True),
        (cut, 0.0, 1.0, True),
        (short, 0.0, 1.0, True),
        (cut, 0.001, 0.0, False),
    ]:
        if not fails:
            check_unread(files, most, usual)
            continue
        with pytest.raises(WorkError, match="--max_unread_fraction") as caught:
            check_unread(files, most, usual)
        named = {id(cut): "c (1 of 10", id(short): "c (0 of 10"}
        assert named.get(id(files), "a (40 of 1,040") in str(caught.value)


def test_of_many_files_the_worst_are_named_and_the_others_counted():
    paths = [f"{n:03d}.gz" for n in range(40)]
    counts = InputCounts()
    for number in range(40):
        counts.add(number, batch(1, 0, [(number + 1, True)]))
    files = InputFiles.of(paths, [n + 1 for n in range(40)], counts)
    named = r"039\.gz.*030\.gz.* and 30 files more"
    with pytest.raises(WorkError, match=named) as caught:
        check_unread(files, None, 0.05)
    assert "029.gz" not in str(caught.value)
    assert len(files.lines(100)) == 40 and "\n" not in str(caught.value)
