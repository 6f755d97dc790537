# SPDX-License-Identifier: Apache-2.0
"""A page to look at: its type and colours, and its plain parts as HTML."""

import html
from collections.abc import Sequence

# Colours of bars have 3:1 against the page, of words 4.5:1 (WCAG 2.2, AA), in both
# schemes; documents and bytes differ in lightness too, for those who see no hue.
_STYLE = """
:root{color-scheme:light dark;--page:#fcfcfa;--card:#f2f2ed;--ink:#1d2125;
--quiet:#5b6168;--line:#dcdcd4;--first:#1f6f8b;--second:#c9822b;--lost:#e6bfa9;
--track:#ecece6}
@media(prefers-color-scheme:dark){:root{--page:#15181b;--card:#1e2226;--ink:#e6e7e4;
--quiet:#a2a8ae;--line:#343a40;--first:#5fb3cf;--second:#e0a55c;--lost:#6b4a3b;
--track:#24292e}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,
-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:60rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .3rem;letter-spacing:-.02em}
h2{font-size:1.2rem;line-height:1.3;margin:0 0 .35rem;letter-spacing:-.01em}
h3{font-size:.95rem;margin:1.2rem 0 .3rem}
section{margin-top:2.75rem;padding-top:1.25rem;border-top:1px solid var(--line)}
p{margin:.25rem 0 .9rem;max-width:44rem}
.note,dt,.unit{color:var(--quiet)} .note{font-size:.9rem}
code{font:.85em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;
overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(3,1fr);gap:.75rem;
margin:1.5rem 0 0;padding:0}
.cards div{background:var(--card);border-radius:.6rem;padding:.8rem 1rem}
dt{font-size:.82rem} dd{margin:0} .cards dd{font-size:1.5rem;font-weight:650;
line-height:1.25;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.cards .unit{font-size:.82rem;font-weight:400;letter-spacing:0;display:block}
.scroll{overflow-x:auto} table{border-collapse:collapse;font-size:.92rem}
th,td{padding:.3rem 1.1rem .3rem 0;text-align:left;vertical-align:top}
thead th{font-weight:600;border-bottom:1px solid var(--line);color:var(--quiet);
white-space:nowrap} tbody th{font-weight:400}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.bars{list-style:none;margin:.6rem 0;padding:0;display:grid;gap:.55rem}
.bars .what{display:flex;flex-wrap:wrap;justify-content:space-between;
column-gap:1rem;font-size:.92rem} .bars .name{overflow-wrap:anywhere;min-width:0}
.bars .count{color:var(--quiet);font-variant-numeric:tabular-nums}
.bars .count b{color:var(--ink);font-weight:600}
svg{display:block;width:100%} .first{fill:var(--first)} .second{fill:var(--second)}
.lost{fill:var(--lost)} .track{fill:var(--track)} .bar{height:.7rem}
.bar.thin{height:.35rem;margin-top:2px} .columns{height:10rem;margin-top:.75rem}
.ticks{display:grid;font-size:.78rem;color:var(--quiet);
border-top:1px solid var(--line);text-align:center;padding-top:.2rem}
.ticks span{min-width:0;white-space:nowrap}
.pair{display:grid;gap:1rem 2.5rem;
grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr))}
.key{display:flex;flex-wrap:wrap;gap:.2rem 1.25rem;font-size:.85rem;
color:var(--quiet);margin-bottom:.4rem} .key span{display:flex;align-items:center;
gap:.4rem} .key svg{width:.8rem;height:.8rem}
details{margin:.3rem 0 .2rem} summary{cursor:pointer;font-size:.85rem;
color:var(--quiet)} summary:focus-visible{outline:2px solid var(--first)}
figure{margin:.6rem 0;padding:.6rem .9rem;background:var(--card);
border-radius:.5rem;font-size:.88rem} figcaption{color:var(--quiet)}
blockquote{margin:.4rem 0 0;white-space:pre-wrap;overflow-wrap:anywhere}
@media(max-width:30rem){body{font-size:15px} main{padding:1.5rem 1rem 3rem}
.cards{grid-template-columns:1fr 1fr;gap:.5rem} .cards dd{font-size:1.2rem}
.ticks{font-size:.7rem}}
@media print{section{break-inside:avoid}}
"""
_POWERS = ("", "k", "M", "G", "T", "P")


def page(title: str, head: str, sections: Sequence[str], style: str = "") -> bytes:
    """Returns a whole page in UTF-8, which needs no other file and no script.

    `style` is what a picture of this page alone needs besides the style of all.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}{style}</style></head>"
        f"<body><main><header>{head}</header>{''.join(sections)}</main></body></html>\n"
    ).encode()


def section(title: str, note: str, body: str) -> str:
    """Returns a part of the page; `note` says in words how to read it."""
    return (
        f"<section><h2>{html.escape(title)}</h2>"
        f'<p class="note">{html.escape(note)}</p>{body}</section>'
    )


def cards(facts: Sequence[tuple[str, str, str]]) -> str:
    """Returns the headline numbers, each (what, number, words below it)."""
    made = [
        f"<div><dt>{html.escape(what)}</dt><dd>{html.escape(number)} "
        f'<span class="unit">{html.escape(words)}</span></dd></div>'
        for what, number, words in facts
    ]
    return f'<dl class="cards">{"".join(made)}</dl>'


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns a table; the first column names the row, numbers stand to the right."""
    columns = "".join(
        f'<th scope="col"{_side(place)}>{html.escape(name)}</th>'
        for place, name in enumerate(head)
    )
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cells(row: Sequence[object]) -> str:
    named = f'<th scope="row">{html.escape(str(row[0]))}</th>'
    texts = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row[1:])
    return named + "".join(f'<td class="n">{html.escape(text)}</td>' for text in texts)


def _side(place: int) -> str:
    return ' class="n"' if place else ""


def short(number: float, unit: str = "") -> str:
    """Returns a number in three digits or so: 999, 1.23 k, 45.6 M, 789 GB.

    Powers are of 1,000, also for bytes, as disks are sold.
    """
    power = 0
    # 999.5 and above would be written as 1000.
    while abs(number) >= 999.5 and power < len(_POWERS) - 1:
        number, power = number / 1000, power + 1
    digits = 0 if power == 0 or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:,.{digits}f} {_POWERS[power]}{unit}".rstrip()


def power_of_two(power: int, unit: str = "") -> str:
    """Returns 2^power: 1, 512, 1 Ki, 64 KiB."""
    thousands, rest = divmod(power, 10)
    prefix = f"{_POWERS[thousands].upper()}i" if thousands else ""
    return f"{1 << rest} {prefix}{unit}".rstrip()


def percent(part: float, whole: float) -> str:
    """Returns a share: 12.3%; of nothing it is 0%. Only all is 100%, only none 0%."""
    if not whole or not part:
        return "0%"
    share = part / whole
    if share != 1 and (share < 0.0005 or share > 0.9995):
        return "<0.1%" if share < 0.5 else ">99.9%"
    return f"{share:.1%}".replace(".0%", "%")
