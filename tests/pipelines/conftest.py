# SPDX-License-Identifier: Apache-2.0
"""Small corpora and their datasets, prepared once for the tests that only read them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines import batch_generate, prepare_corpus
from pipelines.generation.release import ReleaseHandler
from tests.pipelines import generated, prepared


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what reads a dataset of this file as slow: a Beam job prepares it."""
    here = Path(__file__).parent
    for item in items:
        asked = {"dataset", "curated"} & set(getattr(item, "fixturenames", ()))
        if asked and here in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared.write_corpus(tmp_path_factory.mktemp("corpus") / "input")


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared.write_tokenizer(tmp_path_factory.mktemp("tok") / "tokenizer.json")


@pytest.fixture(scope="session")
def dataset(
    corpus: Path, tokenizer_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("prepared") / "dataset"
    return prepared.prepare(
        corpus,
        tokenizer_file,
        output,
        "--workers",
        "1",
        "--max_reject_fraction",
        "0.5",
    )


@pytest.fixture(scope="session")
def curated_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared.write_curated_corpus(tmp_path_factory.mktemp("curated") / "input")


@pytest.fixture(scope="session")
def curated(
    curated_corpus: Path, tokenizer_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A dataset of rules and every kind of deduplication; its work stays beside it."""
    output = tmp_path_factory.mktemp("prepared") / "curated"
    flags = prepared.arguments(
        curated_corpus, tokenizer_file, output, *prepared.CURATED
    )
    job = prepare_corpus.prepare(flags, prepared.SMALL)
    assert job is not None
    Path(job.work).rename(output.parent / "work")
    return output


@pytest.fixture(scope="session")
def models(shared_release: Callable[[str], Path]) -> Path:
    """A release of a decoder that was never trained."""
    return shared_release("decoder").parent


@pytest.fixture(scope="session")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generated.write_prompts(tmp_path_factory.mktemp("prompts"))


@pytest.fixture(scope="session")
def loaded_once() -> Callable[[ReleaseHandler], Any]:
    """Loads a release as a job does; the next job of this process has it already.

    Loading it and the first answer take longer than all others of a small job.
    """
    load, loaded = ReleaseHandler.load_model, {}

    def kept(handler: ReleaseHandler) -> Any:
        key = handler._release, handler._threads
        if key not in loaded:
            loaded[key] = load(handler)
        return loaded[key]

    return kept


@pytest.fixture(scope="session")
def generate(
    models: Path, prompts: Path, loaded_once: Callable[[ReleaseHandler], Any]
) -> Callable[..., None]:
    """Runs the command on `prompts` in this process unless told otherwise."""

    def run(
        output: Path | str, *flags: str, workers: int = 1, loads: bool = False
    ) -> None:
        words = ["--model", str(models), "--input", str(prompts)]
        words += ["--output", str(output), "--workers", str(workers)]
        with pytest.MonkeyPatch.context() as patch:
            if not loads:
                patch.setattr(ReleaseHandler, "load_model", loaded_once)
            batch_generate.main([*words, "--max_new_tokens", "6", *flags])

    return run


@pytest.fixture(scope="session")
def finished(
    generate: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("finished") / "out"
    generate(output, *generated.SEEDED)
    return output
