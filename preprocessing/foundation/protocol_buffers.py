# SPDX-License-Identifier: Apache-2.0
"""Protocol buffers, one way: messages declared as tables for protobuf's own runtime.

TensorFlow's generated classes come with TensorFlow, and TensorFlow Serving's with a
package of its own; `preprocessing` and the release check must import neither. So a
message is declared here by the few fields that are used, with the names, numbers and
types of the `.proto` file it is from. Fields that are not declared are read over.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
# An enum travels as an int32, so it is declared as one.
_TYPES = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
}
_REPEATED = "repeated "


def declare(
    messages: Mapping[str, Mapping[str, tuple[int, str]]],
) -> dict[str, Any]:
    """Returns a class for each message, as protobuf's compiler would have made it.

    A field that is set is written, zero or not, and fields are written in the order of
    their numbers. A map is declared as what it is on the wire, a repeated message of
    `key` 1 and `value` 2: so its entries are written in the order they were added.

    Args:
        messages: name -> field -> (number, type). A type is one of protobuf's or
            another message of the table, after "repeated " where there are many.
    """
    file = descriptor_pb2.FileDescriptorProto(name="declared.proto", syntax="proto2")
    for name, fields in messages.items():
        declared = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            single = kind.removeprefix(_REPEATED)
            many = single != kind
            added = declared.field.add(
                name=field,
                number=number,
                label=_Field.LABEL_REPEATED if many else _Field.LABEL_OPTIONAL,
            )
            if single in _TYPES:
                added.type = _TYPES[single]
            else:
                added.type, added.type_name = _Field.TYPE_MESSAGE, f".{single}"
    # A pool of its own: in the common one these would clash with TensorFlow's.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        for name in messages
    }


def read(kind: Any, data: bytes) -> Any:
    """Returns the message of a declared class that `data` holds.

    Raises:
        ValueError: the bytes are no such message.
    """
    try:
        return kind.FromString(data)
    except message.DecodeError as error:
        raise ValueError(
            f"wanted a message {kind.DESCRIPTOR.name}, found {len(data)} bytes that "
            f"are none: {error}"
        ) from None
