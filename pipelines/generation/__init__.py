"""Prompts through a release.

Takes prompts and a release; gives answers as records of files.

    answer_files.py        Files of answers: the lines of a chunk as the bytes of a
                           shard
    census.py              A first look at the prompts: how many, what hash, and the
                           chunks they are cut into
    flags.py               The flags of batch generation, and what they say
    generations.py         The output directory of batch generation: what is
                           finished, and what is not
    job_progress.py        How far a generation job has come, from the small files
                           that its workers leave
    prompt_files.py        Files of prompts, record by record, whatever their format
    prompts.py             Prompts: records of the input, judged one by one
    release.py             Runs a release inside a Beam worker
"""
