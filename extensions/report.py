"""What the extensions share: which page is being built, and how to say what is wrong on it.

Python-Markdown tells an extension neither the file nor the line. The text itself does: it is
looked up in the sources of the pages.
"""

import html
import logging
import re
from pathlib import Path
from xml.etree.ElementTree import Element

PAGES = Path("docs")
FENCE = re.compile(r"^ *(```+|~~~+).*?^ *\1 *$", re.DOTALL | re.MULTILINE)
DELIMITERS = {"div": (r"\[", r"\]"), "span": (r"\(", r"\)")}

# MkDocs counts the warnings of every logger below its own; a strict build fails on one.
logger = logging.getLogger("mkdocs.pages")


def page_of(text: str) -> Path | None:
    """Return the page whose source ends with the text, as what follows its front matter does."""
    text = text.strip()
    for path in sorted(PAGES.rglob("*.md")):
        if text and path.read_text(encoding="utf-8").strip().endswith(text):
            return path
    return None


def find(text: str) -> str:
    """Return `file:line` of the first page that holds the text, or `a page`."""
    for path in sorted(PAGES.rglob("*.md")):
        source = path.read_text(encoding="utf-8")
        if (position := source.find(text)) >= 0:
            return f"{path}:{source.count(chr(10), 0, position) + 1}"
    return "a page"


def place_of(latex: str, page: Path | None, number: int = 0) -> str:
    """Return `file:line` of a formula on a page: the first that reads so, or a later one.

    White space does not count, and what stands in a fence is no formula.
    """
    if page is None:
        return find(latex)
    source = FENCE.sub(lambda fence: re.sub(r"[^\n]", " ", fence[0]), page.read_text("utf-8"))
    letters = r"\s*".join(map(re.escape, "".join(latex.split())))
    places = list(re.finditer(rf"(?:\$|\\[(\[])\s*({letters})\s*(?:\$|\\[)\]])", source))
    if number >= len(places):
        return str(page)
    return f"{page}:{source.count(chr(10), 0, places[number].start(1)) + 1}"


def warn(text: str, problem: str, place: str | None = None) -> None:
    """Log a warning about the text, at the given place or where it stands first."""
    logger.warning("%s: %s\n    %s", place or find(text), problem, text.strip())


def latex_of(element: Element) -> str:
    """Return the LaTeX of an arithmatex element, without its delimiters."""
    start, end = DELIMITERS[element.tag]
    # Arithmatex escapes what it takes for HTML: a formula's & and <.
    latex = html.unescape(element.text or "").strip()
    return latex.removeprefix(start).removesuffix(end).strip()
