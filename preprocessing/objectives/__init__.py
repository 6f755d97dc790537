"""What of a document is read, and what is predicted.

Takes ids of a document; gives examples of an objective: tokens, masks, prefixes.

    examples.py            Examples: pieces of documents as an objective wants them,
                           and what they draw
    fill_in_middle.py      Fill in the middle: pieces of text whose middle is moved
                           to the end
    noise_spans.py         How many holes span corruption makes, what fits a row,
                           and how holes are filled
    objectives.py          Training objectives: what is asked of a document, and the
                           examples it becomes
    pairs.py               Pairs of inputs and targets as examples, and the room a
                           row has for them
    prefixes.py            The prefix LM: how much of each piece of a document is
                           read, not predicted
    span_corruption.py     Span corruption: pieces of text with holes, and what was
                           in the holes
"""
