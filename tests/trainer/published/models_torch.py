# SPDX-License-Identifier: Apache-2.0
"""Makes and asks published models where transformers is installed.

    python models_torch.py make    SETTINGS.json IDS.npy DIRECTORY
    python models_torch.py answer  IDS.npy DIRECTORY

Settings are name -> fields of a `config.json`; each model is saved under its name with
random weights. Either way `logits.npy` `[batch, length, vocab_size]` is written beside
each, float32. A directory whose tensors are not all asked for, or not all there, fails.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM


def _answer(directory: Path, ids: np.ndarray) -> None:
    model, told = AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=torch.float32,
        attn_implementation="eager",
        output_loading_info=True,
    )
    odd = {kind: sorted(map(str, names)) for kind, names in told.items() if names}
    if odd:
        sys.exit(f"{directory}: {odd}")
    model.eval()
    with torch.no_grad():
        given = model(torch.from_numpy(ids).long()).logits
    np.save(directory / "logits.npy", given.float().numpy())


def _make(fields: dict[str, object], directory: Path) -> None:
    torch.manual_seed(len(directory.name))
    kind = fields.pop("model_type")
    config = AutoConfig.for_model(kind, **fields)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(directory)


def main() -> None:
    """Does what the arguments ask."""
    if sys.argv[1] == "make":
        settings, ids, root = sys.argv[2:]
        for name, fields in json.loads(Path(settings).read_text()).items():
            _make(fields, Path(root, name))
            _answer(Path(root, name), np.load(ids))
    else:
        ids, directory = sys.argv[2:]
        _answer(Path(directory), np.load(ids))


if __name__ == "__main__":
    main()
