# SPDX-License-Identifier: Apache-2.0
"""The report shows what a dataset holds to people who look, in any browser and size."""

import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipelines.job.input_files import FileCounts, InputCounts, InputFiles
from pipelines.prepare.results import Results, Stage
from pipelines.report.report import write_report
from preprocessing.contracts.manifest import Counts, Manifest, Shard, Source, Split
from preprocessing.duplicates.decontamination import EvaluationTask
from preprocessing.foundation.page import percent, short

EXCERPT = '<script>alert("no")</script> is how this page & its menu begin'
STAGES = [
    ("read", 1_250_000, 5_310_000_000),
    ("readable", 1_249_990, 5_309_900_000),
    ("language@1", 803_211, 3_105_000_000),
    ("gopher_repetition@1", 640_002, 2_710_000_000),
    ("gopher_quality@1", 402_880, 2_002_000_000),
    ("near_duplicate", 311_004, 1_650_000_000),
    ("kept", 311_004, 1_650_000_000),
]
REASONS = {
    "language@1 languages": 446_779,
    "gopher_quality@1 min_words": 237_122,
    "gopher_repetition@1 top_2_gram_fraction": 163_209,
    "near_duplicate": 91_876,
    "invalid_utf8": 10,
}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic")
FLAGS += ("--no-first-run", "--disable-background-networking", "--disable-sync")
FLAGS += ("--disable-component-update", "--hide-scrollbars")


def manifest(counts: Counts, rows: int) -> Manifest:
    shards = (Shard("train-00000-of-00001.tfrecord", rows, rows * 4_180, "0" * 64),)
    split = Split(rows, counts.tokens_written, 4 * counts.tokens_written, shards)
    return Manifest(
        sequence_length=2048,
        objective="causal",
        token_dtype="uint16",
        vocab_size=32_768,
        bos_id=0,
        eos_id=1,
        pad_id=2,
        tokenizer_sha256="0" * 64,
        config={},
        config_hash="0" * 64,
        seed=0,
        max_segments=256,
        record_bytes=4_180,
        features={"tokens": {"dtype": "uint16", "count": 2049}},
        splits={"train": split, "validation": Split(0, 0, 0, ())},
        counts=counts,
        sources=(Source("part-000.jsonl", 5_400_000_000),),
    )


def inputs(*files: tuple[str, int, int, int]) -> InputFiles:
    """Returns files by path, bytes, bytes not read and documents."""
    counts = InputCounts()
    for number, (path, size, unread, documents) in enumerate(files):
        reason = f"damaged_input: {path}" if unread else ""
        found = FileCounts(size, unread, documents, not unread, reason, unread)
        counts.files[number] = found
    return InputFiles.of([f[0] for f in files], [f[1] for f in files], counts)


def big() -> tuple[Manifest, Results]:
    rejected = {name.split(" ")[0]: count for name, count in REASONS.items()}
    counts = Counts(1_250_000, 311_004, rejected, 412_000_000, 412_900_000, 900_000, 0)
    example = {
        "reason": "gopher_quality@1",
        "path": "web/part-000.jsonl",
        "offset": 123_456,
        "check": "min_words",
        "value": 12,
        "threshold": 50,
        "detail": "min_words: 12, wanted 50",
        "excerpt": EXCERPT,
    }
    results = Results(
        counts=counts,
        splits={},
        inputs=inputs(
            ("part-000.jsonl", 5_399_000_000, 0, 1_249_000),
            *((f"cut-{n:03d}.gz", 10_000, n + 1, 10) for n in range(100)),
        ),
        stages=[Stage(*stage) for stage in STAGES],
        examples={"gopher_quality@1 min_words": [example, {**example, "value": 31}]},
        checks=REASONS,
        lengths_before=[0] * 6 + [900, 21_000, 90_000, 240_000, 380_000, 320_000]
        + [140_000, 45_000, 11_000, 2_090, 10],
        length_histogram=[0] * 5 + [12_004, 40_000, 89_000, 101_000, 55_000, 14_000],
        tokens_by_source={f"web/part-{n:03d}": 10**8 // (n + 1) for n in range(30)},
        languages={"en": [803_211, 3 * 10**9], "de": [246_779, 10**9], "ja": [9, 1]},
        cluster_sizes=[0, 20_000, 7_000, 900, 14, 0, 1],
        lines=(9_000_000, 41_000),
        replaced={"email": 4_012, "ip": 77},
        contamination=[EvaluationTask("gsm8k.jsonl", 1_319, 3, 12, 88, 40)],
        seconds={"gopher_repetition@1": 402.2, "tokenize": 211.0, "read": 80.5},
        cpu_seconds=702.0,
        peak_memory=1_200_000_000,
    )  # fmt: skip
    return manifest(counts, 202_000), results


def empty() -> tuple[Manifest, Results]:
    counts = Counts(0, 0, {}, 0, 0, 0, 0)
    results = Results(
        counts=counts,
        splits={},
        inputs=inputs(),
        stages=[],
        examples={},
        checks={},
        lengths_before=[],
        length_histogram=[],
        tokens_by_source={},
    )
    return manifest(counts, 0), results


def report(tmp_path: Path, made: tuple[Manifest, Results]) -> Path:
    path = tmp_path / "report.html"
    write_report(str(path), *made, {"wall_seconds": 351.0, "workers": 2})
    return path


class Balance(HTMLParser):
    """Fails on a tag that is closed but not open; keeps the text and attributes."""

    VOID = ("meta",)

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def parsed(path: Path) -> Balance:
    balance = Balance()
    balance.feed(path.read_text())
    assert balance.open == []
    return balance


def test_every_number_that_people_look_for_is_in_words(tmp_path: Path) -> None:
    text = " ".join(parsed(report(tmp_path, big())).words)
    for stage, documents, _ in STAGES:
        assert stage in text and f"{documents:,}" in text
    for reason, documents in REASONS.items():
        assert reason in text and f"{documents:,}" in text
    assert "−446,779" in text  # what language@1 took away
    assert "min_words: found 12 , threshold 50" in re.sub(r"\s+", " ", text)
    assert "99.8%" in text  # 412.9 M tokens in 202,000 rows of 2,049 places
    assert "13.4 MB/s per core" in text  # 5.4 GB in 402.2 s
    assert "18 others" in text  # 30 sources, 12 shown
    assert "5,050 were not: 100 files did not come to the end" in text
    worst = [word for word in text.split() if word.startswith("cut-")]
    assert worst[0] == "cut-099.gz" and worst[-1] == "cut-000.gz"  # most first
    assert "gsm8k.jsonl" in text and "41,000 of 9,000,000" in text


def test_the_page_needs_no_script_no_other_file_and_takes_no_text_for_markup(
    tmp_path: Path,
) -> None:
    page = parsed(report(tmp_path, big()))
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert not [a for _, a in page.tags if a.keys() & {"src", "href", "onclick"}]
    assert EXCERPT in page.words


def test_every_picture_is_labelled_or_says_that_its_words_are_beside_it(
    tmp_path: Path,
) -> None:
    pictures = [a for tag, a in parsed(report(tmp_path, big())).tags if tag == "svg"]
    assert len(pictures) > 40
    for attributes in pictures:
        hidden = attributes.get("aria-hidden") == "true"
        assert hidden or (attributes["role"] == "img" and attributes["aria-label"])


def test_bars_end_inside_their_track(tmp_path: Path) -> None:
    page = report(tmp_path, big()).read_text()
    drawings = re.findall(r'viewBox="0 0 100 10".*?</svg>', page)
    for drawing in drawings:
        ends = [
            float(left) + float(width)
            for left, width in re.findall(r'x="([\d.]+)" width="([\d.]+)"', drawing)
        ]
        assert all(end <= 100.01 for end in ends)
    assert len(drawings) > 40


def test_a_dataset_of_nothing_has_a_report_too(tmp_path: Path) -> None:
    text = " ".join(parsed(report(tmp_path, empty())).words)
    assert "None was rejected" in text and "No documents." in text
    assert "nan" not in text.lower() and "inf" not in text.split()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_999, "1.00 MB"),
        (5.4e9, "5.40 GB"),
    ],
)
def test_numbers_are_short_and_never_a_thousand_of_a_unit(number, text):
    assert short(number, "B") == text


def test_only_all_is_100_percent_and_only_none_0():
    shares = [percent(part, 10**6) for part in (0, 1, 123_456, 999_999, 10**6)]
    assert shares == ["0%", "<0.1%", "12.3%", ">99.9%", "100%"]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("made", [big, empty])
def test_a_browser_lays_the_page_out_without_scrolling_sideways(made, tmp_path: Path):
    """A frame as narrow as a phone reports how wide the page inside it became."""
    path = report(tmp_path, made())
    frame = tmp_path / "frame.html"
    # The report itself runs no script; the page around it measures it.
    frame.write_text(
        "<script>function measure(frame) { document.title = "
        "'width ' + frame.contentDocument.documentElement.scrollWidth }</script>"
        '<iframe width="320" height="700" onload="measure(this)" '
        f'srcdoc="{html.escape(path.read_text())}"></iframe>'
    )
    page = browse(tmp_path, "--virtual-time-budget=4000", "--dump-dom", frame.as_uri())
    found = re.search(r"<title>width (\d+)</title>", page)
    assert found is not None and int(found[1]) <= 320


def browse(tmp_path: Path, *flags: str) -> str:
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
