# SPDX-License-Identifier: Apache-2.0
"""What is sound of a compressed file is read; the rest is reported, never ignored."""

import gzip
import io

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.decompression import (
    DamagedInput,
    compression_of,
    decompress,
)

SQUEEZE = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}
KINDS = pytest.mark.parametrize("kind", SQUEEZE)


def read(data, kind, step=None):
    """Returns what could be decompressed, and the reason why no more could."""
    out = []
    try:
        out.extend(decompress(io.BytesIO(data), kind, step))
    except DamagedInput as damage:
        return b"".join(out), damage.reason
    return b"".join(out), None


@KINDS
@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.binary(max_size=50), max_size=4), step=st.integers(1, 40))
def test_members_one_after_another_are_one_stream(kind, parts, step):
    data = b"".join(SQUEEZE[kind](part) for part in parts)
    assert read(data, kind, step) == (b"".join(parts), None)


@KINDS
@settings(max_examples=80, deadline=None)
@given(cut=st.integers(1, 10_000))
def test_a_file_cut_anywhere_gives_a_prefix_and_says_so(kind, cut):
    text = b"".join(
        b"%d\n" % n for n in np.random.default_rng(0).integers(1e9, size=999)
    )
    data = SQUEEZE[kind](text)
    found, reason = read(data[: cut % len(data)], kind)
    assert text.startswith(found)
    assert reason == ("truncated_input" if cut % len(data) else None)


@KINDS
def test_bytes_that_are_not_compressed_are_damage(kind):
    assert read(b"plain text", kind) == (b"", "damaged_input")
    assert read(SQUEEZE[kind](b"text") + b"rubbish", kind) == (b"text", "damaged_input")


def test_gzip_members_may_be_padded_with_zeros():
    data = gzip.compress(b"one") + bytes(700) + gzip.compress(b"two") + bytes(9)
    assert read(data, "gzip") == (b"onetwo", None)


@KINDS
def test_a_bomb_comes_out_in_small_parts(kind):
    data = SQUEEZE[kind](bytes(100 << 20))
    sizes = [len(part) for part in decompress(io.BytesIO(data), kind)]
    assert sum(sizes) == 100 << 20
    assert max(sizes) <= 16 << 20


def test_compression_is_told_by_the_extension():
    names = ["a.jsonl.gz", "a.zst", "a.txt", "gz"]
    assert [compression_of(name) for name in names] == ["gzip", "zstd", "none", "none"]
