# SPDX-License-Identifier: Apache-2.0
"""Decodes the character sets of the web as browsers do (WHATWG Encoding).

Python's own codecs do the work; what the standard maps otherwise is mended around
them. The tables below are what a comparison with the standard's indexes left over: each
single byte, each pair, and the sequences of three and four, of all its sets.
"""

import codecs
import functools
import re

# Names of the standard to codecs of Python, where they differ.
_CODECS = {
    "big5": "big5hkscs",
    "euc-jp": "euc_jp",
    "euc-kr": "cp949",
    "gbk": "gb18030",
    "ibm866": "cp866",
    "iso-8859-8-i": "iso-8859-8",
    "macintosh": "mac_roman",
    "shift_jis": "cp932",
    "windows-874": "cp874",
    "x-mac-cyrillic": "mac_cyrillic",
}
MULTI_BYTE = frozenset(
    ("big5", "euc-jp", "euc-kr", "gb18030", "gbk", "iso-2022-jp", "shift_jis")
)
_UNICODE = frozenset(("utf-8", "utf-16le", "utf-16be"))
# Characters that a codec gives where the standard has another: each comes of one
# sequence of bytes and of no other, so that it can be exchanged afterwards.
_EXCHANGED = {
    "big5": str.maketrans("•､‾∼♁☉¥¢£", "‧﹑¯～⊕⊙￥￠￡"),
    "euc-jp": str.maketrans("〜‖−¢£¬", "～∥－￠￡￢"),
    "gb18030": str.maketrans(
        "\ue5e5\ue78d\ue78e\ue78f\ue790\ue791\ue792\ue793\ue794\ue795\ue796\ue7c7\u1e3f"
        "\ue81e\ue826\ue82b\ue82c\ue832\ue843\ue854\ue864",
        "\u3000︐︒︑︓︔︕︖︗︘︙\u1e3f\ue7c7龴龵龶龷龸龹龺龻",
    ),
}
# What Big5 of the standard (HKSCS of 2008, and ETEN's symbols) has beyond Python's.
_BIG5_RUNS = {
    0x877A: "㡵𡵓𣚞𦀡㻬",
    0x87A1: "𥣞㫵竼龗𤅡𨤍𣇪𠪊𣉞䌊蒄龖鐯䤰蘓墖靊鈘秐稲晠権袝瑌篅枂稬剏遆"
    "㓦珄𥶹瓆鿇垳䤯呌䄱𣚎堘穲𧭥讏䚮𦺈䆁𥶙箮𢒼鿈𢓁𢓉𢓌鿉蔄𣖻䂴鿊䓡𪷿拁灮鿋",
    0x92AF: "兙兛兝兞",
    0xA3C0: "".join(map(chr, range(0x2400, 0x2420))) + "\u2421€",
}
_BIG5_SINGLE = (
    "8e69箸 8e6f簆 8e7e糎 8eab緒 8eb4縝 8ecd者 8ed0耨 8f57菁 8f69蒨 8f6e萏 "
    "8fcb覦 8fcc覩 8ffe起 906d都 907a銹 90dc靜 90f1響 91bf鼖 9244蔃 92c8鍮 "
    "92d1瑹 9447浧 94ca禛 95d9邗 9644靝 96ed瀞 96fc嬨 9b76爁 9b78矗 9b7b纇 "
    "9bc6駖 9bde釔 9bec惞 9bf6澶 9c42輶 9c53侻 9c62營 9c68鄄 9c6b鷰 9c77菏 "
    "9cbc尐 9cbd秣 9cd0婧 9d57輋 9d5a筑 9dc4拐 9ea9恢 9eef痹 9efd汊 9f60鬮 "
    "9f66鼗 9fcb僭 9fd8弌 a063蠏 a077拎 a0d5瑨 a0df煢 a0e4牐 c6cf廴 c6d3无 "
    "c6d5癶 c6d7隶 c6de〃 c6df仝 fa5f倩 fa66偽 fabd包 fac5卄 fad5卿 fb48嘅 "
    "fbb8婷 fbf3幵 fbf9廐 fc4f彘 fc6c悤 fcb9撐 fce2晴 fcf1杞 fdb7沜 fdb8渝 "
    "fdbb港 fdf1煮 fe52猪 fe6f瑜 feaa瓩 fedd砉"
)
_BIG5_MORE = {
    (start + place).to_bytes(2, "big"): char
    for start, run in _BIG5_RUNS.items()
    for place, char in enumerate(run)
} | {bytes.fromhex(entry[:4]): entry[4:] for entry in _BIG5_SINGLE.split()}
# Two characters of Big5 that its codec takes for two others.
_BIG5_SAME = {b"\xa2A": "\u2215", b"\xa2B": "\ufe68"}
_BIG5_PAIR = re.compile(rb"[\x81-\xfe][\x40-\xfe]")
_ISO_2022_JP_ESCAPE = re.compile(rb"\x1b(\([BJI]|\$[@B])")
_FROM_33_TO_126 = bytes(b | 0x80 if 0x21 <= b <= 0x7E else 0xFF for b in range(256))
_FROM_33_TO_95 = bytes(b | 0x80 if 0x21 <= b <= 0x5F else 0x80 for b in range(256))
_LENIENT = "quern.preprocessing.charsets"


def decode(page: bytes, charset: str) -> str:
    """Decodes a page; one that is cut inside a character loses that character alone.

    Args:
        page: the bytes.
        charset: the set's name in the standard, in lower case.

    Raises:
        UnicodeDecodeError: a byte that has no meaning in the set, or a set without
            text, as `replacement`.
    """
    if charset in _UNICODE:
        name = charset.replace("utf-16", "utf-16-")
        return str(codecs.getincrementaldecoder(name)().decode(page))
    if charset == "big5":
        return _big5(page)
    if charset == "euc-jp":  # its one tilde of three bytes is the wave of two
        return _pairs(page.replace(b"\x8f\xa2\xb7", b"\xa1\xc1"), charset)
    if charset == "iso-2022-jp":
        return _iso_2022_jp(page)
    if charset == "shift_jis":
        text = _pairs(page, charset)
        # Bytes A0, FD, FE and FF: of Microsoft's code page alone.
        if any(char in text for char in "\uf8f0\uf8f1\uf8f2\uf8f3"):
            raise UnicodeDecodeError(charset, page, 0, 1, "an unused byte")
        return text
    if charset in MULTI_BYTE:
        return _pairs(page, charset)
    if charset == "replacement":
        raise UnicodeDecodeError(charset, page, 0, 1, "a set browsers refuse")
    return codecs.charmap_decode(page, "strict", _table(charset))[0]


@functools.cache
def _table(charset: str) -> str:
    """Returns the characters of the 256 bytes; U+FFFE stands for none."""
    if charset == "x-user-defined":
        return "".join(map(chr, (*range(0x80), *range(0xF780, 0xF800))))
    name, table = _CODECS.get(charset, charset), []
    for byte in range(256):
        try:
            table.append(bytes([byte]).decode(name))
        except UnicodeDecodeError:
            table.append(chr(byte) if 0x80 <= byte < 0xA0 else "\ufffe")
    if charset == "koi8-u":  # the standard's is KOI8-RU
        table[0xAE], table[0xBE] = "ў", "Ў"
    if charset == "windows-1255":
        table[0xCA] = "\u05ba"
    return "".join(table)


def _pairs(page: bytes, charset: str) -> str:
    """Decodes a set of two bytes and more by its codec, mended."""
    name = _CODECS.get(charset, charset)
    text = codecs.getincrementaldecoder(name)(_LENIENT).decode(page)
    exchanged = _EXCHANGED.get("gb18030" if charset == "gbk" else charset)
    if exchanged and any(chr(char) in text for char in exchanged):
        return text.translate(exchanged)
    return str(text)


def _mend(error: UnicodeError) -> tuple[str, int]:
    """Says what a codec of Python does not know, as its handler of errors."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    start = error.start
    pair = error.object[start : start + 2]
    if error.encoding == "gb18030" and pair[:1] == b"\x80":
        return "€", start + 1
    if error.encoding == "big5hkscs" and pair in _BIG5_MORE:
        return _BIG5_MORE[pair], start + 2
    if error.encoding == "euc_jp" and re.fullmatch(rb"[\xa1-\xfe]{2}", pair):
        row, cell = divmod((pair[0] - 0xA1) * 94 + pair[1] - 0xA1, 188)
        # The rows that NEC and IBM added, at their places in Microsoft's Shift_JIS.
        lead = row + (0x81 if row < 0x1F else 0xC1)
        moved = bytes([lead, cell + (0x40 if cell < 0x3F else 0x41)])
        try:
            return moved.decode("cp932"), start + 2
        except UnicodeDecodeError:
            raise error from None
    raise error


codecs.register_error(_LENIENT, _mend)


def _big5(page: bytes) -> str:
    text, at = [], 0
    if any(pair in page for pair in _BIG5_SAME):
        for found in _BIG5_PAIR.finditer(page):
            if found[0] in _BIG5_SAME:
                text += [_pairs(page[at : found.start()], "big5")]
                text += [_BIG5_SAME[found[0]]]
                at = found.end()
    return "".join([*text, _pairs(page[at:], "big5")])


def _iso_2022_jp(page: bytes) -> str:
    """Decodes runs of ASCII, Roman letters, katakana and kanji between escapes."""
    whole = re.sub(rb"\x1b[($]?\Z", b"", page)
    first, *rest = _ISO_2022_JP_ESCAPE.split(whole)
    text = [_plain(first)]
    for place in range(0, len(rest), 2):
        escape, run = rest[place : place + 2]
        if escape[:1] == b"$":
            text.append(_pairs(run.translate(_FROM_33_TO_126), "euc-jp"))
            if len(run) % 2 and place + 2 < len(rest):
                raise UnicodeDecodeError("iso-2022-jp", page, 0, 1, "half a character")
        elif escape == b"(I":
            text.append(run.translate(_FROM_33_TO_95).decode("shift_jis"))
        else:
            roman = {0x5C: "¥", 0x7E: "‾"} if escape == b"(J" else {}
            text.append(_plain(run).translate(roman))
    return "".join(text)


def _plain(run: bytes) -> str:
    text = run.decode("ascii")
    if any(char in text for char in "\x0e\x0f\x1b"):
        raise UnicodeDecodeError("iso-2022-jp", run, 0, 1, "a shift of another set")
    return text
