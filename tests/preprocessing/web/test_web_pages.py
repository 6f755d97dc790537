# SPDX-License-Identifier: Apache-2.0
"""The main text of a page, in its own character set; size and depth have limits."""

import pytest

from preprocessing.web.web_pages import UnreadablePage, page_text


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "shift_jis", "koi8-r"])
@pytest.mark.parametrize("declared", ["header", "page", "nowhere"])
def test_a_page_is_read_in_its_own_character_set(charset, declared):
    words = {
        "utf-8": "größe",
        "iso-8859-1": "Die größte Überraschung für schöne Mädchen, ältere Männer",
        "shift_jis": "日本語の文章を読みます。これは長い文章です。",
        "koi8-r": "Это длинное русское предложение о погоде и природе",
    }[charset]
    meta = f'<meta charset="{charset}">' if declared == "page" else ""
    page = f"<html><head>{meta}</head><body><p>{words}</p></body></html>"
    header = charset if declared == "header" else None
    assert page_text(page.encode(charset), header) == words


def test_a_page_cut_inside_a_character_loses_that_character_alone():
    assert page_text("<p>größe".encode()[:-2], "utf-8") == "grö"
    with pytest.raises(UnreadablePage):
        page_text(b"<p>\xff\xfe\xfa\x81\x8d\x8f\x90\x9d", "utf-8")


def test_pages_too_large_or_too_deep_are_not_parsed():
    with pytest.raises(UnreadablePage, match="deeper than 1000"):
        page_text(b"<div>" * 300_000 + b"x" + b"</div>" * 300_000, None)
    flat = b"<p>one <br> two <img> <b>three</b>" * 3000
    assert page_text(flat, None).count("three") == 3000
    with pytest.raises(UnreadablePage, match="limit 10"):
        page_text(b"<p>" + b"x" * 8, None, most=10)
