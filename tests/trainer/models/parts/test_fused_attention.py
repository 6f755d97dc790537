# SPDX-License-Identifier: Apache-2.0
"""Attention in one kernel, as far as a CPU can tell: where segments lie, the calls.

What the kernel mixes is tried in `tests/gpu/test_fused_attention.py`.
"""

import re
from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from trainer.compute.compilation import Compilation
from trainer.models.decoder import DecoderConfig
from trainer.models.language_model import RowShape
from trainer.models.parts import fused_attention
from trainer.models.parts.fused_attention import fits, pack_segments

ROWS = st.integers(1, 12).flatmap(
    lambda length: st.lists(
        st.lists(st.booleans(), min_size=length, max_size=length),
        min_size=1,
        max_size=4,
    )
)


def numbered(rows: Sequence[Sequence[bool]]) -> np.ndarray:
    """Returns segment ids, a new one where a row says so; the last is padding."""
    ids = np.cumsum(np.array(rows), axis=1).astype(np.int32)
    return np.where(ids == ids[:, -1:], 0, ids + 1).astype(np.int32)


@given(ROWS, st.integers(0, 3))
def test_segments_lie_one_behind_the_other_and_cover_all(
    rows: list[list[bool]], spare: int
) -> None:
    ids = numbered(rows)
    batch, length = ids.shape
    runs = 1 + (ids[:, 1:] != ids[:, :-1]).sum(axis=1)
    # Room for all segments of the batch is enough, wherever they are.
    room = min(length, -(-int(runs.sum()) // batch) + spare)
    packed = pack_segments(tf.constant(ids), room)
    lengths = packed.lengths.numpy().ravel()
    starts = packed.starts.numpy().ravel()
    used = int(runs.sum())
    assert (lengths[:used] > 0).all() and not lengths[used:].any()
    assert (starts[used:] == batch * length).all()
    assert starts[0] == 0 and lengths.sum() == batch * length
    np.testing.assert_array_equal(starts[1:used], np.cumsum(lengths)[: used - 1])
    row_ids = ids + 1000 * np.arange(batch)[:, None]
    for start, size in zip(starts[:used], lengths[:used], strict=True):
        assert len(set(row_ids.ravel()[start : start + size].tolist())) == 1


def module(most: int, heads: int, kv_heads: int) -> str:
    """Returns the HLO of attention and its gradient, as they come from TensorFlow."""
    batch, length, width = 2, 64, 16

    def both(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor) -> list[tf.Tensor]:
        ids = tf.ones([batch, length], tf.int32)
        with tf.GradientTape() as tape:
            tape.watch([q, k, v])
            packed = pack_segments(ids, most)
            mixed = fused_attention.fused_attention(q, k, v, packed, "CPU")
        return tape.gradient(mixed, [q, k, v])

    function = Compilation.WHOLE.alone(both)
    inputs = [
        tf.zeros([batch, length, count, width], tf.bfloat16)
        for count in (heads, kv_heads, kv_heads)
    ]
    return function.experimental_get_compiler_ir(*inputs)(
        stage="hlo", device_name="/device:CPU:0"
    )


def test_forward_and_gradient_are_one_call_each_in_the_layouts_of_rows() -> None:
    calls = [x for x in module(3, 4, 2).splitlines() if " custom-call(" in x]
    found = {re.findall(r'custom_call_target="([^"]+)"', x)[0]: x for x in calls}
    assert set(found) == {"__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"}
    forward, backward = found.values()
    if "Backward" in forward:
        forward, backward = backward, forward
    # Heads inside time: no transposition of results, and 2 x 3 possible segments.
    assert "(bf16[2,4,64,16]{3,1,2,0}, f32[6,4,64]{2,1,0}, u8[0]{0})" in forward
    assert "bf16[2,2,64,16]{3,1,2,0}, bf16[2,2,64,16]{3,1,2,0}, u8[0]{0})" in backward
    assert "s32[2,3]{1,0}" in forward and "s32[2,4]{1,0}" in forward
    assert forward.count("bf16[2,64,2,16]{3,2,1,0}") >= 2


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_attention, "gpu_has_fused_attention", lambda: True)


@pytest.mark.usefixtures("hopper")
def test_the_kernel_is_chosen_only_where_it_can_attend() -> None:
    shape = {"compute": tf.bfloat16, "head_dim": 64, "length": 2048, "max_segments": 65}
    with Compilation.WHOLE.tracing():
        assert fits(**shape)
        for other in (
            {"compute": tf.float32},
            {"head_dim": 20},
            {"head_dim": 256},
            {"length": 2047},
            {"max_segments": 500},
        ):
            assert not fits(**{**shape, **other}), other
    for compilation in (Compilation.NONE, Compilation.PARTS):
        with compilation.tracing():
            assert not fits(**shape)


@pytest.mark.usefixtures("hopper")
def test_a_run_says_how_its_rows_are_attended() -> None:
    config = DecoderConfig(d_model=64, num_heads=1)
    long, short = RowShape(2048, 65, False), RowShape(512, 65, False)
    with Compilation.WHOLE.tracing():
        assert "one kernel" in config.remark(tf.bfloat16, long)
        assert "chunks of 256" in config.remark(tf.float32, long)
        assert "chunks" in config.remark(tf.bfloat16, RowShape(2048, 65, True))
        assert "chunks" in config.remark(tf.bfloat16, RowShape(2048, None, False))
    assert "all scores" in config.remark(tf.bfloat16, short)
