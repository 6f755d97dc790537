# SPDX-License-Identifier: Apache-2.0
"""The law of ids, on texts chosen to break it: graph = corpus = `tokenizers`.

The texts hold what engines disagree on: runs of every kind of space, contractions,
decomposed accents, code points newer than Unicode 15, added tokens of either kind, NUL,
and random mixtures of these.
"""

import itertools
import random
from collections.abc import Callable, Sequence

import tokenizers

from preprocessing.tokenizer.tokenizer import Tokenizer

_SPACES = " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u3000"
_PIECES = (
    *_SPACES,
    *("  ", "   ", "\r\n", "\n\n", "\0", "\u200b", "\u200d", "\ufeff", "\u180e"),
    *("a", "Z", "the", " of", "é", "e\u0301", "ñ", "n\u0303", "\u0344", "ß", "ſ", "K"),
    *("'s", "'LL", "'re", "’t", "12", "3456", "١٢", "½", "²", "९", "Ⅷ", "_", "-", "…"),
    *(
        "東京",
        "한국",
        "ᄒ\u1161",
        "हिन्दी",
        "ไทย",
        "עברית",
        "العربية",
        "Ελλ",
        "рус",
        "ქარ",
    ),
    *(
        "🙂",
        "👩\u200d👧",
        "🇯🇵",
        "\U0001f9ff",
        "𝔘",
        "\U000e0041",
        "\uffff",
        "\U0010ffff",
    ),
    *("\u1c89", "\U00010d40", "\U0001c000", "\ua7cb", "\U0001fae9", "\U000105c0"),
    *("{", "}", "==", "->", "//", "\\n", "<|", "|>", "<|bos|>", "<|eos|>", "[INST]"),
)
_SENTENCES = (
    "",
    " ",
    "The quick brown fox jumps over the lazy dog, isn't it?",
    "def f(x: int) -> int:\n\treturn x ** 2  # square\n\n\n",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "いろはにほへと ちりぬるを。我が世誰ぞ 常ならむ",
    "Съешь ещё этих мягких французских булок, да выпей же чаю.",
    "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί",
    "e\u0301a\u0300o\u0302 \u1112\u1161\u11ab \u0915\u093c",
)
_FUZZED = 400
_BATCH = 64


def difference(
    tokenizer: Tokenizer, encode: Callable[[list[str]], list[list[int]]]
) -> tuple[int, str | None]:
    """Compares three encoders on every text.

    Args:
        tokenizer: the corpus side, and the file behind the reference.
        encode: the graph: a batch of texts -> ids of each, without BOS and EOS.

    Returns:
        How many texts were compared, and the first difference in words, or None.
    """
    reference = tokenizers.Tokenizer.from_str(tokenizer.bpe.reference_json().decode())
    reference.encode_special_tokens = True
    added = [*tokenizer.bpe.added]
    texts = [*_SENTENCES, *_PIECES, *added, *_fuzzed(_FUZZED, added)]
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        ids, lengths = tokenizer.encode_batch(batch)
        ends = list(itertools.accumulate(lengths.tolist()))
        corpus = [ids[e - n : e].tolist() for e, n in zip(ends, lengths, strict=True)]
        for text, here, there in zip(batch, corpus, encode(batch), strict=True):
            plain = text.replace("\0", "")
            wish = reference.encode(plain, add_special_tokens=False).ids
            for side, found in (("the corpus side", here), ("the graph", there)):
                if found != wish:
                    return len(texts), (
                        f"wanted {side} to encode {text!a} as `tokenizers` does, "
                        f"{wish}, found {found}. Report it with the tokenizer file"
                    )
    return len(texts), None


def _fuzzed(count: int, added: list[str]) -> list[str]:
    """Returns random texts, the same ones every time; half hold added tokens."""
    chooser = random.Random(0)
    pools = (_PIECES, (*_PIECES, *chooser.choices(added or [""], k=len(_PIECES) // 2)))
    return [
        "".join(_piece(chooser, pools[i % 2]) for _ in range(chooser.randint(1, 24)))
        for i in range(count)
    ]


def _piece(chooser: random.Random, pool: Sequence[str]) -> str:
    if chooser.random() < 0.7:
        return chooser.choice(pool)
    code = chooser.randrange(1, 0x110000)
    return "?" if 0xD800 <= code < 0xE000 else chr(code)
