# SPDX-License-Identifier: Apache-2.0
"""What each character is to the rules: white space, letter, mark; a table for kernels.

    flags = table[code point]        a sum of the constants below

The classes follow `str.isspace`, `str.isalpha` and the categories of Python's
`unicodedata`; the sets of marks are written out where no category names them.
"""

import functools
import string
import sys
import unicodedata

import numpy as np

SPACE = 1
LETTER = 2
LOWER = 4
UPPER = 8
DIGIT = 16
MARK = 32
OPENING = 64
SYMBOL = 128
HYPHEN = 256
JOINT = 512
DOT = 1024
PUNCTUATION = 2048
TERMINAL = 4096

# Cut off at the start of a word, and at its end only after a digit.
_OPENING = "%=+§"
# ASCII marks that stay where they stand: "a/b", "x@y", "C:\d", "-v", "x^2", "a|b", "~".
_STAY = "-./\\@^|~$+=%"
_HYPHENS = "-~–—"
_JOINTS = ":<>=/"
# Marks of scripts without spaces, where nothing else separates: cut anywhere.
_CLAUSE_MARKS = "、。，！？；：「」『』（）【】《》〈〉"
# Unicode's Sentence_Terminal, version 15, and the Khmer signs that datatrove 0.10
# counts as terminal punctuation too: first and last of each run. `unicodedata` has
# no such property.
_TERMINAL_RUNS = """
0021 002E 003F 0589 061D-061F 06D4 0700-0702 07F9 0837 0839 083D-083E 0964-0965
104A-104B 1362 1367-1368 166E 1735-1736 17D4-17D6 17D9-17DA 1803 1809 1944-1945
1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E
2E3C 2E53-2E54 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9
AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59
10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF
11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 115C9-115D7 11641-11642
1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44
16A6E-16A6F 16AF5 16B37-16B38 16B44 16E98 1BC9F 1DA88
"""
# What CCNet (Wenzek et al. 2019, arXiv 1911.00359) removes as punctuation beside
# ASCII's own: quotes, dashes, brackets, full-width forms and one full-width digit.
_CCNET_MARKS = "«´»–—’“”„…∶━►、。〈〉《》「」【】！％（），．１：；？～"
# From here on Unicode has no letter, mark or white space: planes not yet used, tags,
# private use. Asking for each of them too would take five times as long.
_FIRST_UNUSED = 0x32400


@functools.cache
def table() -> np.ndarray:
    """Returns the flags of every code point, uint16 [0x110000]; 80 ms, once."""
    flags = np.zeros(sys.maxunicode + 1, np.uint16)
    for code in range(_FIRST_UNUSED):
        flags[code] = _flags(chr(code))
    flags[[ord(mark) for mark in _HYPHENS]] |= HYPHEN
    flags[[ord(mark) for mark in _JOINTS]] |= JOINT
    flags[[ord(mark) for mark in string.punctuation + _CCNET_MARKS]] |= PUNCTUATION
    controls = [code for code in range(0xA0) if unicodedata.category(chr(code)) == "Cc"]
    flags[[code for code in controls if chr(code) not in "\t\n"]] |= PUNCTUATION
    terminal = terminal_codes()
    flags[terminal] |= PUNCTUATION | TERMINAL
    flags.setflags(write=False)
    return flags


def terminal_codes() -> np.ndarray:
    """Returns the code points that end a sentence in any script, int64, ascending."""
    runs = [run.partition("-") for run in _TERMINAL_RUNS.split()]
    codes = [range(int(a, 16), int(b or a, 16) + 1) for a, _, b in runs]
    return np.concatenate([np.array(run, np.int64) for run in codes])


def _flags(character: str) -> int:
    category = unicodedata.category(character)
    if character.isspace():
        return SPACE
    if category[0] == "L":
        cased = {"Ll": LETTER | LOWER, "Lu": LETTER | UPPER}
        return cased.get(category, LETTER | LOWER | UPPER)
    if "0" <= character <= "9":
        return DIGIT
    if character == ".":
        return DOT
    if character in _OPENING or category == "Sc":
        return OPENING
    if category == "So" or character in "…" + _CLAUSE_MARKS:
        return SYMBOL | MARK
    stays = character in _STAY
    marks = category[0] == "P" or character in "<>`´"
    return MARK if marks and not stays else 0
