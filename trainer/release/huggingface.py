# SPDX-License-Identifier: Apache-2.0
"""Writes a run's checkpoint as a directory in Hugging Face's form."""

from preprocessing.foundation import storage
from preprocessing.foundation.commands import WorkError
from trainer.published.origin import ORIGIN_NAME, read_origin
from trainer.published.saving import (
    publication_of_llama,
    publication_of_origin,
    write_publication,
)
from trainer.release.servable import open_tokenizer
from trainer.run.checkpoints import Run


def write_huggingface(opened: Run, run: str, directory: str) -> None:
    """Writes a checkpoint into a local directory.

    Args:
        opened: the checkpoint.
        run: its run's directory, which keeps what published weights came with.
        directory: where; one that is there.

    Raises:
        UsageError: the decoder is none that a published family computes, or a weight
            is not finite.
        WorkError: the files cannot be written.
    """
    origin = read_origin(run)
    if origin is None:
        publication = publication_of_llama(
            opened.config.model,
            opened.model.vocab_size,
            opened.config.sequence_length,
            open_tokenizer(opened),
        )
    else:
        publication = publication_of_origin(origin, storage.join(run, ORIGIN_NAME))
    try:
        write_publication(publication, opened.model, directory)
    except OSError as error:
        raise WorkError(
            f"wanted to write the weights, found: {error}. Free some space and export "
            "again; nothing was published"
        ) from error
