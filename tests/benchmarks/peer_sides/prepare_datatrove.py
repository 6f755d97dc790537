# SPDX-License-Identifier: Apache-2.0
"""The peer of the preparation benchmark; runs where datatrove is installed.

python prepare_datatrove.py INPUT_DIRECTORY OUTPUT_DIRECTORY TOKENIZER_JSON
"""

import shutil
import sys

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer


def main() -> None:
    """Reads JSONL and tokenizes it into one of datatrove's token files."""
    source, output, tokenizer = sys.argv[1:]
    # Its log directory remembers finished tasks, and would skip them.
    for directory in (output, f"{output}-logs"):
        shutil.rmtree(directory, ignore_errors=True)
    tokenize = DocumentTokenizer(
        output, tokenizer_name_or_path=tokenizer, eos_token="<|eos|>"
    )
    LocalPipelineExecutor(
        pipeline=[JsonlReader(source), tokenize], tasks=1, logging_dir=f"{output}-logs"
    ).run()


if __name__ == "__main__":
    main()
