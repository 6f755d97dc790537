# SPDX-License-Identifier: Apache-2.0
"""What quern-doctor says of machines with GPUs, from what was recorded of them."""

from dataclasses import replace

import pytest

from tests.trainer.machine.recorded_gpus import (
    CUDA_13_ONLY,
    EIGHT_H100,
    FOUR_IN_PAIRS,
    GIB,
    H100,
    ONE_H100,
    SEEN,
    WHEEL_2_21,
    WITHOUT_CUDNN,
)
from trainer.machine import gpu_findings
from trainer.machine.cuda_libraries import Library
from trainer.machine.nvml import Driver, Gpu


def judged(driver, cuda, seen=(), on_the_bus=1, version="2.21.0"):
    found = gpu_findings.judge_gpus(driver, on_the_bus, version, cuda, seen)
    return {finding.what: finding for finding in found}


def test_a_good_machine_is_told_line_by_line_and_asks_for_nothing():
    lines = judged(ONE_H100, WHEEL_2_21, SEEN)
    assert {line.level for line in lines.values()} == {"ok"}
    assert not [line.advice for line in lines.values() if line.advice]
    told = {what: line.found for what, line in lines.items()}
    assert told["gpu driver"] == (
        "580.159.04 (CUDA 13.0), 525.60.13 is the least for CUDA 12.5.1"
    )
    assert told["gpu 0"].startswith("NVIDIA H100 80GB HBM3, compute capability 9.0, ")
    assert "79.1 of 79.6 GiB free" in told["gpu 0"]
    assert told["cuda libraries"] == (
        "CUDA 12.5.1 wanted, all 7 open, 7 from the nvidia packages"
    )
    assert told["cudnn"] == "9.28.0, 9.3.0 is the least"
    assert told["gpus"] == SEEN[0] and "gpu links" not in told


def test_a_machine_without_gpus_gets_one_line():
    (line,) = judged(None, None, on_the_bus=0).values()
    assert (line.level, line.what) == ("ok", "gpus") and "CPU" in line.found


def test_a_gpu_without_a_driver_is_a_warning_that_names_the_least_one():
    (line,) = judged(None, None).values()
    assert line.level == "warn" and "525.60.13" in line.advice


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("470.256.02", "fail"),
        ("525.60.12", "fail"),
        ("525.60.13", "warn"),
        ("550.54.15", "warn"),
        ("555.42.06", "ok"),
        ("1000.1", "ok"),
    ],
)
def test_a_driver_is_judged_by_the_cuda_of_the_wheel(version, level):
    driver = replace(ONE_H100, version=version)
    finding = gpu_findings.judge_driver(driver, WHEEL_2_21)
    assert finding.level == level
    assert bool(finding.advice) == (level != "ok")


def test_a_driver_that_does_not_answer_fails_with_its_reason():
    driver = Driver("580.65.06", error="its old kernel module is still loaded")
    line = judged(driver, WHEEL_2_21)["gpu driver"]
    assert (
        line.level == "fail" and driver.error in line.found and "restart" in str(line)
    )


def test_a_missing_cudnn_is_named_and_says_what_to_install():
    lines = judged(ONE_H100, WITHOUT_CUDNN)
    libraries = lines["cuda libraries"]
    assert libraries.level == "fail"
    assert libraries.found == ("CUDA 12.5.1 wanted, 1 of 7 do not open: libcudnn.so.9")
    for what in ("cuda libraries", "cudnn", "gpus"):
        assert "pip install 'tensorflow[and-cuda]==2.21.0'" in lines[what].advice


def test_an_older_cudnn_than_the_wheels_fails():
    found = gpu_findings.judge_cudnn(replace(WHEEL_2_21, cudnn="9.1.0"), "2.21.0")
    assert found.level == "fail" and "9.1.0, 9.3.0 is the least" in found.found


def test_libraries_of_cuda_13_alone_are_named_beside_those_wanted():
    line = judged(ONE_H100, CUDA_13_ONLY)["cuda libraries"]
    assert line.level == "fail" and "5 of 7 do not open" in line.found
    assert "libcublas.so.12 (found libcublas.so.13)" in line.found
    assert "beside the other version" in line.advice


def test_a_library_that_misses_another_names_that_one():
    library = Library("libcudnn.so.9", "", "libnvrtc.so.12: cannot open shared object")
    cuda = replace(WITHOUT_CUDNN, libraries=(*WHEEL_2_21.libraries[:-1], library))
    assert "(libnvrtc.so.12: " in judged(ONE_H100, cuda)["cuda libraries"].found


def test_libraries_that_only_the_wheel_holds_lead_to_the_loaders_path():
    line = judged(ONE_H100, WHEEL_2_21)["gpus"]
    assert line.level == "fail" and "LD_LIBRARY_PATH" in line.advice
    on_path = tuple(replace(each, place="loader") for each in WHEEL_2_21.libraries)
    line = judged(ONE_H100, replace(WHEEL_2_21, libraries=on_path))["gpus"]
    assert "CUDA_VISIBLE_DEVICES" in line.advice


def test_a_wheel_without_cuda_fails_and_a_failed_import_says_nothing_more():
    assert judged(ONE_H100, None)["gpus"].level == "fail"
    assert judged(ONE_H100, None, version="").keys() == {"gpu driver", "gpu 0"}


@pytest.mark.parametrize(
    ("capability", "level", "compiled"),
    [
        ((5, 2), "fail", False),
        ((7, 5), "ok", False),
        ((8, 6), "ok", False),
        ((9, 0), "ok", True),
        ((12, 0), "ok", True),
    ],
)
def test_a_gpu_is_judged_by_the_kernels_that_the_wheel_holds(
    capability, level, compiled
):
    gpu = Gpu("a GPU", capability, 8 * GIB, 8 * GIB)
    finding = gpu_findings.judge_gpu(0, gpu, WHEEL_2_21)
    assert finding.level == level
    assert ("compiled at first use" in finding.found) == compiled


def test_what_the_driver_did_not_tell_is_said_to_be_not_asked():
    found = gpu_findings.judge_gpu(0, Gpu("", None, 0, 0), WHEEL_2_21).found
    assert found == "unnamed, compute capability not asked, memory not asked"


def test_memory_that_another_process_holds_is_a_warning():
    busy = replace(H100, free=H100.total // 2)
    finding = gpu_findings.judge_gpu(0, busy, WHEEL_2_21)
    assert finding.level == "warn" and "nvidia-smi" in finding.advice


def test_links_are_told_by_kind():
    assert judged(EIGHT_H100, WHEEL_2_21)["gpu links"].found == "NVLink between all"
    line = judged(FOUR_IN_PAIRS, WHEEL_2_21)["gpu links"]
    assert line.found == (
        "NVLink: 0-1 2-3; PCIe: 0-2; host memory: 0-3 1-2; not asked: 1-3"
    )
    assert line.advice


def test_gpus_that_are_hidden_are_counted():
    line = judged(EIGHT_H100, WHEEL_2_21, SEEN)["gpus"]
    assert line.level == "warn" and "of 8" in line.found


def test_no_compiler_for_xla_is_a_warning():
    finding = gpu_findings.judge_compiler(replace(WHEEL_2_21, ptxas=""))
    assert finding.level == "warn" and "no ptxas" in finding.found
