# SPDX-License-Identifier: Apache-2.0
"""One bad record costs itself: what is damaged is counted, and all others are read."""

import gzip
import io
import random

import pytest
import zstandard
from fastwarc.warc import ArchiveIterator
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preprocessing.reading.documents import Trouble
from preprocessing.reading.extents import TO_THE_END, Extent
from preprocessing.reading.warc_records import ArchiveRecord, read_records
from tests.preprocessing.reading.test_web_archives import record

CHANCE = random.Random(3)
BODIES = [
    bytes(CHANCE.choices(b"abcdefgh \n", k=CHANCE.randrange(40, 900))) for _ in range(9)
]
RECORDS = [record("conversion", body, n) for n, body in enumerate(BODIES)]
DICTIONARY = zstandard.train_dictionary(512, RECORDS * 40)


def zstd_frames(records, dictionary=None, packed=False):
    squeeze = zstandard.ZstdCompressor(dict_data=dictionary).compress
    frames = b"".join(squeeze(each) for each in records)
    if dictionary is None:
        return frames
    stored = dictionary.as_bytes()
    if packed:
        stored = zstandard.ZstdCompressor().compress(stored)
    return b"\x5d\x2a\x4d\x18" + len(stored).to_bytes(4, "little") + stored + frames


# What an archive's records become in the file, one member a record where there are any.
PACKED = {
    "plain": b"".join,
    "gzip": lambda records: b"".join(map(gzip.compress, records)),
    "one member": lambda records: gzip.compress(b"".join(records)),
    "cut anywhere": lambda records: b"".join(
        gzip.compress(b"".join(records)[at : at + 333])
        for at in range(0, len(b"".join(records)), 333)
    ),
    "zstd": zstd_frames,
    "dictionary": lambda records: zstd_frames(records, DICTIONARY),
    "packed dictionary": lambda records: zstd_frames(records, DICTIONARY, True),
}
MEMBERS = ("gzip", "zstd", "dictionary")
KIND = dict.fromkeys(PACKED, "gzip") | {
    "plain": "none",
    "zstd": "zstd",
    "dictionary": "zstd",
    "packed dictionary": "zstd",
}


def read_stored(stored, kind, most=1 << 20):
    """Returns (contents of records, troubles) of a file."""
    extent = Extent(0, "a", "a", 0, TO_THE_END, len(stored), "warc", kind)
    found = list(read_records(io.BytesIO(stored), extent, most))
    troubles = [each for each in found if isinstance(each, Trouble)]
    assert sum(trouble.unread for trouble in troubles) <= len(stored)
    assert all(trouble.unread >= 0 for trouble in troubles)
    return [each for each in found if isinstance(each, ArchiveRecord)], troubles


def contents(found):
    return [each.content for each in found]


@pytest.mark.parametrize("packing", PACKED)
def test_all_packings_of_an_archive_hold_the_same_records(packing):
    found, troubles = read_stored(PACKED[packing](RECORDS), KIND[packing])
    assert not troubles
    assert contents(found) == BODIES
    starts = [len(b"".join(RECORDS[:n])) for n in range(len(RECORDS))]
    assert [each.offset for each in found] == starts
    assert [each.fields["warc-record-id"] for each in found] == [
        f"<urn:uuid:{n}>" for n in range(len(RECORDS))
    ]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.binary(max_size=300), max_size=6), st.booleans())
def test_whole_archives_are_read_as_fastwarc_reads_them(bodies, packed):
    records = [record("response", body, n) for n, body in enumerate(bodies)]
    stored = PACKED["gzip" if packed else "plain"](records)
    found, troubles = read_stored(stored, "gzip" if packed else "none")
    wanted = [
        (each.stream_pos, each.reader.read())
        for each in ArchiveIterator(io.BytesIO(b"".join(records)), parse_http=False)
    ]
    assert not troubles
    assert [(each.offset, each.content) for each in found] == wanted


LONGER = RECORDS[4].replace(b"Content-Length: ", b"Content-Length: 1")
SHORTER = RECORDS[4].replace(
    b"Content-Length: %d" % len(BODIES[4]), b"Content-Length: %d" % (len(BODIES[4]) - 9)
)
BAD = {
    "too long": LONGER,
    "far too long": LONGER.replace(b"Content-Length: ", b"Content-Length: 123456789"),
    "too long by what ends it": RECORDS[4].replace(
        b"Content-Length: %d" % len(BODIES[4]),
        b"Content-Length: %d" % (len(BODIES[4]) + 7),
    ),
    "too short": SHORTER,
    "no length": RECORDS[4].replace(b"Content-Length", b"Content-Width"),
    "a length in words": RECORDS[4].replace(b"Content-Length: ", b"Content-Length: x"),
    "a negative length": RECORDS[4].replace(b"Content-Length: ", b"Content-Length: -"),
    "no version": RECORDS[4].removeprefix(b"WARC/1.0\r\n"),
    "a header up to its end": b"WARC/1.0\r\nContent-Length: 9 "
    + b"x" * 99
    + b"\r\n\r\n",
    "junk": b"junk \x00\xff" * 30 + b"\r\n\r\n",
    "a page without a header": b"HTTP/1.1 200 OK\r\n\r\n<p>text</p>\r\n\r\n",
    "a header of 70 KB": b"WARC/1.0\r\nX: " + b"y" * 70_000 + RECORDS[4][8:],
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("most", [1 << 20, 900])
def test_a_bad_record_costs_itself_alone_and_is_counted(bad, packing, most):
    records = [*RECORDS[:4], BAD[bad], *RECORDS[5:]]
    stored = PACKED[packing](records)
    found, troubles = read_stored(stored, KIND[packing], most)
    assert contents(found) == [*BODIES[:4], *BODIES[5:]]
    assert [trouble.reason for trouble in troubles] == ["malformed_warc"]
    assert troubles[0].offset == len(b"".join(RECORDS[:4]))
    assert not troubles[0].to_end
    if packing == "plain":
        assert troubles[0].unread == len(BAD[bad])
    if packing in MEMBERS:
        size = len(stored) - len(PACKED[packing](records[:4] + records[5:]))
        assert 0 < troubles[0].unread <= size + 1


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("packing", MEMBERS)
def test_what_stands_between_members_is_passed_over(packing, last):
    before = PACKED[packing](RECORDS[:4])
    whole = PACKED[packing](RECORDS)
    junk = b"\x1f\x8b\x08 junk \x28\xb5\x2f\xfd"
    cut = len(whole) if last else len(before)
    stored = whole[:cut] + junk + whole[cut:]
    found, troubles = read_stored(stored, KIND[packing])
    assert contents(found) == BODIES
    assert [(each.reason, each.unread) for each in troubles] == [
        (troubles[0].reason, len(junk))
    ]
    assert troubles[0].to_end == last


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(MEMBERS),
    st.integers(0, len(RECORDS) - 1),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 255),
)
@example("gzip", 4, 0.0, 1)  # its magic
@example("gzip", 4, 0.99, 1)  # its length, which stands last
def test_a_damaged_member_costs_its_own_record_alone(packing, number, place, bits):
    start, end = (len(PACKED[packing](RECORDS[: number + n])) for n in (0, 1))
    if packing == "dictionary" and number == 0:
        start = len(PACKED[packing]([]))
    stored = bytearray(PACKED[packing](RECORDS))
    stored[start + int(place * (end - start))] ^= bits
    found, troubles = read_stored(bytes(stored), KIND[packing])
    others = [body for n, body in enumerate(BODIES) if n != number]
    bodies = contents(found)
    if bodies != BODIES:  # bits that mean nothing do no harm
        if packing == "gzip":  # each has a checksum
            assert bodies == others
        else:
            assert [body for body in bodies if body in others] == others
    if bodies == others:
        assert troubles
        assert sum(each.unread for each in troubles) <= end - start
        assert any(each.to_end for each in troubles) == (
            number == len(RECORDS) - 1 and troubles[-1].reason != "malformed_warc"
        )


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(sorted(PACKED)),
    st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.integers(0, 300),
            st.one_of(st.binary(max_size=9), st.floats(0, 1, exclude_max=True)),
        ),
        max_size=5,
    ),
    st.sampled_from([300, 1 << 20]),
)
def test_whatever_becomes_of_a_file_its_bytes_are_counted_once(packing, edits, most):
    """Edits: where, how many bytes go, and which come, or from where in the file."""
    stored = PACKED[packing](RECORDS)
    for place, gone, comes in edits:
        at = int(place * len(stored))
        if isinstance(comes, float):
            comes = stored[int(comes * len(stored)) :][:gone]
        stored = stored[:at] + comes + stored[at + gone :]
    read_stored(stored, KIND[packing], most)


def test_a_damaged_dictionary_costs_the_file_and_says_so():
    stored = bytearray(PACKED["dictionary"](RECORDS))
    stored[12:200] = bytes(188)
    found, troubles = read_stored(bytes(stored), "zstd")
    assert not found
    assert troubles[-1].to_end and troubles[-1].unread > len(stored) // 2
    found, troubles = read_stored(bytes(stored[:99]), "zstd")
    assert [trouble.reason for trouble in troubles] == ["truncated_input"]
    assert troubles[-1].to_end and troubles[-1].unread == 99


def test_names_of_fields_have_no_case_and_lines_no_carriage_return():
    head, body = RECORDS[1].split(b"\r\n\r\n", 1)
    for header in (head.lower().replace(b"warc/1.0", b"WARC/1.0"), head.upper()):
        stored = header.replace(b"\r\n", b"\n") + b"\n\n" + body
        found, troubles = read_stored(stored + RECORDS[2], "none")
        assert not troubles
        assert contents(found) == BODIES[1:3]
        assert found[0].fields["warc-type"].lower() == "conversion"


def test_a_field_may_be_folded_into_lines():
    stored = RECORDS[1].replace(b"WARC-Type: conv", b"WARC-Type:\r\n\t conv")
    assert read_stored(stored, "none")[0][0].fields["warc-type"] == "conversion"


@pytest.mark.parametrize("packing", ["plain", "gzip", "one member", "zstd"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.98])
def test_a_file_that_breaks_off_is_not_read_to_its_end(packing, share):
    stored = PACKED[packing](RECORDS)
    stored = stored[: int(share * len(stored))]
    found, troubles = read_stored(stored, KIND[packing])
    bodies = contents(found)
    assert bodies == BODIES[: len(bodies)]
    assert troubles and troubles[-1].to_end
    assert len(bodies) < len(BODIES) or troubles[-1].unread < 9


def test_lengths_that_lead_nowhere_are_followed_a_bounded_number_of_times():
    stored = gzip.compress(b"".join([BAD["far too long"]] * 400 + RECORDS))
    found, troubles = read_stored(stored, "gzip", most=900)
    assert troubles and (troubles[-1].to_end or contents(found) == BODIES)
