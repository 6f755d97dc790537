# SPDX-License-Identifier: Apache-2.0
"""`make pictures`: draws docs/images anew, from what `make demo` left in ./demo.

The demo's corpus is prepared once more, with rules for the report to tell of, and three
short runs train on the demo's dataset to be compared. Headless Chromium takes a picture
of the top of both pages. What it makes besides lies in ./demo/pictures.
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import demo

IMAGES = Path("docs/images")
WORK = demo.DEMO / "pictures"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# As the tests start it (tests/pipelines/report/test_report.py): nothing of this
# browser asks a network.
FLAGS = shlex.split(
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-sync --disable-component-update "
    "--hide-scrollbars"
)
MAX_BYTES = 150_000

STEPS = 300
TRAIN = (
    f"--data={demo.DATASET} --preset=laptop --strategy=one_device --set "
    f"loop.total_steps={STEPS} loop.evaluate_every=50 loop.save_every={STEPS} "
    "loop.log_every=5 data.global_batch_size=4 model.dropout=0 samples.count=0"
)
# The run's name, as the legend says it, and what it sets.
RUNS = {
    "adamw": "optimizer.peak_learning_rate=3e-3",
    "muon": "optimizer.peak_learning_rate=3e-3 optimizer.name=muon",
    "narrow": "optimizer.peak_learning_rate=3e-3 model.d_model=96 model.ffn_dim=256",
}
PREPARE = (
    f"--input={demo.CORPUS} --tokenizer={demo.TOKENIZER} --output={WORK / 'dataset'} "
    "--sequence_length=256 --validation_fraction=0.02 --language en "
    "--rules gopher_repetition@1 personal_data@1 --deduplicate exact lines near"
)


def main() -> None:
    """Makes both pages, and a picture of each."""
    check_ready()
    shutil.rmtree(WORK, ignore_errors=True)
    IMAGES.mkdir(exist_ok=True)
    call("quern-prepare", PREPARE)
    for name, settings in RUNS.items():
        call("quern-train", f"--run={WORK / name} {TRAIN} {settings}")
    runs = " ".join(str(WORK / name) for name in RUNS)
    call("quern-compare", f"{runs} --output={WORK / 'curves'}")
    take(WORK / "dataset" / "report.html", IMAGES / "report.png", 900, 930)
    take(WORK / "curves.html", IMAGES / "curves.png", 1000, 800)


def check_ready() -> None:
    """Ends with one line where the demo has not run, or there is no browser."""
    if not (demo.DATASET / "manifest.json").is_file():
        end(f"wanted the demo's dataset in {demo.DATASET}, found none. Run make demo")
    if CHROMIUM is None:
        end("wanted chromium, found none. On Debian: apt-get install chromium")


def call(name: str, arguments: str) -> None:
    """Runs a console command; its failure ends the script with its own error."""
    print(f"\n$ {name} {arguments}", flush=True)
    command = [str(Path(sys.executable).parent / name), *shlex.split(arguments)]
    status = subprocess.run(command).returncode
    if status:
        sys.exit(status)


def take(page: Path, picture: Path, width: int, height: int) -> None:
    """Writes what a light window of so many pixels shows of a page's top."""
    command = [
        str(CHROMIUM),
        *FLAGS,
        f"--user-data-dir={WORK.resolve() / 'profile'}",
        f"--window-size={width},{height}",
        f"--screenshot={picture.resolve()}",
        page.resolve().as_uri(),
    ]
    subprocess.run(command, check=True, capture_output=True)
    size = picture.stat().st_size
    if size > MAX_BYTES:
        end(f"wanted {picture} of {MAX_BYTES:,} bytes at most, found {size:,}. Cut it")
    print(f"{picture}: {size:,} bytes")


def end(message: str) -> None:
    """Ends the script with one line."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
