# SPDX-License-Identifier: Apache-2.0
"""Laws of blobs and of the two ways in which they travel."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.job import blobs, shuffle
from preprocessing.foundation.commands import WorkError


@given(
    st.lists(st.integers(0, 200), max_size=8), st.sampled_from(["<u2", "<i4", "|u1"])
)
def test_arrays_come_back_from_a_blob(lengths: list[int], dtype: str) -> None:
    arrays = {
        "matrix": np.arange(len(lengths) * 16, dtype=np.uint8).reshape(-1, 16),
        "lengths": np.array(lengths, np.int64),
        "ids": np.arange(sum(lengths)).astype(dtype),
    }
    found = blobs.from_bytes(blobs.to_bytes(arrays))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert np.array_equal(found[name], array)


@given(st.lists(st.integers(0, 9), max_size=30), st.randoms(use_true_random=False))
def test_runs_are_taken_as_slices_would_be(lengths: list[int], random) -> None:
    order = random.sample(range(len(lengths)), random.randint(0, len(lengths)))
    values = np.arange(sum(lengths), dtype=np.uint16)
    ends = np.cumsum([0, *lengths])
    wanted = [value for run in order for value in values[ends[run] : ends[run + 1]]]
    taken = blobs.take_runs(
        values, np.array(lengths, np.int64), np.array(order, np.int64)
    )
    assert taken.dtype == np.uint16
    assert taken.tolist() == wanted


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3 << 20)), max_size=30).map(
        sorted
    )
)
def test_runs_cover_all_rows_one_key_each_and_stay_small(
    rows: list[tuple[int, int]],
) -> None:
    keys = np.array([key for key, _ in rows], np.int64)
    sizes = np.array([size for _, size in rows], np.int64)
    cuts = list(shuffle.runs(keys, sizes))
    covered = [row for _, at in cuts for row in range(at.start, at.stop)]
    assert covered == list(range(len(rows)))
    for key, at in cuts:
        assert (keys[at] == key).all()
        assert sizes[at].sum() <= shuffle.BLOB_BYTES or at.stop - at.start == 1


def test_both_transports_carry_the_same_blobs(tmp_path: Path) -> None:
    (tmp_path / "shuffle").mkdir()
    sent = [(3, b"abc"), (0, b""), (3, b"\x00" * 1000)]
    for transport in ("files", "groupbykey"):
        elements = shuffle.send(transport, str(tmp_path), "shuffle/x", sent)
        keys = [key for key, _ in elements]
        values = [value for _, value in elements]
        got = [bytes(blob) for blob in shuffle.receive(str(tmp_path), values)]
        assert list(zip(keys, got, strict=True)) == sent
    by_file = shuffle.send("files", str(tmp_path), "shuffle/x", sent)
    assert max(len(value) for _, value in by_file) < 100


@pytest.mark.parametrize(
    ("data", "complaint"),
    [(b"abc", "found 3"), (b"abcdeg", "checksum differs"), (None, "no such file")],
)
def test_a_shuffle_file_that_is_not_as_it_was_written_is_named(
    data: bytes | None, complaint: str, tmp_path: Path
) -> None:
    ((_, value),) = shuffle.send("files", str(tmp_path), "x", [(0, b"abcdef")])
    if data is None:
        (tmp_path / "x").unlink()
    else:
        (tmp_path / "x").write_bytes(data)
    with pytest.raises(WorkError, match=f"{tmp_path}/x as .*{complaint}"):
        shuffle.receive(str(tmp_path), [value])


@given(st.binary(max_size=40), st.data())
def test_a_file_of_arrays_is_read_as_written_or_not_at_all(
    data: bytes, draw: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "arrays"
        blobs.write_blob(str(path), {"data": np.frombuffer(data, np.uint8)})
        assert blobs.read_blob(str(path))["data"].tobytes() == data
        whole = path.read_bytes()
        place = draw.draw(st.integers(0, len(whole) - 1))
        for damaged in (
            whole[:place],
            whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :],
        ):
            path.write_bytes(damaged)
            with pytest.raises(WorkError, match="arrays as it was written"):
                blobs.read_blob(str(path))
