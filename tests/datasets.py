# SPDX-License-Identifier: Apache-2.0
"""Small datasets for tests, made from the parts of `preprocessing`, without Beam."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.contracts.dataset_files import PROVENANCE, provenance_of
from preprocessing.contracts.manifest import (
    TOKENIZER_NAME,
    Counts,
    Manifest,
    Shard,
    Source,
    Split,
    config_hash,
    write_manifest,
)
from preprocessing.contracts.records import RecordFormat
from preprocessing.contracts.shards import shard_name, write_shard
from preprocessing.packing.packing import PackedRows, best_fit, pack
from preprocessing.tokenizer.tokenizer import Tokenizer, train

_SENTENCE = (
    "the a small river boat crosses every morning while grey birds turn above water "
    "and slow rain falls on old stone houses where people bake bread für später Äpfel"
)


def texts(count: int, seed: int) -> list[str]:
    """Returns documents of 5 to 60 words, the same for the same seed."""
    draw = random.Random(seed)
    return [
        " ".join(draw.choices(_SENTENCE.split(), k=draw.randint(5, 60))) + "."
        for _ in range(count)
    ]


def write_dataset(
    directory: Path,
    documents: int = 160,
    validation_documents: int = 20,
    sequence_length: int = 64,
    vocab_size: int = 300,
    seed: int = 0,
    num_shards: int = 2,
    sources: tuple[str, ...] = (),
) -> Path:
    """Writes a whole dataset with a tokenizer trained on its own documents.

    Documents are dealt to the sources of a mixture, where they are named.
    """
    directory.mkdir(parents=True)
    train_texts = texts(documents, seed)
    (directory / TOKENIZER_NAME).write_bytes(train(train_texts, vocab_size))
    tokenizer = Tokenizer.load(str(directory / TOKENIZER_NAME))
    layout = RecordFormat(sequence_length, tokenizer.vocab_size, sources=bool(sources))
    parts = {
        "train": train_texts,
        "validation": texts(validation_documents, seed + 1),
    }
    splits, counted = {}, {"encoded": 0, "written": 0}
    for name, part in parts.items():
        splits[name], encoded = _write_split(
            directory, name, part, tokenizer, layout, num_shards, sources
        )
        counted["encoded"] += encoded
        counted["written"] += splits[name].tokens
    config = {"packing": "best_fit"}
    total = documents + validation_documents
    write_manifest(
        str(directory),
        Manifest(
            sequence_length=sequence_length,
            objective="causal",
            token_dtype=layout.token_dtype.name,
            vocab_size=tokenizer.vocab_size,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            pad_id=tokenizer.pad_id,
            tokenizer_sha256=tokenizer.sha256,
            config=config,
            config_hash=config_hash(config),
            seed=seed,
            max_segments=layout.max_segments,
            record_bytes=layout.record_bytes,
            features=layout.features(),
            splits=splits,
            counts=Counts(
                read=total,
                kept=total,
                rejected={},
                tokens_encoded=counted["encoded"],
                tokens_written=counted["written"],
                overlap_tokens=counted["written"] - counted["encoded"],
                dropped_tokens=0,
            ),
            sources=(Source("texts.jsonl", 1),),
        ),
    )
    return directory


def _write_split(
    directory: Path,
    name: str,
    documents: list[str],
    tokenizer: Tokenizer,
    layout: RecordFormat,
    num_shards: int,
    sources: tuple[str, ...],
) -> tuple[Split, int]:
    """Returns the split and the number of ids its documents were encoded to."""
    blocks, counted, encoded = [], {}, 0
    for number, source in enumerate(sources or ("",)):
        mine = documents[number :: len(sources) or 1]
        ids, lengths = tokenizer.encode_documents(mine)
        packed = list(
            pack(ids, lengths, layout, best_fit, 0, tokenizer.pad_id, source=number)
        )
        counted[source] = {
            "rows": sum(block.rows for block in packed),
            "tokens": sum(int(block.length.sum()) for block in packed),
            "text_bytes": sum(len(text.encode()) for text in mine),
        }
        blocks += packed
        encoded += len(ids)
    frames = np.concatenate(
        [layout.encode(block.features) for block in blocks]
        or [np.empty((0, layout.frame_bytes), np.uint8)]
    )
    shards = tuple(
        write_shard(str(directory), shard_name(name, index, num_shards), [part])
        for index, part in enumerate(np.array_split(frames, num_shards))
    )
    _write_provenance(directory, shards, blocks)
    totals = {
        key: sum(line[key] for line in counted.values())
        for key in ("rows", "tokens", "text_bytes")
    }
    by_source = counted if sources else {}
    return Split(**totals, shards=shards, sources=by_source), encoded


def _write_provenance(
    directory: Path, shards: tuple[Shard, ...], blocks: list[PackedRows]
) -> None:
    """Writes where each segment comes from; documents are numbered within a block."""
    first, lines = 0, []
    for number, block in enumerate(blocks):
        columns = (block.row + first, block.segment, block.document, block.start)
        lines += [
            (row, segment, f"{number}-{document}", "texts.jsonl", document, start)
            for row, segment, document, start in zip(*columns, strict=True)
        ]
        first += block.rows
    first = 0
    for shard in shards:
        rows = range(first, first + shard.rows)
        mine = [line for line in lines if line[0] in rows]
        arrays = zip(*mine, strict=True) if mine else [()] * len(PROVENANCE)
        made = [
            pa.array([*values], field.type)
            for values, field in zip(arrays, PROVENANCE, strict=True)
        ]
        table = pa.Table.from_arrays(made, schema=PROVENANCE)
        pq.write_table(table, directory / provenance_of(shard))
        first += shard.rows
