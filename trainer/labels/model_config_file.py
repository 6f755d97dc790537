# SPDX-License-Identifier: Apache-2.0
"""`models.config`: which versions TensorFlow Serving loads, and what labels show.

    model_config_list {
      config {
        name: "NAME"
        base_path: "/models/NAME"
        model_platform: "tensorflow"
        model_version_policy { specific { versions: 3 } }
        version_labels { key: "stable" value: 3 }
      }
    }

It is a ModelServerConfig of tensorflow_serving/config/model_server_config.proto in
text. It belongs to people as much as to Quern: what is changed here is the labels of
one model and the versions that its policy names; all other bytes stay.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from preprocessing.foundation.commands import UsageError
from trainer.labels import text_format
from trainer.labels.text_format import TextField, TextValue, named, quoted

CONFIG_NAME = "models.config"
_LIST, _ENTRY = "model_config_list", "config"
_POLICY, _SPECIFIC, _VERSIONS = "model_version_policy", "specific", "versions"
_LABELS = "version_labels"
_NO_VERSIONS: Mapping[int, bool] = MappingProxyType({})


@dataclass(frozen=True)
class ModelEntry:
    """What the file says of one model.

    Attributes:
        base_path: where a server finds its versions.
        labels: label -> version.
        versions: that its policy names; empty where it names none.
        policy: the name of its policy, "" where it has none.
    """

    base_path: str
    labels: Mapping[str, int] = field(default_factory=dict)
    versions: tuple[int, ...] = ()
    policy: str = ""


def read_models(text: str, path: str) -> dict[str, ModelEntry]:
    """Returns what a `models.config` says of each model; `path` is its name in errors.

    Raises:
        UsageError: it is not the form of TensorFlow Serving's.
    """
    with _of_file(path):
        return {name: _entry(value) for name, value in _places(text).items()}


def with_labels(
    text: str,
    path: str,
    name: str,
    base_path: str,
    labels: Mapping[str, int],
    loaded: Mapping[int, bool] = _NO_VERSIONS,
) -> str:
    """Returns a `models.config` in which a model's labels show some versions.

    The policy then names those versions and the ones that a person had added: not the
    ones that labels have left.

    Args:
        text: the file as it is; empty for none.
        path: its name in errors.
        name: the model's.
        base_path: written where the file does not know the model yet.
        labels: all of the model's.
        loaded: versions that no label shows -> whether the policy names them.

    Raises:
        UsageError: the file is not the form of TensorFlow Serving's, or the model has
            another policy than `specific`.
    """
    with _of_file(path):
        place = _places(text).get(name)
        before = ModelEntry("") if place is None else _entry(place)
        if before.policy not in ("", _SPECIFIC):
            raise UsageError(
                f"wanted the version policy {_SPECIFIC} of {name} in {path}, so that "
                f"labels alone decide what is loaded, found {before.policy}. Remove "
                f"{_POLICY} there"
            )
        shown = set(labels.values())
        left = set(before.labels.values()) - shown
        kept = [version for version in before.versions if version not in left]
        asked = {**dict.fromkeys(kept, True), **loaded, **dict.fromkeys(shown, True)}
        versions = sorted(version for version, named in asked.items() if named)
        if place is None:
            return _with_model(text, name, base_path, labels, versions)
        return text_format.rewritten(
            text,
            [
                *_label_changes(text, place, before.labels, labels),
                *_version_changes(text, place, before, versions),
            ],
        )


@contextlib.contextmanager
def _of_file(path: str) -> Iterator[None]:
    """Names the file in what is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise UsageError(
            f"wanted the {CONFIG_NAME} of TensorFlow Serving in {path}, found another "
            f"form: {error}. Correct it, or move it away"
        ) from None


def _places(text: str) -> dict[str, TextValue]:
    """Returns the place of each model."""
    fields = text_format.read_fields(text)
    other = [each.name for each in fields if each.name != _LIST]
    lists = named(fields, _LIST)
    if other or len(lists) > 1:
        raise ValueError(f"wanted one {_LIST}, found {(other or [_LIST, 'twice'])[-1]}")
    found: dict[str, TextValue] = {}
    for place in named(_message(lists[0]), _ENTRY) if lists else ():
        name = _single(_message(place), "name", "''").string()
        if name in found:
            raise ValueError(f"wanted each model once, found {name} twice")
        found[name] = place
    return found


def _message(value: TextValue) -> tuple[TextField, ...]:
    if value.fields is None:
        raise ValueError(f"wanted a message, found {value.text}")
    return value.fields


def _single(fields: tuple[TextField, ...], name: str, default: str) -> TextValue:
    """Returns the value of a field that stands once, or a default's."""
    values = named(fields, name)
    if len(values) > 1:
        raise ValueError(f"wanted {name} once, found it {len(values)} times")
    return values[0] if values else TextValue(0, 0, default)


def _entry(place: TextValue) -> ModelEntry:
    fields = _message(place)
    policy = named(fields, _POLICY)
    if len(policy) > 1:
        raise ValueError(f"wanted {_POLICY} once, found it {len(policy)} times")
    kinds = _message(policy[0]) if policy else ()
    if len(kinds) > 1:
        raise ValueError(f"wanted one kind of {_POLICY}, found {len(kinds)}")
    specific = named(kinds, _SPECIFIC)
    versions = named(_message(specific[0]), _VERSIONS) if specific else ()
    labels = {}
    for label in named(fields, _LABELS):
        parts = _message(label)
        key = _single(parts, "key", "''").string()
        labels[key] = _single(parts, "value", "0").integer()
    return ModelEntry(
        base_path=_single(fields, "base_path", "''").string(),
        labels=labels,
        versions=tuple(value.integer() for value in versions),
        policy=kinds[0].name if kinds else "",
    )


def _with_model(
    text: str,
    name: str,
    base_path: str,
    labels: Mapping[str, int],
    versions: list[int],
) -> str:
    """Adds a model."""
    body = f"name: {quoted(name)}\nbase_path: {quoted(base_path)}\n"
    body += 'model_platform: "tensorflow"\n'
    body += _policy_lines(versions)
    body += "".join(_label_lines(label, labels[label]) for label in labels)
    entry = f"{_ENTRY} {{\n{_indented(body)}}}\n"
    lists = named(text_format.read_fields(text), _LIST)
    if lists:
        return text_format.rewritten(
            text, [text_format.insertion(text, lists[0], entry)]
        )
    above = text if not text or text.endswith("\n") else f"{text}\n"
    return f"{above}{_LIST} {{\n{_indented(entry)}}}\n"


def _label_changes(
    text: str, place: TextValue, before: Mapping[str, int], labels: Mapping[str, int]
) -> list[tuple[int, int, str]]:
    changes = []
    for label in named(_message(place), _LABELS):
        parts = _message(label)
        key = _single(parts, "key", "''").string()
        if labels[key] != before[key]:
            value = _single(parts, "value", "0")
            if value.end:
                changes.append((value.start, value.end, str(labels[key])))
            else:
                lines = f"value: {labels[key]}\n"
                changes.append(text_format.insertion(text, label, lines))
    new = "".join(_label_lines(x, labels[x]) for x in labels if x not in before)
    return [*changes, *([text_format.insertion(text, place, new)] if new else [])]


def _version_changes(
    text: str, place: TextValue, before: ModelEntry, versions: list[int]
) -> list[tuple[int, int, str]]:
    """Returns the changes after which the policy names `versions`."""
    if before.policy and sorted(set(before.versions)) == versions:
        return []
    policy = named(_message(place), _POLICY)
    if not before.policy:
        if policy:  # an empty one
            return [(policy[0].start, policy[0].end, _policy_value(versions))]
        return [text_format.insertion(text, place, _policy_lines(versions))]
    specific = named(_message(policy[0]), _SPECIFIC)[0]
    changes, there = [], set()
    for each in _message(specific):
        if each.name != _VERSIONS:
            continue
        kept = [value for value in each.values if value.integer() in versions]
        there |= {value.integer() for value in kept}
        if not kept:
            changes.append(text_format.removal(text, each))
        elif len(kept) < len(each.values):
            written = "[" + ", ".join(value.text for value in kept) + "]"
            changes.append((*each.place, written))
    lines = "".join(f"{_VERSIONS}: {x}\n" for x in versions if x not in there)
    return [
        *changes,
        *([text_format.insertion(text, specific, lines)] if lines else []),
    ]


def _policy_value(versions: list[int]) -> str:
    listed = " ".join(f"{_VERSIONS}: {version}" for version in versions)
    return f"{{ {_SPECIFIC} {{ {listed} }} }}"


def _policy_lines(versions: list[int]) -> str:
    listed = "".join(f"    {_VERSIONS}: {version}\n" for version in versions)
    return f"{_POLICY} {{\n  {_SPECIFIC} {{\n{listed}  }}\n}}\n"


def _label_lines(label: str, version: int) -> str:
    return f"{_LABELS} {{\n  key: {quoted(label)}\n  value: {version}\n}}\n"


def _indented(lines: str) -> str:
    return "".join(f"  {line}\n" for line in lines.splitlines())
