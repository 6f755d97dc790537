# SPDX-License-Identifier: Apache-2.0
"""Rules by name and version, with every threshold settable; and a user's own rules.

gopher_quality@1                     a published rule set, its published thresholds
gopher_quality@1:min_words=20        the same with one of them changed
c4@tfds:min_words=4,min_sentences=2  with two
language@1:languages=en+de           a threshold that is a list
web_en                               several of them, in FineWeb's order
my_package.rules:few_digits          a function of the user's own
"""

import dataclasses
import functools
import hashlib
import importlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pyarrow as pa

from preprocessing.foundation import user_code
from preprocessing.foundation.commands import UsageError, suggest
from preprocessing.rules.verdicts import Failure, Judged, Rule

LANGUAGE = "language@1"
PERSONAL_DATA = "personal_data@1"
# Name -> the module of this package and what it calls the published thresholds.
# Modules are imported when a rule is asked for: the compiled ones cost half a second.
_KNOWN = {
    "gopher_quality@1": ("gopher_quality", "GOPHER"),
    "gopher_repetition@1": ("gopher_repetition", "GOPHER"),
    "c4@tfds": ("c4", "TFDS"),
    "c4@datatrove": ("c4", "DATATROVE"),
    "fineweb@1": ("fineweb", "FINEWEB"),
    LANGUAGE: ("language", "LanguageThresholds"),
    PERSONAL_DATA: ("personal_data", "Switches"),
}
# The order of FineWeb (Penedo et al. 2024, arXiv 2406.17557): language, repetition,
# quality, C4 without its line ends, FineWeb's own. Personal data comes last of all,
# after duplicates are found. Address lists, which come first there, are flags.
PRESETS = {
    "web_en": (
        "language@1:languages=en",
        "gopher_repetition@1",
        "gopher_quality@1",
        "c4@datatrove:terminal_punctuation=0",
        "fineweb@1",
        "personal_data@1:phones=0",
    ),
}


@dataclass(frozen=True)
class RuleConfig:
    """A rule to run: its name, and all of its thresholds, also those not changed.

    `code` is the SHA-256 of a user's module, so that an edited rule counts as another.
    """

    name: str
    thresholds: Mapping[str, Any]
    code: str = ""


def parse_rules(arguments: Sequence[str]) -> tuple[RuleConfig, ...]:
    """Returns the rules that `--rules` names, presets replaced by what they hold.

    Raises:
        UsageError: an unknown rule or threshold, or a rule named twice.
    """
    expanded = [part for name in arguments for part in PRESETS.get(name, (name,))]
    rules = tuple(_parse(argument) for argument in expanded)
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"wanted each rule once in --rules, found {name} twice. Presets name "
                f"rules too: {', '.join(PRESETS)}"
            )
    return rules


def with_languages(
    rules: Sequence[RuleConfig], languages: Sequence[str]
) -> tuple[RuleConfig, ...]:
    """Returns rules that keep these languages: set where one asks, else put first."""
    if not languages:
        return tuple(rules)
    wanted = _parse(f"{LANGUAGE}:languages={'+'.join(languages)}")
    if all(rule.name != LANGUAGE for rule in rules):
        return (wanted, *rules)
    kept = wanted.thresholds["languages"]
    return tuple(
        dataclasses.replace(rule, thresholds={**rule.thresholds, "languages": kept})
        if rule.name == LANGUAGE
        else rule
        for rule in rules
    )


def build(config: RuleConfig) -> Rule:
    """Returns the function that judges batches by a rule."""
    if config.name in _KNOWN:
        module = _module(config.name)
        thresholds = _published(config.name)
        values = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in config.thresholds.items()
        }
        return functools.partial(
            module.judge, thresholds=dataclasses.replace(thresholds, **values)
        )
    function = user_code.load(config.name)
    return functools.partial(_judge_by, function, config)


def _parse(argument: str) -> RuleConfig:
    name, _, settings = argument.partition(":")
    if "@" not in name and ":" in argument and name not in PRESETS:
        function_name, _, settings = settings.partition(":")
        return _user_rule(f"{name}:{function_name}", settings)
    if name not in _KNOWN:
        known = [*_KNOWN, *PRESETS]
        raise UsageError(
            f"wanted a rule, found {argument}.{suggest(name, known)} Known: "
            f"{', '.join(known)}, or package.module:function of your own"
        )
    thresholds = dataclasses.asdict(_published(name))
    return RuleConfig(name, _changed(name, thresholds, settings))


def _user_rule(name: str, settings: str) -> RuleConfig:
    function = user_code.load(name)
    parameters = inspect.signature(function).parameters.values()
    thresholds = {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    source = inspect.getsource(inspect.getmodule(function) or function)
    code = hashlib.sha256(source.encode()).hexdigest()
    return RuleConfig(name, _changed(name, thresholds, settings), code)


def _changed(
    name: str, thresholds: Mapping[str, Any], settings: str
) -> Mapping[str, Any]:
    """Returns thresholds with `key=value,key=value` applied, of the same types."""
    changed = dict(thresholds)
    for setting in filter(None, settings.split(",")):
        key, _, text = setting.partition("=")
        if key not in thresholds:
            raise UsageError(
                f"wanted a threshold of {name}, found {key}.{suggest(key, thresholds)} "
                f"It has {', '.join(thresholds) or 'none'}"
            )
        changed[key] = _value(name, key, text, thresholds[key])
    for key, value in changed.items():
        # They are part of the dataset's manifest, and JSON has no other numbers.
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(
                f"wanted a finite number for {key} of {name}, found {value}. For no "
                "limit choose one that no text reaches"
            )
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in changed.items()
    }


def _value(name: str, key: str, text: str, default: object) -> object:
    if isinstance(default, (tuple, list)):
        return [part for part in text.split("+") if part]
    if isinstance(default, str):
        return text
    try:
        return int(text) if isinstance(default, int) else float(text)
    except ValueError:
        raise UsageError(
            f"wanted a number for {key} of {name}, found {text!r}. Its published "
            f"value is {default}"
        ) from None


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"preprocessing.rules.{_KNOWN[name][0]}")


def _published(name: str) -> Any:
    published = getattr(_module(name), _KNOWN[name][1])
    # A class's own defaults, or one of several named instances.
    return published() if isinstance(published, type) else published


def _judge_by(
    function: Callable[..., Sequence[float | str | None]],
    config: RuleConfig,
    texts: pa.LargeStringArray,
) -> Judged:
    """Judges by a user's function: what it returns other than None is a failure."""
    values = list(function(texts.to_pylist(), **config.thresholds))
    if len(values) != len(texts):
        raise UsageError(
            f"wanted an answer for each text from {config.name}, found {len(values)} "
            f"for {len(texts)} texts. Return None for a text to keep"
        )
    check = config.name.rpartition(":")[2]
    wanted = ", ".join(f"{key}={value}" for key, value in config.thresholds.items())
    settings = f" (settings: {wanted})" if wanted else ""
    failures = [
        Failure(place, check, value, wanted, f"{check} found {_short(value)}{settings}")
        for place, value in enumerate(values)
        if value is not None
    ]
    return Judged(texts, failures)


def _short(value: float | str) -> str:
    """Returns what a user's function found, for a line: a float to two digits."""
    return f"{value:.2f}" if isinstance(value, float) else f"{value}"
