# SPDX-License-Identifier: Apache-2.0
"""Published weights through the commands: trained on, given back, served."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from preprocessing.contracts.releases import find_release, read_lineage
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from tests.trainer.published.directories import arrays, copied, write_arrays
from tests.trainer.published.parity import DECODERS
from trainer import export, task

pytestmark = pytest.mark.slow

# So slow that no weight changes: what is given back is what was read.
STILL = "optimizer.peak_learning_rate=1e-30"
STEPS = ("loop.evaluate_every=0", "loop.log_every=1", "samples.count=0")
HIGHER = ("model.layers.1", "model.layers.2")
SMALL = (*STEPS, "compute.peak_flops=1e12", "data.global_batch_size=4")


@pytest.fixture(scope="module")
def llama(dataset, tmp_path_factory) -> Path:
    """A published Llama whose tokenizer is the dataset's."""
    directory = copied("llama", tmp_path_factory.mktemp("published") / "llama")
    shutil.copy(DECODERS / "llama" / "model.safetensors", directory)
    shutil.copy(Path(dataset) / "tokenizer.json", directory)
    return directory


def flags(dataset, run, published, *pairs):
    named = ["--data", str(dataset), "--run", str(run), "--init_from", str(published)]
    return [*named, "--set", *SMALL, STILL, "loop.total_steps=2", *pairs]


@pytest.fixture(scope="module")
def run(dataset, llama, tmp_path_factory) -> Path:
    """A run that began with the Llama, and has stood still for two steps."""
    run = tmp_path_factory.mktemp("runs") / "run"
    task.main(flags(dataset, run, llama))
    return run


def test_a_run_begins_with_published_weights_and_gives_them_back(run, llama, tmp_path):
    out = tmp_path / "out"
    export.main(["--run", str(run), "--format", "huggingface", "--output", str(out)])
    assert {x.name for x in out.iterdir()} == {x.name for x in llama.iterdir()}
    for file in llama.iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes(), file.name
    with pytest.raises(UsageError, match="exports are never overwritten"):
        export.main(
            ["--run", str(run), "--format", "huggingface", "--output", str(out)]
        )


def test_weights_come_from_a_bucket_and_go_to_one(dataset, llama, bucket, tmp_path):
    there, out = f"{bucket}/llama", f"{bucket}/out"
    for file in llama.iterdir():
        storage.write_atomically(storage.join(there, file.name), file.read_bytes())
    run = tmp_path / "run"
    task.main(flags(dataset, run, there, "loop.total_steps=1"))
    export.main(["--run", str(run), "--format", "huggingface", "--output", out])
    assert storage.list_names(out) == sorted(x.name for x in llama.iterdir())
    for file in llama.iterdir():
        assert storage.read_bytes(f"{out}/{file.name}") == file.read_bytes()


GROUPS = {
    "two": ["--strategy", "mirrored", "--logical_cpus", "2"],
    "workers": ["--workers", "2"],
    "servers": ["--workers", "1", "--parameter_servers", "2"],
}


@pytest.mark.drill
@pytest.mark.parametrize("name", GROUPS)
def test_every_strategy_begins_with_the_same_weights(
    dataset, run, llama, tmp_path, name
):
    mine, out, flagged = tmp_path / "run", tmp_path / "out", GROUPS[name]
    command = [sys.executable, "-m", "trainer.task", *flags(dataset, mine, llama)]
    if name == "two":
        command += flagged
    else:
        launch = [sys.executable, "-m", "trainer.launch", *flagged, "--"]
        command = [*launch, *command]
    subprocess.run(command, check=True, capture_output=True)
    losses = [
        [json.loads(x).get("loss", 0.0) for x in (each / "metrics.jsonl").open()]
        for each in (run, mine)
    ]
    assert np.allclose(*losses, atol=1e-5)
    export.main(["--run", str(mine), "--format", "huggingface", "--output", str(out)])
    weights = (out / "model.safetensors").read_bytes()
    assert weights == (llama / "model.safetensors").read_bytes()


def test_a_run_is_resumed_with_the_weights_it_began_with(dataset, run, llama, tmp_path):
    mine = tmp_path / "run"
    shutil.copytree(run, mine)
    task.main(flags(dataset, mine, llama, "loop.total_steps=3"))
    other = tmp_path / "other"
    shutil.copytree(llama, other)
    values = arrays(other)
    write_arrays(other, {k: v + np.float32(1e-3) for k, v in values.items()})
    with pytest.raises(UsageError, match=r"wanted the weights that .* began with"):
        task.main(flags(dataset, mine, other, "loop.total_steps=4"))
    shutil.rmtree(mine / "checkpoints")
    with pytest.raises(UsageError, match="has no checkpoint yet"):
        task.main(["--data", str(dataset), "--run", str(mine)])


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["model.num_layers=2"], "model.num_layers 2, not 3"),
        (["model.dropout=0.1", "model.norm=layer"], "model.norm layer, not rms"),
    ],
)
def test_keys_that_contradict_the_weights_are_refused(
    dataset, llama, tmp_path, pairs, said
):
    with pytest.raises(UsageError, match=said):
        task.main(flags(dataset, tmp_path / "run", llama, *pairs))
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_of_weights_that_are_not_finite(dataset, llama, tmp_path):
    odd, run = tmp_path / "odd", tmp_path / "run"
    shutil.copytree(llama, odd)
    data = bytearray((odd / "model.safetensors").read_bytes())
    data[-4:] = np.float32(np.nan).tobytes()
    (odd / "model.safetensors").write_bytes(data)
    with pytest.raises(UsageError, match="found NaN or infinity in model"):
        task.main(flags(dataset, run, odd))
    assert not run.exists()


def test_a_tokenizer_that_does_not_belong_to_the_weights_is_told(
    dataset, llama, tmp_path
):
    other, run = tmp_path / "other", tmp_path / "run"
    shutil.copytree(llama, other)
    path = other / "tokenizer.json"
    path.write_text(path.read_text().replace('"<|eos|>"', '"</s>"'))
    with pytest.raises(UsageError, match="dataset of the weights' tokenizer"):
        task.main(flags(dataset, run, other))
    path.unlink()
    with pytest.raises(UsageError, match=r"wanted tokenizer\.json beside the weights"):
        task.main(flags(dataset, run, other))
    assert not run.exists()


def test_a_dry_run_reads_no_weights(dataset, llama, tmp_path, capfd):
    bare = tmp_path / "bare"
    shutil.copytree(llama, bare)
    (bare / "model.safetensors").unlink()
    task.main([*flags(dataset, tmp_path / "run", bare), "--dry_run"])
    wanted = sum(x.size for x in arrays(llama).values())
    assert f"parameters        {wanted:,}" in capfd.readouterr().out


@pytest.fixture(scope="module")
def one_layer(llama, tmp_path_factory) -> Path:
    """The Llama's first layer alone."""
    small = tmp_path_factory.mktemp("small") / "small"
    copied("llama", small, num_hidden_layers=1)
    values = {k: v for k, v in arrays(llama).items() if not k.startswith(HIGHER)}
    write_arrays(small, values)
    shutil.copy(llama / "tokenizer.json", small)
    return small


def test_published_weights_are_served_without_training(one_layer, tmp_path):
    models = tmp_path / "name"
    export.main(["--from_huggingface", str(one_layer), "--output", str(models)])
    lineage = read_lineage(find_release(str(models)))
    assert lineage.dataset_hash is None and lineage.context == 128
    config = json.loads((one_layer / "config.json").read_text())
    assert lineage.config["published"]["config"] == config


@pytest.mark.drill
def test_they_answer_through_the_c_api_as_here(one_layer, tmp_path, capfd):
    named = ["--from_huggingface", str(one_layer), "--output", str(tmp_path / "name")]
    export.main([*named, "--check"])
    assert "answers 37 of 37 requests" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ([], "found neither"),
        (["--run", "r", "--from_huggingface", "d"], "found both"),
        (["--from_huggingface", "d", "--format", "huggingface"], "--from_huggingface"),
        (["--from_huggingface", "d", "--step", "3"], "--step with --run alone"),
        (["--run", "r", "--format", "huggingface", "--check"], "without --check"),
    ],
)
def test_flags_of_an_export_that_do_not_go_together_are_refused(named, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        export.main([*named, "--output", str(tmp_path / "x")])


def test_weights_without_a_tokenizer_of_bytes_are_not_served(llama, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(llama, other)
    named = ["--from_huggingface", str(other), "--output", str(tmp_path / "name")]
    (other / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match="SentencePiece's"):
        export.main(named)
    (other / "tokenizer.json").write_text(
        json.dumps({"model": {"type": "BPE", "byte_fallback": True, "vocab": {}}})
    )
    with pytest.raises(UsageError, match=r"tokenizer\.json"):
        export.main(named)
    assert not (tmp_path / "name").exists()


def test_a_decoder_made_here_is_written_as_a_llama(dataset, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    named = ["--data", str(dataset), "--run", str(run), "--preset", "tiny"]
    task.main([*named, "--set", *SMALL, "loop.total_steps=1", "model.num_layers=1"])
    export.main(["--run", str(run), "--format", "huggingface", "--output", str(out)])
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (
        config["eos_token_id"]
        == json.loads((out / "generation_config.json").read_text())["eos_token_id"]
    )
    names = {x.name for x in out.iterdir()}
    assert {"model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
