# SPDX-License-Identifier: Apache-2.0
"""Lists of addresses match domains, the domains under them, and beginnings of URLs."""

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from preprocessing.rules.addresses import (
    AddressLists,
    count_without,
    judge,
    read_list,
)

LIST = """
# news
example.com
https://www.Example.org/forum/   # threads
bücher.de
"""
LISTED = [
    ("http://example.com", "example.com"),
    ("https://news.example.com/a?b", "example.com"),
    ("HTTP://user:pw@WWW.EXAMPLE.COM:8080/", "example.com"),
    ("example.com./x", "example.com"),
    ("//example.com/x", "example.com"),
    ("http://example.org/forum", "example.org/forum"),
    ("https://www.example.org/forum/9#top", "example.org/forum"),
    ("http://example.org/forum?page=2", "example.org/forum"),
    ("https://www.bücher.de/x", "xn--bcher-kva.de"),
    ("https://xn--bcher-kva.de", "xn--bcher-kva.de"),
]
UNLISTED = [
    "http://badexample.com",
    "http://example.com.evil.net/",
    "http://evil.net/?u=http://example.com/",
    "http://evil.net/@example.com",
    "http://example.org",
    "http://example.org/forums",
    "http://news.example.org/forum",
    "not an address",
]


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(LIST)
    return read_list([str(path)])


def test_lines_of_a_list_end_at_newlines_and_marks_are_no_part_of_entries(tmp_path):
    path = tmp_path / "joined.txt"
    path.write_text("\ufeffa.com\r\n\ufeffb.com/x\x85y\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 2"):
        read_list([str(path)])
    path.write_text("\ufeffa.com\r\n\ufeffb.com\n", encoding="utf-8")
    assert read_list([str(path)]).entries == {"a.com", "b.com"}


def column(urls):
    return pa.array(urls, pa.large_string())


def test_blocked_addresses_are_rejected_by_the_entry_that_holds_them(listed):
    urls = [url for url, _ in LISTED] + UNLISTED
    failures = judge(column(urls), AddressLists(block=listed))
    assert [
        (each.place, each.check, each.value, each.threshold) for each in failures
    ] == [(place, "block", url, entry) for place, (url, entry) in enumerate(LISTED)]


def test_an_allow_list_rejects_what_it_does_not_hold(listed):
    urls = column([url for url, _ in LISTED] + UNLISTED)
    failures = judge(urls, AddressLists(allow=listed))
    assert [each.value for each in failures] == UNLISTED
    both = judge(urls, AddressLists(block=listed, allow=listed))
    assert [each.place for each in both] == list(range(len(urls)))


def test_documents_without_an_address_pass_and_are_counted(listed):
    urls = column([None, "", "http://example.com", "http://a.de"])
    for lists in (AddressLists(block=listed), AddressLists(allow=listed)):
        assert all(each.place > 1 for each in judge(urls, lists))
    assert count_without(urls, 4) == 2
    assert count_without(None, 4) == 4


LABEL = st.text("abz09-", min_size=1, max_size=5)


@given(
    labels=st.lists(LABEL, min_size=2, max_size=5),
    above=st.integers(0, 3),
    path=st.text("ab/?#", max_size=8),
)
def test_a_domain_holds_every_address_under_it(labels, above, path, tmp_path_factory):
    host = ".".join(labels)
    entry = ".".join(labels[min(above, len(labels) - 1) :])
    file = tmp_path_factory.getbasetemp() / "domains.txt"
    file.write_text(entry)
    lists = AddressLists(block=read_list([str(file)]))
    assert judge(column([f"https://{host}/{path}"]), lists)
    assert not judge(column([f"https://x{host}x/{path}"]), lists)


SPELLINGS = (
    *("{}", "{}.", "*.{}", ".{}", "http://{}/", "https://*.{}/", "*://*.{}/*"),
    *("||{}^", "||{}", "0.0.0.0 {}", "127.0.0.1\t{} # spam", "::1 localhost {}"),
    *("  {}:8080  # comment", "//user@{}:443/", "\ufeff{}", "! title\n[Adblock]\n{}"),
)


@given(
    labels=st.lists(st.text("abyzAZ09", min_size=1, max_size=5), min_size=2),
    spelling=st.sampled_from(SPELLINGS),
    end=st.sampled_from(["\n", "\r\n", ""]),
)
def test_a_domain_is_the_same_however_lists_spell_it(
    labels, spelling, end, tmp_path_factory
):
    host = ".".join([*labels, "example"])
    file = tmp_path_factory.getbasetemp() / "spelled.txt"
    file.write_text("# list\n" + spelling.format(host) + end, encoding="utf-8")
    if spelling.startswith("\ufeff"):
        file.write_text(spelling.format(host) + end, encoding="utf-8")
    assert read_list([str(file)]).entries == {host.lower()}


@pytest.mark.parametrize(
    ("host", "wanted"),
    [  # Of the URL standard's own tests, and of RFC 5952.
        ("faß.de", "xn--fa-hia.de"),
        ("☃.net", "xn--n3h.net"),
        ("💩.la", "xn--ls8h.la"),
        ("ＧＯ。com", "go.com"),
        ("b\u00adücher.DE", "xn--bcher-kva.de"),
        ("bu\u0308cher.de", "xn--bcher-kva.de"),
        ("XN--BCHER-KVA.de", "xn--bcher-kva.de"),
        ("b%C3%BCcher.d%65", "xn--bcher-kva.de"),
        ("a_b.bücher.de.", "a_b.xn--bcher-kva.de"),
        ("[2001:DB8:0:0:0::1]", "[2001:db8::1]"),
    ],
)
def test_a_host_in_another_script_is_the_one_browsers_ask_for(host, wanted, tmp_path):
    path = tmp_path / "list.txt"
    for listed, met in ((host, wanted), (wanted, host)):
        path.write_text(listed, encoding="utf-8")
        assert read_list([str(path)]).entries == {wanted}
        lists = AddressLists(block=read_list([str(path)]))
        assert judge(column([f"http://{met}:80/x"]), lists)


def test_www_alone_is_a_domain_and_not_all_of_the_one_above(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("https://www.com/\n")
    lists = AddressLists(block=read_list([str(path)]))
    assert judge(column(["http://www.com/x"]), lists)
    assert not judge(column(["http://example.com/"]), lists)


def test_what_hosts_files_call_the_machine_is_no_domain(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(
        "127.0.0.1 localhost\n::1 localhost\nfe80::1%lo0 localhost\n"
        "255.255.255.255 broadcasthost\n0.0.0.0 0.0.0.0\n127.0.0.1 local\n"
        "0.0.0.0 bad.example worse.example\n"
    )
    assert read_list([str(path)]).entries == {"bad.example", "worse.example"}


WRONG = (
    *("*x.org", "x.*", "a.*.org", "..x.org", "*.x.org/forum", "x.org/a*b", "*", "."),
    *("||x.org^$third-party", "@@||x.org^", "x.org##.ad", "||x.org/ads^", "|http://a"),
    *("x.org,spam", "address=/x.org/", '"x.org"', "// x.org", "a.com b.com", "x:y.z"),
    *("0.0.0.0 a.com,b.com", "x.org $all", "exa mple.org"),
)


@pytest.mark.parametrize("entry", WRONG)
def test_an_entry_that_means_something_else_is_refused_with_its_line(entry, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(f"# list\ngood.example\n{entry}\n")
    with pytest.raises(UsageError, match=f"line 3 .*'{re.escape(entry)}'"):
        read_list([str(path)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# nothing\n", "found none"),
        (b"a.com\na.com b.com\n", "line 2"),
        (b"/path\n", "line 1"),
        (b"\xff", "found"),
    ],
)
def test_a_list_that_is_none_is_refused(content, message, tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_list([str(path)])
    with pytest.raises(UsageError, match="No such file"):
        read_list([str(tmp_path / "absent.txt")])
