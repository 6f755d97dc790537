"""Ids into rows, and sources into mixtures.

Takes lengths and ids of documents; gives rows of one length, with the segments in
them, in an order that follows from the seed alone.

    interleave.py          The order of a mixture's rows: exact counts, interleaved
                           by largest sampling error
    mixture.py             A mixture file: named sources of documents, and how much
                           each gives to the rows
    packing.py             Packing documents into rows of sequence_length + 1 ids,
                           losing none
    pair_packing.py        Packing examples of inputs and targets into rows for an
                           encoder and a decoder
"""
