# SPDX-License-Identifier: Apache-2.0
"""Block and allow lists of web addresses: domains and beginnings of URLs.

A list is a text file with one entry a line; # starts a comment. An entry without a
path is a domain, and means its subdomains too; one with a path means the addresses that
begin so, up to a /, ? or #:

    example.com            example.com, news.example.com, not badexample.com
    example.org/forum      example.org/forum, example.org/forum/9, not /forums

Schemes, a leading www., user names, ports, a last / and the case of the host are
ignored.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.rules.verdicts import Failure

_PATH_ENDS = "/?#"
# scheme :// user @ (host) : port (path, query and fragment), as RFC 3986 splits them.
_ADDRESS = re.compile(
    r"(?:(?:[a-zA-Z][a-zA-Z0-9+.-]*:)?//)?(?:[^/?#]*@)?"
    r"(\[[^]]*\]|[^/?#:]*)(?::\d*)?(.*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class AddressList:
    """Entries in the form that `_normal` gives, domains and beginnings of URLs."""

    entries: frozenset[str]


@dataclass(frozen=True)
class AddressLists:
    """What is rejected: what `block` holds, and what `allow`, if given, does not."""

    block: AddressList | None = None
    allow: AddressList | None = None


def read_list(paths: Sequence[str]) -> AddressList:
    """Reads the entries of files, local or cloud, into one list.

    Raises:
        UsageError: a file cannot be read, is not UTF-8, or holds no entry; or an entry
            is no address.
    """
    entries: set[str] = set()
    for path in paths:
        try:
            with storage.open_input(path) as file:
                lines = file.read().decode("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"wanted a list of addresses in {path}, found {error}. "
                "Name a text file with one domain or URL a line"
            ) from error
        found = {_entry(line, number, path) for number, line in enumerate(lines, 1)}
        found.discard("")
        if not found:
            raise UsageError(
                f"wanted a domain or URL a line in {path}, found none. "
                "Fill the list or leave it out"
            )
        entries |= found
    return AddressList(frozenset(entries))


def _entry(line: str, number: int, path: str) -> str:
    """Returns a line's entry, or nothing for a blank one or a comment."""
    # In a URL # begins the fragment, so a comment behind an entry needs a blank.
    entry, *comment = line.split() or ["#"]
    if entry.startswith("#"):
        return ""
    host, rest = _normal(entry)
    if not host or (comment and not comment[0].startswith("#")):
        raise UsageError(
            f"wanted a domain or URL on line {number} of {path}, found "
            f"'{line.strip()}'. Write one a line, comments behind #"
        )
    return host + rest


def judge(urls: pa.LargeStringArray, lists: AddressLists) -> list[Failure]:
    """Returns which documents the lists reject, by their URLs [n] with nulls.

    A document without a URL passes: `count_without` says how many do. Costs about
    4 us a document, whatever the lists' lengths.
    """
    failures = []
    for place, url in enumerate(urls.to_pylist()):
        if not url:
            continue
        if lists.block is not None and (entry := _match(url, lists.block)):
            failures.append(Failure(place, "block", url, entry))
        elif lists.allow is not None and not _match(url, lists.allow):
            failures.append(Failure(place, "allow", url, "an address on the list"))
    return failures


def count_without(urls: pa.LargeStringArray | None, count: int) -> int:
    """Returns how many of `count` documents have no URL."""
    return count if urls is None else sum(not url for url in urls.to_pylist())


def _match(url: str, addresses: AddressList) -> str | None:
    """Returns the entry that a URL falls under, the most general first."""
    entries = addresses.entries
    host, rest = _normal(url)
    for domain in _domains(host):
        if domain in entries:
            return domain
    for end in (at for at, letter in enumerate(rest) if at and letter in _PATH_ENDS):
        if host + rest[:end] in entries:
            return host + rest[:end]
    return host + rest if host + rest in entries else None


def _domains(host: str) -> Iterator[str]:
    """Yields the host and the domains above it, the highest first."""
    at = len(host)
    while (at := host.rfind(".", 0, at)) >= 0:
        yield host[at + 1 :]
    yield host


def _normal(url: str) -> tuple[str, str]:
    """Returns (host, rest) of an address, spelled as entries are."""
    found = _ADDRESS.match(url.strip())
    assert found  # every part may be empty
    host, rest = found[1].lower().rstrip(".").removeprefix("www."), found[2]
    if not host.isascii():
        host = _in_ascii(host)
    return host, rest.removesuffix("/")


def _in_ascii(host: str) -> str:
    """Returns a host as the name system spells it, or as it is where that fails."""
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host
