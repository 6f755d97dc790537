# SPDX-License-Identifier: Apache-2.0
"""A huge line of JSON: its long strings are cut out, and unescaped one by one.

    {"id": 7, "text": "…300 MB…"}  ->  {"id": 7, "text": "xxx…"}  parsed as any line is
                                        ^ stands for         …300 MB…  unescaped once

Parsers hold a text of some hundred MB several times: Arrow four times, Python up to six
times as a string of four bytes a character. This holds it once beside the line itself.
"""

import numpy as np

from preprocessing.foundation.compiled import compiled

_FILLER = b"x"
_QUOTE, _BACKSLASH, _SPACE, _U = ord('"'), ord("\\"), 32, ord("u")
_HIGH, _LOW, _SURROGATES_END = 0xD800, 0xDC00, 0xE000
# What a character behind a backslash stands for; 0 for none.
_PLAIN = np.zeros(256, np.uint8)
_PLAIN[list(b'"\\/bfnrt')] = list(b'"\\/\b\f\n\r\t')
_DIGIT = np.full(256, 255, np.uint8)
_DIGIT[list(b"0123456789abcdef")] = range(16)
_DIGIT[list(b"ABCDEF")] = range(10, 16)


class LongStrings:
    """The long strings of one line of valid UTF-8, and the line without them.

    Attributes:
      line: the line with a filler for each of its long strings.
    """

    def __init__(self, line: np.ndarray, least: int) -> None:
        """Takes a line, uint8 [bytes]; strings of `least` bytes or more are cut out."""
        spans = np.zeros((len(line) // least + 1, 2), np.int64)
        spans = spans[: _long_strings(line, least, spans)]
        parts, done = [], 0
        for number, (start, end) in enumerate(spans.tolist()):
            parts += [line[done:start].tobytes(), _FILLER * (least + number)]
            done = end
        self.line = b"".join([*parts, line[done:].tobytes()])
        self._long, self._spans, self._least = line, spans, least

    def valid(self) -> bool:
        """Tells whether each long string is one in JSON, without lone surrogates."""
        return all(
            _unescape(self._long[start:end], np.zeros(0, np.uint8)) >= 0
            for start, end in self._spans.tolist()
        )

    def behind(self, value: bytes | memoryview) -> np.ndarray | None:
        """Returns the string, unescaped, that a value of the parsed line stands for.

        Returns:
          uint8 [bytes]; None where it stands for itself. (A number may be as long.)
        """
        if len(value) < self._least or value[:1] != _FILLER:
            return None
        start, end = self._spans[len(value) - self._least].tolist()
        # Never more bytes than escaped; memory that is not written to costs nothing.
        text = np.empty(end - start, np.uint8)
        return text[: _unescape(self._long[start:end], text)]


@compiled
def _long_strings(line: np.ndarray, least: int, spans: np.ndarray) -> int:
    """Fills spans, int64 [n, 2], with the insides of strings of `least` bytes or more.

    Returns how many there are: fewer than one for each `least` bytes of the line.
    """
    count, at, size = 0, 0, len(line)
    while at < size:
        if line[at] != _QUOTE:
            at += 1
            continue
        start = at + 1
        at = start
        while at < size and line[at] != _QUOTE:
            at += 1 + int(line[at] == _BACKSLASH)
        if at < size and at - start >= least:
            spans[count, 0], spans[count, 1] = start, at
            count += 1
        at += 1
    return count


@compiled
def _unescape(text: np.ndarray, out: np.ndarray) -> int:
    """Writes the inside of a JSON string, unescaped, as UTF-8, where `out` has room.

    Returns:
        The bytes it has; -1 for a control character, an unknown escape or half of a
        surrogate pair.
    """
    at, size, written = 0, len(text), 0
    keep = len(out) > 0
    while at < size:
        byte = text[at]
        if byte < _SPACE:
            return -1
        if byte != _BACKSLASH:
            if keep:
                out[written] = byte
            at, written = at + 1, written + 1
            continue
        if at + 1 >= size:
            return -1
        if text[at + 1] != _U:
            plain = _PLAIN[text[at + 1]]
            if plain == 0:
                return -1
            if keep:
                out[written] = plain
            at, written = at + 2, written + 1
            continue
        code = _code_unit(text, at)
        at += 6
        if _HIGH <= code < _LOW:
            low = _code_unit(text, at)
            if not _LOW <= low < _SURROGATES_END:
                return -1
            code = 0x10000 + ((code - _HIGH) << 10) + (low - _LOW)
            at += 6
        elif code < 0 or _LOW <= code < _SURROGATES_END:
            return -1
        written += _write_character(code, out, written, keep)
    return written


@compiled
def _code_unit(text: np.ndarray, at: int) -> int:
    """Returns the number of an escape of four digits; -1 where `at` begins none."""
    if at + 6 > len(text) or text[at] != _BACKSLASH or text[at + 1] != _U:
        return -1
    code = 0
    for place in range(at + 2, at + 6):
        digit = int(_DIGIT[text[place]])
        if digit == 255:
            return -1
        code = 16 * code + digit
    return code


@compiled
def _write_character(code: int, out: np.ndarray, at: int, keep: bool) -> int:
    """Writes a code point as UTF-8 at `at`, if `keep`; returns its bytes."""
    size = 1 + int(code >= 0x80) + int(code >= 0x800) + int(code >= 0x10000)
    if not keep:
        return size
    if size == 1:
        out[at] = code
        return 1
    for place in range(size - 1, 0, -1):
        out[at + place] = 0x80 | (code & 0x3F)
        code >>= 6
    out[at] = ((0xF00 >> size) & 0xFF) | code
    return size
