# SPDX-License-Identifier: Apache-2.0
"""Which shapes and precisions of a model are refused, and what is derived."""

import pytest

from preprocessing.commands import UsageError
from trainer.models.language_model import ModelConfig, PrecisionConfig


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"family": "decodr"}, "Did you mean decoder"),
        ({"num_layers": 0}, "model.num_layers"),
        ({"d_model": 30, "num_heads": 4}, "model.num_heads"),
        ({"d_model": 12, "num_heads": 4}, "even multiple"),
        ({"num_heads": 4, "num_kv_heads": 3}, "model.num_kv_heads"),
        ({"dropout": 1.0}, "model.dropout"),
        ({"attention": "chunk"}, "Did you mean chunked"),
        ({"attention_chunk": 0}, "model.attention_chunk"),
        ({"remat": "some"}, "model.remat"),
        ({"family": "recurrent", "remat": "full"}, "only the decoder's blocks"),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused(values: dict, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        ModelConfig(**values)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"compute": "float8"}, "precision.compute"),
        ({"params": "bfloat16"}, "precision.params"),
    ],
)
def test_a_precision_that_cannot_train_is_refused(values: dict, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        PrecisionConfig(**values)


@pytest.mark.parametrize(
    ("attention", "short", "long"),
    [("auto", False, True), ("full", False, False), ("chunked", True, True)],
)
def test_long_rows_go_in_chunks_and_rows_of_unknown_length_never_do(
    attention: str, short: bool, long: bool
) -> None:
    config = ModelConfig(attention=attention)
    assert (config.chunks(1023), config.chunks(1024)) == (short, long)
    assert not config.chunks(None)


def test_sizes_left_out_are_derived() -> None:
    config = ModelConfig(d_model=384, num_heads=6)
    assert (config.kv_heads, config.head_dim, config.hidden_dim) == (6, 64, 1024)
