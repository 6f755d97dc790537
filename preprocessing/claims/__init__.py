"""Claims on outputs: of several processes, one at a time writes.

Takes a place on a disk or in a bucket; gives a claim that its holder checks before it
publishes. Nothing in here knows what is written there.

    claim_places.py        Where a claim lies, and how exactly one of several wins
                           it
    claims.py              Claims: one process at a time writes an output, on a disk
                           or in a bucket
    processes.py           Which process this is, in words that another one can
                           judge: does it still live?
    scratch.py             Directories for what is only passing through, as a release
                           on its way to a bucket
"""
