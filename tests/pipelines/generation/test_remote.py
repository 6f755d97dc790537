# SPDX-License-Identifier: Apache-2.0
"""Prompts answered by servers that take and give what the official ones do."""

import socket
import time
from dataclasses import replace

import pytest

from pipelines.generation.modes import Wanted
from pipelines.generation.prompts import Prompt
from pipelines.generation.remote_answers import find_remote
from pipelines.generation.remote_requests import JsonClient, RequestRules, pause
from preprocessing.contracts.generation_config import GenerationConfig
from preprocessing.contracts.signatures import SIGNATURES, Signature
from preprocessing.foundation.commands import UsageError, WorkError
from tests.pipelines.generation.model_servers import (
    Invalid,
    completions,
    serving,
    tensorflow_serving,
)

RULES = RequestRules(concurrency=4, retries=2, seconds=20)
GENERATED = Wanted(config=GenerationConfig(max_new_tokens=5, batch_size=3))
TEXTS = ["a", "bb", "ccc", "poison", "e" * 9, "Ü\0", "poison too", "", "h"]


def capitals(signature, columns):
    """A model that answers in capitals, and fails on any batch that holds a poison."""
    texts = columns.get("prompt") or columns["text"]
    if any("poison" in text for text in texts):
        raise Invalid("cannot swallow this")
    count = [len(text) for text in texts]
    if signature == "embed":
        mean = [[float(n), 0.100000001] for n in count]
        return {"mean": mean, "last": [[0.5]] * len(texts), "num_tokens": count}
    if signature.startswith("score"):
        behind = columns.get("continuation", [""] * len(texts))
        return {
            "log_likelihood": [-float(len(t)) for t in behind],
            "num_tokens": count,
            "num_bytes": count,
            "is_greedy": [n > 1 for n in count],
        }
    return {
        "text": [text.upper().encode() for text in texts],
        "token_ids": [[1]] * len(texts),
        "num_tokens": count,
        "finish_reason": [b"length"] * len(texts),
    }


def made(url, texts, wanted=GENERATED, rules=RULES, model=None):
    prompts = [
        text if isinstance(text, Prompt) else Prompt(text, text) for text in texts
    ]
    remote, done = find_remote(url, model, rules, wanted), []
    client = JsonClient(remote.rules)
    report = lambda prompts, tokens: done.append(prompts)  # noqa: E731
    return remote.made(prompts, client, wanted, report), done


@pytest.mark.parametrize("concurrency", [1, 5])
def test_a_poison_costs_its_neighbours_nothing_and_the_servers_words_are_quoted(
    concurrency,
):
    rules = replace(RULES, concurrency=concurrency)
    with serving(tensorflow_serving(capitals)) as (server, _):
        found, done = made(f"{server}/v1/models/quern", TEXTS, rules=rules)
        for text, answer in zip(TEXTS, found, strict=True):
            wanted = {"text": text.upper(), "num_tokens": len(text)}
            wanted["finish_reason"] = "length"
            if "poison" in text:
                place = server.removeprefix("http://")
                told = f"{place} answered 400 Bad Request: cannot swallow this"
                wanted = {"error": f"the request failed: {told}"}
            assert answer == wanted
        assert done == [3, 6, 9]


def test_every_row_has_its_own_seed_and_the_jobs_settings():
    with serving(tensorflow_serving(capitals)) as (server, asked):
        config = GenerationConfig(
            temperature=0.5, top_k=3, batch_size=2, seed=7, stop=("\n", "end")
        )
        made(f"{server}/v1/models/quern", ["a", "b", "c"], Wanted(config=config))
    bodies = [body for body in asked.bodies if body]
    rows = sorted(
        (r for b in bodies for r in b["instances"]), key=lambda r: r["prompt"]
    )
    assert {body["signature_name"] for body in bodies} == {"generate"}
    assert len({row["seed"] for row in rows}) == 3
    assert [row["temperature"] for row in rows] == [0.5] * 3
    assert [row["top_k"] for row in rows] == [3] * 3
    assert [row["stop"] for row in rows] == ["\n\0end"] * 3
    assert not any("Authorization" in headers for headers in asked.headers)


def test_documents_and_continuations_are_scored_and_texts_embedded():
    prompts = [Prompt(1, "a"), Prompt(2, "bb", continuation="xyz")]
    with serving(tensorflow_serving(capitals)) as (server, asked):
        url = f"{server}/v1/models/quern"
        found, _ = made(url, prompts, Wanted(mode="score"))
        assert [one["log_likelihood"] for one in found] == [0.0, -3.0]
        assert [one["is_greedy"] for one in found] == [False, True]
        found, _ = made(url, ["a", "bb"], Wanted(mode="embed"))
        assert found[1] == {"embedding": [2.0, 0.1], "num_tokens": 2}
        found, _ = made(url, ["a"], Wanted(mode="embed", pooling="last"))
        assert found == [{"embedding": [0.5], "num_tokens": 1}]
    names = [body["signature_name"] for body in asked.bodies if body]
    assert sorted(names) == ["embed", "embed", "score", "score_continuation"]


def test_the_version_that_is_served_is_found_once_and_asked_for_by_number():
    states = {3: "AVAILABLE", 4: "LOADING", 2: "AVAILABLE"}
    answer = tensorflow_serving(capitals, states, labels={"stable": 2})
    with serving(answer) as (server, asked):
        for which, number in [("", 3), ("/labels/stable", 2), ("/versions/2", 2)]:
            url = f"{server}/v1/models/quern{which}"
            made(url, ["a"])
            pinned = f"/v1/models/quern/versions/{number}"
            assert asked.paths[-1] == f"{pinned}:predict"
            identity = find_remote(url, None, RULES, GENERATED).identity()
            assert identity == {
                "server": "tensorflow-serving",
                "url": f"{server}{pinned}",
            }


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again_when_the_server_says(status):
    inner, failures = tensorflow_serving(capitals), iter([1, 2])

    def answer(path, body):
        if body and next(failures, None):
            return status, {"Retry-After": 0}, {"error": "busy"}
        return inner(path, body)

    with serving(answer) as (server, asked):
        found, _ = made(f"{server}/v1/models/quern", ["a"])
    assert found[0]["text"] == "A"
    assert len([body for body in asked.bodies if body]) == 3


def test_a_server_that_answers_500_is_quoted_by_every_record():
    def answer(path, body):
        if body:
            return 500, {"Retry-After": 0}, b"<html>out of\nmemory</html>"
        return inner(path, body)

    inner = tensorflow_serving(capitals)
    with serving(answer) as (server, _):
        found, _ = made(f"{server}/v1/models/quern", TEXTS)
    told = "answered 500 Internal Server Error: <html>out of memory</html>"
    assert all(one["error"].endswith(told) for one in found)


def test_a_record_that_is_not_answered_in_time_is_an_error_of_its_own():
    inner = tensorflow_serving(capitals)

    def answer(path, body):
        if body and any("slow" in row["prompt"] for row in body["instances"]):
            time.sleep(1)
        return inner(path, body)

    rules = replace(RULES, retries=0, seconds=0.4)
    with serving(answer) as (server, _):
        found, _ = made(f"{server}/v1/models/quern", ["a", "slow"], rules=rules)
    assert found[0]["text"] == "A"
    assert found[1] == {"error": "the request failed: no answer within 0.4 s"}


def test_a_server_that_is_not_there_ends_the_job_in_one_line_that_says_what_was_tried():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{unused.getsockname()[1]}"
    rules = replace(RULES, retries=1)
    for path in ("/v1/models/quern", ""):
        with pytest.raises(WorkError) as failure:
            find_remote(f"http://{place}{path}", None, rules, GENERATED)
        text = str(failure.value)
        assert f"answer of {place}, found nobody there" in text
        assert "2 attempts" in text and "\n" not in text


def test_what_every_request_would_meet_ends_the_job():
    inner = tensorflow_serving(capitals)

    def answer(path, body):
        refusal = 401, {}, {"error": {"message": "Incorrect API key provided"}}
        return refusal if body else inner(path, body)

    with (
        serving(answer) as (server, _),
        pytest.raises(WorkError, match="401 Unauthorized: Incorrect API key provided"),
    ):
        made(f"{server}/v1/models/quern", TEXTS)


@pytest.mark.parametrize(
    ("path", "model", "wanted", "message"),
    [
        ("/v1/models/other", None, GENERATED, "any versions of model other"),
        ("/v1/models/quern", "quern", GENERATED, "Leave one out"),
        ("/v1", None, Wanted(mode="score"), "TensorFlow Serving for --mode score"),
        ("/v1/models/quern", None, Wanted(mode="embed"), "wanted the signature embed"),
    ],
)
def test_what_a_server_has_not_is_said_before_work(path, model, wanted, message):
    few = {name: one for name, one in SIGNATURES.items() if name != "embed"}
    answer = tensorflow_serving(capitals, signatures=few)
    with (
        serving(answer) as (server, _),
        pytest.raises((UsageError, WorkError), match=message),
    ):
        find_remote(f"{server}{path}", model, RULES, wanted)


def test_a_release_of_an_older_quern_is_asked_for_what_it_has():
    now, old = SIGNATURES["generate"], ("prompt", "max_new_tokens", "top_k", "seed")
    inputs = tuple(each for each in now.inputs if each.name in old)
    outputs = tuple(each for each in now.outputs if each.name != "logprobs")
    older = {"generate": Signature(inputs, outputs)}
    with serving(tensorflow_serving(capitals, signatures=older)) as (server, asked):
        found, _ = made(f"{server}/v1/models/quern", ["a"])
        assert found == [{"text": "A", "num_tokens": 1, "finish_reason": "length"}]
        assert asked.bodies[-1]["instances"][0].keys() == set(old)
        stop = Wanted(config=GenerationConfig(stop=("b",)))
        with pytest.raises(UsageError, match="found --stop"):
            made(f"{server}/v1/models/quern", ["a"], stop)


@pytest.mark.parametrize(
    "url", ["localhost:8501", "http://me:pass@host/v1", "http://h?k"]
)
def test_an_address_with_credentials_or_without_a_scheme_is_refused(url):
    with pytest.raises(UsageError, match="wanted --remote") as failure:
        find_remote(url, None, RULES, GENERATED)
    assert "pass@" not in str(failure.value)


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/completions"])
def test_completions_are_asked_for_one_by_one_in_openais_words(path, monkeypatch):
    def complete(body):
        if "poison" in body["prompt"]:
            raise Invalid("This model's maximum context length is 8 tokens")
        return body["prompt"].upper(), "stop"

    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    config = GenerationConfig(max_new_tokens=5, temperature=0.5, top_p=0.9, seed=1)
    with serving(completions(complete)) as (server, asked):
        found, _ = made(f"{server}{path}", TEXTS, Wanted(config=config))
        identity = find_remote(f"{server}{path}", None, RULES, GENERATED).identity()
        assert identity == {"server": "openai", "url": f"{server}/v1", "model": "quern"}
    for text, answer in zip(TEXTS, found, strict=True):
        if "poison" in text:
            assert answer["error"].endswith("maximum context length is 8 tokens")
        else:
            count = {"num_tokens": len(text), "finish_reason": "stop"}
            assert answer == {"text": text.upper(), **count}
    bodies = [body for body in asked.bodies if body]
    assert sorted(body["prompt"] for body in bodies) == sorted(TEXTS)
    seeds = {body.pop("seed") for body in bodies}
    assert len(seeds) == len(TEXTS) and all(0 <= seed < 2**31 for seed in seeds)
    said = {"model": "quern", "max_tokens": 5, "temperature": 0.5, "top_p": 0.9}
    assert all({**said, "prompt": body["prompt"]} == body for body in bodies)
    assert {headers["Authorization"] for headers in asked.headers} == {"Bearer sk-mine"}


def test_one_of_several_models_has_to_be_named():
    answer = completions(lambda body: (body["model"], "stop"), ("one", "two"))
    with serving(answer) as (server, _):
        for model in (None, "three"):
            with pytest.raises(UsageError, match="name one of one, two"):
                made(server, ["a"], model=model)
        found, _ = made(server, ["a"], model="two")
    assert found[0]["text"] == "two"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"choices": []}, "answered no completion"),
        ({"choices": [{"text": 3}]}, "answered no completion"),
        ([], "answered no completion"),
        (b"pong", "answered no JSON"),
    ],
)
def test_an_answer_that_is_none_is_an_error_of_its_record(value, told):
    inner = completions(lambda body: ("", "stop"))
    answer = lambda path, body: (200, {}, value) if body else inner(path, body)  # noqa: E731
    with serving(answer) as (server, _):
        found, _ = made(server, ["a"])
    assert told in found[0]["error"]


def test_waits_double_and_follow_from_seed_and_request():
    waits = [pause(tried, b"request", seed=1) for tried in range(1, 12)]
    assert waits == [pause(tried, b"request", seed=1) for tried in range(1, 12)]
    assert waits[0] != pause(1, b"request", seed=2) != pause(1, b"another", seed=2)
    for tried, wait in enumerate(waits):
        whole = min(0.5 * 2**tried, 60.0)
        assert whole / 2 <= wait <= whole
