# SPDX-License-Identifier: Apache-2.0
"""CSV and TSV read as Python's own reader reads them, and bad records cost one."""

import csv
import gzip
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.fingerprints import keys_of_ids, keys_of_offsets
from preprocessing.foundation.read_sizes import ReadSizes
from preprocessing.reading.extents import ReaderConfig, plan_extents
from preprocessing.reading.readers import read_extent
from tests.preprocessing.reading.test_readers import read

FIELD = st.text(st.sampled_from('ab",\t\n\r é'), max_size=6)
PIECES = ['"', '""', ",", "\t", "a", "b c", "é"]
RAW = st.lists(st.sampled_from([*PIECES, "\n", "\r\n", "\r"]), max_size=24)
LINE = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
NO_ID = ReaderConfig(id_field="none")
HEAD = "text,other\n"


def texts_of(documents):
    return [text for _, _, text in documents]


def python_reads(content, strict=True, delimiter=","):
    """Returns rows as Python's csv module has them, blank ones left out."""
    lines = io.StringIO(content, newline="")
    return [row for row in csv.reader(lines, delimiter=delimiter, strict=strict) if row]


def is_closed(line):
    """Tells whether no quote of a line is open behind it."""
    return len(python_reads(f"x\n{line}\nx", strict=False)) == 2 + bool(line)


@pytest.mark.parametrize("kind", ["csv", "tsv"])
@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(FIELD, FIELD), max_size=8), block=st.integers(3, 60))
def test_what_a_writer_writes_is_read_whatever_the_blocks(
    kind, rows, block, tmp_path_factory
):
    path = tmp_path_factory.getbasetemp() / f"written.{kind}"
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter="," if kind == "csv" else "\t")
        writer.writerow(["id", "text"])
        writer.writerows(rows)
    sizes = ReadSizes(block_bytes=block)
    documents, rejects = read(path, ReaderConfig(quote='"'), sizes=sizes)
    assert rejects == []
    assert texts_of(documents) == [text for _, text in rows]
    assert [at for at, _, _ in documents] == list(range(len(rows)))
    for (name, _), (at, key, _) in zip(rows, documents, strict=True):
        named = name.strip()
        wanted = (
            keys_of_ids(path.name, [name])
            if named
            else keys_of_offsets(path.name, [at])
        )
        assert key == bytes(wanted[0])


def found_in(path, content, reader=NO_ID):
    """Returns texts and rejects by their record's number."""
    path.write_bytes(content.encode())
    documents, rejects = read(path, reader)
    return {at: text for at, _, text in documents}, dict(rejects)


def wanted_of(rows):
    """Returns the same of rows, those of two fields being documents."""
    good = {at: row[0] for at, row in enumerate(rows) if len(row) == 2}
    return good, dict.fromkeys(set(range(len(rows))) - set(good), "malformed_csv")


@settings(max_examples=300, deadline=None)
@given(body=RAW.map("".join))
def test_what_python_reads_strictly_is_read_like_that(body, tmp_path_factory):
    try:
        rows = python_reads(body)
    except csv.Error:
        return
    path = tmp_path_factory.getbasetemp() / "raw.csv"
    assert found_in(path, HEAD + body) == wanted_of(rows)


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(LINE.filter(is_closed), max_size=8))
def test_a_quote_that_ends_on_its_line_spoils_nothing(lines, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "lines.csv"
    body = "\n".join(lines)
    assert found_in(path, HEAD + body) == wanted_of(python_reads(body, strict=False))


@pytest.mark.parametrize("compressed", [False, True])
@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=8),
    at=st.integers(0, 7),
    block=st.integers(3, 60),
    limit=st.sampled_from([20, 1 << 20]),
)
def test_an_open_quote_costs_its_own_line(
    compressed, rows, at, block, limit, tmp_path_factory
):
    rows, at = [("a" + text, "b" + other) for text, other in rows], at % len(rows)
    written = io.StringIO(newline="")
    writer = csv.writer(written)
    writer.writerows([("text", "other"), *rows[:at]])
    written.write('"5 inch,lost\r\n')
    writer.writerows(rows[at:])
    path = tmp_path_factory.getbasetemp() / f"open.csv{'.gz' * compressed}"
    data = written.getvalue().encode()
    path.write_bytes(gzip.compress(data) if compressed else data)
    reader = ReaderConfig(id_field="none", max_document_bytes=limit)
    documents, rejects = read(path, reader, sizes=ReadSizes(block_bytes=block))
    assert (at, "malformed_csv") in rejects
    large = [place for place, reason in rejects if reason == "too_large"]
    assert len(documents) + len(large) == len(rows)
    assert limit == 20 or texts_of(documents) == [text for text, _ in rows]


@settings(max_examples=100, deadline=None)
@given(lines=st.lists(LINE.map(lambda line: f"x\t{line}"), max_size=8))
def test_quotes_are_text_in_tsv(lines, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "a.tsv"
    rows = [line.split("\t") for line in lines]
    wanted = wanted_of([row[::-1] for row in rows])
    assert found_in(path, "\n".join(["other\ttext", *lines])) == wanted


@pytest.mark.parametrize(
    ("name", "quote", "line", "text"),
    [
        ("a.csv", "auto", b'"a, b"', "a, b"),
        ("a.csv", "none", b'"a b"', '"a b"'),
        ("a.csv", "'", b"'a, ''b'", "a, 'b"),
        ("a.tsv", "auto", b'"a b"', '"a b"'),
        ("a.tsv", '"', b'"a\tb"', "a\tb"),
    ],
)
def test_what_quotes_can_be_said(name, quote, line, text, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"text\n" + line + b"\n")
    assert texts_of(read(path, ReaderConfig(quote=quote))[0]) == [text]


@pytest.mark.parametrize("quote", ["", ",", '""', "\t", "é", "None"])
def test_what_cannot_quote_is_refused(quote):
    with pytest.raises(UsageError, match="--quote of one character"):
        ReaderConfig(quote=quote)


def test_marks_and_headers_of_joined_files_are_no_text(tmp_path):
    path = tmp_path / "joined.csv"
    mark = b"\xef\xbb\xbf"
    path.write_bytes(2 * (mark + b'"id",text\n7,a\n') + mark + b'"8","b"\n')
    documents, rejects = read(path, ReaderConfig())
    wanted = [bytes(key) for key in keys_of_ids("joined.csv", ["7", "7", "8"])]
    assert texts_of(documents) == ["a", "a", "b"]
    assert [key for _, key, _ in documents] == wanted
    assert rejects == [(1, "malformed_csv")]


def test_each_bad_record_is_a_reject_with_its_number(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"id,text\r\n1,good\r\n\r\n2,a,b\r\n3\r\n4,\xff\r\n5,"
        + b"x" * 80
        + b'\r\n6,"two\r\nlines"\r\n7,"never closed\r\n8,kept'
    )
    documents, rejects = read(path, ReaderConfig(max_document_bytes=60))
    assert texts_of(documents) == ["good", "two\r\nlines", "kept"]
    assert rejects == [
        (1, "malformed_csv"),
        (2, "malformed_csv"),
        (3, "invalid_utf8"),
        (4, "too_large"),
        (6, "malformed_csv"),
    ]


@pytest.mark.parametrize("block", [7, 4 << 20])
def test_a_record_too_large_to_hold_streams_past(block, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'text\na\n"' + b'x""\n' * 100 + b'"\nb\n')
    reader, sizes = ReaderConfig(max_document_bytes=50), ReadSizes(block_bytes=block)
    documents, rejects = read(path, reader, sizes=sizes)
    assert texts_of(documents) == ["a", "b"]
    assert rejects == [(1, "too_large")]


def details_in(path, reader=NO_ID):
    """Returns what a file's rejects say, each once."""
    extents = plan_extents(storage.expand([str(path)]), reader)
    batches = [batch for extent in extents for batch in read_extent(extent, reader)]
    return {reject.detail for batch in batches for reject in batch.rejects}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_what_lacks_a_column_says_which_it_has_or_what_it_is(encoding, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id;body\n1;a\n2;b\n")
    assert details_in(path) == {"no column text, the header has id;body"}
    path.write_bytes("id,text\n1,a\n".encode(encoding))
    name = encoding[:6].upper()
    wanted = f"{name}, not UTF-8: convert it (iconv -f {name} -t UTF-8)"
    assert wanted in details_in(path)


@pytest.mark.parametrize("limit", [8, 1 << 20])
def test_behind_a_header_that_cannot_be_read_nothing_is_guessed(limit, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'other,"text of all\n1,a\n2,b\n')
    reader = ReaderConfig(max_document_bytes=limit)
    documents, rejects = read(path, reader, sizes=ReadSizes(block_bytes=4))
    assert documents == []
    assert rejects == [(at, "malformed_csv") for at in range(3)]


def test_columns_that_are_not_there_are_missing_fields(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,target\na,b\n")
    assert read(path, ReaderConfig(text_field="body"))[1] == [(0, "missing_field")]
    assert read(path, ReaderConfig(target_field="x"))[1] == [(0, "missing_field")]
    path.write_bytes(b"")
    assert read(path, ReaderConfig()) == ([], [])


@pytest.mark.parametrize("doubled", ["text", "id"])
def test_a_doubled_column_is_no_column(doubled, tmp_path):
    content = f"id,text,{doubled}\n1,some words,more\n"
    documents, rejects = found_in(tmp_path / "a.csv", content, ReaderConfig())
    assert documents == {} and rejects == {0: "wrong_type"}
