# SPDX-License-Identifier: Apache-2.0
"""A corpus like the web's, from the documentation that Debian 12 ships in 40 languages.

    python -m tests.benchmarks.web_corpus --output DIRECTORY --megabytes 320

Needs `apt-get` with Debian 12's archive, `dpkg-deb`, 2 GB of disk and a few minutes.
Nothing is installed: packages are downloaded by name, their pages (HTML, manual pages,
Mallard, DocBook) become text, and each goes to a line {id, text, language, url}. No two
texts are equal; near duplicates are as frequent as they are (manuals of two programs,
pages with only a title translated). `language` is the one that the path names, which
for a page that nobody has translated yet is not the language of its text.
"""

import argparse
import hashlib
import json
import multiprocessing
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.web_corpus_pages import language_of, pages, text_of

SHARD_BYTES = 32 << 20
# No package gives more than this, so that no manual makes up the corpus.
MOST_OF_A_PACKAGE = 16 << 20
# Pages are between these; longer ones are cut, as lengths of web pages are spread.
SHORTEST, LONGEST = 200, 12_000
HELP = (
    "en-us ca da de el es fr hi hu id it ja ko nl pl pt pt-br ru sl sv tr vi cs fi "
    "zh-cn zh-tw et eu gl en-gb"
)
MANUALS = (
    "cs da de de-dev es es-dev fi fr fr-dev hu it ja ja-dev nl pl pl-dev pt-br "
    "pt-br-dev ro ru ru-dev sr sv tr uk vi zh dev"
)
GUIDES = {
    "debian-reference": "en de es fr it ja pt pt-br zh-cn zh-tw",
    "developers-reference": "de fr ja ru it",
    "maint-guide": "de es fr it ja ru zh-cn",
    "debian-faq": "de fr it ja nl ru zh-cn",
    "aptitude-doc": "cs en es fi fr it ja nl ru",
    "lilypond-doc-html": "ca cs de es fr hu it ja nl pt zh",
}
OTHERS = (
    "manpages debian-handbook developers-reference maint-guide debian-faq debmake-doc "
    "debian-policy live-manual-html installation-guide-amd64 gnome-user-docs "
    "gnome-devel-docs evolution-common gnucash-docs apache2-doc maxima-doc kstars-data "
    "wesnoth-1.16-data tuxpaint-data python3.11-doc linux-doc-6.1 postgresql-doc-15 "
    "libboost1.74-doc cmake-doc lilypond-doc-html sqlite3-doc git-doc octave-doc "
    "exim4-doc-html postfix-doc bind9-doc zsh-doc rust-doc openjdk-17-doc erlang-doc "
    "python-django-doc python-scipy-doc python-pandas-doc python-sklearn-doc grass-doc "
    "qtbase5-doc-html qtdeclarative5-doc-html qtcreator-doc vim-doc r-doc-html "
    "swi-prolog-doc lazarus-doc-2.2 gnuplot-doc perl-doc"
)


def main() -> None:
    """Builds the corpus and prints the documents and megabytes of each language."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="a directory, made if absent")
    parser.add_argument("--megabytes", type=int, default=320, help="size of the JSONL")
    parser.add_argument(
        "--packages", help="a directory to keep the downloaded packages in"
    )
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(flags.packages or scratch)
        kept.mkdir(parents=True, exist_ok=True)
        archives = download(package_names(), kept)
        lines = found_documents(archives)
    write(Path(flags.output), lines, flags.megabytes * 10**6)


def package_names() -> list[str]:
    """Returns the packages, in the order in which the first of equal texts is kept."""
    names = [f"libreoffice-help-{code}" for code in HELP.split()]
    names += [f"manpages-{code}" for code in MANUALS.split()]
    names += [f"{guide}-{code}" for guide, c in GUIDES.items() for code in c.split()]
    return names + OTHERS.split()


def download(names: list[str], directory: Path) -> list[tuple[str, Path]]:
    """Downloads the packages that are not there yet; returns (name, archive)."""
    missing = [name for name in names if not list(directory.glob(f"{name}_*.deb"))]
    if missing:
        command = ["apt-get", "download", "-q", *missing]
        subprocess.run(command, cwd=directory, check=True, stdout=sys.stderr)
    return [(name, next(directory.glob(f"{name}_*.deb"))) for name in names]


def found_documents(archives: list[tuple[str, Path]]) -> list[dict[str, str]]:
    """Returns the different documents in the order of a hash of their addresses.

    Any first part of them is then a fair sample of all packages and languages.
    """
    found: dict[bytes, dict[str, str]] = {}
    with multiprocessing.Pool() as pool:
        for documents in pool.imap(_package_documents, archives):
            for document in documents:
                digest = hashlib.blake2b(document["text"].encode(), digest_size=16)
                found.setdefault(digest.digest(), document)
    return sorted(found.values(), key=lambda document: _hash(document["url"]))


def _package_documents(archive: tuple[str, Path]) -> list[dict[str, str]]:
    """Returns a package's documents: a page, or parts of a long one."""
    name, path = archive
    documents: list[dict[str, str]] = []
    size = 0
    found = sorted(pages(path), key=lambda page: _hash(f"{name}/{page.place}"))
    for page in found:
        address = f"https://{name}.example/{page.place.removeprefix('usr/share/')}"
        language = language_of(name, page.place)
        for number, part in enumerate(_parts(text_of(page), address)):
            url = f"{address}#{number}" if number else address
            key = _hash(url).hex()
            documents.append(
                {"id": key, "text": part, "language": language, "url": url}
            )
            size += len(part.encode())
        if size >= MOST_OF_A_PACKAGE:
            break
    return documents


def _parts(text: str, address: str) -> Iterator[str]:
    """Cuts a text at ends of lines into parts of `SHORTEST` to about `LONGEST`.

    Lengths are spread evenly on a logarithmic scale, by a hash of the address.
    """
    spread = _hash(address)
    lines: list[str] = []
    size = number = 0
    wanted = LONGEST
    for line in text.splitlines():
        if len(text) > LONGEST:
            share = spread[number % 8] / 255
            wanted = int(1_000 * (LONGEST / 1_000) ** share)
        lines.append(line)
        size += len(line)
        if size >= wanted:
            yield "\n".join(lines).strip()
            lines, size, number = [], 0, number + 1
    rest = "\n".join(lines).strip()
    if len(rest) >= SHORTEST:
        yield rest


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def write(output: Path, documents: list[dict[str, str]], wanted: int) -> None:
    """Writes JSONL files of `wanted` bytes, and prints what is in them."""
    output.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    part = size = 0
    file = (output / "part-000.jsonl").open("wb")
    for document in documents:
        if file.tell() >= SHARD_BYTES:
            file.close()
            part += 1
            file = (output / f"part-{part:03d}.jsonl").open("wb")
        line = json.dumps(document, ensure_ascii=False).encode() + b"\n"
        size += file.write(line)
        counts[document["language"]] += 1
        sizes[document["language"]] += len(document["text"].encode())
        if size >= wanted:
            break
    file.close()
    total, text = counts.total(), sizes.total()
    print(f"{'language':<10}{'documents':>10}{'MB of text':>12}")
    for language, documents_of in counts.most_common():
        print(f"{language:<10}{documents_of:>10,}{sizes[language] / 1e6:>12.1f}")
    print(
        f"{total:,} documents, {size / 1e6:.0f} MB of JSONL, {text / 1e6:.0f} MB of "
        f"text, {text / total:,.0f} bytes each, {1 - counts['en'] / total:.0%} not "
        "English"
    )


if __name__ == "__main__":
    main()
