# SPDX-License-Identifier: Apache-2.0
"""A huge document is held once, beside what the stage at work makes of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts_corpus import gpt2_style_tokenizer

pytestmark = pytest.mark.slow

# Its str takes four bytes a character; escapes, blanks and a control byte are cleaned.
LINE = 'The "lines" of 日本 🙂 are long,\tand many \x00 \r\n'
SMALL, LARGE = 10 << 20, 26 << 20  # both above what is read as huge
# Bytes of memory for each byte of JSON: text and two bytes for each of about as many
# ids, once in a row and once in a blob. As strings and copies they were 19.
MOST = 6

_PREPARE_TWICE = """
import re, sys
from pathlib import Path
from pipelines import prepare_corpus
output, *flags = sys.argv[1:]
for size in ("small", "large"):
    prepare_corpus.main(
        ["--input", f"{output}/{size}/*", "--output", f"{output}/{size}-out", *flags]
    )
    # Not `ru_maxrss`, which a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    print("peak", re.search(r"VmHWM:\\s+(\\d+) kB", status)[1], flush=True)
"""


def test_each_byte_of_a_huge_document_costs_less_than_six_of_memory(
    tmp_path: Path,
) -> None:
    (tmp_path / "tokenizer.json").write_bytes(gpt2_style_tokenizer())
    for name, size in (("small", SMALL), ("large", LARGE)):
        text = LINE * (size // len(json.dumps(LINE, ensure_ascii=False).encode()))
        (tmp_path / name).mkdir()
        line = json.dumps({"text": text}, ensure_ascii=False)
        (tmp_path / name / "a.jsonl").write_text(line, encoding="utf-8")
    flags = ["--tokenizer", str(tmp_path / "tokenizer.json"), "--workers", "1"]
    flags += ["--sequence_length", "4096", "--validation_fraction", "0"]
    done = subprocess.run(
        [sys.executable, "-c", _PREPARE_TWICE, str(tmp_path), *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    peaks = [int(line[5:]) for line in done.stdout.splitlines() if line[:5] == "peak "]
    assert 1024 * (peaks[1] - peaks[0]) < MOST * (LARGE - SMALL)
