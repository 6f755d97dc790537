# SPDX-License-Identifier: Apache-2.0
"""Files of answers hold the same answers in each format, read by others than us."""

import io
import json

import pyarrow.parquet as pq
import pytest

from pipelines.generation.answer_files import AnswerFiles

ANSWER = {"text": "naïve \u2028漢", "num_tokens": 3, "finish_reason": "stop"}
LINES = [
    {"id": 7, **ANSWER, "day": "Monday"},
    {"id": 9, "error": "why", "day": None},
    {"id": 2**60, **ANSWER, "shortened": True, "day": {"n": [1, None]}},
    {"id": "p:4", "error": "not JSON", "day": None},
]
WIDE = {"text": None, "num_tokens": None, "finish_reason": None, "error": None}


def wanted(ids: list) -> list[dict]:
    rows = [WIDE | {"shortened": False} | line for line in LINES]
    rows[2]["day"] = '{"n": [1, null]}'
    return [row | {"id": own} for row, own in zip(rows, ids, strict=True)]


def test_json_lines_hold_what_there_is_and_keep_the_types_of_ids():
    files = AnswerFiles(keep=("day",))
    data = files.encode(LINES)
    assert [json.loads(line) for line in data.decode().split("\n")[:-1]] == LINES
    assert list(json.loads(data.split(b"\n")[1])) == ["id", "error", "day"]


@pytest.mark.parametrize("integers", [True, False])
def test_parquet_holds_a_column_for_all_there_may_be(integers):
    files = AnswerFiles("parquet", integers, ("day",))
    ids = [7, 9, 2**60, None] if integers else ["7", "9", str(2**60), "p:4"]
    table = pq.read_table(io.BytesIO(files.encode(LINES)))
    assert table.to_pylist() == wanted(ids)
    errors = pq.read_table(io.BytesIO(files.encode(LINES[1:2])))
    assert errors.schema == table.schema
    assert table.column_names == [*files.reserved()[:-1], "day", "error"]
    assert files.encode(LINES) == files.encode(LINES)


def test_tensorflow_reads_the_examples_of_a_tfrecord(tmp_path):
    import tensorflow as tf

    path = tmp_path / "answers.tfrecord"
    path.write_bytes(AnswerFiles("tfrecord", True, ("day",)).encode(LINES))
    spec = {
        name: tf.io.FixedLenFeature([], kind, default)
        for name, kind, default in [
            ("id", tf.int64, -1),
            ("text", tf.string, ""),
            ("num_tokens", tf.int64, -1),
            ("shortened", tf.int64, -1),
            ("day", tf.string, ""),
            ("error", tf.string, ""),
        ]
    }
    records = list(tf.data.TFRecordDataset(str(path)))
    for record, row in zip(records, wanted([7, 9, 2**60, None]), strict=True):
        found = tf.io.parse_single_example(record, spec)
        assert found["id"] == (-1 if row["id"] is None else row["id"])
        assert found["shortened"] == int(row["shortened"])
        assert found["num_tokens"] == (-1 if row["error"] else 3)
        for name in ("text", "day", "error"):
            assert found[name].numpy().decode() == (row[name] or "")
