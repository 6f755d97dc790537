# SPDX-License-Identifier: Apache-2.0
"""Finds strings that end a text, across the borders of tokens.

The bytes of a row's ids are searched, not the ids: a string may begin within one token
and end within another, in as many ways as it can be cut.
"""

from collections.abc import Sequence
from itertools import accumulate


class StopStrings:
    """The text of one row so far, and the strings that end it.

    Args:
        strings: UTF-8, none of them empty.
        token_bytes: the bytes of each id; further ids have none.
    """

    def __init__(self, strings: Sequence[bytes], token_bytes: Sequence[bytes]) -> None:
        self._strings, self._token_bytes = strings, token_bytes
        self._longest = max(map(len, strings))
        self._text, self._sizes = bytearray(), list[int]()

    def find(self, ids: Sequence[int]) -> tuple[int, int] | None:
        """Adds ids to the text and looks for the string that ends it first.

        Returns:
            Where it begins, as the number of ids that spell what is before it, the
            last one perhaps not to its end, and of bytes; None if there is none.
        """
        for id in ids:
            start = max(len(self._text) - self._longest + 1, 0)
            spelled = self._token_bytes[id] if id < len(self._token_bytes) else b""
            self._text += spelled
            self._sizes.append(len(spelled))
            # Behind each id, so that it does not matter how many come together.
            places = (self._text.find(string, start) for string in self._strings)
            found = [place for place in places if place >= 0]
            if found:
                ends, first = [0, *accumulate(self._sizes)], min(found)
                return next(i for i, end in enumerate(ends) if end >= first), first
        return None
