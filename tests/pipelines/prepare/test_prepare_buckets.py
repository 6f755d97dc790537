# SPDX-License-Identifier: Apache-2.0
"""A corpus and a dataset may lie in a bucket; the bytes are those of a local disk."""

import hashlib
from pathlib import Path

import boto3
import pytest
from cloudpathlib import S3Client
from moto.server import ThreadedMotoServer

from pipelines import inspect_dataset, prepare_corpus
from preprocessing.foundation import storage
from tests.pipelines.prepared import SMALL, arguments, fingerprint

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch):
    """An S3 bucket served on the loopback; yields its URI."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setattr(S3Client, "_default_client", None)
    boto3.client("s3").create_bucket(Bucket="prepared")
    yield "s3://prepared"
    server.stop()


def test_a_bucket_gives_and_takes_the_same_bytes(
    corpus: Path, tokenizer_file: Path, dataset: Path, bucket: str
) -> None:
    for path in corpus.rglob("*"):
        if path.is_file():
            name = f"{bucket}/in/{path.relative_to(corpus)}"
            storage.write_atomically(name, path.read_bytes())
    # Neither an older dataset nor the output is input, though the glob holds both.
    for name in ("manifest.json", "tokenizer.json", "rejects/duplicate-00000.jsonl"):
        older = f"{bucket}/in/older/{name}"
        storage.write_atomically(older, (dataset / name).read_bytes())
    flags = arguments(corpus, tokenizer_file, Path("unused"), "--workers", "1")
    flags[flags.index("--input") + 1] = f"{bucket}/in/**/*"
    flags[flags.index("--output") + 1] = f"{bucket}/in/out"
    prepare_corpus.main([*flags, "--max_reject_fraction", "0.5"], SMALL)
    inspect_dataset.main(["verify", f"{bucket}/in/out"])
    for name, digest in fingerprint(dataset).items():
        data = storage.read_bytes(f"{bucket}/in/out/{name}")
        assert hashlib.sha256(data).hexdigest() == digest, name
    assert not storage.exists(f"{bucket}/in/out/_work")
