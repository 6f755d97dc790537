# SPDX-License-Identifier: Apache-2.0
"""Personal data: email addresses, public IP addresses and phone numbers are replaced.

What is put in their place belongs to nobody, is reserved for it, and reads as what it
replaces, so that sentences stay sentences:

    email       email@example.com    example.com is reserved by RFC 2606
    IPv4        192.0.2.1            a documentation network of RFC 5737
    IPv6        2001:db8::1          that of RFC 3849
    phone       +1 202-555-0100      555-0100 to 555-0199 is kept for fiction (NANPA)

Addresses and numbers so reserved stay as they are, and so nothing is replaced twice.
(FineWeb puts IPv4 addresses that did not answer when its list was made; they have
owners.) It errs on the side of leaving text alone: what is matched, and what is not,
stands beside each pattern. One compiled pass finds runs of bytes that can hold a match,
and regular expressions read those alone.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from preprocessing.foundation.compiled import compiled
from preprocessing.foundation.string_buffers import array_of, views
from preprocessing.rules.networks import is_public_v4, is_public_v6

REPLACEMENTS = {
    "email": b"email@example.com",
    "ipv4": b"192.0.2.1",
    "ipv6": b"2001:db8::1",
    "phone": b"+1 202-555-0100",
}
_DIGITS, _HEX_DIGITS = b"0123456789", b"0123456789abcdefABCDEF"
_WORD = _DIGITS + b"_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_AT = ord("@")

# Longer parts are nobody's (RFC 5321, 4.5.3.1).
_MOST_LOCAL, _MOST_DOMAIN = 64, 255
# The local part; of RFC 5322's other marks none, so that `href=a@b.com` keeps `href=`.
_LOCAL, _LOCAL_MARKS = _WORD + b".%+-", b".%+-"
# Two labels or more, the last of letters, and no path behind a colon: `react@16.8.0`,
# `root@localhost` and `git@github.com:me/project` stay.
_DOMAIN = re.compile(
    rb"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+(?:xn--[a-z0-9-]*[a-z0-9]|[a-z]{2,24})"
    rb"(?![a-z0-9_])",
    re.ASCII | re.IGNORECASE,
)
_PATH = re.compile(rb":[\w/~]", re.ASCII)
_RESERVED_DOMAIN = re.compile(
    rb"(?:.*\.)?(?:example\.(?:com|net|org)|example|invalid|test)\Z", re.IGNORECASE
)

# Four numbers and no fifth, no letter beside them: versions (v1.2.3.4, 1.2.3.4-rc1) and
# sections (1.2.3.4.5) stay. A version of four bare numbers cannot be told from an
# address, and is replaced.
_IPV4 = re.compile(
    rb"(?<![\w.+-])(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}"
    rb"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?![\w+%-]|\.+\w)",
    re.ASCII,
)
# Global unicast begins with four hexadecimal digits, the first 2 or 3; times and names
# in C++ do not.
_IPV6 = re.compile(
    rb"(?<![\w:.])[23][0-9a-f]{3}:[0-9a-f:]*[0-9a-f:](?<!\w:)(?!\w|:\w|\.\d)",
    re.ASCII | re.IGNORECASE,
)
_PHONE = re.compile(
    rb"(?<![\w+/=&#@%-])(?:"
    # +49 (0)30 123456, +1-202-555-0173, +442079460000: a + and 8 digits or more.
    rb"\+[1-9](?:[ .-]?(?:\(\d{1,4}\)|\d)){7,14}"
    # The others are no part of a row of numbers.
    rb"|(?<!\d[.,: ])(?:"
    # (202) 555-0173, 1-800-555-0173, 202.555.0173: North America; with blanks alone
    # (202 555 0173) it could be a row of a table.
    rb"(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[.-]\d{4}"
    # 01 23 45 67 89: France and others that write pairs.
    rb"|0[1-9](?:[ .-]\d\d){4}"
    # (030) 1234567, (020) 7946 0123: an area code with its 0 in brackets.
    rb"|\(0\d{1,4}\) ?\d{2,4}(?:[ -]?\d{2,4}){1,3}"
    # 020 7946 0123, 0171 555 0123: Britain and others, three groups.
    rb"|0[1-9]\d{1,3} \d{3,4} \d{4}"
    rb"))(?![\w+/=&#@%(-]|[.,: ][\d(]|\.+\w)",
    re.ASCII,
)
_DECIMAL = re.compile(rb"\+\d+\.\d+", re.ASCII)
_FICTIONAL = re.compile(rb"1?\d{3}55501\d\d", re.ASCII)
_LEAST_DIGITS, _MOST_DIGITS = 8, 15  # of a number with its country's code (E.164)


@dataclass(frozen=True)
class Switches:
    """Which kinds are replaced."""

    emails: bool = True
    ip_addresses: bool = True
    phones: bool = True


@dataclass(frozen=True)
class Replaced:
    """Texts [n] after replacement, and how many replacements of each kind there are."""

    texts: pa.LargeStringArray
    counts: Counter[str]


Match = tuple[int, int]  # what is replaced: data[start:end]
Find = Callable[[np.ndarray, np.ndarray], Iterator[Match]]


@dataclass(frozen=True)
class _Search:
    """How one kind is found: in runs of `member` bytes with `least` `counted` ones."""

    kind: str
    member: bytes
    counted: bytes
    least: int
    pattern: re.Pattern[bytes]
    accepts: Callable[[bytes], bool]


def replace(texts: pa.LargeStringArray, switches: Switches) -> Replaced:
    """Replaces the personal data in texts [n]; the same object where there is none.

    Kind by kind, each in what the one before has left, so none overlap.
    """
    data, edges = views(texts)
    counts: Counter[str] = Counter()
    for kind, find in _finders(switches):
        found = [*find(data, edges)]
        if found:
            counts[kind] = len(found)
            data, edges = _rebuilt(data, edges, found, REPLACEMENTS[kind])
    return Replaced(array_of(data, edges) if counts else texts, counts)


def _emails(data: np.ndarray, edges: np.ndarray) -> Iterator[Match]:
    """Yields the addresses around each @."""
    places = edges[0] + np.flatnonzero(data[edges[0] : edges[-1]] == _AT)
    owners = np.searchsorted(edges, places, side="right")
    for at, first, last in zip(
        places.tolist(), edges[owners - 1].tolist(), edges[owners].tolist(), strict=True
    ):
        before = data[max(first, at - _MOST_LOCAL - 2) : at].tobytes()
        rest = before.rstrip(_LOCAL)
        local = before[len(rest) :].lstrip(_LOCAL_MARKS)
        # `user@host@other` is one address at most, the first.
        if rest.endswith(b"@") or not 0 < len(local) <= _MOST_LOCAL:
            continue
        after = data[at + 1 : min(last, at + _MOST_DOMAIN)].tobytes()
        domain = _DOMAIN.match(after)
        if domain is None or _RESERVED_DOMAIN.match(domain[0]):
            continue
        if local[-1:] not in b".%" and not _PATH.match(after, domain.end()):
            yield at - len(local), at + 1 + domain.end()


def _matches(search: _Search, data: np.ndarray, edges: np.ndarray) -> Iterator[Match]:
    """Yields what a search finds, each document by itself."""
    most = int(edges[-1] - edges[0]) // search.least + 1
    starts, ends = np.empty(most, np.int64), np.empty(most, np.int64)
    member, counted = _table(search.member), _table(search.counted)
    count = _runs(data, edges, member, counted, search.least, starts, ends)
    owners = np.searchsorted(edges, starts[:count], side="right")
    for start, end, first, last in zip(
        starts[:count].tolist(),
        ends[:count].tolist(),
        edges[owners - 1].tolist(),
        edges[owners].tolist(),
        strict=True,
    ):
        # With the two bytes on either side that the patterns look at.
        start, end = max(first, start - 2), min(last, end + 2)
        for found in search.pattern.finditer(data[start:end].tobytes()):
            if search.accepts(found[0]):
                yield start + found.start(), start + found.end()


@compiled
def _runs(
    data: np.ndarray,
    edges: np.ndarray,
    member: np.ndarray,
    counted: np.ndarray,
    least: int,
    starts: np.ndarray,
    ends: np.ndarray,
) -> int:
    """Fills starts and ends with the runs of member bytes, and returns how many.

    Args:
        data: bytes, uint8.
        edges: where documents begin and end, int64 [n + 1]; no run crosses one.
        member: which bytes a run consists of, bool [256].
        counted: which of them count, uint8 [256] of 0 and 1.
        least: how many of those a run needs.
        starts: int64, at least bytes / least + 1 long.
        ends: likewise.
    """
    count = 0
    for document in range(len(edges) - 1):
        start, seen = edges[document], 0
        for at in range(edges[document], edges[document + 1]):
            byte = data[at]
            if member[byte]:
                seen += counted[byte]
                continue
            if seen >= least:
                starts[count], ends[count] = start, at
                count += 1
            start, seen = at + 1, 0
        if seen >= least:
            starts[count], ends[count] = start, edges[document + 1]
            count += 1
    return count


def _table(members: bytes) -> np.ndarray:
    """Returns 1 for each of some bytes and 0 for the others, uint8 [256]."""
    table = np.zeros(256, np.uint8)
    table[np.frombuffer(members, np.uint8)] = 1
    return table


def _is_phone(number: bytes) -> bool:
    digits = bytes(byte for byte in number if byte in _DIGITS)
    return (
        _LEAST_DIGITS <= len(digits) <= _MOST_DIGITS
        and not _DECIMAL.fullmatch(number)
        and not _FICTIONAL.fullmatch(digits)
    )


def _rebuilt(
    data: np.ndarray, edges: np.ndarray, matches: list[Match], replacement: bytes
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (data, edges) of the texts with the matches, in order, replaced."""
    rebuilt = bytearray()  # grows in place: a text may be huge
    done = int(edges[0])
    for start, end in matches:
        rebuilt += data[done:start].data
        rebuilt += replacement
        done = end
    rebuilt += data[done : edges[-1]].data
    starts, ends = np.array(matches, np.int64).T
    grown = np.concatenate([[0], np.cumsum(len(replacement) - (ends - starts))])
    moved = edges - edges[0] + grown[np.searchsorted(ends, edges, side="right")]
    return np.frombuffer(rebuilt, np.uint8), moved


def _finders(switches: Switches) -> list[tuple[str, Find]]:
    """Returns the kinds that are switched on, and what finds each, in order."""
    finders: list[tuple[str, Find]] = []
    if switches.emails:
        finders.append(("email", _emails))
    searches = [_IPV4_SEARCH, _IPV6_SEARCH] if switches.ip_addresses else []
    searches += [_PHONE_SEARCH] if switches.phones else []
    for search in searches:
        finders.append((search.kind, functools.partial(_matches, search)))
    return finders


_IPV4_SEARCH = _Search(
    "ipv4", _DIGITS + b".", b".", 3, _IPV4, lambda found: is_public_v4(found.decode())
)
_IPV6_SEARCH = _Search(
    "ipv6", _HEX_DIGITS + b":", b":", 2, _IPV6, lambda f: is_public_v6(f.decode())
)
_PHONE_SEARCH = _Search(
    "phone", _DIGITS + b"+() .-", _DIGITS, _LEAST_DIGITS, _PHONE, _is_phone
)
