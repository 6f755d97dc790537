# SPDX-License-Identifier: Apache-2.0
"""Trees of releases for tests: whole ones to all who do not compute with them."""

from preprocessing.contracts.releases import (
    LINEAGE_NAME,
    SAVED_MODEL_NAME,
    TOKENIZER_ASSET,
    WARMUP_NAME,
    Lineage,
)
from preprocessing.foundation import storage

FILES = {
    SAVED_MODEL_NAME: b"graph",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": b"values",
    TOKENIZER_ASSET: b"{}",
    WARMUP_NAME: b"",
}


def lineage(step: int = 5, **fields) -> Lineage:
    """Returns a lineage of the given facts."""
    return Lineage(
        dataset_hash="d" * 64,
        tokenizer_sha256="e" * 64,
        config={"seed": 0},
        step=step,
        vocab_size=300,
        bos_id=None,
        eos_id=1,
        pad_id=0,
        context=64,
        versions={"quern": "0.1.0"},
        expected={},
        **fields,
    )


def make_model(models: str, name: str, *versions: int) -> str:
    """Writes some versions of a model, and returns its directory."""
    sizes = {file: len(data) for file, data in FILES.items()}
    for version in versions:
        facts = lineage(step=version, run="run", files=sizes)
        files = {**FILES, LINEAGE_NAME: facts.to_bytes()}
        for file, data in files.items():
            path = storage.join(models, name, str(version), file)
            storage.make_directory(path.rpartition("/")[0])
            storage.write_atomically(path, data)
    return storage.join(models, name)
