# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's and TensorFlow Serving's messages, by the fields that are used here.

From saved_model.proto, meta_graph.proto, graph.proto, function.proto, node_def.proto,
attr_value.proto, op_def.proto, kernel_def.proto, tensor.proto, tensor_shape.proto and
event.proto of TensorFlow, and prediction_log.proto, predict.proto and model.proto of
TensorFlow Serving. A map is a repeated message of keys and values.
"""

from collections.abc import Iterable
from typing import Any

from preprocessing.foundation.protocol_buffers import declare

_GRAPHS = {
    "SavedModel": {"meta_graphs": (2, "repeated MetaGraphDef")},
    "MetaGraphDef": {
        "graph_def": (2, "GraphDef"),
        "signature_def": (5, "repeated SignatureEntry"),
    },
    "SignatureEntry": {"key": (1, "string"), "value": (2, "SignatureDef")},
    "SignatureDef": {
        "inputs": (1, "repeated TensorInfoEntry"),
        "outputs": (2, "repeated TensorInfoEntry"),
    },
    "TensorInfoEntry": {"key": (1, "string"), "value": (2, "TensorInfo")},
    "TensorInfo": {"name": (1, "string")},
    "GraphDef": {"node": (1, "repeated NodeDef"), "library": (2, "FunctionLibrary")},
    "FunctionLibrary": {"function": (1, "repeated FunctionDef")},
    "FunctionDef": {
        "signature": (1, "OpDef"),
        "node_def": (3, "repeated NodeDef"),
        "attr": (5, "repeated AttrEntry"),
    },
    "NodeDef": {
        "op": (2, "string"),
        "device": (4, "string"),
        "attr": (5, "repeated AttrEntry"),
    },
    "AttrEntry": {"key": (1, "string"), "value": (2, "AttrValue")},
    "AttrValue": {
        "list": (1, "ListValue"),
        "b": (5, "bool"),
        "func": (10, "NameAttrList"),
    },
    "ListValue": {"func": (9, "repeated NameAttrList")},
    "NameAttrList": {"name": (1, "string")},
    "OpList": {"op": (1, "repeated OpDef")},
    "OpDef": {"name": (1, "string")},
    "KernelList": {"kernel": (1, "repeated KernelDef")},
    "KernelDef": {"device_type": (2, "string")},
}
_REQUESTS = {
    "PredictionLog": {"predict_log": (6, "PredictLog")},
    "PredictLog": {"request": (1, "PredictRequest")},
    "PredictRequest": {
        "model_spec": (1, "ModelSpec"),
        "inputs": (2, "repeated TensorEntry"),
    },
    "ModelSpec": {"name": (1, "string"), "signature_name": (3, "string")},
    "TensorEntry": {"key": (1, "string"), "value": (2, "TensorProto")},
    "TensorProto": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "TensorShapeProto"),
        "tensor_content": (4, "bytes"),
        "string_val": (8, "repeated bytes"),
    },
    "TensorShapeProto": {"dim": (2, "repeated Dim")},
    "Dim": {"size": (1, "int64")},
}
_EVENTS = {"Event": {"step": (2, "int64")}}
MESSAGES = declare(_GRAPHS | _REQUESTS | _EVENTS)

SavedModel = MESSAGES["SavedModel"]
MetaGraphDef = MESSAGES["MetaGraphDef"]
OpList = MESSAGES["OpList"]
KernelList = MESSAGES["KernelList"]
PredictionLog = MESSAGES["PredictionLog"]
Event = MESSAGES["Event"]


def as_dict(entries: Iterable[Any]) -> dict[str, Any]:
    """Returns a map's entries as a dictionary."""
    return {entry.key: entry.value for entry in entries}
