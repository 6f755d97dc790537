# SPDX-License-Identifier: Apache-2.0
"""Personal data is replaced once, by what is nobody's, and nothing else changes."""

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preprocessing.rules.networks import is_public_v4, is_public_v6
from preprocessing.rules.personal_data import Switches, replace

ALL = Switches()
PIECE = st.sampled_from(
    [
        *("a@b.com", "jo.e+x@mail.co.uk", "@", ".", "-", "%", "_", ":", "é", "(", ")"),
        *("8.8.8.8", "1.2.3.4.5", "10.0.0.1", "2a00:1450::8", "::", "192.0.2.1"),
        *("+49 30 123456", "(202) 555-1234", "202-555-0199", "01 23 45 67 89"),
        *("020 7946 0958", "+1 202-555-0100", "email@example.com", "2001:db8::1"),
        *("0", "1", "12", "+", "/", "x", "com", " ", " ", " ", "\n", ", "),
    ]
)
TEXT = st.lists(PIECE, max_size=9).map("".join)


def strings(texts):
    return pa.array(texts, pa.large_string())


def replaced(text, switches=ALL):
    return replace(strings([text]), switches).texts.to_pylist()[0]


@settings(max_examples=400, deadline=None)
@given(texts=st.lists(TEXT, max_size=4))
@example(["a@b.com@c.org", "+49 30 123456 01 23 45 67 89"])
def test_a_second_pass_changes_nothing(texts):
    once = replace(strings(texts), ALL)
    twice = replace(once.texts, ALL)
    assert twice.texts.to_pylist() == once.texts.to_pylist()
    assert not twice.counts


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(TEXT, max_size=5), start=st.integers(0, 5))
def test_a_document_is_replaced_alike_in_any_batch(texts, start):
    batch = replace(strings(texts)[start:], ALL)
    assert batch.texts.to_pylist() == [replaced(text) for text in texts[start:]]
    batch.texts.validate(full=True)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("To: jo.e+x@mail.co.uk.", "To: email@example.com."),
        ("href=a@b.com>", "href=email@example.com>"),
        ("联系foo@bar.com谢谢", "联系email@example.com谢谢"),
        ("at 8.8.8.8:53, 8.8.4.4.", "at 192.0.2.1:53, 192.0.2.1."),
        ("[2a00:1450:4001:82a::200e]:80", "[2001:db8::1]:80"),
        ("Tel:+49 (0)30 123456", "Tel:+1 202-555-0100"),
        ("call (202) 555-1234 now", "call +1 202-555-0100 now"),
        ("1-800-555-1199", "+1 202-555-0100"),
        ("au 01 23 45 67 89.", "au +1 202-555-0100."),
        ("(030) 1234567, 020 7946 0958", "+1 202-555-0100, +1 202-555-0100"),
    ],
)
def test_what_is_somebodys_is_replaced(text, wanted):
    assert replaced(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "react@16.8.0, root@localhost, git@git.host.com:me/project, @user",
        "a@example.org, b@mail.example.com, c@x.invalid",
        "10.0.0.1 172.16.3.4 192.168.1.1 127.0.0.1 203.0.113.9 224.0.0.251 0.0.0.0",
        "v1.2.3.4 1.2.3.4.5 1.2.3.4-rc1 256.1.1.1 08.8.8.8 1.2.3",
        "fe80::1 ::1 12:34:56 std::abc 2024:01:02 2001:db8::8a2e",
        "2024-01-02 03:04:05, 978-3-16-148410-0, 1990-2000, 10 000 000 000",
        "01 02 03 04 05 06 07, 202 555 1234, 202-555-0143, id=202-555-1234",
        "+1.23456789",
    ],
)
def test_what_is_nobodys_stays_and_costs_no_copy(text):
    texts = strings([text])
    assert replace(texts, ALL).texts is texts


def test_each_kind_has_its_switch_and_its_count():
    text = "a@b.com 8.8.8.8 2a00:1450::8 +49 30 123456"
    found = replace(strings([text, "none", text]), ALL)
    assert found.counts == {"email": 2, "ipv4": 2, "ipv6": 2, "phone": 2}
    for switches, kinds in (
        (Switches(ip_addresses=False, phones=False), {"email"}),
        (Switches(emails=False, phones=False), {"ipv4", "ipv6"}),
        (Switches(emails=False, ip_addresses=False), {"phone"}),
        (Switches(False, False, False), set()),
    ):
        assert set(replace(strings([text]), switches).counts) == kinds


def test_long_runs_of_what_addresses_are_made_of_take_no_time():
    # A pattern tried from each of these places would look a million bytes ahead.
    hostile = ["a-" * 500_000, "1." * 500_000, "a@" * 100_000, "1 " * 500_000]
    texts = strings([*hostile, "2a00:" * 200_000, "+1" * 200_000])
    assert replace(texts, ALL).texts.to_pylist() == texts.to_pylist()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("100.63.255.255", True),
        ("100.64.0.0", False),
        ("172.32.0.1", True),
        ("198.20.0.1", True),
        ("198.19.255.255", False),
        ("240.0.0.1", False),
        ("1.2.3", False),
        ("2a00:1450::8", True),
        ("2001:db9::1", True),
        ("2001:db8:ffff::1", False),
        ("3fff:fff::1", False),
        ("fd00::1", False),
        ("2001::1::2", False),
    ],
)
def test_networks_end_where_the_registries_say(address, public):
    check = is_public_v6 if ":" in address else is_public_v4
    assert check(address) is public
