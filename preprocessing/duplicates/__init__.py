"""Documents that say the same, and those that evaluations hold.

Takes texts and hashes; gives which documents or lines are duplicates of which.

    clusters.py            Clusters of near duplicates, from pairs of documents that
                           are alike
    decontamination.py     Which documents hold text of evaluation files: runs of 13
                           words that both have
    evaluation_texts.py    The texts of an evaluation file, whatever its shape, for
                           decontamination
    folding.py             Text as duplicates are compared: lower case, no accents,
                           punctuation or layout
    line_hashes.py         Hashes of the lines of texts, and texts without some of
                           their lines
    minhash.py             MinHash signatures in bands: near duplicates share a
                           digest with known probability
    near_config.py         How near duplicates are found; apart from minhash.py,
                           which imports a compiler
    ngram_lookup.py        Finds known runs of words in texts, among millions of
                           them, 100 MB/s and more
    shingles.py            Runs of words as 64-bit hashes, in blocks, so that a text
                           of any length fits
"""
