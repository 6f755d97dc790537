# SPDX-License-Identifier: Apache-2.0
"""Repeated pieces and runs of words: as counting them one by one in Python finds."""

from collections import Counter

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preprocessing.rules.measures import lines, repeats, words

# Few different words, so that runs of them do repeat.
SENTENCES = st.lists(st.sampled_from(["a", "b", "ab", "é", "-"]), max_size=60)
BATCHES = st.lists(SENTENCES.map(" ".join), max_size=3)


def batch(texts):
    return pa.array(texts, pa.large_string())


def top_by_counting(found, n):
    grams = [" ".join(found[i : i + n]) for i in range(len(found) - n + 1)]
    if not grams:
        return 0
    counts = Counter(grams)
    most = max(counts.values())
    return most * next(len(gram) for gram in grams if counts[gram] == most)


def repeated_by_reading(found, n):
    seen, length, place = set(), 0, 0
    while place + n <= len(found):
        gram = "".join(found[place : place + n])
        length += len(gram) if gram in seen else 0
        place += n if gram in seen else 1
        seen.add(gram)
    return length


@settings(max_examples=200, deadline=None)
@given(texts=BATCHES)
@example(texts=["a b " * 30])
@example(texts=["a ab a a a", ""])
def test_runs_of_words_are_counted_as_one_by_one(texts):
    seen, found = words.of_batch(batch(texts))
    tops, repeated = repeats.top_grams(seen, found), repeats.repeated_grams(seen, found)
    for place, text in enumerate(texts):
        listed = text.split()
        assert tops[place].tolist() == [top_by_counting(listed, n) for n in (2, 3, 4)]
        assert repeated[place].tolist() == [
            repeated_by_reading(listed, n) for n in range(5, 11)
        ]


def test_of_equally_frequent_runs_the_first_counts():
    seen, found = words.of_batch(batch(["aaa bbb c d aaa bbb c d", "c d aaa bbb"]))
    # "aaa bbb" twice has 14 characters, "c d" once has 3.
    assert repeats.top_grams(seen, found)[:, 0].tolist() == [14, 3]


def test_words_written_together_are_a_repeated_run_wherever_they_are_cut():
    seen, found = words.of_batch(batch(["a b c d ef x ab c d e f y"]))
    assert repeats.repeated_grams(seen, found)[0, 0] == len("abcdef")


@settings(deadline=None)
@given(
    texts=st.lists(
        st.lists(st.sampled_from(["", "one", "two", "drei", "é"])).map("\n".join),
        max_size=3,
    )
)
def test_pieces_that_came_before_count_with_their_characters(texts):
    seen, _ = words.of_batch(batch(texts))
    pieces, length = repeats.count_repeated(seen, lines.filled_lines(seen))
    for place, text in enumerate(texts):
        filled = [line for line in text.split("\n") if line]
        again = [line for i, line in enumerate(filled) if line in filled[:i]]
        assert pieces[place] == len(again)
        assert length[place] == sum(map(len, again))
