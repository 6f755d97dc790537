# SPDX-License-Identifier: Apache-2.0
"""Records are what TensorFlow itself would write, and come back as they went."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.contracts.records import RecordFormat

SHAPES = st.sampled_from([1, 2, 31, 64, 127, 512, 2048, 65_534, 65_535])
VOCABULARIES = st.sampled_from([1, 256, 65_536, 65_537, 1 << 20])


KINDS = st.fixed_dictionaries(
    {"sources": st.booleans()},
    optional={
        "prefix": st.booleans(),
        "loss_mask": st.booleans(),
        "target_length": st.sampled_from([1, 30, 65_536]),
    },
).filter(
    # Rows of two sequences have no use for the marks of one.
    lambda kind: (
        "target_length" not in kind or set(kind) <= {"target_length", "sources"}
    )
)


def rows_of(layout, count, seed):
    rng = np.random.default_rng(seed)
    most = {"tokens", "inputs", "targets"}
    return {
        name: rng.integers(
            0,
            layout.vocab_size if name in most else 1 + np.iinfo(feature["dtype"]).max,
            (count, feature["count"]),
        )
        for name, feature in layout.features().items()
    }


@settings(max_examples=60, deadline=None)
@given(
    sequence_length=SHAPES,
    vocab_size=VOCABULARIES,
    kind=KINDS,
    count=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_rows_come_back_as_they_went(sequence_length, vocab_size, kind, count, seed):
    layout = RecordFormat(sequence_length, vocab_size, **kind)
    rows = rows_of(layout, count, seed)
    frames = layout.encode(rows)
    assert frames.shape == (count, layout.frame_bytes)
    found = layout.decode(frames)
    assert list(found) == sorted(rows)
    for name, values in rows.items():
        assert found[name].dtype.name == layout.features()[name]["dtype"]
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize(
    "layout",
    [
        RecordFormat(1, 2),
        RecordFormat(256, 1024),
        RecordFormat(2048, 50_257, sources=True),
        RecordFormat(1024, 65_537, prefix=True),
        RecordFormat(65_535, 300, loss_mask=True),
        RecordFormat(512, 300, target_length=114),
    ],
)
@pytest.mark.smoke
def test_frames_are_the_tfrecords_tensorflow_writes_and_parses(layout, tmp_path):
    import tensorflow as tf

    def bytes_feature(values):
        value = tf.train.BytesList(value=[values.tobytes()])
        return tf.train.Feature(bytes_list=value)

    rows = rows_of(layout, 3, seed=1)
    stored = {
        name: values.astype(layout.features()[name]["dtype"])
        for name, values in rows.items()
    }
    path = str(tmp_path / "rows.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for row in range(3):
            # TensorFlow orders a map as it likes ("inputs" behind the longer
            # "inputs_segment_lengths"). Messages that follow one another are merged,
            # so that each entry is written alone here, in the order of the names.
            features = b"".join(
                tf.train.Features(
                    feature={name: bytes_feature(stored[name][row])}
                ).SerializeToString()
                for name in sorted(stored)
            )
            # Field 1, as `features` is of an Example, is here bytes as they are.
            writer.write(tf.train.BytesList(value=[features]).SerializeToString())
    frames = layout.encode(rows).tobytes()
    with open(path, "rb") as file:
        assert file.read() == frames
    with open(path, "wb") as file:
        file.write(frames)
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in rows}
    parsed = tf.io.parse_example(list(tf.data.TFRecordDataset(path)), spec)
    for name, values in stored.items():
        found = tf.io.decode_raw(parsed[name], values.dtype.name)
        np.testing.assert_array_equal(found, values)


def test_dtypes_follow_the_vocabulary_and_the_length():
    assert RecordFormat(8, 65_536).token_dtype == np.dtype("<u2")
    assert RecordFormat(8, 65_537).token_dtype == np.dtype("<i4")
    assert RecordFormat(65_534, 9).length_dtype == np.dtype("<u2")
    assert RecordFormat(65_535, 9).length_dtype == np.dtype("<i4")
    assert RecordFormat(256, 9).max_segments == 64
    assert RecordFormat(2048, 9).max_segments == 256
    assert RecordFormat(8, 9, target_length=65_536).length_dtype == np.dtype("<i4")
    assert RecordFormat(8, 9, loss_mask=True).features()["loss_mask"]["count"] == 2
    assert RecordFormat(2048, 9).features() == {
        "segment_lengths": {"dtype": "uint16", "count": 256},
        "tokens": {"dtype": "uint16", "count": 2049},
    }


@given(byte=st.integers(0), flip=st.integers(1, 255), row=st.integers(0, 2))
@settings(max_examples=100, deadline=None)
def test_any_changed_byte_is_noticed_and_its_row_named(byte, flip, row):
    layout = RecordFormat(16, 300)
    frames = layout.encode(rows_of(layout, 3, seed=2))
    frames[row, byte % layout.frame_bytes] ^= flip
    with pytest.raises(ValueError, match=f"row {row} "):
        layout.decode(frames)


def test_rows_of_another_shape_are_refused():
    layout = RecordFormat(16, 300)
    with pytest.raises(ValueError, match="17"):
        layout.encode(
            {
                "tokens": np.zeros((2, 16), int),
                "segment_lengths": np.zeros((2, 64), int),
            }
        )
    with pytest.raises(ValueError, match="vocab_size"):
        RecordFormat(16, 0)
