# SPDX-License-Identifier: Apache-2.0
"""Every objective can be undone: the texts come back from the examples it made."""

import functools
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.fingerprints import keys_of_offsets
from preprocessing.objectives.examples import pieces
from preprocessing.objectives.fill_in_middle import fill_in_middle
from preprocessing.objectives.objectives import (
    LAYOUTS,
    ObjectiveConfig,
    check_objective,
    make_examples,
    original_ids,
    row_format,
    special_ids,
)
from preprocessing.objectives.pairs import PairRoom
from preprocessing.packing.packing import best_fit, concat
from preprocessing.tokenizer import tokenizer
from preprocessing.tokenizer.special_tokens import OBJECTIVE_TOKENS
from tests.datasets import texts as some_texts
from tests.family_tokenizers import plain, with_added

CONFIGS = [
    ObjectiveConfig(name, layout) for name in LAYOUTS for layout in LAYOUTS[name]
]
EACH_CONFIG = pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda config: f"{config.name}-{config.layout}"
)
# Words, accents, characters of four ids and of many, special strings, id 0's own text,
# added tokens and parts of them.
WORDS = st.sampled_from(
    ["river ", "für", "🙂", "Ä", " ", "\n", "x" * 40, "<|fim_middle|>", "<|bos|>", "!"]
) | st.sampled_from(["    ", " " * 11, "\t\t", "<tool>", "für 🙂"])
TEXTS = st.lists(WORDS, max_size=60).map("".join) | st.text(max_size=30)


@functools.cache
def own_tokenizer():
    """Returns a tokenizer with the special tokens of all objectives."""
    extra = [name for names in OBJECTIVE_TOKENS.values() for name in names]
    return restored(tokenizer.train(some_texts(200, 0), 600, extra))


def restored(data):
    bpe = tokenizer.byte_level.parse(data, "own")
    ids = tokenizer.find_special_ids(bpe, "own", None, None, None)
    return tokenizer.Tokenizer(data, "own", ids)


@functools.cache
def tokenizer_with_runs():
    """Returns one with runs of spaces and a name as added tokens that are text."""
    data = own_tokenizer().json_bytes
    runs = [" " * count for count in range(8, 1, -1)]
    return restored(with_added(data, plain(*runs, "\t\t", "<tool>", "für 🙂")))


def examples_of(config, texts, targets, length, seed=0, encoder=own_tokenizer):
    arrays = [pa.array(side, pa.large_string()) for side in (texts, targets)]
    keys = keys_of_offsets("a.txt", range(len(texts)))
    return make_examples(
        config,
        encoder(),
        arrays[0],
        arrays[1] if config.name == "pairs" else None,
        keys,
        length,
        seed,
    )


def each(examples):
    """Yields (document, ids, inputs among them) of each example."""
    ends = np.cumsum(examples.lengths)
    assert len(examples.ids) == (ends[-1] if len(ends) else 0)
    for number, (begin, end) in enumerate(pairwise([0, *ends.tolist()])):
        prefix = int(examples.prefix[number])
        yield int(examples.document[number]), examples.ids[begin:end], prefix


@EACH_CONFIG
@settings(max_examples=60, deadline=None)
@given(
    sides=st.lists(st.tuples(TEXTS, TEXTS), max_size=8),
    length=st.sampled_from([16, 17, 32, 63, 64, 200]),
    seed=st.integers(0, 3),
    encoder=st.sampled_from([own_tokenizer, tokenizer_with_runs]),
)
def test_the_texts_come_back_from_the_examples(config, sides, length, seed, encoder):
    texts, targets = [side[0] for side in sides], [side[1] for side in sides]
    examples = examples_of(config, texts, targets, length, seed, encoder)
    special = special_ids(config, encoder())
    table = encoder().token_bytes()
    found = [b""] * len(texts)
    for document, ids, prefix in each(examples):
        plain = original_ids(config, special, ids, prefix)
        found[document] += b"".join(table[id] for id in plain)
    wanted = [text.replace("\0", "").encode() for text in texts]
    if config.name == "pairs":
        pairs = zip(wanted, targets, strict=True)
        wanted = [one + two.replace("\0", "").encode() for one, two in pairs]
        for place, _, _ in examples.too_long:
            wanted[place] = b""
    assert found == wanted
    assert examples.first.sum() == len(texts) - len(examples.too_long)


@EACH_CONFIG
@settings(max_examples=40, deadline=None)
@given(
    sides=st.lists(st.tuples(TEXTS, TEXTS), max_size=8),
    length=st.sampled_from([16, 17, 64, 128]),
    seed=st.integers(0, 3),
)
def test_every_example_fits_a_row_and_ends_where_it_should(config, sides, length, seed):
    texts, targets = [side[0] for side in sides], [side[1] for side in sides]
    examples = examples_of(config, texts, targets, length, seed)
    rows = row_format(config, length, own_tokenizer().vocab_size)
    bos, eos = own_tokenizer().bos_id, own_tokenizer().eos_id
    for _, ids, prefix in each(examples):
        if config.name == "causal":
            continue
        if rows.target_length is not None:
            assert prefix <= length
            assert len(ids) - prefix <= rows.target_length
            assert ids[prefix - 1] == eos
        else:
            assert len(ids) <= length + 1
        if config.name in ("pairs", "span_corruption"):
            assert (ids[0], ids[-1]) == (bos, eos)
            assert prefix < len(ids)
        if config.name == "prefix":
            assert 1 <= prefix < len(ids) or len(ids) == 1


@EACH_CONFIG
def test_an_example_depends_on_its_document_and_the_seed_alone(config):
    texts, targets = some_texts(40, 1), some_texts(40, 2)
    keys = keys_of_offsets("a.txt", range(40))

    def made(chosen, seed):
        sides = [
            pa.array([side[n] for n in chosen], pa.large_string())
            for side in (texts, targets)
        ]
        examples = make_examples(
            config,
            own_tokenizer(),
            sides[0],
            sides[1] if config.name == "pairs" else None,
            keys[chosen],
            64,
            seed,
        )
        by_document = {number: [] for number in chosen}
        for document, ids, prefix in each(examples):
            by_document[chosen[document]].append((ids.tolist(), prefix))
        return by_document

    whole = made(list(range(40)), 5)
    some = made([31, 7, 12], 5)
    assert some == {number: whole[number] for number in (31, 7, 12)}
    drawn = config.name in ("prefix", "span_corruption", "fill_in_middle")
    assert (made(list(range(40)), 6) != whole) == drawn


def test_span_corruption_takes_out_what_t5_takes_out():
    config = ObjectiveConfig("span_corruption")
    # T5's own numbers: rows of 512 hold 568 ids of text and 114 of targets.
    assert config.noise.target_length(512) == 114
    assert row_format(config, 512, 600).target_length == 114
    noise, spans = config.noise.count(np.array([0, 1, 2, 10, 568, 100]))
    assert noise.tolist() == [0, 0, 1, 2, 85, 15]
    assert spans.tolist() == [0, 0, 1, 1, 28, 5]


def test_holes_are_numbered_in_order_and_fall_everywhere_alike():
    config = ObjectiveConfig("span_corruption")
    sentinels = special_ids(config, own_tokenizer())
    text = "!" * 90
    examples = examples_of(config, [text] * 4000, [""] * 4000, 128)
    taken = np.zeros(len(own_tokenizer().encode_batch([text])[0]))
    for _, ids, prefix in each(examples):
        inputs, targets = ids[:prefix], ids[prefix:]
        marks = np.flatnonzero(np.isin(targets, sentinels))
        np.testing.assert_array_equal(targets[marks], sentinels[: len(marks)])
        gaps = np.flatnonzero(np.isin(inputs, sentinels))
        np.testing.assert_array_equal(inputs[gaps], sentinels[: len(gaps)])
        sizes = np.diff([*marks, len(targets) - 1]) - 1
        at = gaps - 1 + np.cumsum([0, *sizes[:-1]]) - np.arange(len(gaps))
        for begin, size in zip(at, sizes, strict=True):
            taken[begin : begin + size] += 1
    noise, _ = config.noise.count(np.array([len(taken)]))
    assert taken.sum() == 4000 * noise[0]
    assert taken[0] == 0  # what comes first always stays
    middle = taken[len(taken) // 4 : -len(taken) // 4] / 4000
    assert abs(middle.mean() - 0.15) < 0.02
    assert middle.std() < 0.03


def test_pieces_are_moved_alike_however_many_are_worked_on_at_once():
    config = ObjectiveConfig("fill_in_middle", None)
    special, rates = special_ids(config, own_tokenizer()), (0.5, 0.5)
    texts = pa.array(some_texts(60, 3), pa.large_string())
    keys = keys_of_offsets("a.txt", range(len(texts)))
    made = []
    for group in (1 << 20, 100, 1):
        made.append(
            fill_in_middle(own_tokenizer(), texts, keys, special, rates, 64, 0, group)
        )
    for other in made[1:]:
        for name in ("ids", "lengths", "document", "start"):
            np.testing.assert_array_equal(getattr(made[0], name), getattr(other, name))


def test_half_of_the_pieces_are_moved_and_half_of_those_have_the_suffix_first():
    config = ObjectiveConfig("fill_in_middle")
    prefix, middle, suffix = special_ids(config, own_tokenizer())
    examples = examples_of(config, some_texts(4000, 3), [""] * 4000, 256)
    moved = suffix_first = 0
    for _, ids, _ in each(examples):
        place = np.flatnonzero(ids == prefix)
        if len(place):
            moved += 1
            suffix_first += ids[place[0] + 1] == suffix
            assert (ids == middle).sum() == (ids == suffix).sum() == 1
    assert abs(moved / 4000 - 0.5) < 0.03
    # Of the others one in some hundred has no prefix, and looks the same.
    assert abs(suffix_first / moved - 0.5) < 0.04


@pytest.mark.parametrize("rates", [(0.0, 0.5), (1.0, 0.0), (1.0, 1.0)])
def test_rates_of_none_and_all_are_exact(rates):
    config = ObjectiveConfig("fill_in_middle", fim_rate=rates[0], spm_rate=rates[1])
    texts = some_texts(300, 4)
    examples = examples_of(config, texts, [""] * 300, 512)
    mark = special_ids(config, own_tokenizer())[0]
    moved = sum((ids == mark).any() for _, ids, _ in each(examples))
    assert moved == 300 * rates[0]
    if not moved:
        whole = own_tokenizer().encode_documents(texts)[0]
        np.testing.assert_array_equal(examples.ids, whole)


def test_prefixes_are_uniform_over_the_document():
    examples = examples_of(
        ObjectiveConfig("prefix"), some_texts(3000, 5), [""] * 3000, 512
    )
    where = (examples.prefix - 1) / (examples.lengths - 2)
    counts, _ = np.histogram(where, bins=5, range=(0, 1))
    assert (abs(counts / 3000 - 0.2) < 0.04).all()


@pytest.mark.parametrize(
    ("layout", "inputs", "targets", "too_long"),
    [
        # Rows of 17 ids hold BOS, 15 ids of both texts, and EOS.
        ("decoder", 8, 7, ()),
        ("decoder", 8, 8, ((0, 18, 17),)),
        # Inputs of 16 hold BOS, 14 ids and EOS; targets of 9 hold 8 and EOS.
        ("encoder_decoder", 14, 8, ()),
        ("encoder_decoder", 15, 8, ((0, 17, 16),)),
        ("encoder_decoder", 1, 9, ((0, 10, 9),)),
    ],
)
def test_a_pair_that_fits_exactly_stays_and_a_longer_one_is_named(
    layout, inputs, targets, too_long
):
    sides = ["!?" * (n // 2) + "!" * (n % 2) for n in (inputs, targets)]
    assert own_tokenizer().encode_batch(sides)[1].tolist() == [inputs, targets]
    config = ObjectiveConfig("pairs", layout, 9 if layout != "decoder" else None)
    examples = examples_of(config, [sides[0]], [sides[1]], 16)
    assert examples.too_long == too_long
    assert len(examples.lengths) == 1 - len(too_long)


@given(
    lengths=st.lists(st.integers(0, 100), max_size=20),
    room=st.sampled_from([3, 17, 65]),
)
def test_pieces_hold_each_id_once_and_never_one_alone(lengths, room):
    lengths = [*lengths, room - 1, room, room + 1, room + 2]
    run, start, length = pieces(np.array(lengths), room)
    for number, total in enumerate(lengths):
        mine = run == number
        places = [
            place
            for begin, size in zip(start[mine], length[mine], strict=True)
            for place in range(begin, begin + size)
        ]
        assert places == list(range(total))
        assert length[mine].max() <= room
        assert length[mine].min() >= min(2, total)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "prefx"}, "Did you mean prefix"),
        ({"layout": "encoder_decoder"}, "layout decoder for the objective causal"),
        ({"name": "pairs", "layout": "decoder", "target_length": 9}, "target_length"),
        ({"noise_density": 1.0}, "noise_density above 0 and below 1"),
        ({"mean_span_length": 0.5}, "mean_span_length of 1 or more"),
        ({"fim_rate": 1.5}, "fim_rate between 0 and 1"),
        ({"sentinel_token": "<extra>"}, "with {} for its number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        ObjectiveConfig(**change)


@pytest.mark.parametrize(
    ("config", "length", "planner", "message"),
    [
        (ObjectiveConfig("prefix"), 64, concat, "packing best_fit"),
        (ObjectiveConfig("prefix"), 15, best_fit, "sequence_length of 16"),
        (ObjectiveConfig("span_corruption"), 64, best_fit, "objective span_corruption"),
        (ObjectiveConfig("fill_in_middle"), 64, best_fit, "objective fill_in_middle"),
    ],
)
def test_what_an_objective_cannot_be_prepared_with_is_refused(
    config, length, planner, message
):
    plain = restored(tokenizer.train(some_texts(50, 0), 300))
    check_objective(ObjectiveConfig(), plain, 8, concat)
    with pytest.raises(UsageError, match=message):
        check_objective(config, plain, length, planner)
    if planner is best_fit and length == 64:
        check_objective(config, own_tokenizer(), length, planner)


def test_rows_too_short_for_a_hole_are_refused():
    config = ObjectiveConfig("span_corruption", target_length=2)
    with pytest.raises(UsageError, match="room for three ids and a hole"):
        check_objective(config, own_tokenizer(), 64, best_fit)


def test_sentinels_of_other_tokenizers_are_found_by_name_in_any_order():
    data = tokenizer.train(some_texts(50, 0), 300, ["<x_2>", "<x_1>", "<x_0>"])
    other = restored(data)
    config = ObjectiveConfig("span_corruption", sentinel_token="<x_{}>")
    assert special_ids(config, other).tolist() == [5, 4, 3]
    # With three sentinels no example has more than three holes.
    assert config.noise.longest_piece(PairRoom(512, 114), True, 3) == 70
    noise, spans = config.noise.count(np.array([70, 71]))
    assert (spans.tolist(), noise.tolist()) == ([3, 4], [10, 11])
