# SPDX-License-Identifier: Apache-2.0
"""Texts in many scripts and hostile strings, made from seeds, for tests of text.

`documents` recombines the words of a few sentences, so that words recur and a
tokenizer trained on them has merges to apply in every script. `hostile_strings` aims
at what tells tokenizers apart.
"""

import functools
import json
import random
import unicodedata

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from preprocessing.tokenizer import contested_ranges
from preprocessing.tokenizer.special_tokens import BOS_TOKEN, EOS_TOKEN, PAD_TOKEN
from preprocessing.tokenizer.tokenizer import train

SENTENCES = {
    "english": "All the king's horses and all the king's men couldn't put it together "
    "again, and they'll say we've tried; it's what I'd do, don't you think so?",
    "french": "L'été dernier, j'ai mangé des crêpes à Besançon, où l'on m'a dit que "
    "la forêt était déjà très âgée, naïve et brûlée.",
    "vietnamese": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm "
    "và quyền lợi, phải đối xử với nhau trong tình anh em.",
    "russian": "Все счастливые семьи похожи друг на друга, каждая несчастливая семья "
    "несчастлива по-своему; всё смешалось в доме.",
    "greek": "Η θάλασσα είναι ήρεμη σήμερα και τα παιδιά παίζουν στην άμμο, γιατί "
    "ο ήλιος λάμπει πάνω από τα νησιά.",
    "hebrew": "בְּרֵאשִׁית היה הבית קטן מאוד, אבל האנשים אמרו שהוא יפה וחם בחורף "
    "וקריר בקיץ.",
    "arabic": "في البَداية كان البيت صغيرًا، لكن الناس قالوا إنه جميل ودافئ في الشتاء "
    "وبارد في الصيف ١٢٣.",
    "hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतंत्रता और समानता प्राप्त "
    "है। १२३",
    "bengali": "সব মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে এবং তাদের "
    "বিবেক আছে।",
    "tamil": "எல்லா மனிதரும் சுதந்திரமாகவே பிறக்கின்றனர், மதிப்பிலும் உரிமையிலும் அவர்கள் சமமானவர்கள்.",
    "armenian": "Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ ու "
    "իրավունքներով։",
    "georgian": "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და "
    "უფლებებით.",
    "amharic": "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።",
    "thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิต่างมีเหตุผล",
    "chinese": "人人生而自由,在尊严和权利上一律平等。"
    "他们赋有理性和良心,并应以兄弟关系的精神相对待。",
    "japanese": "すべての人間は、生まれながらにして自由であり、"
    "かつ、尊厳と権利とについて平等である。カタカナも",
    "korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 "
    "권리에 있어 동등하다. 인간은 이성과 양심을",
    "emoji": "👩‍👩‍👧 🏳️‍🌈 👍🏽 😀 ❤️ 🇫🇷 ✅ ★ → ∑ ½ ² ™ №",
    "code": "def f(self, x_1=10, *args):\n\tif x_1 >= 2.50:\n"
    "        return {'k': [1, 2]}  # why?\r\n\r\n",
}
SPACES = [
    *"\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2001\u2002\u2003\u2004",
    *"\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000",
    "\ufeff",
    "\r\n",
]
SPECIAL_STRINGS = [
    BOS_TOKEN,
    EOS_TOKEN,
    PAD_TOKEN,
    "<|endoftext|>",
    "<|im_start|>",
    "<s>",
    "</s>",
    "<unk>",
    "[PAD]",
]
# Assigned in Unicode 15.1, 16 and 17; the rest of what is new is contested.
_NEWER = [range(0x2EBF0, 0x2EE5E), range(0x2FFC, 0x3000), range(0x10D40, 0x10D90)]
_NEWER += [range(0x1CC00, 0x1CCFA), range(0x13460, 0x143FB), range(0xA7CB, 0xA7CE)]
_NEWER += [range(0x1C89, 0x1C8B), range(0x16D40, 0x16D7A), range(0x105C0, 0x105F4)]
NEW_POINTS = [
    *(point for part in _NEWER for point in part),
    *(p for first, last in contested_ranges.CONTESTED for p in range(first, last + 1)),
]
_SPELLED_TOGETHER = ("thai", "chinese", "japanese")


def documents(seed: int, count: int) -> list[str]:
    """Returns documents; one in nineteen is English and one is code, all in ASCII."""
    return [_document(random.Random(f"{seed} {number}")) for number in range(count)]


def hostile_strings(seed: int, count: int) -> list[str]:
    """Returns short strings of every kind that tokenizers have disagreed on."""
    kinds = (_any_planes, _new_points, _space_runs, _accents, _specials, _everything)
    rng = random.Random(seed)
    return [kinds[number % len(kinds)](rng) for number in range(count)]


def _document(rng: random.Random) -> str:
    script = rng.choice(list(SENTENCES))
    if script == "code":
        lines = SENTENCES[script].splitlines(keepends=True)
        return "".join(rng.choices(lines, k=rng.randint(1, 30)))
    words = _words(script)
    separator = "" if script in _SPELLED_TOGETHER else " "
    # Words as uneven as in nature: the earlier, the more often.
    weights = [1 / (place + 1) for place in range(len(words))]
    paragraphs = [
        separator.join(rng.choices(words, weights, k=rng.randint(1, 60)))
        for _ in range(rng.randint(1, 4))
    ]
    return rng.choice(["\n", "\n\n", "\r\n", "  \n "]).join(paragraphs)


@functools.cache
def _words(script: str) -> list[str]:
    sentence = SENTENCES[script]
    if script not in _SPELLED_TOGETHER:
        return sentence.split(" ")
    rng = random.Random(script)
    cuts = [rng.randrange(len(sentence)) for _ in range(40)]
    return [sentence[cut : cut + rng.randint(1, 6)] for cut in cuts]


def _any_planes(rng: random.Random) -> str:
    """Code points of all planes, each with neighbours that it may join."""
    points = [rng.randrange(1, 0x110000) for _ in range(rng.randint(1, 12))]
    pieces = [chr(point) for point in points if not 0xD800 <= point < 0xE000]
    return "".join(piece + rng.choice(["", " ", "a", "1", "'s"]) for piece in pieces)


def _new_points(rng: random.Random) -> str:
    pieces = [chr(rng.choice(NEW_POINTS)) for _ in range(rng.randint(1, 8))]
    return "".join(rng.choice(["", " ", "b", "٣", "!", "'"]) + p for p in pieces)


def _space_runs(rng: random.Random) -> str:
    parts = []
    for _ in range(rng.randint(1, 8)):
        parts += rng.choices(SPACES, k=rng.randint(1, 5))
        parts += [rng.choice(SPACES)] * rng.randint(0, 4)
        parts.append(rng.choice(["", "x", "été", "12", "!?", "'ll", "中", "\0"]))
    return "".join(parts)


def _accents(rng: random.Random) -> str:
    words = _words(rng.choice(list(SENTENCES)))
    text = unicodedata.normalize("NFD", " ".join(rng.choices(words, k=4)))
    marks = [chr(rng.randrange(0x300, 0x370)) for _ in range(rng.randint(0, 5))]
    place = rng.randint(0, len(text))
    return text[:place] + "".join(marks) + text[place:]


def _specials(rng: random.Random) -> str:
    parts = rng.choices(SPECIAL_STRINGS, k=rng.randint(1, 3))
    return "".join(rng.choice(["", " ", "a", "\n", "\0"]) + part for part in parts)


def _everything(rng: random.Random) -> str:
    pool = "abst LMDVEST'1234567890\t\n\r\0.,_#é中ſK\u0301\u2581\u00a0\u3000\u200d🙂"
    return "".join(rng.choices(pool, k=rng.randint(0, 50)))


@functools.cache
def gpt2_style_tokenizer(vocab_size: int = 3000) -> bytes:
    """Returns the tokenizer that `quern-tokenizer` would train on the documents."""
    return train(documents(seed=1, count=600), vocab_size)


@functools.cache
def split_style_tokenizer(pattern: str, vocab_size: int = 3000) -> bytes:
    """Returns a tokenizer that cuts words by `pattern`, as Llama 3's file does."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS_TOKEN, EOS_TOKEN, PAD_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents(seed=1, count=600), trainer)
    return tokenizer.to_str().encode()


def changed(json_bytes: bytes, **fields: object) -> bytes:
    """Returns a tokenizer file with some of its top-level fields replaced."""
    return json.dumps({**json.loads(json_bytes), **fields}).encode()


def reference(json_bytes: bytes) -> tokenizers.Tokenizer:
    """Returns `tokenizers` itself, reading special-token strings as plain text."""
    tokenizer = tokenizers.Tokenizer.from_str(json_bytes.decode())
    tokenizer.encode_special_tokens = True
    return tokenizer
