# SPDX-License-Identifier: Apache-2.0
"""What is sound of a compressed file is read; the rest is reported, never ignored."""

import gzip
import io
import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.decompression import (
    DamagedInput,
    compression_of,
    decompress,
)

LINES = b"".join(b"%d\n" % n for n in np.random.default_rng(0).integers(1e9, size=999))
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
    data = SQUEEZE[kind](LINES)
    found, reason = read(data[: cut % len(data)], kind)
    assert LINES.startswith(found)
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


@KINDS
@settings(max_examples=60, deadline=None)
@given(flip=st.integers(0, 10_000), share=st.floats(0, 1))
def test_stored_bytes_are_read_or_not_whatever_is_broken(kind, flip, share):
    data = bytearray(SQUEEZE[kind](LINES))
    at = flip % len(data)
    data[at] ^= 0xFF
    given_bytes = 0
    try:
        for part in decompress(io.BytesIO(data), kind):
            given_bytes += len(part)
    except DamagedInput as damage:
        assert damage.given == given_bytes
        assert 0 <= damage.stored <= len(data)
        unread = damage.unread(int(share * given_bytes), len(data))
        # Nothing that came out means nothing read, and some of it is always lost.
        assert 1 <= unread <= len(data)
        assert damage.unread(0, len(data)) == len(data)
        assert damage.unread(given_bytes, len(data)) >= len(data) - damage.stored


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(20, 10_000), step=st.sampled_from([None, 7, 100]))
def test_all_that_zlib_itself_gives_before_damage_is_given(cut, step):
    data = bytearray(gzip.compress(LINES))
    cut %= len(data)
    data[cut:] = bytes(len(data) - cut)  # a hole, as a failed download leaves
    stream, wanted = zlib.decompressobj(31), []
    try:
        for byte in data:
            wanted.append(stream.decompress(bytes([byte])))
    except zlib.error:
        assert read(bytes(data), "gzip", step) == (b"".join(wanted), "damaged_input")


def with_window(log):
    """Returns a frame of LINES that asks for a window of 2^log bytes."""
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    data = bytearray(compressor.compress(LINES) + compressor.flush())
    # RFC 8878, 3.1.1.1.2: the exponent above 10 stands in the upper five bits.
    data[5] = (log - 10) << 3
    return bytes(data)


def test_windows_of_zstandard_are_read_up_to_2_gib():
    for log in (27, 28, 30, 31):
        data = with_window(log)
        assert zstandard.get_frame_parameters(data).window_size == 1 << log
        assert read(data, "zstd") == (LINES, None)
    with pytest.raises(DamagedInput, match="too much memory"):
        list(decompress(io.BytesIO(with_window(32)), "zstd"))


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(0, 15), st.binary(max_size=30)), max_size=4),
    step=st.integers(1, 40),
)
def test_skippable_frames_hold_no_text_wherever_they_lie(parts, step):
    # RFC 8878, 3.1.2: magic 0x184D2A50 to 5F, then a size of four bytes.
    data, text = b"", b""
    for number, part in parts:
        if (data, number) != (b"", 13):  # a dictionary, if it comes first
            data += (0x184D2A50 + number).to_bytes(4, "little")
            data += len(part).to_bytes(4, "little") + part
        data += SQUEEZE["zstd"](part)
        text += part
    assert read(data, "zstd", step) == (text, None)


def test_a_dictionary_in_the_first_frame_is_used_and_one_that_lacks_is_named():
    samples = [b"%d is a line of numbers: %d\n" % (n, n * n) for n in range(2000)]
    dictionary = zstandard.train_dictionary(4096, samples)
    plain = dictionary.as_bytes()
    compressor = zstandard.ZstdCompressor(dict_data=dictionary)
    frames = b"".join(map(compressor.compress, samples[:3]))
    for held in (plain, zstandard.ZstdCompressor().compress(plain)):
        opening = b"\x5d\x2a\x4d\x18" + len(held).to_bytes(4, "little") + held
        for step in (None, 5):
            found = read(opening + frames, "zstd", step)
            assert found == (b"".join(samples[:3]), None)
        assert read(opening[:100], "zstd") == (b"", "truncated_input")
    with pytest.raises(DamagedInput, match=f"dictionary {dictionary.dict_id()},"):
        list(decompress(io.BytesIO(frames), "zstd"))


def test_compression_is_told_by_the_ending_whatever_its_case():
    wanted = {
        "gzip": "a.gz A.GZ b.jsonl.Gz c.gzip d.bgz e.jsonl.GZ-00000-of-00003",
        "zstd": "a.zst b.ZST c.jsonl.zstd d.warc.Zst",
        "none": "a.jsonl gz b.gz.txt c.zst/d.txt",
    }
    for compression, paths in wanted.items():
        for path in paths.split():
            assert compression_of(path) == compression


def test_what_is_packed_in_another_way_is_refused_by_name():
    names = (
        "a.jsonl.xz b.txt.BZ2 c.bz2-00000-of-00003 d.zip e.tar f.tar.gz g.TGZ h.lz4 "
        "i.7z j.csv.lzma k.jsonl.br l.Z m.tar.zst n.rar o.snappy"
    )
    for name in names.split():
        with pytest.raises(UsageError, match=f"found in/{name}, packed in another way"):
            compression_of(f"in/{name}")
