# SPDX-License-Identifier: Apache-2.0
"""Files of answers: the lines of a chunk as the bytes of a shard.

    jsonl     {"id": 7, "text": …, "num_tokens": …}   a key for each value there is
              {"id": 9, "error": …}
    parquet   a column for each value there may be, null where there is none
    tfrecord  a tf.train.Example with a feature for each value there is

The same lines give the same bytes, and all shards of a job have the same columns.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.generation.census import INT64
from preprocessing.contracts.tf_records import encode_example, framed
from preprocessing.foundation import strict_json

FORMATS = ("jsonl", "parquet", "tfrecord")
Line = Mapping[str, Any]

# What an answer has besides its id, by what is asked for, and what each value is.
_TEXT, _COUNT, _FLAG = pa.string(), pa.int64(), pa.bool_()
COLUMNS: Mapping[str, Mapping[str, pa.DataType]] = {
    "generate": {
        "text": _TEXT,
        "num_tokens": _COUNT,
        "finish_reason": _TEXT,
        "shortened": _FLAG,
    },
    "score": {
        "log_likelihood": pa.float32(),
        "num_tokens": _COUNT,
        "num_bytes": _COUNT,
        "is_greedy": _FLAG,
        "shortened": _FLAG,
    },
    "embed": {"embedding": pa.list_(pa.float32()), "num_tokens": _COUNT},
}
ERROR, ID = "error", "id"


@dataclass(frozen=True)
class AnswerFiles:
    """How the answers of a job lie in its shards.

    Attributes:
        format: one of `FORMATS`.
        integer_ids: whether `id` is a column of whole numbers, in which errors whose
            record has none are null; else it is one of strings. JSON has both.
        keep: fields of the input that answers carry.
        mode: what is asked for, a key of `COLUMNS`.
    """

    format: str = "jsonl"
    integer_ids: bool = False
    keep: tuple[str, ...] = ()
    mode: str = "generate"

    def reserved(self) -> list[str]:
        """Returns the names that no field of the input can have here."""
        return [ID, *COLUMNS[self.mode], ERROR]

    def encode(self, lines: Sequence[Line]) -> bytes:
        """Returns the bytes of a shard."""
        encoders: dict[str, Callable[[Sequence[Line]], bytes]] = {
            "jsonl": _json_lines,
            "parquet": self._parquet,
            "tfrecord": self._examples,
        }
        return encoders[self.format](lines)

    def _columns(self) -> dict[str, pa.DataType]:
        whole = pa.int64() if self.integer_ids else pa.string()
        kept = dict.fromkeys(self.keep, pa.string())
        return {ID: whole, **COLUMNS[self.mode], **kept, ERROR: pa.string()}

    def _parquet(self, lines: Sequence[Line]) -> bytes:
        schema = pa.schema(list(self._columns().items()))
        rows = [self._typed(line) for line in lines]
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema), out)
        return out.getvalue()

    def _examples(self, lines: Sequence[Line]) -> bytes:
        rows = (self._typed(line) for line in lines)
        return b"".join(framed(encode_example(_features(row))) for row in rows)

    def _typed(self, line: Line) -> dict[str, Any]:
        """Returns the values of a line in its columns' types; None where none is."""
        return {
            name: _value(line.get(name), kind) for name, kind in self._columns().items()
        }


def _value(value: Any, kind: pa.DataType) -> Any:
    """Returns a value as one of a column; in one of strings others are JSON."""
    if kind == pa.bool_():
        return bool(value)
    if kind == pa.string() and not (value is None or isinstance(value, str)):
        return strict_json.dumps(value, ensure_ascii=False)
    if kind == pa.int64() and not (isinstance(value, int) and value in INT64):
        return None
    return value


def _json_lines(lines: Sequence[Line]) -> bytes:
    texts = (strict_json.dumps(line, ensure_ascii=False) for line in lines)
    return "".join(f"{text}\n" for text in texts).encode()


def _features(row: Line) -> dict[str, list[Any]]:
    """Returns a row as features: numbers as they are, texts as bytes."""
    found = {}
    for name, value in row.items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        found[name] = [_feature(each) for each in values]
    return found


def _feature(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode()
    return int(value) if isinstance(value, bool) else value
