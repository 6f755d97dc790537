# SPDX-License-Identifier: Apache-2.0
"""The requests TensorFlow Serving replays before a release takes traffic.

`assets.extra/tf_serving_warmup_requests` is a TFRecord file of PredictionLog messages
(tensorflow_serving/apis/prediction_log.proto); a damaged one keeps the model from
loading.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from preprocessing.contracts.releases import WARMUP_NAME
from preprocessing.contracts.tf_records import framed, read_frames
from preprocessing.foundation.commands import WorkError
from preprocessing.foundation.protocol_buffers import read
from trainer.machine.tensorflow_messages import PredictionLog, as_dict

Inputs = Mapping[str, np.ndarray | list[bytes]]
_DT_STRING = 7
_NUMBERS: dict[np.dtype, int] = {
    np.dtype(np.float32): 1,
    np.dtype(np.int32): 3,
    np.dtype(np.int64): 9,
    np.dtype(ml_dtypes.bfloat16): 14,
}
_DTYPES = {number: dtype for dtype, number in _NUMBERS.items()}


@dataclass(frozen=True)
class Request:
    """One Predict call: strings are lists of bytes, numbers are arrays."""

    signature: str
    inputs: Inputs


def write_requests(model_name: str, requests: list[Request]) -> bytes:
    """Returns the bytes of the warm-up file."""
    return b"".join(framed(_prediction_log(model_name, each)) for each in requests)


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
    log = PredictionLog()
    body = log.predict_log.request
    body.model_spec.name = model_name
    body.model_spec.signature_name = request.signature
    for name, value in request.inputs.items():
        _fill(body.inputs.add(key=name).value, value)
    return log.SerializeToString()


def _fill(tensor: Any, value: np.ndarray | list[bytes]) -> None:
    """Fills an empty `TensorProto`."""
    for size in np.shape(value):
        tensor.tensor_shape.dim.add(size=size)
    if isinstance(value, list):
        tensor.dtype = _DT_STRING
        tensor.string_val.extend(value)
    else:
        tensor.dtype = _NUMBERS[value.dtype]
        tensor.tensor_content = value.tobytes()


def _request(record: bytes) -> Request:
    body = read(PredictionLog, record).predict_log.request
    inputs = {name: _value(tensor) for name, tensor in as_dict(body.inputs).items()}
    return Request(body.model_spec.signature_name, inputs)


def _value(tensor: Any) -> np.ndarray | list[bytes]:
    if tensor.dtype == _DT_STRING:
        return list(tensor.string_val)
    flat = np.frombuffer(tensor.tensor_content, _DTYPES[tensor.dtype])
    return flat.reshape([each.size for each in tensor.tensor_shape.dim])


def _records(data: bytes) -> Iterator[bytes]:
    for frame in read_frames([data], len(data)):
        if frame.fault:
            raise ValueError(frame.fault)
        yield frame.payload
