# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.reading.text_sample import TextSample


@given(
    st.lists(st.text("ab", min_size=1, max_size=8), min_size=1, max_size=40),
    st.integers(1, 60),
    st.integers(1, 7),
    st.randoms(use_true_random=False),
)
def test_a_sample_is_the_first_of_the_order_whatever_is_offered_when(
    texts: list[str], limit: int, batch: int, random: object
) -> None:
    order = list(range(len(texts)))
    wanted, size = [], 0
    for text in texts:
        if size < limit:
            wanted.append(text)
            size += len(text)
    random.shuffle(order)  # type: ignore[attr-defined]
    sample = TextSample(limit)
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        part = pa.array([texts[place] for place in places], pa.large_string())
        sample.add(part, np.array(places, np.uint64))
        assert sample.text_bytes <= 2 * limit + 8 * batch
    assert sample.texts() == wanted
    assert sample.text_bytes == size
