# SPDX-License-Identifier: Apache-2.0
"""Pages are decoded as browsers do: WHATWG Encoding, and HTML's order of sniffing."""

import gzip
import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.web.charset_codecs import MULTI_BYTE, decode
from preprocessing.web.web_pages import UnreadablePage, page_text

# The first 40 digits of the SHA-256 of `sequences` of each set, as @exodus/bytes 1.16
# decodes them: a library in JavaScript that carries the standard's own indexes.
STANDARD = {
    "big5": "87a9b2a7993009dfaf9cd56d15fcd8df17524c0a",
    "euc-jp": "2ff052a1448e9c2f0476fb43ae47b458473ddc55",
    "euc-kr": "97efb3c8f58d91709cb869018eb1ccc11d2edbde",
    "gb18030": "3eec86a8c482f0fa103e0471d2a3d99db6098798",
    "gbk": "0ff5ec5502feb4f6a39031a40c1a8cb126728933",
    "ibm866": "0752cda6635dc49b3aa48fce1a0af23581069639",
    "iso-8859-10": "2bf5701e287521b4cf6d9c912d38a26d95d4c68a",
    "iso-8859-13": "9d2f1e21549d0508ee2b3904e0aac2099d630a90",
    "iso-8859-14": "69197c686b6b006fb42bc285fdbcf40bc24f4d19",
    "iso-8859-15": "3195474a128196d76f0bd8b8862ec1605d307446",
    "iso-8859-16": "4e6a2e312e8bd2e506dc764c2305a904c47c0d5f",
    "iso-8859-2": "cb0f10a23e72b4e79ab92b6e47764b5d2e2edbbe",
    "iso-8859-3": "0de92015593c13f72dc9ce377dcea5fef96a7b46",
    "iso-8859-4": "426ad9db7a88b618fdcee8460668bc8420f5f1e0",
    "iso-8859-5": "43e25b9ed3f918f5012556ba41f807c556a7466f",
    "iso-8859-6": "605f4b4937c7248a4b65005a395f5bf402647665",
    "iso-8859-7": "125e14993f3a95642c87dfeda202d7bbf1736063",
    "iso-8859-8": "31851944bcb3d5805f7a5358ef2dd535749d6d7d",
    "iso-8859-8-i": "31851944bcb3d5805f7a5358ef2dd535749d6d7d",
    "koi8-r": "e3f3b2869507f1336933d1f99d82e9c5b9741bbd",
    "koi8-u": "1d619d5adc1668237e2478c4a05aebb4f7af8eb1",
    "macintosh": "6d473f24961cb315a852871841b61979453c7852",
    "shift_jis": "7a7fa8c4e04e7212595e66079c3849b020e68574",
    "windows-1250": "c4fd4a5bd00c02881565f19efdf1eadfafc65bed",
    "windows-1251": "c897b4ce507e707a85c78a2eeac6961a4755032e",
    "windows-1252": "61bf6c0e2890e030ad65a397f026cb9e8a76ff02",
    "windows-1253": "0ef34ea291cf7827cf893bf3d1650c4e9b14a2c9",
    "windows-1254": "6763c803fa221d9f1e54ea40ec154a1f4e5a5a01",
    "windows-1255": "f73867d3c41685754b11e4330d9746e02a9585a7",
    "windows-1256": "2594dd447eddaa3a627438b881a1ed275dc0f28a",
    "windows-1257": "a6c9a4e8af5f7f8a19f612b86451bbdb31b3708b",
    "windows-1258": "2a576663b43ba5112e6c7849fa0e262696a0b029",
    "windows-874": "4e9b5c40162d48b9a59294eee3f7c58b33bc0d9d",
    "x-mac-cyrillic": "fc767f33b6273a0bea902cf8e8289c3e64929596",
    "x-user-defined": "c7b8c49ffd55f54cdfe508f40f2ce15126a6ebce",
}
# Text of each set that the codec of its name in Python does not know.
WORDS = {
    "shift_jis": ("①髙島屋の日本語", "cp932"),
    "euc-kr": ("똠방각하 펲시콜라", "cp949"),
    "gb2312": ("镕基 € 㐀的", "gb18030"),
    "gbk": ("镕基 € 的", "gb18030"),
    "big5": ("恒生指數 港元裏嘅", "big5hkscs"),
    "iso-8859-1": ("“naïve” – 5 €", "cp1252"),
    "windows-1252": ("“naïve” – 5 €", "cp1252"),
    "iso-8859-11": ("“ภาษาไทย”", "cp874"),
    "koi8-u": ("Привіт", "koi8-u"),
    "iso-8859-8-i": ("שלום", "iso-8859-8"),
    "x-mac-cyrillic": ("Привет", "mac_cyrillic"),
    "iso-2022-jp": ("日本語 ｱｲｳ", "iso2022_jp_ext"),
}


def page(text, head=b""):
    return b"<html><head>%s</head><body><p>%s</p></body></html>" % (head, text)


def sequences(charset):
    """Yields the byte sequences that a set is compared by."""
    yield from (bytes([byte]) for byte in range(256))
    if charset not in MULTI_BYTE:
        return
    for lead in range(0x81, 0x100):
        for trail in range(256):
            if not (charset.startswith("gb") and 0x30 <= trail <= 0x39):
                yield bytes([lead, trail])
            if charset == "euc-jp" and lead >= 0xA1:
                yield bytes([0x8F, lead, trail])
    if charset == "gb18030":
        for number in range(0, 126 * 10 * 126 * 10, 61):
            rest, last = divmod(number, 10)
            rest, third = divmod(rest, 126)
            first, second = divmod(rest, 10)
            yield bytes([0x81 + first, 0x30 + second, 0x81 + third, 0x30 + last])


@pytest.mark.parametrize("charset", STANDARD)
def test_each_sequence_of_bytes_means_what_the_standard_says(charset):
    digest = hashlib.sha256()
    for sequence in sequences(charset):
        try:  # the line's end keeps a lead byte from waiting for more
            text = decode(sequence + b"\n", charset)[:-1]
        except UnicodeDecodeError:
            text = ""
        digest.update(f"{sequence.hex()} {text}\n".encode())
    assert digest.hexdigest()[:40] == STANDARD[charset]


@pytest.mark.parametrize("charset", WORDS)
@pytest.mark.parametrize(
    ("header", "head"),
    [
        ("{}", ""),
        (' "{}" ; q=1', ""),
        (None, '<meta charset="{}">'),
        (None, "<META/CHARSET = '{};'>"),
        (None, '<meta http-equiv=Content-Type content="text/html; charset={};">'),
        (None, '<meta content="charset=\'{}\'" x=y http-equiv="CONTENT-TYPE"/>'),
        (None, "<!-- <meta charset=koi8-r> --><meta charset={}>"),
        (None, '<a title="<meta charset=koi8-r>"></a><meta charset={}>'),
        (None, "<meta charset=none><meta charset={}>"),
        (None, "<script>" + "x;" * 3000 + "</script><meta charset={}>"),
        ("bogus", "<meta charset={}>"),
        ("utf-16", "<meta charset={}>"),
        ("{}", "<meta charset=koi8-r>"),
    ],
)
def test_a_page_is_read_as_its_label_says_wherever_it_stands(charset, header, head):
    words, codec = WORDS[charset]
    stored = page(words.encode(codec), head.format(charset).encode())
    header = header.format(charset.upper()) if header else None
    assert page_text(stored, header) == words


@pytest.mark.parametrize("header", ["windows-1252", "latin1", "ascii", None])
def test_bytes_that_windows_1252_leaves_out_cost_no_page(header):
    stored = page(b"caf\xe9 d\xe9j\xe0 vu \x81\x8d\x8f\x90\x9d x")
    assert page_text(stored, header) == "café déjà vu \x81\x8d\x8f\x90\x9d x"


@pytest.mark.parametrize(
    "label", ["utf-16", "utf-16le", "UTF-16BE", "unicode", "ucs-2"]
)
@pytest.mark.parametrize("words", ["hello world", "größe"])
def test_a_page_that_calls_itself_utf_16_is_utf_8(label, words):
    declares = f"<meta charset={label}>".encode()
    assert page_text(page(words.encode(), declares), None) == words
    assert page_text(page(words.encode()), label) == words


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-8"])
@pytest.mark.parametrize("header", [None, "iso-8859-1", "utf-8", "shift_jis"])
def test_a_byte_order_mark_counts_more_than_any_label(codec, header):
    stored = "\ufeff<html><meta charset=koi8-r><p>日本 größe".encode(codec)
    assert page_text(stored, header) == "日本 größe"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_read_where_header_or_zeros_say_so(codec):
    stored = "<html><p>größe 日本".encode(codec)
    assert page_text(stored, codec.replace("16-", "16")) == "größe 日本"
    assert page_text(stored, None) == "größe 日本"


def test_an_xml_declaration_is_a_label_too():
    stored = "<?xml version='1.0' encoding='windows-1251'?><html><p>Привет"
    assert page_text(stored.encode("cp1251"), None) == "Привет"


@pytest.mark.parametrize("label", ["gbk", "euc-kr", "big5", "shift_jis", "koi8-r"])
def test_utf_8_is_read_as_such_whatever_is_declared(label):
    words = "日本語 größe Привет"
    assert page_text(page(words.encode()), label) == words


def test_a_few_characters_that_might_be_utf_8_are_what_a_double_byte_label_says():
    stored = page(b"It is \xc2\xa1, \xc2\xa9.")
    assert page_text(stored, "gbk") == "It is 隆, 漏."
    assert (
        page_text(stored, "iso-8859-1") == "It is ¡, ©."
    )  # servers declare it for all


@pytest.mark.parametrize("header", [None, "iso-8859-1", "windows-1251"])
def test_damaged_utf_8_and_bytes_that_are_no_text_are_no_latin_1(header):
    with pytest.raises(UnreadablePage, match="not utf-8"):
        page_text(page("größe ".encode() * 9 + b"\xe9 x"), header)
    chance = random.Random(1)
    packed = gzip.compress(bytes(chance.randrange(97, 120) for _ in range(3000)))
    with pytest.raises(UnreadablePage, match="control characters"):
        page_text(packed, header)


@pytest.mark.parametrize("label", ["hz-gb-2312", "iso-2022-kr", "replacement"])
def test_sets_that_browsers_refuse_give_no_text(label):
    with pytest.raises(UnreadablePage):
        page_text(page(b"~{<:Ky2;~} \x1b$)C"), label)


@given(st.sampled_from(sorted(WORDS)), st.integers(1, 3))
def test_a_page_cut_anywhere_loses_one_character_at_most(charset, cut):
    words, codec = WORDS[charset]
    stored = b"<p>" + words.encode(codec)[:-cut]
    text = page_text(stored, charset)
    assert words.startswith(text) and len(words) - len(text) <= cut + 1
