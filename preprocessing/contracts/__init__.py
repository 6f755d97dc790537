"""The formats in which rooms meet.

Takes arrays and settings; gives files that another room, or another program, reads:
the dataset, its records, the release and what it answers.

    dataset_files.py       Reads the files of a finished dataset, and names the one
                           that cannot be read
    generation_config.py   How a batch of prompts is continued: the settings of one
                           job
    manifest.py            The dataset's manifest: its format, as frozen dataclasses
                           and as JSON
    prompt_limits.py       How much of a prompt is kept, and how many ids may follow
                           it
    records.py             The bytes of a row: a TFRecord frame around a serialised
                           `tf.train.Example`
    releases.py            A release's format on disk: where its versions lie and
                           what it was made from
    row_segments.py        The segments of a row taken apart: what each reads, and
                           what it predicts
    shards.py              TFRecord shards: written whole or not at all, read at any
                           row
    signatures.py          What a release answers: its signatures, their inputs and
                           their outputs
    tf_records.py          TFRecord files of `tf.train.Example`, written and read
                           without TensorFlow
"""
