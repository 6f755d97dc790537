"""Releases made many at once, and judged beside each other.

Takes runs, and what each release is to be; gives `MODELS/NAME/VERSION/` of those that
pass, their figures, and a page of them all.

    batch.py              One command's releases: planned, exported, judged and shown,
                          under one claim
    exporting.py          Exports what a plan lacks, one release after another, in one
                          process
    failures.py           Tells a failure of one release from one that all the others
                          would meet as well
    figures.py            What is measured of a release: its names, units, and how a
                          release keeps them
    gate.py               What `--require` asks of a release: a small language, read
                          and judged
    judged.py             Measures a release before it is published: started apart,
                          figures read back
    judging.py            Judges the releases of one command, and refuses those that
                          miss what is required
    many_flags.py         Flags of quern-export that name many releases at once, and
                          those that judge them
    plan.py               Which releases are wanted of some runs, and which of them are
                          there already
    release_process.py    Measures one release in a process of its own, as a stock
                          TensorFlow Serving has it
    releases_page.py      The page that shows judged releases: their table, and size
                          against bits per byte
    releases_table.py     The releases of a tree beside each other: as lines, as JSON,
                          sorted, the best marked
    split_texts.py        The documents of a dataset's split as texts again, for a
                          release to read
"""
