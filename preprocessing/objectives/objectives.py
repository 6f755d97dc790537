# SPDX-License-Identifier: Apache-2.0
"""Training objectives: what is asked of a document, and the examples it becomes.

    causal           [BOS] text EOS                          every id is predicted
    prefix           [BOS] text EOS                          ids after a random one are
    fill_in_middle   [BOS] <pre> a <suf> c <mid> b EOS       every id is predicted
    span_corruption  [BOS] text with holes EOS | holes EOS   the holes are predicted
    pairs            [BOS] inputs EOS | targets EOS          the targets are predicted

A document longer than a row is cut into pieces first, each piece becomes one example,
and every example fits a row whole; only causal documents are cut when rows are packed.
What is drawn depends on the seed, the document's key and the piece, and on nothing
else. The layout `decoder` writes an example as one sequence, without the EOS in front
of the bar; `encoder_decoder` keeps both sides apart.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from preprocessing.contracts.records import RecordFormat
from preprocessing.foundation.commands import UsageError, suggest
from preprocessing.objectives.examples import Examples
from preprocessing.objectives.fill_in_middle import fill_in_middle, middle_put_back
from preprocessing.objectives.noise_spans import NoiseConfig, holes_filled
from preprocessing.objectives.pairs import PairRoom, make_pairs
from preprocessing.objectives.prefixes import with_prefixes
from preprocessing.packing.packing import Planner, concat
from preprocessing.tokenizer.special_tokens import (
    FIM_TOKENS,
    SENTINEL_TOKEN,
    find_fim_ids,
    find_sentinel_ids,
)
from preprocessing.tokenizer.tokenizer import Tokenizer

DECODER, ENCODER_DECODER = "decoder", "encoder_decoder"
# The layouts of each objective, its default first.
LAYOUTS = {
    "causal": (DECODER,),
    "prefix": (DECODER,),
    "span_corruption": (ENCODER_DECODER, DECODER),
    "fill_in_middle": (DECODER,),
    "pairs": (ENCODER_DECODER, DECODER),
}


@dataclass(frozen=True)
class ObjectiveConfig:
    """What training asks of a document.

    Attributes:
        name: one of `LAYOUTS`.
        layout: "decoder" or "encoder_decoder"; None becomes the objective's own.
        target_length: ids of a row's targets in the layout encoder_decoder; None is
            what span corruption makes of a full row of inputs, else as many as inputs.
        noise_density: share of ids that span corruption takes out (Raffel et al.
            2020, arXiv 1910.10683, section 3.3.4).
        mean_span_length: ids of a hole, on average (likewise).
        fim_rate: share of pieces whose middle is moved to the end (Bavarian et al.
            2022, arXiv 2207.14255).
        spm_rate: share of those that begin with the suffix (likewise, section 3).
        sentinel_token: name of the k-th sentinel, {} standing for k.
        fim_tokens: names of the tokens before prefix, middle and suffix.
    """

    name: str = "causal"
    layout: str | None = None
    target_length: int | None = None
    noise_density: float = 0.15
    mean_span_length: float = 3.0
    fim_rate: float = 0.5
    spm_rate: float = 0.5
    sentinel_token: str = SENTINEL_TOKEN
    fim_tokens: tuple[str, ...] = FIM_TOKENS

    def __post_init__(self) -> None:
        if self.name not in LAYOUTS:
            raise UsageError(
                f"wanted --objective {', '.join(LAYOUTS)}, found {self.name}."
                f"{suggest(self.name, LAYOUTS)} Choose one"
            )
        if self.layout is None:
            # Written down, so that the configuration says what the rows are.
            object.__setattr__(self, "layout", LAYOUTS[self.name][0])
        if self.layout not in LAYOUTS[self.name]:
            raise UsageError(
                f"wanted --layout {' or '.join(LAYOUTS[self.name])} for the objective "
                f"{self.name}, found {self.layout}. Leave it out for the first"
            )
        if self.target_length is not None and (
            self.layout != ENCODER_DECODER or self.target_length < 2
        ):
            raise UsageError(
                "wanted --target_length of 2 or more, and only with --layout "
                f"{ENCODER_DECODER}, found {self.target_length} with {self.layout}. "
                "Leave it out"
            )
        self._check_shares()

    @property
    def noise(self) -> NoiseConfig:
        """How span corruption makes its holes."""
        return NoiseConfig(self.noise_density, self.mean_span_length)

    def _check_shares(self) -> None:
        self.noise.check()
        for name in ("fim_rate", "spm_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(
                    f"wanted --{name} between 0 and 1, found {getattr(self, name)}. "
                    "0.5 is usual"
                )
        if "{}" not in self.sentinel_token or len(self.fim_tokens) != 3:
            raise UsageError(
                "wanted --sentinel_token with {} for its number and three --fim_tokens "
                f"(prefix, middle, suffix), found {self.sentinel_token} and "
                f"{', '.join(self.fim_tokens)}. Name the tokenizer's own"
            )


def check_objective(
    config: ObjectiveConfig,
    tokenizer: Tokenizer,
    sequence_length: int,
    planner: Planner,
) -> None:
    """Refuses before any work what the objective cannot be prepared with.

    Raises:
        UsageError: the tokenizer lacks a special token, rows are too short, or the
            planner would cut examples.
    """
    if config.name == "causal":
        return
    if planner is concat:
        raise UsageError(
            f"wanted --packing best_fit for the objective {config.name}, whose "
            "examples stay whole, found concat. Leave --packing out"
        )
    if sequence_length < 16:
        raise UsageError(
            f"wanted --sequence_length of 16 or more for the objective {config.name}, "
            f"found {sequence_length}. 256 to 8192 are usual"
        )
    special = special_ids(config, tokenizer)
    if config.name == "span_corruption":
        room = _pair_room(config, sequence_length)
        config.noise.longest_piece(room, tokenizer.bos_id is not None, len(special))


def special_ids(config: ObjectiveConfig, tokenizer: Tokenizer) -> np.ndarray:
    """Returns the ids the objective marks parts with, int64: none for most.

    Sentinels in their order for span corruption; those before prefix, middle and
    suffix for fill in the middle.

    Raises:
        UsageError: the tokenizer lacks them.
    """
    bpe, name = tokenizer.bpe, tokenizer.name
    if config.name == "span_corruption":
        return find_sentinel_ids(bpe, name, config.sentinel_token)
    if config.name == "fill_in_middle":
        return find_fim_ids(bpe, name, config.fim_tokens)
    return np.zeros(0, np.int64)


def row_format(
    config: ObjectiveConfig,
    sequence_length: int,
    vocab_size: int,
    sources: bool = False,
) -> RecordFormat:
    """Returns the layout of the objective's rows, with `sources` in a mixture."""
    one_sequence = config.layout == DECODER
    return RecordFormat(
        sequence_length,
        vocab_size,
        prefix=config.name == "prefix",
        loss_mask=one_sequence and config.name in ("pairs", "span_corruption"),
        target_length=None if one_sequence else _target_length(config, sequence_length),
        sources=sources,
    )


def _target_length(config: ObjectiveConfig, sequence_length: int) -> int:
    if config.target_length is not None:
        return config.target_length
    if config.name == "span_corruption":
        return config.noise.target_length(sequence_length)
    return sequence_length


def make_examples(
    config: ObjectiveConfig,
    tokenizer: Tokenizer,
    texts: pa.LargeStringArray,
    targets: pa.LargeStringArray | None,
    keys: np.ndarray,
    sequence_length: int,
    seed: int,
) -> Examples:
    """Turns documents into examples, in the documents' order.

    Args:
        config: the objective.
        tokenizer: encodes; has the special tokens that `check_objective` looks for.
        texts: the documents; the inputs of pairs.
        targets: the targets of pairs; None for other objectives.
        keys: the documents' keys, uint8 [documents, 16].
        sequence_length: S, which the examples must fit.
        seed: of everything drawn.
    """
    if config.name == "causal":
        ids, lengths = tokenizer.encode_documents(texts)
        none = np.zeros(len(lengths), np.int64)
        return Examples(ids, lengths, np.arange(len(lengths)), none, none)
    if config.name == "prefix":
        return with_prefixes(tokenizer, texts, keys, sequence_length, seed)
    special = special_ids(config, tokenizer)
    if config.name == "fill_in_middle":
        rates = config.fim_rate, config.spm_rate
        return fill_in_middle(
            tokenizer, texts, keys, special, rates, sequence_length, seed
        )
    room = _pair_room(config, sequence_length)
    if config.name == "pairs":
        if targets is None:
            raise ValueError("wanted targets for pairs, found none")
        return make_pairs(tokenizer, texts, targets, room)
    # Imported here: a compiler comes with it.
    from preprocessing.objectives.span_corruption import corrupt

    return corrupt(tokenizer, texts, keys, special, config.noise, room, seed)


def _pair_room(config: ObjectiveConfig, sequence_length: int) -> PairRoom:
    if config.layout == DECODER:
        return PairRoom(sequence_length + 1, None)
    return PairRoom(sequence_length, _target_length(config, sequence_length))


def original_ids(
    config: ObjectiveConfig, special: np.ndarray, ids: np.ndarray, prefix: int
) -> np.ndarray:
    """Returns ids that decode to the text an example was made from: its inverse.

    Args:
        config: the objective.
        special: what `special_ids` returns.
        ids: the example's, inputs before targets.
        prefix: how many of them are inputs.
    """
    if config.name == "fill_in_middle":
        return middle_put_back(ids, special)
    if config.name == "span_corruption":
        return holes_filled(ids[:prefix], ids[prefix:], special)
    return ids
