"""What the rules count in texts.

Takes columns of texts; gives words, lines, sentences and what is repeated, as places in
their bytes and as numbers.

    characters.py          What each character is to the rules: white space, letter,
                           mark; a table for kernels
    lines.py               Lines and paragraphs of documents, as each published rule
                           cuts them
    phrases.py             Phrases that mark a line or a page for C4's rules, and
                           Wikipedia's citations
    repeats.py             How much of a document is said more than once: spans of
                           it, and runs of its words
    sentences.py           How many sentences a line has: ends of sentences that
                           something follows, plus one
    views.py               Texts as the kernels see them: bytes, where each document
                           lies, and spans of it
    word_cuts.py           The compiled loops that cut texts into words; `words`
                           says into which
    words.py               What a word is, for every rule that counts words; found
                           once for a batch
"""
