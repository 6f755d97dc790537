"""Published decoders: their weights in and out.

Takes a directory in Hugging Face's form, local or cloud; gives a model with its
weights, and such a directory of a model. Which fields and tensors a family has stands
in `families/`.

    known_families.py      The families of published decoders that are known, and
                           which one a file is of
    origin.py              What is kept of published weights beside a run that began
                           with them
    published_model.py     A published directory: the decoder that it describes, and
                           its weights read into one
    published_tokenizer.py The tokenizer of published weights, with the ids that
                           begin and end a text
    safetensors_files.py   Reads safetensors files, a tensor at a time, from a disk
                           or a bucket
    safetensors_writing.py Writes safetensors files, a few rows of a tensor at a
                           time, and shards of them
    saving.py              Writes a model as a published directory: configuration,
                           weights, tokenizer
    tokenizer_files.py     The files of a published tokenizer, and those written for
                           one of our own
    weight_files.py        The files that a published directory keeps its tensors
                           in: one, or shards
"""
