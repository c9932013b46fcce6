"""What the extensions share: which page is being built, and how to say what is wrong on it.

Python-Markdown tells an extension neither the file nor the line. The text itself does: it is
looked up in the sources of the pages.
"""

import html
import logging
from pathlib import Path
from xml.etree.ElementTree import Element

PAGES = Path("docs")
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


def warn(text: str, problem: str) -> None:
    """Log a warning about the text on the page where it stands."""
    logger.warning("%s: %s\n    %s", find(text), problem, text.strip())


def latex_of(element: Element) -> str:
    """Return the LaTeX of an arithmatex element, without its delimiters."""
    start, end = DELIMITERS[element.tag]
    # Arithmatex escapes what it takes for HTML: a formula's & and <.
    latex = html.unescape(element.text or "").strip()
    return latex.removeprefix(start).removesuffix(end).strip()
