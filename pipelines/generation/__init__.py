"""Prompts through a release.

Takes prompts and a release; gives answers as lines of JSON.

    generations.py         The output directory of batch generation: what is
                           finished, and what is not
    prompts.py             Prompts: read from JSONL, judged one by one, and cut into
                           chunks of work
    release.py             Runs a release inside a Beam worker
"""
