# SPDX-License-Identifier: Apache-2.0
"""A run's configuration: the parts' own dataclasses, composed; files and flags in.

Each default stands in the dataclass beside the code that reads it. A preset is a
Python function; a file (`--config`) and pairs (`--set`) only change what it gives.
"""

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from preprocessing.contracts.manifest import Manifest
from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError
from trainer.compute.compute_config import ComputeConfig
from trainer.data.input_pipeline import DataConfig, check_family
from trainer.data.mixed_rows import common_length
from trainer.models.decoder import DecoderConfig
from trainer.models.language_model import ModelConfig, PrecisionConfig
from trainer.models.model import with_family
from trainer.optimizers.optimizer import OptimizerConfig
from trainer.run.loop_config import LoopConfig
from trainer.run.overrides import changed, flattened, parse_pairs
from trainer.run.samples_config import SamplesConfig
from trainer.step.guard import GuardConfig
from trainer.step.losses import LossConfig

# Keys that are called something else now.
_MOVED = {
    "loop.num_samples": "samples.count",
    "loop.sample_tokens": "samples.tokens",
    "loop.xla": "compute.xla",
    "loop.lanes": "compute.lanes",
    "loop.peak_flops": "compute.peak_flops",
}

_FAMILY = "model.family"


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes, except its dataset and devices.

    Attributes:
        model: the model's shape; its family decides which keys it has.
        optimizer: how weights are updated.
        data: how rows are read and batched.
        precision: the types a model computes in and keeps its parameters in.
        loss: what is minimised.
        guard: which updates are skipped, and when a run is rolled back.
        loop: when a run logs, evaluates, saves and ends; a resume may change it.
        samples: texts that the model continues after each evaluation, for TensorBoard;
            a resume may change it.
        compute: what devices are made to do; a resume on others may change it.
        seed: of the first weights, the order of rows, dropout and samples.
    """

    model: ModelConfig = field(default_factory=DecoderConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    seed: int = 0

    @property
    def sequence_length(self) -> int:
        """Inputs per row of a planned or stored run, whose dataset has settled it.

        Raises:
            ValueError: the configuration knows of no dataset yet.
        """
        if self.data.sequence_length is None:
            raise ValueError("wanted the length of rows, found no dataset named")
        return self.data.sequence_length

    def to_json(self) -> str:
        """Returns every value as JSON, a valid `--config`."""
        return strict_json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def from_json(text: str, name: str) -> RunConfig:
    """Reads a configuration from JSON; `name` is how errors call it.

    Raises:
        UsageError: it is not JSON, a key is unknown, or a value is refused.
    """
    return _applied(RunConfig(), _parsed_json(text, name), name)


def with_file(base: RunConfig, path: str) -> RunConfig:
    """Returns `base` with the keys of a file: TOML if it ends in .toml, else JSON.

    Raises:
        UsageError: the file is absent or not a configuration.
    """
    try:
        text = storage.read_bytes(path).decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(
            f"wanted a configuration file at {path}, found none. Check the path"
        ) from None
    except UnicodeDecodeError:
        raise UsageError(
            f"wanted JSON or TOML in {path}, found bytes that are not text. Check it"
        ) from None
    if not path.endswith(".toml"):
        return _applied(base, _parsed_json(text, path), path)
    try:
        return _applied(base, tomllib.loads(text, parse_float=_as_written), path)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"wanted TOML in {path}, found: {error}. Correct it") from None


def with_pairs(config: RunConfig, pairs: Iterable[str]) -> RunConfig:
    """Returns `config` with `--set key.path=value` pairs applied; the last wins.

    Raises:
        UsageError: a pair is malformed, its key unknown or its value refused.
    """
    pairs = list(pairs)
    _refuse_moved([pair.partition("=")[0] for pair in pairs], "--set")
    families = [pair for pair in pairs if pair.startswith(_FAMILY + "=")]
    if families:
        # First: which keys there are follows from it.
        config = _of_family(config, families[-1].partition("=")[2])
    return changed(config, parse_pairs(config, pairs))


def resolved(config: RunConfig, manifests: Sequence[Manifest]) -> RunConfig:
    """Returns `config` with what the datasets decide filled in.

    Raises:
        UsageError: a dataset cannot be read at the sequence length asked for, or by
            the family of models.
    """
    lengthened = with_length(config, manifests)
    config.model.check_length(lengthened.sequence_length)
    for manifest in manifests:
        check_family(manifest, config.model)
        config.model.ids(manifest.vocab_size)
    return lengthened


def with_length(config: RunConfig, manifests: Sequence[Manifest]) -> RunConfig:
    """Returns `config` with a sequence length, the datasets' own if it has none.

    Raises:
        UsageError: a dataset cannot be read at that length.
    """
    length = common_length(manifests, config.data.sequence_length)
    data = dataclasses.replace(config.data, sequence_length=length)
    return dataclasses.replace(config, data=data)


def may_change(key: str) -> bool:
    """Tells whether a resume may change a key: it decides no number of a step."""
    return key.partition(".")[0] in ("loop", "samples", "compute")


def differences(stored: RunConfig, wanted: RunConfig) -> list[str]:
    """Returns what differs and may not change, as `key: stored -> wanted`."""
    old, new = flattened(stored), flattened(wanted)
    return [
        f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}"
        for key in {**old, **new}  # families have keys of their own
        if old.get(key) != new.get(key) and not may_change(key)
    ]


def _parsed_json(text: str, name: str) -> Any:
    try:
        return strict_json.loads(text, parse_float=_as_written)
    except ValueError as error:
        raise UsageError(f"wanted JSON in {name}, found: {error}. Correct it") from None


def _as_written(text: str) -> int | float:
    """Reads a number that is no integer to JSON or TOML as flags read it: 1e3 is one.

    A float key takes either.
    """
    number = float(text)
    whole = "e" in text.lower() and number.is_integer()
    return int(number) if whole else number


def _applied(base: RunConfig, values: Any, name: str) -> RunConfig:
    if not isinstance(values, dict):
        raise UsageError(
            f"wanted a table of keys in {name}, found {type(values).__name__}. See "
            "the keys in a run's config.json"
        )
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    _refuse_moved([f"{key}.{inner}" for key in tables for inner in tables[key]], name)
    model = values.get("model")
    if isinstance(model, dict) and isinstance(model.get("family"), str):
        base = _of_family(base, model["family"])
    return changed(base, values)


def _refuse_moved(keys: Iterable[str], name: str) -> None:
    """Refuses keys by their names of before; `name` is where they stand."""
    old = [key for key in dict.fromkeys(keys) if key in _MOVED]
    if old:
        raise UsageError(
            f"wanted the names that keys have now in {name}, found {', '.join(old)}. "
            f"Use {', '.join(_MOVED[key] for key in old)}"
        )


def _of_family(config: RunConfig, family: str) -> RunConfig:
    """Returns `config` with a model of `family` that keeps the keys both have."""
    model = with_family(config.model, family)
    return dataclasses.replace(config, model=model)
