# SPDX-License-Identifier: Apache-2.0
"""Figures of a GPU: kernels by time out of a profile, and what a token costs."""

import pytest
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from tests.benchmarks.gpu.gpu_kernels import Kernel, families, gpu_time, read_profile
from tests.benchmarks.gpu.utilisation import product_weights, training_flops
from trainer.models.decoder import DecoderConfig
from trainer.models.model import PrecisionConfig, build_model

MS = 10**9  # picoseconds


def space_of(planes):
    """Returns an `XSpace` of {plane: {line: (nanoseconds, [(name, start, long)])}}."""
    space = xplane_pb2.XSpace()
    for title, lines in planes.items():
        plane = space.planes.add(name=title)
        numbers = {}
        for label, (began, events) in lines.items():
            line = plane.lines.add(name=label, timestamp_ns=began)
            for name, offset, duration in events:
                number = numbers.setdefault(name, len(numbers) + 1)
                plane.event_metadata[number].id = number
                plane.event_metadata[number].name = name
                line.events.add(
                    metadata_id=number, offset_ps=offset, duration_ps=duration
                )
    return space


SPACE = space_of(
    {
        "/host:CPU": {"python": (0, [("gemm", 0, 900 * MS)])},
        "/device:GPU:0": {
            "Stream #13(Compute)": (
                1000,
                [
                    ("gemm", 0, 4 * MS),
                    ("loop_add_fusion_2", 4 * MS, 1 * MS),
                    ("gemm", 6 * MS, 2 * MS),
                    ("loop_add_fusion_11", 8 * MS, 3 * MS),
                ],
            ),
            # Half of it while the first product runs.
            "Stream #14(MemcpyH2D)": (1000, [("MemcpyH2D", -1 * MS, 2 * MS)]),
            "XLA Ops": (1000, [("gemm", 0, 11 * MS)]),
        },
        "/device:GPU:1": {"Stream #13(Compute)": (1000, [("gemm", 0, 50 * MS)])},
    }
)


def test_kernels_are_those_of_one_gpus_streams_the_longest_first():
    found = gpu_time(SPACE)
    assert [(k.name, k.launches) for k in found.kernels] == [
        ("gemm", 2),
        ("loop_add_fusion_11", 1),
        ("loop_add_fusion_2", 1),
    ]
    assert [k.seconds for k in found.kernels] == pytest.approx([0.006, 0.003, 0.001])
    assert found.kernel_seconds == pytest.approx(0.010)


def test_a_gpu_is_busy_while_any_stream_works_and_not_twice():
    # From -1 to 5 and from 6 to 11 ms.
    assert gpu_time(SPACE).busy_seconds == pytest.approx(0.011)


def test_kernels_of_one_kind_are_told_together():
    kernels = [Kernel("f_2", 1, 1.0), Kernel("f_11.3", 2, 3.0), Kernel("gemm", 1, 3.5)]
    assert families(kernels) == (Kernel("f", 3, 4.0), Kernel("gemm", 1, 3.5))


def test_a_profile_without_a_gpu_has_no_kernels():
    found = gpu_time(space_of({"/host:CPU": {"python": (0, [("gemm", 0, MS)])}}))
    assert found.kernels == () and found.busy_seconds == 0


def test_the_newest_profile_of_a_directory_is_read(tmp_path):
    inner = tmp_path / "plugins" / "profile" / "now"
    inner.mkdir(parents=True)
    (inner / "host.xplane.pb").write_bytes(SPACE.SerializeToString())
    assert gpu_time(read_profile(tmp_path)) == gpu_time(SPACE)
    with pytest.raises(FileNotFoundError, match="found none"):
        read_profile(tmp_path / "elsewhere")


def test_a_tied_embedding_counts_once_and_attention_by_its_causal_half():
    config = DecoderConfig(num_layers=2, d_model=32, num_heads=2, ffn_dim=64)
    model = build_model(config, 512, PrecisionConfig(), seed=0)
    block = 32 * 3 * 32 + 32 * 32 + 3 * 32 * 64  # qkv, out, gate and up and down
    assert product_weights(model) == 512 * 32 + 2 * block
    half = 6 * 2 * 32 * 128
    assert training_flops(product_weights(model), 2, 32, 128) == 6 * 36864 + half
    norms = 6 * (2 * 2 + 1) * 32
    assert model.flops_per_token(128) == 6 * 36864 + 2 * half + norms
