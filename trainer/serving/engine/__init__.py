"""Continuous batching: who stands in which slot, and for how long.

Takes requests of ids and a model behind two or three calls; gives each its ids, in any
order. It imports no TensorFlow, so that whoever can call a release can drive it.

    engine.py          Requests in, ids out: slots that are refilled as soon as a row
                       ends
    ordering.py        In which order a list of requests is taken, and which of them
                       share a prefix
    prompts.py         What a model reads of a prompt, and how much may follow it: as
                       the graph does
    requests.py        What is asked of the engine, and what it answers
    sizes.py           The few sizes that rows, prompts and caches are rounded up to
    slot_model.py      What the engine drives: states that are opaque, and their bytes
    stop_strings.py    Finds strings that end a text, across the borders of tokens
"""
