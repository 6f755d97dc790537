# SPDX-License-Identifier: Apache-2.0
"""Which documents hold text of evaluation files: runs of 13 words that both have.

As Brown et al. 2020 (GPT-3, appendix C) count overlap: in runs of words, lower case,
without punctuation (see `folding`), of evaluation texts as they are given. In texts
of scripts without spaces a run is of 24 characters. Runs are compared by 64-bit hashes:
of 1e9 runs of a corpus none is expected to meet an index of 1e7 by chance.
"""

import functools
import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from preprocessing.duplicates.ngram_lookup import Lookup, find_all, runs_of_all
from preprocessing.duplicates.shingles import scratch
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.string_buffers import views
from preprocessing.rules.verdicts import Failure, Judged, said


@dataclass(frozen=True)
class ContaminationThresholds:
    """What counts as a match, and how many a document may have.

    Attributes:
        ngram: words in a row.
        characters: characters in a row, for scripts that put no spaces between words.
        most_matches: different runs that a document may share with evaluation texts.
    """

    ngram: int = 13
    characters: int = 24
    most_matches: int = 0

    def __post_init__(self) -> None:
        for name, least in (("ngram", 1), ("characters", 1), ("most_matches", 0)):
            if getattr(self, name) < least:
                usual = getattr(ContaminationThresholds, name)
                raise UsageError(
                    f"wanted {name} of {least} or more for decontamination, found "
                    f"{getattr(self, name)}. {usual} is usual"
                )


class Matches(NamedTuple):
    """Which runs of an index the documents of a batch hold, each pair once.

    Attributes:
        documents: places in the batch, int64 [m], ascending.
        ngrams: numbers of runs in the index, int64 [m], in the order of the text.
    """

    documents: np.ndarray
    ngrams: np.ndarray


@dataclass(frozen=True)
class EvaluationTask:
    """One evaluation file in the report.

    Attributes:
        name: the file's.
        texts: how many it has.
        short: those with too few words for a run, which cannot be found.
        touched: those that share a run with a rejected document.
        ngrams: different runs of the file that rejected documents hold.
        documents: rejected documents that hold a run of the file.
    """

    name: str
    texts: int
    short: int
    touched: int
    ngrams: int
    documents: int


@dataclass(frozen=True, eq=False)
class Index:
    """The runs of evaluation texts, and the texts that they are of.

    Texts are numbered through all files. Takes 16 bytes per run and 4 per text that it
    is of, and 20 per run at most to look them up.

    Attributes:
        lengths: of a run, in words and in characters, int64 [2].
        names: of the files, ascending, str [files].
        first_texts: each file's first text, and the number of texts, int64 [files + 1].
        short: texts with too few words for a run, int64 [files].
        hashes: of the runs, uint64 [n], ascending.
        starts: where each run's texts start, int64 [n + 1].
        texts: the texts of each run, int32, ascending for each run.
    """

    lengths: np.ndarray
    names: np.ndarray
    first_texts: np.ndarray
    short: np.ndarray
    hashes: np.ndarray
    starts: np.ndarray
    texts: np.ndarray

    def matches(self, texts: pa.LargeStringArray) -> Matches:
        """Returns which runs the texts [n] hold."""
        found = find_all(
            *views(texts),
            self.lengths,
            scratch(int(self.lengths.max())),
            self._lookup,
        )
        return Matches(*found)

    def documents_by_file(self, matches: Matches) -> np.ndarray:
        """Returns how many documents hold a run of each file, int64 [files]."""
        ngrams, inverse = np.unique(matches.ngrams, return_inverse=True)
        owners = self.files_of(ngrams)
        counts = [len(np.unique(matches.documents[row[inverse]])) for row in owners]
        return np.array(counts, np.int64)

    def files_of(self, ngrams: np.ndarray) -> np.ndarray:
        """Returns which files hold which of the runs int64 [k], bool [files, k]."""
        owners = np.zeros((len(self.names), len(ngrams)), bool)
        places, texts = self._texts_of(ngrams)
        files = np.searchsorted(self.first_texts, texts, side="right") - 1
        owners[files, places] = True
        return owners

    def report(self, documents: np.ndarray, ngrams: np.ndarray) -> list[EvaluationTask]:
        """Returns a line for each file.

        Args:
          documents: sums of `documents_by_file` of the rejected, int64 [files].
          ngrams: the different runs that they hold, int64 [k].
        """
        touched = np.unique(self._texts_of(ngrams)[1])
        columns = zip(
            self.names.tolist(),
            np.diff(self.first_texts).tolist(),
            self.short.tolist(),
            np.diff(np.searchsorted(touched, self.first_texts)).tolist(),
            self.files_of(ngrams).sum(axis=1).tolist(),
            documents.tolist(),
            strict=True,
        )
        return [EvaluationTask(*values) for values in columns]

    def to_bytes(self) -> bytes:
        """Returns the index as one .npz file, the same bytes for the same index."""
        file = io.BytesIO()
        np.savez(file, **{f.name: getattr(self, f.name) for f in fields(self)})
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Index":
        """Reads what `to_bytes` wrote."""
        with np.load(io.BytesIO(data)) as arrays:
            return cls(*(arrays[f.name] for f in fields(cls)))

    @functools.cached_property
    def _lookup(self) -> Lookup:
        return Lookup.of(self.hashes)

    def _texts_of(self, ngrams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns pairs of a place in `ngrams` and a text of that run, in order."""
        first, counts = self.starts[ngrams], np.diff(self.starts)[ngrams]
        places = np.repeat(np.arange(len(ngrams)), counts)
        within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        return places, self.texts[np.repeat(first, counts) + within]


def build_index(
    files: Mapping[str, pa.LargeStringArray], thresholds: ContaminationThresholds
) -> Index:
    """Returns the index of evaluation texts, by the names of their files.

    The order in which files are given does not matter. Holds 40 bytes per word on the
    way.
    """
    lengths = np.array([thresholds.ngram, thresholds.characters], np.int64)
    names = sorted(files)
    first_texts = np.cumsum([0, *(len(files[name]) for name in names)])
    space = scratch(int(lengths.max()))
    parts = [runs_of_all(*views(files[name]), lengths, space) for name in names]
    hashes = np.concatenate([np.zeros(0, np.uint64), *(part[0] for part in parts)])
    owners = [part[1] + first for part, first in zip(parts, first_texts, strict=False)]
    texts = np.concatenate([np.zeros(0, np.int64), *owners])
    order = np.lexsort((texts, hashes))
    hashes, texts = hashes[order], texts[order]
    changes = np.diff(hashes, prepend=~hashes[:1]) != 0
    kept = changes | (np.diff(texts, prepend=-1) != 0)
    starts = np.flatnonzero(changes[kept])
    return Index(
        lengths=lengths,
        names=np.array(names, np.str_),
        first_texts=first_texts.astype(np.int64),
        short=np.array([part[2] for part in parts], np.int64),
        hashes=hashes[changes],
        starts=np.append(starts, kept.sum()),
        texts=texts[kept].astype(np.int32),
    )


def judge(
    texts: pa.LargeStringArray, index: Index, thresholds: ContaminationThresholds
) -> tuple[Judged, Matches]:
    """Rejects texts [n] that share more runs with evaluation files than they may.

    Returns:
      The verdicts, whose value is "3 (tasks.jsonl)": different runs shared, and the
      first file that holds the first of them; and the matches of those rejected.
    """
    found = index.matches(texts)
    counts = np.bincount(found.documents, minlength=len(texts))
    rejected = counts > thresholds.most_matches
    places = np.flatnonzero(rejected)
    firsts = found.ngrams[np.searchsorted(found.documents, places)]
    names = index.names[index.files_of(firsts).argmax(axis=0)]
    most = thresholds.most_matches
    failures = [
        Failure(
            place,
            "most_matches",
            f"{counts[place]} ({name})",
            most,
            said(f"runs of words of {name}", int(counts[place]), "or less", most),
        )
        for place, name in zip(places.tolist(), names.tolist(), strict=True)
    ]
    taken = rejected[found.documents]
    return Judged(texts, failures), Matches(*(column[taken] for column in found))
