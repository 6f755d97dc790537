# SPDX-License-Identifier: Apache-2.0
"""The main text of a web page: its depth, its content.

resiliparse does the work: lexbor parses, and rules find the main content (navigation,
banners and side bars are left out).
Measured on one core: 24 MB/s of HTML, 0.8 ms a page (3,302 pages of a manual in 26
languages); 160 MB of memory for a page of 8 MB.
"""

import re

from resiliparse.extract.html2text import extract_plain_text

from preprocessing.web.page_charsets import UnknownCharset, page_decoded

# A parsed page takes 20 times its size. Common Crawl cuts pages at 1 MB, 5 MB of late.
MAX_PAGE_BYTES = 8 << 20
# Time grows with the square of the depth: 11 ms at 1,000, 0.9 s at 10,000, and 12 s at
# 30,000 elements. Browsers stop nesting at 512 (Blink's limit).
_MAX_DEPTH = 1000
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
    try:
        html = page_decoded(page, charset)
    except UnknownCharset as unknown:
        raise UnreadablePage(unknown.reason, unknown.detail) from None
    if html.count("<") > 2 * _MAX_DEPTH and _depth(html) > _MAX_DEPTH:
        detail = f"elements nested deeper than {_MAX_DEPTH}"
        raise UnreadablePage("malformed_html", detail)
    return str(extract_plain_text(html, preserve_formatting=True, main_content=True))


def _depth(html: str) -> int:
    """Returns how many elements are open at most, by a count of tags alone."""
    depth = deepest = 0
    for close, name in _TAG.findall(html):
        if name.lower() not in _SHALLOW:
            depth = max(0, depth - 1) if close else depth + 1
            deepest = max(deepest, depth)
    return deepest
