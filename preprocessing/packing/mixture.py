# SPDX-License-Identifier: Apache-2.0
"""A mixture file: named sources of documents, and how much each gives to the rows.

TOML, or JSON of the same shape:

    epochs = 1                     most times a row is used; 1 if left out
    rows = 100000                  rows of the training split; the most if left out

    [sources.web]
    input = ["crawl/**/*.jsonl"]   globs, as --input takes them
    weight = 0.7

    [sources.books]
    input = "books/*.txt"
    weight = 0.3
    epochs = 4                     of this source alone

or, without weights, `temperature = 2.0`: a source of n rows then weighs n^(1/T), and at
most `maximum`^(1/T) where that is given (examples-proportional mixing, Raffel et al.
2020, "Exploring the limits of transfer learning", section 3.5.2).
"""

import dataclasses
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError, suggest
from preprocessing.foundation.storage import InputFile
from preprocessing.reading.foreign_bytes import not_utf8

MOST_SOURCES = 255  # a row's source is one byte
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_KEYS = ("sources", "temperature", "maximum", "epochs", "rows")
_SOURCE_KEYS = ("input", "weight", "epochs")
# Steps of a weight from a temperature. n^(1/T) is 1 or more, so they are below a
# millionth of it, and wide enough to hide in what way a machine rounds a power.
_WEIGHT_STEPS = 1 << 20
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class MixtureSource:
    """One source.

    Attributes:
        name: of letters, digits, _ and -.
        weight: its part of the rows, in any unit; None where a temperature decides.
        epochs: the most times each of its rows is used.
    """

    name: str
    weight: float | None
    epochs: int


@dataclass(frozen=True)
class MixtureConfig:
    """What the rows of a mixture depend on, besides the documents.

    Attributes:
        sources: by name, so their numbers do not depend on the file's order.
        temperature: weighs sources by size^(1/temperature); None where they name
            their weights.
        maximum: rows above which a source's size no longer adds to its weight.
        rows: rows of the training split; None is as many as the sources allow.
    """

    sources: tuple[MixtureSource, ...]
    temperature: float | None = None
    maximum: int | None = None
    rows: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The sources' names; a source's number is its place among them."""
        return tuple(source.name for source in self.sources)

    def numbers_of(self, relatives: Sequence[str]) -> list[int]:
        """Returns the source of each file, by its path as `mixture_files` gives it."""
        numbers = {name: number for number, name in enumerate(self.names)}
        return [numbers[relative.split("/", 1)[0]] for relative in relatives]

    def weights(self, rows: Sequence[int]) -> list[Fraction]:
        """Returns the sources' exact weights, in one unit.

        Args:
            rows: how many training rows each source has.
        """
        if self.temperature is None:
            # By the shortest decimals: 0.7 is seven tenths, not its nearest double.
            return [Fraction(repr(source.weight)) for source in self.sources]
        most = self.maximum or max(rows)
        powers = [min(size, most) ** (1 / self.temperature) for size in rows]
        return [Fraction(round(power * _WEIGHT_STEPS)) for power in powers]


def read_mixture(path: str) -> tuple[MixtureConfig, dict[str, list[str]]]:
    """Reads a mixture file.

    Returns:
        The mixture, and the globs of each source: where files lie is no part of what
        the rows depend on.

    Raises:
        UsageError: the file is not there or not a mixture; it names the key.
    """
    fields = _parse(path)
    _refuse_unknown(path, "", fields, _KEYS)
    epochs = _whole(path, "epochs", fields.get("epochs", 1))
    tables = _table(path, "sources", fields.get("sources"))
    if not 0 < len(tables) <= MOST_SOURCES:
        raise UsageError(
            f"wanted 1 to {MOST_SOURCES} sources in {path}, found {len(tables)}. Add "
            "a table [sources.NAME]"
        )
    sources, inputs = [], {}
    for name in sorted(tables):
        source, inputs[name] = _source(path, name, tables[name], epochs)
        sources.append(source)
    config = MixtureConfig(
        sources=tuple(sources),
        temperature=_optional(path, "temperature", fields, _number),
        maximum=_optional(path, "maximum", fields, _whole),
        rows=_optional(path, "rows", fields, _whole),
    )
    _check_weights(path, config)
    return config, inputs


def mixture_files(inputs: Mapping[str, Sequence[str]]) -> list[InputFile]:
    """Returns the files of a mixture, sorted by relative path.

    The name of its source comes before a file's relative path, so the same name in
    two sources is two files and documents' keys never collide.

    Raises:
        UsageError: a glob matches nothing, or a file belongs to two sources.
    """
    files: list[InputFile] = []
    owners: dict[str, str] = {}
    for name, patterns in inputs.items():
        for file in storage.expand(patterns):
            owner = owners.setdefault(file.identity, name)
            if owner != name:
                raise UsageError(
                    f"wanted each file in one source of the mixture, {file.path} is in "
                    f"{owner} and {name}. Narrow one of their globs"
                )
            relative = f"{name}/{file.relative}"
            files.append(dataclasses.replace(file, relative=relative))
    return sorted(files, key=lambda file: file.relative)


def _parse(path: str) -> dict[str, Any]:
    try:
        text = _decoded(storage.read_bytes(path))
        fields = (
            strict_json.loads(text) if path.endswith(".json") else tomllib.loads(text)
        )
    except FileNotFoundError:
        raise UsageError(
            f"wanted a mixture file at {path}, found nothing. Check --mixture"
        ) from None
    except (ValueError, IsADirectoryError) as error:
        raise UsageError(
            f"wanted TOML, or JSON under a name in .json, in {path}, found: {error}. "
            "Correct the mixture file"
        ) from None
    return _table(path, "the file", fields)


def _decoded(data: bytes) -> str:
    """Returns a file's text without the mark of UTF-8 that editors put before it."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(not_utf8(data, str(error))) from None


def _source(
    path: str, name: str, value: Any, epochs: int
) -> tuple[MixtureSource, list[str]]:
    """Returns a source and its globs."""
    where = f"sources.{name}"
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"wanted names of letters, digits, _ and - for the sources of {path}, "
            f"found '{name}'. Rename it"
        )
    fields = _table(path, where, value)
    _refuse_unknown(path, f"{where}.", fields, _SOURCE_KEYS)
    globs = fields.get("input")
    if isinstance(globs, str):
        globs = [globs]
    if not (isinstance(globs, list) and globs and all(type(g) is str for g in globs)):
        raise _wrong(path, f"{where}.input", "a glob or a list of globs", globs)
    weight = _optional(path, f"{where}.weight", fields, _number)
    own = _whole(path, f"{where}.epochs", fields.get("epochs", epochs))
    return MixtureSource(name, weight, own), globs


def _check_weights(path: str, config: MixtureConfig) -> None:
    weighed = [source.name for source in config.sources if source.weight is not None]
    if config.temperature is None:
        missing = sorted(set(config.names) - set(weighed))
        if missing:
            raise UsageError(
                f"wanted a weight for every source of {path} or one temperature, "
                f"found no sources.{missing[0]}.weight. Add it"
            )
        if config.maximum is not None:
            raise UsageError(
                f"wanted a temperature beside maximum in {path}, found weights. A "
                "maximum bounds sizes, remove it"
            )
    elif weighed:
        raise UsageError(
            f"wanted weights or a temperature in {path}, found temperature and "
            f"sources.{weighed[0]}.weight. Remove one of them"
        )
    elif config.temperature < 1:
        raise UsageError(
            f"wanted a temperature of 1 or more in {path}, found "
            f"{config.temperature}. 1 mixes by size, larger ones evener"
        )


def _optional(
    path: str,
    key: str,
    fields: Mapping[str, Any],
    read: Callable[[str, str, Any], _Number],
) -> _Number | None:
    """Returns what `read` makes of the last name of `key`; None where it is absent."""
    name = key.rsplit(".", 1)[-1]
    return read(path, key, fields[name]) if name in fields else None


def _number(path: str, key: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise _wrong(path, key, "a number above 0", value)
    return float(value)


def _whole(path: str, key: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise _wrong(path, key, "a whole number of 1 or more", value)
    return value


def _table(path: str, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(path, key, "a table of keys", value)
    return value


def _refuse_unknown(
    path: str, prefix: str, fields: Iterable[str], known: Sequence[str]
) -> None:
    for name in fields:
        if name not in known:
            raise UsageError(
                f"wanted the keys {', '.join(known)} in {path}, found unknown "
                f"{prefix}{name}.{suggest(name, known)} Correct the mixture file"
            )


def _wrong(path: str, key: str, wanted: str, found: Any) -> UsageError:
    said = "nothing" if found is None else strict_json.dumps(found, default=str)
    return UsageError(f"wanted {wanted} for {key} in {path}, found {said}. Change it")
