# SPDX-License-Identifier: Apache-2.0
"""How much of a file is read at once; the documents do not depend on it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadSizes:
    """What readers hold at once.

    Attributes:
        block_bytes: lines and paragraphs are cut out of blocks of this. Larger blocks
            read no faster, and their arrays cost fresh pages from the system.
        look_back_bytes: read at once before an extent, to find whether a line is blank.
        few_lines: below this, Arrow's fixed cost of 150 us a call exceeds json's 5 us
            a line of JSON.
        long_bytes: strings of JSON from here on are cut out of a huge line. What
            stands for one is as long or longer, and no other string is, so that
            nothing can be taken for it.
        batch_bytes: texts of one batch; rows of a table are counted by their mean size.
        large_row_bytes: rows of this mean size are read one by one (20 us each), for
            one text may be most of them: rows read behind it would make Arrow move it
            to a buffer of twice its size.
        huge_bytes: while a text larger than this is worked with, no Parquet reader is
            open: one holds the text twice more, as a page and as a dictionary. Up to
            as much of what follows is read before the reader is closed. Where more
            follows, the row group is decoded again up to there, at 0.3 to 1 GB/s; all
            later work does 10 MB/s. Only with a larger --max_document_bytes than the
            default are there such texts.
    """

    block_bytes: int = 4 << 20
    look_back_bytes: int = 4096
    few_lines: int = 32
    long_bytes: int = 1 << 20
    batch_bytes: int = 4 << 20
    large_row_bytes: int = 64 << 10
    huge_bytes: int = 64 << 20


READ_SIZES = ReadSizes()
