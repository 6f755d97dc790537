"""Byte-pair encoders in the form of Hugging Face's `tokenizers`.

Takes texts; gives ids, the same that `tokenizers` gives, and the text behind them.

    added_matches.py       Cuts texts at their added tokens, where `tokenizers` would
    added_tokens.py        Added tokens: strings of a file that `tokenizers` takes out
                           of a text first
    byte_level.py          Byte-level BPE files: what a `tokenizer.json` must be for
                           Quern to read it
    comparison.py          Whether two tokenizer files give the same ids, and if not,
                           what differs
    contested.py           Code points on which `gigatoken` and the reference,
                           `tokenizers`, may differ
    contested_ranges.py    Ranges of code points (inclusive), from `python -m
                           preprocessing.contested`
    encoding.py            Text to ids in bulk, exactly as Hugging Face `tokenizers`
                           would, much faster
    gigatoken_engine.py    gigatoken over Arrow's memory, without a Python object
                           per text, its cache bounded
    names_beside.py        Which tokens begin, end and pad a document, by the files
                           beside a tokenizer.json
    number_cuts.py         Cuts texts before and behind numbers, for files that ask
                           for it
    pre_tokenizing.py      How a file cuts a text into words before it merges bytes,
                           and what it puts before
    segments.py            Texts as segments that gigatoken encodes one by one, ids put
                           together again
    special_tokens.py      Which ids begin, end and pad a document
    tokenizer.py           The tokenizer: a byte-level BPE in Hugging Face's
                           `tokenizer.json` form
"""
