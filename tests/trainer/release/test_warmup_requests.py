# SPDX-License-Identifier: Apache-2.0
"""Warm-up files are what TensorFlow Serving reads."""

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.contracts.signatures import SIGNATURES
from preprocessing.foundation.commands import WorkError
from trainer.release.warmup_requests import Request, read_requests, write_requests

REQUESTS = [
    Request("serving_default", {"prompt": ["Ünïcode 🙂".encode(), b""]}),
    Request(
        "generate",
        {
            "prompt": [b"one"],
            "max_new_tokens": np.array([7], np.int32),
            "temperature": np.array([0.25], np.float32),
            "seed": np.array([-(2**40)], np.int64),
            "state_0": np.arange(12, dtype=np.float32).reshape(2, 3, 2),
        },
    ),
    *(
        Request(name, each.fed({i.name: [i.warmup] for i in each.inputs}))
        for name, each in SIGNATURES.items()
    ),
]


def as_lists(inputs) -> dict[str, list]:
    return {name: np.array(value).tolist() for name, value in inputs.items()}


def test_tensorflow_servings_own_classes_read_what_is_written_by_hand(tmp_path):
    apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = tmp_path / "requests"
    path.write_bytes(write_requests("quern", REQUESTS))
    records = list(tf.data.TFRecordDataset([str(path)]).as_numpy_iterator())
    assert len(records) == len(REQUESTS)
    for record, wanted in zip(records, REQUESTS, strict=True):
        log = apis.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "quern"
        assert request.model_spec.signature_name == wanted.signature
        arrays = {name: tf.make_ndarray(t) for name, t in request.inputs.items()}
        assert as_lists(arrays) == as_lists(wanted.inputs)
        if "state_0" not in arrays:
            types = {k: tf.as_dtype(t.dtype).name for k, t in request.inputs.items()}
            table = SIGNATURES[wanted.signature].inputs
            assert types.items() <= {each.name: each.dtype for each in table}.items()


def test_requests_come_back_as_they_were_written():
    found = read_requests(write_requests("quern", REQUESTS))
    for request, wanted in zip(found, REQUESTS, strict=True):
        assert request.signature == wanted.signature
        assert as_lists(request.inputs) == as_lists(wanted.inputs)


def test_a_damaged_file_is_refused():
    data = bytearray(write_requests("quern", REQUESTS))
    data[40] ^= 1
    with pytest.raises(WorkError, match="checksum"):
        read_requests(bytes(data))
    with pytest.raises(WorkError, match="ends within record 2"):
        read_requests(write_requests("quern", REQUESTS[:2])[:-3])
