"""Documents compared with each other.

Takes hashes, lines and shingles of kept documents; gives which of them are dropped.

    bands.py               The rows by which near duplicates meet: one for each
                           document and band
    exact_duplicates.py    Which documents lose: repeated ids, then exact
                           duplicates; and who must validate
    line_duplicates.py     Of lines that are equal one stays, in the manner of C4
                           (Raffel 2020, section 2.2)
    near_duplicates.py     Near duplicates: documents that meet in a band, joined to
                           clusters; one stays
    own_ids.py             The own ids of documents that near duplicates are looked
                           for among
"""
