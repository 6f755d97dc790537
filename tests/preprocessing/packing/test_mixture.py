# SPDX-License-Identifier: Apache-2.0
"""A mixture file says which files belong to which source, and how much each weighs."""

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest

from preprocessing.foundation.commands import UsageError
from preprocessing.packing.mixture import mixture_files, read_mixture

WEIGHTS = """
epochs = 2
rows = 500

[sources.web]
input = ["web/**/*"]
weight = 0.7

[sources.books]
input = "books/*.txt"
weight = 3
epochs = 4
"""


@pytest.fixture
def written(tmp_path):
    def write(text, name="mixture.toml"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_sources_are_numbered_by_name_and_take_the_files_epochs(written):
    config, inputs = read_mixture(written(WEIGHTS))
    assert config.names == ("books", "web")
    assert [source.epochs for source in config.sources] == [4, 2]
    assert (config.rows, config.temperature) == (500, None)
    assert inputs == {"books": ["books/*.txt"], "web": ["web/**/*"]}


def test_json_of_the_same_shape_is_the_same_mixture(written):
    fields = {
        "rows": 500,
        "epochs": 2,
        "sources": {
            "books": {"weight": 3, "input": ["books/*.txt"], "epochs": 4},
            "web": {"input": "web/**/*", "weight": 0.7},
        },
    }
    one = read_mixture(written(WEIGHTS))
    assert read_mixture(written(json.dumps(fields), "mixture.json")) == one


@pytest.mark.parametrize("name", ["mixture.toml", "mixture.json"])
def test_a_mark_of_utf_8_is_no_part_of_it_and_utf_16_is_called_so(tmp_path, name):
    text = (
        WEIGHTS
        if name.endswith("toml")
        else '{"sources": {"a": {"input": "b", "weight": 1}}}'
    )
    plain, marked = tmp_path / name, tmp_path / f"marked-{name}"
    plain.write_text(text)
    marked.write_text(text, encoding="utf-8-sig")
    assert read_mixture(str(marked)) == read_mixture(str(plain))
    marked.write_text(text, encoding="utf-16")
    with pytest.raises(UsageError, match="found: UTF-16, not UTF-8"):
        read_mixture(str(marked))


def test_a_weight_is_the_decimal_that_was_written(written):
    config, _ = read_mixture(written(WEIGHTS))
    assert config.weights([10, 10]) == [3, Fraction(7, 10)]


def test_a_temperature_weighs_by_the_root_of_the_size_up_to_the_maximum(written):
    sources = '[sources.a]\ninput = "a"\n[sources.b]\ninput = "b"\n'
    by_size, _ = read_mixture(written("temperature = 1\n" + sources))
    small, large = by_size.weights([100, 900])
    assert large / small == 9
    flatter, _ = read_mixture(written("temperature = 2.0\n" + sources))
    small, large = flatter.weights([100, 900])
    assert large / small == 3
    bounded, _ = read_mixture(written("temperature = 2\nmaximum = 400\n" + sources))
    small, large = bounded.weights([100, 900])
    assert large / small == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (WEIGHTS.replace("epochs = 2", "epoch = 2"), "unknown epoch. Did you mean ep"),
        (WEIGHTS.replace("weight = 3", "wieght = 3"), "unknown sources.books.wieght. "),
        (WEIGHTS.replace("weight = 3", "weight = 0"), "a number above 0 for sources.b"),
        (WEIGHTS.replace("weight = 3", 'weight = "3"'), 'above 0 .*found "3"'),
        (WEIGHTS.replace("weight = 3", ""), "found no sources.books.weight"),
        (WEIGHTS.replace("epochs = 4", "epochs = 1.5"), "whole number of 1 or more"),
        (WEIGHTS.replace("rows = 500", "rows = true"), "whole number of 1 or more"),
        ("temperature = 2\n" + WEIGHTS, "found temperature and sources.books.weight"),
        ("maximum = 2\n" + WEIGHTS, "wanted a temperature beside maximum"),
        ("[sources]", "wanted 1 to 255 sources"),
        ("rows = 3", "wanted a table of keys for sources .* found nothing"),
        ('[sources."a b"]\ninput = "x"', "letters, digits, _ and -.*found 'a b'"),
        ("[sources.a]\nweight = 1", "wanted a glob or a list of globs .* nothing"),
        ('temperature = 0.5\n[sources.a]\ninput = "x"', "temperature of 1 or more"),
        ("sources = [", "wanted TOML, or JSON under a name in .json"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(written, text, complaint):
    with pytest.raises(UsageError, match=complaint):
        read_mixture(written(text))


def test_the_examples_of_the_documentation_are_mixtures(written):
    text = (Path(__file__).parents[3] / "docs" / "mixtures.md").read_text()
    weights, temperature = re.findall(r"```toml\n(.*?)```", text, re.S)
    config, _ = read_mixture(written(weights))
    assert config.names == ("books", "web") and config.rows == 200_000
    config, _ = read_mixture(written(temperature))
    assert (config.temperature, config.maximum) == (3.3, 500_000)


def test_a_mixture_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"found nothing\. Check --mixture"):
        read_mixture(str(tmp_path / "none.toml"))


def test_equal_names_in_two_sources_are_two_files(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)
    inputs = {name: [f"{tmp_path}/{name}/*"] for name in ("one", "two")}
    files = mixture_files(inputs)
    assert [file.relative for file in files] == ["one/a.txt", "two/a.txt"]


def test_a_file_of_two_sources_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    inputs = {"one": [f"{tmp_path}/*"], "two": [f"{tmp_path}/a.txt"]}
    with pytest.raises(UsageError, match=r"a.txt is in one and two\. Narrow"):
        mixture_files(inputs)


def test_a_source_keeps_its_number_whatever_files_it_has(written):
    config, _ = read_mixture(written(WEIGHTS))
    assert config.numbers_of(["web/a/b", "books/a", "web/books"]) == [1, 0, 1]
