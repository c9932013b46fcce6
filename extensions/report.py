"""What the extensions share: which page is being built, and how to say what is wrong on it.

Python-Markdown tells an extension neither the file nor the line. The text itself does: it is
looked up in the sources of the pages.
"""

import html
import logging
import re
from pathlib import Path
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.preprocessors import Preprocessor

PAGES = Path("docs")
FENCE = re.compile(r"^ *(```+|~~~+).*?^ *\1 *$", re.DOTALL | re.MULTILINE)
DELIMITERS = {"div": (r"\[", r"\]"), "span": (r"\(", r"\)")}

# MkDocs counts the warnings of every logger below its own; a strict build fails on one.
logger = logging.getLogger("mkdocs.pages")


class PagePreprocessor(Preprocessor):
    """Keep the page that is being converted as `md.page`, or None where there is no such file."""

    def run(self, lines: list[str]) -> list[str]:
        self.md.page = page_of("\n".join(lines))
        return lines


def know_page(md: Markdown) -> None:
    """Have the page found once, before any other preprocessor changes the text it is known by."""
    md.page = None
    if "page" not in md.preprocessors:
        md.preprocessors.register(PagePreprocessor(md), "page", 210)


def page_of(text: str) -> Path | None:
    """Return the page whose source ends with the text, as what follows its front matter does."""
    text = text.strip()
    for path in sorted(PAGES.rglob("*.md")):
        if text and path.read_text(encoding="utf-8").strip().endswith(text):
            return path
    return None


def without_fences(source: str) -> str:
    """Return the source with spaces for what stands in a fence, so that lines keep their place."""
    return FENCE.sub(lambda fence: re.sub(r"[^\n]", " ", fence[0]), source)


def line_at(source: str, position: int) -> int:
    return source.count("\n", 0, position) + 1


def squeeze(latex: str) -> str:
    """Return a formula without its white space, by which it is found again."""
    return "".join(latex.split())


def place_of(latex: str, page: Path | None, number: int = 0) -> str:
    """Return `file:line` of a formula on a page: the first that reads so, or a later one.

    White space does not count, and what stands in a fence is no formula.
    """
    if page is None:
        return "a page"
    source = without_fences(page.read_text("utf-8"))
    letters = r"\s*".join(map(re.escape, squeeze(latex)))
    places = list(re.finditer(rf"(?:\$|\\[(\[])\s*({letters})\s*(?:\$|\\[)\]])", source))
    if number >= len(places):
        return str(page)
    return f"{page}:{line_at(source, places[number].start(1))}"


def warn(text: str, problem: str, place: str = "a page") -> None:
    """Log a warning about a text that stands at the given place."""
    logger.warning("%s: %s\n    %s", place, problem, text.strip())


def latex_of(element: Element) -> str:
    """Return the LaTeX of an arithmatex element, without its delimiters."""
    start, end = DELIMITERS[element.tag]
    # Arithmatex escapes what it takes for HTML: a formula's & and <.
    latex = html.unescape(element.text or "").strip()
    return latex.removeprefix(start).removesuffix(end).strip()
