# SPDX-License-Identifier: Apache-2.0
"""The order in which training reads rows: arithmetic on one integer.

Epoch 0 is file order, since a dataset is already shuffled. A later epoch permutes
blocks of 1,024 rows, then the rows within each block, so that a remote shard can be
read one range per block. With blocks of 4, eleven rows might be read as

    epoch 0:  0 1 2 3 | 4 5 6 7 | 8 9 10
    epoch 1:  6 4 7 5 | 9 10 8 | 3 0 2 1

Both permutations are keyed bijections (a Feistel network over the next even power of
two, walked until it lands in the domain: Black and Rogaway, 2002, "Ciphers with
arbitrary finite domains"). Nothing is stored and nothing is built, so any position is
entered at once, and the state of the order is the number of rows consumed.
"""

import functools
import hashlib

import numpy as np

from preprocessing.foundation.fingerprints import mix

BLOCK_ROWS = 1024
_ROUNDS = 8


class RowOrder:
    """Maps positions of the training stream to rows of a dataset."""

    def __init__(self, num_rows: int, seed: int) -> None:
        """Fixes the order.

        Args:
            num_rows: rows of one epoch, at least 1.
            seed: what later epochs are permuted by.

        Raises:
            ValueError: `num_rows` is not positive.
        """
        if num_rows < 1:
            raise ValueError(f"an order needs at least one row, got {num_rows}")
        self.num_rows = num_rows
        self.seed = seed

    def rows(self, start: int, count: int) -> np.ndarray:
        """Returns the rows at stream positions [start, start + count), int64 [count].

        The stream goes on without a seam from one epoch into the next.
        """
        positions = np.arange(start, start + count, dtype=np.int64)
        epochs, places = np.divmod(positions, self.num_rows)
        rows = places.copy()
        for epoch in np.unique(epochs[epochs > 0]):
            chosen = epochs == epoch
            rows[chosen] = self._permuted(int(epoch), places[chosen])
        return rows

    def _permuted(self, epoch: int, places: np.ndarray) -> np.ndarray:
        """Returns the rows at `places` int64 [n] of a later epoch."""
        num_blocks = -(-self.num_rows // BLOCK_ROWS)
        short_block = num_blocks - 1
        short_rows = self.num_rows - short_block * BLOCK_ROWS
        block_keys = _round_keys(self.seed, epoch, b"blocks")
        short_slot = _invert(short_block, num_blocks, block_keys)
        slots, offsets = _slots(places, short_slot, short_rows)
        blocks = _permute(slots, num_blocks, block_keys[:, None])
        row_keys = mix(
            _round_keys(self.seed, epoch, b"rows")[:, None] ^ mix(blocks)[None, :]
        )
        rows = np.empty_like(offsets)
        for chosen, size in (
            (blocks != short_block, BLOCK_ROWS),
            (blocks == short_block, short_rows),
        ):
            rows[chosen] = _permute(offsets[chosen], size, row_keys[:, chosen])
        return blocks.astype(np.int64) * BLOCK_ROWS + rows.astype(np.int64)


def scattered(seed: int, block: int) -> np.ndarray:
    """Returns the places 0 … 1023 of a block in a keyed order, uint64 [1024]."""
    number = mix(np.array([block], np.uint64))
    keys = mix(_round_keys(seed, 0, b"mixture")[:, None] ^ number)
    return _permute(np.arange(BLOCK_ROWS, dtype=np.uint64), BLOCK_ROWS, keys)


def _slots(
    places: np.ndarray, short_slot: int, short_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the slot and the offset in it of each place, uint64 [n] both.

    Every slot holds `BLOCK_ROWS` places except the one of the short last block.
    """
    missing = BLOCK_ROWS - short_rows
    cut = short_slot * BLOCK_ROWS + short_rows
    padded = places + np.where(places >= cut, missing, 0)
    slots, offsets = np.divmod(padded, BLOCK_ROWS)
    return slots.astype(np.uint64), offsets.astype(np.uint64)


@functools.lru_cache(maxsize=64)
def _round_keys(seed: int, epoch: int, purpose: bytes) -> np.ndarray:
    """Returns the keys of one permutation, uint64 [rounds]."""
    text = f"{seed}/{epoch}".encode()
    digest = hashlib.blake2b(text, digest_size=8 * _ROUNDS, person=purpose).digest()
    return np.frombuffer(digest, dtype="<u8")


def _permute(values: np.ndarray, size: int, keys: np.ndarray) -> np.ndarray:
    """Returns the images of `values` [n] under a bijection of range(size).

    `keys` is uint64 [rounds, n] or [rounds, 1].
    """
    half_bits = _half_bits(size)
    keys = np.broadcast_to(keys, (len(keys), len(values)))
    images = _network(values, half_bits, keys)
    while (outside := images >= size).any():
        images[outside] = _network(images[outside], half_bits, keys[:, outside])
    return images


def _invert(image: int, size: int, keys: np.ndarray) -> int:
    """Returns the value that `_permute` sends to `image`; `keys` is [rounds]."""
    half_bits = _half_bits(size)
    while True:
        left, right = image >> half_bits, image & ((1 << half_bits) - 1)
        for key in keys[::-1]:
            scrambled = mix(np.array([right], np.uint64) ^ key) >> np.uint64(32)
            left, right = right, left ^ int(scrambled[0]) & ((1 << half_bits) - 1)
        image = right << half_bits | left
        if image < size:
            return image


def _half_bits(size: int) -> int:
    """Returns half the bits of the smallest even power of two that holds `size`."""
    return max(1, ((size - 1).bit_length() + 1) // 2)


def _network(values: np.ndarray, half_bits: int, keys: np.ndarray) -> np.ndarray:
    """Applies the Feistel rounds to `values` uint64 [n] with `keys` [rounds, n]."""
    bits, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> bits, values & mask
    for key in keys:
        left, right = right, left ^ (mix(right ^ key) >> np.uint64(32)) & mask
    # Undoing the last swap makes the inverse the same walk with reversed keys.
    return right << bits | left
