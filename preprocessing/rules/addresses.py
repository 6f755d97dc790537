# SPDX-License-Identifier: Apache-2.0
"""Block and allow lists of web addresses: domains and beginnings of URLs.

A list is a text file with one entry a line; # starts a comment. An entry without a
path is a domain, and means its subdomains too; one with a path means the addresses that
begin so, up to a /, ? or #:

    example.com            example.com, news.example.com, not badexample.com
    example.org/forum      example.org/forum, example.org/forum/9, not /forums

Schemes, a leading www., user names, ports, a last / and the case of the host are
ignored; hosts in other scripts are those that they are written as (UTS 46, as browsers
do). Domains may be spelled as other lists have them, and whatever says more than one is
refused with its line:

    *.example.com  .example.com  *://*.example.com/*    domains of match patterns
    0.0.0.0 example.com                                 a line of a hosts file
    ||example.com^                                      a filter of ad blockers
"""

import ipaddress
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import idna
import pyarrow as pa

from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.rules.verdicts import Failure

_PATH_ENDS = "/?#"
_SHOWN = 200  # characters of an address: some carry whole pages
# scheme :// user @ (host) : port (path, query and fragment), as RFC 3986 splits them.
_ADDRESS = re.compile(
    r"(?:(?:[a-zA-Z][a-zA-Z0-9+.-]*:)?//)?(?:[^/?#]*@)?"
    r"(\[[^]]*\]|[^/?#:]*)(?::\d*)?(.*)",
    re.DOTALL,
)
# What most lines of long lists are: spelled as entries are already.
_PLAIN = re.compile(r"(?!www\.)[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.[a-z][a-z0-9-]*")
_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")
_COMMENT = re.compile(r"[#!;]|\[ad-?block|\[ublock", re.IGNORECASE)
_AD_FILTER = re.compile(r"\|\|([^/|^$*]+)\^?")
_ANY_HOST = re.compile(r"((?:\*|[a-zA-Z][a-zA-Z0-9+.-]*)://)?\*?\.(?=[^/.])")
# What hosts files call the machine itself and its network.
_LOCAL_NAMES = """
    0.0.0.0 broadcasthost ip6-allhosts ip6-allnodes ip6-allrouters ip6-localhost
    ip6-localnet ip6-loopback ip6-mcastprefix local localhost localhost.localdomain
"""


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
                lines = file.read().decode().split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"wanted a list of addresses in {path}, found {error}. "
                "Name a text file with one domain or URL a line"
            ) from error
        found = set(itertools.chain.from_iterable(map(_entries, lines)))
        if "" in found:
            number = next(n for n, line in enumerate(lines, 1) if "" in _entries(line))
            raise UsageError(
                f"wanted a domain or the beginning of a URL on line {number} of "
                f"{path}, found '{lines[number - 1].strip()}'. Write one a line, "
                "comments behind #; of wildcards, *.example.org alone is known"
            )
        if not found:
            raise UsageError(
                f"wanted a domain or URL a line in {path}, found none. "
                "Fill the list or leave it out"
            )
        entries |= found
    return AddressList(frozenset(entries))


def _entries(line: str) -> Sequence[str]:
    """Returns a line's entries; among them an empty one if something is no address."""
    if _PLAIN.fullmatch(line):
        return (line,)
    # A mark of UTF-8 also stands in the middle of lists that were joined.
    line = line.removeprefix("\ufeff").strip()
    if not line or _COMMENT.match(line):
        return ()
    # In a URL # begins the fragment, so a comment behind an entry needs a blank.
    first, *more = itertools.takewhile(lambda word: word[0] != "#", line.split())
    if not more:
        return (_entry(first),)
    if not _is_ip(first):
        return ("",)
    local = _LOCAL_NAMES.split()
    return [_entry(name) for name in more if name.lower() not in local]


def _entry(text: str) -> str:
    """Returns an entry as `_normal` spells it, or nothing if it is no address."""
    if filtered := _AD_FILTER.fullmatch(text):
        text = filtered[1]
    bare = _ANY_HOST.sub("", text, count=1) if _ANY_HOST.match(text) else text
    any_host = bare != text
    bare = bare.removeprefix("*://").removesuffix("/*")
    host, rest = _normal(bare)
    wrong = (
        not _HOST.fullmatch(host)
        or rest[:1] not in ("", *_PATH_ENDS)
        or (rest and any_host)  # of which of the hosts?
        or "*" in rest
        or rest.startswith(("##", "#@", "#?", "#$"))  # what ad blockers hide on a page
    )
    return "" if wrong else host + rest


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


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
            words = f"{url[:_SHOWN]} is under {entry} of the block list"
            failures.append(Failure(place, "block", url, entry, words))
        elif lists.allow is not None and not _match(url, lists.allow):
            words = f"{url[:_SHOWN]} is not on the allow list"
            wanted = "an address on the list"
            failures.append(Failure(place, "allow", url, wanted, words))
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
    host, rest = found[1].lower(), found[2]
    if "%" in host:
        host = unquote(host).lower()
    if not host.isascii():
        host = _in_ascii(host)
    host = host.rstrip(".")
    # www.com is a domain like any other, and not all of .com.
    if host.startswith("www.") and "." in host[4:]:
        host = host[4:]
    if host.startswith("["):
        host = _one_spelling(host)
    return host, rest.removesuffix("/")


def _in_ascii(host: str) -> str:
    """Returns a host as the name system spells it, or as it is where that fails.

    As browsers do (UTS 46, not transitional): unlike IDNA 2003 they keep ß, and unlike
    IDNA 2008 they know emoji.
    """
    try:
        labels = idna.uts46_remap(host, std3_rules=False).split(".")
        return ".".join(map(_in_punycode, labels))
    except (UnicodeError, idna.IDNAError):
        return host


def _in_punycode(label: str) -> str:
    return label if label.isascii() else f"xn--{label.encode('punycode').decode()}"


def _one_spelling(host: str) -> str:
    """Returns an address of IP version 6 in its shortest form, if it is one."""
    try:
        return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    except ValueError:
        return host
