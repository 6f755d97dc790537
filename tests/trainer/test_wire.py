# SPDX-License-Identifier: Apache-2.0
"""The hand-written wire format is the protobuf library's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2

from trainer import wire

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(INT64, st.text(max_size=200))))
def test_messages_written_by_hand_are_read_by_the_protobuf_library(dims):
    data = b"".join(
        wire.message(2, wire.integer(1, size) + wire.message(2, name.encode()))
        for size, name in dims
    )
    shape = tensor_shape_pb2.TensorShapeProto.FromString(data)
    assert [(dim.size, dim.name) for dim in shape.dim] == dims


@given(st.lists(st.tuples(INT64, st.text(max_size=200))))
def test_messages_of_the_protobuf_library_are_read_by_hand(dims):
    shape = tensor_shape_pb2.TensorShapeProto()
    for size, name in dims:
        shape.dim.add(size=size, name=name)
    found = wire.all_of(shape.SerializeToString(), 2)
    read = [(wire.last_integer(d, 1), wire.last_bytes(d, 2).decode()) for d in found]
    assert read == dims


def test_fixed_width_fields_are_stepped_over():
    tensor = tensor_pb2.TensorProto(dtype=1, float_val=[1.5], double_val=[2.5])
    tensor.string_val.append(b"last")
    data = tensor.SerializeToString()
    assert wire.last_bytes(data, 8) == b"last"


@pytest.mark.parametrize("data", [b"\x80", b"\x0a\x05abc", b"\x0b", b"\x0d\x00"])
def test_bytes_that_are_no_message_are_refused(data):
    with pytest.raises(ValueError, match="wanted"):
        list(wire.fields(data))
