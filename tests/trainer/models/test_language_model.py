# SPDX-License-Identifier: Apache-2.0
"""Which shapes and precisions of a model are refused, and what is derived."""

import pytest

from preprocessing.foundation.commands import UsageError
from trainer.models.decoder import DecoderConfig
from trainer.models.language_model import PrecisionConfig
from trainer.models.model import with_family
from trainer.models.parts.attention import HeadSizes
from trainer.models.recurrent import RecurrentConfig


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"num_layers": 0}, "model.num_layers"),
        ({"d_model": 30, "num_heads": 4}, "model.num_heads"),
        ({"d_model": 12, "num_heads": 4}, "even width"),
        ({"head_dim": 7}, "model.head_dim"),
        ({"num_heads": 4, "num_kv_heads": 3}, "model.num_kv_heads"),
        ({"dropout": 1.0}, "model.dropout"),
        ({"attention": "chunk"}, "Did you mean chunked"),
        ({"attention_chunk": 0}, "model.attention_chunk"),
        ({"remat": "some"}, "model.remat"),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused(values: dict, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        DecoderConfig(**values)


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
    config = DecoderConfig(attention=attention)
    assert (config.chunks(1023), config.chunks(1024)) == (short, long)
    assert not config.chunks(None)


def test_sizes_left_out_are_derived() -> None:
    config = DecoderConfig(d_model=384, num_heads=6)
    assert config.heads == HeadSizes(heads=6, kv_heads=6, head_dim=64)
    assert config.hidden_dim == 1024
    narrow = DecoderConfig(d_model=384, num_heads=6, num_kv_heads=2, head_dim=32)
    assert (narrow.heads.query_width, narrow.heads.kv_width) == (192, 64)


def test_a_family_keeps_the_keys_it_shares_with_another() -> None:
    wide = DecoderConfig(num_layers=3, d_model=24, num_heads=2, tie_embeddings=False)
    turned = with_family(wide, "recurrent")
    assert turned == RecurrentConfig(num_layers=3, d_model=24, tie_embeddings=False)
    assert with_family(wide, "decoder") is wide
    with pytest.raises(UsageError, match="Did you mean decoder"):
        with_family(wide, "decodr")
    with pytest.raises(UsageError, match="derived from ModelConfig"):
        with_family(wide, "pathlib:Path")
