# SPDX-License-Identifier: Apache-2.0
"""The peer of the curation benchmark; runs where datatrove, spaCy and fastText are.

python curate_datatrove.py INPUT OUTPUT TOKENIZER_JSON CORES LANGUAGE_MODEL|none

In as few passes as datatrove's parts allow: each is a stage of its own only where the
next needs all of its results. Documents go through the order of FineWeb, then exact and
MinHash deduplication, personal data and the tokenizer, whose windows need no packing.
Writes OUTPUT/measured.json: wall seconds of each stage, seconds of each of its parts
summed over tasks, and documents left.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

BANDS, ROWS = 14, 8


def main() -> None:
    """Runs the stages one after another, two tasks at a time for two cores."""
    source, output, tokenizer, cores, language_model = sys.argv[1:]
    shutil.rmtree(output, ignore_errors=True)
    # Where datatrove keeps a copy of the language model.
    os.environ["HF_ASSETS_CACHE"] = f"{output}/assets"
    judges = web_filters(language_model)
    measured = {}
    planned = stages(source, output, tokenizer, int(cores), judges)
    for name, (tasks, parts) in planned.items():
        start = time.monotonic()
        found = run_stage(parts, tasks, int(cores), f"{output}/logs/{name}")
        measured[name] = {"wall_seconds": time.monotonic() - start, "parts": found}
    Path(output, "measured.json").write_text(json.dumps(measured, indent=1))


def stages(
    source: str, output: str, tokenizer: str, cores: int, filters: list[Callable]
) -> dict[str, tuple[int, list[Callable]]]:
    """Returns the stages in order: (number of tasks, datatrove's parts)."""
    from datatrove.pipeline.dedup import (
        ExactDedupConfig,
        ExactDedupFilter,
        ExactDedupSignature,
        ExactFindDedups,
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.formatters import PIIFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers import JsonlWriter

    exact = ExactDedupConfig(content_getter=text_of)
    near = MinhashConfig(num_buckets=BANDS, hashes_per_bucket=ROWS)
    place = f"{output}/{{}}".format
    writers = {
        name: JsonlWriter(
            place(name), output_filename="${rank}.jsonl", compression=None
        )
        for name in ("judged", "unique")
    }
    judging = [JsonlReader(source), *filters, writers["judged"]]
    signing = [
        JsonlReader(place("judged")),
        ExactDedupFilter(place("exact"), config=exact),
        writers["unique"],
        MinhashDedupSignature(place("signatures"), config=near),
    ]
    writing = [
        JsonlReader(place("unique")),
        MinhashDedupFilter(place("remove")),
        PIIFormatter(),
        DocumentTokenizer(
            place("tokens"), tokenizer_name_or_path=tokenizer, eos_token="<|eos|>"
        ),
    ]
    return {
        "judge": (cores, [*judging, ExactDedupSignature(place("hashes"), exact)]),
        "exact": (1, [ExactFindDedups(place("hashes"), place("exact"), config=exact)]),
        "sign": (cores, signing),
        "buckets": (
            BANDS,
            [MinhashDedupBuckets(place("signatures"), place("pairs"), config=near)],
        ),
        "cluster": (
            1,
            [MinhashDedupCluster(place("pairs"), place("remove"), config=near)],
        ),
        "tokenize": (cores, writing),
    }


def web_filters(language_model: str) -> list[Callable]:
    """Returns FineWeb's filters in its order, as Quern's `web_en` has them.

    datatrove would download lid.176.bin (131 MB); given is the compressed lid.176.ftz,
    which is the one that Quern uses.
    """
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
        LanguageFilter,
    )

    judges = [
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
    ]
    if language_model == "none":
        return judges
    languages = LanguageFilter(languages="en")
    languages.model.MODEL_URL = language_model
    return [languages, *judges]


def text_of(document: object) -> str:
    """Returns what exact deduplication compares."""
    return document.text  # type: ignore[attr-defined]


def run_stage(
    parts: list[Callable], tasks: int, workers: int, logs: str
) -> list[dict[str, object]]:
    """Runs a stage; returns each part's name, seconds over all tasks and documents."""
    from datatrove.executor import LocalPipelineExecutor

    LocalPipelineExecutor(
        pipeline=parts, tasks=tasks, workers=min(tasks, workers), logging_dir=logs
    ).run()
    statistics = json.loads(Path(logs, "stats.json").read_text())
    seconds = [part["time_stats"].get("total", 0.0) for part in statistics]
    for place, part in enumerate(parts):
        # Its clock runs on while the parts after it work.
        if type(part).__name__ == "ExactDedupFilter":
            seconds[place] = max(0.0, seconds[place] - sum(seconds[place + 1 :]))
    return [
        {
            "name": part["name"].encode("ascii", "ignore").decode().strip(" -:"),
            "seconds": spent,
            "forwarded": part["stats"].get("forwarded", 0),
        }
        for part, spent in zip(statistics, seconds, strict=True)
    ]


if __name__ == "__main__":
    main()
