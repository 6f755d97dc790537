# SPDX-License-Identifier: Apache-2.0
"""The prefix LM: how much of each piece of a document is read, not predicted."""

import numpy as np
import pyarrow as pa

from preprocessing.foundation.seed_purposes import PrefixDraw
from preprocessing.objectives.examples import (
    Examples,
    draw,
    example_words,
    pieces,
    uniform,
)
from preprocessing.tokenizer.tokenizer import Tokenizer


def with_prefixes(
    tokenizer: Tokenizer,
    texts: pa.LargeStringArray,
    keys: np.ndarray,
    sequence_length: int,
    seed: int,
) -> Examples:
    """Cuts [BOS] text EOS into pieces of a row and draws each one's prefix.

    Of n ids 1 to n - 1, each as likely (Raffel et al. 2020, arXiv 1910.10683, section
    3.2.3); the ids after it are the targets. A piece of one id has no target.

    Args:
        tokenizer: encodes.
        texts: the documents.
        keys: theirs, uint8 [documents, 16].
        sequence_length: S; a row holds S + 1 ids.
        seed: of the draws.
    """
    ids, lengths = tokenizer.encode_documents(texts)
    document, start, length = pieces(lengths, sequence_length + 1)
    drawn = draw(example_words(seed, keys[document], start), PrefixDraw.LENGTH)
    prefix = np.minimum(1 + uniform(drawn, np.maximum(length - 1, 1)), length)
    return Examples(ids, length, document, start, prefix)
