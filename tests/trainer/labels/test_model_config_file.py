# SPDX-License-Identifier: Apache-2.0
"""`models.config` is what TensorFlow Serving's own messages say it is.

protobuf's `text_format` and the messages of tensorflow-serving-api print and read it.
"""

import re

import pytest
from google.protobuf import text_format as official
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from preprocessing.foundation.commands import UsageError
from trainer.labels import text_format
from trainer.labels.model_config_file import read_models, with_labels

# What people write: comments, both brackets, lists, quotes, separators, other fields.
BY_HAND = """\
# Ours: ask before you change it. {
model_config_list: {
  config {  # the main one
    name: 'qu' "ern"
    base_path: "/models/quern"  # where the image has it
    model_platform: "tensorflow",
    model_version_policy: < specific { versions: [ 2, # kept for a customer [
      5 ] } >
    version_labels { key: "stable", value: 2; }
    version_labels: [ { key: 'canary' value: 0x5 }, { key: "old\\n\\"one" value: 05 } ]
    logging_config { sampling_config { sampling_rate: 0.25e-1 } }
  }
  config: [
    { name: "other" base_path: "/models/other" model_version_policy { all {} } },
    { name: "plain" base_path: "/models/plain" }  # } not the end
  ]
}
"""
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
LABELS = st.dictionaries(NAMES, st.integers(-(2**63), 2**63 - 1), max_size=3)


def parsed(text: str) -> ModelServerConfig:
    return official.Parse(text, ModelServerConfig())


@st.composite
def servers(draw):
    """Draws (a server's configuration, the name of one model in it)."""
    found = ModelServerConfig()
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    for name in names:
        model = found.model_config_list.config.add()
        model.name, model.base_path = name, draw(NAMES)
        for label, version in draw(LABELS).items():
            model.version_labels[label] = version
        policy = draw(st.sampled_from(["specific", "latest", "none"]))
        if policy == "latest" and name != names[0]:
            model.model_version_policy.latest.num_versions = 2
        elif policy == "specific":
            shown = [*model.version_labels.values(), *draw(st.lists(st.integers(0, 9)))]
            model.model_version_policy.specific.versions.extend(shown)
        if draw(st.booleans()):
            model.logging_config.sampling_config.sampling_rate = draw(
                st.floats(width=64, allow_nan=False)
            )
            model.model_platform = draw(NAMES)
    return found, names[0]


def decorated(text: str, draw: int) -> str:
    """Returns the same message as people might write it: comments, other brackets."""
    if draw // 2 % 2:
        text = re.sub(r" \{(?=\n)", ": <", text)
        text = re.sub(r"^( *)\}", r"\1>,", text, flags=re.M)
    if draw % 2:
        text = re.sub(r"\n", "  # } ] \" '\n", text)
    return re.sub(r"\n *", " ", text) if draw == 4 else text


@settings(max_examples=200, deadline=None)
@given(servers(), st.integers(0, 4), LABELS, st.booleans())
def test_changed_labels_are_what_the_servers_messages_would_hold(
    server, style, labels, as_utf8
):
    before, name = server
    text = decorated(official.MessageToString(before, as_utf8=as_utf8), style)
    assert parsed(text) == before
    model = before.model_config_list.config[0]
    found = read_models(text, "it")[name]
    assert found.labels == dict(model.version_labels)
    specific = model.model_version_policy.specific.versions
    assert list(found.versions) == list(specific)
    assert found.base_path == model.base_path

    wanted = ModelServerConfig()
    wanted.CopyFrom(before)
    changed = wanted.model_config_list.config[0]
    asked = {**found.labels, **labels}
    for label, version in asked.items():
        changed.version_labels[label] = version
    left = set(found.labels.values()) - set(asked.values())
    kept = {version for version in specific if version not in left}
    after = parsed(with_labels(text, "it", name, "/elsewhere", asked))
    versions = after.model_config_list.config[0].model_version_policy.specific.versions
    assert set(versions) == kept | set(asked.values())
    del changed.model_version_policy.specific.versions[:]
    changed.model_version_policy.specific.versions.extend(versions)
    assert after == wanted


@settings(deadline=None)
@given(NAMES, NAMES, LABELS)
@example('"\\\x00\n\x7f', "é🙂", {})
def test_a_new_model_is_added_whatever_it_is_called(name, path, labels):
    for text in ("", "# Empty\n", "model_config_list {}", BY_HAND):
        model = parsed(with_labels(text, "it", name, path, labels))
        (found,) = [x for x in model.model_config_list.config if x.name == name]
        assert found.base_path == path and found.model_platform == "tensorflow"
        assert dict(found.version_labels) == labels
        assert found.model_version_policy.HasField("specific")
        versions = list(found.model_version_policy.specific.versions)
        assert versions == sorted(set(labels.values()))


def test_what_people_wrote_stays_where_it_was():
    labels = {**read_models(BY_HAND, "it")["quern"].labels, "stable": 7, "new": 7}
    text = with_labels(BY_HAND, "it", "quern", "/elsewhere", labels)
    before, after = parsed(BY_HAND), parsed(text)
    quern = after.model_config_list.config[0]
    assert dict(quern.version_labels) == labels
    assert sorted(quern.model_version_policy.specific.versions) == [5, 7]
    assert quern.logging_config == before.model_config_list.config[0].logging_config
    assert after.model_config_list.config[1:] == before.model_config_list.config[1:]
    kept = [line for line in BY_HAND.splitlines() if line in text.splitlines()]
    lost = set(BY_HAND.splitlines()) - set(kept)
    assert len(lost) == 3, "the list of versions, of two lines, and the label"
    assert with_labels(text, "it", "quern", "/elsewhere", labels) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"model_config_list": {}}', "line 1: wanted the name of a field"),
        ("model_config_list:\n  - config:\n", "wanted"),
        ("model_config_list {\n config {\n name: 'a\n", "line 3.*ends on its line"),
        ("model_config_list { config {", "found the end"),
        ("model_config_list {} model_config_list {}", "twice"),
        ("max_batch_size { value: 16 }", "found max_batch_size"),
        ("custom_model_config {}", "found custom_model_config"),
        ("model_config_list: 3", "wanted a message, found 3"),
        ("model_config_list { config { name: 3 } }", "wanted a string, found 3"),
        (
            "model_config_list { config { name: 'a' } config { name: 'a' } }",
            "found a twice",
        ),
        (
            "model_config_list { config { version_labels { key: 'a' value: 1.5 } } }",
            "wanted an integer, found 1.5",
        ),
        ("a {" * 200, "100 levels at most"),
    ],
)
def test_what_is_no_models_config_is_refused_by_its_line(text, found):
    with pytest.raises(UsageError, match=rf"(?s)in T/models\.config, .*{found}"):
        read_models(text, "T/models.config")


@pytest.mark.parametrize("policy", ["latest { num_versions: 2 }", "all {}"])
def test_another_policy_is_a_persons_choice_and_refused(policy):
    entry = f"name: 'a' model_version_policy {{ {policy} }}"
    text = f"model_config_list {{ config {{ {entry} }} }}"
    with pytest.raises(UsageError, match=f"found {policy.split()[0]}. Remove"):
        with_labels(text, "it", "a", "/a", {"stable": 1})


@given(st.text(st.sampled_from("ab{}<>[]:;,'\"\\#- \n0178x.eE"), max_size=14))
@settings(max_examples=400, deadline=None)
def test_whatever_protobuf_reads_is_read(text):
    """In a message of any names: protobuf is asked to pass over those it lacks."""
    try:
        official.Parse(text, ModelServerConfig(), allow_unknown_field=True)
    except official.ParseError:
        return
    try:
        text_format.read_fields(text)
    except ValueError as error:  # protobuf takes numbers for the names it lacks
        assert re.search("wanted the name of a field, found [0-9]", str(error))
