# SPDX-License-Identifier: Apache-2.0
"""TFRecord files of Examples: what TensorFlow writes, and what it reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.contracts.tf_records import (
    RecordFrame,
    decode_example,
    encode_example,
    framed,
    read_frames,
)

PAYLOADS = st.lists(st.binary(max_size=9), max_size=5)
FEATURES = {
    "text": [b"na\xc3\xafve", b""],
    "count": [7, -(2**63), 2**63 - 1],
    "score": [0.5, -1.25],
    "none": [],
}


@given(PAYLOADS, st.integers(1, 7), st.integers(0, 9))
def test_records_are_read_whatever_parts_a_file_comes_in(payloads, size, limit):
    data = b"".join(map(framed, payloads))
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    assert list(read_frames(parts, limit)) == [
        RecordFrame(payload)
        if len(payload) <= limit
        else RecordFrame(b"", f"above {limit} bytes")
        for payload in payloads
    ]


@given(st.integers(0, 3 * (16 + 3) - 1))
def test_a_damaged_byte_costs_its_record_or_all_behind_it_and_never_passes(at):
    data = bytearray(framed(b"one") + framed(b"two") + framed(b"six"))
    data[at] ^= 1
    number, inside = divmod(at, 16 + 3)
    found = []
    if inside < 12:
        with pytest.raises(ValueError, match=f"at record {number + 1}"):
            found.extend(read_frames([bytes(data)], 100))
    else:
        found = list(read_frames([bytes(data)], 100))
        assert [bool(frame.fault) for frame in found] == [
            each == number for each in range(3)
        ]
    with pytest.raises(ValueError, match=r"record 3"):
        list(read_frames([framed(b"one") * 2, framed(b"six")[:-1]], 100))


def test_tensorflow_reads_what_is_written_and_its_own_is_read(tmp_path):
    import tensorflow as tf

    kinds = {"text": tf.string, "count": tf.int64, "score": tf.float32}
    path = tmp_path / "own.tfrecord"
    path.write_bytes(framed(encode_example(FEATURES)))
    spec = {name: tf.io.RaggedFeature(kind) for name, kind in kinds.items()}
    for record in tf.data.TFRecordDataset(str(path)):
        found = tf.io.parse_single_example(record, spec)
        for name in kinds:
            assert found[name].numpy().tolist() == FEATURES[name]
    theirs = str(tmp_path / "theirs.tfrecord")
    lists = {
        "text": tf.train.Feature(bytes_list=tf.train.BytesList(value=FEATURES["text"])),
        "count": tf.train.Feature(
            int64_list=tf.train.Int64List(value=FEATURES["count"])
        ),
        "score": tf.train.Feature(
            float_list=tf.train.FloatList(value=FEATURES["score"])
        ),
        "none": tf.train.Feature(),
    }
    with tf.io.TFRecordWriter(theirs) as writer:
        features = tf.train.Features(feature=lists)
        writer.write(tf.train.Example(features=features).SerializeToString())
    with open(theirs, "rb") as file:
        (frame,) = read_frames([file.read()], 1000)
    assert decode_example(frame.payload) == FEATURES
    assert decode_example(encode_example(FEATURES)) == FEATURES
