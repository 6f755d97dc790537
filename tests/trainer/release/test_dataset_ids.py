# SPDX-License-Identifier: Apache-2.0
"""A release encodes as its dataset was encoded, or is refused."""

import dataclasses
import hashlib
from types import SimpleNamespace

import pytest

from pipelines.job.plan import PrepareConfig, TokenizerConfig
from preprocessing.contracts.manifest import Manifest, read_manifest
from preprocessing.foundation.commands import UsageError
from tests.datasets import write_dataset
from tests.family_tokenizers import plain, with_added
from trainer.release.servable import open_tokenizer


def opened(manifest: Manifest, path: str) -> SimpleNamespace:
    return SimpleNamespace(manifest=manifest, tokenizer_path=path)


def config_with(text_tokens: bool) -> dict[str, object]:
    tokenizer = TokenizerConfig("0", 300, 0, 1, 2, text_tokens)
    return PrepareConfig(tokenizer).to_dict()


def test_a_dataset_that_has_no_ids_for_added_tokens_of_text_is_refused(
    tmp_path,
) -> None:
    path = write_dataset(tmp_path / "dataset", documents=8, num_shards=1)
    manifest = read_manifest(str(path))
    file = path / "tokenizer.json"
    plain_one = dataclasses.replace(manifest, config=config_with(False))
    assert open_tokenizer(opened(plain_one, str(file))).bpe.text_tokens == {}
    data = with_added(file.read_bytes(), plain("  ", "   "))
    file.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    old = dataclasses.replace(plain_one, tokenizer_sha256=sha256)
    with pytest.raises(UsageError, match=r"an older Quern.* Prepare it again"):
        open_tokenizer(opened(old, str(file)))
    new = dataclasses.replace(old, config=config_with(True))
    assert len(open_tokenizer(opened(new, str(file))).bpe.text_tokens) == 2


def test_configurations_without_such_tokens_are_as_they_were() -> None:
    assert set(config_with(False)["tokenizer"]) == {
        *("sha256", "vocab_size", "bos_id", "eos_id", "pad_id")
    }
    assert config_with(True)["tokenizer"]["text_tokens"] is True
