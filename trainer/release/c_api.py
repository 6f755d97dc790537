# SPDX-License-Identifier: Apache-2.0
"""Runs a SavedModel through TensorFlow's C API, without importing TensorFlow.

A stock TensorFlow Serving is TensorFlow's C++ runtime, the ops of tensorflow_text, and
XLA switched off when it starts. The pip wheels hold the same libraries, so loading them
with ctypes answers in a second whether a release would load and what it would say.
Call these in a process that never imports TensorFlow: two copies do not share one.
"""

import ctypes
from collections.abc import Mapping
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from typing import Any

import ml_dtypes
import numpy as np

from preprocessing.foundation.commands import WorkError
from preprocessing.foundation.globs import literal_directory
from preprocessing.foundation.protocol_buffers import read
from trainer.machine.tensorflow_messages import (
    KernelList,
    MetaGraphDef,
    OpList,
    as_dict,
)
from trainer.machine.tensorflow_wheel import (
    STRING_BYTES,
    disable_xla,
    load_runtime,
    text_ops,
)

STRING = 7  # DT_STRING of types.proto
_DTYPES: dict[int, Any] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.float64),
    3: np.dtype(np.int32),
    9: np.dtype(np.int64),
    10: np.dtype(np.bool_),
    14: np.dtype(ml_dtypes.bfloat16),
}
_NUMBERS = {dtype: number for number, dtype in _DTYPES.items()}


class _Output(ctypes.Structure):
    _fields_ = [("operation", c_void_p), ("index", c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        ("length", c_size_t),
        ("deallocator", c_void_p),
    ]


_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "TF_NewStatus": (c_void_p, []),
    "TF_GetCode": (c_int, [c_void_p]),
    "TF_Message": (c_char_p, [c_void_p]),
    "TF_Version": (c_char_p, []),
    "TF_NewGraph": (c_void_p, []),
    "TF_NewBuffer": (POINTER(_Buffer), []),
    "TF_GetAllOpList": (POINTER(_Buffer), []),
    "TF_GetRegisteredKernelsForOp": (POINTER(_Buffer), [c_char_p, c_void_p]),
    "TF_NewSessionOptions": (c_void_p, []),
    "TF_LoadLibrary": (c_void_p, [c_char_p, c_void_p]),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        [
            *[c_void_p, c_void_p, c_char_p, POINTER(c_char_p), c_int],
            *[c_void_p, POINTER(_Buffer), c_void_p],
        ],
    ),
    "TF_GraphOperationByName": (c_void_p, [c_void_p, c_char_p]),
    "TF_AllocateTensor": (c_void_p, [c_int, POINTER(c_int64), c_int, c_size_t]),
    "TF_DeleteTensor": (None, [c_void_p]),
    "TF_TensorData": (c_void_p, [c_void_p]),
    "TF_TensorType": (c_int, [c_void_p]),
    "TF_TensorByteSize": (c_size_t, [c_void_p]),
    "TF_NumDims": (c_int, [c_void_p]),
    "TF_Dim": (c_int64, [c_void_p, c_int]),
    "TF_StringInit": (None, [c_void_p]),
    "TF_StringCopy": (None, [c_void_p, c_char_p, c_size_t]),
    "TF_StringGetDataPointer": (c_void_p, [c_void_p]),
    "TF_StringGetSize": (c_size_t, [c_void_p]),
    "TF_SessionRun": (
        None,
        [
            *[c_void_p, c_void_p, POINTER(_Output), POINTER(c_void_p), c_int],
            *[POINTER(_Output), POINTER(c_void_p), c_int],
            *[c_void_p, c_int, c_void_p, c_void_p],
        ],
    ),
}


class TensorFlowLibrary:
    """TensorFlow's shared libraries, loaded as a stock TensorFlow Serving has them."""

    def __init__(self) -> None:
        self.c = load_runtime()
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self.c, name)
            function.restype, function.argtypes = result, arguments
        self.status = self.c.TF_NewStatus()
        self.core_ops = self._op_names()
        disable_xla(self.c)
        self.c.TF_LoadLibrary(str(text_ops()).encode(), self.status)
        self.check(f"load {text_ops().name}")

    @property
    def version(self) -> str:
        """TensorFlow's version."""
        return self.c.TF_Version().decode()

    def check(self, wish: str) -> None:
        """Raises `WorkError` unless the last call succeeded."""
        if self.c.TF_GetCode(self.status):
            text = self.c.TF_Message(self.status).decode(errors="replace")
            raise WorkError(
                f"wanted to {wish} with TensorFlow {self.version}'s C API, found: "
                f"{text}. Export again, or report it with this line"
            )

    def has_cpu_kernel(self, op: str) -> bool:
        """Tells whether an op can run on a CPU."""
        buffer = self.c.TF_GetRegisteredKernelsForOp(op.encode(), self.status)
        self.check(f"list the kernels of {op}")
        kernels = read(KernelList, _take(buffer)).kernel
        return any(kernel.device_type in ("CPU", "DEFAULT") for kernel in kernels)

    def _op_names(self) -> frozenset[str]:
        ops = read(OpList, _take(self.c.TF_GetAllOpList())).op
        return frozenset(op.name for op in ops)


class Session:
    """A SavedModel, loaded and ready to answer its signatures."""

    def __init__(self, library: TensorFlowLibrary, directory: str) -> None:
        self._library, self._c = library, library.c
        self._graph = self._c.TF_NewGraph()
        meta_graph = self._c.TF_NewBuffer()
        with literal_directory(directory) as name:
            self._session = self._c.TF_LoadSessionFromSavedModel(
                self._c.TF_NewSessionOptions(),
                None,
                name.encode(),
                (c_char_p * 1)(b"serve"),
                1,
                self._graph,
                meta_graph,
                library.status,
            )
        library.check(f"load {directory}")
        signatures = as_dict(read(MetaGraphDef, _take(meta_graph)).signature_def)
        self.signatures = {
            name: _Signature(signature)
            for name, signature in signatures.items()
            if not name.startswith("__")  # __saved_model_init_op
        }

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray | list[bytes]]
    ) -> dict[str, np.ndarray | list[bytes]]:
        """Answers one request, as a Predict call would.

        Args:
            signature: a name in `signatures`.
            inputs: name -> array, or for strings of one dimension a list of bytes.

        Returns:
            Name -> array, or a flat list of bytes for strings.

        Raises:
            WorkError: TensorFlow refused the request, with its message.
        """
        known = self.signatures[signature]
        names = list(known.outputs)
        fed = [self._tensor(value) for value in inputs.values()]
        results = (c_void_p * len(names))()
        self._c.TF_SessionRun(
            self._session,
            None,
            self._places([known.inputs[name] for name in inputs]),
            (c_void_p * len(fed))(*fed),
            len(fed),
            self._places([known.outputs[name] for name in names]),
            results,
            len(names),
            None,
            0,
            None,
            self._library.status,
        )
        for tensor in fed:
            self._c.TF_DeleteTensor(tensor)
        self._library.check(f"run the signature {signature}")
        values = {name: self._value(t) for name, t in zip(names, results, strict=True)}
        for answer in results:
            self._c.TF_DeleteTensor(answer)
        return values

    def _places(self, names: list[str]) -> Any:
        places = (_Output * len(names))()
        for place, name in zip(places, names, strict=True):
            operation, _, index = name.partition(":")
            place.operation = self._c.TF_GraphOperationByName(
                self._graph, operation.encode()
            )
            place.index = int(index or 0)
        return places

    def _tensor(self, value: np.ndarray | list[bytes]) -> int:
        if isinstance(value, list):
            return self._string_tensor(value)
        array = np.ascontiguousarray(value)
        shape = (c_int64 * array.ndim)(*array.shape)
        tensor = self._c.TF_AllocateTensor(
            _NUMBERS[array.dtype], shape, array.ndim, array.nbytes
        )
        ctypes.memmove(self._c.TF_TensorData(tensor), array.ctypes.data, array.nbytes)
        return tensor

    def _string_tensor(self, texts: list[bytes]) -> int:
        shape = (c_int64 * 1)(len(texts))
        tensor = self._c.TF_AllocateTensor(STRING, shape, 1, STRING_BYTES * len(texts))
        start = self._c.TF_TensorData(tensor)
        for index, text in enumerate(texts):
            place = start + STRING_BYTES * index
            self._c.TF_StringInit(place)
            self._c.TF_StringCopy(place, text, len(text))
        return int(tensor)

    def _value(self, tensor: int) -> np.ndarray | list[bytes]:
        shape = [
            self._c.TF_Dim(tensor, axis) for axis in range(self._c.TF_NumDims(tensor))
        ]
        start = self._c.TF_TensorData(tensor)
        number = self._c.TF_TensorType(tensor)
        if number == STRING:
            count = int(np.prod(shape))
            return [self._string(start + STRING_BYTES * i) for i in range(count)]
        data = ctypes.string_at(start, self._c.TF_TensorByteSize(tensor))
        return np.frombuffer(data, _DTYPES[number]).reshape(shape)

    def _string(self, place: int) -> bytes:
        size = self._c.TF_StringGetSize(place)
        return ctypes.string_at(self._c.TF_StringGetDataPointer(place), size)


class _Signature:
    """The tensor names behind a signature's inputs and outputs."""

    def __init__(self, proto: Any) -> None:
        self.inputs = _tensor_names(proto.inputs)
        self.outputs = _tensor_names(proto.outputs)


def _tensor_names(entries: Any) -> dict[str, str]:
    """Reads a map of TensorInfo: argument -> name of the graph's tensor."""
    return {name: info.name for name, info in as_dict(entries).items()}


def _take(buffer: Any) -> bytes:
    return ctypes.string_at(buffer.contents.data, buffer.contents.length)
