# SPDX-License-Identifier: Apache-2.0
"""The files that rules read besides the input: address lists and evaluation files.

The driver reads them once and puts what workers need into the work directory; each
worker reads it there once.
"""

import argparse
import codecs
import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from pipelines.job.plan import Job, ListFile
from preprocessing.duplicates.evaluation_texts import evaluation_texts
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.rules.addresses import AddressLists, read_list

if TYPE_CHECKING:
    from preprocessing.duplicates.decontamination import Index

BLOCKED, ALLOWED = "block_addresses", "allow_addresses"
CONTAMINATION = "decontamination.npz"


@dataclass(frozen=True)
class RuleFiles:
    """What the files hold.

    Attributes:
        block: contents of `--block_addresses`, by file name.
        allow: of `--allow_addresses`.
        evaluation: texts of `--decontaminate`.
        ngram: words in a run that counts as contamination.
    """

    block: dict[str, bytes]
    allow: dict[str, bytes]
    evaluation: dict[str, tuple[bytes, pa.LargeStringArray]]
    ngram: int

    @classmethod
    def read(cls, flags: argparse.Namespace) -> Self:
        """Reads the files that the flags name.

        Raises:
            UsageError: one is not there or not what it should be, or two share a name.
        """
        for paths in filter(None, (flags.block_addresses, flags.allow_addresses)):
            read_list(paths)  # refuses what is no list, by its own name
        evaluation = _contents("--decontaminate", flags.decontaminate)
        texts = {path.rsplit("/", 1)[-1]: path for path in flags.decontaminate}
        return cls(
            _contents("--block_addresses", flags.block_addresses),
            _contents("--allow_addresses", flags.allow_addresses),
            {
                name: (data, evaluation_texts(texts[name]))
                for name, data in evaluation.items()
            },
            flags.decontaminate_ngram,
        )

    def names(self) -> dict[str, tuple[ListFile, ...]]:
        """Returns what the configuration keeps: names and digests."""
        evaluation = {name: data for name, (data, _) in self.evaluation.items()}
        return {
            "block": _listed(self.block),
            "allow": _listed(self.allow),
            "decontaminate": _listed(evaluation),
        }

    def contents(self) -> dict[str, bytes]:
        """Returns what lies in the work directory for workers, by name."""
        contents = {
            # Each file may begin with a mark, which means nothing further on.
            name: b"\n".join(
                lists[file].removeprefix(codecs.BOM_UTF8) for file in sorted(lists)
            )
            for name, lists in ((BLOCKED, self.block), (ALLOWED, self.allow))
            if lists
        }
        if self.evaluation:
            # Imported here: a compiler comes with it.
            from preprocessing.duplicates.decontamination import (
                ContaminationThresholds,
                build_index,
            )

            texts = {name: texts for name, (_, texts) in self.evaluation.items()}
            index = build_index(texts, ContaminationThresholds(ngram=self.ngram))
            contents[CONTAMINATION] = index.to_bytes()
        return contents


def address_lists(job: Job) -> AddressLists:
    """Returns the job's address lists, read once per process."""
    block = job.path(BLOCKED) if job.config.block else None
    allow = job.path(ALLOWED) if job.config.allow else None
    return _address_lists(block, allow, job.config.hash)


@functools.lru_cache(maxsize=1)
def _address_lists(block: str | None, allow: str | None, config: str) -> AddressLists:
    return AddressLists(
        block=read_list([block]) if block else None,
        allow=read_list([allow]) if allow else None,
    )


def contamination_index(job: Job) -> "Index":
    """Returns the runs of the job's evaluation files, read once per process."""
    return _contamination_index(job.path(CONTAMINATION), job.config.hash)


@functools.lru_cache(maxsize=1)
def _contamination_index(path: str, config: str) -> "Index":
    from preprocessing.duplicates.decontamination import Index

    return Index.from_bytes(storage.read_bytes(path))


def _contents(flag: str, paths: list[str]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for path in paths:
        name = path.rsplit("/", 1)[-1]
        if name in contents:
            raise UsageError(
                f"wanted files of different names for {flag}, found {name} twice. "
                "Reports go by the name: rename one"
            )
        try:
            contents[name] = storage.read_bytes(path)
        except OSError as error:
            raise UsageError(
                f"wanted a file for {flag} at {path}, found: "
                f"{error.strerror or 'no such file'}. Check the path"
            ) from None
    return contents


def _listed(contents: dict[str, bytes]) -> tuple[ListFile, ...]:
    return tuple(
        ListFile(name, hashlib.sha256(data).hexdigest())
        for name, data in sorted(contents.items())
    )
