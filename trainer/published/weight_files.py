# SPDX-License-Identifier: Apache-2.0
"""The files that a published directory keeps its tensors in: one, or shards.

model.safetensors               all tensors, or
model.safetensors.index.json    {"weight_map": {tensor: file}}, and those files
"""

import hashlib
from collections.abc import Mapping

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError, first_of
from trainer.published.safetensors_files import StoredTensor, read_header

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
# Of each file, evenly spread: two trainings of one model differ nearly everywhere.
_SAMPLES, _SAMPLE_BYTES = 16, 64 << 10


def find_tensors(directory: str) -> dict[str, StoredTensor]:
    """Returns the tensors of a directory by name; reads headers alone.

    Raises:
        UsageError: there are no such files, one is missing or damaged, or the index
            says otherwise than they do.
    """
    whole = storage.join(directory, WEIGHTS_NAME)
    try:
        return read_header(whole)
    except (FileNotFoundError, NotADirectoryError):
        pass
    names = _index(directory)
    found: dict[str, StoredTensor] = {}
    for file in dict.fromkeys(names.values()):
        path = storage.join(directory, file)
        try:
            there = read_header(path)
        except FileNotFoundError:
            raise UsageError(
                f"wanted {file}, which {INDEX_NAME} names, in {directory}, found no "
                "such file. Download it"
            ) from None
        wanted = {name for name, place in names.items() if place == file}
        for what, odd in (
            ("lacks", wanted - set(there)),
            ("holds beside what it should", set(there) - wanted),
        ):
            if odd:
                raise UsageError(
                    f"wanted in {path} what {INDEX_NAME} says, it {what} "
                    f"{first_of(sorted(odd))}. Download both again"
                )
        found |= there
    return found


def _index(directory: str) -> dict[str, str]:
    """Returns the file of each tensor, as the index says."""
    path = storage.join(directory, INDEX_NAME)
    try:
        names = strict_json.loads(storage.read_bytes(path))["weight_map"]
        plain = all(
            isinstance(file, str) and file and "/" not in file and "\\" not in file
            for file in names.values()
        )
        if not names or not plain:
            raise ValueError("no files, or files elsewhere")
    except (FileNotFoundError, NotADirectoryError):
        found = [
            x for x in storage.list_names(directory) if x.endswith((".bin", ".h5"))
        ]
        raise UsageError(
            f"wanted {WEIGHTS_NAME} or {INDEX_NAME} in {directory}, found "
            f"{first_of(found) if found else 'neither'}. Save them as safetensors"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"wanted an index of files in {path}, found {error}. Download it again"
        ) from None
    return dict(names)


def digest(config: bytes, tensors: Mapping[str, StoredTensor]) -> str:
    """Returns what tells published weights from others, in hex.

    SHA-256 of `config.json`, of names, types and shapes, and of samples of each file.
    All bytes would be hours of reading for some; this is a second.
    """
    state = hashlib.sha256(config)
    ends: dict[str, int] = {}
    for name, tensor in sorted(tensors.items()):
        state.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        ends[tensor.path] = max(tensor.end, ends.get(tensor.path, 0))
    for path, end in sorted(ends.items()):
        for start in range(0, end, max(_SAMPLE_BYTES, end // _SAMPLES)):
            stop = min(end, start + _SAMPLE_BYTES)
            state.update(storage.read_range(path, start, stop))
    return state.hexdigest()
