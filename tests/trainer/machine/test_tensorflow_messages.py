# SPDX-License-Identifier: Apache-2.0
"""The messages that are declared here are TensorFlow's and TensorFlow Serving's own."""

import pytest
from tensorflow.core.framework import kernel_def_pb2, op_def_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.core.util import event_pb2
from tensorflow_serving.apis import prediction_log_pb2

from trainer.machine.tensorflow_messages import MESSAGES

ROOTS = {
    "SavedModel": saved_model_pb2.SavedModel,
    "OpList": op_def_pb2.OpList,
    "KernelList": kernel_def_pb2.KernelList,
    "Event": event_pb2.Event,
    "PredictionLog": prediction_log_pb2.PredictionLog,
}


def differences(ours, theirs, seen):
    """Yields what a message declares otherwise, and its fields' messages, at any depth.

    An enum is declared as the int32 it travels as.
    """
    seen.add(ours.name)
    for field in ours.fields:
        wanted = theirs.fields_by_name.get(field.name)
        if wanted is None:
            yield f"{ours.name}.{field.name}: unknown"
            continue
        kind = field.TYPE_INT32 if wanted.type == field.TYPE_ENUM else wanted.type
        found = field.number, field.type, field.label
        if found != (wanted.number, kind, wanted.label):
            yield f"{ours.name}.{field.name}: number, type or label"
        elif field.message_type and field.message_type.name not in seen:
            yield from differences(field.message_type, wanted.message_type, seen)


@pytest.mark.smoke
def test_names_numbers_and_types_are_those_of_the_generated_classes():
    seen = set()
    for name, theirs in ROOTS.items():
        ours = MESSAGES[name].DESCRIPTOR
        assert list(differences(ours, theirs.DESCRIPTOR, seen)) == []
    assert seen == set(MESSAGES), "declared, but compared with nothing"
