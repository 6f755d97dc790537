"""Prompts through a release, or to a server.

Takes prompts and a model; gives answers as records of files.

    answer_files.py        Files of answers: the lines of a chunk as the bytes of a
                           shard
    census.py              A first look at the prompts: how many, what hash, and the
                           chunks they are cut into
    flags.py               The flags of batch generation, and what they say
    generate_graph.py      The Beam graph of a generation: shards, spread over workers,
                           read, answered, written
    generations.py         The output directory of batch generation: what is
                           finished, and what is not
    job_progress.py        How far a generation job has come, from the small files
                           that its workers leave
    mode_flags.py          The flags that say what is made of records, and by whom
    modes.py               What a job makes of its records: continuations, scores,
                           or vectors
    prompt_files.py        Files of prompts, record by record, whatever their format
    prompts.py             Prompts: records of the input, judged one by one
    release.py             Runs a release inside a Beam worker
    remote_answers.py      Answers a chunk of prompts with a server's model, several
                           requests at a time
    remote_completions.py  A model behind `/v1/completions`, as OpenAI, vLLM,
                           llama.cpp, TGI and others have it
    remote_handler.py      Asks a server's model from inside a Beam worker
    remote_requests.py     Requests to a server of models: JSON over HTTP, tried
                           again, and told in its words
    remote_serving.py      A release that TensorFlow Serving serves, asked through
                           its REST interface
"""
