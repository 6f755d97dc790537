# SPDX-License-Identifier: Apache-2.0
"""Declared messages are what protobuf's compiler makes of a `.proto` file."""

import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.foundation.protocol_buffers import declare, read

# Of google/protobuf/descriptor.proto, whose generated classes come with the runtime.
DECLARED = declare(
    {
        "FileDescriptorProto": {
            "name": (1, "string"),
            "public_dependency": (10, "repeated int32"),
            "options": (8, "FileOptions"),
        },
        "FileOptions": {
            "cc_enable_arenas": (31, "bool"),
            "optimize_for": (9, "int32"),
        },
        "UninterpretedOption": {
            "negative_int_value": (5, "int64"),
            "string_value": (7, "bytes"),
        },
    }
)
INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)


@given(
    st.text(max_size=200), st.lists(INT32), st.booleans(), st.sampled_from([1, 2, 3])
)
def test_both_classes_write_the_same_bytes_and_read_each_other(
    name, numbers, flag, goal
):
    written = []
    for kind in DECLARED["FileDescriptorProto"], descriptor_pb2.FileDescriptorProto:
        file = kind(name=name, public_dependency=numbers)
        file.options.cc_enable_arenas, file.options.optimize_for = flag, goal
        written.append(file.SerializeToString())
    assert written[0] == written[1]
    found = read(DECLARED["FileDescriptorProto"], written[1])
    assert (found.name, list(found.public_dependency)) == (name, numbers)
    assert (found.options.cc_enable_arenas, found.options.optimize_for) == (flag, goal)


@given(INT64, st.binary(max_size=200))
def test_whole_numbers_and_bytes_come_back_and_other_fields_are_read_over(number, data):
    option = descriptor_pb2.UninterpretedOption(
        negative_int_value=number, string_value=data, double_value=0.5
    )
    found = read(DECLARED["UninterpretedOption"], option.SerializeToString())
    assert (found.negative_int_value, found.string_value) == (number, data)


def test_a_maps_entries_are_written_in_the_order_they_were_added():
    table = {
        "Map": {"entries": (1, "repeated Entry")},
        "Entry": {"key": (1, "string"), "value": (2, "int64")},
    }
    written = declare(table)["Map"]()
    for key in "ba":
        written.entries.add(key=key, value=0)  # a zero that is set is written
    assert written.SerializeToString() == b"\n\5\n\1b\x10\0\n\5\n\1a\x10\0"


@pytest.mark.parametrize("data", [b"\x80", b"\x0a\x05abc", b"\x0b", b"\x0d\x00"])
def test_bytes_that_are_no_message_are_refused(data):
    with pytest.raises(ValueError, match="wanted a message FileDescriptorProto"):
        read(DECLARED["FileDescriptorProto"], data)
