# SPDX-License-Identifier: Apache-2.0
"""The character set of a web page, sniffed as browsers do, and its text.

The order is that of HTML, 13.2.3: a byte order mark decides; then what the HTTP header
says, what the page says in its `<meta>` or XML declaration, and where neither says
anything, a guess by uchardet. Two habits of the web come before the standard: text that
is valid UTF-8 is UTF-8, whatever its server declares, and a set that some bytes have no
meaning in is not the page's, where a browser would show U+FFFD. Nothing is replaced or
ignored.
"""

import re

from resiliparse.parse.encoding import detect_encoding
from webencodings import LABELS

from preprocessing.web.charset_codecs import MULTI_BYTE, decode

_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16le", b"\xfe\xff": "utf-16be"}
# What an encoding may be declared in: 1,024 bytes, and the rest of a longer head, as
# browsers find it while they parse.
_HEAD, _LONGEST_HEAD = 1024, 1 << 18
_HEAD_ENDS = re.compile(rb"<(?:/head|body)[\t\n\f\r />]", re.I)
_SPACE = rb"[\t\n\f\r ]*"
_META = re.compile(rb"<meta[\t\n\f\r /]", re.I)
_ELEMENT = re.compile(rb"</?[a-z][^\t\n\f\r >]*", re.I)
_ATTRIBUTE = re.compile(
    rb"[\t\n\f\r /]*([^\t\n\f\r />][^\t\n\f\r />=]*)(?:" + _SPACE + b"=" + _SPACE +
    rb"(?:\"([^\"]*)\"|'([^']*)'|([\"'])|([^\t\n\f\r >]*)))?"
)  # fmt: skip
_CHARSET_IN_CONTENT = re.compile(
    rb"charset" + _SPACE + b"=" + _SPACE +
    rb"(?:\"([^\"]*)\"|'([^']*)'|([^\"'\t\n\f\r ;][^\t\n\f\r ;]*)?)", re.I
)  # fmt: skip
_XML = re.compile(
    rb"<\?xml[^>]*?encoding[\0- ]*=[\0- ]*(?:\"([^\"\0- >]*)\"|'([^'\0- >]*)')"
)
# Tags, in UTF-16 without a mark; browsers know `<?x` alone.
_TAG_IN_UTF_16 = re.compile(rb"(?:[\t\n\r ]\0)*(<\0)|(?:\0[\t\n\r ])*\0<")
_TAG_ENDS = re.compile(rb"[\t\n\f\r /]*>")
# Names of guesses that are no labels of the standard.
_GUESSES = {
    "euc_jp": "euc-jp",
    "euc_kr": "euc-kr",
    "hz": "replacement",
    "iso2022_jp": "iso-2022-jp",
    "iso2022_kr": "replacement",
    "mac-cyrillic": "x-mac-cyrillic",
    "uhc": "euc-kr",
}
# The share of control characters from which bytes are no text. Compressed bytes have
# 10 %, and a set of single bytes gives them all a meaning.
_MOST_CONTROLS = 0.01
_CONTROLS = bytes((*range(9), 11, *range(14, 27), *range(28, 32)))
# What leads from ASCII to other characters: ISO-2022's escape, HZ's, UTF-16's zeros.
_BEYOND_ASCII = (b"\x1b", b"~{", b"\0")
# Text of a double-byte set is valid UTF-8 by chance in one of seven characters at most,
# measured over GB 2312; so four make a chance of 1 in 2,000.
_SURELY = 4
_NOT_ASCII = bytes(range(0x80, 0x100))


class UnknownCharset(Exception):
    """A page of no character set that fits; `reason` is the reject's."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def page_decoded(page: bytes, header: str | None) -> str:
    """Returns the page's characters, without a byte order mark.

    Args:
        page: its bytes.
        header: the label that the HTTP header declares, if it does.

    Raises:
        UnknownCharset: the bytes are no text, or of none of its sets.
    """
    for mark, charset in _MARKS.items():
        if page.startswith(mark):
            return _first_that_fits(page[len(mark) :], [charset])
    if page.isascii() and not any(sign in page for sign in _BEYOND_ASCII):
        return page.decode()  # in every set of the standard
    strays, characters = _as_utf_8(page)
    if not strays and characters >= _SURELY and b"\0" not in page:
        return _first_that_fits(page, ["utf-8"])
    names = _declared(page, header)
    if not any(name.startswith("utf-16") for name in names):
        controls = len(page) - len(page.translate(None, _CONTROLS))
        if controls > max(_SURELY, _MOST_CONTROLS * len(page)):
            detail = f"{controls} of {len(page)} bytes are control characters"
            raise UnknownCharset("not_text", detail)
        if characters > max(_SURELY, 10 * strays):
            # Damaged UTF-8, which every set of single bytes would turn into rubbish.
            names = [name for name in names if name in MULTI_BYTE] or ["utf-8"]
        elif not strays and characters:
            few = [name for name in names if name in MULTI_BYTE]
            names = [*few, "utf-8"]
    return _first_that_fits(page, names or [_guess(page)])


def _first_that_fits(page: bytes, names: list[str]) -> str:
    for name in names:
        try:
            return decode(page, name).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
    raise UnknownCharset("invalid_utf8", f"not {' or '.join(dict.fromkeys(names))}")


def _as_utf_8(page: bytes) -> tuple[int, int]:
    """Returns how many places are no UTF-8, and how many characters beyond ASCII are.

    A character that the page's end cuts off is no stray.
    """
    text = page.decode("utf-8", "replace")
    strays = text.count("\ufffd") - page.count("\ufffd".encode())
    beyond = len(text) - len(page.translate(None, _NOT_ASCII)) - strays
    if strays == 1 and text.endswith("\ufffd"):
        strays = 0
    return strays, beyond


def _guess(page: bytes) -> str:
    """Returns the set that the bytes look like; UTF-8 where they look like none."""
    name = (detect_encoding(page, html5_compatible=False) or "").lower()
    return _charset(_GUESSES.get(name, name)) or "utf-8"


def _charset(label: str | bytes | None) -> str | None:
    """Returns the set that a label names; None for a label that is none.

    Quotes around it and what follows a `;` or `,` are no part of it: servers and pages
    write `charset="utf-8";` in all variations.
    """
    if label is None:
        return None
    text = label.decode("latin-1") if isinstance(label, bytes) else label
    text = text.strip("\t\n\f\r \"'")
    text = re.split("[;,]", text)[0].strip("\t\n\f\r \"'").lower()
    return LABELS.get(text)


def _declared(page: bytes, header: str | None) -> list[str]:
    """Returns the sets that are declared, those first that count more."""
    if tag := _TAG_IN_UTF_16.match(page):
        return ["utf-16le" if tag[1] else "utf-16be"]
    found = [_charset(header), _of_the_page(page)]
    names = [name for name in found if name]
    if b"\0" not in page[:_HEAD]:  # tags in UTF-16 have a zero in each character
        names = [name for name in names if not name.startswith("utf-16")]
    return names


def _of_the_page(page: bytes) -> str | None:
    """Returns the set that a page declares in itself."""
    end = _HEAD_ENDS.search(page, 0, _LONGEST_HEAD)
    head = page[: max(_HEAD, end.start() + 1 if end else 0)]
    xml = _XML.match(head)
    found = _prescan(head) or (_charset(xml[1] or xml[2]) if xml else None)
    if found in ("utf-16le", "utf-16be"):
        return "utf-8"  # who could read the declaration has read no UTF-16
    return "windows-1252" if found == "x-user-defined" else found


def _prescan(head: bytes) -> str | None:
    """Returns the set of the first `<meta>` that declares one, outside comments."""
    at = head.find(b"<")
    while at >= 0:
        if head.startswith(b"<!--", at):
            at = head.find(b"-->", at + 2) + 2
            if at < 2:
                return None
        elif tag := _META.match(head, at) or _ELEMENT.match(head, at):
            attributes, at = _attributes(head, tag.end())
            if attributes is None:
                return None
            if tag.re is _META and (found := _declared_by(attributes)):
                return found
        elif head[at + 1 : at + 2] in (b"!", b"/", b"?"):
            at = head.find(b">", at)
            if at < 0:
                return None
        at = head.find(b"<", at + 1)
    return None


def _attributes(head: bytes, at: int) -> tuple[dict[bytes, bytes] | None, int]:
    """Returns a tag's attributes, None where it breaks off, and where it ends."""
    found: dict[bytes, bytes] = {}
    while attribute := _ATTRIBUTE.match(head, at):
        at = attribute.end()
        name, double, single, open_quote, bare = attribute.groups()
        if open_quote:
            return None, at
        found.setdefault(name.lower(), double or single or bare or b"")
    ends = _TAG_ENDS.match(head, at)
    return (found, ends.end() - 1) if ends else (None, at)


def _declared_by(attributes: dict[bytes, bytes]) -> str | None:
    """Returns the set that a `<meta>` declares."""
    if found := _charset(attributes.get(b"charset")):
        return found
    if attributes.get(b"http-equiv", b"").lower() != b"content-type":
        return None
    label = _CHARSET_IN_CONTENT.search(attributes.get(b"content", b""))
    return _charset(label[1] or label[2] or label[3]) if label else None
