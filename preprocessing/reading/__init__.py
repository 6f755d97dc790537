"""Documents out of files.

Takes globs, files and functions of users; gives `Documents`, one table whatever the
format, with a key and an offset for each.

    delimited.py           Documents out of CSV and TSV: quoted fields may hold
                           delimiters and line ends
    delimited_records.py   Records of CSV and TSV: where their fields end, found by one
                           compiled pass
    documents.py           Documents between a file's bytes and ids: the one table
                           that all stages share
    extents.py             Which extents of files are read, and how they become
                           documents
    first_bytes.py         What files are by their first bytes, where their names say
                           otherwise
    foreign_bytes.py       What bytes are that are not what a reader wants, in words
                           for people
    format_names.py        The format that a file's name tells, under its compression
                           and its shard's number
    jsonl.py               JSON lines to documents: Arrow for whole blocks, each bad
                           line judged alone
    line_blocks.py         Lines and paragraphs of a byte stream as spans of large
                           blocks
    long_json.py           A huge line of JSON: its long strings are cut out, and
                           unescaped one by one
    readers.py             Reads one extent of a file as batches of documents,
                           whatever its format
    streams.py             The uncompressed bytes of a file, for libraries that want
                           a file to read from
    table_rows.py          Documents out of a record batch: its columns, checked row
                           by row
    tables.py              Documents out of columnar files: Parquet, and Arrow's own
                           file and stream formats
    text_sample.py         A sample of documents of bounded size, the same whatever
                           order they come in
    user_readers.py        Documents that a user's own function finds in a file
    warc_records.py        The records of a web archive, and what stands between them
    web_archives.py        Documents out of web archives: WARC (pages as sent) and
                           WET (their text)
"""
