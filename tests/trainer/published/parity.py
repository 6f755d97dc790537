# SPDX-License-Identifier: Apache-2.0
"""The published decoders that tests compare with: made and answered by transformers."""

from pathlib import Path

DECODERS = Path(__file__).parents[2] / "testdata" / "parity"
NAMES = (
    "gpt2",
    "gpt_neox",
    "llama",
    "llama3_rope",
    "mistral",
    "qwen2",
    "qwen3",
    "olmo2",
    "gemma3",
    "mixtral",
    "qwen3_moe",
)
