# SPDX-License-Identifier: Apache-2.0
"""Protobuf's text format as text: where each field stands, so that one can be changed.

protobuf's own `text_format` reads a file into a message and prints the message: that
loses comments, and fields that the message does not declare, which a newer server or a
person may have put there. Here a file is read into the places of its fields; whoever
changes one writes over that place and leaves all other bytes alone. The language is
that of protobuf.dev/reference/protobuf/textformat-spec; tests compare what is read with
protobuf's own reader.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_SPACE = re.compile(r"(?:[ \t\n\r\v\f]+|#[^\n]*)*")
_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NUMBER = re.compile(r"\.?[0-9](?:[eE][+-]|[\w.])*", re.ASCII)
_INTEGER = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_STRING = re.compile(r"\"(?:[^\"\\\n]|\\[^\n])*\"|'(?:[^'\\\n]|\\[^\n])*'")
_EXTENSION = re.compile(r"\[[\w./\s-]+\]", re.ASCII)
_ESCAPE = re.compile(
    r"\\(?:([0-7]{1,3})|[xX]([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))"
)
_LETTERS = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_CLOSING = {"{": "}", "<": ">"}
# Nested deeper than any configuration, and shallower than Python's own stack.
_MOST_LEVELS = 100


@dataclass(frozen=True)
class TextValue:
    """One value: a scalar, or a message with fields.

    Attributes:
        start: where it begins, its bracket included.
        end: behind its last character.
        text: as it is written.
        fields: a message's; None of a scalar.
    """

    start: int
    end: int
    text: str
    fields: tuple["TextField", ...] | None = None

    def string(self) -> str:
        """Returns what a string says.

        Raises:
            ValueError: it is none, or no UTF-8.
        """
        found = b""
        parts = _STRING.findall(self.text)
        if self.fields is not None or not parts:
            raise ValueError(f"wanted a string, found {self.text}")
        for part in parts:
            found += _unescaped(part[1:-1])
        return found.decode()

    def integer(self) -> int:
        """Returns an integer: decimal, octal (`017`) or hexadecimal (`0x1f`).

        Raises:
            ValueError: it is none.
        """
        digits = _SPACE.sub("", self.text)
        if _INTEGER.fullmatch(digits) is None:
            raise ValueError(f"wanted an integer, found {self.text}")
        octal = re.fullmatch("-?0[0-7]+", digits)
        return int(digits, 8 if octal else 0)


@dataclass(frozen=True)
class TextField:
    """One field as it is written; a list in brackets gives it many values.

    Attributes:
        name: as written; an extension's with its brackets.
        start: where it begins.
        end: behind it, a separator included.
        place: where its value lies, or the list of its values with the brackets.
        values: in their order.
    """

    name: str
    start: int
    end: int
    place: tuple[int, int]
    values: tuple[TextValue, ...]


def read_fields(text: str) -> tuple[TextField, ...]:
    """Returns the fields of a whole file.

    Raises:
        ValueError: it is no text format; says the line.
    """
    return _Reader(text).fields("")


def named(fields: Iterable[TextField], name: str) -> list[TextValue]:
    """Returns all values that fields of a name have."""
    return [value for field in fields if field.name == name for value in field.values]


def quoted(value: str) -> str:
    """Returns a string as text format writes it."""
    escaped = {"\\": "\\\\", '"': '\\"'}
    return (
        '"' + "".join(escaped.get(letter) or _printed(letter) for letter in value) + '"'
    )


def rewritten(text: str, changes: Iterable[tuple[int, int, str]]) -> str:
    """Returns `text` with (start, end, new) put in; places do not overlap."""
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def removal(text: str, field: TextField) -> tuple[int, int, str]:
    """Returns the change that removes a field, with its line where it stands alone."""
    start = field.start - len(re.search(r"[ \t]*$", text[: field.start])[0])  # type: ignore[index]
    if start and text[start - 1] != "\n":
        return field.start, field.end, ""
    rest = re.match(r"[ \t]*\n", text[field.end :])
    return (start, field.end + len(rest[0]), "") if rest else (start, field.end, "")


def insertion(text: str, within: TextValue, lines: str) -> tuple[int, int, str]:
    """Returns the change that adds a message's last fields.

    Args:
        text: the file.
        within: the message they are added to.
        lines: the fields, each line ended, indented as if the message were not.
    """
    closing = within.end - 1
    space = re.search(r"(?:^|\n)([ \t]*)$", text[:closing])
    if space is None:
        return closing, closing, f" {' '.join(lines.split())} "
    added = "".join(f"{space[1]}  {line}\n" for line in lines.splitlines())
    return closing - len(space[1]), closing - len(space[1]), added


def _printed(letter: str) -> str:
    """Returns a letter, or the octal bytes of one that some readers end a line at."""
    if letter.isprintable():
        return letter
    return "".join(f"\\{byte:03o}" for byte in letter.encode())


def _unescaped(text: str) -> bytes:
    found, at = b"", 0
    for escape in _ESCAPE.finditer(text):
        found += text[at : escape.start()].encode()
        at = escape.end()
        octal, byte, short, long, letter = escape.groups()
        if octal or byte:
            found += bytes([(int(octal, 8) if octal else int(byte, 16)) & 255])
        elif short or long:
            found += chr(int(short or long, 16)).encode()
        elif letter in _LETTERS:
            found += bytes([_LETTERS[letter]])
        else:
            found += letter.encode()
    return found + text[at:].encode()


class _Reader:
    """Reads a file from its start; `at` is where it stands."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth = text, 0, 0

    def fields(self, closing: str) -> tuple[TextField, ...]:
        """Reads fields up to a closing bracket, or to the end."""
        found = []
        while self._next() != closing:
            found.append(self._field())
        return tuple(found)

    def _next(self) -> str:
        """Returns the next character behind space and comments, "" at the end."""
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
        return self._text[self._at : self._at + 1]

    def _take(self, pattern: re.Pattern[str], what: str) -> str:
        self._next()
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError(self._complaint(what))
        self._at = found.end()
        return found[0]

    def _complaint(self, what: str) -> str:
        line = self._text.count("\n", 0, self._at) + 1
        there = self._text[self._at : self._at + 20].split("\n")[0] or "the end"
        return f"line {line}: wanted {what}, found {there}"

    def _field(self) -> TextField:
        pattern = _EXTENSION if self._next() == "[" else _WORD
        start = self._at
        name = self._take(pattern, "the name of a field")
        colon = self._next() == ":"
        if colon:
            self._at += 1
        listed = self._next() == "["
        begin = self._at
        values = self._list(colon) if listed else (self._value(colon),)
        place = begin, self._at
        if self._next() in (",", ";"):
            self._at += 1
        else:
            self._at = place[1]
        return TextField("".join(name.split()), start, self._at, place, values)

    def _list(self, colon: bool) -> tuple[TextValue, ...]:
        self._at += 1
        values: list[TextValue] = []
        while self._next() != "]" or (values and self._text[self._at - 1] == ","):
            values.append(self._value(colon))
            if self._next() != ",":
                break
            self._at += 1
        if self._next() != "]":
            raise ValueError(self._complaint("] at the end of a list"))
        self._at += 1
        return tuple(values)

    def _value(self, colon: bool) -> TextValue:
        first, start = self._next(), self._at
        if first not in _CLOSING:
            if not colon:
                raise ValueError(self._complaint("a colon or a message"))
            self._scalar(first)
            return TextValue(start, self._at, self._text[start : self._at])
        self._at += 1
        self._depth += 1
        if self._depth > _MOST_LEVELS:
            raise ValueError(self._complaint(f"{_MOST_LEVELS} levels at most"))
        fields = self.fields(_CLOSING[first])
        self._depth -= 1
        self._at += 1
        return TextValue(start, self._at, self._text[start : self._at], fields)

    def _scalar(self, first: str) -> None:
        if first in ('"', "'"):
            while self._next() in ('"', "'"):
                self._take(_STRING, "a string that ends on its line")
                end = self._at
            self._at = end
            return
        if first == "-":
            self._at += 1
        word = _WORD.match(self._text, _SPACE.match(self._text, self._at).end())  # type: ignore[union-attr]
        self._take(_WORD if word else _NUMBER, "a value")
