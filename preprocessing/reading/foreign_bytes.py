# SPDX-License-Identifier: Apache-2.0
"""What bytes are that are not what a reader wants, in words for people."""

import re
from collections.abc import Sequence

_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_ARRAY = "part of a JSON array, not JSON lines (jq -c '.[]' makes lines of it)"
_INDENTED = "part of indented JSON, not JSON lines (jq -c . makes lines of it)"
_ELEMENT = re.compile(rb"\{.*\}\s*,", re.DOTALL)
_MEMBER = re.compile(rb'"(?:[^"\\]|\\.)*"\s*:')
_LOOKED_AT = 256
_ENOUGH = 4
_MOST_OF_A_NAME = 60


def encoding_of(data: bytes | bytearray) -> str:
    """Returns "UTF-16" or "UTF-32" where bytes are that, else nothing.

    By the mark they begin with, or by every second byte being NUL, or three of four:
    as all that is written in Latin letters has it, also from the middle of a file.
    """
    for mark, name in _MARKS.items():
        if data.startswith(mark):
            return name
    seen = bytes(data[:_LOOKED_AT])
    if len(seen) < _ENOUGH or b"\0" not in seen:
        return ""
    nuls = [seen[at::4].count(0) / len(seen[at::4]) for at in range(4)]
    kinds = ["often" if share > 0.9 else "seldom" * (share < 0.1) for share in nuls]
    if sorted(kinds) == ["often"] * 3 + ["seldom"]:
        return "UTF-32"
    alternate = kinds[:2] == kinds[2:] and set(kinds) == {"often", "seldom"}
    return "UTF-16" if alternate else ""


def is_unicode(text: str) -> bool:
    """Tells whether a text can be UTF-8: half of a pair of surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def not_utf8(data: bytes | bytearray, place: str) -> str:
    """Returns the detail of bytes that are not UTF-8; `place` is the first bad one."""
    name = encoding_of(data)
    if not name:
        return place
    return f"{name}, not UTF-8: convert it (iconv -f {name} -t UTF-8)"


def shortened(text: str) -> str:
    """Returns a text for a message, cut behind 60 characters."""
    return text if len(text) <= _MOST_OF_A_NAME else f"{text[:_MOST_OF_A_NAME]}…"


def listed(names: Sequence[str]) -> str:
    """Returns names for a message, of some 100 characters however many they are."""
    shown: list[str] = []
    for name in names:
        if len(", ".join(shown)) > _MOST_OF_A_NAME:
            return f"{', '.join(shown)} and {len(names) - len(shown)} more"
        shown.append(shortened(name))
    return ", ".join(shown) or "none"


def not_json_line(line: bytes | bytearray, why: str) -> str:
    """Returns the detail of a line that is no JSON: what it is part of, or why."""
    name, text = encoding_of(line), line.strip()
    if name:
        return not_utf8(line, why)
    if text.startswith(b"[") or _ELEMENT.fullmatch(text) or text == b"]":
        return _ARRAY
    if text in (b"{", b"}", b"},") or _MEMBER.match(text):
        return _INDENTED
    return why
