# SPDX-License-Identifier: Apache-2.0
"""A release's `README.md`: a model card in Hugging Face's form, from lineage alone.

Its head is YAML as huggingface.co/docs/hub/model-cards has it, its sections are what
cards there are asked for. A fact that the lineage lacks, as those of earlier Querns do,
is said to be missing. The licence is for people to fill in.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from preprocessing.contracts.releases import Lineage
from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import count_of

_FILL = "*to be filled in*"
_MISSING = "not known: the Quern that exported this release did not record it"
# Keys of a dataset's configuration that filter documents, and what they are called.
_FILTERS = {
    "cleaning": "cleaning",
    "rules": "quality rules",
    "languages": "languages",
    "allow": "addresses allowed",
    "block": "addresses blocked",
    "deduplicate": "duplicates",
    "near": "near duplicates",
    "line_words": "words of lines compared",
    "decontaminate": "evaluations removed from it",
    "decontaminate_ngram": "words of an evaluation that count as found",
    "personal_data": "personal data",
}


def model_card(lineage: Lineage) -> str:
    """Returns the card of a release."""
    # In the order of the file, whoever made it: so it can be made again from there.
    lineage = Lineage(**strict_json.loads(lineage.to_bytes()))
    sections = {
        "Model": _model(lineage),
        "Data": _data(lineage),
        "Mixture": _mixture(lineage.dataset),
        "Filters and counts": _filters(lineage.dataset),
        "Tokenizer": _tokenizer(lineage),
        "Training": _training(lineage),
        "Evaluation": _evaluation(lineage),
        "Limits": _limits(lineage),
        "Licence": _licence(lineage),
        "Where it is from": _origin(lineage),
    }
    parts = [_head(lineage), f"# {_cell(_name(lineage))}"]
    parts += [f"## {name}\n\n{text}" for name, text in sections.items() if text]
    return "\n\n".join(parts) + "\n"


def _name(lineage: Lineage) -> str:
    if lineage.run:
        return f"{lineage.run}, step {lineage.step:,}"
    if _published(lineage):
        return "Published weights"
    return f"A model of step {lineage.step:,}"


def _head(lineage: Lineage) -> str:
    """Returns the YAML."""
    fields: dict[str, Any] = {
        "license": "unknown",
        "library_name": "quern",
        "pipeline_tag": "text-generation",
        "tags": ["tensorflow", "saved-model", "tensorflow-serving", "quern"],
    }
    metrics = [
        {"type": kind, "name": name, "value": value}
        for kind, name, value in _metrics(lineage.evaluation)
    ]
    if metrics:
        dataset = {
            "type": "quern",
            "name": f"validation split of {_short(lineage.dataset_hash)}",
            "split": "validation",
        }
        result = {
            "task": {"type": "text-generation", "name": "Text generation"},
            "dataset": dataset,
            "metrics": metrics,
        }
        fields["model-index"] = [{"name": _name(lineage), "results": [result]}]
    lines = [f"{key}: {_yaml(value)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _yaml(value: Any) -> str:
    """Returns JSON that is YAML: but for letters beyond its first 65,536 it is."""
    text = strict_json.dumps(value, ensure_ascii=False)
    return "".join(x if x.isprintable() else f"\\U{ord(x):08x}" for x in text)


def _metrics(evaluation: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Returns (type, name, value) of what was measured."""
    loss, bits = evaluation.get("validation_loss"), evaluation.get("bits_per_byte")
    found = [("loss", "Loss in nats per token", loss)]
    if loss is not None and loss < math.log(1e9):
        found.append(("perplexity", "Perplexity per token", round(math.exp(loss), 4)))
    found.append(("bits_per_byte", "Bits per byte of text", bits))
    return [(kind, name, value) for kind, name, value in found if value is not None]


def _model(lineage: Lineage) -> str:
    model = lineage.config.get("model", {})
    context = "any length" if lineage.context is None else f"{lineage.context:,} tokens"
    parameters = lineage.parameters
    size = sum(lineage.files.values())
    return _table(
        ("", ""),
        [
            ("family", model.get("family", _MISSING)),
            ("parameters", _MISSING if parameters is None else f"{parameters:,}"),
            ("vocabulary", f"{lineage.vocab_size:,} tokens"),
            ("prompt and continuation", context),
            ("weights stored in", lineage.weights),
            ("size", f"{size / 1e6:,.1f} MB" if size else _MISSING),
            ("form", "SavedModel for TensorFlow Serving, text in and text out"),
        ],
    )


def _data(lineage: Lineage) -> str:
    dataset = lineage.dataset
    if _published(lineage):
        return "Not known here: the weights were published by others."
    if not dataset:
        return f"{_MISSING}. SHA-256 of the dataset's manifest: `{_sha(lineage)}`."
    files = count_of(dataset["input_files"], "file")
    given = dataset.get("input") or {}
    size = f", {given['size']:,} bytes" if given else ""
    rows = [
        (name, *(f"{split[key]:,}" for key in ("rows", "tokens", "text_bytes")))
        for name, split in dataset["splits"].items()
    ]
    splits = _table(("split", "rows", "tokens", "bytes of text"), rows)
    several = lineage.training.get("datasets")
    first = f"The first of several datasets (`{several}`). " if several else ""
    return (
        f"{first}Made of {files}{size}, for the objective `{dataset['objective']}`, "
        f"in rows of {dataset['sequence_length']:,} tokens, with seed "
        f"{dataset['seed']}. SHA-256 of its manifest: `{_sha(lineage)}`.\n\n{splits}"
    )


def _mixture(dataset: Mapping[str, Any]) -> str:
    """Returns what each source gives to the training rows; nothing of no mixture."""
    train = dataset.get("splits", {}).get("train", {})
    sources = train.get("sources") or {}
    if not sources:
        return ""
    config = dataset["config"].get("mixture") or {}
    listed = {each["name"]: each for each in config.get("sources", ())}
    temperature = config.get("temperature")
    drawn = "-" if temperature is None else f"by temperature {temperature}"
    rows = []
    for name, numbers in sources.items():
        known = listed.get(name, {})
        share = numbers["rows"] / train["rows"] if train["rows"] else 0
        weight = known.get("weight")
        rows.append(
            (
                name,
                f"{numbers['rows']:,}",
                f"{numbers['tokens']:,}",
                f"{share:.1%}",
                drawn if weight is None else weight,
                known.get("epochs", "-"),
            )
        )
    return _table(
        ("source", "rows", "tokens", "part of rows", "weight", "epochs at most"), rows
    )


def _filters(dataset: Mapping[str, Any]) -> str:
    if not dataset:
        return ""
    config, counts = dataset["config"], dataset["counts"]
    asked = [
        f"- {name}: {_plain(config[key])}"
        for key, name in _FILTERS.items()
        if config.get(key)
    ]
    used = "\n".join(asked) or "None was asked for."
    rejected = counts["rejected"]
    told = f"Of {count_of(counts['read'], 'document')} read, {counts['kept']:,} stayed."
    if rejected:
        rows = [(reason, f"{number:,}") for reason, number in rejected.items()]
        told += f"\n\n{_table(('rejected for', 'documents'), rows)}"
    tokens = (
        f"{counts['tokens_encoded']:,} tokens encoded, {counts['tokens_written']:,} "
        f"written, {counts['dropped_tokens']:,} dropped."
    )
    return f"{used}\n\n{told}\n\n{tokens}"


def _tokenizer(lineage: Lineage) -> str:
    ids = {"begin": lineage.bos_id, "end": lineage.eos_id, "padding": lineage.pad_id}
    named = ", ".join(f"{name} {'none' if x is None else x}" for name, x in ids.items())
    stops = ", ".join(map(str, lineage.stop_ids))
    return (
        f"{lineage.vocab_size:,} tokens, in `assets/tokenizer.json`, "
        f"SHA-256 `{lineage.tokenizer_sha256}`. Ids: {named}"
        f"{f', further ends {stops}' if stops else ''}."
    )


def _training(lineage: Lineage) -> str:
    if _published(lineage):
        return "Not trained by Quern."
    told = f"{count_of(lineage.step, 'step')}"
    length = lineage.config.get("data", {}).get("sequence_length")
    if lineage.training:
        rows, seconds = lineage.training["rows"], lineage.training["seconds"]
        tokens = f" ({rows * length:,} tokens)" if length else ""
        told += f" over {count_of(rows, 'row')}{tokens} in {seconds:,.0f} seconds"
    parts = ("model", "optimizer", "data", "precision", "loss")
    keys = [
        f"{part}.{key} = {_plain(value)}"
        for part in parts
        for key, value in lineage.config.get(part, {}).items()
    ]
    keys += [f"seed = {lineage.config['seed']}"] if "seed" in lineage.config else []
    return f"{told}, with\n\n```text\n{chr(10).join(keys)}\n```"


def _evaluation(lineage: Lineage) -> str:
    rows = [(name, f"{value:.4f}") for _, name, value in _metrics(lineage.evaluation)]
    if not rows:
        return "Not measured at this checkpoint."
    told = (
        "Measured while training, on the dataset's validation split, before weights "
        f"were stored for serving.\n\n{_table(('', 'validation'), rows)}"
    )
    sources = lineage.evaluation.get("sources") or {}
    if sources:
        lines = [
            (name, _number(each.get("loss")), _number(each.get("bits_per_byte")))
            for name, each in sources.items()
        ]
        told += f"\n\n{_table(('source', 'loss', 'bits per byte'), lines)}"
    return told


def _limits(lineage: Lineage) -> str:
    context = lineage.context
    lines = [
        "It continues text as the text it was trained on goes on: what that says, its "
        "errors and prejudices included. It was not trained to follow instructions or "
        "to be safe, unless its data did that, and nothing here measures facts.",
        "No task was measured; the numbers above say how well it predicts text like "
        "its own.",
    ]
    if context is not None:
        lines.append(
            f"A prompt and its continuation have {context:,} tokens of room together; "
            "of a longer prompt the last ones are kept."
        )
    if lineage.weights != "float32":
        lines.append(
            f"Its weights are stored in {lineage.weights}, which loses something: "
            "`quern-export --weights … --data` says what."
        )
    return "\n".join(f"- {line}" for line in lines)


def _licence(lineage: Lineage) -> str:
    train = lineage.dataset.get("splits", {}).get("train", {})
    sources = train.get("sources") or {}
    parts = [f"data of source {name}" for name in sources] or ["training data"]
    rows = [(part, _FILL) for part in ("weights", *parts, "tokenizer", "contact")]
    return (
        "Quern knows no licences. Fill these in, and `license` at the top of this "
        f"file.\n\n{_table(('of', 'licence'), rows)}"
    )


def _origin(lineage: Lineage) -> str:
    rows = [
        ("run", lineage.run or "-"),
        ("checkpoint", f"step {lineage.step:,}"),
        ("index of the checkpoint, SHA-256", lineage.checkpoint_sha256 or "-"),
        ("manifest of the dataset, SHA-256", lineage.dataset_hash or "-"),
        ("tokenizer, SHA-256", lineage.tokenizer_sha256),
        *lineage.versions.items(),
    ]
    published = lineage.config.get("published")
    if published:
        rows.insert(0, ("published weights, digest", published["digest"]))
    return _table(("", ""), rows) + "\n\n`assets/lineage.json` has all of it."


def _published(lineage: Lineage) -> bool:
    return "published" in lineage.config


def _sha(lineage: Lineage) -> str:
    return lineage.dataset_hash or "-"


def _short(digest: str | None) -> str:
    return (digest or "an unknown dataset")[:12]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _plain(value: Any) -> str:
    """Returns a value of a configuration as one line."""
    if isinstance(value, str):
        return value
    return strict_json.dumps(value, ensure_ascii=False)


def _table(header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    """Returns a value as one cell of a table, whatever names hold."""
    return " ".join(str(value).replace("\\", "\\\\").replace("|", "\\|").split())
