# SPDX-License-Identifier: Apache-2.0
"""Language identification: keeps the documents of some languages, and counts all.

The model is fastText's lid.176.ftz (Joulin et al. 2016, arXiv 1607.01759; 176
languages, CC BY-SA 3.0), and the answer fastText's own: the same language for each of
20,000 pages of manuals in 33 languages, its probability within 0.00001. But it is
found in compiled loops, so a text is read whole, up to the 4 MiB that rules judge:

    read                        MB/s of a core       same language
    whole, here                 72                   100 %
    whole, by fastText           7                   100 %
    8 x 250 bytes, by fastText  13                   98.7 % (of 4,886 pages)
"""

import functools
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from preprocessing.foundation.commands import UsageError, suggest
from preprocessing.foundation.string_buffers import sizes_of
from preprocessing.language import fasttext_model
from preprocessing.language.language_kernel import NO_LABEL, Tables, likeliest, tables
from preprocessing.language.language_names import language_name
from preprocessing.rules.measures.views import view
from preprocessing.rules.verdicts import Failure, Judged, said

NO_LANGUAGE = "und"


@dataclass(frozen=True)
class LanguageThresholds:
    """What is kept.

    Attributes:
        languages: codes as the model spells them ("en", "de", "zh"); none keeps all.
        least: the least probability of the likeliest language. 0.65 is FineWeb's
            (Penedo et al. 2024, arXiv 2406.17557, section 3.2).
    """

    languages: tuple[str, ...] = ()
    least: float = 0.65

    def __post_init__(self) -> None:
        for code in self.languages:
            if code not in known_languages():
                raise UsageError(
                    f"wanted a language of lid.176, found '{code}'."
                    f"{suggest(code, known_languages())} Name it by its ISO 639 code, "
                    "as en, de or zh"
                )
        if not 0 <= self.least <= 1:
            raise UsageError(
                f"wanted a probability from 0 to 1, found {self.least}. "
                "Leave it out for 0.65"
            )


@dataclass(frozen=True)
class Identified:
    """Each document's likeliest language: its code [n], and how likely, float32 [n]."""

    codes: list[str]
    probabilities: np.ndarray


@functools.cache
def _tables() -> Tables:
    return tables(fasttext_model.installed())


@functools.cache
def known_languages() -> tuple[str, ...]:
    """Returns the codes of the model's 176 languages, sorted."""
    return tuple(sorted(fasttext_model.installed().labels))


def identify(texts: pa.LargeStringArray) -> Identified:
    """Identifies texts [n]; one of nothing but white space is `NO_LANGUAGE`, at 0.

    Raises:
        UsageError: the model is not installed.
    """
    seen = view(texts)
    labels, probabilities = likeliest(seen.data, seen.starts, seen.ends, _tables())
    names = fasttext_model.installed().labels
    codes = [
        NO_LANGUAGE if label == NO_LABEL else names[label] for label in labels.tolist()
    ]
    return Identified(codes, probabilities)


def failures(found: Identified, thresholds: LanguageThresholds) -> list[Failure]:
    """Returns which documents are of none of the languages, or of none for certain."""
    wanted, out = " ".join(thresholds.languages), []
    names = " or ".join(map(language_name, thresholds.languages))
    for place, code in enumerate(found.codes):
        likely = float(found.probabilities[place])
        if wanted and code not in thresholds.languages:
            words = f"language {language_name(code)}, wanted {names}"
            out.append(Failure(place, "languages", code, wanted, words))
        elif likely < thresholds.least:
            what = f"probability of {language_name(code)}"
            words = said(what, likely, "or more", thresholds.least)
            out.append(Failure(place, "least", likely, thresholds.least, words))
    return out


def shares(
    texts: pa.LargeStringArray, found: Identified
) -> tuple[Counter[str], Counter[str]]:
    """Returns (documents, bytes) of each language among texts [n] and their codes."""
    sizes: Counter[str] = Counter()
    for code, size in zip(found.codes, sizes_of(texts).tolist(), strict=True):
        sizes[code] += size
    return Counter(found.codes), sizes


def judge(texts: pa.LargeStringArray, thresholds: LanguageThresholds) -> Judged:
    """Rejects documents in other languages, and those in no language for certain."""
    return Judged(texts, failures(identify(texts), thresholds))
