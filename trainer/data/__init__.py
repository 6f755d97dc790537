"""Rows of datasets on their way to a step.

Takes datasets; gives batches in an order that one integer continues.

    batch.py               Packed rows become inputs and targets: the only place
                           where the two meet
    batch_schedule.py      How many rows each step takes: all of them alike, or more
                           and more at the beginning
    input_pipeline.py      Rows of a dataset on their way to the train step, at any
                           sequence length it holds
    mixed_order.py         The order in which training reads rows of several
                           datasets, mixed by weight
    mixed_rows.py          Rows of several datasets read as those of one, and what
                           they must have in common
    omitted_rows.py        Positions of the training stream that remain when some
                           ranges are left out
    row_order.py           The order in which training reads rows: arithmetic on one
                           integer
    rows_at_fault.py       Which documents stand at given positions of the training
                           stream
    training_rows.py       The endless stream of training rows, as the blocks that
                           inner loops are fed with
    usual_segments.py      How many segments the rows of a micro-batch have, so that
                           few have more
"""
