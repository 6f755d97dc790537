# SPDX-License-Identifier: Apache-2.0
"""Every line of input is a prompt or says why not."""

import gzip
import json

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipelines.generation.prompts import (
    LARGEST_CHUNK,
    LARGEST_LINE_BYTES,
    SMALLEST_CHUNK,
    Census,
    Prompt,
    PromptFields,
    chunks,
    decode_chunk,
    encode_chunk,
    parse_line,
    read_prompts,
    row_seed,
    split_lines,
    take_census,
)
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError

FIELDS = PromptFields()


@pytest.mark.parametrize(
    ("line", "id", "error"),
    [
        (b"{", None, "not JSON at here"),
        (b"[" * 100_000, None, "not JSON at here"),
        (b'{"id": 1, "prompt": "\xff"}', None, "not JSON at here"),
        (b"[1]", None, "not a JSON object at here but an array"),
        (b"[", None, "part of a JSON array, not JSON lines"),
        (b' "prompt": "x",', None, "part of indented JSON, not JSON lines"),
        ('{"id": 1}'.encode("utf-8-sig"), 1, "no field prompt at here"),
        ('{"id": 1'.encode("utf-16"), None, "UTF-16, not UTF-8"),
        (b'{"prompt": "x"}', None, "field id missing or not"),
        (b'{"id": true, "prompt": "x"}', None, "field id missing or not"),
        (b'{"id": 1.5, "prompt": "x"}', None, "field id missing or not"),
        (b'{"id": "\\ud800", "prompt": "x"}', None, "field id missing or not"),
        (b'{"id": 7}', 7, "no field prompt at here"),
        (b'{"id": "7", "prompt": null}', "7", "field prompt missing or not a string"),
        (b'{"id": 7, "prompt": "a\\udfffb"}', 7, "half of a surrogate pair"),
    ],
)
def test_a_line_that_cannot_be_served_says_why_under_its_own_id(line, id, error):
    prompt = parse_line(line, "here", FIELDS)
    assert (prompt.id, prompt.text) == (id, None)
    assert error in prompt.error


def test_other_fields_may_hold_the_prompt_and_the_id():
    fields = PromptFields(prompt="question", id="key")
    line = b'{"key": "a", "question": "why?", "prompt": 3}'
    assert parse_line(line, "here", fields) == Prompt("a", "why?")


def test_a_repeated_id_is_served_once_and_then_an_error(tmp_path):
    lines = [{"id": i, "prompt": "x"} for i in (1, "1", 2, 1, "1")]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n\n".join(map(json.dumps, lines)))
    files = storage.expand([str(path)])
    prompts = list(read_prompts(files, FIELDS))
    assert [prompt.id for prompt in prompts] == [1, "1", 2, 1, "1"]
    assert [prompt.error for prompt in prompts] == [
        None,
        None,
        None,
        "repeated id at prompts.jsonl line 7",
        "repeated id at prompts.jsonl line 9",
    ]
    assert take_census(files).count == 5


def test_compressed_prompts_read_as_plain_ones_and_damaged_ones_are_refused(tmp_path):
    data = b"".join(b'{"id": %d, "prompt": "p"}\n' % i for i in range(5000))
    (tmp_path / "a.jsonl").write_bytes(data)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(data))
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(data))
    plain, *others = (take_census([file]) for file in expand_all(tmp_path))
    assert others == [plain, plain]
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(data)[:-20])
    with pytest.raises(UsageError, match="wanted a whole file"):
        take_census(expand_all(tmp_path))


def test_a_line_above_the_limit_is_an_error_of_its_own_wherever_it_stands(tmp_path):
    whole = json.dumps({"id": 1, "prompt": "x"}).encode().ljust(LARGEST_LINE_BYTES)
    lines = [whole, whole + b" ", b" " * (3 * LARGEST_LINE_BYTES) + whole]
    lines += [b'{"id": 2, "prompt": "y"}', b"x" * (9 * LARGEST_LINE_BYTES)]
    data = b"\n".join(lines)
    (tmp_path / "a.jsonl").write_bytes(data)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(data, 1))
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(data))
    for file in expand_all(tmp_path):
        prompts = list(read_prompts([file], FIELDS))
        assert [prompt.id for prompt in prompts] == [1, None, None, 2, None]
        errors = [prompt.error for prompt in prompts if prompt.id is None]
        places = [f"{file.relative} line {number}" for number in (2, 3, 5)]
        assert errors == [f"above 1,048,576 bytes at {place}" for place in places]


@given(st.binary(max_size=40), st.integers(1, 7), st.integers(1, 9))
def test_lines_and_their_bound_do_not_depend_on_how_a_stream_is_cut(data, size, limit):
    data = data.replace(b"\x01", b"\n").replace(b"\x02", b"\n")
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    found = list(split_lines(parts, limit))
    assert [line[: limit + 1] for line in found] == [
        line[: limit + 1] for line in data.split(b"\n")
    ]
    assert all(len(line) <= max(limit + 1, size) for line in found)


def expand_all(directory):
    return storage.expand([str(directory / "*.jsonl*")])


def test_an_input_of_blank_lines_is_refused(tmp_path):
    (tmp_path / "prompts.jsonl").write_text("\n \n")
    with pytest.raises(UsageError, match="only blank lines"):
        take_census(storage.expand([str(tmp_path / "*.jsonl")]))


@given(st.integers(1, 10**7))
def test_chunks_follow_from_the_number_of_prompts_alone(count):
    census = Census(count, "")
    assert SMALLEST_CHUNK <= census.chunk_size <= LARGEST_CHUNK
    assert (census.num_chunks - 1) * census.chunk_size < count
    assert count <= census.num_chunks * census.chunk_size


@given(st.lists(st.integers()), st.integers(1, 7))
def test_chunks_hold_every_prompt_once_in_order(numbers, size):
    prompts = [Prompt(number, "é\ud83d" if number % 2 else None) for number in numbers]
    cut = list(chunks(prompts, size))
    assert [p for chunk in cut for p in chunk] == prompts
    assert all(len(chunk) == size for chunk in cut[:-1])
    assert [decode_chunk(encode_chunk(chunk)) for chunk in cut] == cut


def test_a_rows_seed_depends_on_the_jobs_seed_and_the_id():
    seeds = [row_seed(0, 7), row_seed(0, "7"), row_seed(1, 7), row_seed(0, 8)]
    assert len(set(seeds)) == 4
    assert row_seed(0, 7) == seeds[0]
    assert all(-(2**63) <= seed < 2**63 for seed in seeds)
