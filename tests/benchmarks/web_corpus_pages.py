# SPDX-License-Identifier: Apache-2.0
"""The pages of a Debian package as plain text: HTML, manuals, Mallard, DocBook.

Simple on purpose: the text has to read like the web's, not to be complete.
"""

import gzip
import html
import re
import subprocess
import tarfile
from pathlib import Path
from typing import NamedTuple

from resiliparse.extract.html2text import extract_plain_text

LARGEST = 1 << 20
_CODES = (
    "ar be bg bn bs ca cs da de el en eo es et eu fa fi fr gl gu he hi hr hu id is it "
    "ja ka km kn ko lt lv mk ml mr nb nl nn oc pa pl pt ro ru si sk sl sq sr sv ta te "
    "th tr uk vi zh"
)
LANGUAGES = set(_CODES.split())
_CODE = re.compile(r"([a-z]{2})(?:[-_@.][A-Za-z0-9@.-]+)?$")
_IN_NAME = re.compile(r"\.([a-z]{2})(?:_[A-Z]{2})?\.html$")
_OF_PACKAGE = re.compile(r"-([a-z]{2})(?:-[a-z]{2,3})?$")
# Between the share directory and the files, English manuals have directories named so.
_NOT_CODES = {"it", "is", "si", "id"}
_INFO = re.compile(
    r"<!--.*?-->|<(info|bookinfo|\w*index\w*)\b.*?</\1>|<!DOCTYPE.*?>", re.S
)
_BLOCK = re.compile(
    r"</?(p|para|title|item|section|screen|code|td|row|note|desc)\b[^>]*>"
)
_TAG = re.compile(r"<[^>]*>")
_ENTITY = re.compile(r"&([a-z-]+);")
_ROFF_ESCAPE = re.compile(r"\\f(?:\[\w*\]|\(\w\w|\w)|\\s[-+]?\d|\\[&/,|^:%]")
_ROFF_MACRO = re.compile(
    r"[.'](?:SH|SS|B|I|BR|RB|IR|RI|BI|IB|TP|SM|Nm|Nd|Sh|Ss)\b\s*(.*)"
)
_ROFF_SIGNS = {"\\-": "-", "\\(aq": "'", "\\(dq": '"', "\\(bu": "•", "\\(em": "—"}
_ROFF_SIGNS |= {"\\(lq": "“", "\\(rq": "”", "\\e": "\\", "\\ ": " ", "\\~": " "}


class Page(NamedTuple):
    """A page as a package holds it: its path there, and its bytes."""

    place: str
    data: bytes


def pages(archive: Path) -> list[Page]:
    """Returns a package's pages; links to others and pages above `LARGEST` are not.

    The package is read as a stream: unpacked, its files cost more than they hold.
    """
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    found = []
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as members,
    ):
        for member in members:
            place = member.name.removeprefix("./")
            if member.isfile() and _kind(place) and member.size <= LARGEST:
                file = members.extractfile(member)
                assert file is not None
                found.append(Page(place, file.read()))
    return found


def text_of(page: Page) -> str:
    """Returns a page's text."""
    return _TEXTS[_kind(page.place)](page.data)


def _kind(place: str) -> str:
    if place.endswith((".html", ".htm")):
        return "html"
    if place.endswith((".page", ".docbook")):
        return "xml"
    return "manual" if "/man/" in place and place.endswith(".gz") else ""


def language_of(package: str, place: str) -> str:
    """Returns the ISO 639-1 code that a page's path or package names, else "en"."""
    in_name = _IN_NAME.search(place)
    if in_name and in_name[1] in LANGUAGES:
        return in_name[1]
    for directory in place.split("/")[2:-1]:
        code = _CODE.match(directory)
        if code and code[1] in LANGUAGES and code[1] not in _NOT_CODES:
            return code[1]
    of_package = _OF_PACKAGE.search(package.removesuffix("-dev"))
    if of_package and of_package[1] in LANGUAGES:
        return of_package[1]
    return "en"


def _html_text(data: bytes) -> str:
    page = data.decode("utf-8", errors="replace")
    text = extract_plain_text(
        page,
        main_content=True,
        alt_texts=False,
        links=False,
        form_fields=False,
        noscript=False,
    )
    return re.sub(r"\n{3,}", "\n\n", text).replace("�", "")


def _xml_text(data: bytes) -> str:
    page = _INFO.sub("", data.decode("utf-8", errors="replace"))
    marked = _TAG.sub(" ", _BLOCK.sub("\0", page))
    paragraphs = (" ".join(part.split()) for part in marked.split("\0"))
    text = "\n\n".join(part for part in paragraphs if part)
    return html.unescape(_ENTITY.sub(_entity, text))


def _entity(match: re.Match[str]) -> str:
    """Returns what stands for an entity: its name, where HTML does not know it."""
    known = html.unescape(match[0])
    return match[1] if known == match[0] else match[0]


def _manual_text(data: bytes) -> str:
    paragraphs: list[list[str]] = [[]]
    source = gzip.decompress(data).decode("utf-8", errors="replace")
    for line in source.splitlines():
        if line.startswith(
            (".SH", ".SS", ".TP", ".PP", ".P", ".IP", ".LP", ".Sh", ".Pp")
        ):
            paragraphs.append([])
        macro = _ROFF_MACRO.match(line)
        if macro:
            line = macro[1].replace('"', "")
        elif line[:1] in (".", "'") or line.startswith('\\"'):
            continue
        paragraphs[-1].append(_ROFF_ESCAPE.sub("", line))
    text = "\n\n".join(" ".join(lines).strip() for lines in paragraphs if any(lines))
    for sign, plain in _ROFF_SIGNS.items():
        text = text.replace(sign, plain)
    return re.sub(r"\\\[u([0-9A-F]{4})\]", lambda code: chr(int(code[1], 16)), text)


_TEXTS = {"html": _html_text, "xml": _xml_text, "manual": _manual_text}
