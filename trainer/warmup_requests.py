# SPDX-License-Identifier: Apache-2.0
"""The requests TensorFlow Serving replays before a release takes traffic.

`assets.extra/tf_serving_warmup_requests` is a TFRecord file of PredictionLog messages
(tensorflow_serving/apis/prediction_log.proto); a damaged one keeps the model from
loading. The few fields needed are written by hand, so that exporting does not need the
tensorflow-serving-api package.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from preprocessing.commands import WorkError
from preprocessing.records import masked_crc
from preprocessing.releases import WARMUP_NAME
from trainer import wire

Inputs = Mapping[str, np.ndarray | list[bytes]]
_DT_STRING = 7
_NUMBERS: dict[np.dtype, int] = {
    np.dtype(np.float32): 1,
    np.dtype(np.int32): 3,
    np.dtype(np.int64): 9,
}
_DTYPES = {number: dtype for dtype, number in _NUMBERS.items()}


@dataclass(frozen=True)
class Request:
    """One Predict call: strings are lists of bytes, numbers are arrays of rank 1."""

    signature: str
    inputs: Inputs


def write_requests(model_name: str, requests: list[Request]) -> bytes:
    """Returns the bytes of the warm-up file."""
    return b"".join(_frame(_prediction_log(model_name, each)) for each in requests)


def read_requests(data: bytes) -> list[Request]:
    """Parses a warm-up file, checksums verified.

    Raises:
        WorkError: the file is damaged.
    """
    try:
        return [_request(record) for record in _records(data)]
    except (ValueError, KeyError) as error:
        raise WorkError(
            f"wanted a readable {WARMUP_NAME}, found: {error}. Export again"
        ) from error


def _prediction_log(model_name: str, request: Request) -> bytes:
    """PredictionLog{predict_log 6 {request 1 {model_spec 1, inputs 2}}}."""
    spec = wire.message(1, model_name.encode())
    spec += wire.message(3, request.signature.encode())
    body = wire.message(1, spec)
    for name, value in request.inputs.items():
        body += wire.map_entry(2, name, _tensor(value))
    return wire.message(6, wire.message(1, body))


def _tensor(value: np.ndarray | list[bytes]) -> bytes:
    """TensorProto{dtype 1, shape 2 {dim 2 {size 1}}, content 4, string_val 8}."""
    shape = wire.message(2, wire.message(2, wire.integer(1, len(value))))
    if isinstance(value, list):
        texts = b"".join(wire.message(8, text) for text in value)
        return wire.integer(1, _DT_STRING) + shape + texts
    number = wire.integer(1, _NUMBERS[value.dtype])
    return number + shape + wire.message(4, value.tobytes())


def _request(record: bytes) -> Request:
    body = wire.last_bytes(wire.last_bytes(record, 6), 1)
    signature = wire.last_bytes(wire.last_bytes(body, 1), 3).decode()
    inputs = {name: _value(data) for name, data in wire.entries(body, 2).items()}
    return Request(signature, inputs)


def _value(tensor: bytes) -> np.ndarray | list[bytes]:
    number = wire.last_integer(tensor, 1)
    if number == _DT_STRING:
        return wire.all_of(tensor, 8)
    return np.frombuffer(wire.last_bytes(tensor, 4), _DTYPES[number])


def _frame(payload: bytes) -> bytes:
    """A TFRecord: length, its masked CRC32C, payload, its masked CRC32C."""
    length = len(payload).to_bytes(8, "little")
    return length + _sum(length) + payload + _sum(payload)


def _records(data: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        length = data[position : position + 8]
        size = int.from_bytes(length, "little")
        start = position + 12
        payload = data[start : start + size]
        sums = data[position + 8 : start], data[start + size : start + size + 4]
        if sums != (_sum(length), _sum(payload)):
            raise ValueError(f"a wrong checksum at byte {position}")
        yield payload
        position = start + size + 4


def _sum(data: bytes) -> bytes:
    return masked_crc(data).to_bytes(4, "little")
