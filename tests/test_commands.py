# SPDX-License-Identifier: Apache-2.0
"""The commands: they exist, explain themselves, and take the flags users rely on."""

import ast
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import pytest

from docs import demo
from preprocessing.foundation.commands import CommandParser
from trainer.labels.labels_command import SUBCOMMANDS

ROOT = Path(__file__).parents[1]
READER = "--input --format --text_field --id_field"
# The promise to users, version 1. A flag may be added here, never taken away.
PROMISED = {
    "quern-tokenizer": f"{READER} --output --vocab_size",
    "quern-prepare": f"{READER} --tokenizer --output --sequence_length --seed --runner "
    "--validation_fraction --workers --max_reject_fraction --max_document_bytes "
    "--bos_token --eos_token --pad_token",
    "quern-inspect": "show verify row",
    "quern-train": "--data --run --preset --strategy --logical_cpus --logical_gpus "
    "--collectives --set --config --dry_run --max_duration --profile --connect_timeout "
    "--list_presets --list_keys",
    "quern-launch": "--workers --parameter_servers --max_restarts --stall_timeout",
    "quern-compare": "RUN --output",
    "quern-evaluate": "--run --data --split",
    "quern-export": "--run --output --step --version --check",
    "quern-generate": "--model --input --output --prompt_field --id_field "
    "--input_format --output_format --keep_fields "
    "--max_new_tokens --temperature",
    "quern-doctor": "",
    "quern-beam-worker": "--port --host",
}
GUIDES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]
GUIDES += sorted((ROOT / "docs").glob("*.md"))


def commands():
    """Returns {console script: module}, read from setup.py."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "COMMANDS":
            return ast.literal_eval(node.value)
    raise AssertionError("setup.py assigns no COMMANDS")


def run(module, *arguments):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@cache
def help_texts():
    """Returns {console script: what --help printed}, asked two at a time."""
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda module: run(module, "--help"), commands().values())
    return {name: one.stdout for name, one in zip(commands(), done, strict=True)}


def test_every_command_is_installed_as_a_console_script():
    scripts = metadata.distribution("quern").entry_points.select(
        group="console_scripts"
    )
    installed = {script.name: script.value for script in scripts}
    assert installed == {name: f"{module}:cli" for name, module in commands().items()}


def test_the_promised_commands_are_the_ones_there_are():
    assert set(PROMISED) == set(commands())


@pytest.mark.slow
@pytest.mark.parametrize("name", PROMISED)
def test_help_explains_the_command_and_every_flag_promised(name):
    text = help_texts()[name]
    assert text.startswith(f"usage: {name}")
    missing = [flag for flag in PROMISED[name].split() if flag not in text]
    assert not missing


@pytest.mark.slow
@pytest.mark.parametrize("name", PROMISED)
def test_every_flag_has_words_to_explain_it(name):
    """In argparse's layout a flag without help is a line with nothing after it."""
    options = re.split(r"\n  (?=-)", help_texts()[name])[1:]
    silent = [option for option in options if len(option.split("  ")) < 2]
    assert not silent


def test_the_flags_of_a_parser_are_known_by_name():
    found = CommandParser("quern-x", "A command.").known_flags()
    assert found == ["--help", "--debug"], (
        f"Python {sys.version} keeps argparse's flags elsewhere: unknown flags are "
        "refused without a suggestion (preprocessing/foundation/commands.py)"
    )


@pytest.mark.slow
def test_an_unknown_flag_is_refused_with_a_suggestion():
    flags = "--input a --tokenizer b --output c --sequence_lenght 256"
    done = run("pipelines.prepare_corpus", *flags.split())
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert last.startswith("error: ") and "--sequence_length" in last


@pytest.mark.slow
def test_a_corpus_worker_never_loads_tensorflow():
    code = "import sys, pipelines.prepare_corpus; print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


@pytest.mark.slow
def test_the_demo_uses_only_commands_and_flags_that_exist():
    assert len(demo.COMMANDS) == 6
    for name, arguments in demo.COMMANDS.items():
        assert not unknown_flags(name, shlex.split(arguments))


@cache
def help_of_export(action):
    """What a sub-command of quern-export prints, which has flags of its own."""
    return run("trainer.export", action, "--help").stdout


def unknown_flags(name, words):
    flags = [word.split("=")[0] for word in words if word.startswith("--")]
    mine = name == "quern-export" and words[1:2] and words[1] in SUBCOMMANDS
    text = help_of_export(words[1]) if mine else help_texts()[name]
    return [flag for flag in flags if not re.search(rf"{flag}\b", text)]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
@pytest.mark.slow
def test_guides_name_only_flags_that_exist(guide):
    unknown = []
    text = guide.read_text()
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.S)
    # A command in a sentence or a table, which may go on in its next line.
    inside = [span.replace("\n", " ") for span in re.findall(r"`(quern-[^`]+)`", text)]
    for block in (*blocks, *inside):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if "quern-" in line else []
            at = [i for i, word in enumerate(words) if Path(word).name in PROMISED]
            if "--runner" in words:  # Beam's own flags follow a runner
                continue
            # A launcher's line holds another command.
            for begin, end in pairwise([*at, len(words)]):
                name, said = Path(words[begin]).name, words[begin:end]
                if said[1:2] == ["estimate"]:  # takes the flags of what it estimates
                    name = "quern-prepare"
                unknown += unknown_flags(name, said)
    assert not unknown
