# SPDX-License-Identifier: Apache-2.0
"""What tests/benchmarks/house.py counts."""

import sys
from pathlib import Path

from tests.benchmarks.house import function_lengths, measured
from tests.benchmarks.walk_trace import Trace
from tests.benchmarks.walks import varint

MODULE = '''"""A module."""

def one(x):
    """Says.

    Much.
    """
    def inner():
        return x
    return inner
'''
# A walk from begin: one module hands the text on, one only looks at it.
WALK = {
    "begin.py": "def begin(text):\n    look(text)\n    return len(list(hand(text)))\n",
    "look.py": "def look(text):\n    return len(text)\n",
    "hand.py": "def hand(text):\n    yield {'rows': [text.encode()]}\n    apart()\n",
    "apart.py": "def apart():\n    return beneath()\n",
    "beneath.py": "def beneath():\n    return 'a zebra'\n",
}


def test_functions_are_counted_with_and_without_what_they_say() -> None:
    assert list(function_lengths(MODULE)) == [("3 one", 8, 4), ("8 inner", 2, 0)]


def test_a_checkout_is_counted_by_folder_and_its_tests_apart(tmp_path: Path) -> None:
    for name in ("trainer/run/a.py", "trainer/__init__.py", "tests/test_a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(MODULE)
    house = measured(tmp_path)
    assert house.folders == {"trainer/run": 1}
    assert house.files == {"trainer/run/a.py": 10}
    assert (house.source_lines, house.test_lines) == (10, 10)


def test_a_varint_has_seven_bits_a_byte_the_lowest_first() -> None:
    assert [varint(n) for n in (0, 127, 300)] == [b"\0", b"\x7f", b"\xac\x02"]


def test_a_walk_tells_who_runs_from_who_gives_the_text_on(tmp_path: Path) -> None:
    names: dict[str, object] = {}
    for name, text in WALK.items():
        exec(compile(text, str(tmp_path / "trainer" / name), "exec"), names)
    (tmp_path / "out").mkdir()
    told = {
        "root": str(tmp_path),
        "rooms": ["trainer"],
        "out": str(tmp_path / "out"),
        "walks": {"a walk": [["begin"], ["apart"]]},
        "marks": [b"zebra".hex()],
    }
    begin, before = names["begin"], sys.getprofile()
    assert callable(begin)
    sys.setprofile(Trace(told))
    try:
        begin("a zebra")
    finally:
        sys.setprofile(before)
    (written,) = (tmp_path / "out").iterdir()
    lines = [line.split("\t") for line in written.read_text().splitlines()]
    found = sorted((way, module) for _, way, module in lines)
    runs = ("apart", "begin", "hand", "look")
    assert found == [
        ("gives", "trainer/hand.py"),
        *(("runs", f"trainer/{name}.py") for name in runs),
    ]
