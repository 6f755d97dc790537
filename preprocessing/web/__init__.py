"""Formats of the web, from the bytes of an archive to the text of a page.

Takes bytes; gives members of archives, bodies of responses, and text. Nothing in here
knows what a document is.

    archive_bytes.py       The uncompressed bytes of an archive, and where its members
                           and gaps are
    charset_codecs.py      Decodes the character sets of the web as browsers do
    http_responses.py      HTTP responses as archives hold them: header, and body undone
    members.py             The members of a gzip file, or the frames of a Zstandard one,
                           one by one
    page_charsets.py       The character set of a web page, sniffed as browsers do, and
                           its text
    web_pages.py           The main text of a web page: its depth, its content
"""
