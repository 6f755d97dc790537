"""What documents must pass, by name and version.

Takes columns of texts; gives a verdict for each: kept, or which check failed by how
much. What it counts in a text is found by `measures/`; a rule is a file here.

    addresses.py           Block and allow lists of web addresses: domains and
                           beginnings of URLs
    c4.py                  C4's rules: lines that look like sentences stay, pages
                           with too few are rejected
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
    named.py               Rules by name and version, with every threshold settable;
                           and a user's own rules
    networks.py            Which IP addresses can be somebody's: those that no
                           registry reserves
    normalize.py           Light cleaning of corpus text that leaves code,
                           indentation and languages alone
    personal_data.py       Personal data: email addresses, public IP addresses and
                           phone numbers are replaced
    verdicts.py            What a rule returns for a batch: the texts as it leaves
                           them, and its rejects
"""
