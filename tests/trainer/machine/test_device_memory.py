# SPDX-License-Identifier: Apache-2.0
"""What a device has: this machine's memory, and limits of control groups."""

from pathlib import Path

from trainer.machine.device_memory import control_group_limit, device_memory


def test_this_machine_has_memory() -> None:
    assert 1 << 28 < (device_memory() or 0) < 1 << 46


def limited(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


def test_the_least_limit_of_nested_control_groups_counts(tmp_path: Path) -> None:
    files = {"a/b/memory.max": "max", "a/memory.max": "5000", "memory.max": "9000"}
    limited(tmp_path, files)
    assert control_group_limit("0::/a/b\n", tmp_path) == 5000
    assert control_group_limit("0::/of/the/host\n", tmp_path) == 9000


def test_the_first_version_of_control_groups_is_read_too(tmp_path: Path) -> None:
    endless = str(2**63 - 4096)
    name = "memory.limit_in_bytes"
    limited(tmp_path, {f"memory/a/{name}": "7000", f"memory/{name}": endless})
    text = "4:memory:/a\n1:cpu,cpuacct:/a\n0::/\n"
    assert control_group_limit(text, tmp_path) == 7000
    assert control_group_limit("4:memory:/\n", tmp_path) is None
