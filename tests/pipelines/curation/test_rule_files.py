# SPDX-License-Identifier: Apache-2.0
"""Workers judge by the entries of every list, whatever its file begins with."""

import codecs
from pathlib import Path

from pipelines.curation.rule_files import BLOCKED, RuleFiles
from preprocessing.rules.addresses import read_list


def test_lists_that_each_begin_with_a_mark_are_one_list_to_workers(
    tmp_path: Path,
) -> None:
    lists = {
        name: codecs.BOM_UTF8 + f"# list\n{name}.example\n".encode()
        for name in ("a", "b", "c")
    }
    contents = RuleFiles(lists, {}, {}, 13).contents()
    (tmp_path / "list").write_bytes(contents[BLOCKED])
    entries = read_list([str(tmp_path / "list")]).entries
    assert entries == {"a.example", "b.example", "c.example"}
