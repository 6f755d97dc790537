# SPDX-License-Identifier: Apache-2.0
"""Every record of input is a prompt or says why not, and every id comes once."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.generation.prompt_files import Record
from pipelines.generation.prompts import (
    Prompt,
    PromptFields,
    PromptReader,
    judged,
    row_seed,
)
from preprocessing.foundation import storage

FIELDS = PromptFields()


def judge(fields, wanted=FIELDS):
    return judged(Record("p:3", fields), wanted)


@pytest.mark.parametrize(
    ("fields", "id", "error"),
    [
        ({"id": True, "prompt": "x"}, "p:3", "field id not a string or whole number"),
        ({"id": 1.5, "prompt": "x"}, "p:3", "field id not a string or whole number"),
        ({"id": "\ud800", "prompt": "x"}, "p:3", "field id not a string or whole num"),
        ({"id": b"\xff", "prompt": "x"}, "p:3", "field id not a string or whole num"),
        ({"id": 7, "a": 1}, 7, "no field prompt or text at p:3, found id, a"),
        (
            {"id": "7", "prompt": None},
            "7",
            "no field prompt or text at p:3, found id, prompt (null)",
        ),
        ({"prompt": ["x"]}, "p:3", "field prompt not a string at p:3"),
        ({"id": 7, "prompt": "a\udfffb"}, 7, "half of a surrogate pair at p:3"),
        ({"id": 7, "text": b"\xff"}, 7, "field text not UTF-8 at p:3"),
    ],
)
def test_a_record_that_is_no_prompt_says_why_under_its_own_id(fields, id, error):
    prompt = judge(fields)
    assert (prompt.id, prompt.text) == (id, None)
    assert error in prompt.error


@pytest.mark.parametrize("none", [{}, {"id": None}, {"id": ""}, {"id": "NaN"}])
def test_a_record_without_an_id_is_called_by_its_file_and_line(none):
    assert judge({"prompt": "x", **none}) == Prompt("p:3", "x")


def test_fields_hold_what_the_flags_say_they_do():
    fields = PromptFields(prompts=("question",), id="key", keep=("n", "gone", "day"))
    record = {"key": b"a", "question": b"why?", "prompt": 3, "n": [1.5, "\ud800"]}
    record["day"] = float("nan")
    kept = {"n": [1.5, "?"], "gone": None, "day": "nan"}
    assert judge(record, fields) == Prompt("a", "why?", None, kept)
    assert judge({"text": "b", "prompt": "a"}) == Prompt("p:3", "a")
    assert judge({"text": "b"}) == judge({"text": "b", "prompt": None})


def test_prompts_say_how_often_there_was_a_choice(tmp_path):
    rows = [{"prompt": "a", "text": "b"}, {"text": "c"}, {"prompt": "d", "text": "e"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    reader = PromptReader(storage.expand([str(tmp_path / "*")]), "auto", FIELDS)
    assert [prompt.text for prompt in reader] == ["a", "c", "d"]
    assert [prompt.text for prompt in reader] == ["a", "c", "d"] and reader.doubles == 2


IDS = st.one_of(
    st.none(),
    st.integers(0, 2),
    st.sampled_from(["1", "a", "p.jsonl:2", "p.jsonl:3"]),
    st.booleans(),
)


@given(st.lists(IDS, min_size=1, max_size=9))
def test_every_id_comes_out_once_and_the_first_to_have_it_is_answered(
    tmp_path_factory, ids
):
    path = tmp_path_factory.mktemp("ids") / "p.jsonl"
    rows = [{"id": each, "prompt": "x"} for each in ids]
    path.write_text("\n".join(map(json.dumps, rows)))
    prompts = [*PromptReader(storage.expand([str(path)]), "auto", FIELDS)]
    assert len(prompts) == len(ids)
    assert len({str(prompt.id) for prompt in prompts}) == len(ids)
    seen = set()
    for number, (own, prompt) in enumerate(zip(ids, prompts, strict=True), 1):
        place = f"p.jsonl:{number}"
        wanted = place if own is None else own
        good = not isinstance(own, bool) and str(wanted) not in seen
        assert (prompt.error is None) == good
        if good:
            assert prompt.id == wanted and type(prompt.id) is type(wanted)
        seen.add(str(prompt.id))


def test_a_rows_seed_depends_on_the_jobs_seed_and_the_id():
    seeds = [row_seed(0, 7), row_seed(0, "7"), row_seed(1, 7), row_seed(0, 8)]
    assert len(set(seeds)) == 4
    assert row_seed(0, 7) == seeds[0]
    assert all(-(2**63) <= seed < 2**63 for seed in seeds)
