# SPDX-License-Identifier: Apache-2.0
"""How large the house is, and how many modules one has to open: before and after.

    python -m tests.benchmarks.house --before CHECKOUT        about 4 minutes

Prints a table of this checkout beside an earlier one. Lengths are read with `ast`, of
modules but `__init__.py`; a function's is counted as tests/test_house_rules.py does,
without its docstring, and once more with it. What the walks count, `walks.py` says; it
runs commands of both checkouts, on the packages installed here.
"""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocessing.foundation.commands import CommandParser
from tests.benchmarks.walks import ROOMS, WALKS, Passed, passed

HERE = Path(__file__).resolve().parents[2]
MODULES_A_FOLDER, FUNCTION_P90, DOCUMENTS_WALK = 20, 22, 20


@dataclass(frozen=True)
class House:
    """A checkout, measured.

    Attributes:
        folders: modules of each folder.
        files: lines of each module.
        functions: lines of each function without its docstring, by where it is.
        whole_functions: the same with it.
        source_lines: of all modules in the rooms.
        test_lines: of all under `tests`.
    """

    folders: dict[str, int]
    files: dict[str, int]
    functions: dict[str, int]
    whole_functions: dict[str, int]
    source_lines: int
    test_lines: int


def main() -> None:
    """Prints the table, then this checkout's folders, walks and longest functions."""
    parser = CommandParser("house.py", "Measure this checkout, beside another.")
    parser.add_argument("--before", help="the earlier checkout")
    parser.add_argument(
        "--no_walks", action="store_true", help="leave out what runs commands"
    )
    flags = parser.parse_args()
    sides = [HERE] if flags.before is None else [Path(flags.before), HERE]
    houses = [measured(side) for side in sides]
    walked = [] if flags.no_walks else [passed(side) for side in sides]
    names = ("before", "after")[-len(sides) :]
    print(f"| | {' | '.join(names)} |\n|---|{'---|' * len(sides)}")
    for name, *cells in rows(houses, walked):
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n" + "\n".join(details(houses[-1], walked[-1:])))


def measured(checkout: Path) -> House:
    """Returns the sizes of a checkout, read and not run."""
    files, functions, whole = {}, {}, {}
    for path in modules(checkout, ROOMS):
        name, text = path.relative_to(checkout).as_posix(), path.read_text()
        files[name] = len(text.splitlines())
        for place, length, docstring in function_lengths(text):
            whole[f"{name}:{place}"] = length
            functions[f"{name}:{place}"] = length - docstring
    folders = Counter(str(Path(name).parent) for name in files)
    tests = modules(checkout, ("tests",))
    tested = sum(len(path.read_text().splitlines()) for path in tests)
    return House(dict(folders), files, functions, whole, sum(files.values()), tested)


def modules(checkout: Path, rooms: Sequence[str]) -> list[Path]:
    """Returns a checkout's modules that hold code."""
    found = (path for room in rooms for path in (checkout / room).rglob("*.py"))
    return sorted(path for path in found if path.name != "__init__.py")


def function_lengths(text: str) -> Iterator[tuple[str, int, int]]:
    """Yields a module's functions: line and name, lines, lines of the docstring."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            said = 0
            if ast.get_docstring(node) is not None:
                said = (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            length = (node.end_lineno or 0) - node.lineno + 1
            yield f"{node.lineno} {node.name}", length, said


def rows(houses: Sequence[House], walked: Sequence[Passed]) -> Iterator[list[str]]:
    """Yields the table's rows, a cell for each checkout after the name."""
    yield ["modules", *(f"{len(house.files):,}" for house in houses)]
    yield ["folders", *(str(len(house.folders)) for house in houses)]
    most = (str(max(house.folders.values())) for house in houses)
    yield [f"most modules of a folder (at most {MODULES_A_FOLDER})", *most]
    lengths = [spread(house.files.values()) for house in houses]
    yield ["lines of a module: median, p90, most", *lengths]
    lengths = [spread(house.functions.values()) for house in houses]
    named = f"lines of a function: median, p90 (at most {FUNCTION_P90}), most"
    yield [named, *lengths]
    lengths = [spread(house.whole_functions.values()) for house in houses]
    yield ["the same with docstrings", *lengths]
    ratios = (f"{house.test_lines / house.source_lines:.2f}" for house in houses)
    yield ["lines of tests to lines of source", *ratios]
    for walk in WALKS if walked else ():
        yield [
            f"{walk}, modules that run",
            *(count(each[walk]["runs"]) for each in walked),
        ]
        if any(each[walk]["gives"] for each in walked):
            named = f"{walk}, modules that give it on (at most {DOCUMENTS_WALK})"
            yield [named, *(count(each[walk]["gives"]) for each in walked)]


def details(house: House, walked: Sequence[Passed]) -> Iterator[str]:
    """Yields lines that say where the numbers of a checkout come from."""
    yield "Modules of each folder:"
    for folder, number in sorted(house.folders.items()):
        yield f"  {number:3} {folder}"
    for each in walked:
        for walk, ways in each.items():
            given = set(ways["gives"])
            yield f"{walk}{', with * those that give it on' if given else ''}:"
            yield from (f"  {' *'[name in given]} {name}" for name in ways["runs"])
    long = {where: n for where, n in house.functions.items() if n > FUNCTION_P90}
    yield f"{len(long)} functions of more than {FUNCTION_P90} lines, by folder:"
    for folder, number in Counter(
        str(Path(where).parent) for where in long
    ).most_common():
        yield f"  {number:3} {folder}"


def spread(lengths: Iterable[int]) -> str:
    """Returns median, 90th percentile and maximum as a cell."""
    values = np.array(list(lengths))
    return f"{np.median(values):.0f}, {np.quantile(values, 0.9):.0f}, {values.max()}"


def count(found: Sequence[str]) -> str:
    """Returns how many there are, as a cell."""
    return str(len(found))


if __name__ == "__main__":
    main()
