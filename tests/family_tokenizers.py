# SPDX-License-Identifier: Apache-2.0
"""Small tokenizers in the shape of published families' files, with their added tokens.

Vocabularies are those of `scripts_corpus`; normalisers, patterns and the flags of the
added tokens are the families' own. `tokenizers` itself adds the tokens and writes the
files.
"""

import functools
import json

import tokenizers
from tokenizers import AddedToken

from preprocessing.tokenizer.byte_level import word_bytes
from preprocessing.tokenizer.pre_tokenizing import LLAMA3_PATTERN, QWEN2_PATTERN
from tests.scripts_corpus import (
    changed,
    gpt2_style_tokenizer,
    split_style_tokenizer,
)

NFC = {"type": "NFC"}
# GPT-NeoX 20B: 24 spaces at first, then one less each.
NEOX_RUNS = tuple(" " * count for count in range(24, 1, -1))
PHI_RUNS = (
    *(" " * count for count in range(31, 1, -1)),
    *("\t" * count for count in range(9, 1, -1)),
)
OLMO_NAMES = ("|||IP_ADDRESS|||", "|||EMAIL_ADDRESS|||", "|||PHONE_NUMBER|||")
QWEN_NAMES = ("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>")
DIGITS = {"type": "Digits", "individual_digits": True}
BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "<|bos|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ],
    "pair": [
        {"Sequence": {"id": "A", "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 1}},
    ],
    "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [0], "tokens": ["<|bos|>"]}},
}
LLAMA_NAMES = ("<tool>", "<tool", "tool>\n", "\n\n<", "Ġtool", "中文")
# Flags of every kind, prefixes of each other, a special token's parts, accents in both
# forms, all on both levels.
ODD_TOKENS = (
    AddedToken("foo", single_word=True),
    AddedToken("oo b"),
    AddedToken("foo bar", normalized=False),
    AddedToken("\n\n", normalized=False),
    AddedToken(" X", lstrip=True, rstrip=True, normalized=False),
    AddedToken("X", rstrip=True),
    AddedToken("Y", lstrip=True),
    AddedToken("  ", rstrip=True),
    AddedToken("ét\u00e9"),
    AddedToken("e\u0301 "),
    AddedToken("<|", normalized=False),
    AddedToken("eos"),
    AddedToken("\t\t"),
    AddedToken("abq"),
    AddedToken("abqc", lstrip=True),
    AddedToken("a b", single_word=True),
    AddedToken("中q", single_word=True, normalized=False),
    AddedToken("qq", single_word=True, lstrip=True, rstrip=True),
)
ODD_PIECES = (
    *("foo", "oo", " b", " bar", "\n", "X", "Y", " ", "  ", "\t", "é", "t", "e\u0301"),
    *("<|eos|>", "<|", "eos", "abq", "c", "a", "中", "q", "_", "\u200d", "١", "\u0301"),
    *("\xa0", "\u3000", "\u2028", "\x85", "\u180e", "x", "\u088f", "\0", "’"),
)


def with_added(
    json_bytes: bytes, tokens: tuple[AddedToken, ...], **fields: object
) -> bytes:
    """Returns a file with more added tokens, written by `tokenizers`."""
    file = json.dumps({**json.loads(json_bytes), **fields})
    tokenizer = tokenizers.Tokenizer.from_str(file)
    tokenizer.add_tokens(list(tokens))
    return tokenizer.to_str().encode()


def plain(*contents: str, normalized: bool = True) -> tuple[AddedToken, ...]:
    """Returns tokens of text without flags."""
    return tuple(AddedToken(text, normalized=normalized) for text in contents)


def _sequence(*steps: object) -> dict[str, object]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


@functools.cache
def family(name: str) -> bytes:
    """Returns the `tokenizer.json` of a family's shape."""
    gpt2 = gpt2_style_tokenizer()
    if name == "neox":  # Pythia and MPT have the same
        return with_added(gpt2, plain(*NEOX_RUNS), normalizer=NFC)
    if name == "olmo":
        tokens = plain(*NEOX_RUNS, *OLMO_NAMES)
        return with_added(gpt2, tokens, normalizer=NFC)
    if name == "phi":
        return with_added(gpt2, plain(*PHI_RUNS))
    if name == "llama3":  # a tenth of the entries are words that no merge makes
        file = json.loads(split_style_tokenizer(LLAMA3_PATTERN))
        file["model"]["ignore_merges"] = True
        del file["model"]["merges"][-300:]
        fields = {"post_processor": TEMPLATE}
        return with_added(json.dumps(file).encode(), plain(*LLAMA_NAMES), **fields)
    if name == "gpt2":  # and its fields as the oldest files have them
        file = json.loads(gpt2)
        merges = [" ".join(merge) for merge in file["model"]["merges"]]
        options = {"dropout": None, "unk_token": "<|eos|>", "fuse_unk": True}
        affixes = {"continuing_subword_prefix": "", "end_of_word_suffix": ""}
        file["model"] |= {"merges": merges, **options, **affixes}
        del file["model"]["ignore_merges"], file["pre_tokenizer"]["use_regex"]
        return json.dumps(file).encode()
    if name == "olmo2":  # made from tiktoken's: what does not match goes
        file = json.loads(split_style_tokenizer(LLAMA3_PATTERN))
        split = file["pre_tokenizer"]["pretokenizers"][0]
        split |= {"behavior": "Removed", "invert": True}
        tokens = plain(*OLMO_NAMES, normalized=False)
        return with_added(json.dumps(file).encode(), tokens)
    if name == "smollm":  # Granite and StarCoder have the same
        return changed(gpt2, pre_tokenizer=_sequence(DIGITS, BYTE_LEVEL))
    if name == "threes":
        split = {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}"}, "invert": False}
        steps = _sequence({**split, "behavior": "Isolated"}, _sequence(BYTE_LEVEL))
        tokens = (*plain("12", " 1"), AddedToken("0 ", rstrip=True))
        # Digits that merge across the places to cut, if those are missed.
        model = json.loads(gpt2)["model"]
        for left, right in (("3", "4"), ("34", "5"), ("6", "7")):
            model["vocab"][left + right] = len(model["vocab"])
            model["merges"].append([left, right])
        return with_added(gpt2, tokens, pre_tokenizer=steps, model=model)
    if name == "prefix":  # RoBERTa's and BART's kin of GPT-2
        spaced = {**BYTE_LEVEL, "add_prefix_space": True}
        return with_added(gpt2, plain("zq", "<mask>"), pre_tokenizer=spaced)
    if name == "qwen2":
        tokens = plain(*QWEN_NAMES, normalized=False)
        return with_added(split_style_tokenizer(QWEN2_PATTERN), tokens, normalizer=NFC)
    if name == "odd":
        return with_added(gpt2, ODD_TOKENS)
    if name == "odd nfc":
        return with_added(gpt2, ODD_TOKENS, normalizer=NFC)
    raise KeyError(name)


def _last_words(data: bytes) -> tuple[str, ...]:
    """Returns some of the words that were merged last."""
    vocab = json.loads(data)["model"]["vocab"]
    words = sorted(vocab, key=vocab.__getitem__)[-60::2]
    return tuple(word_bytes(word).decode(errors="ignore") for word in words)


def pieces_of(name: str) -> tuple[str, ...]:
    """Returns what texts that try a family's tokens are put together from."""
    code = (
        "x",
        "def f(a):\n",
        "\n",
        "\r\n",
        " ",
        "\t",
        "return 1",
        "é",
        "e\u0301",
        "中",
    )
    code += ("<|eos|>", "'s", "12", "\0", "\u00a0", "if x:\n    y  # z\n\n", "\u088f")
    if name.startswith("odd"):
        return ODD_PIECES
    if name in ("threes", "smollm"):
        code += ("0 ", " 1", "1234567", "٣", "½", "\U00011de0", "Ⅷ", "  ", "a1b")
    if name in ("prefix", "gpt2"):
        code += ("zq", "<mask>", "  ", "'LL")
    if name == "llama3":
        code += _last_words(family(name))
    runs = {"neox": NEOX_RUNS, "olmo": (*NEOX_RUNS, *OLMO_NAMES), "phi": PHI_RUNS}
    names = {"llama3": LLAMA_NAMES, "qwen2": QWEN_NAMES, "olmo2": OLMO_NAMES}
    return (*code, *(runs | names).get(name, ()))
