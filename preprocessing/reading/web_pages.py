# SPDX-License-Identifier: Apache-2.0
"""The main text of a web page: its character set, its depth, its content.

resiliparse does the work: uchardet finds an undeclared character set, lexbor parses,
and rules find the main content (navigation, banners and side bars are left out).
Measured on one core: 24 MB/s of HTML, 0.8 ms a page (3,302 pages of a manual in 26
languages); 160 MB of memory for a page of 8 MB.
"""

import codecs
import re

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

# A parsed page takes 20 times its size. Common Crawl cuts pages at 1 MB, 5 MB of late.
MAX_PAGE_BYTES = 8 << 20
# Time grows with the square of the depth: 11 ms at 1,000, 0.9 s at 10,000, and 12 s at
# 30,000 elements. Browsers stop nesting at 512 (Blink's limit).
_MAX_DEPTH = 1000
# Where a page may declare its character set (HTML, 13.2.3.2), and how.
_META_WITHIN = 1024
_META = re.compile(rb"<meta[^>]*charset\s*=\s*[\"']?\s*([\w:.-]+)", re.ASCII | re.I)
_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*)")
# Elements that hold nothing, or that the next of their kind closes (HTML, 13.1.2).
_SHALLOW = frozenset(
    (
        *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta"),
        *("source", "track", "wbr", "p", "li", "dt", "dd", "option", "optgroup"),
        *("tr", "td", "th", "thead", "tbody", "tfoot", "rt", "rp"),
    )
)


class UnreadablePage(Exception):
    """A page that has no text to give; `reason` is the reject's."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def page_text(page: bytes, charset: str | None, most: int = MAX_PAGE_BYTES) -> str:
    """Returns the main text of an HTML page, paragraphs on lines of their own.

    Args:
        page: the page as it was sent, without any compression.
        charset: the character set that the HTTP header declares, if it does.
        most: bytes of a page that is parsed at all.

    Raises:
        UnreadablePage: too large, nested too deep, or of no character set that fits.
    """
    if len(page) > most:
        detail = f"a page of {len(page)} bytes, limit {most}"
        raise UnreadablePage("too_large", detail)
    html = _decoded(page, charset)
    if html.count("<") > 2 * _MAX_DEPTH and _depth(html) > _MAX_DEPTH:
        detail = f"elements nested deeper than {_MAX_DEPTH}"
        raise UnreadablePage("malformed_html", detail)
    return str(extract_plain_text(html, preserve_formatting=True, main_content=True))


def _decoded(page: bytes, charset: str | None) -> str:
    """Decodes a page by the first character set that fits.

    UTF-8 comes first, whatever is declared: text in another set is hardly ever valid
    UTF-8, and servers declare Latin-1 for all they send. Then what the header and the
    page declare; a guess is made only where neither does, since one bad byte in UTF-8
    makes uchardet guess Latin-1. Nothing is replaced or ignored, except that a page cut
    in the middle of a character loses that character.
    """
    declared = [charset] if charset else []
    declared += [name.decode() for name in _META.findall(page[:_META_WITHIN])]
    names = [map_encoding_to_html5(name) or name for name in declared]
    if not names:
        names = [detect_encoding(page) or "utf-8"]
    if not page.isascii():  # as ISO-2022-JP is
        names.insert(0, "utf-8")
    for name in names:
        try:
            text = codecs.getincrementaldecoder(name)().decode(page)
        except (UnicodeDecodeError, LookupError):
            continue
        return str(text).removeprefix("\ufeff")
    detail = f"not {' or '.join(dict.fromkeys(names))}"
    raise UnreadablePage("invalid_utf8", detail)


def _depth(html: str) -> int:
    """Returns how many elements are open at most, by a count of tags alone."""
    depth = deepest = 0
    for close, name in _TAG.findall(html):
        if name.lower() not in _SHALLOW:
            depth = max(0, depth - 1) if close else depth + 1
            deepest = max(deepest, depth)
    return deepest
