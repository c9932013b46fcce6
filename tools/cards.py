"""Draw what other sites show beside a link to a page: a card of 1200 x 630 pixels, one for each page.

    python -m tools.cards FOLDER

draws all of them into a folder, to look at. A build of a site that has an address makes them itself
(`cards_of_build.py`). Matplotlib brings the fonts and sets the formulas, so a card needs no browser
and no network, and has the same bytes on every day.
"""

import re
import sys
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from textwrap import shorten

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.text import Text
from matplotlib.transforms import IdentityTransform
from mkdocs.utils.meta import get_data
from PIL import Image

from extensions import report

WIDTH, HEIGHT = 1200, 630
LEFT, RIGHT, FOOT = 90, WIDTH - 70, HEIGHT - 64
# The site's colours, as `docs/assets/site.css` has them for light pages.
PAPER, STRONG, INK, QUIET, LINE, FAINT = (
    "#f4f9f8", "#0a6a68", "#1a2424", "#4a5757", "#dbe5e3", "#e0eeec",
)  # fmt: skip
FONTS = Path(matplotlib.get_data_path()) / "fonts/ttf"
SERIF, SANS, MONO = "STIXGeneralBol", "DejaVuSans", "DejaVuSansMono"

RESULT = re.compile(r'<div class="result" markdown>(.*?)</div>', re.DOTALL)
FORMULA = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
CODE = re.compile(r"Code:\s+`([^`]+)`")
GRADIENT = re.compile(r"\\frac\{\\partial (\w)\}\{\\partial (?:\\mathbf\{)?(\w)\}+ =")


class Misfit(ValueError):
    """What can't be drawn on a card."""


@dataclass(frozen=True)
class Card:
    """What a card says; `latex` and `code` are the page's result, or both empty."""

    site: str
    title: str
    description: str
    latex: str = ""
    code: str = ""

    @property
    def alt(self) -> str:
        """The card in words.

        >>> frac = r"\\frac{\\partial J}{\\partial b} = b"
        >>> Card("Site", "Linear layer", "Three gradients.", frac, "dJ_dZ.sum(0)").alt
        'Linear layer. Three gradients. The formula of dJ/db, and the code dJ_dZ.sum(0)'
        """
        said = f"{self.title}. {self.description}"
        if not self.latex:
            return f"{self.site}: {said}"
        gradient = GRADIENT.match(self.latex)
        formula = f"The formula of d{gradient[1]}/d{gradient[2]}" if gradient else "A formula"
        return f"{said} {formula}, and the code {self.code}"


def read(page: Path, site: str) -> Card:
    """Return the card of a page: a Markdown page with front matter, or a notebook as a script.

    The result is the first of the page, or of the page that `card` in the front matter names.
    """
    source = page.read_text(encoding="utf-8")
    if page.suffix == ".py":
        # The first cell with text: the title, and what the notebook is about.
        cell = re.split(r"^# %%.*\n", source.partition("# %% [markdown]\n")[2], flags=re.MULTILINE)[
            0
        ]
        title, said = re.sub(r"^# ?", "", cell, flags=re.MULTILINE).strip().split("\n\n")[:2]
        said = shorten(said, 160, placeholder="...")
        return Card(site, title.removeprefix("# "), said)
    text, meta = get_data(source)
    title = meta.get("title") or re.search(r"^# (.*)|$", text, re.MULTILINE)[1] or page.stem
    if "card" in meta:
        text = (page.parent / meta["card"]).read_text(encoding="utf-8")
    result = RESULT.search(text)
    formula, code = (p.search(result[1] if result else "") for p in (FORMULA, CODE))
    found = (" ".join(formula[1].split()), code[1]) if formula and code else ()
    return Card(site, title, meta.get("description", ""), *found)


@cache
def font(name: str, size: float) -> FontProperties:
    return FontProperties(fname=FONTS / f"{name}.ttf", size=size)


def spaced(latex: str) -> str:
    """Return the formula with what TeX does to it in a display, and matplotlib does not.

    >>> spaced(r"X^T \\frac{1}{N} (A)")
    'X^T \\\\,\\\\dfrac{1}{N}\\\\,(A)'
    """
    larger = re.sub(r"(?<=[^=] )\\frac", r"\\,\\frac", latex).replace(r"\frac", r"\dfrac")
    return larger.replace(r"\sum", r"\;\sum").replace("} (", r"}\,(")


class Sheet:
    """An empty card to draw on; lengths are pixels, and `y` grows downwards."""

    def __init__(self):
        # At 72 dots an inch, a point is a pixel.
        self.figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72, facecolor=PAPER)
        self.canvas = FigureCanvasAgg(self.figure)
        self.rectangle(0, 0, 24, HEIGHT, facecolor=STRONG)

    def rectangle(self, x, y, width, height, **style) -> None:
        place = {"transform": IdentityTransform()}
        self.figure.add_artist(Rectangle((x, HEIGHT - y - height), width, height, **place, **style))

    def box(self, x, y, width, height) -> None:
        shape = FancyBboxPatch(
            (x, HEIGHT - y - height), width, height, boxstyle="round,pad=0,rounding_size=12",
            facecolor="white", edgecolor=LINE, linewidth=2, transform=IdentityTransform(),
        )  # fmt: skip
        self.figure.add_artist(shape)

    def text(self, x, y, said, face, size, colour=INK, **style) -> Text:
        """Write a line with its foot at `y`."""
        return self.figure.text(
            x, HEIGHT - y, said, fontproperties=font(face, size), color=colour,
            transform=IdentityTransform(), **({"parse_math": False} | style),
        )  # fmt: skip

    def formula(self, x, y, latex, size) -> Text:
        """Set a formula with its middle at `y`; Misfit says where matplotlib gave up."""
        style = {"parse_math": True, "math_fontfamily": "stix", "va": "center"}
        written = self.text(x, y, f"${spaced(latex)}$", SANS, size, **style)
        try:
            self.width(written)
        except ValueError as problem:
            raise Misfit(str(problem).strip().splitlines()[-1]) from None
        return written

    def width(self, written: Text) -> float:
        return written.get_window_extent(self.canvas.get_renderer()).width

    def wrapped(self, said, face, size, room) -> list[str]:
        """Break a text into lines that are no wider than the room."""
        renderer = self.canvas.get_renderer()
        lines = [""]
        for word in said.split():
            longer = f"{lines[-1]} {word}".strip()
            if renderer.get_text_width_height_descent(longer, font(face, size), False)[0] <= room:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines

    def png(self) -> bytes:
        """Return the picture, without a date or the name of a program."""
        self.canvas.draw()
        picture = Image.frombuffer("RGBA", (WIDTH, HEIGHT), self.canvas.buffer_rgba())
        file = BytesIO()
        picture.convert("RGB").save(file, "PNG")
        return file.getvalue()


def draw(card: Card) -> bytes:
    """Return the card as a PNG; Misfit where its text or its formula has no room."""
    sheet = Sheet()
    large = not card.latex
    y = 84
    if large:
        sheet.text(RIGHT + 30, 690, "∂", "STIXGeneralItalic", 440, FAINT, ha="right")
    if card.site != card.title:
        y = 108
        sheet.text(LEFT, y, card.site, SANS, 27, STRONG)
    size = 84 if large else 72
    y += 48 if large else 24
    for line in sheet.wrapped(card.title, SERIF, size, RIGHT - LEFT):
        y += size
        sheet.text(LEFT - 3, y, line, SERIF, size)
    size = 33 if large else 29
    y += 26
    for line in sheet.wrapped(card.description, SANS, size, RIGHT - LEFT - 60 * large):
        y += size * 1.45
        sheet.text(LEFT, y, line, SANS, size, QUIET)
    if y > (FOOT if large else FOOT - 130):
        raise Misfit("the title and the description are too long")
    if card.latex:
        result(sheet, card, middle=(y + 16 + FOOT + 28) / 2)
    return sheet.png()


def result(sheet: Sheet, card: Card, middle: float) -> None:
    """Set the formula and, in a box at its right, the code, as large as there is room."""
    inside = 30
    formula = sheet.formula(LEFT, middle, card.latex, 72)
    code = sheet.text(0, 0, card.code, MONO, 38, va="center")
    room = RIGHT - LEFT - 50 - 2 * inside
    share = min(1, 0.98 * room / (sheet.width(formula) + sheet.width(code)))
    if share < 0.5:
        raise Misfit("the formula is too wide to stand beside its code")
    formula.set_fontsize(72 * share)
    code.set_fontsize(38 * share)
    reach, width = sheet.width(formula), sheet.width(code) + 2 * inside
    left = LEFT + reach + min(90, RIGHT - LEFT - reach - width)
    sheet.box(left, middle - 46, width, 92)
    code.set_position((left + inside, HEIGHT - middle - 2))


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tools.cards FOLDER")
    folder = Path(sys.argv[1])
    settings = Path("mkdocs.yml").read_text(encoding="utf-8")
    site = re.search(r"^site_name: (.*)$", settings, re.MULTILINE)[1]
    for page in [*report.PAGES.rglob("*.md"), *report.PAGES.glob("notebooks/*.py")]:
        target = folder / page.relative_to(report.PAGES).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(draw(read(page, site)))
        print(f"{target}: {target.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
