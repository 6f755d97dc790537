# SPDX-License-Identifier: Apache-2.0
"""Light cleaning of corpus text that leaves code, indentation and languages alone.

This is corpus-only. What every text undergoes, prompts too (NUL removed, the
tokenizer's own normaliser), happens where text is encoded. Cleaning is idempotent:

    control characters   C0, DEL and C1 go; tab, line feed and carriage return stay
    line ends            CRLF and a lone CR become LF
    lines                trailing spaces and tabs go; indentation stays
    blank lines          more than two in a row become two
    composition          NFC, only if asked for
"""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import normalizers

from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.long_texts import LONG_BYTES, has_long, in_pieces
from preprocessing.foundation.string_buffers import array_of, views

_TAB, _NEWLINE, _SPACE, _DELETE = 9, 10, 32, 127
_C1_LEAD, _C1_END = 0xC2, 0xA0  # U+0080 to U+009F are C2 80 to C2 9F in UTF-8
_STRETCH = 1 << 18  # bytes looked at at once; their masks stay in a core's cache
# C1 is U+0080 to U+009F, U+0085 included: in text found in the wild it is more often
# a mangled Windows-1252 ellipsis than a line end.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LINE_END = re.compile("\r\n?")


@dataclass(frozen=True)
class CleaningConfig:
    """How documents are cleaned.

    Attributes:
        compose: apply Unicode NFC, as `tokenizers` does.
        max_blank_lines: longer runs of blank lines are cut to this many.
    """

    compose: bool = False
    max_blank_lines: int = 2

    def __post_init__(self) -> None:
        if self.max_blank_lines < 0:
            raise UsageError(
                f"wanted --max_blank_lines of 0 or more, found {self.max_blank_lines}. "
                "Leave it out for 2"
            )


def clean(
    texts: pa.LargeStringArray,
    config: CleaningConfig | None,
    long_bytes: int = LONG_BYTES,
    stretch: int = _STRETCH,
) -> pa.LargeStringArray:
    """Returns the texts cleaned, [n] as given; clean ones cost a look at their bytes.

    A huge text is cleaned in pieces that encoding could cut it into as well: before a
    space, or after a lone line feed, that follows a visible character, neither runs of
    blanks and line feeds nor what NFC composes reach across. As strings of Python the
    whole would take up to four bytes a character, several times.

    Args:
        texts: valid UTF-8, no nulls, [n].
        config: what is cleaned; None for nothing.
        long_bytes: a longer text is cleaned in pieces of this.
        stretch: bytes looked at at once.
    """
    if config is None:
        return texts
    if not has_long(texts, long_bytes):
        return _clean_whole(texts, config, stretch)
    cleaned, lengths = bytearray(), np.zeros(len(texts), np.int64)
    for part in in_pieces(texts, long_bytes):
        pieces = _clean_whole(part.texts, config, stretch)
        data, edges = views(pieces)
        cleaned += data[edges[0] : edges[-1]].data
        np.add.at(lengths, part.owners, np.diff(edges))
    edges = np.concatenate([[0], np.cumsum(lengths)])
    return array_of(cleaned, edges)


def _clean_whole(
    texts: pa.LargeStringArray, config: CleaningConfig, stretch: int
) -> pa.LargeStringArray:
    odd, loose = _suspects(texts, config, stretch)
    dirty = odd | loose
    if not dirty.any():
        return texts
    mask = pa.array(dirty)
    suspects = zip(texts.filter(mask).to_pylist(), odd[dirty].tolist(), strict=True)
    cleaned = [
        clean_text(text, config) if controls else _tidy(text, config)
        for text, controls in suspects
    ]
    return pc.replace_with_mask(texts, mask, pa.array(cleaned, pa.large_string()))


def clean_text(text: str, config: CleaningConfig) -> str:
    """Returns one text cleaned."""
    text = _CONTROL.sub("", text)
    if "\r" in text:
        text = _LINE_END.sub("\n", text)
    return _tidy(text, config)


def _tidy(text: str, config: CleaningConfig) -> str:
    """Returns a text without control characters or carriage returns cleaned."""
    if " \n" in text or "\t\n" in text:
        text = "\n".join([line.rstrip(" \t") for line in text.split("\n")])
    text = text.rstrip(" \t")
    newlines = config.max_blank_lines + 1
    if "\n" * (newlines + 1) in text:
        text = _long_runs(newlines).sub("\n" * newlines, text)
    if config.compose and not text.isascii():
        text = _compose()(text)
    return text


def is_empty(texts: pa.LargeStringArray) -> np.ndarray:
    """Tells which texts hold nothing but white space, bool [n]."""
    blank = pc.or_(pc.utf8_is_space(texts), pc.equal(pc.binary_length(texts), 0))
    return blank.to_numpy(zero_copy_only=False)


@functools.cache
def _long_runs(newlines: int) -> re.Pattern[str]:
    return re.compile(rf"\n{{{newlines + 1},}}")


@functools.cache
def _compose() -> Callable[[str], str]:
    # The reference decides what NFC is: Python's tables are of another Unicode version.
    return normalizers.NFC().normalize_str


def _suspects(
    texts: pa.LargeStringArray, config: CleaningConfig, stretch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tells which texts cleaning may change, and never misses one.

    The bytes of all texts are looked at as one vector, a stretch at a time; what lies
    across the border of two texts makes a suspect at worst.

    Returns:
        (texts that may hold control characters or carriage returns, texts whose white
        space or composition may change), bool [n] each.
    """
    data, edges = views(texts)
    data, edges = data[edges[0] : edges[-1]], edges - edges[0]
    overlap = config.max_blank_lines + 2
    starts = range(0, len(data), stretch)
    stretches = [data[start : start + stretch + overlap] for start in starts]
    odd = [
        _odd_places(part) + start for part, start in zip(stretches, starts, strict=True)
    ]
    loose = [
        _loose_places(part, config) + start
        for part, start in zip(stretches, starts, strict=True)
    ]
    # The last byte of a text counts as if a line feed followed it.
    filled = np.flatnonzero(edges[1:] > edges[:-1])
    final = edges[filled + 1] - 1
    loose.append(final[_is_blank(data[final])])
    return _holders(edges, odd), _holders(edges, loose)


def _holders(edges: np.ndarray, places: list[np.ndarray]) -> np.ndarray:
    """Tells which texts, byte ranges between `edges`, hold one of the places."""
    holds = np.zeros(len(edges) - 1, bool)
    if places:
        at = np.concatenate(places)
        holds[np.searchsorted(edges, at, side="right") - 1] = True
    return holds


def _odd_places(data: np.ndarray) -> np.ndarray:
    """Returns where control characters and carriage returns are.

    Counting bytes runs at some 10 GB/s, so positions are sought only where a count
    says that there is something to find.
    """
    found = [np.zeros(0, np.int64)]
    allowed = np.count_nonzero(data == _TAB) + np.count_nonzero(data == _NEWLINE)
    if np.count_nonzero(data < _SPACE) > allowed:
        low = (data < _SPACE) & (data != _NEWLINE) & (data != _TAB)
        found.append(np.flatnonzero(low))
    if np.count_nonzero(data == _DELETE):
        found.append(np.flatnonzero(data == _DELETE))
    if np.count_nonzero(data[:-1] == _C1_LEAD):
        lead = np.flatnonzero(data[:-1] == _C1_LEAD)
        found.append(lead[data[lead + 1] < _C1_END])
    return np.concatenate(found)


def _loose_places(data: np.ndarray, config: CleaningConfig) -> np.ndarray:
    """Returns where lines end in blanks, blank lines run on, or NFC may compose."""
    newlines = np.flatnonzero(data == _NEWLINE)
    inner = newlines[newlines > 0]
    found = [inner[_is_blank(data[inner - 1])] - 1]
    reach = config.max_blank_lines + 1
    found.append(newlines[:-reach][newlines[reach:] - newlines[:-reach] == reach])
    if config.compose:
        found.append(np.flatnonzero(data > _DELETE))
    return np.concatenate(found)


def _is_blank(values: np.ndarray) -> np.ndarray:
    return (values == _SPACE) | (values == _TAB)
