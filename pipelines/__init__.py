"""Beam graphs: they wire, they do not think.

Takes globs, a tokenizer, a release; gives datasets, reports and generated lines. The
commands are here, and nothing imports them. It knows of `trainer` only
`trainer.serving`, inside functions.

    batch_generate.py      quern-generate: continues every prompt of a JSONL input
                           with a release, under Beam
    beam_worker.py         quern-beam-worker: workers of Beam jobs on a machine without
                           containers
    inspect_dataset.py     quern-inspect: shows, verifies, reads, searches and
                           compares datasets
    prepare_corpus.py      quern-prepare: raw text to a dataset of packed, shuffled,
                           tokenized rows
    train_tokenizer.py     `quern-tokenizer`: trains a tokenizer on a sample of the
                           input
"""
