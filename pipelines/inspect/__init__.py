"""What `quern-inspect` does: datasets verified, searched, compared.

Takes datasets; gives findings as lines.

    compare_datasets.py    What differs between two datasets: how they were made,
                           what is in them, and where
    estimate.py            What a preparation will take: time, tokens and disk, from
                           a sample of its input
    find_document.py       Where a document of the input went: its rows, or why it
                           has none
    verify.py              Reads a whole dataset again and compares it with what its
                           manifest says
    verify_mixture.py      What a mixture's provenance tells of its rows: their
                           source, and which are repeats
"""
