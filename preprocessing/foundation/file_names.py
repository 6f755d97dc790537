# SPDX-License-Identifier: Apache-2.0
"""What a file's name says of its contents once the number of its shard is taken off.

corpus.jsonl-00000-of-00003       corpus.jsonl
corpus.jsonl.gz-00000-of-00003    corpus.jsonl.gz
corpus-00000-of-00003.jsonl       as it is: its ending is where endings are
"""

import re

# As Beam, TensorFlow Datasets and Hugging Face number shards, and with other joints.
_SHARD = re.compile(r"[-_.][0-9]+[-_]of[-_][0-9]+$", re.IGNORECASE)


def unsharded(path: str) -> str:
    """Returns a path without the number of a shard at its end."""
    return _SHARD.sub("", path)
