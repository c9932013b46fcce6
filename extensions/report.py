"""Say what is wrong on a page, with its file and line, so that a strict build fails.

Python-Markdown tells an extension neither. The text itself does: it is looked up in the
sources of the pages.
"""

import logging
from pathlib import Path

# MkDocs counts the warnings of every logger below its own; a strict build fails on one.
logger = logging.getLogger("mkdocs.pages")


def find(text: str, pages: Path = Path("docs")) -> str:
    """Return `file:line` of the first page that holds the text, or `a page`."""
    for path in sorted(pages.rglob("*.md")):
        source = path.read_text(encoding="utf-8")
        if (position := source.find(text)) >= 0:
            return f"{path}:{source.count(chr(10), 0, position) + 1}"
    return "a page"


def warn(text: str, problem: str) -> None:
    """Log a warning about the text on the page where it stands."""
    logger.warning("%s: %s\n    %s", find(text), problem, text.strip())
