"""What any job needs so that it can be cut off and begin again.

Takes a plan and the work directory; gives checked records of finished steps, and
blobs that travel from one stage to the next.

    blobs.py               Arrays as one blob of bytes, the only thing that travels
                           between stages
    buckets.py             Rows on their way to the bucket of one of their hashes,
                           as blobs of 4 MB
    checksums.py           Sizes and SHA-256 of the files that a dataset keeps, from
                           their writing to verify
    columns.py             The columns that travel between stages: their names,
                           types and bytes a row
    input_files.py         What became of each input file: its bytes, those read, its
                           documents, and why
    own_files.py           Which files of an input are Quern's own: no documents,
                           whatever matches them
    plan.py                What a preparation job will do: its configuration, its
                           tasks, its shards
    rejects.py             Rejected documents on disk: one line each, with where
                           they are and why
    shuffle.py             How blobs travel from one stage to the next: through
                           files, or inside Beam
    source_groups.py       What the report adds up: sources of a mixture, files, or
                           directories above them
    steps.py               Small records that steps leave behind when they are done,
                           one JSON file each
    task_work.py           A task under way: what it reads, and where its rejects,
                           times and counts go
"""
