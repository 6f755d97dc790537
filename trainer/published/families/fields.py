# SPDX-License-Identifier: Apache-2.0
"""The fields of a published `config.json`, each read once and all accounted for.

Published files leave out what their class has a default for, so defaults here are those
of transformers 5's configuration classes.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import UsageError, first_of

# What decides no number of a forward pass or of a training step here: names, ids,
# types that weights are kept in, how text is generated, heads of other tasks.
IGNORED = frozenset(
    {
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_commit_hash",
        "_name_or_path",
        "_num_labels",
        "architectures",
        "attn_implementation",
        "auto_map",
        "bad_words_ids",
        "begin_suppress_tokens",
        "bos_token_id",
        "cache_implementation",
        "chunk_size_feed_forward",
        "classifier_dropout",
        "decoder_start_token_id",
        "diversity_penalty",
        "do_sample",
        "dtype",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "encoder_repetition_penalty",
        "eos_token_id",
        "epsilon_cutoff",
        "eta_cutoff",
        "exponential_decay_length_penalty",
        "finetuning_task",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "gradient_checkpointing",
        "id2label",
        "initializer_range",
        "is_decoder",
        "is_llama_config",
        "label2id",
        "length_penalty",
        "max_length",
        "max_sequence_length",
        "min_length",
        "model_type",
        "name_or_path",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_labels",
        "num_return_sequences",
        "output_attentions",
        "output_hidden_states",
        "output_past",
        "output_router_logits",
        "output_scores",
        "pad_token_id",
        "prefix",
        "pretraining_tp",
        "problem_type",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict",
        "return_dict_in_generate",
        "router_aux_loss_coef",
        "sep_token_id",
        "suppress_tokens",
        "task_specific_params",
        "temperature",
        "tf_legacy_loss",
        "tokenizer_class",
        "top_k",
        "top_p",
        "torch_dtype",
        "torchscript",
        "transformers.js_config",
        "transformers_version",
        "typical_p",
        "unk_token_id",
        "unsloth_fixed",
        "unsloth_version",
        "use_bfloat16",
        "use_cache",
    }
)
# Fields of some family, or of several, that change what is computed where a family that
# does not read them has another value.
PLAIN: Mapping[str, Collection[Any]] = {
    "add_cross_attention": (False,),
    "attention_bias": (False,),
    "is_encoder_decoder": (False,),
    "mlp_bias": (False,),
    "per_layer_config": (),
    "pruned_heads": ({},),
    "quantization_config": (),
    "rope_interleaved": (False,),
    "tie_encoder_decoder": (False,),
    "use_mrope": (False,),
}
_KIND_NAMES: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    list: "a list",
    dict: "a table",
}


class Fields:
    """A table of fields, of a `config.json` or of one in it.

    Attributes:
        path: the file, as errors call it.
        notes: what is read otherwise than the file has it, in sentences.
    """

    def __init__(self, values: Mapping[str, Any], path: str, prefix: str = "") -> None:
        """Takes what the file holds; `prefix` is put before names in errors."""
        self.path, self.notes = path, list[str]()
        self._values, self._prefix = values, prefix
        self._taken = set[str]()

    def has(self, name: str) -> bool:
        """Tells whether a field is there, and not null."""
        return self._values.get(name) is not None

    def take(self, name: str, kind: type, default: Any, null: bool = False) -> Any:
        """Returns a field's value.

        Args:
            name: of the field.
            kind: of its value: int, float, bool, str, list or dict.
            default: what it is where the file has none.
            null: whether it may be null, which is None.

        Raises:
            UsageError: it is of another kind.
        """
        self._taken.add(name)
        value = self._values.get(name, default)
        if value is None and (null or default is None):
            return None
        kinds = (int, float) if kind is float else (kind,)
        # To Python true and false are numbers.
        if not isinstance(value, kinds) or isinstance(value, bool) != (kind is bool):
            raise self.refused(name, _KIND_NAMES[kind])
        return kind(value)

    def first(self, names: Sequence[str], kind: type, default: Any) -> Any:
        """Returns the value of the first of several names that is there."""
        found = [name for name in names if self.has(name)]
        self._taken.update(names)
        return self.take(found[0], kind, default) if found else default

    def table(self, name: str) -> "Fields":
        """Returns the fields of a table within, none where it is absent or null."""
        values = self.take(name, dict, None) or {}
        inner = Fields(values, self.path, f"{self._prefix}{name}.")
        inner.notes = self.notes
        return inner

    def allow(self, name: str, values: Collection[Any]) -> None:
        """Checks a field that may have no other value, or be left out.

        One that was read already may have any.

        Raises:
            UsageError: it has another.
        """
        if name in self._taken:
            return
        self._taken.add(name)
        found = self._values.get(name)
        # 0 equals False, and is as good.
        if found is not None and found not in values:
            wanted = " or ".join(map(_shown, values)) or "null"
            raise self.refused(name, wanted)

    def refused(self, name: str, wanted: str) -> UsageError:
        """Returns the error of a field whose value is not supported."""
        found = _shown(self._values.get(name))
        return UsageError(
            f"wanted {wanted} for {self._prefix}{name} in {self.path}, found {found}, "
            "which would compute something else than is supported. See "
            "docs/published-weights.md"
        )

    def finish(self, ignored: Collection[str] = ()) -> None:
        """Checks that every field was read, or decides nothing.

        Raises:
            UsageError: there are others, which may change what is computed.
        """
        unknown = [
            f"{self._prefix}{name}"
            for name, value in self._values.items()
            if name not in self._taken and name not in ignored and value is not None
        ]
        if unknown:
            raise UsageError(
                f"wanted fields of {self.path} that are known, found "
                f"{first_of(unknown)}, which may change what is computed. Take it out "
                "if it does not, or see docs/published-weights.md for what is supported"
            )


Reader = Callable[[Fields], dict[str, Any]]


def _shown(value: Any) -> str:
    """Returns a value as JSON has it."""
    return strict_json.dumps(value)
