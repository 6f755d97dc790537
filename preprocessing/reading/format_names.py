# SPDX-License-Identifier: Apache-2.0
"""The format that a file's name tells, under its compression and its shard's number.

A name that tells none is none: read as text, a file of records would be one document.
"""

import os

from preprocessing.foundation.decompression import COMPRESSIONS
from preprocessing.foundation.file_names import unsharded

_RECORDS = {
    "jsonl": ("jsonl", "json", "ndjson", "jsonlines", "ldjson", "jl"),
    "parquet": ("parquet", "pq"),
    "arrow": ("arrow", "feather", "ipc"),
    "csv": ("csv",),
    "tsv": ("tsv",),
    "warc": ("warc",),
    "wet": ("wet",),
}
# Endings of prose and of source code, where a file is a document. Markup (.html, .xml)
# and logs are not among them: whether their text is wanted as it is, only people know.
_TEXTS = """
    txt text md markdown rst adoc asciidoc org tex
    asm awk bash bat c cc cfg clj cljs cmake coffee cpp cs css cu cuh cxx d dart el
    erl ex exs f f90 f95 fish fs go gradle groovy h hh hpp hs hxx ini java js jsx kt kts
    less lisp lua m make mjs mk ml mli mm nim pas php pl pm proto ps1 py pyi pyx r rb rs
    s scala scm scss sh sql sv swift tcl toml ts tsx v vb vhd vhdl vim vue yaml yml zig
    zsh
"""
_TEXT_NAMES = (
    "authors changelog contributing copying dockerfile license makefile readme"
)
_FORMAT_OF_ENDING = dict.fromkeys(_TEXTS.split(), "text") | {
    ending: name for name, endings in _RECORDS.items() for ending in endings
}


def format_by_name(path: str) -> str | None:
    """Returns the format that a file's name tells; None where it tells none."""
    name = _uncompressed(path)
    if name in _TEXT_NAMES.split():
        return "text"
    return _FORMAT_OF_ENDING.get(ending_of(path))


def ending_of(path: str) -> str:
    """Returns a file's ending, as `jsonl`, under its compression and shard's number."""
    return os.path.splitext(_uncompressed(path))[1][1:]


def _uncompressed(path: str) -> str:
    name = unsharded(path.rsplit("/", 1)[-1].lower())
    stem, ending = os.path.splitext(name)
    return unsharded(stem) if ending in COMPRESSIONS else name
