"""What documents must pass, by name and version.

Takes columns of texts; gives a verdict for each: kept, or which check failed by how
much.

    addresses.py           Block and allow lists of web addresses: domains and
                           beginnings of URLs
    c4.py                  C4's rules: lines that look like sentences stay, pages
                           with too few are rejected
    characters.py          What each character is to the rules: white space, letter,
                           mark; a table for kernels
    checks.py              Measurements of a batch against thresholds: the first
                           check each document fails
    fineweb.py             FineWeb's own rules: pages that are lists, menus or
                           repeated lines are rejected
    gopher_quality.py      Gopher's quality rules: documents that do not read like
                           prose are rejected
    gopher_repetition.py   Gopher's repetition rules: documents that say the same
                           again and again are rejected
    language.py            Language identification: keeps the documents of some
                           languages, and counts all
    lines.py               Lines and paragraphs of documents, as each published rule
                           cuts them
    named.py               Rules by name and version, with every threshold settable;
                           and a user's own rules
    networks.py            Which IP addresses can be somebody's: those that no
                           registry reserves
    normalize.py           Light cleaning of corpus text that leaves code,
                           indentation and languages alone
    personal_data.py       Personal data: email addresses, public IP addresses and
                           phone numbers are replaced
    phrases.py             Phrases that mark a line or a page for C4's rules, and
                           Wikipedia's citations
    repeats.py             How much of a document is said more than once: pieces of
                           it, and runs of its words
    sentences.py           How many sentences a line has: ends of sentences that
                           something follows, plus one
    verdicts.py            What a rule says of a batch of documents: how it leaves
                           them, and whom it rejects
    views.py               Texts as the kernels see them: bytes, where each document
                           lies, and pieces of it
    word_cuts.py           The compiled loops that cut texts into words; `words`
                           says into which
    words.py               What a word is, for every rule that counts words; found
                           once for a batch
"""
