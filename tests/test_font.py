"""The formulas' font has what the pages need, in the part that is fetched with each page."""

import html
import re

from fontTools.ttLib import TTFont

from tests.checks import ROOT

ASSETS = ROOT / "docs/assets"


def declared() -> set[int]:
    """Return the characters for which the style sheet takes the first part of the font."""
    style = (ASSETS / "site.css").read_text()
    ranges = re.search(r"unicode-range: ([^;]+);", style)[1].replace("U+", "")
    found = set()
    for one in re.split(r",\s*", ranges):
        first, _, last = one.partition("-")
        found |= set(range(int(first, 16), int(last or first, 16) + 1))
    return found


def held(name) -> set[int]:
    return set(TTFont(ASSETS / "fonts" / name).getBestCmap())


def test_the_first_part_has_what_it_is_taken_for():
    first, rest = held("stix-two-math.woff2"), held("stix-two-math-more.woff2")
    # Not all of a range exists: the italic h, say, stands elsewhere.
    assert declared() & rest <= first
    assert first < rest


def shown(text: str) -> set[int]:
    """Return the characters of all formulas; a letter alone in its `<mi>` is shown in italics."""
    characters = set()
    for formula in re.findall(r"<math.*?</math>", text, re.DOTALL):
        for letter in re.findall(r"<mi>([A-Za-z])</mi>", formula):
            base = 0x1D434 if letter.isupper() else 0x1D44E
            italic = base + ord(letter.upper()) - ord("A")
            characters.add(0x210E if letter == "h" else italic)
        characters |= set(map(ord, html.unescape(re.sub(r"<[^>]+>", "", formula))))
    return characters


def test_no_page_needs_more_than_the_first_part(site):
    first = held("stix-two-math.woff2")
    used = set().union(*(shown(page.read_text()) for page in site.rglob("*.html")))
    assert {chr(c) for c in used - first if not chr(c).isspace()} == set()
    assert {ord("∂"), ord("∑"), 0x1D44B} <= used
