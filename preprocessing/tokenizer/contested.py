# SPDX-License-Identifier: Apache-2.0
"""Code points on which `gigatoken` and the reference, `tokenizers`, may differ.

The two follow different versions of Unicode, so they class newly assigned code points
differently and cut words elsewhere. Both are fixed programs, so the set is a fact that
can be measured: `probe` puts every code point of Unicode into small contexts and
compares the cuts. That takes half a minute for each pattern of cutting words, so the
result ships in `contested_ranges.py` with the versions it holds for, and is measured
again only when others are installed. To renew the shipped table:

    python -m preprocessing.tokenizer.contested > renewed
    mv renewed preprocessing/tokenizer/contested_ranges.py
"""

import itertools
from collections.abc import Iterable, Iterator
from importlib import metadata

import gigatoken
import numpy as np
import tokenizers
from tokenizers import normalizers

from preprocessing.foundation import strict_json
from preprocessing.tokenizer import contested_ranges
from preprocessing.tokenizer.byte_level import CHARACTER_OF_BYTE
from preprocessing.tokenizer.pre_tokenizing import KNOWN_PATTERNS, pre_tokenizer_json

# What a code point is put between. Its class (letter of either case, mark, number,
# space, other) and its case folding decide every cut of the known patterns, and each
# class joins other neighbours than the rest.
CONTEXTS = ("a{}b", "A{}A", "a{}A", "1{}1", "!{}!", " {} b", "'{}b", "\n{}\n")
_CODE_POINTS = 0x110000
Ranges = tuple[tuple[int, int], ...]


class CodePointSet:
    """A set of code points from U+0080 on that can be looked for in bulk.

    Looking costs one comparison per byte, and a table look-up per character whose
    first byte is not below that of the smallest member: text in ASCII or with Latin
    accents is cleared at the speed of memory.
    """

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Takes inclusive ranges of code points, none below U+0080."""
        members = np.zeros(_CODE_POINTS, bool)
        for first, last in ranges:
            members[first : last + 1] = True
        self._members = members
        points = np.flatnonzero(members)
        if len(points) and points[0] < 0x80:
            raise ValueError(f"wanted code points from U+0080, found {points[0]:#x}")
        self._heads = np.zeros(1 << 16, bool)
        encoded = [chr(p).encode()[:2] for p in points if not 0xD800 <= p < 0xE000]
        self._heads[[head[0] << 8 | head[1] for head in set(encoded)]] = True
        self._first_lead = min((head[0] for head in encoded), default=256)

    def __len__(self) -> int:
        return int(self._members.sum())

    def __contains__(self, point: int) -> bool:
        return bool(self._members[point])

    def holders(self, data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Finds the documents that hold a member.

        Args:
          data: uint8 [bytes], valid UTF-8.
          offsets: int64 [documents + 1], where each document starts and ends in it.

        Returns:
          The documents' numbers, ascending, int64.
        """
        begin, end = offsets[0], offsets[-1]
        text = data[begin:end]
        leads = np.flatnonzero(text >= self._first_lead)
        heads = text[leads].astype(np.uint16) << 8 | text[leads + 1]
        leads = leads[self._heads[heads]]
        if not len(leads):
            return np.zeros(0, np.int64)
        places = leads[self._members[_decode(text, leads)]] + begin
        return np.unique(np.searchsorted(offsets, places, side="right") - 1)


def _decode(text: np.ndarray, leads: np.ndarray) -> np.ndarray:
    """Returns the code point that starts at each of `leads`, int64."""

    def tail(distance: int) -> np.ndarray:
        # Characters at the very end have no byte so far on; theirs is not used.
        return text[np.minimum(leads + distance, len(text) - 1)].astype(np.int64) & 63

    head = text[leads].astype(np.int64)
    two = (head & 31) << 6 | tail(1)
    three = (head & 15) << 12 | tail(1) << 6 | tail(2)
    four = (head & 7) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3)
    return np.where(head < 0xE0, two, np.where(head < 0xF0, three, four))


def to_ranges(points: Iterable[int]) -> Ranges:
    """Returns inclusive ranges that cover exactly `points`."""
    ordered = np.unique(np.fromiter(points, np.int64))
    parts = np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1)
    return tuple((int(part[0]), int(part[-1])) for part in parts if len(part))


# The patterns for which gigatoken has a cutter, and under which it was measured.
PATTERNS = KNOWN_PATTERNS


def versions() -> tuple[str, str]:
    """Returns the installed versions of gigatoken and tokenizers."""
    return metadata.version("gigatoken"), str(tokenizers.__version__)


def probe(pattern: str) -> Ranges:
    """Measures the contested code points under one of `PATTERNS` (half a minute).

    A vocabulary whose only merges join the byte before a code point with its first
    byte, and its last byte with the one after, shows in the ids where words were cut.
    """
    data = strict_json.dumps(_probe_file(pattern))
    reference = tokenizers.Tokenizer.from_str(data)
    candidate = gigatoken.Tokenizer.from_json(data)

    def differing(groups: list[list[int]]) -> list[list[int]]:
        texts = ["".join(map(_in_contexts, group)) for group in groups]
        wanted = [entry.ids for entry in reference.encode_batch_fast(texts)]
        found = candidate.encode_batch(texts, parallel=False).to_list()
        answers = zip(groups, wanted, found, strict=True)
        return [group for group, left, right in answers if left != right]

    contested: set[int] = set()
    for points in _chunks(1 << 14):
        groups = [points[start : start + 64] for start in range(0, len(points), 64)]
        suspects = [[point] for group in differing(groups) for point in group]
        contested.update(point for (point,) in differing(suspects))
    return to_ranges(contested)


def probe_nfc() -> Ranges:
    """Measures which code points the reference's NFC may change (seconds).

    A text without them is its own normal form: they are those that NFC rewrites,
    those with a combining class (shown by reordering next to marks of class 1 and
    240), and those that a decomposition puts second, so that they may compose with
    what stands before (Unicode Standard Annex 15, section 9).
    """
    compose = normalizers.NFC().normalize_str
    decompose = normalizers.NFD().normalize_str
    moved: set[int] = set()
    for point in itertools.chain.from_iterable(_chunks(1 << 16)):
        character = chr(point)
        parts = decompose(character)
        moved.update(map(ord, parts[1:]))
        if compose(character) != character:
            moved.add(point)
        elif parts == character:
            after, before = "x\u0345" + character, "x" + character + "\u0334"
            if decompose(after) != after or decompose(before) != before:
                moved.add(point)
    return to_ranges(moved)


def nfc_ranges() -> Ranges:
    """Returns `probe_nfc` for the installed version, measured where none is shipped."""
    if str(tokenizers.__version__) == contested_ranges.VERSIONS[1]:
        return contested_ranges.NFC_SENSITIVE
    return probe_nfc()


def _chunks(size: int) -> Iterator[list[int]]:
    """Yields the scalar values from U+0080 on, in order, `size` at a time."""
    points = [p for p in range(0x80, _CODE_POINTS) if not 0xD800 <= p < 0xE000]
    for start in range(0, len(points), size):
        yield points[start : start + size]


def _in_contexts(point: int) -> str:
    return "".join(context.format(chr(point)) for context in CONTEXTS)


def _probe_file(pattern: str) -> dict[str, object]:
    vocab = {CHARACTER_OF_BYTE[byte]: byte for byte in range(256)}
    befores = {context.encode()[context.index("{") - 1] for context in CONTEXTS}
    afters = {context.encode()[context.index("}") + 1] for context in CONTEXTS}
    pairs = list(itertools.product(sorted(befores), range(0xC2, 0xF5)))
    pairs += itertools.product(range(0x80, 0xC0), sorted(afters))
    merges = []
    for left, right in pairs:
        pair = [CHARACTER_OF_BYTE[left], CHARACTER_OF_BYTE[right]]
        merges.append(pair)
        vocab["".join(pair)] = len(vocab)
    return {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": pre_tokenizer_json(pattern),
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }


def _table() -> str:
    """Returns the source of `contested_ranges.py` for the installed versions."""
    contested = to_ranges(
        point
        for pattern in PATTERNS
        for first, last in probe(pattern)
        for point in range(first, last + 1)
    )
    source = "Ranges of code points (inclusive), as `contested.py` found them"
    lines = [
        "# SPDX-License-Identifier: Apache-2.0",
        f'"""{source}."""',
        "",
        "# The versions of gigatoken and tokenizers that were measured.",
        f"VERSIONS = {versions()!r}".replace("'", '"'),
        "",
        "# Those that the two may class differently.",
        *_rows("CONTESTED", contested),
        "",
        "# Those that the reference's NFC may change, alone or among others.",
        *_rows("NFC_SENSITIVE", probe_nfc()),
    ]
    return "\n".join(lines)


def _rows(name: str, ranges: Ranges) -> list[str]:
    rows = [f"    (0x{first:X}, 0x{last:X})," for first, last in ranges]
    return [f"{name} = (", *rows, ")"]


if __name__ == "__main__":
    print(_table())
