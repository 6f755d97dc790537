# SPDX-License-Identifier: Apache-2.0
"""How much of a prompt is kept, and how many ids may follow it.

Plain arithmetic, for whole numbers and tensors of them alike: the graph of a release
and the jobs that count what it cuts off follow the same two lines.
"""

from typing import Any

# What a row may ask for where no trained context bounds it: a client that gave up
# does not stop the loop in the server, so the graph itself must.
MAX_NEW_TOKENS = 4096


def most_new_tokens(context: int | None, unbounded: int = MAX_NEW_TOKENS) -> int:
    """Returns the most ids that a row may ask for.

    Args:
        context: positions that decoding may use, None where any number will do.
        unbounded: what a row may ask for then.
    """
    return unbounded if context is None else context


def prompt_room(max_new_tokens: Any, context: int) -> Any:
    """Returns how many ids of a prompt are kept, BOS counted: its last ones.

    A prompt gives way to the ids asked for, but keeps half of the context; that is
    context - min(max_new_tokens, context // 2).

    Args:
        max_new_tokens: an int, or a tensor or array of ints whatever its shape.
        context: positions that prompt and continuation share.
    """
    half = context // 2
    # The lesser of two is half of their sum less their distance.
    return context - (max_new_tokens + half - abs(max_new_tokens - half)) // 2
