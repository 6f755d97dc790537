# SPDX-License-Identifier: Apache-2.0
"""Arrow's strings taken apart and put together are the same strings, uncopied."""

import ast

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.foundation.string_buffers import array_of, sizes_of, views
from tests.test_house_rules import SOURCES, name, tree

KINDS = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()]


@st.composite
def arrays(draw):
    """Arrays of every type: whole, slices, and pieces put together."""
    kind = draw(st.sampled_from(KINDS))
    values = draw(st.lists(st.binary(max_size=4) | st.just(b""), max_size=6))
    if kind in (pa.string(), pa.large_string()):
        values = [value.decode("latin-1") for value in values]
    array = pa.array(values, kind)
    first, last = sorted(draw(st.tuples(*2 * [st.integers(0, len(values))])))
    whole = pa.concat_arrays([array, array[first:last]])
    return draw(st.sampled_from([array, array[first:last], whole, whole[first:]]))


def as_bytes(value):
    return value.encode() if isinstance(value, str) else value


@given(arrays())
def test_edges_cut_an_array_of_any_type_or_slice_of_it_into_its_strings(array):
    data, edges = views(array)
    cut = [data[edges[i] : edges[i + 1]].tobytes() for i in range(len(array))]
    assert cut == [as_bytes(value) for value in array.to_pylist()]
    assert len(edges) == len(array) + 1
    assert sizes_of(array).tolist() == [len(value) for value in cut]
    assert sizes_of(array).dtype == np.int64


@given(arrays())
def test_an_array_put_together_from_its_views_is_the_same(array):
    data, edges = views(array)
    again = array_of(data, edges, array.type)
    again.validate(full=True)
    assert again.equals(array)


@given(arrays())
def test_nothing_is_copied_either_way(array):
    data, edges = views(array)
    again = array_of(data, edges, array.type)
    _, offsets, values = again.buffers()
    mine = array.buffers()
    if len(data):
        assert values.address == mine[2].address == data.ctypes.data
    assert offsets.address == edges.ctypes.data
    if len(array):
        width = edges.itemsize
        assert edges.ctypes.data == mine[1].address + width * array.offset


def test_views_are_read_only_even_of_memory_that_others_may_write():
    array = array_of(bytearray(b"some text"), np.array([0, 4, 9]))
    data, edges = views(array)
    assert not data.flags.writeable
    assert not edges.flags.writeable


@pytest.mark.parametrize("kind", KINDS)
def test_no_strings_have_one_edge_and_of_no_edges_there_are_no_strings(kind):
    data, edges = views(pa.array([], kind))
    assert (data.tolist(), edges.tolist()) == ([], [0])
    assert array_of(b"unused", np.zeros(0, np.int64), kind).equals(pa.array([], kind))


def test_places_in_any_integers_make_large_strings():
    array = array_of(b"abc", np.array([0, 1, 3], np.uint8))
    assert array.equals(pa.array(["a", "bc"], pa.large_string()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_null_is_refused_but_not_one_outside_of_a_slice(kind):
    array = pa.array(["a", None, "b"], pa.string()).cast(kind)
    for of in (views, sizes_of):
        with pytest.raises(ValueError, match="without nulls, found 1 nulls"):
            of(array)
    assert sizes_of(array[2:]).tolist() == [1]


@pytest.mark.parametrize(
    "array", [pa.array([1]), pa.array(["a"]).dictionary_encode(), pa.nulls(1)]
)
def test_other_types_are_refused_by_name(array):
    with pytest.raises(ValueError, match=r"wanted strings .* found \w+"):
        views(array)


def test_arrows_buffers_are_met_in_one_module():
    found = {
        name(path)
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in ("buffers", "from_buffers")
    }
    assert found == {"preprocessing/foundation/string_buffers.py"}
