# SPDX-License-Identifier: Apache-2.0
"""A program starts again, once and as the same process, with what glibc is to do."""

import os
import subprocess
import sys

import pytest

from preprocessing.foundation.huge_pages import TUNABLES, VARIABLE

PROGRAM = """
import os, sys
from preprocessing.foundation.huge_pages import VARIABLE, restart_with_huge_pages
print(os.getpid())
restart_with_huge_pages(sys.argv[1])
print(*sys.argv[2:], os.environ.get(VARIABLE), sep="|")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "given", "begun", "wanted"),
    [
        ("always [madvise] never", None, 2, ":".join(TUNABLES)),
        (
            "always [madvise] never",
            "glibc.malloc.arena_max=2",
            2,
            ":".join(["glibc.malloc.arena_max=2", *TUNABLES]),
        ),
        ("always [madvise] never", "glibc.malloc.hugetlb=0", 1, None),
        ("[always] madvise never", None, 1, None),
        (None, None, 1, None),
    ],
)
def test_a_program_starts_again_where_large_pages_have_to_be_asked_for(
    tmp_path, mode, given, begun, wanted
):
    file = tmp_path / "enabled"
    if mode is not None:
        file.write_text(mode)
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
    if given is not None:
        environment[VARIABLE] = given
    command = [sys.executable, "-c", PROGRAM, str(file), "a b", "--flag=*"]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    )
    *processes, printed = ended.stdout.splitlines()
    assert len(processes) == begun and len({*processes}) == 1
    assert printed == f"a b|--flag=*|{wanted or given}"
