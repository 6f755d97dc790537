# SPDX-License-Identifier: Apache-2.0
"""gigatoken over Arrow's memory, without a Python object per text, its cache bounded.

gigatoken remembers every word it has seen, about 100 bytes each, and never forgets:
270 MB of made-up words left 2.9 GB behind (0.10.0). So the engine is loaded anew,
some 50 ms, whenever it has grown past a limit; ids do not depend on it.
"""

import contextlib
import ctypes
import os
import resource

import awkward
import gigatoken
import numpy as np

# Growth at which an engine is let go. Web text reaches it after some GB.
CACHE_BYTES = 96 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class GigatokenEngine:
    """Encodes UTF-8 buffers on the calling thread."""

    def __init__(self, json_bytes: bytes, cache_bytes: int = CACHE_BYTES) -> None:
        """Loads a `tokenizer.json`; it is loaded anew after growing by `cache_bytes`.

        Raises:
          RuntimeError: gigatoken does not know its parts.
        """
        self._json, self._most = json_bytes, cache_bytes
        self._engine = gigatoken.Tokenizer.from_json(json_bytes)
        self._grown = 0

    def encode(
        self, data: np.ndarray, offsets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encodes the texts data[offsets[i]:offsets[i + 1]].

        Args:
          data: uint8, valid UTF-8.
          offsets: int64 [texts + 1].

        Returns:
          uint32 ids of all texts one after the other, and int64 [texts] lengths.
        """
        if self._grown > self._most:
            del self._engine  # before the next one is there
            _give_memory_back()
            self._engine = gigatoken.Tokenizer.from_json(self._json)
            self._grown = 0
        before = _resident_bytes()
        characters = awkward.contents.NumpyArray(data, parameters={"__array__": "char"})
        texts = awkward.contents.ListOffsetArray(
            awkward.index.Index64(offsets),
            characters,
            parameters={"__array__": "string"},
        )
        answer = self._engine.encode_batch(awkward.Array(texts), parallel=False).layout
        ends = np.asarray(answer.offsets)
        ids = np.asarray(answer.content.data)[ends[0] : ends[-1]]
        self._grown += max(0, _resident_bytes() - before - ids.nbytes)
        return ids, np.diff(ends)


def _give_memory_back() -> None:
    """Returns freed memory to the system, where the C library can (glibc).

    It keeps the cache's many small pieces otherwise: lines of random digits took a
    worker to 1.5 GB.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _resident_bytes() -> int:
    """Returns the memory that the process holds; where Linux does not say, its peak."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
