# SPDX-License-Identifier: Apache-2.0
"""The few sizes that rows, prompts and caches are rounded up to.

Powers of two with halves between: at most a third of what is computed or kept is
padding, and a process meets few shapes, which keeps its memory flat.
"""

SMALLEST_BUCKET = 16
_LARGEST_BUCKET = 1 << 20


def buckets(context: int | None) -> list[int]:
    """Returns the numbers of positions that are kept or padded to, ascending.

    Args:
        context: the most there may be, the last of them; None is any number.
    """
    last = _LARGEST_BUCKET if context is None else context
    sizes = [SMALLEST_BUCKET]
    while sizes[-1] < last:
        sizes.append(rounded_up(sizes[-1] + 1))
    return [size for size in sizes if size < last] + [last]


def rounded_up(count: int, least: int = 1) -> int:
    """Returns the least power of two, or one and a half of one, from `count` on."""
    size = 1 << max(count - 1, least - 1, 0).bit_length()
    half = size // 4 * 3
    return half if half >= max(count, least) else size
