# SPDX-License-Identifier: Apache-2.0
"""What is said of GPUs: judgements of what the driver and TensorFlow's wheel told.

Pure: they touch no device, so that machines which nobody has here can be judged from
what was recorded of them.
"""

from collections.abc import Iterable, Iterator, Sequence

from trainer.machine.cuda_libraries import CudaLibraries, Library, older
from trainer.machine.finding import Finding
from trainer.machine.nvml import NOT_ASKED, NVLINK, Driver, Gpu

_GIB = 1 << 30
# The least Linux driver on which a CUDA's programs run at all, by its major version;
# and the driver that came with a CUDA, below which none compiles its PTX, as which
# TensorFlow's own kernels reach newer GPUs: the tables of CUDA's release notes.
_LEAST_DRIVER = {"11": "450.80.02", "12": "525.60.13", "13": "580.65.06"}
_FULL_DRIVER = {"12.3": "545.23.06", "12.5": "555.42.06"}
# TensorFlow takes nearly all memory of a GPU when it starts.
_FREE_SHARE = 0.9
_INSTALL = "pip install 'tensorflow[and-cuda]=={version}'"
# 2.16 and 2.17 did not find the nvidia packages without it (tensorflow#63362).
_SHOW_THE_LOADER = (
    "add the lib folders of the nvidia packages: export LD_LIBRARY_PATH=$(echo "
    "$(python -c 'import nvidia; print(list(nvidia.__path__)[0])')/*/lib | tr ' ' ':')"
)


def judge_gpus(
    driver: Driver | None,
    on_the_bus: int,
    version: str,
    cuda: CudaLibraries | None,
    seen: Sequence[str],
) -> Iterator[Finding]:
    """Yields all that is to be said of GPUs; one line where there is none.

    Args:
        driver: the driver that is loaded, None without one.
        on_the_bus: NVIDIA devices of the machine, whether or not a driver is loaded.
        version: TensorFlow's version; empty where its import failed.
        cuda: what its wheel wants and has; None for a wheel without CUDA.
        seen: the GPUs that TensorFlow registered.
    """
    if driver is None:
        yield _without_driver(on_the_bus, cuda, seen)
        return
    yield judge_driver(driver, cuda)
    for index, gpu in enumerate(driver.gpus):
        yield judge_gpu(index, gpu, cuda)
    if len(driver.gpus) > 1:
        yield judge_links(driver.links)
    if not version:
        return
    if cuda is None:
        advice = f"{_INSTALL.format(version=version)}, from a wheel built with CUDA"
        yield Finding("fail", "gpus", "a driver, but TensorFlow lacks CUDA", advice)
        return
    yield judge_libraries(cuda, version, bool(seen))
    yield judge_cudnn(cuda, version)
    yield judge_compiler(cuda)
    yield _judge_seen(driver, cuda, version, seen)


def judge_driver(driver: Driver, cuda: CudaLibraries | None) -> Finding:
    """Judges a driver's version by the CUDA that the wheel was built with."""
    what, wanted = "gpu driver", cuda.cuda if cuda else "12"
    least = _LEAST_DRIVER.get(wanted.split(".")[0], "")
    told = driver.version or f"version {NOT_ASKED}"
    if driver.cuda:
        told += f" (CUDA {driver.cuda})"
    if driver.error:
        advice = "restart the machine, or the container with --gpus all"
        return Finding("fail", what, f"{told}: {driver.error}", advice)
    told += f", {least or 'unknown'} is the least for CUDA {wanted}"
    if not driver.version or not least:
        return Finding("warn", what, told, "compare it with CUDA's release notes")
    if older(driver.version, least):
        advice = f"install NVIDIA's driver {least} or later, then restart"
        return Finding("fail", what, told, advice)
    full = _FULL_DRIVER.get(".".join(wanted.split(".")[:2]), least)
    if older(driver.version, full):
        advice = (
            f"{full} or later, where a kernel fails with an unsupported PTX version"
        )
        return Finding("warn", what, told, advice)
    return Finding("ok", what, told)


def judge_gpu(index: int, gpu: Gpu, cuda: CudaLibraries | None) -> Finding:
    """Judges a GPU by its memory, and by what kernels the wheel holds for it."""
    what = f"gpu {index}"
    capability, kernels = NOT_ASKED, ""
    if gpu.capability is not None:
        capability = "{}.{}".format(*gpu.capability)
        kernels = (
            _kernels(gpu.capability, cuda.capabilities) if cuda else "machine code"
        )
    found = f"{gpu.name or 'unnamed'}, compute capability {capability}"
    if gpu.total:
        found += f", {gpu.free / _GIB:.1f} of {gpu.total / _GIB:.1f} GiB free"
    else:
        found += f", memory {NOT_ASKED}"
    if kernels == "none":
        advice = "use a newer GPU, or build TensorFlow for this one"
        return Finding("fail", what, f"{found}, too old for this TensorFlow", advice)
    if kernels == "PTX":
        found += ", TensorFlow's own kernels are compiled at first use"
    if gpu.total and gpu.free < _FREE_SHARE * gpu.total:
        advice = (
            "see who holds the rest (nvidia-smi), or choose by CUDA_VISIBLE_DEVICES"
        )
        return Finding("warn", what, found, advice)
    return Finding("ok", what, found)


def judge_links(links: Iterable[tuple[int, int, str]]) -> Finding:
    """Tells how GPUs reach each other's memory, the pairs of each kind together."""
    pairs: dict[str, list[str]] = {}
    for one, other, kind in links:
        pairs.setdefault(kind, []).append(f"{one}-{other}")
    if len(pairs) == 1:
        ((kind, _),) = pairs.items()
        found = f"{kind} between all"
    else:
        found = "; ".join(f"{kind}: {' '.join(names)}" for kind, names in pairs.items())
    if pairs.keys() <= {NVLINK, NOT_ASKED}:
        return Finding("ok", "gpu links", found)
    advice = "gradients cross slowly: more rows a step (data.global_batch_size) hide it"
    return Finding("ok", "gpu links", found, advice)


def judge_libraries(cuda: CudaLibraries, version: str, seen: bool) -> Finding:
    """Judges whether all of CUDA's libraries open, cuDNN included."""
    what, wanted = "cuda libraries", f"CUDA {cuda.cuda} wanted"
    if not cuda.libraries:
        advice = "look TensorFlow's own messages over: quern-train says them"
        return Finding("warn", what, f"{wanted}, its libraries {NOT_ASKED}", advice)
    missing = [library for library in cuda.libraries if not library.place]
    if not missing:
        found = f"{wanted}, all {len(cuda.libraries)} open"
        beside = [library for library in cuda.libraries if library.place == "wheel"]
        if beside:
            found += f", {len(beside)} from the nvidia packages"
        return Finding("ok", what, found)
    found = f"{wanted}, {len(missing)} of {len(cuda.libraries)} do not open: "
    found += ", ".join(_missing(library) for library in missing)
    advice = _INSTALL.format(version=version)
    if any(library.instead for library in missing):
        advice += ", beside the other version: no wheel opens that one"
    return Finding("warn" if seen else "fail", what, found, advice)


def judge_cudnn(cuda: CudaLibraries, version: str) -> Finding:
    """Judges cuDNN's version, which may be newer than the wheel's but not older."""
    wanted = f"{cuda.least_cudnn or f'version {NOT_ASKED}'} is the least"
    advice = _INSTALL.format(version=version)
    if not cuda.cudnn:
        return Finding("fail", "cudnn", f"does not open, {wanted}", advice)
    found = f"{cuda.cudnn}, {wanted}"
    if cuda.least_cudnn and older(cuda.cudnn, cuda.least_cudnn):
        advice += ", and take the older one off LD_LIBRARY_PATH"
        return Finding("fail", "cudnn", found, advice)
    return Finding("ok", "cudnn", found)


def judge_compiler(cuda: CudaLibraries) -> Finding:
    """Judges what XLA needs to compile for a GPU."""
    what = "gpu compiler"
    parts = {"ptxas": cuda.ptxas, "libdevice": cuda.libdevice}
    absent = [name for name, path in parts.items() if not path]
    if absent:
        found = f"no {' and no '.join(absent)}: XLA may not compile"
        advice = "pip install nvidia-cuda-nvcc-cu12, or set XLA_FLAGS=" + (
            "--xla_gpu_cuda_data_dir=FOLDER"
        )
        return Finding("warn", what, found, advice)
    return Finding("ok", what, f"{cuda.ptxas}, with libdevice")


def _judge_seen(
    driver: Driver, cuda: CudaLibraries, version: str, seen: Sequence[str]
) -> Finding:
    if not seen:
        advice = f"{_INSTALL.format(version=version)}, then {_SHOW_THE_LOADER}"
        if cuda.libraries and all(each.place for each in cuda.libraries):
            advice = _SHOW_THE_LOADER
            if all(each.place == "loader" for each in cuda.libraries):
                advice = "see whether CUDA_VISIBLE_DEVICES hides them"
        return Finding("fail", "gpus", "a driver, but TensorFlow sees no GPU", advice)
    found = " ".join(seen)
    if driver.gpus and len(seen) < len(driver.gpus):
        found += f", of {len(driver.gpus)} that the driver has"
        advice = "CUDA_VISIBLE_DEVICES chooses; unset it for all"
        return Finding("warn", "gpus", found, advice)
    return Finding("ok", "gpus", found)


def _without_driver(
    on_the_bus: int, cuda: CudaLibraries | None, seen: Sequence[str]
) -> Finding:
    if seen:
        return Finding("ok", "gpus", " ".join(seen))
    if not on_the_bus:
        return Finding("ok", "gpus", "none on this machine: training runs on the CPU")
    least = _LEAST_DRIVER[cuda.cuda.split(".")[0] if cuda else "12"]
    found = f"{on_the_bus} on the PCI bus, no driver: training runs on the CPU"
    advice = f"install NVIDIA's driver {least} or later; in a container, --gpus all"
    return Finding("warn", "gpus", found, advice)


def _kernels(capability: tuple[int, int], built: Iterable[str]) -> str:
    """Returns in what form a wheel has kernels for a GPU.

    Machine code runs on GPUs of its own major capability that are not older; PTX on
    all that are not older.
    """
    major, minor = capability
    best = "none"
    for name in built:
        kind, _, digits = name.partition("_")
        has = int(digits[:-1]), int(digits[-1])
        if kind == "sm" and has[0] == major and has[1] <= minor:
            return "machine code"
        if kind == "compute" and has <= capability:
            best = "PTX"
    return best


def _missing(library: Library) -> str:
    if library.instead:
        return f"{library.name} (found {library.instead})"
    # A library that is there, and misses another, names that one.
    if library.error and not library.error.startswith(library.name):
        return f"{library.name} ({library.error[:100]})"
    return library.name
