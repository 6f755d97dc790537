"""What all rooms stand on.

Takes paths, bytes and arrays; gives what any command, reader or step needs of them.
Nothing in here knows what a document, a row or a model is.

    bisection.py           Finds the rows at fault in a batch that fails, so that
                           the others lose nothing
    cloud_clients.py       cloudpathlib's paths, and what only the clients that lie
                           inside them can do
    commands.py            What every Quern command shares: strict flags, error
                           lines and exit statuses
    compiled.py            Compiles loops over arrays to machine code, once per
                           machine and version of Quern
    decompression.py       Streams of bytes out of plain, gzip and Zstandard files,
                           in bounded memory
    file_names.py          What a file's name says of its contents once the number
                           of its shard is taken off
    fingerprints.py        Keys of documents, hashes of contents, and the orders
                           that follow from keys
    globs.py               What a glob names, on disk and on object stores: files,
                           and what is none
    huge_pages.py          Pages of 2 MB for large arrays, which glibc asks for where it
                           is told to at start
    long_texts.py          Where a huge text can be cut so that its pieces encode to
                           the ids of the whole
    page.py                A page to look at: its type and colours, and its plain
                           parts as HTML
    protocol_buffers.py    Protocol buffers, one way: messages declared as tables
                           for protobuf's own runtime
    read_sizes.py          How much of a file is read at once; the documents do not
                           depend on it
    seed_purposes.py       What seeds are drawn for: each purpose has its number,
                           and each number one purpose
    storage.py             Local and cloud paths: what a glob names, ranged reads,
                           and atomic publishing
    strict_json.py         JSON as RFC 8259 has it, in which no number is NaN or
                           infinite
    string_buffers.py      Arrow's strings as what they are in memory: bytes, and
                           where each string ends
    terminal.py            Keeps what TensorFlow's C++ says of itself off the
                           terminal, and nothing else
    user_code.py           Functions of a user's own package, named by import path:
                           `my_package.module:name`
    utf8_space.py          White space and line ends in UTF-8, for compiled loops
                           over the bytes of a batch
"""
