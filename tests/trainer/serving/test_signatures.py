# SPDX-License-Identifier: Apache-2.0
"""Every signature answers row by row: none for no rows, and no row for another's."""

import math

import pytest
import tensorflow as tf

from preprocessing.contracts.signatures import IDS, SIGNATURES
from tests.releases import SEQUENCE_LENGTH, tokenizer_of, untrained_run
from trainer.models.model import FAMILIES
from trainer.release.release import warmup_requests
from trainer.release.servable import decoding_of
from trainer.serving.signatures import TextModel

REQUEST = {
    "prompt": ["the river", "a"],
    "max_new_tokens": [3, 3],
    "temperature": [0.0, 1.0],
    "top_k": [0, 5],
    "top_p": [1.0, 0.9],
    "min_p": [0.0, 0.1],
    "repetition_penalty": [1.0, 1.2],
    "stop": ["", "a"],
    "seed": [1, 2],
}


@pytest.fixture(scope="module", params=FAMILIES)
def text_model(request, dataset) -> TextModel:
    run = untrained_run(dataset, request.param)
    tokenizer, decoding = tokenizer_of(run), decoding_of(run)
    return TextModel(run.model, tokenizer, decoding, SEQUENCE_LENGTH)


def answer(text_model: TextModel, name: str, values: dict) -> dict[str, tf.Tensor]:
    function = text_model.signatures()[name].get_concrete_function()
    specs = function.structured_input_signature[1] or {
        each.name: each for each in text_model.slots.specs(name)
    }
    inputs = {key: filled(spec, values.get(key, ())) for key, spec in specs.items()}
    return function(**inputs)


def filled(spec: tf.TensorSpec, rows) -> tf.Tensor:
    """Returns rows as a tensor; without any, of size 1 where a size is open."""
    if len(rows):
        return tf.constant(rows, spec.dtype)
    return tf.zeros([0, *(size or 1 for size in spec.shape[1:])], spec.dtype)


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_batch_of_no_rows_has_no_answers(text_model, name):
    signature = SIGNATURES[name]
    found = answer(text_model, name, {each.name: [] for each in signature.inputs})
    for output in signature.outputs:
        shape = found[output.name].shape.as_list()
        width = 0 if output.shape == IDS else 32  # hidden units
        assert shape == [0, *(width for _ in output.shape)], output.name


@pytest.mark.parametrize("name", [each.name for each in SIGNATURES["generate"].inputs])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_inputs_of_unequal_lengths_are_refused_in_one_line(text_model, name, count):
    values = (REQUEST[name] * 2)[:count]
    with pytest.raises(tf.errors.InvalidArgumentError) as failure:
        answer(text_model, "generate", {**REQUEST, name: values})
    told = f"{count if name == 'prompt' else 2}"
    assert f"one value of every input for each of the prompts:] [{told}]" in str(
        failure.value
    )


@pytest.mark.parametrize("name", ["temperature", "top_p"])
@pytest.mark.parametrize("row", [0, 1])
def test_a_parameter_that_is_no_number_is_refused_wherever_it_stands(
    text_model, name, row
):
    values = [*REQUEST[name]]
    values[row] = math.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"a {name} for every row"):
        answer(text_model, "generate", {**REQUEST, name: values})


def test_what_tokenize_gives_detokenize_takes_whatever_stands_behind_it(text_model):
    texts = ["the river ran", "", "Größe 漢字 🙂"]
    found = answer(text_model, "tokenize", {"text": texts})
    ids, counts = found["token_ids"].numpy(), found["num_tokens"].numpy()
    for filler in (int(ids[0, 0]), -1, 10**6):
        rows = [
            [*row[:n], *[filler] * (9 + len(row) - n)]
            for row, n in zip(ids, counts, strict=True)
        ]
        given = {"token_ids": rows, "num_tokens": counts.tolist()}
        told = answer(text_model, "detokenize", given)["text"].numpy()
        assert [text.decode() for text in told] == texts
    # A character that is cut reads as U+FFFD.
    given["num_tokens"] = [0, 0, counts[2] - 1]
    told = answer(text_model, "detokenize", given)["text"].numpy()
    assert [text.decode() for text in told[:2]] == ["", ""]
    assert told[2].decode().startswith("Größe 漢字 ")
    assert "\ufffd" in told[2].decode()


def test_every_signature_is_warmed_up_once_with_all_that_it_takes(text_model):
    requests = warmup_requests(text_model)
    assert [request.signature for request in requests] == [*text_model.signatures()]
    for request in requests:
        function = text_model.signatures()[request.signature]
        names = [spec.name for spec in function.input_signature]
        assert [*request.inputs] == names
