# SPDX-License-Identifier: Apache-2.0
"""NFC inside the graph is that of `tokenizers`, which is neither ICU's nor Python's."""

import functools
import unicodedata
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.python.framework import kernels, op_def_registry
from tokenizers import normalizers

from tests.scripts_corpus import documents, hostile_strings
from trainer.release.op_lint import lint, read_graph
from trainer.serving.nfc_graph import NfcGraph
from trainer.serving.nfc_tables import nfc_tables

SPEC = [tf.TensorSpec([None], tf.string)]
NONCHARACTERS = ("\ufdd0", "\ufdef", "\ufffe", "\uffff", "\U0001ffff", "\U0010fffe")


@functools.cache
def normalise():
    return tf.function(NfcGraph().normalise, input_signature=SPEC, autograph=False)


def assert_same(texts: list[str]) -> None:
    found = [text.decode() for text in normalise()(tf.constant(texts)).numpy()]
    compose = normalizers.NFC().normalize_str
    wrong = [
        text for text, each in zip(texts, found, strict=True) if each != compose(text)
    ]
    assert not wrong, ascii(wrong[0])


def characters() -> st.SearchStrategy[str]:
    """Those that NFC moves, of every kind, and some that it leaves."""
    tables = nfc_tables()
    firsts, seconds = zip(*tables.compositions, strict=True)
    kinds = (tables.classes, tables.decompositions, firsts, seconds)
    pools = [st.sampled_from(sorted({*kind})).map(chr) for kind in kinds]
    return st.one_of(*pools, st.sampled_from(("a", " ", "\n", *NONCHARACTERS)))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.lists(st.lists(characters(), max_size=14).map("".join), min_size=30))
def test_any_marks_in_any_order_are_normalised_as_the_reference_does(
    texts: list[str],
) -> None:
    assert_same(texts)


@pytest.mark.smoke
def test_every_code_point_that_nfc_moves_is_moved_alike() -> None:
    tables = nfc_tables()
    moved = [*tables.decompositions, *tables.classes]
    assert_same([f"e\u0323{chr(point)}\u0301" for point in moved])


def test_marks_newer_than_the_reference_are_left_where_they_stand() -> None:
    tables = nfc_tables()
    known = tables.classes.keys() | tables.decompositions.keys()
    points = [p for p in range(0x110000) if unicodedata.combining(chr(p))]
    newer = [chr(point) for point in points if point not in known]
    assert len(newer) > 50  # Python 3.11 is of Unicode 14
    assert_same([f"e\u0301{mark}\u0323\u0302" for mark in newer])


def test_hostile_strings_and_documents_are_normalised_alike() -> None:
    texts = [text.replace("\0", "") for text in hostile_strings(seed=41, count=4000)]
    texts += [unicodedata.normalize("NFD", text) for text in documents(41, 200)]
    assert_same(texts)


@pytest.mark.parametrize("texts", [[], [""], ["a"], ["e\u0301"], ["", "\u0301", "x"]])
def test_batches_of_any_size_are_normalised(texts: list[str]) -> None:
    found = normalise()(tf.constant(texts, tf.string)).numpy().tolist()
    assert found == [unicodedata.normalize("NFC", text).encode() for text in texts]


def test_marks_without_end_are_normalised() -> None:
    assert_same(["a" + "\u0301" * 2000 + "e\u0323\u0302" * 500])


def test_only_operations_of_the_core_are_needed(tmp_path: Path) -> None:
    module = tf.Module()
    module.serve = normalise()
    tf.saved_model.save(module, str(tmp_path), {"serving_default": module.serve})
    graph = read_graph((tmp_path / "saved_model.pb").read_bytes())
    ops = {node.op for node in graph.all_nodes()}
    core = frozenset(op for op in ops if op_def_registry.get(op) is not None)

    def has_cpu_kernel(op: str) -> bool:
        found = kernels.get_registered_kernels_for_op(op).kernel
        return any(kernel.device_type in ("CPU", "DEFAULT") for kernel in found)

    assert lint(graph, core, has_cpu_kernel) == []
    assert not [op for op in ops if "UTF8" in op or "Sentencepiece" in op]
