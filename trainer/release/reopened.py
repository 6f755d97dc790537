# SPDX-License-Identifier: Apache-2.0
"""A release's model, out of its SavedModel's variables, to compute and train with.

The graphs of a release answer text with text; here the model itself is built again from
its lineage, and reads the same variables.
"""

import tensorflow as tf

from preprocessing.claims.scratch import scratch_directory
from preprocessing.contracts import releases
from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.globs import literal_directory
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.models.functional import weight_places
from trainer.models.language_model import LanguageModel, PrecisionConfig
from trainer.models.model import build_model
from trainer.models.stored_weights import StoredWeights
from trainer.release.servable import Servable
from trainer.run.config import from_json
from trainer.serving.generate import Decoding

_VARIABLES = "variables/variables"


def servable_of_release(path: str) -> Servable:
    """Opens a release, or the highest version of a model's directory.

    Raises:
        UsageError: there is none, or its variables are not those of its model.
    """
    release = releases.find_release(path)
    lineage = releases.read_lineage(release)
    name = storage.join(release, releases.LINEAGE_NAME)
    model_keys = strict_json.dumps({"model": lineage.config["model"]})
    config = from_json(model_keys, name).model
    model = build_model(config, lineage.vocab_size, PrecisionConfig(), seed=0)
    _read_variables(model, release, lineage.weights)
    return Servable(
        what=f"the release {release}",
        model=model,
        tokenizer=Tokenizer.restore(
            storage.join(release, releases.TOKENIZER_ASSET),
            bos_id=lineage.bos_id,
            eos_id=lineage.eos_id,
            pad_id=lineage.pad_id,
        ),
        decoding=Decoding(
            lineage.bos_id,
            lineage.eos_id,
            lineage.pad_id,
            lineage.context,
            stop_ids=tuple(lineage.stop_ids),
        ),
        length=lineage.context or 0,
        config=lineage.config,
        dataset_hash=lineage.dataset_hash,
        step=lineage.step,
        remedy="Export again",
    )


def _read_variables(model: LanguageModel, release: str, weights: str) -> None:
    """Assigns a release's weights to a model of its shape, however they are kept."""
    with scratch_directory() as copy:
        found = release
        if storage.is_cloud(release):
            releases.copy_tree(release, copy)
            found = copy
        with literal_directory(found) as directory:
            # The module that was saved has one of the two, under this name.
            stored = None if weights == "float32" else StoredWeights(model, weights)
            kept = {"model": model} if stored is None else {"weights": stored}
            reader = tf.train.Checkpoint(**kept)
            try:
                status = reader.read(f"{directory}/{_VARIABLES}")
                status.assert_existing_objects_matched().expect_partial()
            except (tf.errors.OpError, AssertionError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise UsageError(
                    f"wanted the variables of the model that {release} tells of, "
                    f"found: {reason}. Copy the release again"
                ) from error
    if stored is None:
        return
    for place, value in zip(weight_places(model), stored.values(), strict=True):
        place.variable.assign(tf.cast(value, place.variable.dtype))
