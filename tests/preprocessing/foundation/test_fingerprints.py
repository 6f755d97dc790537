# SPDX-License-Identifier: Apache-2.0
"""Keys are the contract's digests; orders are a function of key and seed alone."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.foundation.fingerprints import (
    content_hash,
    keys_of_ids,
    keys_of_offsets,
    order_hash,
    split_hash,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def test_keys_are_blake2b_of_path_and_id_or_offset():
    wanted = hashlib.blake2b(b"a/b.jsonl\0id\x007", digest_size=16).digest()
    assert bytes(keys_of_ids("a/b.jsonl", ["7"])[0]) == wanted
    wanted = hashlib.blake2b(b"a/b.jsonl\0offset\x007", digest_size=16).digest()
    assert bytes(keys_of_offsets("a/b.jsonl", [7])[0]) == wanted
    assert keys_of_ids("a", []).shape == (0, 16)


@given(texts=st.lists(TEXT), skip=st.integers(0, 2))
def test_content_hash_is_blake2b_of_each_text(texts, skip):
    array = pa.array(["x"] * skip + texts, pa.large_string())[skip:]
    wanted = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
    assert [bytes(digest) for digest in content_hash(array)] == wanted


@pytest.mark.slow
def test_orders_depend_on_the_seed_and_not_on_the_company():
    keys = keys_of_offsets("file", range(2000))
    order = order_hash(3, keys)
    assert order.dtype == np.uint64
    np.testing.assert_array_equal(order_hash(3, keys[7:9]), order[7:9])
    assert len(np.unique(order)) == 2000
    assert not np.array_equal(order, order_hash(4, keys))
    assert not np.array_equal(order, split_hash(3, keys))


def test_split_hash_is_even_over_its_range():
    keys = keys_of_offsets("file", range(20_000))
    for seed in range(3):
        share = (split_hash(seed, keys) < np.uint64(2**64 // 10)).mean()
        assert abs(share - 0.1) < 0.01
        # A tenth by split is still spread evenly over the order.
        chosen = order_hash(seed, keys)[split_hash(seed, keys) < np.uint64(2**64 // 10)]
        assert abs((chosen < np.uint64(2**63)).mean() - 0.5) < 0.05


def test_the_order_of_a_known_key_never_changes():
    # A change here would reorder every dataset that exists.
    keys = np.arange(16, dtype=np.uint8)[None]
    assert [int(order_hash(seed, keys)[0]) for seed in (0, 1)] == ORDER_OF_KNOWN_KEY


ORDER_OF_KNOWN_KEY = [3_396_565_797_295_316_793, 11_252_649_721_329_018_657]
