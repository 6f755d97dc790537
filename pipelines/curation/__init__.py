"""Documents judged one by one.

Takes documents and rules; gives those that are kept, and a reject line for each other.

    curation.py            What documents go through between reading and encoding, a
                           stage a function
    document_walk.py       A document's way from its file to the rows that travel
                           on, one way down
    dropped_lines.py       The lines that a task has to drop, since other documents
                           own them
    judging.py             Of rows that share a hash one stays: the first by a rank;
                           in bounded memory
    rule_files.py          The files that rules read besides the input: address
                           lists and evaluation files
    shingle_files.py       Documents' sets of shingles, kept in the work directory
                           until pairs are compared
"""
