# SPDX-License-Identifier: Apache-2.0
"""Records are what TensorFlow itself would write, and come back as they went."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.records import RecordFormat

SHAPES = st.sampled_from([1, 2, 31, 64, 127, 512, 2048, 65_534, 65_535])
VOCABULARIES = st.sampled_from([1, 256, 65_536, 65_537, 1 << 20])


def rows_of(layout, count, seed):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, layout.vocab_size, (count, layout.row_tokens))
    lengths = rng.integers(0, layout.row_tokens + 1, (count, layout.max_segments))
    return tokens, lengths


@settings(max_examples=60, deadline=None)
@given(
    sequence_length=SHAPES,
    vocab_size=VOCABULARIES,
    count=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_rows_come_back_as_they_went(sequence_length, vocab_size, count, seed):
    layout = RecordFormat(sequence_length, vocab_size)
    tokens, lengths = rows_of(layout, count, seed)
    frames = layout.encode(tokens, lengths)
    assert frames.shape == (count, layout.frame_bytes)
    found_tokens, found_lengths = layout.decode(frames)
    assert found_tokens.dtype == layout.token_dtype
    assert found_lengths.dtype == layout.length_dtype
    np.testing.assert_array_equal(found_tokens, tokens)
    np.testing.assert_array_equal(found_lengths, lengths)


@pytest.mark.parametrize(
    ("sequence_length", "vocab_size"),
    [(1, 2), (256, 1024), (2048, 50_257), (1024, 65_537), (65_535, 300)],
)
@pytest.mark.smoke
def test_frames_are_the_tfrecords_tensorflow_writes(
    sequence_length, vocab_size, tmp_path
):
    import tensorflow as tf

    layout = RecordFormat(sequence_length, vocab_size)
    tokens, lengths = rows_of(layout, 3, seed=1)
    path = str(tmp_path / "rows.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for row_tokens, row_lengths in zip(tokens, lengths, strict=True):
            values = {
                "tokens": row_tokens.astype(layout.token_dtype).tobytes(),
                "segment_lengths": row_lengths.astype(layout.length_dtype).tobytes(),
            }
            features = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                for name, value in values.items()
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString(deterministic=True))
    with open(path, "rb") as file:
        assert file.read() == layout.encode(tokens, lengths).tobytes()


def test_dtypes_follow_the_vocabulary_and_the_length():
    assert RecordFormat(8, 65_536).token_dtype == np.dtype("<u2")
    assert RecordFormat(8, 65_537).token_dtype == np.dtype("<i4")
    assert RecordFormat(65_534, 9).length_dtype == np.dtype("<u2")
    assert RecordFormat(65_535, 9).length_dtype == np.dtype("<i4")
    assert RecordFormat(256, 9).max_segments == 64
    assert RecordFormat(2048, 9).max_segments == 256
    assert RecordFormat(2048, 9).features() == {
        "segment_lengths": {"dtype": "uint16", "count": 256},
        "tokens": {"dtype": "uint16", "count": 2049},
    }


@given(byte=st.integers(0), flip=st.integers(1, 255), row=st.integers(0, 2))
@settings(max_examples=100, deadline=None)
def test_any_changed_byte_is_noticed_and_its_row_named(byte, flip, row):
    layout = RecordFormat(16, 300)
    frames = layout.encode(*rows_of(layout, 3, seed=2))
    frames[row, byte % layout.frame_bytes] ^= flip
    with pytest.raises(ValueError, match=f"row {row} "):
        layout.decode(frames)


def test_rows_of_another_shape_are_refused():
    layout = RecordFormat(16, 300)
    with pytest.raises(ValueError, match="17 ids"):
        layout.encode(np.zeros((2, 16), int), np.zeros((2, 64), int))
    with pytest.raises(ValueError, match="vocab_size"):
        RecordFormat(16, 0)
