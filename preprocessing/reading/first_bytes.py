# SPDX-License-Identifier: Apache-2.0
"""What files are by their first bytes, where their names say otherwise.

Text in a packing that its name does not tell, and pointers of git LFS and git-annex in
place of files, would be read as texts nobody wrote. Both are known before any work:
each file costs one read of 1 KB at most (20 us of a disk; a request of a bucket, 32 at
once).
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, first_of
from preprocessing.foundation.globs import METADATA_THREADS

# As https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md says (below 1024 bytes),
# and https://git-annex.branchable.com/internals/pointer_file/.
_POINTERS = {
    b"version https://git-lfs.github.com/spec/": "git LFS",
    b"version https://hawser.github.com/spec/": "git LFS",
    b"/annex/objects/": "git-annex",
}
_MOST_POINTER = 1024
_POINTER = "only a pointer of "
# None of them can open a text: they hold what is no UTF-8, or control characters.
_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"\x1f\x9d": "compress",
    b"\x1f\xa0": "compress",
    b"\xff\x06\x00\x00sNaPpY": "snappy",
}
# "BZh" alone is a word; its block's mark behind one digit is not.
_BZIP2_BLOCKS = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")


def check_first_bytes(
    files: Sequence[storage.InputFile], compressions: Iterable[str | None]
) -> None:
    """Refuses files that are not what their names say.

    Args:
        files: the files.
        compressions: what each is unpacked with before it is read ("none", "gzip",
            "zstd"); None where a user's function takes its bytes as they are.

    Raises:
        UsageError: some are pointers, or packed and not named so.
    """
    asked = [*files], [*compressions]
    if any(storage.is_cloud(file.path) for file in files):
        with ThreadPoolExecutor(METADATA_THREADS) as pool:
            found = [*pool.map(_kind, *asked)]
    else:
        found = [*map(_kind, *asked)]
    pairs = zip(files, found, strict=True)
    faults = {file.path: kind for file, kind in pairs if kind is not None}
    if not faults:
        return
    named = first_of([f"{path} ({kind})" for path, kind in faults.items()])
    advice = "Name gzip .gz and zstd .zst, unpack anything else, or leave the files out"
    if all(kind.startswith(_POINTER) for kind in faults.values()):
        advice = "Get the files (git lfs pull, git annex get) where they were cloned"
    raise UsageError(f"wanted files as their names say, found {named}. {advice}")


def _kind(file: storage.InputFile, compression: str | None) -> str | None:
    """Returns what a file is instead of what its name says, if it is something else."""
    if not file.size:
        return None
    size = min(file.size, _MOST_POINTER)
    try:
        head = storage.read_range(file.path, 0, size)
    except OSError:
        return None  # who reads it says so, and names it
    for opening, tool in _POINTERS.items():
        if file.size < _MOST_POINTER and head.startswith(opening):
            return _POINTER + tool
    if compression != "none":
        return None  # damage in it is met, and counted, where it is read
    for magic, name in _MAGIC.items():
        if head.startswith(magic) and (name != "bzip2" or head[4:10] in _BZIP2_BLOCKS):
            return f"{name} inside"
    return None
