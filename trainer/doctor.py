# SPDX-License-Identifier: Apache-2.0
"""The command `quern-doctor`: looks at this machine and says what to do.

One line for each check: `ok|warn|fail`, what was looked at, what was found and, where
something is wrong, what to do. The exit status is 0 unless a check failed.
"""

import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import CommandParser, WorkError, count_of, run
from trainer.machine.finding import Finding
from trainer.machine.gpu_findings import judge_gpus
from trainer.machine.nvml import gpus_on_the_bus, read_driver
from trainer.machine.tensorflow_probe import TensorflowProbe, probe_tensorflow

GIB = 1 << 30
SERVING_PORTS = (8500, 8501)  # TensorFlow Serving's own gRPC and REST defaults
PEER_TIMEOUT_SECONDS = 2.0
CLOUD_SCHEMES = ("s3", "az", "gs", "hdfs")


def main(argv: Sequence[str]) -> None:
    """Prints the report.

    Raises:
        WorkError: a check failed.
    """
    parser = CommandParser("quern-doctor", "Check this machine and say what to do.")
    parser.parse_args(argv)
    tell(examine(os.environ))


def tell(findings: Iterable[Finding]) -> None:
    """Prints each finding as soon as it is there.

    Raises:
        WorkError: a check failed.
    """
    failed = []
    for finding in findings:
        print(finding, flush=True)
        if finding.level == "fail":
            failed.append(finding.what)
    if failed:
        raise WorkError(
            f"wanted a machine fit for Quern, found failing: {', '.join(failed)}. "
            "Do what their lines say, then run quern-doctor again"
        )


def examine(
    environment: Mapping[str, str],
    probe: Callable[[bool], TensorflowProbe] = probe_tensorflow,
) -> Iterator[Finding]:
    """Yields the findings, cheapest checks first.

    Args:
        environment: variables of the process.
        probe: tries TensorFlow out, which takes seconds, and CUDA too if it is told to.
    """
    yield judge_cpu(read_cpu_flags(), len(os.sched_getaffinity(0)))
    yield judge_memory(available_memory())
    for what, folder in (("current directory", "."), ("TMPDIR", tempfile.gettempdir())):
        yield judge_folder(what, Path(folder))
    yield from check_versions()
    driver = read_driver()
    seen = probe(driver is not None)
    yield from judge_tensorflow(seen)
    yield from judge_gpus(driver, gpus_on_the_bus(), seen.version, seen.cuda, seen.gpus)
    yield judge_ports("serving ports", [("127.0.0.1", port) for port in SERVING_PORTS])
    yield from judge_cluster(environment.get("TF_CONFIG", ""))


def judge_cpu(flags: frozenset[str], cores: int) -> Finding:
    """Judges the CPU by its feature flags; an empty set means they cannot be read."""
    found = f"{count_of(cores, 'core')}, {platform.machine()}"
    if not flags:
        return Finding("ok", "cpu", f"{found}, features not listed by this system")
    if "avx" not in flags:
        advice = "TensorFlow's x86 wheels need AVX: use another machine or build it"
        return Finding("fail", "cpu", f"{found}, without AVX", advice)
    fast = [name for name in ("avx2", "avx512f", "avx512_bf16") if name in flags]
    native = "amx_bf16" in flags or "avx512_bf16" in flags
    bfloat16 = "in hardware" if native else "emulated: precision.compute=float32"
    return Finding("ok", "cpu", f"{found}, {' '.join(fast)}, bfloat16 {bfloat16}")


def read_cpu_flags() -> frozenset[str]:
    """Returns the x86 feature flags of the first core, or nothing elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith("flags"))
    return frozenset(next(lines, ":").split(":", 1)[1].split())


def judge_memory(available: int) -> Finding:
    """Judges the memory left, in bytes: preparation takes up to 1 GB a worker."""
    found = f"{available / GIB:.1f} GiB available"
    if available < 2 * GIB:
        return Finding("fail", "memory", found, "free some: 2 GiB is the least")
    if available < 4 * GIB:
        return Finding("warn", "memory", found, "use --workers 1 and small batches")
    return Finding("ok", "memory", found)


def available_memory() -> int:
    """Returns the bytes this process may still take, container limit included."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo, limit = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    if limit.exists() and limit.read_text().strip().isdigit():
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        free = min(free, int(limit.read_text()) - used)
    return free


def judge_folder(what: str, folder: Path) -> Finding:
    """Judges free space and write access by writing: mode bits say less."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".quern-doctor-") as file:
            file.write(bytes(4096))
            file.flush()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        advice = "work in a folder you can write to, or set TMPDIR to one"
        return Finding("fail", what, f"{folder}: {error.strerror}", advice)
    found = f"{folder}: writable, {free / GIB:.1f} GiB free"
    if free < GIB:
        return Finding("fail", what, found, "free some: 1 GiB is the least")
    if free < 10 * GIB:
        advice = "preparation takes about twice the corpus here while it runs"
        return Finding("warn", what, found, advice)
    return Finding("ok", what, found)


def check_versions() -> Iterator[Finding]:
    """Yields a finding for Python and one for each package setup.py asks for."""
    try:
        about = metadata.metadata("quern")
    except metadata.PackageNotFoundError:
        yield Finding(
            "fail", "quern", "not installed", "pip install -e . or make setup"
        )
        return
    yield judge_version("python", platform.python_version(), about["Requires-Python"])
    for line in metadata.requires("quern") or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            found = ""
        yield judge_version(wanted.name, found, str(wanted.specifier))


def judge_version(name: str, found: str, wanted: str) -> Finding:
    """Judges a version, empty when absent, against a specifier such as `>=1,<2`."""
    advice = "make setup installs the locked versions"
    if not found:
        return Finding("fail", name, f"not installed, wanted {wanted}", advice)
    if not SpecifierSet(wanted).contains(found, prereleases=True):
        return Finding("fail", name, f"{found}, wanted {wanted}", advice)
    return Finding("ok", name, found)


def judge_tensorflow(probe: TensorflowProbe) -> Iterator[Finding]:
    """Yields findings for TensorFlow and its two companions."""
    if probe.import_error:
        advice = "make setup; on a CPU without AVX no wheel works"
        yield Finding("fail", "import tensorflow", probe.import_error, advice)
        return
    yield Finding("ok", "import tensorflow", probe.version)
    yield _judge_io(probe)
    if probe.text_error:
        advice = "install the tensorflow-text of TensorFlow's own minor version"
        yield Finding("fail", "tensorflow-text op", probe.text_error, advice)
    else:
        yield Finding("ok", "tensorflow-text op", "SentencepieceOp runs")


def _judge_io(probe: TensorflowProbe) -> Finding:
    what = "tensorflow-io ABI"
    if probe.io_error or "s3" not in probe.schemes:
        found = probe.io_error or f"no native file systems for {probe.version}"
        advice = (
            "Quern's commands do without; for TensorFlow's own access to s3:// and "
            "az:// (TensorBoard, tf.saved_model) use 2.16 with tensorflow-io 0.37"
        )
        return Finding("warn", what, found, advice)
    cloud = " ".join(f"{name}://" for name in CLOUD_SCHEMES if name in probe.schemes)
    return Finding("ok", what, f"loads: TensorFlow itself opens {cloud}")


def judge_ports(what: str, addresses: Sequence[tuple[str, int]]) -> Finding:
    """Judges whether each (host, port) can be bound."""
    busy = {f"{host}:{port}": _bind_error(host, port) for host, port in addresses}
    taken = [f"{address} {error}" for address, error in busy.items() if error]
    if taken:
        advice = "stop what listens there, or choose other ports"
        return Finding("warn", what, ", ".join(taken), advice)
    return Finding("ok", what, f"free: {' '.join(busy)}")


def _bind_error(host: str, port: int) -> str:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def judge_cluster(tf_config: str) -> Iterator[Finding]:
    """Yields findings for this task's own port and its peers, if TF_CONFIG is set."""
    if not tf_config:
        yield Finding("ok", "TF_CONFIG", "not set: a cluster of one")
        return
    try:
        config = strict_json.loads(tf_config)
        kind, index = config["task"]["type"], int(config["task"]["index"])
        own = config["cluster"][kind][index]
        tasks = [task for group in config["cluster"].values() for task in group]
        peers = [_address(task) for task in tasks if task != own]
        address = _address(own)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        advice = (
            'wanted {"cluster": {"worker": ["host:port"]}, "task": {"type", "index"}}'
        )
        yield Finding("fail", "TF_CONFIG", f"{type(error).__name__} {error}", advice)
        return
    yield judge_ports(f"{kind} {index} port", [address])
    for host, port in peers:
        yield _judge_peer(host, port)


def _address(task: str) -> tuple[str, int]:
    host, port = task.rsplit(":", 1)
    return host.strip("[]"), int(port)


def _judge_peer(host: str, port: int) -> Finding:
    try:
        socket.create_connection((host, port), PEER_TIMEOUT_SECONDS).close()
    except OSError as error:
        found = f"{host}:{port} {error.strerror or error}"
        advice = "refused is normal before it starts; else see names and firewalls"
        return Finding("warn", "peer", found, advice)
    return Finding("ok", "peer", f"{host}:{port} answers")


def cli() -> NoReturn:
    """Runs the command and ends the process."""
    run(main)


if __name__ == "__main__":
    cli()
